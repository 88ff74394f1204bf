"""Every gradient is the derivative: central differences in float64, for every cell and depth.

The objective is the one that truncated backpropagation is built on,

    scale * (sum of the nats) + (dstate, state after the segment)

so that its gradient for each weight and for the state before the segment is what
`Unrolled.loss_and_gradient` must give, whatever `scale` and `dstate` are. The layers above the
lowest take dense input; with two or more of them, the gradient that a layer hands down to the
one below is under test as well, because the lower weights are right only if it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import charlstm.nn.arrays
import charlstm.nn.recurrent
from charlstm.nn.arrays import Parameters
from charlstm.nn.cells import CELLS, Operation
from charlstm.nn.dropout import KEEP_ALL, Draws, Drops
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape, State
from charlstm.nn.unrolled import Unrolled

Array = NDArray[Any]

LIMIT = 1e-6
"""Greatest relative error that passes, per array."""

EPSILON = 1e-5
"""Half the distance of the two points of a difference quotient."""

T, B, V, H = 11, 3, 6, 3

NAMES = list(CELLS)


# --- the check -----------------------------------------------------------------------------------


@dataclass
class Case:
    """A model, a segment of text, and what the objective is weighted with."""

    model: Model
    ids: Array
    targets: Array
    state: State
    scale: float = 1.0
    dstate: State | None = None
    drops: Drops = KEEP_ALL
    draws: Draws | None = None

    def objective(self, unrolled: Unrolled) -> float:
        """What the gradient is of."""
        after = unrolled.forward(self.ids, self.state, self.draws)
        total = self.scale * float(unrolled.loss(self.targets).sum())
        if self.dstate is not None:
            total += sum(float((d * s).sum()) for d, s in zip(self.dstate, after, strict=True))
        return total


def make_case(
    cell: str,
    layers: int,
    scale: float = 1.0,
    dstate: bool = False,
    unknown: bool = False,
    steps: int = T,
    hidden: int | tuple[int, ...] = H,
    embedding: int = 0,
    tie: bool = False,
) -> Case:
    """A case with repeated characters and one that never occurs; with `unknown`, also with
    characters outside the vocabulary."""
    rng = np.random.default_rng([layers, *map(ord, cell)])
    model = Model(Shape(cell, V, hidden, layers, embedding=embedding, tie=tie), np.float64)
    model.weights.flat[...] = rng.normal(0.0, 0.6, model.weights.flat.shape)
    ids = rng.integers(0, V - 1, (steps, B))  # V - 1 is absent
    ids[1:2] = ids[0, 0]  # a character in all streams at once, and again
    if unknown:
        ids[3:5, 1] = -1
    targets = rng.integers(0, V, (steps, B))
    state = [rng.normal(0.0, 0.5, s.shape) for s in model.zero_state(B)]
    back = [rng.normal(0.0, 0.7, s.shape) for s in state] if dstate else None
    return Case(model, ids, targets, state, scale, back)


def numeric(f: Callable[[], float], x: Array) -> Array:
    """d f / d x by central differences, element by element; x is left as it was."""
    d = np.empty_like(x)
    for at in np.ndindex(x.shape):
        value = x[at]
        x[at] = value + EPSILON
        above = f()
        x[at] = value - EPSILON
        below = f()
        x[at] = value
        d[at] = (above - below) / (2.0 * EPSILON)
    return d


def relative_error(a: Array, b: Array) -> float:
    """max|a - b| / max(|a|, |b|); 0 where both are zero."""
    largest = max(float(np.abs(a).max()), float(np.abs(b).max()))
    return float(np.abs(a - b).max()) / largest if largest else 0.0


def errors(case: Case) -> dict[str, float]:
    """The relative error of the gradient of every weight and of every initial state, by name."""
    model = case.model
    unrolled = Unrolled(model, len(case.ids), B, drops=case.drops)
    gradient = model.weights.like()
    gradient.flat[...] = np.nan  # must be written, not added to
    unrolled.forward(case.ids, case.state, case.draws)
    _, dbefore = unrolled.loss_and_gradient(case.targets, gradient, case.scale, case.dstate)
    probe = Unrolled(model, len(case.ids), B, training=False, drops=case.drops)
    found = {}
    analytic = {**gradient, **dict(zip(model.shape.states, dbefore, strict=True))}
    points = {**model.weights, **dict(zip(model.shape.states, case.state, strict=True))}
    for name, x in points.items():
        found[name] = relative_error(numeric(lambda: case.objective(probe), x), analytic[name])
    assert not any(np.isnan(list(found.values()))), "a gradient was left unwritten"
    return found


def assert_derivative(case: Case) -> None:
    """Every gradient of the case passes the check."""
    wrong = {name: error for name, error in errors(case).items() if not error <= LIMIT}
    assert not wrong, f"relative errors above {LIMIT}: {wrong}"


def work_in_pieces(monkeypatch: pytest.MonkeyPatch, cell: str, steps: int) -> None:
    """Make the memory that a piece of work may take so small that only `steps` steps of the loop
    over time, and a few positions of the softmax, are done at a time."""
    step_bytes = len(CELLS[cell].activations) * B * H * 8
    monkeypatch.setattr(charlstm.nn.recurrent, "CACHE_BYTES", steps * step_bytes)
    monkeypatch.setattr(charlstm.nn.arrays, "BLOCK_BYTES", 1)


# --- the gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", NAMES)
def test_gradients_of_all_weights_and_of_the_initial_state(
    cell: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything at once: repeated and absent characters, a scale, a gradient that comes in from
    the segment after, and work in pieces of 3, 3, 3 and 2 steps."""
    work_in_pieces(monkeypatch, cell, 3)
    assert_derivative(make_case(cell, layers, scale=0.37, dstate=True))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", NAMES)
def test_gradients_with_characters_outside_the_vocabulary(
    cell: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with ids below zero among the others."""
    work_in_pieces(monkeypatch, cell, 3)
    assert_derivative(make_case(cell, layers, scale=0.37, dstate=True, unknown=True))


FAMILY: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedded": {"embedding": 4},
    "tied": {"embedding": H, "tie": True},
    "tied-projected": {"embedding": 4, "tie": True},
}
"""What stands below and above the layers."""

DROPS = {
    "nothing": KEEP_ALL,
    "dropout": Drops(dropout=0.4),
    "variational": Drops(dropout=0.4, variational=True, input_drop=0.2),
    "weight-drop": Drops(weight_drop=0.4, input_drop=0.2),
    "everything": Drops(dropout=0.3, weight_drop=0.3, input_drop=0.2),
}
"""What is left out."""


@pytest.mark.parametrize("drops", DROPS)
@pytest.mark.parametrize("ends", FAMILY)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", NAMES)
def test_gradients_of_the_whole_family(
    cell: str, layers: int, ends: str, drops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every combination of cell, depth (with layers of different widths), embedding, tying and
    dropout, with unknown characters and the rest of what is tested above."""
    work_in_pieces(monkeypatch, cell, 2)
    hidden = {1: (H,), 2: (2, H), 3: (4, 2, H)}[layers]
    case = make_case(
        *(cell, layers),
        scale=0.37,
        dstate=True,
        unknown=True,
        steps=5,
        hidden=hidden,
        **FAMILY[ends],
    )
    assert_derivative(replace(case, drops=DROPS[drops], draws=Draws(1, 2, 3)))


@pytest.mark.parametrize("cell", NAMES)
def test_gradients_with_the_edge_cut(cell: str) -> None:
    """Without `dstate` the gradient of the state after the segment is zero; no small pieces."""
    assert_derivative(make_case(cell, 1))


@pytest.mark.parametrize("steps", [1, 2, T - 1, T])
@pytest.mark.parametrize("cell", NAMES)
def test_gradients_do_not_depend_on_the_pieces(
    cell: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of one step, of two (with one left over), of all steps but one, and of all give the
    gradients that the default gives, which the other tests hold to be the derivative."""
    case = make_case(cell, 2, scale=2.0, dstate=True)

    def gradients() -> list[Array]:
        unrolled = Unrolled(case.model, T, B)
        gradient = case.model.weights.like()
        unrolled.forward(case.ids, case.state)
        nats, dbefore = unrolled.loss_and_gradient(case.targets, gradient, case.scale, case.dstate)
        return [nats, gradient.flat, *dbefore]

    whole = gradients()
    work_in_pieces(monkeypatch, cell, steps)
    for expected, got in zip(whole, gradients(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", NAMES)
def test_gradients_of_one_step(cell: str) -> None:
    """The shortest segment."""
    assert_derivative(make_case(cell, 2, dstate=True, steps=1))


@pytest.mark.parametrize("cell", NAMES)
def test_nothing_but_unknown_characters(cell: str) -> None:
    """With no character known, Wx of the lowest layer gets no gradient and b gets all of it."""
    case = make_case(cell, 1, steps=5)
    case.ids[...] = -1
    assert_derivative(case)
    unrolled, gradient = Unrolled(case.model, 5, B), case.model.weights.like()
    unrolled.forward(case.ids, case.state)
    unrolled.loss_and_gradient(case.targets, gradient)
    assert not gradient["layer0.Wx"].any()
    assert gradient["layer0.b"].all()


@pytest.mark.parametrize("cell", NAMES)
def test_characters_that_do_not_occur_get_no_gradient(cell: str) -> None:
    """The row of Wx of an absent character is exactly zero, even if it held something before; the
    rows of those that occur are not; and a gradient is written, never added to."""
    case = make_case(cell, 1)
    unrolled, gradient = Unrolled(case.model, T, B), case.model.weights.like()
    runs = []
    for _ in range(2):
        gradient.flat[...] = 7.0
        unrolled.forward(case.ids, case.state)
        unrolled.loss_and_gradient(case.targets, gradient)
        runs.append(gradient.flat.copy())
    np.testing.assert_array_equal(runs[0], runs[1])
    present = set(case.ids.reshape(-1).tolist())
    assert V - 1 not in present
    for v in range(V):
        assert gradient["layer0.Wx"][:, v].any() == (v in present), v


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("size", [1 << 15, (1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_large_vocabularies(size: int, unknown: bool) -> None:
    """Ids keep apart, and apart from unknown ones, where they fill the range of a short integer.
    Only the rows of the characters that occur are differentiated, and two that do not."""
    model = Model(Shape("rnn", size, 1), np.float64)
    model.initialise(np.random.default_rng(1))
    model.weights.flat *= 0.5
    present = [0, size // 2, size - 2, size - 1]
    ids = np.array([present, [size - 1, 0, -1 if unknown else 0, size - 2]]).T  # (4, 2)
    case = Case(model, ids, np.roll(ids, 1) % size, model.zero_state(2))
    unrolled, gradient = Unrolled(model, 4, 2), model.weights.like()
    unrolled.forward(ids, case.state)
    unrolled.loss_and_gradient(case.targets, gradient)
    dWx = gradient["layer0.Wx"][0, :, 0]
    assert set(np.flatnonzero(dWx).tolist()) == set(present)
    probe = Unrolled(model, 4, 2, training=False)
    rows = [*present, 1, size - 3]
    points = model.weights["layer0.Wx"][0, :, 0]
    quotients = []
    for row in rows:
        one = points[row : row + 1]
        quotients.append(numeric(lambda: case.objective(probe), one)[0])
    assert relative_error(np.array(quotients), dWx[rows]) <= LIMIT


@pytest.mark.parametrize("cell", NAMES)
def test_scale_is_a_factor(cell: str) -> None:
    """Gradients are linear in `scale`, down to those of the initial state; the nats are not
    scaled."""
    case = make_case(cell, 2)
    unrolled = Unrolled(case.model, T, B)
    results = []
    for scale in (1.0, 0.25):
        gradient = case.model.weights.like()
        unrolled.forward(case.ids, case.state)
        nats, dbefore = unrolled.loss_and_gradient(case.targets, gradient, scale)
        results.append((nats, [gradient.flat, *dbefore]))
    (nats, one), (nats_of_quarter, quarter) = results
    np.testing.assert_array_equal(nats, nats_of_quarter)
    for a, b in zip(one, quarter, strict=True):
        np.testing.assert_allclose(0.25 * a, b, rtol=1e-12, atol=1e-15)


# --- the check itself ----------------------------------------------------------------------------


def tanh_twice(right: Any) -> Any:
    """The cell with the derivative of tanh taken from 1 - tanh(g)^2 where g is tanh'd already."""

    class Wrong(right):  # type: ignore[misc]
        name = "wrong"

        def derivatives(self, a: Array, h_: Array, d: Array) -> None:
            candidate = self.gates[-1]
            if candidate == "h":  # what an RNN's candidate becomes is its state itself
                h_ = np.tanh(h_)
            else:
                at = self.gates.index(candidate)
                np.tanh(a[at], out=a[at])
            super().derivatives(a, h_, d)

    return Wrong()


def forgets_the_way_back(right: Any) -> Any:
    """The cell without the gradient that reaches the state before not through Wh."""

    class Wrong(right):  # type: ignore[misc]
        name = "wrong"

        def backward(self, d: Any, dafter: Any, dstate: Any) -> Iterator[Operation]:
            yield from super().backward(d, dafter, dstate)
            yield np.multiply, dstate[-1], np.zeros(()), dstate[-1]

    return Wrong()


def slightly_off(right: Any) -> Any:
    """The cell with gradients that are right to four digits."""

    class Wrong(right):  # type: ignore[misc]
        name = "wrong"

        def backward(self, d: Any, dafter: Any, dstate: Any) -> Iterator[Operation]:
            yield np.multiply, dafter[0], np.array(1.00002), dafter[0]
            yield from super().backward(d, dafter, dstate)

    return Wrong()


@pytest.mark.parametrize(
    ("cell", "mistake"),
    [
        *((cell, tanh_twice) for cell in NAMES),
        *((cell, forgets_the_way_back) for cell in NAMES if cell != "rnn"),
        *((cell, slightly_off) for cell in NAMES),
    ],
)
def test_the_check_catches_a_wrong_derivative(
    cell: str, mistake: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell with a mistake in its backward half computes the same objective and fails the check,
    by a margin."""
    monkeypatch.setitem(CELLS, "wrong", mistake(type(CELLS[cell])))
    right = make_case(cell, 1)
    model = Model(Shape("wrong", V, H), np.float64, right.model.weights.flat)
    wrong = replace(right, model=model)
    values = [case.objective(Unrolled(case.model, T, B)) for case in (right, wrong)]
    assert values[0] == values[1]
    assert max(errors(right).values()) < 0.1 * LIMIT
    assert max(errors(wrong).values()) > 5.0 * LIMIT


def test_the_check_catches_what_is_missing() -> None:
    """A gradient of zeros, one with its gates exchanged, and one of another sign all fail."""
    right = np.arange(1.0, 7.0).reshape(2, 3)
    assert relative_error(right, right) == 0.0
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    for wrong in (np.zeros_like(right), right[::-1], -right):
        assert relative_error(right, wrong) > LIMIT
    parameters = Parameters({"w": (2, 3)}, np.float64)
    parameters["w"][...] = right
    quotient = numeric(lambda: float((parameters.flat**3).sum()), parameters["w"])
    assert relative_error(quotient, 3.0 * right**2) < LIMIT
    np.testing.assert_array_equal(parameters["w"], right)
