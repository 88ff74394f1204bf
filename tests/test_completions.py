"""Many seeds side by side, the best of many, and beam search."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import beam, generate, sampler
from hypothesis import given, settings
from hypothesis import strategies as st
from support import CORPORA, POLYGLOT, ROOT, UNITS, every_unit, fails, random_model, run, trained

import charlstm
import charlstm.generation.sampler
from charlstm.generation.ending import Ending, Sampling, Seed, stop_in
from charlstm.generation.matcher import Matcher
from charlstm.generation.numbers import STRETCH, Numbers, StreamNumbers
from charlstm.generation.sampler import Completion, accepted, best_of
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import evaluate, surprisals
from charlstm.scoring.scorers import StaticScorer
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

SEEDS = ["the sea", "", "a", "배가 나루", "went out\ncalm", "the boat " * 30, "שלום", "o"]


def seeds_of(v: Vocabulary, texts: list[str]) -> list[Seed]:
    return [Seed(v.encode(text), text) for text in texts]


def alone(model: Model, v: Vocabulary, text: str, **options: Any) -> tuple[str, str, float]:
    """What `generate` makes of one seed."""
    options["errors"] = "surrogateescape"
    pieces = list(generate(model, v, v.encode(text), 0, before=text, **options))
    assert pieces[-1].stop is not None
    shown = "".join(p.text for p in pieces)
    return shown, pieces[-1].stop, said_by_evaluate(model, v, text, shown)


def said_by_evaluate(model: Model, v: Vocabulary, seed: str, text: str) -> float:
    """The nats of a text after its seed, or, without one, after a line end."""
    seed = seed or ("" if v.line_end is None else "\n")
    return (
        evaluate(StaticScorer(model, v.charged), v.encode(seed + text), v).nats
        - evaluate(StaticScorer(model, v.charged), v.encode(seed), v).nats
    )


# --- streams that go on from somewhere ---------------------------------------------------------


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("K", [1, 3, 16])
def test_streams_begin_anywhere(cell: str, layers: int, K: int) -> None:
    """A stream that takes over another's place goes on as that does; the others are as before."""
    model, _ = random_model(cell=cell, layers=layers)
    origin = Stepper(model, 1)
    origin.read(np.array([3, 1, 4, 1, 5]))
    wide, single = Stepper(model, K), Stepper(model, 1)
    for _ in range(3):
        wide.step(np.full(K, 2))
        single.step([2])
    wide.begin(K - 1, origin.carried)
    others = wide.step(np.full(K, 7)).copy()
    origin.step([7])
    np.testing.assert_allclose(others[-1], origin.logits[0], rtol=0, atol=1e-12)
    single.step([7])
    for row in others[:-1]:
        np.testing.assert_allclose(row, single.logits[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("K", [1, 4])
def test_reorder(cell: str, K: int) -> None:
    model, _ = random_model(cell=cell, layers=2)
    one, two = Stepper(model, K), Stepper(model, K)
    ids, streams = np.arange(K) + 1, np.random.default_rng(0).integers(0, K, K)
    one.step(ids)
    two.step(ids[streams])
    one.take_over(one, streams)
    np.testing.assert_allclose(one.step(ids), two.step(ids), rtol=0, atol=1e-12)


# --- completions -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 128])
@pytest.mark.parametrize("stop", [[], ["\n"], ["e", "ut"], ["가", " ou"]])
@every_unit
def test_each_as_if_alone(
    unit: str, stop: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without chance each seed goes on as `generate` lets it, whatever stands beside it."""
    monkeypatch.setattr(charlstm.generation.sampler, "WIDTH", width)
    model, v = random_model(unit)
    options: dict[str, Any] = {"length": 25, "temperature": 0.0, "stop": stop}
    complete = sampler(model, v, 0, nats=True, errors="surrogateescape", **options)
    found = list(complete(seeds_of(v, SEEDS)))
    for text, completion in zip(SEEDS, found, strict=True):
        expected, reason, nats = alone(model, v, text, **options)
        assert (completion.text, completion.stop) == (expected, reason)
        assert completion.nats == pytest.approx(nats, rel=1e-9)
    again = list(complete(seeds_of(v, SEEDS[::-1])))
    assert [c.text for c in again] == [c.text for c in found[::-1]]


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 1e-300}])
@pytest.mark.parametrize("length", [1, 7, 2 * STRETCH + 9])
def test_chance_belongs_to_the_seed(options: dict[str, Any], length: int) -> None:
    """The number of a seed says what is drawn, not what stands beside it or came before."""
    model, v = random_model()
    complete = sampler(model, v, 5, length=length, **options)
    seeds = seeds_of(v, ["the sea", "", "a", "the"] * 3)
    together = [c.text for c in complete(seeds)]
    for n, seed in enumerate(seeds):
        assert next(complete([seed], n)).text == together[n]
    assert [c.text for c in complete(seeds[4:9], 4)] == together[4:9]
    assert [c.text for c in sampler(model, v, 5, length=length, **options)(seeds)] == together
    if length > 7 and "temperature" not in options:
        assert len(set(together)) == len(together)
        other = [c.text for c in sampler(model, v, 6, length=length, **options)(seeds)]
        assert all(a != b for a, b in zip(other, together, strict=True))


def test_without_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty seed begins as often with a unit as it stands in the corpus."""
    v = Corpus.from_text("abbccc" * 9, 0.0).vocabulary
    model = Model(Shape("gru", 3, 5), np.float64)
    model.initialise(np.random.default_rng(0))
    n = 6000
    complete = sampler(model, v, 1, length=2, temperature=1.0, nats=True)
    found = list(complete([Seed(v.encode(""), "")] * n))
    for letter, share in zip("abc", (1 / 6, 2 / 6, 3 / 6), strict=True):
        assert abs(sum(c.text[0] == letter for c in found) / n - share) < 0.025
    for c in found[:20]:
        assert c.nats == pytest.approx(surprisals(StaticScorer(model), v.encode(c.text))[0])
    one = sampler(model, v, 1, length=9, temperature=1.0, stop=["b"])
    for c in one([Seed(v.encode(""), "")] * 50):
        assert "b" not in c.text


def test_draws_follow_the_model() -> None:
    """Of many streams that begin at different times: chi-square of the second unit drawn."""
    model, v = random_model(text={"max_vocabulary": 9})
    n, temperature = 12_000, 0.7
    complete = sampler(model, v, 3, length=2, temperature=temperature)
    texts = [c.text for c in complete(seeds_of(v, ["the", "o", "sea out"]) * (n // 3))][::3]
    first = max(set(v.units) - {"<unk>"}, key=lambda u: sum(t[0] == u for t in texts))
    seconds = [t[1] for t in texts if t[0] == first]
    stepper = Stepper(model, 1)
    stepper.read(v.encode("the" + first))
    p = np.exp(stepper.logits[0] / temperature)
    p[v.unknown] = 0.0
    expected = len(seconds) * p / p.sum()
    observed = np.array([seconds.count(u) for u in v.units])
    some = expected > 0
    assert observed[~some].sum() == 0
    chi = np.sum((observed[some] - expected[some]) ** 2 / expected[some])
    assert chi < 29.9  # of 7 degrees of freedom, exceeded once in ten thousand


def test_numbers() -> None:
    """Every sample has its own, without an end, and none twice."""
    streams, samples = StreamNumbers(3, Numbers(9)), (0, 63, 64)
    for k, sample in enumerate(samples):
        streams.begin(k, sample)
    seen = [streams.next()]
    for _ in range(2 * STRETCH):
        streams.advance(np.ones(3, np.bool_))
        seen.append(streams.next())
    assert len(np.unique(seen)) == np.size(seen)
    assert abs(np.mean(seen) - 0.5) < 0.04
    for k, sample in enumerate(samples):
        blocks = Numbers(9).of_sample(sample)
        alone = np.concatenate([next(blocks) for _ in range(3)])
        assert np.array_equal(alone[: len(seen)], np.array(seen)[:, k])


@every_unit
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 3}, {"temperature": 1.5}, {"stop": ["e", "a b"]}]
)
def test_nats_are_what_evaluate_says(unit: str, options: dict[str, Any]) -> None:
    """Of the text that is shown: without what a stop text hides, under the model with `<unk>`, and
    whatever the temperature; by `generate`, by a completer and by a beam."""
    model, v = random_model(unit, text={"max_vocabulary": 12} if unit != "byte" else {})
    assert unit == "byte" or v.unknown >= 0
    for seed in ("the sea", "", "the boat went "):
        seed = v.without_unknown(seed)[0]
        more: dict[str, Any] = {"length": 25, **options}
        pieces = generate(
            *(model, v, v.encode(seed), 3),
            **more,
            count=5,
            nats=True,
            before=seed,
            errors="surrogateescape",
        )
        one = sampler(model, v, 3, nats=True, errors="surrogateescape", **more)
        found: list[Any] = [*pieces, *one([Seed(v.encode(seed), seed)] * 5)]
        if "stop" in options:
            more |= {"errors": "surrogateescape", "length": 9, "stop": ["e"]}
            found.append(beam(model, v, Seed(v.encode(seed), seed), 2, **more))
        assert {c.stop for c in found} <= {"length", "stop"}
        for c in found:
            assert c.nats == pytest.approx(said_by_evaluate(model, v, seed, c.text), rel=1e-6)


@every_unit
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"stop": ["e"]}, {"temperature": 0.3}])
def test_a_sample_is_the_same_however_it_is_asked_for(unit: str, options: dict[str, Any]) -> None:
    """Sample k depends on the key and on k."""
    model, v = random_model(unit)
    seed, text = v.encode("the sea"), "the sea"
    more: dict[str, Any] = {"length": 40, **options}

    def generated(count: int, **others: Any) -> list[str]:
        pieces = list(generate(model, v, seed, 11, count=count, before=text, **more, **others))
        return ["".join(p.text for p in pieces if p.sample == k) for k in range(count)]

    many = generated(70)
    assert len(set(many)) > 30
    for count in (1, 2, 3, 65):
        assert generated(count) == many[:count]
    assert generated(3, nats=True) == many[:3]
    complete = sampler(model, v, 11, **more)
    assert [c.text for c in complete([Seed(seed, text)] * 70)] == many
    assert [c.text for c in complete([Seed(seed, text)] * 5, 65)] == many[65:]
    prefix = sampler(model, v, 11, prefix=seed[:-1], **more)
    assert [c.text for c in prefix([Seed(seed[-1:], text)] * 70)] == many
    if "stop" not in options and unit != "byte":  # a match is UTF-8
        every = sampler(model, v, 11, match=Matcher(r"(.|\n)*", v), **more)
        assert next(every([Seed(seed, text)])).text.split("\n")[0] == many[0].split("\n")[0]


def test_two_generators_of_one_completer() -> None:
    """They do not see each other, however their iteration interleaves."""
    model, v = random_model()
    complete = sampler(model, v, 5, length=30)
    seeds = seeds_of(v, ["the sea", "a", "the", ""] * 2)
    expected = [c.text for c in complete(seeds)], [c.text for c in complete(seeds, 100)]
    one, two = complete(seeds), complete(seeds, 100)
    pairs = [(a.text, b.text) for a, b in zip(one, two, strict=True)]
    assert tuple(map(list, zip(*pairs, strict=True))) == expected
    left = complete(seeds)
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert [c.text for c in complete(seeds)] == expected[0]
    assert sum(map(len, complete.idle.values())) <= 3


def test_a_prefix_is_read_once() -> None:
    """Units that all seeds begin with count as part of them."""
    model, v = random_model()
    ids = v.encode("the sea was ")
    whole = sampler(model, v, 1, length=30, nats=True)([Seed(ids, "the sea was ")] * 4)
    parts = sampler(model, v, 1, length=30, nats=True, prefix=ids[:-1])
    for one, other in zip(whole, parts([Seed(ids[-1:], "the sea was ")] * 4), strict=True):
        assert one[:2] == other[:2]
        assert one.nats == pytest.approx(other.nats)


def test_nothing_to_do() -> None:
    model, v = random_model()
    assert list(sampler(model, v, 1)([])) == []
    assert (
        list(sampler(model, v, 1, length=0)(seeds_of(v, ["a", ""])))
        == [Completion("", "length", 0.0, 0)] * 2
    )


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.text("abc", max_size=5), max_size=6),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_stop_texts(parts: list[str], stops: list[str]) -> None:
    """The same place as where a text that comes piece by piece ends."""
    v = Corpus.from_text("abc", 0.0).vocabulary
    sample = Ending(v, Sampling(length=1000, stop=tuple(stops))).sample(0, Seed(v.encode(""), ""))
    text, place = "", None
    for character in "".join(parts):
        assert sample.add(v.encode(character).tolist()) in text + character
        text += character
        place = stop_in(text, stops)
        assert (place is not None) == (sample.stop == "stop")
        if place is not None:
            break
        assert text.startswith(sample.text)
        assert not any(stop in text[len(sample.text) :] for stop in stops)
    if place is not None:
        assert sample.text == text[:place]


# --- the best, the new and the most probable ---------------------------------------------------


def test_best_of() -> None:
    """The fewest nats per unit of each group, the first of equals."""
    numbers = zip("abcdef", (3, 2, 2, 9, 4, 0), (3, 1, 2, 3, 2, 0), strict=True)
    each = [Completion(text, "stop", 0.0, units, nats) for text, nats, units in numbers]
    assert [c.text for c in best_of(each, 3)] == ["a", "f"]
    assert [c.text for c in best_of(each, 1)] == [*"abcdef"]
    assert list(best_of([], 2)) == []


def test_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order those that are wanted; the end where there are no more."""
    model, v = random_model()
    complete = sampler(model, v, 2, length=1, temperature=1.0)
    seed = Seed(v.encode("a"), "a")
    plain = [c.text for c in complete([seed] * 400)]
    wanted = [text for text in plain if text in "aeo"]
    found = [c.text for c in accepted(complete, seed, 20, 1, lambda c: c.text in "aeo")]
    assert found == wanted[:20]
    monkeypatch.setattr(charlstm.generation.sampler, "TRIES", 30)
    assert list(accepted(complete, seed, 3, 1, lambda c: False)) == []
    seen: set[str] = set()

    def new(c: Completion) -> bool:
        return c.text not in seen and not seen.add(c.text)  # type: ignore[func-returns-value]

    distinct = [c.text for c in accepted(complete, seed, 1000, 1, new)]
    assert len(set(distinct)) == len(distinct) <= len(v)


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("stop", [[], ["\n"], ["ba", "\n"]])
def test_a_wide_beam_is_exhaustive(cell: str, stop: list[str]) -> None:
    """With room for all texts, the most probable of all is found."""
    v = Corpus.from_text("ab\nba a\n" * 9, 0.0).vocabulary
    model = Model(Shape(cell, len(v), 6, 2), np.float64)
    model.weights.flat[...] = np.random.default_rng(7).normal(0, 1, model.weights.flat.shape)
    length, texts = 4, {}
    for units in itertools.product(v.units, repeat=length):
        text = "".join(units)
        ends = [k for k in range(1, length + 1) if stop_in(text[:k], stop) is not None]
        text = text[: ends[0]] if ends else text
        texts[text] = surprisals(StaticScorer(model), v.encode("ab" + text))[1:].sum()
    best = min(texts, key=lambda t: texts[t])
    found = beam(model, v, Seed(v.encode("ab"), "ab"), len(v) ** 3, length=length, stop=stop)
    place = stop_in(best, stop)
    assert found.text == best[:place]
    assert found.stop == ("length" if place is None else "stop")
    assert found.drawn_nats == pytest.approx(texts[best], rel=1e-9)
    assert found.nats == pytest.approx(said_by_evaluate(model, v, "ab", found.text), rel=1e-9)
    assert found.units == len(best)
    narrow = beam(model, v, Seed(v.encode("ab"), "ab"), 2, length=length, stop=stop)
    assert narrow.drawn_nats >= found.drawn_nats - 1e-9


@every_unit
@pytest.mark.parametrize("seed", ["", "the", "배가\n"])
def test_a_beam_of_one_is_greedy(unit: str, seed: str) -> None:
    model, v = random_model(unit)
    for stop in ([], ["e"], ["\n"]):
        options: dict[str, Any] = {"length": 20, "stop": stop}
        text, reason, nats = alone(model, v, seed, temperature=0.0, **options)
        found = beam(model, v, Seed(v.encode(seed), seed), 1, errors="surrogateescape", **options)
        assert (found.text, found.stop) == (text, reason)
        assert found.nats == pytest.approx(nats, rel=1e-9)
    assert beam(model, v, Seed(v.encode(seed), seed), 3, length=0).text == ""


def test_a_beam_without_line_ends() -> None:
    """It begins with what the corpus has most of."""
    v = Corpus.from_text("abbccc" * 9, 0.0).vocabulary
    model = Model(Shape("rnn", 3, 5), np.float64)
    assert beam(model, v, Seed(v.encode(""), ""), 3, length=1).text == "c"
    found = beam(model, v, Seed(v.encode(""), ""), 3, length=3)
    assert found.nats == pytest.approx(2 * math.log(3))  # the first unit is given


# --- the command line --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = (CORPORA / "names.txt").read_text(encoding="utf-8")
    return trained(tmp_path_factory.mktemp("names") / "m.npz", corpus, 200)


@pytest.fixture(scope="session", params=UNITS)
def of_unit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("each") / "m.npz"
    return trained(path, POLYGLOT, 60, **{"text.unit": request.param, "text.valid": 0.0})


def lines(*arguments: str | Path, stdin: str = "") -> list[str]:
    process = run("sample", *arguments, stdin=stdin)
    assert process.returncode == 0, process.stderr
    out = process.stdout.decode("utf-8", "replace")
    assert not out or out.endswith("\n")
    return out.split("\n")[:-1]


def test_each(of_unit: Path) -> None:
    """A line out for each line in, in order, which begins with it."""
    model = charlstm.load(of_unit)
    seeds = ["the sea", "", "은여울 나루에", "שלום", "배가 🚢", "the boat went"] * 2
    stdin = "\n".join(seeds)
    each = ("--each", "-m", of_unit, "-n", "12")
    out = lines(*each, "--rng-seed", "1", stdin=stdin)
    assert len(out) == len(seeds)
    assert all(line.startswith(seed) for line, seed in zip(out, seeds, strict=True))
    assert out == lines(*each, "--rng-seed", "1", stdin=stdin + "\n")
    assert out != lines(*each, "--rng-seed", "2", stdin=stdin)
    rest = lines(*each, "--rng-seed", "1", "--no-echo", stdin=stdin)
    assert [seed + text for seed, text in zip(seeds, rest, strict=True)] == out
    assert rest == lines(*each, "--rng-seed", "1", "--prefix-only", stdin=stdin)
    greedy = lines(*each, "-t", "0", "--no-echo", stdin=stdin)
    stops = ["\n"]
    alone = ["".join(model.sample(s, temperature=0, length=12, stop=stops)) for s in seeds]
    assert greedy == alone == list(model.complete(seeds, temperature=0, length=12, stop=stops))
    documents = [json.loads(line) for line in lines(*each, "-t", "0", "--json", stdin=stdin)]
    assert [d["seed"] for d in documents] == seeds
    assert [d["text"] for d in documents] == alone
    assert {d["stop"] for d in documents} <= {"length", "stop"}
    beams = lines(*each, "--beam", "3", "--no-echo", stdin=stdin)
    assert beams == [model.beam(s, 3, length=12, stop=stops).text for s in seeds]
    best = [json.loads(b) for b in lines(*each, "--best-of", "9", "--json", stdin=stdin)]
    assert [d["seed"] for d in best] == seeds
    assert lines(*each) == []


@pytest.mark.whole
def test_each_line_of_a_file(of_unit: Path, tmp_path: Path) -> None:
    """As from a pipe: Hangul, an emoji, Hebrew and what stands at the edges of a line."""
    text = "은여울 나루에 배가 🚢\n\nשלום עולם\n🚢\nthe sea "
    (tmp_path / "seeds").write_text(text, encoding="utf-8", newline="")
    command = ("sample", "--each", "-m", str(of_unit), "-n", "9", "-t", "0", "--json")
    with (tmp_path / "seeds").open("rb") as file:
        out = subprocess.run(
            [sys.executable, "-m", "charlstm", *command],
            stdin=file,
            capture_output=True,
            cwd=ROOT,
            check=True,
        ).stdout.decode()
    assert out.splitlines() == lines(*command[1:], stdin=text)
    assert [json.loads(line)["seed"] for line in out.splitlines()] == text.split("\n")


def test_long_names_and_cuts(names: Path, tmp_path: Path) -> None:
    """Every option by its other name; of the likeliest one alone, the likeliest."""
    (tmp_path / "c.yaml").write_text("sample: {length: 12}\n")
    short = lines("-m", names, "--seed", "Ka", "-t", "0", "-n", "12")
    config = ("--config", tmp_path / "c.yaml")
    assert lines("--model", names, "--seed", "Ka", "--temperature", "0", *config) == short
    assert lines("-m", names, "--seed", "Ka", "-t", "0", "--length", "12") == short
    wild = ("-m", names, "--seed", "Ka", "-t", "2", "-c", config[1])
    for cut in (("--top-k", "1"), ("--top-p", "1e-9")):
        assert lines(*wild, *cut) == short
        assert lines(*wild, *cut, "--match", ".*") == short[:1]
    assert lines("-h") == lines("--help")


@pytest.mark.whole
def test_a_seed_is_answered_at_once(names: Path) -> None:
    """Before the next one comes."""
    with subprocess.Popen(
        [*(sys.executable, "-m", "charlstm", "sample", "-m", str(names), "--each", "-n", "9")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seed in (b"Ka", b"", b"Mor", b"E"):
            process.stdin.write(seed + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(seed)
        process.stdin.close()
        assert process.wait() == 0


def test_stops_of_each(names: Path) -> None:
    """A line is never more than one, whatever else it stops at."""
    out = lines("--each", "-m", names, "-n", "60", "--stop", "a", "--no-echo", stdin="K\nBe\n" * 20)
    assert len(out) == 40
    assert not any("a" in line for line in out)


def test_unknown_in_a_line(names: Path) -> None:
    process = run("sample", "--each", "-m", names, stdin="Ka\nK한a\n")
    fails(process, 2, "1 line was not continued: line 2 of standard input", "'한' at position 1")
    first, second = process.stdout.decode().splitlines()
    assert first.startswith("Ka")
    assert second == "K한a"
    skipped = run("sample", "--each", "-m", names, "--unknown", "skip", stdin="Ka\nK한a\n")
    assert skipped.stdout.splitlines()[1].startswith(b"Ka")
    assert b"1 character of line 2" in skipped.stderr


def test_unique_and_novel(names: Path, tmp_path: Path) -> None:
    """No sample twice; none that is a line of the text; fewer where there are no more, and 1."""
    common = ("-m", names, "--rng-seed", "1", "-n", "30")
    found = lines(*common, "--count", "60", "--unique", "--novel", CORPORA / "names.txt")
    corpus = (CORPORA / "names.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(found)) == len(found) == 60
    assert set(found).isdisjoint(corpus)
    assert "" not in found or "" not in corpus
    (tmp_path / "all").write_text("\n".join(found), encoding="utf-8")
    others = lines(*common, "--count", "9", "--unique", "--novel", tmp_path / "all")
    assert set(others).isdisjoint(found)
    seeded = lines(*common, "--seed", "Ka", "--count", "9", "--novel", CORPORA / "names.txt")
    assert all(line.startswith("Ka") for line in seeded)
    assert set(seeded).isdisjoint(corpus)
    process = run("sample", *common, "--count", "5", "--unique", "-t", "0")
    assert process.returncode == 1
    assert b"found 1 of 5" in process.stderr
    assert process.stdout.count(b"\n") >= 1
    document = json.loads(lines(*common, "--unique", "--json")[0])
    assert document["nats"] > 0


def test_best_of_many(names: Path) -> None:
    """It has fewer nats per character than samples have on the mean."""
    common = ("-m", names, "--json", "-n", "20", "--seed", "Ka", "-t", "1", "--rng-seed", "4")
    each = [json.loads(line) for line in lines(*common, "--count", "40")]
    (best,) = [json.loads(line) for line in lines(*common, "--best-of", "40")]
    assert best["nats"] < np.mean([d["nats"] for d in each])
    assert len(lines(*common, "--best-of", "5", "--count", "3")) == 3


def test_the_beam(names: Path) -> None:
    common = ("-m", names, "--seed", "Ka", "-n", "10", "--stop", r"\n", "--json")
    one, eight = (json.loads(lines(*common, "--beam", n)[0]) for n in ("1", "8"))
    greedy = json.loads(lines(*common, "-t", "0")[0])
    assert one["text"] == greedy["text"]
    assert eight["nats"] <= one["nats"] == pytest.approx(greedy["nats"], rel=1e-4)
    plain = lines(*common[:-1], "--beam", "8", "--no-echo")
    assert plain == [eight["text"]]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--each", "--seed", "a"], ["--each", "--seed"]),
        (["--each", "--count", "2"], ["--each", "--count"]),
        (["--each", "--novel", "x"], ["--each", "--novel"]),
        (["--beam", "2", "-t", "1"], ["--beam", "--temperature"]),
        (["--beam", "2", "--best-of", "3"], ["--beam", "--best-of"]),
        (["--beam", "2", "--rng-seed", "3"], ["--beam", "--rng-seed"]),
        (["--beam", "0"], ["--beam"]),
        (["--best-of", "0"], ["--best-of"]),
        (["--novel", "-", "--seed-file", "-"], ["--novel"]),
    ],
)
def test_options_that_do_not_go_together(options: list[str], parts: list[str]) -> None:
    fails(run("sample", "-m", "a", *options), 2, *parts)


def test_a_count_from_the_configuration(names: Path) -> None:
    for option in (["--each"], ["--beam", "2"]):
        process = run("sample", "-m", names, *option, "--set", "sample.count=3", stdin="K\n")
        fails(process, 2, "sample.count")
