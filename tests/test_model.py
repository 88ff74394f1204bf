"""The network is the textbook's, however the text is cut up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from models import (
    Array,
    B,
    Float,
    H,
    T,
    assert_all_close,
    assert_bounded,
    assert_close,
    assert_same,
    every_cell,
    every_depth,
    make_model,
    make_state,
    make_text,
    pass_over,
)

import charlstm.nn.arrays
import charlstm.nn.recurrent
from charlstm.nn.arrays import Parameters
from charlstm.nn.cells import CELLS
from charlstm.nn.products import Panels
from charlstm.nn.stepper import Stepper
from charlstm.nn.unrolled import Unrolled


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


def test_an_array_is_written_into_not_replaced() -> None:
    """A replaced array would no longer lie in the flat vector."""
    weights = Parameters({"a": (2, 3), "b": (4,)}, np.float64)
    weights["b"][...] = 1.0
    assert weights.flat.tolist() == [0.0] * 6 + [1.0] * 4
    with pytest.raises(TypeError, match="b lies in `flat`"):
        weights["b"] = np.zeros(4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("N", [1, 16, 65, 100, 130, 384])
def test_products_in_panels(N: int, dtype: type) -> None:
    """Every row of every panel begins at a cache line, and the products are those of the whole."""
    rng = np.random.default_rng(N)
    x, W = rng.standard_normal((32, 40), dtype), rng.standard_normal((3, 40, N), dtype)
    panels, out = Panels(32, 3, 40, N, dtype), np.zeros_like(x @ W)
    panels.fill(W)
    panels.multiply(x, out)
    assert_close(out, x @ W, tolerance=1e-5)
    for panel in panels.panels:
        assert panel.ctypes.data % charlstm.nn.arrays.CACHE_LINE == 0
        assert all(step % charlstm.nn.arrays.CACHE_LINE == 0 for step in panel.strides[:-1])
