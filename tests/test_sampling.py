"""Characters are drawn as the distribution says, and samples end where they should."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from generating import generate
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import charlstm.generation.source
from charlstm.cli.seeds import unescape
from charlstm.generation.choose import MANY, Chooser, cut_
from charlstm.generation.numbers import Numbers, StreamNumbers
from charlstm.generation.sampler import Piece
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import surprisals
from charlstm.text.corpus import Corpus
from charlstm.text.units import Characters, code_points
from charlstm.text.vocabulary import Vocabulary

Array = NDArray[Any]

LETTERS = "\n abcde"
every_cell = pytest.mark.parametrize("cell", list(CELLS))


def make(
    cell: str = "lstm",
    letters: str = LETTERS,
    layers: int = 1,
    scale: float = 1.0,
    **family: Any,
) -> Model:
    """A model with weights at random, over single letters."""
    model = Model(Shape(cell, len(letters), 6, layers, **family), np.float64)
    rng = np.random.default_rng(3)
    model.weights.flat[...] = rng.normal(0, scale, model.weights.flat.shape)
    return model


def vocabulary(letters: str = LETTERS, counts: list[int] | None = None) -> Vocabulary:
    """A vocabulary of these letters, which are in order."""
    assert sorted(letters) == list(letters)
    return Characters(code_points(letters), np.array(counts or [1] * len(letters)))


def texts(pieces: list[Piece], count: int = 1) -> list[str]:
    """The text of each sample."""
    return ["".join(p.text for p in pieces if p.sample == k) for k in range(count)]


def sample(model: Model, seed: str = "", rng_seed: int = 0, **options: Any) -> str:
    """One sample's text."""
    v = vocabulary()
    key = rng_seed
    return texts(list(generate(model, v, v.encode(seed), key, **options)))[0]


def chooser_of(
    count: int, V: int, key: int, first: int = 0, **options: Any
) -> tuple[Chooser, StreamNumbers]:
    """What draws for the samples from number `first` on, and its random numbers."""
    numbers = StreamNumbers(count, Numbers(key))
    for k in range(count):
        numbers.begin(k, first + k)
    return Chooser(count, V, **options), numbers


def cycle(letters: str) -> Model:
    """A model that goes through its letters for ever, each after the one before."""
    V = len(letters)
    model = Model(Shape("rnn", V, V), np.float64)
    w = model.weights
    w["layer0.Wx"][0] = 10 * (2 * np.eye(V) - 1)
    w["Wy"][...] = 100 * np.roll(np.eye(V), 1, axis=0)
    return model


# --- choosing ----------------------------------------------------------------------------------


def choose(y: Array, temperature: float, top_k: int, top_p: float, numbers: Array) -> Array:
    """One draw for each row of y."""
    K, V = y.shape
    chooser = Chooser(K, V, temperature=temperature, top_k=top_k, top_p=top_p)
    return chooser(y, numbers)


def softmax(y: Array, temperature: float = 1.0) -> Array:
    p = np.exp((y - y.max()) / temperature)
    return np.asarray(p / p.sum())


def draw(y: Array, n: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Array:
    """How often each id is drawn in n draws."""
    ids = choose(np.tile(y, (n, 1)), temperature, top_k, top_p, np.random.default_rng(1).random(n))
    assert ids.shape == (n,)
    return np.bincount(ids, minlength=len(y))


def test_temperature_zero() -> None:
    """Temperature 0 is the likeliest of each row, the first of equals, by whatever number."""
    y = np.array([[0.0, 3.0, 3.0], [5.0, 1.0, 5.0], [-9.0, -8.0, -7.0]])
    for number in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        assert choose(y, 0.0, 0, 1.0, np.full(3, number)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distribution(temperature: float, dtype: type[np.generic]) -> None:
    """Draws follow softmax(y / temperature): chi-square with 7 degrees of freedom."""
    y = np.random.default_rng(5).normal(0, 1, 8).astype(dtype)
    n = 40_000
    expected = n * softmax(y.astype(np.float64), temperature)
    chi = np.sum((draw(y, n, temperature) - expected) ** 2 / expected)
    assert chi < 29.9  # exceeded once in ten thousand


def test_rows_are_independent() -> None:
    """Each row is drawn from its own distribution with a random number of its own."""
    y = np.tile(np.log([[0.5, 0.5], [0.9, 0.1]]), (20_000, 1))
    ids = choose(y, 1.0, 0, 1.0, np.random.default_rng(2).random(len(y))).reshape(-1, 2)
    assert abs(ids[:, 0].mean() - 0.5) < 0.02
    assert abs(ids[:, 1].mean() - 0.1) < 0.01
    assert abs(np.corrcoef(ids.T)[0, 1]) < 0.03


def test_input_is_left_alone() -> None:
    """The logits belong to the caller."""
    for dtype in (np.float32, np.float64):
        y = np.random.default_rng(5).normal(0, 1, (3, 8)).astype(dtype)
        copy = y.copy()
        choose(y, 0.7, 3, 0.9, np.random.default_rng(0).random(3))
        assert (y == copy).all()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k(k: int) -> None:
    """Exactly the k likeliest remain, in their proportions."""
    y = np.array([0.5, 2.0, -1.0, 1.0, 1.5])
    n = 20_000
    likeliest = np.argsort(-y)[:k]
    counts = draw(y, n, top_k=k)
    assert set(np.flatnonzero(counts)) == set(likeliest)
    expected = n * softmax(y[likeliest])
    assert np.abs(counts[likeliest] - expected).max() < 5 * math.sqrt(n) / 2


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_of_equals(k: int) -> None:
    """Equals do not make more than k: the first of them are taken."""
    counts = draw(np.zeros(6), 2000, top_k=k)
    assert np.flatnonzero(counts).tolist() == list(range(k))


@pytest.mark.parametrize("k", [0, 6, 7, 10**9])
def test_top_k_of_all(k: int) -> None:
    """0, or as many as there are, or more, is all."""
    assert (draw(np.zeros(6), 5000, top_k=k) > 0).all()


@pytest.mark.parametrize(
    ("top_p", "kept"), [(1e-300, 1), (0.49, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 4)]
)
def test_top_p(top_p: float, kept: int) -> None:
    """The fewest of the likeliest that reach top_p: 1/2, 1/4, 1/8, 1/8 add up without rounding."""
    y = np.log(np.array([1.0, 4.0, 1.0, 2.0]) / 8)
    counts = draw(y, 5000, top_p=top_p)
    assert set(np.flatnonzero(counts)) == set([1, 3, 0, 2][:kept])


def test_top_p_is_of_what_top_k_leaves() -> None:
    """After top_k the rest counts as the whole."""
    y = np.log(np.array([4.0, 2.0, 1.0, 1.0]) / 8)  # of the first two: 2/3 and 1/3
    assert np.flatnonzero(draw(y, 3000, top_k=2, top_p=0.66)).tolist() == [0]
    assert np.flatnonzero(draw(y, 3000, top_k=2, top_p=0.67)).tolist() == [0, 1]


@pytest.mark.parametrize("value", [0.0, 0.5, math.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("top_k", [0, 2])
def test_never_of_probability_zero(value: float, top_k: int) -> None:
    """Whatever the random number, what cannot come does not: first, last or in between."""
    y = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf], [-2000.0, 0.0, -2000.0, 0.0, -2000.0]])
    ids = choose(y, 1.0, top_k, 1.0, np.full(2, value))
    assert ids.tolist() == ([1, 1] if value < 0.5 else [3, 3])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=6),
    st.sampled_from([5e-324, 1e-300, 1e-9, 0.8, 1e9, 1.7e308]),
    st.integers(0, 8),
    st.sampled_from([5e-324, 0.3, 1.0]),
    st.sampled_from([0.0, 0.5, math.nextafter(1.0, 0.0)]),
)
def test_any_logits(y: list[float], t: float, top_k: int, top_p: float, value: float) -> None:
    """Tiny and huge temperatures and logits give an id without a warning; the tiny, the best."""
    logits = np.array([y], np.float32)
    (i,) = choose(logits, t, top_k, top_p, np.array([value]))
    assert 0 <= i < len(y)
    if t == 5e-324 or top_k == 1 or top_p == 5e-324:
        gap = max(y) - float(logits[0, i])
        assert gap <= max(1e-28, 1e-15 * t)  # equal, as far as numbers go


@pytest.mark.parametrize("streams", [1, 2, MANY - 1, MANY, 300])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.7), (5, 0.9)])
@pytest.mark.parametrize("plain", [False, True])
def test_streams_do_not_see_each_other(streams: int, top_k: int, top_p: float, plain: bool) -> None:
    """However many there are, and in whatever memory order, each is drawn as if alone."""
    y = np.random.default_rng(5).normal(0, 3, (streams, 9)).astype(np.float32)
    numbers = np.random.default_rng(6).random(streams)
    chooser = Chooser(streams, 9, top_k=top_k, top_p=top_p, plain=plain)
    together = chooser(y, numbers)
    assert (together == chooser(np.asfortranarray(y), numbers)).all()
    for row, number, i in zip(y, numbers, together.tolist(), strict=True):
        assert choose(row[None], 1.0, top_k, top_p, number[None]) == [i]
    assert top_k or top_p < 1 or streams < 100 or len(set(together.tolist())) == 9


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1e-300, 0.5, 1.0, 2.0, 3.0]), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
    st.sampled_from([5e-324, 0.3, 0.5, 0.99, 1.0]),
)
def test_cut(rows: list[list[float]], k: int, top_p: float) -> None:
    """What stays is what sorting each row by itself, equals in their order, says."""
    rows = [row if any(row) else [1.0] * 5 for row in rows]
    p = np.array(rows).T.copy()
    cut_(p, k, top_p)
    for row, got in zip(rows, p.T.tolist(), strict=True):
        order = sorted(range(5), key=lambda i: -row[i])[:k]
        whole, ahead, expected = sum(row[i] for i in order), 0.0, [0.0] * 5
        for i in order:
            if i == order[0] or top_p == 1.0 or ahead < top_p * whole:
                expected[i] = row[i]
            ahead += row[i]
        assert got == expected


def test_huge_temperature_is_uniform() -> None:
    """The hotter, the more alike."""
    assert np.abs(draw(np.array([0.0, 50.0]), 20_000, 1e12) - 10_000).max() < 400


# --- generating --------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_greedy_is_the_model(cell: str, layers: int) -> None:
    """Without chance, each character is the likeliest after all that stands before it."""
    model, v = make(cell, layers=layers), vocabulary()
    text = "ab c"
    for _ in range(12):
        options = [surprisals(model, v.encode(text + c))[-1] for c in LETTERS]
        text += LETTERS[int(np.argmin(options))]
    assert sample(model, "ab c", temperature=0.0, length=12) == text[4:]


@pytest.mark.parametrize("length", [0, 1, 7, 50])
def test_length(length: int) -> None:
    """So many characters, the seed not counted, and the reason in the last piece."""
    v = vocabulary()
    pieces = list(generate(make(), v, v.encode("abc"), 0, length=length))
    assert len(texts(pieces)[0]) == length
    assert [p.stop for p in pieces] == [None] * (len(pieces) - 1) + ["length"]


@every_cell
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 1e-300}, {"temperature": 1e9}]
)
@pytest.mark.parametrize("count", [1, 3])
def test_draws_are_the_choosers(cell: str, options: dict[str, Any], count: int) -> None:
    """A text is what drawing from the model's logits and feeding the draws gives, whatever way
    it is made in."""
    model, v = make(cell, layers=2, scale=0.7), vocabulary()
    options = {"temperature": 0.8, **options}
    key = 3
    pieces = list(generate(model, v, v.encode("ab"), key, count=count, length=40, **options))
    chooser, numbers = chooser_of(count, len(LETTERS), key, **options)
    reader = Stepper(model, 1)
    reader.read(v.encode("ab"))
    stepper, expected = Stepper(model, count, reader.state), [""] * count
    for _ in range(40):
        ids = chooser(stepper.logits, numbers.next())
        numbers.advance(np.ones(count, np.bool_))
        expected = [text + LETTERS[i] for text, i in zip(expected, ids, strict=True)]
        stepper.step(ids)
    assert texts(pieces, count) == expected


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"temperature": 1.0}])
def test_how_it_is_asked_for_changes_no_text(
    count: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Surprisals wanted too, more characters or samples asked for, texts to stop at: what is drawn
    is the same."""
    model, v = make(scale=0.4), vocabulary()

    def run(length: int = 70, **more: Any) -> list[str]:
        key = 5
        options_ = {"count": count, "length": length, **options, **more}
        return texts(list(generate(model, v, v.encode("a"), key, **options_)), options_["count"])

    plain = run()
    assert len(set(plain)) == count
    assert run(nats=True) == plain
    assert [text[:70] for text in run(90)] == plain
    for stop in (["b"], ["ca", "dd"], ["e\n", "aba"]):
        until = [min([70, *(t.find(s) for s in stop if s in t)]) for t in plain]
        assert (
            run(stop=stop)
            == run(stop=stop, nats=True)
            == [text[:end] for text, end in zip(plain, until, strict=True)]
        )
    for more in (1, 2, 64, 65, 200):
        assert run(count=more)[:count] == plain[:more]


def test_pieces_come_in_the_order_of_the_samples() -> None:
    """The first sample's as they are drawn, then the next one's, with what it has by then."""
    model, v = make(scale=0.3), vocabulary()
    pieces = list(generate(model, v, v.encode("a"), 0, count=3, length=9))
    assert [p.sample for p in pieces] == [0] * 9 + [1, 2]
    assert [len(p.text) for p in pieces] == [1] * 9 + [9, 9]
    assert [p.stop for p in pieces] == [None] * 8 + ["length"] * 3
    ended = list(generate(model, v, v.encode("a"), 4, count=9, length=30, stop=["b", "cd"]))
    order = [p.sample for p in ended]
    assert order == sorted(order)
    assert len([p for p in ended if p.stop]) == 9
    assert len(ended) > 9


def test_streaming() -> None:
    """Each character comes as soon as it is drawn."""
    v = vocabulary()
    pieces = generate(make(), v, v.encode("a"), 0, length=10**9)
    assert [len(next(pieces).text) for _ in range(20)] == [1] * 20


def test_same_numbers_same_text() -> None:
    """The same random numbers give the same text, others another."""
    model = make(scale=0.3)
    first = sample(model, "ab", 7, length=60)
    assert sample(model, "ab", 7, length=60) == first
    assert sample(model, "ab", 8, length=60) != first
    assert sample(model, "ab", 7, length=30) == first[:30]


@every_cell
def test_side_by_side(cell: str) -> None:
    """K samples have states of their own: without chance they are all the one."""
    model, v = make(cell), vocabulary()
    pieces = list(generate(model, v, v.encode("bad"), 0, count=5, length=20, temperature=0.0))
    assert texts(pieces, 5) == [sample(model, "bad", temperature=0.0, length=20)] * 5
    assert [p.stop for p in pieces].count("length") == 5


def test_side_by_side_differ_and_score() -> None:
    """With chance they differ, and each one's nats are those of its own text."""
    model, v = make(scale=0.5), vocabulary()
    seed = v.encode("abc")
    pieces = list(generate(model, v, seed, 0, count=4, length=15, nats=True, stop=["e"]))
    found = texts(pieces, 4)
    assert len(set(found)) == 4
    reasons = set()
    for k, text in enumerate(found):
        last = [p for p in pieces if p.sample == k][-1]
        expected = surprisals(model, v.encode("abc" + text))[2:].sum()
        assert last.nats == pytest.approx(expected, rel=1e-9)
        assert "e" not in text
        reasons.add(last.stop)
    assert reasons == {"length", "stop"} or reasons == {"stop"}


@pytest.mark.parametrize(
    "family", [{}, {"embedding": 6, "tie": True}, {"embedding": 3, "tie": True}]
)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.5}])
def test_nats_are_the_models_own(options: dict[str, Any], family: dict[str, Any]) -> None:
    """Surprise is measured under the model, not under the sharpened distribution, which leaves an
    embedding that is tied to the output as the input that it is."""
    model, v = make(**family), vocabulary()
    pieces = list(generate(model, v, v.encode("de"), 1, length=30, nats=True, **options))
    so_far = ""
    for piece in pieces:
        so_far += piece.text
        expected = surprisals(model, v.encode("de" + so_far))[1:].sum()
        assert piece.nats == pytest.approx(expected, rel=1e-9)


def test_seed_longer_than_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed is read whole, at whatever number of characters at a time."""
    model, v = make(), vocabulary()
    seed = "abc de\n" * 5

    def run() -> tuple[str, float]:
        key = 0
        pieces = list(generate(model, v, v.encode(seed), key, length=30, nats=True))
        return texts(pieces)[0], pieces[-1].nats

    text, nats = run()
    assert nats == pytest.approx(surprisals(model, v.encode(seed + text))[-30:].sum(), rel=1e-12)
    for segment in (1, 2, 7, 33, 34, 35):
        monkeypatch.setattr(charlstm.generation.source, "SEGMENT", segment)
        again, of_segments = run()
        assert again == text
        assert of_segments == pytest.approx(nats, rel=1e-12)
    monkeypatch.undo()
    long = "abcde" * 400
    likeliest = min(LETTERS, key=lambda c: surprisals(model, v.encode(long + c))[-1])
    assert sample(model, long, length=1, temperature=0.0) == likeliest


def test_no_seed_begins_a_line() -> None:
    """Without a seed a text is what follows a line break."""
    model, v = make(), vocabulary()
    assert sample(model, "", length=40) == sample(model, "\n", length=40)
    pieces = list(generate(model, v, v.encode(""), 0, length=9, nats=True))
    expected = surprisals(model, v.encode("\n" + texts(pieces)[0])).sum()
    assert pieces[-1].nats == pytest.approx(expected)


def test_no_seed_and_no_line_break() -> None:
    """Where there is no line break, the first character comes as often as in the corpus."""
    letters, n = "abc", 6000
    model, v = make(letters=letters), vocabulary(letters, [1, 2, 3])
    pieces = list(
        generate(
            model,
            v,
            v.encode(""),
            0,
            count=n,
            length=1,
            temperature=1.0,
            nats=True,
        )
    )
    found = texts(pieces, n)
    for letter, share in zip(letters, (1 / 6, 2 / 6, 3 / 6), strict=True):
        assert abs(found.count(letter) / n - share) < 0.025
    for piece in pieces[:20]:
        assert piece.nats == 0.0  # the first unit of a text is given


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 0.005, 0.01, 1e300])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("top_k", [0, 50])
def test_no_seed_at_any_temperature(temperature: float, scale: float, top_k: int) -> None:
    """The first character of many rare ones can be drawn, however cold or hot it is."""
    letters = "".join(map(chr, range(0xAC00, 0xAC00 + 5000)))
    counts = [1] * 4999 + [2]
    model, v = make(letters=letters, scale=scale), vocabulary(letters, counts)
    key = 0
    (piece,) = generate(model, v, v.encode(""), key, length=1, temperature=temperature, top_k=top_k)
    if temperature < 0.02:
        assert piece.text == letters[-1]
    assert piece.text in letters


def test_no_seed_continues_from_nothing() -> None:
    """What follows such a first character is what the model says of it as a beginning."""
    letters = "abc"
    model, v = make(letters=letters), vocabulary(letters, [1, 2, 3])
    (text,) = texts(list(generate(model, v, v.encode(""), 0, length=8, temperature=0.0)))
    assert text[0] == "c"
    so_far = "c"
    for _ in range(7):
        so_far += min(letters, key=lambda c: surprisals(model, v.encode(so_far + c))[-1])
    assert text == so_far


# --- stopping ----------------------------------------------------------------------------------


def stopped(letters: str, seed: str, length: int, *stop: str) -> tuple[str, str | None]:
    """Text and reason of a sample from the model that goes through its letters."""
    v = vocabulary(letters)
    pieces = list(
        generate(
            cycle(letters),
            v,
            v.encode(seed),
            0,
            length=length,
            temperature=0.0,
            stop=stop,
        )
    )
    return texts(pieces)[0], pieces[-1].stop


@pytest.mark.parametrize(
    ("stops", "text", "reason"),
    [
        ([], "bcdefabcde", "length"),
        (["e"], "bcd", "stop"),
        (["b"], "", "stop"),
        (["cde"], "b", "stop"),
        (["ab"], "bcdef", "stop"),  # not the a of the seed
        (["abcdefa"], "bcdefabcde", "length"),  # begun, but not complete at the end
        (["de", "cx", "efab"], "bc", "stop"),  # x is in no text
        (["cda", "cdf", "cdefab"], "b", "stop"),
        (["defx", "fa"], "bcde", "stop"),
        (["efg", "dd", "z"], "bcdefabcde", "length"),
        (["de", "cde"], "b", "stop"),
        (["cde", "de"], "b", "stop"),
        (["bcdefabcde"], "", "stop"),  # complete with the very last character
        (["bcdefabcdef"], "bcdefabcde", "length"),
    ],
)
def test_stop(stops: list[str], text: str, reason: str) -> None:
    """A sample ends before the stop text, which is never shown, and loses nothing else."""
    assert stopped("abcdef", "a", 10, *stops) == (text, reason)


def script(rows: list[str], stops: list[str], **options: Any) -> list[Piece]:
    """What is generated when these texts of equal length are drawn, side by side."""
    v = vocabulary("ab")
    steps = iter(np.array([v.encode(row) for row in rows]).T)
    if len(rows) > 1:  # many draw while they read the seed, too
        steps = itertools.chain([np.zeros(len(rows), int)], steps)

    class Script(Chooser):
        def weigh_(self, p: Array, logits: Array, allowed: Array | None = None) -> None:
            p[...] = 0.0
            columns = p.reshape(len(p), -1)
            columns[0, len(rows) :] = 1.0  # streams without a sample
            for k, i in enumerate(next(steps)):
                columns[i, k] = 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charlstm.generation.source, "Chooser", Script)
        return list(
            generate(
                make(letters="ab"),
                v,
                v.encode("a"),
                0,
                count=len(rows),
                length=len(rows[0]),
                stop=stops,
                **options,
            )
        )


AB = st.text("ab", min_size=10, max_size=10)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(AB, min_size=1, max_size=4),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
def test_any_stops(rows: list[str], stops: list[str]) -> None:
    """Overlapping stop texts: what comes is each text up to the first that is complete."""
    pieces = script(rows, stops)
    assert [p.sample for p in pieces] == sorted(p.sample for p in pieces)
    for k, (row, got) in enumerate(zip(rows, texts(pieces, len(rows)), strict=True)):
        check_stop(row, stops, got, [p.stop for p in pieces if p.sample == k][-1])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1000), st.lists(st.text("ab", min_size=1, max_size=5), max_size=3))
def test_any_stops_of_one_stream(rng_seed: int, stops: list[str]) -> None:
    """The same for a single stream in its own quick way."""
    model, v = make(letters="ab", scale=0.1), vocabulary("ab")

    def run(stop: list[str]) -> list[Piece]:
        key = rng_seed
        return list(generate(model, v, v.encode("a"), key, length=14, stop=stop))

    pieces = run(stops)
    check_stop(texts(run([]))[0], stops, texts(pieces)[0], pieces[-1].stop)


def check_stop(text: str, stops: list[str], got: str, reason: str | None) -> None:
    """Assert that `got` is what should come where the text would."""
    ends = [text.find(s) + len(s) for s in stops if s in text]
    if not ends:
        assert (got, reason) == (text, "length")
        return
    end = min(ends)
    assert reason == "stop"
    complete = [s for s in stops if text[:end].endswith(s)]
    assert got in {text[: end - len(s)] for s in complete}
    assert got == text[: end - max(map(len, complete))]
    assert not any(s in got for s in stops)


def test_what_cannot_be_a_stop_is_not_held_back() -> None:
    """Only the beginning of a stop text waits, and no longer than it can be one."""
    v = vocabulary("abcdef")
    pieces = list(
        generate(
            cycle("abcdef"),
            v,
            v.encode("a"),
            0,
            length=6,
            temperature=0.0,
            stop=["cdx"],
        )
    )
    assert [p.text for p in pieces] == ["b", "cde", "f", "a"]


def test_samples_stop_by_themselves() -> None:
    """One sample's end is not another's, and each ends once."""
    model, v = make(scale=0.2), vocabulary()
    pieces = list(generate(model, v, v.encode("a"), 4, count=8, length=12, stop=["b", "cd"]))
    ended = [p.sample for p in pieces if p.stop]
    assert sorted(ended) == list(range(8))
    for k, text in enumerate(texts(pieces, 8)):
        mine = [p for p in pieces if p.sample == k]
        assert mine[-1].stop is not None
        assert all(p.stop is None for p in mine[:-1])
        assert "b" not in text
        assert "cd" not in text
        assert len(text) == 12 or mine[-1].stop == "stop"
    assert len({len(t) for t in texts(pieces, 8)}) > 1


# --- escapes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\nb", "a\nb"),
        (r"\t\r", "\t\r"),
        (r"\\n", r"\n"),
        (r"\\\n", "\\\n"),
        (r"\x41\q", r"\x41\q"),
        (r"a\0b", "a\0b"),
        ("한\\n", "한\n"),
        ("\\", "\\"),
        ("plain\n", "plain\n"),
        ("", ""),
    ],
)
def test_unescape(text: str, expected: str) -> None:
    """Five escapes are understood; anything else stays as it was typed."""
    assert unescape(text) == expected


# --- units ---------------------------------------------------------------------------------------


def trained_on(text: str, **settings: Any) -> tuple[Vocabulary, Model]:
    """The vocabulary of a text, and a model with weights at random over it."""
    v = Corpus.from_text(text, 0.0, **settings).vocabulary
    model = Model(Shape("gru", len(v), 6), np.float64)
    model.weights.flat[...] = np.random.default_rng(3).normal(0, 0.5, model.weights.flat.shape)
    return v, model


OF_EACH = {
    "char": trained_on("the sea, 배\n the ferry\n" * 5 + "x", min_count=2),
    "byte": trained_on("the sea, 배\n" * 9, unit="byte"),
    "word": trained_on(
        "the sea was <unk>\nand the ferry came\n" * 5 + "once", unit="word", min_count=2
    ),
}
every_unit = pytest.mark.parametrize("unit", list(OF_EACH))


@every_unit
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 4}, {"top_p": 0.7}, {"temperature": 0.0}, {"temperature": 1e-300}]
)
def test_every_unit_is_drawn_as_the_model_says(
    unit: str, count: int, options: dict[str, Any]
) -> None:
    """Text is what the writer makes of drawing from the logits, `<unk>` left aside."""
    v, model = OF_EACH[unit]
    options = {"temperature": 0.8, **options}
    seed = v.encode("the sea")
    key = 3
    pieces = list(generate(model, v, seed, key, count=count, length=40, **options))
    reader = Stepper(model, 1)
    reader.read(seed)
    stepper = Stepper(model, count, reader.state)
    keep = [i for i in range(len(v)) if i != v.unknown]
    chooser, numbers = chooser_of(count, len(keep), key, **options)
    drawn = []
    for _ in range(40):
        drawn.append(np.array(keep)[chooser(stepper.logits[:, keep], numbers.next())])
        numbers.advance(np.ones(count, np.bool_))
        stepper.step(drawn[-1])
    expected = []
    for ids in np.array(drawn).T.tolist():
        write, end = v.writer("the sea")
        expected.append("".join(map(write, ids)) + end())
    assert texts(pieces, count) == expected
    assert v.unknown not in np.array(drawn)
    assert all("<unk>" not in text for text in expected)


@every_unit
@pytest.mark.parametrize("count", [1, 4])
def test_stop_texts_of_every_unit(unit: str, count: int) -> None:
    """A sample ends where the first stop text begins, in the middle of a unit too; surprisals
    change nothing."""
    v, model = OF_EACH[unit]

    def run(**more: Any) -> list[str]:
        key = 7
        options = {"count": count, "length": 60, "temperature": 1.0, **more}
        return texts(list(generate(model, v, v.encode("the"), key, **options)), count)

    plain = run()
    ended = 0
    of_them = [[plain[0][9:12]], [plain[-1][20:26]], [plain[-1][5:9], plain[0][7:11]]]
    for stops in (["e"], ["\n"], ["배"], ["\ufffd"], *of_them):
        first = [min([len(t), *(t.find(s) for s in stops if s in t)]) for t in plain]
        assert run(stop=stops) == [t[:n] for t, n in zip(plain, first, strict=True)]
        assert run(stop=stops, nats=True) == run(stop=stops)
        ended += sum(n < len(t) for t, n in zip(plain, first, strict=True))
    assert ended >= 3


@every_unit
def test_without_a_seed_in_every_unit(unit: str) -> None:
    """A text begins as a line does, without a space, and with what the corpus has where it has no
    line end."""
    v, model = OF_EACH[unit]
    assert v.line_end is not None
    key = 0
    pieces = list(generate(model, v, np.array([], int), key, length=12, temperature=0.0))
    stepper = Stepper(model, 1)
    stepper.step([v.line_end])
    stepper.logits[0, v.unknown if v.unknown >= 0 else 0] -= 1e9 * (v.unknown >= 0)
    first = int(stepper.logits[0].argmax())
    assert pieces[0].text == v.decode([first]) or unit == "byte"
    v, model = trained_on("ab" * 30 + "c" + " word" * 20, unit=unit, min_count=2)
    assert v.line_end is None
    for _ in range(20):
        (piece,) = generate(model, v, np.array([], int), key, length=1)
        assert piece.text in ("word" if unit == "word" else "ab word")


def test_nothing_but_unknown_words() -> None:
    """A vocabulary of `<unk>` and `<eos>` alone gives empty lines, not an endless search."""
    v, model = trained_on("<unk> <unk> <unk>", unit="word")
    pieces = list(generate(model, v, np.array([], int), 0, length=5))
    assert texts(pieces) == ["\n" * 5]


@pytest.mark.parametrize(
    ("seed", "before", "expected"),
    [
        ("the sea", None, " the"),
        ("the sea ", "the sea ", "the"),
        ("the sea\n", "the sea\n", "the"),
        ("the sea\n", None, "the"),
        ("", "", "the"),
    ],
)
def test_spaces_between_words(seed: str, before: str | None, expected: str) -> None:
    """A word that continues a text is told from it by one space, which may stand there already."""
    v, model = OF_EACH["word"]
    certain = model.with_weights(model.weights.flat * 0)
    certain.weights["by"][v.encode("the")[0]] = 1000.0
    pieces = generate(certain, v, v.encode(seed), 0, length=3, before=before)
    assert "".join(p.text for p in pieces) == expected + " the the"


def test_bytes_are_held_until_they_are_characters() -> None:
    """A character appears with its last byte; what is none is replaced, or kept as it is."""
    v, model = OF_EACH["byte"]
    data = "배".encode() + b"\xff" + "배".encode()[:2]
    for errors in ("replace", "surrogateescape"):
        write, end = v.writer(errors=errors)
        made = [write(i) for i in data]
        assert made[:3] == ["", "", "배"]
        assert "".join(made) + end() == data.decode("utf-8", errors)
    key = 5
    raw = [
        p.text for p in generate(model, v, v.encode("a"), key, length=99, errors="surrogateescape")
    ]
    assert len("".join(raw).encode("utf-8", "surrogateescape")) == 99
