"""Text is drawn as the model says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from generating import generate
from sampled import LETTERS, chooser_of, every_cell, make, sample, texts, vocabulary

import charlstm.generation.source
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import surprisals
from charlstm.scoring.scorers import StaticScorer
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_greedy_is_the_model(cell: str, layers: int) -> None:
    """Without chance, each character is the likeliest after all that stands before it."""
    model, v = make(cell, layers=layers), vocabulary()
    text = "ab c"
    for _ in range(12):
        options = [surprisals(StaticScorer(model), v.encode(text + c))[-1] for c in LETTERS]
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
    """The first sample's as they are drawn, then the next one's, with what it has by then: of a
    few samples, which are made one after the other, nothing."""
    model, v = make(scale=0.3), vocabulary()
    pieces = list(generate(model, v, v.encode("a"), 0, count=6, length=9))
    assert [p.sample for p in pieces] == [0] * 9 + [1, 2, 3, 4, 5]
    assert [len(p.text) for p in pieces] == [1] * 9 + [9] * 5
    assert [p.stop for p in pieces] == [None] * 8 + ["length"] * 6
    few = list(generate(model, v, v.encode("a"), 0, count=3, length=9))
    assert [p.sample for p in few] == [0] * 9 + [1] * 9 + [2] * 9
    texts = [
        "".join(p.text for p in made if p.sample == k) for made in (few, pieces) for k in (0, 1, 2)
    ]
    assert texts[:3] == texts[3:]
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
        expected = surprisals(StaticScorer(model), v.encode("abc" + text))[2:].sum()
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
        expected = surprisals(StaticScorer(model), v.encode("de" + so_far))[1:].sum()
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
    assert nats == pytest.approx(
        surprisals(StaticScorer(model), v.encode(seed + text))[-30:].sum(), rel=1e-12
    )
    for segment in (1, 2, 7, 33, 34, 35):
        monkeypatch.setattr(charlstm.generation.source, "SEGMENT", segment)
        again, of_segments = run()
        assert again == text
        assert of_segments == pytest.approx(nats, rel=1e-12)
    monkeypatch.undo()
    long = "abcde" * 400
    likeliest = min(LETTERS, key=lambda c: surprisals(StaticScorer(model), v.encode(long + c))[-1])
    assert sample(model, long, length=1, temperature=0.0) == likeliest


def test_no_seed_begins_a_line() -> None:
    """Without a seed a text is what follows a line break."""
    model, v = make(), vocabulary()
    assert sample(model, "", length=40) == sample(model, "\n", length=40)
    pieces = list(generate(model, v, v.encode(""), 0, length=9, nats=True))
    expected = surprisals(StaticScorer(model), v.encode("\n" + texts(pieces)[0])).sum()
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
        so_far += min(
            letters, key=lambda c: surprisals(StaticScorer(model), v.encode(so_far + c))[-1]
        )
    assert text == so_far


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
