"""Embeddings, tying, widths, dropout, unknown characters, and how weights begin."""

from __future__ import annotations

from dataclasses import replace
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
    V,
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

from charlstm.config.schema import Config, Setting
from charlstm.nn.dropout import Draws, Dropout, Drops
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.nn.unrolled import Unrolled
from charlstm.training.plan import embedding_start

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


@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_how_one_hot_input_begins(start: str) -> None:
    """Like the other weights of its layer, or as it is set."""
    for given, deviation in ((None, (3 * 64) ** -0.5 if start == "uniform" else 1 / 8), (2.0, 2.0)):
        set_ = {"model.start": start, "model.embedding_start": given}
        config = Config().updated(Setting(key, value, "test") for key, value in set_.items())
        model = Model(Shape("lstm", 200, (64, 16), 2))
        model.initialise(np.random.default_rng(0), 1.0, start, embedding_start(config))
        assert float(model.weights["layer0.Wx"].std()) == pytest.approx(deviation, rel=0.03)
        assert np.abs(model.weights["layer1.Wx"]).max() <= (1.0 if start == "normal" else 1 / 4)


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
def test_chrono(cell: str, layers: int) -> None:
    """A quarter of an LSTM's units forget after 2 to T steps and let in as much as they forget.
    The weights, and the biases of all others, are as they are without."""
    T, H = 100, 64
    models = Model(Shape(cell, 50, H, layers)), Model(Shape(cell, 50, H, layers))
    for model, chrono in zip(models, (None, T), strict=True):
        model.initialise(np.random.default_rng(3), chrono=chrono)
    without, with_ = (model.weights for model in models)
    for name in without:
        slow = H // 4 if cell == "lstm" and name.endswith(".b") else 0
        np.testing.assert_array_equal(with_[name][..., slow:], without[name][..., slow:])
        if slow:
            i, f, o, g = with_[name][:, 0, :slow]
            np.testing.assert_array_equal(i, -f)
            assert not o.any() and not g.any()
            assert np.all((f >= 0.0) & (f <= np.log(T - 1)))
            forget = 1.0 / (1.0 + np.exp(-f.astype(float)))
            steps = 1.0 / (1.0 - forget)  # until 1/e is left
            assert 2.0 <= steps.min() < T / 4 and 3 * T / 4 < steps.max() <= T


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
