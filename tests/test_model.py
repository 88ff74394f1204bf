"""The fast model is the textbook's, however its work is cut up.

It must equal `reference` in float64; and the same text must give the same numbers as one segment
or as several, with other streams beside it or alone, in long buffers or fitting ones, character by
character, and, to single precision, in float32.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

import charlstm.nn.arrays
import charlstm.nn.recurrent
from charlstm.config.schema import Config, Setting
from charlstm.nn.arrays import Parameters
from charlstm.nn.cells import CELLS
from charlstm.nn.dropout import Draws, Dropout, Drops
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape, State
from charlstm.nn.stepper import Stepper
from charlstm.nn.unrolled import Unrolled
from charlstm.training.plan import embedding_start

Array = NDArray[Any]
Float = type[np.floating[Any]]

NAMES = list(CELLS)
T, B, V, H = 11, 3, 7, 5

every_cell = pytest.mark.parametrize("cell", NAMES)
every_depth = pytest.mark.parametrize("layers", [1, 2, 3])


def make_model(
    cell: str, layers: int = 1, V: int = V, H: int = H, dtype: Float = np.float64, seed: int = 0
) -> Model:
    """A model with weights that put every gate to use, biases too. The same numbers, rounded,
    whatever the dtype."""
    model = Model(Shape(cell, V, H, layers), dtype)
    model.weights.flat[...] = np.random.default_rng(seed).normal(0, 0.6, model.weights.flat.shape)
    return model


def make_text(T: int = T, B: int = B, V: int = V, seed: int = 1) -> tuple[Array, Array]:
    """Ids and targets (T, B), each target the id after its id."""
    ids = np.random.default_rng(seed).integers(0, V, (T + 1, B))
    return ids[:-1].copy(), ids[1:].copy()


def make_state(model: Model, B: int = B, seed: int = 2) -> State:
    """A state that is not zero."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.5, s.shape).astype(s.dtype) for s in model.zero_state(B)]


def assert_close(got: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Equal but for rounding: in sum, `tolerance` of the largest number."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    scale = max(float(np.abs(expected).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance * scale)


def assert_all_close(
    got: Sequence[Array], expected: Sequence[Array], tolerance: float = 1e-12
) -> None:
    """`assert_close` for each of two equally long rows of arrays."""
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, tolerance)


def pass_over(
    model: Model,
    ids: Array,
    targets: Array,
    state: State,
    dstate: State | None = None,
    T: int | None = None,
) -> dict[str, Any]:
    """Everything that one pass forward and back gives, in buffers of T steps of their own."""
    unrolled = Unrolled(model, T or len(ids), ids.shape[1])
    after = unrolled.forward(ids, state)
    logits = unrolled.logits().copy()
    gradient = model.weights.like()
    nats, dbefore = unrolled.loss_and_gradient(targets, gradient, 1.0, dstate)
    return {
        "logits": logits,
        "nats": nats.copy(),
        "state": after,
        "gradient": gradient.flat,
        "dbefore": dbefore,
    }


def assert_same(got: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-12) -> None:
    """Two passes gave the same."""
    for name in ("logits", "nats", "gradient"):
        assert_close(got[name], expected[name], tolerance)
    for name in ("state", "dbefore"):
        assert_all_close(got[name], expected[name], tolerance)


# --- the textbook --------------------------------------------------------------------------------


@pytest.mark.parametrize("small_pieces", [False, True])
@pytest.mark.parametrize(
    ("T", "B", "V", "H"),
    [
        (11, 3, 7, 5),  # more characters than the vocabulary has
        (3, 2, 19, 4),  # fewer
        (1, 1, 2, 1),
        (9, 16, 33, 8),
    ],
)
@every_depth
@every_cell
def test_equals_the_reference(
    cell: str,
    layers: int,
    T: int,
    B: int,
    V: int,
    H: int,
    small_pieces: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logits, loss and state are those of the naive model, with and without unknown characters,
    with the work done at once and in pieces of one step and a few positions."""
    if small_pieces:
        monkeypatch.setattr(charlstm.nn.recurrent, "CACHE_BYTES", 1)
        monkeypatch.setattr(charlstm.nn.arrays, "BLOCK_BYTES", 1)
    model = make_model(cell, layers, V, H)
    state = make_state(model, B)
    unrolled = Unrolled(model, T, B)
    for seed in (1, 2):  # the second time in used buffers
        ids, targets = make_text(T, B, V, seed)
        logits, expected = reference.forward(cell, layers, model.weights, ids, state)
        after = unrolled.forward(ids, state)
        assert_close(unrolled.logits(), logits)
        assert_all_close(after, expected)
        nats = reference.cross_entropy(logits, targets)
        assert_close(unrolled.loss(targets), nats)
        assert_close(unrolled.loss_and_gradient(targets, model.weights.like())[0], nats)


def test_the_reference_by_hand() -> None:
    """The reference itself, on numbers worked out with paper and pencil."""
    one = np.ones((1, 1))
    w = [np.zeros((4, 1, 1)), np.zeros((4, 1, 1)), np.zeros((4, 1, 1))]
    h, c = reference.lstm(one, (one, 2.0 * one), *w)  # all gates 1/2, g = 0
    assert_close(c, [[1.0]])
    assert_close(h, [[0.5 * np.tanh(1.0)]])
    w = [np.zeros((3, 1, 1)), np.full((3, 1, 1), np.log(3.0)), np.zeros((3, 1, 1))]
    (h,) = reference.gru(one, (one,), *w)  # r = q = 3/4
    assert_close(h, [[0.25 * np.tanh(0.75 * np.log(3.0)) + 0.75]])
    w = [np.full((1, 1, 1), 0.5), np.full((1, 1, 1), 0.25), np.full((1, 1, 1), 0.125)]
    assert_close(reference.rnn(one, (-one,), *w)[0], [[np.tanh(0.375)]])
    assert_close(reference.one_hot(np.array([1, -1]), 3), [[0, 1, 0], [0, 0, 0]])
    logits = np.log([[[0.5, 0.25, 0.25]]])
    assert_close(reference.cross_entropy(logits, np.array([[1]])), [[np.log(4.0)]])


# --- the same text, cut up in other ways ---------------------------------------------------------


@every_depth
@every_cell
def test_segments_with_the_state_carried_equal_the_whole(cell: str, layers: int) -> None:
    """In segments of 4, 4 and 3 steps, the state carried forward and its gradient handed back,
    a text gives the logits, losses, states and summed gradients of the whole."""
    model = make_model(cell, layers)
    ids, targets = make_text()
    state, dstate = make_state(model), make_state(model, seed=3)
    whole = pass_over(model, ids, targets, state, dstate)
    parts = [slice(0, 4), slice(4, 8), slice(8, T)]
    segments = [Unrolled(model, 4, B) for _ in parts]
    logits: list[Array] = []
    nats: list[Array] = []
    gradients: list[Array] = []
    for part, unrolled in zip(parts, segments, strict=True):
        state = unrolled.forward(ids[part], state)
        logits.append(unrolled.logits().copy())
    for part, unrolled in zip(reversed(parts), reversed(segments), strict=True):
        gradient = model.weights.like()
        loss, dstate = unrolled.loss_and_gradient(targets[part], gradient, 1.0, dstate)
        nats.insert(0, loss)
        gradients.append(gradient.flat)
    got = {
        "logits": np.concatenate(logits),
        "nats": np.concatenate(nats),
        "state": state,
        "gradient": np.sum(gradients, axis=0),
        "dbefore": dstate,
    }
    assert_same(got, whole)


@every_cell
def test_one_unrolled_runs_over_segment_after_segment(cell: str) -> None:
    """As training and scoring do it: the same buffers, each state fed into the next call."""
    model = make_model(cell, 2)
    ids, targets = make_text(T=12)
    state = make_state(model)
    whole = pass_over(model, ids, targets, state)
    unrolled = Unrolled(model, 5, B, training=False)
    nats = []
    for start in range(0, 12, 5):
        state = unrolled.forward(ids[start : start + 5], state)
        nats.append(unrolled.loss(targets[start : start + 5]).copy())
    assert_close(np.concatenate(nats), whole["nats"])
    assert_all_close(state, whole["state"])


@pytest.mark.parametrize("steps", [1, 4, T - 1])
@every_cell
def test_fewer_steps_than_there_is_room_for(
    cell: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In buffers for more steps, already used for a longer text, nothing of that text is left."""
    model = make_model(cell, 2)
    ids, targets = make_text()
    state, dstate = make_state(model), make_state(model, seed=3)
    expected = pass_over(model, ids[:steps], targets[:steps], state, dstate)
    assert_same(pass_over(model, ids[:steps], targets[:steps], state, dstate, T=T), expected)
    step_bytes = len(CELLS[cell].activations) * B * H * 8
    monkeypatch.setattr(charlstm.nn.recurrent, "CACHE_BYTES", 3 * step_bytes)
    unrolled = Unrolled(model, T, B)
    unrolled.forward(*(make_text(seed=9)[0], make_state(model, seed=8)))
    unrolled.loss_and_gradient(targets, model.weights.like(), 1.0, make_state(model, seed=7))
    after = unrolled.forward(ids[:steps], state)
    gradient = model.weights.like()
    nats, dbefore = unrolled.loss_and_gradient(targets[:steps], gradient, 1.0, dstate)
    got = {"logits": unrolled.logits(), "nats": nats, "gradient": gradient.flat}
    assert_same({**got, "state": after, "dbefore": dbefore}, expected)


@every_depth
@every_cell
def test_streams_side_by_side_equal_each_alone(cell: str, layers: int) -> None:
    """A stream does not see its neighbours; gradients of the weights add up over the streams."""
    model = make_model(cell, layers)
    ids, targets = make_text()
    state, dstate = make_state(model), make_state(model, seed=3)
    together = pass_over(model, ids, targets, state, dstate)
    alone = [
        pass_over(
            model,
            ids[:, k : k + 1],
            targets[:, k : k + 1],
            [s[k : k + 1] for s in state],
            [s[k : k + 1] for s in dstate],
        )
        for k in range(B)
    ]
    got: dict[str, Any] = {
        name: np.concatenate([a[name] for a in alone], axis=1) for name in ("logits", "nats")
    }
    for name in ("state", "dbefore"):
        got[name] = [np.concatenate(parts) for parts in zip(*(a[name] for a in alone), strict=True)]
    got["gradient"] = np.sum([a["gradient"] for a in alone], axis=0)
    assert_same(got, together)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("streams", [1, 2, 5])
@every_depth
@every_cell
def test_stepping_equals_unrolling(cell: str, layers: int, streams: int, unknown: bool) -> None:
    """Character by character, the same logits after each and the same state at the end, from a
    state that is not zero, with and without unknown characters among the known."""
    model = make_model(cell, layers)
    ids, _ = make_text(B=streams)
    if unknown:
        ids[4, -1] = ids[5, 0] = -1
    state = make_state(model, streams)
    unrolled = Unrolled(model, T, streams, training=False)
    after = unrolled.forward(ids, state)
    logits = unrolled.logits()
    stepper = Stepper(model, streams, state)
    for t in range(T):
        assert_close(stepper.step(ids[t]), logits[t])
        assert stepper.logits.shape == (streams, model.V)
    assert_all_close(stepper.state, after)


@pytest.mark.parametrize("streams", [1, 2])
@every_cell
def test_a_stepper_takes_a_list_and_changes_its_own_state_in_place(cell: str, streams: int) -> None:
    """`step` is given plain integers too, the arrays of `Stepper.state` stay the same objects,
    and those that it began with stay as they were."""
    model = make_model(cell, 2)
    given = make_state(model, streams)
    expected = [s.copy() for s in given]
    stepper = Stepper(model, streams, given)
    arrays = list(stepper.state)
    for ids in ([1, 2], [0, 6], [3, 3]):
        column = np.array([ids[:streams]])
        logits, expected = reference.forward(cell, 2, model.weights, column, expected)
        assert_close(stepper.step(ids[:streams]), logits[0])
        assert_all_close(stepper.state, expected)
    assert all(a is b for a, b in zip(arrays, stepper.state, strict=True))
    assert_all_close(given, make_state(model, streams))


@pytest.mark.parametrize("streams", [1, 2, 130])
@every_depth
@every_cell
def test_a_stepper_begins_where_it_is_told(cell: str, layers: int, streams: int) -> None:
    """Before anything is fed its logits are those of the state; one state serves all streams."""
    model = make_model(cell, layers)
    w = model.weights
    top = (layers - 1) * len(model.cell.states)
    state = make_state(model, 1)
    for given in (None, state):
        stepper = Stepper(model, streams, given)
        expected = model.zero_state(1) if given is None else given
        for s, e in zip(stepper.state, expected, strict=True):
            assert s.shape == (streams, model.H)
            assert (s == e).all()
        assert_close(stepper.logits, (expected[top] @ w["Wy"].T + w["by"]).repeat(streams, axis=0))
    ids = np.arange(3 * streams).reshape(3, streams) % (model.V + 1) - 1
    unrolled = Unrolled(model, 3, streams, training=False)
    unrolled.forward(ids, [s.repeat(streams, axis=0) for s in state])
    for t in range(3):
        assert_close(stepper.step(ids[t]), unrolled.logits()[t])


@every_depth
@every_cell
def test_reading_is_stepping(cell: str, layers: int) -> None:
    """`read` shows the hidden states that steps lead to, in any number of parts, and leaves the
    state and the logits after the last."""
    model = make_model(cell, layers)
    ids, _ = make_text(B=1)
    ids[3] = -1
    state = make_state(model, 1)
    unrolled = Unrolled(model, T, 1, training=False)
    after = unrolled.forward(ids, state)
    for cut in range(T + 1):
        stepper = Stepper(model, 1, state)
        parts = [stepper.read(ids[:cut, 0]), stepper.read(ids[cut:, 0])]
        assert [len(part) for part in parts] == [cut, T - cut]
        assert_close(np.concatenate(parts), unrolled.top)
        assert_all_close(stepper.state, after)
        assert_close(stepper.logits, unrolled.logits()[-1])


@pytest.mark.parametrize("layers", [1, 2])
@every_cell
def test_single_precision_is_close_to_double(cell: str, layers: int) -> None:
    """float32 in, float32 out, and as near as its seven digits allow."""
    double = make_model(cell, layers, V=20, H=32)
    double.weights.flat *= 0.5
    single = make_model(cell, layers, V=20, H=32, dtype=np.float32)
    single.weights.flat *= np.float32(0.5)
    ids, targets = make_text(T=30, B=8, V=20)
    state, dstate = make_state(double, 8), make_state(double, 8, seed=3)
    expected = pass_over(double, ids, targets, state, dstate)
    got = pass_over(
        single,
        ids,
        targets,
        [s.astype(np.float32) for s in state],
        [s.astype(np.float32) for s in dstate],
    )
    assert_same(got, expected, 1e-5)
    for array in (got["logits"], got["nats"], got["gradient"], *got["state"], *got["dbefore"]):
        assert array.dtype == np.float32


@every_cell
def test_stepping_in_single_precision(cell: str) -> None:
    """A step takes and gives float32 where the model is of it."""
    single, double = make_model(cell, 2, dtype=np.float32), make_model(cell, 2)
    stepper, expected = Stepper(single, B), double.zero_state(B)
    for ids in make_text()[0]:
        logits, expected = reference.forward(cell, 2, double.weights, ids[None], expected)
        got = stepper.step(ids)
        assert_close(got, logits[0], 1e-5)
        assert_all_close(stepper.state, expected, 1e-5)
        assert {got.dtype, *(s.dtype for s in stepper.state)} == {np.dtype(np.float32)}


# --- embeddings, tying, widths, dropout ----------------------------------------------------------

ENDS: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedded": {"embedding": 4},
    "tied": {"embedding": H, "tie": True},
    "tied-projected": {"embedding": 4, "tie": True},
}
ALL_DROPS = Drops(dropout=0.4, weight_drop=0.3, input_drop=0.2)

every_end = pytest.mark.parametrize("ends", ENDS)


def make_relative(cell: str, layers: int, ends: str, dtype: Float = np.float64) -> Model:
    """A model of the family with layers of different widths, and weights at random."""
    hidden = [*range(2, layers + 1), H]
    model = Model(Shape(cell, V, hidden[-layers:], layers, **ENDS[ends]), dtype)
    model.weights.flat[...] = np.random.default_rng(0).normal(0, 0.6, model.weights.flat.shape)
    return model


@pytest.mark.parametrize("variational", [False, True])
@every_end
@every_depth
@every_cell
def test_the_family_equals_the_reference(
    cell: str, layers: int, ends: str, variational: bool
) -> None:
    """Logits, loss and state are those of the naive model, with and without dropout, given its
    masks; without draws nothing is dropped."""
    model = make_relative(cell, layers, ends)
    drops = Drops(0.4, variational, 0.3, 0.2)
    ids, targets = text_with_unknown()
    state = make_state(model)
    unrolled = Unrolled(model, T + 2, B, drops=drops)
    for draws in (None, Draws(1), Draws(1, 1), None):
        after = unrolled.forward(ids, state, draws)
        masks: dict[str, Array] = {}
        if draws is not None:
            for k, dropout in enumerate(unrolled.dropouts):
                if (factors := dropout.factors) is not None:
                    masks[f"x{k}"] = np.broadcast_to(factors, (T, *factors.shape[1:]))
            for k, layer in enumerate(unrolled.layers):
                if (factors := layer.weight_dropout.factors) is not None:
                    masks[f"Wh{k}"] = factors
            assert len(masks) == 2 * layers + (1 if model.shape.embedding else 0)
        assert ((unrolled.ids < 0) & (ids >= 0)).any() == (draws is not None)
        read = unrolled.ids.copy()
        logits, expected = reference.forward(cell, layers, model.weights, read, state, masks)
        assert_close(unrolled.logits(), logits)
        assert_all_close(after, expected)
        nats = reference.cross_entropy(logits, targets)
        assert_close(unrolled.loss(targets), nats)
        assert_close(unrolled.loss_and_gradient(targets, model.weights.like())[0], nats)


@every_end
@every_depth
@every_cell
def test_segments_of_the_family_equal_the_whole(cell: str, layers: int, ends: str) -> None:
    """Without dropout, two segments give what the whole text gives."""
    model = make_relative(cell, layers, ends)
    ids, targets = text_with_unknown()
    state, dstate = make_state(model), make_state(model, seed=3)
    whole = pass_over(model, ids, targets, state, dstate)
    between = Unrolled(model, 4, B).forward(ids[:4], state)
    last = pass_over(model, ids[4:], targets[4:], between, dstate)
    first = pass_over(model, ids[:4], targets[:4], state, last["dbefore"])
    got = {name: np.concatenate([first[name], last[name]]) for name in ("logits", "nats")}
    got["gradient"] = first["gradient"] + last["gradient"]
    assert_same({**got, "state": last["state"], "dbefore": first["dbefore"]}, whole)


@pytest.mark.parametrize("streams", [1, 3])
@every_end
@every_depth
@every_cell
def test_stepping_through_the_family(cell: str, layers: int, ends: str, streams: int) -> None:
    """Character by character the same logits and state, also sharpened."""
    model = make_relative(cell, layers, ends)
    ids = text_with_unknown()[0][:, :streams]
    state = make_state(model, streams)
    unrolled = Unrolled(model, T, streams, training=False)
    after = unrolled.forward(ids, state)
    for sharpness in (1.0, 2.5):
        stepper = Stepper(model, streams, state, sharpness)
        for t in range(T):
            assert_close(stepper.step(ids[t]), unrolled.logits()[t] * sharpness)
        assert_all_close(stepper.state, after)
    if streams == 1:
        stepper = Stepper(model, 1, state)
        assert_close(stepper.read(ids[:, 0]), unrolled.top)
        assert_close(stepper.logits, unrolled.logits()[-1])


def test_names_and_shapes_of_the_family() -> None:
    """Tying leaves out an array, and puts a smaller one where widths differ."""
    model = Model(Shape("gru", 9, (5, 3), 2, embedding=4, tie=True))
    assert {name: w.shape for name, w in model.weights.items()} == {
        "E": (9, 4),
        "layer0.Wx": (3, 4, 5),
        "layer0.Wh": (3, 5, 5),
        "layer0.b": (3, 1, 5),
        "layer1.Wx": (3, 5, 3),
        "layer1.Wh": (3, 3, 3),
        "layer1.b": (3, 1, 3),
        "Wp": (3, 4),
        "by": (9,),
    }
    assert (model.H, model.shape.widths, model.Wy.shape) == (3, (5, 3), (9, 3))
    assert [s.shape for s in model.zero_state(2)] == [(2, 5), (2, 3)]
    assert "Wp" not in Model(Shape("gru", 9, (5, 4), 2, embedding=4, tie=True)).weights
    again = model.with_weights(model.weights.flat)
    assert again.shape == model.shape
    assert (again.shape.embedding, again.shape.tie, again.shape.widths) == (4, True, (5, 3))
    with pytest.raises(ValueError, match="2 widths for 1 layers"):
        Shape("gru", 9, (5, 3), 1)
    with pytest.raises(ValueError, match="embedding"):
        Shape("gru", 9, 5, 1, tie=True)


@pytest.mark.parametrize(
    ("keys", "deviation"),
    [
        ({}, 1.0),
        ({"text.unit": "byte"}, 1.0),
        ({"text.unit": "word"}, 0.01),
        ({"model.tie": True}, 48**-0.5),
        ({"model.tie": True, "text.unit": "word"}, 48**-0.5),
        ({"model.tie": True, "model.embedding_start": 0.2}, 0.2),
        ({"model.embedding_start": 0.3, "text.unit": "word"}, 0.3),
    ],
)
@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_how_an_embedding_begins(keys: dict[str, Any], deviation: float, start: str) -> None:
    """Entries of variance 1, of words small; tied, rows of length 1 on the mean; or as it is set.
    Layers begin by their own width, or by what they read."""
    set_ = {"model.embedding": 48, "model.start": start, **keys}
    config = Config().updated(Setting(key, value, "test") for key, value in set_.items())
    tie = config.model.tie
    model = Model(Shape("lstm", 200, (64, 16), 2, embedding=48, tie=tie))
    model.initialise(np.random.default_rng(0), 1.0, start, embedding_start(config))
    assert float(model.weights["E"].std()) == pytest.approx(deviation, rel=0.03)
    if start == "normal":
        reads = {"layer0.Wx": 48, "layer0.Wh": 64, "layer1.Wx": 64, "Wp" if tie else "Wy": 16}
        for name, n in reads.items():
            assert float(model.weights[name].std()) == pytest.approx(n**-0.5, rel=0.06)
        return
    bounds = {"layer0.Wx": 1 / 8, "layer1.Wx": 1 / 4, "Wp" if tie else "Wy": 1 / 4}
    for name, bound in bounds.items():
        assert 0.97 * bound < np.abs(model.weights[name]).max() <= bound


def test_a_mask_keeps_the_mean() -> None:
    """Zeros in the share p, and 1 / (1 - p) elsewhere, in blocks of any number."""
    for p in (0.1, 0.5, 0.9):
        dropout = Dropout(p, 1, (50, 40, 300), np.float32)
        factors = dropout.draw(Draws(3).generator(1), 50)
        assert set(np.unique(factors).tolist()) == {0.0, float(np.float32(1.0 / (1.0 - p)))}
        assert float((factors == 0.0).mean()) == pytest.approx(p, abs=0.003)
        assert float(factors.mean()) == pytest.approx(1.0, abs=0.02)


def test_a_mask_is_its_places() -> None:
    """Seed, step, stream and place make other masks, each of them; the same make the same, in an
    array of any length too."""

    def drawn(seed: int, step: int, stream: int, place: int, n: int = 6) -> bytes:
        dropout = Dropout(0.5, 0, (8, 3, 5), np.float32)
        return dropout.draw(Draws(seed, step, stream).generator(place), n).tobytes()

    places = [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (2**63 - 1,) * 4,
    ]
    masks = [drawn(*place) for place in places]
    assert len(set(masks)) == len(places)
    assert masks == [drawn(*place) for place in places]
    assert drawn(1, 2, 3, 4, 8).startswith(drawn(1, 2, 3, 4, 2))


def test_variational_dropout_is_constant_over_time() -> None:
    """One mask for all steps, another one for each stream and place; the plain kind changes."""
    model = make_relative("lstm", 2, "embedded")
    ids, _ = make_text(B=40)
    for variational in (False, True):
        unrolled = Unrolled(model, T, 40, drops=Drops(0.5, variational))
        unrolled.forward(ids, model.zero_state(40), Draws(0))
        assert all(dropout.factors is not None for dropout in unrolled.dropouts)
        assert len(unrolled.dropouts) == 3
        entered: Any = unrolled.layers[1].input
        for x in (entered.x, unrolled.shown):  # hidden states are never zero themselves
            gone = x == 0.0  # (T, B, n)
            assert (gone == gone[0]).all() == variational
            assert len({stream.tobytes() for stream in gone[0].T}) > 1
            assert 0.3 < gone.mean() < 0.7


def test_dropping_allocates_nothing_that_grows() -> None:
    """All masks live in buffers: five passes need no more than a megabyte on the way."""
    model = Model(Shape("lstm", 65, (64, 64), 2, embedding=64, tie=True))
    ids, targets = make_text(16, 256, 65)
    unrolled = Unrolled(model, 16, 256, drops=ALL_DROPS)
    gradient, state = model.weights.like(), model.zero_state(256)

    def passes(n: int) -> None:
        for step in range(n):
            unrolled.forward(ids, state, Draws(0, step))
            unrolled.loss_and_gradient(targets, gradient, 1e-3)

    assert_bounded(passes, 1 << 20)


# --- characters outside the vocabulary -----------------------------------------------------------


def with_another_character(model: Model) -> Model:
    """The model over one character more, which shows in no hidden state and is never expected:
    its rows of Wx are zero and its logit is far below the others."""
    larger = Model(replace(model.shape, V=model.V + 1), model.dtype)
    for name, w in model.weights.items():
        if name == "layer0.Wx":
            larger.weights[name][:, :-1] = w
        elif name in ("Wy", "by"):
            larger.weights[name][:-1] = w
        else:
            larger.weights[name][...] = w
    larger.weights["by"][-1] = -1e3
    return larger


def text_with_unknown() -> tuple[Array, Array]:
    """Ids, with -1 in all streams at once, twice in one, and at the end; and targets, without."""
    ids, targets = make_text()
    ids[2] = ids[5, 1] = ids[6, 1] = ids[T - 1, 0] = -1
    return ids, targets


@pytest.mark.parametrize("few", [False, True])
@every_cell
def test_an_unknown_character_is_a_zero_vector(cell: str, few: bool) -> None:
    """An id below zero is the one-hot vector without a one: of x Wx + b only b remains. So it
    also equals a known character whose rows of Wx are zero."""
    model = make_model(cell, 2, V=40 if few else V)  # fewer or more ids than the vocabulary has
    ids, _ = text_with_unknown()
    state = make_state(model)
    unrolled = Unrolled(model, T, B)
    after = unrolled.forward(ids, state)
    logits, expected = reference.forward(cell, 2, model.weights, ids, state)
    assert_close(unrolled.logits(), logits)
    assert_all_close(after, expected)
    other = Unrolled(with_another_character(model), T, B)
    assert_all_close(other.forward(np.where(ids < 0, model.V, ids), state), after)
    assert_close(other.logits()[..., :-1], logits)


@every_cell
def test_an_unknown_character_takes_no_gradient_from_the_known(cell: str) -> None:
    """The gradients are those of a known character in its place, whose own row is left out."""
    model = make_model(cell, 2)
    larger = with_another_character(model)
    ids, targets = text_with_unknown()
    expected = larger.weights.like()
    got = model.weights.like()
    for m, named, gradient in ((model, ids, got), (larger, np.where(ids < 0, V, ids), expected)):
        unrolled = Unrolled(m, T, B)
        unrolled.forward(named, make_state(m))
        unrolled.loss_and_gradient(targets, gradient)
    assert expected["layer0.Wx"][:, -1].all()
    for name, g in got.items():
        whole = expected[name]
        if name == "layer0.Wx":
            assert_close(g, whole[:, :-1])
        else:
            assert_close(g, whole[:-1] if name in ("Wy", "by") else whole)


@every_cell
def test_an_unknown_target_leaves_the_other_losses_alone(cell: str) -> None:
    """Scoring puts a price of its own on unknown targets: their loss may be any number."""
    model = make_model(cell)
    ids, targets = make_text()
    unrolled = Unrolled(model, T, B, training=False)
    unrolled.forward(ids, make_state(model))
    expected = unrolled.loss(targets).copy()
    unknown = np.zeros(targets.shape, bool)
    unknown[3] = unknown[7, 1] = unknown[T - 1, B - 1] = True
    nats = unrolled.loss(np.where(unknown, -1, targets))
    assert np.isfinite(nats).all()
    np.testing.assert_array_equal(nats[~unknown], expected[~unknown])


@every_cell
def test_ids_of_any_integer_type_and_layout(cell: str) -> None:
    """Ids as a corpus keeps them (int32), and columns cut out of a wider array."""
    model = make_model(cell)
    ids, targets = make_text()
    state = make_state(model)
    expected = pass_over(model, ids, targets, state)
    assert_same(pass_over(model, ids.astype(np.int32), targets.astype(np.int32), state), expected)
    wide, wide_targets = np.full((T, 2 * B), 5), np.full((T, 2 * B), 6)
    wide[:, ::2], wide_targets[:, ::2] = ids, targets
    assert_same(pass_over(model, wide[:, ::2], wide_targets[:, ::2], state), expected)


# --- what a pass leaves alone --------------------------------------------------------------------


@every_cell
def test_without_training_the_loss_is_the_same(cell: str) -> None:
    """`training=False` saves memory and changes not a bit of logits, loss and state."""
    model = make_model(cell, 2)
    ids, targets = make_text()
    results = []
    for training in (True, False):
        unrolled = Unrolled(model, T, B, training=training)
        after = unrolled.forward(ids, make_state(model))
        results.append([*after, unrolled.loss(targets), unrolled.logits()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@every_cell
def test_arguments_are_left_as_they_were_and_results_are_the_callers(cell: str) -> None:
    """A pass changes neither ids, state, dstate nor weights, and what it returned is not changed
    by the passes after it."""
    model = make_model(cell, 2)
    ids, targets = make_text()
    state, dstate = make_state(model), make_state(model, seed=3)
    arguments = [ids, targets, *state, *dstate, model.weights.flat]
    copies = [a.copy() for a in arguments]
    unrolled = Unrolled(model, T, B)
    gradient = model.weights.like()
    after = unrolled.forward(ids, state)
    nats, dbefore = unrolled.loss_and_gradient(targets, gradient, 1.0, dstate)
    for a, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(a, copy)
    results = [*after, *dbefore]
    copies = [a.copy() for a in results]
    unrolled.forward(ids[::-1].copy(), after)
    unrolled.loss_and_gradient(targets[::-1].copy(), gradient, 1.0, dbefore)
    for a, copy in zip(results, copies, strict=True):
        np.testing.assert_array_equal(a, copy)
    assert nats.shape == (T, B)


@every_cell
def test_two_unrolled_over_one_model_do_not_meet(cell: str) -> None:
    """Passes that are interleaved, as in two threads, give what each gives by itself."""
    model = make_model(cell, 2)
    texts = [make_text(seed=seed) for seed in (4, 5)]
    state = make_state(model)
    expected = [pass_over(model, *text, state) for text in texts]
    both = [Unrolled(model, T, B) for _ in texts]
    afters = [u.forward(ids, state) for u, (ids, _) in zip(both, texts, strict=True)]
    for u, (_, targets), after, e in zip(both, texts, afters, expected, strict=True):
        gradient = model.weights.like()
        nats, dbefore = u.loss_and_gradient(targets, gradient)
        got = {"logits": u.logits(), "nats": nats, "gradient": gradient.flat}
        assert_same({**got, "state": after, "dbefore": dbefore}, e)


@every_cell
def test_the_same_pass_gives_the_same_bits(cell: str) -> None:
    """No bit depends on what was in the buffers or on where they lie."""
    model = make_model(cell, 2, V=20, H=16, dtype=np.float32)
    ids, targets = make_text(T=20, B=4, V=20)
    state = make_state(model, 4)
    first, second = (pass_over(model, ids, targets, state) for _ in range(2))
    for name in ("logits", "nats", "gradient"):
        np.testing.assert_array_equal(first[name], second[name])
    for a, b in zip(
        first["state"] + first["dbefore"], second["state"] + second["dbefore"], strict=True
    ):
        np.testing.assert_array_equal(a, b)


@every_cell
def test_weights_may_change_between_passes(cell: str) -> None:
    """Nothing that is computed from the weights outlives a pass: after an update in place, the
    same `Unrolled` gives what a new one gives."""
    model = make_model(cell, 2)
    ids, targets = make_text()
    state = make_state(model)
    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    unrolled.forward(ids, state)
    unrolled.loss_and_gradient(targets, gradient)
    model.weights.flat += 0.1
    after = unrolled.forward(ids, state)
    nats, dbefore = unrolled.loss_and_gradient(targets, gradient)
    got = {"logits": unrolled.logits(), "nats": nats, "gradient": gradient.flat}
    expected = pass_over(model, ids, targets, state)
    assert_same({**got, "state": after, "dbefore": dbefore}, expected)


# --- beginnings ----------------------------------------------------------------------------------


def test_names_and_shapes_of_weights_and_state() -> None:
    """What a checkpoint stores, in its order."""
    model = Model(Shape("lstm", V, H, 2))
    assert {name: w.shape for name, w in model.weights.items()} == {
        "layer0.Wx": (4, V, H),
        "layer0.Wh": (4, H, H),
        "layer0.b": (4, 1, H),
        "layer1.Wx": (4, H, H),
        "layer1.Wh": (4, H, H),
        "layer1.b": (4, 1, H),
        "Wy": (V, H),
        "by": (V,),
    }
    assert [*model.shape.states] == ["layer0.h", "layer0.c", "layer1.h", "layer1.c"]
    assert [*Shape("gru", V, H, 3).states] == ["layer0.h", "layer1.h", "layer2.h"]
    assert [*Shape("rnn", V, H).states] == ["layer0.h"]
    assert model.weights.flat.dtype == np.float32


@every_depth
@every_cell
def test_the_zero_state(cell: str, layers: int) -> None:
    """Zeros of the model's dtype, an array of its own for every name."""
    for dtype in (np.float32, np.float64):
        model = Model(Shape(cell, V, H, layers), dtype)
        state = model.zero_state(4)
        assert len(state) == len(model.shape.states)
        assert not any(s.any() for s in state)
        assert {(s.shape, s.dtype) for s in state} == {((4, H), np.dtype(dtype))}
        assert len({s.ctypes.data for s in state}) == len(state)


@every_depth
@every_cell
def test_initialise(cell: str, layers: int) -> None:
    """Weights fill ±1/sqrt(H) evenly; biases are zero but for the forget gate's, which only an
    LSTM has, in every layer."""
    model = Model(Shape(cell, 50, 64, layers))
    model.weights.flat[...] = np.nan
    model.initialise(np.random.default_rng(3), forget_bias=1.5)
    bound = 1.0 / 8.0
    for name, w in model.weights.items():
        if name.endswith(".b"):
            gates = model.cell.gates
            expected = [1.5 if cell == "lstm" and gate == "f" else 0.0 for gate in gates]
            np.testing.assert_array_equal(
                w, np.broadcast_to(np.reshape(expected, (-1, 1, 1)), w.shape)
            )
        elif name == "by":
            assert not w.any()
        else:
            assert np.abs(w).max() <= bound
            assert w.min() < -0.98 * bound and w.max() > 0.98 * bound
            assert abs(float(w.mean())) < 0.05 * bound
            assert abs(float(w.std()) - bound / np.sqrt(3.0)) < 0.05 * bound


@every_cell
def test_initialise_is_the_generators_doing(cell: str) -> None:
    """The same generator gives the same weights, another one others, and the forget gate's bias
    is 1 unless said."""
    models = [Model(Shape(cell, V, H, 2)) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        model.initialise(np.random.default_rng(seed))
    same, again, other = (model.weights for model in models)
    np.testing.assert_array_equal(same.flat, again.flat)
    for name in ("layer0.Wx", "layer0.Wh", "layer1.Wx", "layer1.Wh", "Wy"):
        assert not np.array_equal(same[name], other[name])
    assert not np.array_equal(same["layer0.Wh"], same["layer1.Wh"])
    total = float(same["layer0.b"].sum() + same["layer1.b"].sum())
    assert total == (2.0 * H if cell == "lstm" else 0.0)


@every_cell
def test_with_weights_shares_the_vector(cell: str) -> None:
    """The other model has the given numbers, not copies of them."""
    model = make_model(cell, 2)
    flat = model.weights.flat.copy()
    other = model.with_weights(flat)
    ids, targets = make_text()
    state = make_state(model)
    assert_same(pass_over(other, ids, targets, state), pass_over(model, ids, targets, state))
    flat[...] = 0.0
    assert not other.weights["layer1.Wh"].any()
    assert model.weights["layer1.Wh"].any()


# --- numbers at their limits ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_cell
def test_softmax_of_huge_logits_is_finite(cell: str, dtype: Float) -> None:
    """With logits of some ten thousand, exp would overflow: the losses are the distances from the
    largest logit, gradients are finite, and nothing is even warned of."""
    model = make_model(cell, dtype=dtype)
    model.weights["Wy"][...] *= 20_000.0
    ids, targets = make_text()
    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        unrolled.forward(ids, make_state(model))
        logits = unrolled.logits().astype(np.float64)
        losses = [unrolled.loss(targets).copy()]
        losses.append(unrolled.loss_and_gradient(targets, gradient, 1e-3)[0])
    assert np.abs(logits).max() > 10_000.0
    distance = logits.max(axis=2) - np.take_along_axis(logits, targets[..., None], axis=2)[..., 0]
    for nats in losses:
        assert np.isfinite(nats).all()
        np.testing.assert_allclose(nats, distance, rtol=1e-4, atol=1.0)
    assert np.isfinite(gradient.flat).all()


@every_cell
def test_gates_at_their_limits_are_finite(cell: str) -> None:
    """Pre-activations of a hundred thousand saturate every gate without overflow, forward and
    back, and stepping."""
    model = make_model(cell, dtype=np.float32)
    model.weights["layer0.Wx"][...] *= 1e5
    ids, targets = make_text()
    unrolled, gradient = Unrolled(model, T, B), model.weights.like()
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        unrolled.forward(ids, make_state(model))
        nats, dbefore = unrolled.loss_and_gradient(targets, gradient)
        logits = Stepper(model, B, make_state(model)).step(ids[0])
    for array in (nats, gradient.flat, logits, *dbefore):
        assert np.isfinite(array).all()


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@every_cell
def test_repeated_steps_allocate_nothing_that_grows(cell: str, layers: int) -> None:
    """After a warm-up, five passes neither end with more memory than they began with, nor need
    more than a megabyte on the way: not even the activations of one gate are made anew."""
    model = make_model(cell, layers, V=65, H=64, dtype=np.float32)
    streams, steps = 256, 16  # the activations of one gate are a megabyte
    ids, targets = make_text(steps, streams, 65)
    unrolled, gradient = Unrolled(model, steps, streams), model.weights.like()
    state = model.zero_state(streams)

    def passes(n: int) -> None:
        nonlocal state
        for _ in range(n):
            state = unrolled.forward(ids, state)
            unrolled.loss_and_gradient(targets, gradient, 1e-3)

    assert_bounded(passes, 1 << 20)


@every_cell
def test_stepping_allocates_nothing_that_grows(cell: str) -> None:
    """A step of the sampler needs less than 64 kB, and keeps nothing."""
    model = make_model(cell, 2, V=65, H=64, dtype=np.float32)
    stepper = Stepper(model, 1)

    def steps(n: int) -> None:
        for k in range(n):
            stepper.step([k])

    assert_bounded(steps, 1 << 16)


def assert_bounded(run: Any, limit: int) -> None:
    """run(n), n times something, keeps to `limit` bytes beyond what it began with, and ends with
    no more than 16 kilobytes beyond it."""
    run(1)
    tracemalloc.start()
    try:
        run(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        run(5)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= limit
    assert after - before <= 1 << 14


def test_an_array_is_written_into_not_replaced() -> None:
    """A replaced array would no longer lie in the flat vector."""
    weights = Parameters({"a": (2, 3), "b": (4,)}, np.float64)
    weights["b"][...] = 1.0
    assert weights.flat.tolist() == [0.0] * 6 + [1.0] * 4
    with pytest.raises(TypeError, match="b lies in `flat`"):
        weights["b"] = np.zeros(4)
