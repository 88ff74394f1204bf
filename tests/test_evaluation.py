"""The score of a text is that of a plain softmax over it, however it is cut up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import records

import charlstm.scoring.scorers
from charlstm.config.schema import Config, Setting
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.unrolled import Unrolled
from charlstm.scoring.evaluation import Evaluation, evaluate, surprisals
from charlstm.scoring.held_out import HeldOut
from charlstm.scoring.scorers import UNKNOWN_NATS, StaticScorer
from charlstm.text.corpus import Corpus
from charlstm.text.units import Characters
from charlstm.text.vocabulary import UNKNOWN
from charlstm.training.run import Training

Array = NDArray[Any]

V = 9
every_cell = pytest.mark.parametrize("cell", list(CELLS))


def make(
    cell: str = "lstm",
    layers: int = 1,
    dtype: Any = np.float64,
    scale: float = 0.7,
    **family: Any,
) -> Model:
    """A model with weights at random."""
    model = Model(Shape(cell, V, 5, layers, **family), dtype)
    rng = np.random.default_rng(4)
    model.weights.flat[...] = rng.normal(0, scale, model.weights.flat.shape)
    return model


def some_ids(N: int, low: int = 0) -> Array:
    return np.random.default_rng(N).integers(low, V, N).astype(np.int32)


def naive(model: Model, ids: Array) -> Array:
    """Nats of each id but the first, by a softmax in float64, read in one go."""
    column = np.asarray(ids[:-1], np.intp)[:, None]
    unrolled = Unrolled(model, len(column), 1, training=False)
    unrolled.forward(column, model.zero_state(1))
    y = unrolled.logits()[:, 0].astype(np.float64)
    p = np.exp(y - y.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    nats = -np.log(p[np.arange(len(column)), ids[1:]])
    return np.asarray(np.where(ids[1:] < 0, UNKNOWN_NATS, nats))


# --- surprisals --------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("family", [{}, {"embedding": 4}, {"embedding": 4, "tie": True}])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_to_a_plain_softmax(
    cell: str, layers: int, dtype: Any, family: dict[str, Any]
) -> None:
    """Each character's nats are -ln of its share of the exponentiated logits."""
    model, ids = make(cell, layers, dtype, **family), some_ids(60)
    got = surprisals(StaticScorer(model), ids)
    assert got.shape == (59,)
    assert got.dtype == np.float64
    tolerance = 1e-12 if dtype is np.float64 else 2e-5
    np.testing.assert_allclose(got, naive(model, ids), rtol=0, atol=tolerance)


@pytest.mark.parametrize("segment", [1, 2, 7, 98, 99, 100, 512])
@pytest.mark.parametrize("low", [0, UNKNOWN])
def test_independent_of_the_segment(
    monkeypatch: pytest.MonkeyPatch, segment: int, low: int
) -> None:
    """The state is carried over every edge."""
    model, ids = make(), some_ids(100, low)
    monkeypatch.setattr(charlstm.scoring.scorers, "SEGMENT", 1000)
    expected = surprisals(StaticScorer(model), ids)
    monkeypatch.setattr(charlstm.scoring.scorers, "SEGMENT", segment)
    np.testing.assert_allclose(surprisals(StaticScorer(model), ids), expected, rtol=0, atol=1e-12)


def test_longer_than_a_segment() -> None:
    """The same at the size that is in use."""
    model, ids = make(), some_ids(2 * charlstm.scoring.scorers.SEGMENT + 5)
    np.testing.assert_allclose(
        surprisals(StaticScorer(model), ids), naive(model, ids), rtol=0, atol=1e-11
    )


def test_continues_a_state() -> None:
    """A text in two parts, the state handed on, is the text in one."""
    model, ids = make(), some_ids(40)
    whole = surprisals(StaticScorer(model), ids)
    unrolled = Unrolled(model, 17, 1, training=False)
    state = unrolled.forward(np.asarray(ids[:17], np.intp)[:, None], model.zero_state(1))
    np.testing.assert_allclose(
        surprisals(StaticScorer(model, state=state), ids[17:]), whole[17:], rtol=0, atol=1e-12
    )


def test_what_came_before_matters() -> None:
    """The score of an end depends on the beginning."""
    model, ids = make(), some_ids(30)
    other = ids.copy()
    other[0] = (ids[0] + 1) % V
    assert (
        abs(
            surprisals(StaticScorer(model), ids)[1:] - surprisals(StaticScorer(model), other)[1:]
        ).max()
        > 1e-3
    )


# --- characters outside ------------------------------------------------------------------------


def test_price_of_the_unknown() -> None:
    """One of all Unicode characters alike: 0x110000 code points without the surrogates."""
    assert math.exp(UNKNOWN_NATS) == pytest.approx(0x110000 - 0x800)


@every_cell
def test_unknown_is_charged_and_not_mapped(cell: str) -> None:
    """As a target it costs its price; as an input it is no character of the vocabulary."""
    model = make(cell)
    ids = some_ids(30)
    expected_before = surprisals(StaticScorer(model), ids)
    ids[[10, 11, 20]] = UNKNOWN
    nats = surprisals(StaticScorer(model), ids)
    assert nats[[9, 10, 19]].tolist() == [UNKNOWN_NATS] * 3
    np.testing.assert_allclose(nats, naive(model, ids), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(nats[:9], expected_before[:9])
    for stand_in in range(V):
        mapped = ids.copy()
        mapped[mapped == UNKNOWN] = stand_in
        assert abs(surprisals(StaticScorer(model), mapped)[11:19] - nats[11:19]).max() > 1e-6
    result = evaluate(StaticScorer(model), ids)
    assert (result.characters, result.unknown) == (29, 3)
    assert result.nats == pytest.approx(nats.sum(), rel=1e-12)


def test_unknown_first_character_is_not_counted() -> None:
    """The first character is given, known or not."""
    assert evaluate(StaticScorer(make()), np.array([UNKNOWN, 1, 2])).unknown == 0
    assert evaluate(StaticScorer(make()), np.array([UNKNOWN, UNKNOWN])) == Evaluation(
        1, 1, UNKNOWN_NATS
    )


def test_text_of_strangers() -> None:
    """A text of nothing but unknown characters has a score as well."""
    result = evaluate(StaticScorer(make()), np.full(50, UNKNOWN))
    assert (result.characters, result.unknown) == (49, 49)
    assert result.nats_per_char == pytest.approx(UNKNOWN_NATS)
    assert result.bits_per_char == pytest.approx(20.0848, abs=1e-4)


# --- numbers -----------------------------------------------------------------------------------


def test_relations() -> None:
    """Bits are nats over ln 2, perplexity is e to the nats and 2 to the bits."""
    result = evaluate(StaticScorer(make()), some_ids(50))
    assert result.characters == 49
    assert result.nats_per_char == pytest.approx(result.nats / 49)
    assert result.bits_per_char == pytest.approx(result.nats_per_char / math.log(2))
    assert result.perplexity == pytest.approx(math.exp(result.nats_per_char))
    assert result.perplexity == pytest.approx(2**result.bits_per_char)
    assert result.to_dict() == {
        "unit": "char",
        "nats_per_char": result.nats_per_char,
        "bits_per_char": result.bits_per_char,
        "perplexity": result.perplexity,
        "characters": 49,
        "unknown": 0,
        "nats": result.nats,
    }


def test_uniform_model() -> None:
    """A model that knows nothing is as hard as a die with V sides."""
    result = evaluate(StaticScorer(make(scale=0.0)), some_ids(50))
    assert result.perplexity == pytest.approx(V)
    assert result.bits_per_char == pytest.approx(math.log2(V))


@pytest.mark.parametrize("N", [0, 1])
def test_nothing_to_score(N: int) -> None:
    """Without a second character there is no score, and no error."""
    assert surprisals(StaticScorer(make()), some_ids(N)).shape == (0,)
    result = evaluate(StaticScorer(make()), some_ids(N))
    assert (result.characters, result.unknown, result.nats) == (0, 0, 0.0)
    for value in (result.nats_per_char, result.bits_per_char, result.perplexity):
        assert math.isnan(value)


def test_two_characters() -> None:
    """The shortest text that has one."""
    ids = np.array([3, 4])
    result = evaluate(StaticScorer(make()), ids)
    assert result.characters == 1
    assert result.nats == pytest.approx(naive(make(), ids)[0])


def test_hopeless_model() -> None:
    """A model that is certain and wrong has a perplexity beyond all numbers, not an error."""
    model = make(scale=0.0)
    model.weights["by"][0] = 1e6
    result = evaluate(StaticScorer(model), np.array([1, 2, 3]))
    assert result.nats_per_char == pytest.approx(1e6)
    assert result.perplexity == math.inf


# --- while training ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Training:
    """A small model that has learnt something of a small text."""
    rng = np.random.default_rng(0)
    words = ["the ", "sea ", "was ", "calm ", "and ", "a ", "boat ", "went ", "out. "]
    text = "".join(words[i] for i in rng.integers(0, len(words), 3000))
    keys = {"model.hidden": 24, "train.batch": 8, "train.length": 20, "train.steps": 120}
    config = Config().updated(Setting(k, v, "test") for k, v in keys.items())
    training = Training.start(Corpus.from_text(text), config)
    first, *_, last = records(training)
    assert last.train < 0.7 * first.train
    return training


def exact(model: Model, ids: Array) -> float:
    return float(surprisals(StaticScorer(model), ids).mean())


def measured(held_out: HeldOut, model: Model, T: int) -> float:
    """Nats per character, all streams at once."""
    B = held_out.ids.shape[1]
    return held_out.nats(Unrolled(model, T, B)) / held_out.characters


@pytest.mark.parametrize("B", [1, 2, 7, 32])
@pytest.mark.parametrize("T", [3, 20, 64])
def test_held_out_is_nearly_exact(trained: Training, B: int, T: int) -> None:
    """Many streams with a warm-up measure what one stream does, to a thousandth of a nat."""
    model, ids = trained.learner.used, trained.corpus.valid
    expected = exact(model, ids)
    got = measured(HeldOut.of(ids, B), model, T)
    assert got == pytest.approx(expected, abs=1e-6 if B == 1 else 1e-3)


@pytest.mark.parametrize("N", [2, 3, 5, 31, 32, 33, 34, 97, 250])
def test_every_held_out_character_counts_once(N: int) -> None:
    """Short texts, shorter than the streams are many too: as many characters as there are."""
    ids = some_ids(N)
    for B in (1, 2, 5, 32):
        for T in (1, 4, 300):
            held_out = HeldOut.of(ids, B)
            assert held_out.characters == N - 1
            # a model without memory is exact however it is cut
            model = make(scale=0.0)
            model.weights["by"][...] = np.linspace(-1, 1, V)
            assert measured(held_out, model, T) == pytest.approx(exact(model, ids), rel=1e-12)


def test_held_out_unknown() -> None:
    """Unknown characters are charged here as there."""
    ids = some_ids(200, UNKNOWN)
    assert (ids[1:] == UNKNOWN).any()
    model = make()
    got = measured(HeldOut.of(ids, 1), model, 16)
    assert got == pytest.approx(exact(model, ids), rel=1e-12)


def test_held_out_limit() -> None:
    """Of a long text each stream's beginning counts, evenly."""
    ids = some_ids(4000)
    held_out = HeldOut.of(ids, 4, limit=400)
    assert held_out.characters == 400
    model = make(scale=0.0)
    model.weights["by"][...] = np.linspace(-1, 1, V)
    nats = surprisals(StaticScorer(model), ids)
    expected = np.mean([nats[b * 1000 : b * 1000 + 100] for b in range(4)])
    assert measured(held_out, model, 16) == pytest.approx(expected, rel=1e-12)


def test_measuring_leaves_no_trace(trained: Training) -> None:
    """The buffers are handed back as they were found, and measuring again gives the same."""
    shards = trained.learner.shards
    assert trained.learner.held_out is not None
    before = trained.held_out_loss()
    first = shards.measure(trained.learner.used.weights.flat)
    nothing = trained.learner.used.weights.flat * 0
    uniform = math.log(len(trained.corpus.vocabulary))
    assert shards.measure(nothing) == pytest.approx(
        uniform * trained.learner.held_out.characters, rel=1e-5
    )
    assert shards.measure(trained.learner.used.weights.flat) == first
    for unrolled in shards.bench.unrolled.values():
        assert unrolled.model is shards.bench.model
        assert unrolled.training
    assert trained.held_out_loss() == before


def test_ids_of_a_text() -> None:
    """From text to score, unknown characters included."""
    vocabulary = Characters(np.arange(97, 97 + V), np.ones(V))
    result = evaluate(StaticScorer(make()), vocabulary.encode("abcXdefé"))
    assert (result.characters, result.unknown) == (7, 2)


# --- units -------------------------------------------------------------------------------------


def test_a_character_that_was_left_out_costs_its_price() -> None:
    """Whether a vocabulary has an entry for it or not; as context it is that entry."""
    v = Corpus.from_text("abcdefgh" * 9 + "xyz", 0.0, min_count=2).vocabulary
    assert v.units == [*"abcdefgh", "<unk>"]
    model, ids = make(), v.encode("abXcdé\U0010ffffa")
    result = evaluate(StaticScorer(model, v.charged), ids, v)
    assert (result.units, result.unknown) == (7, 3)
    nats = surprisals(StaticScorer(model), ids)
    expected = np.where(ids[1:] == 8, UNKNOWN_NATS, nats)
    assert result.nats == pytest.approx(expected.sum(), rel=1e-12)
    for B, T in ((1, 3), (2, 5)):
        held_out = HeldOut.of(ids, B, charged=v.charged)
        assert held_out.characters == 7
        got = measured(held_out, model, T) * 7
        assert got == pytest.approx(expected.sum(), rel=1e-12 if B == 1 else 0.2)


def test_a_word_outside_is_scored_as_unk() -> None:
    """As in the field: it is one of the words, and the model says what it costs."""
    v = Corpus.from_text("a b c d e f g\n" * 9, 0.0, unit="word").vocabulary
    model, ids = make(), v.encode("a b zebra c\n<unk> d")
    assert ids.tolist() == [2, 3, 0, 4, 1, 0, 5]
    result = evaluate(StaticScorer(model, v.charged), ids, v)
    assert (result.units, result.unknown, result.unit) == (6, 2, "word")
    assert result.nats == pytest.approx(naive(model, ids).sum(), rel=1e-12)
    assert result.to_dict() == {
        "unit": "word",
        "nats_per_word": result.nats_per_unit,
        "bits_per_word": result.bits_per_unit,
        "perplexity": result.perplexity,
        "words": 6,
        "unknown": 2,
        "nats": result.nats,
    }
    assert result.perplexity == pytest.approx(math.exp(result.nats / 6))
    held_out = HeldOut.of(ids, 1, charged=v.charged)
    assert measured(held_out, model, 4) == pytest.approx(result.nats_per_unit, rel=1e-12)


def test_no_byte_is_outside() -> None:
    """Every text is bytes, and every byte has its cost by the model."""
    v = Corpus.from_text("abc", 0.0, unit="byte").vocabulary
    model = Model(Shape("lstm", 256, 4), np.float64)
    result = evaluate(StaticScorer(model, v.charged), v.encode("한\udcff!"), v)
    assert (result.units, result.unknown, result.unit) == (4, 0, "byte")
    assert result.perplexity == pytest.approx(256)
    assert {"nats_per_byte", "bits_per_byte", "bytes"} < result.to_dict().keys()
