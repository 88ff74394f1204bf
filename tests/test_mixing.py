"""Several models as one: in Python, `evaluate --mix` and `sample --mix`."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import beam, sampler
from models import assert_close
from sampled import LETTERS, make, vocabulary
from support import STORY, fails, run, trained

import charlstm
from charlstm.errors import UsageError
from charlstm.generation.ending import Seed
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import SMALLEST, MixedStepper, Mixture
from charlstm.nn.model import Model
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import surprisals
from charlstm.scoring.mixed import MixedScorer, static_scorer
from charlstm.scoring.scorers import SEGMENT, segments
from charlstm.text.corpus import Corpus

TEXT = STORY.read_text(encoding="utf-8")[:20_000]
OTHER = STORY.read_text(encoding="utf-8")[20_000:21_500]


def models() -> list[Model]:
    """Three of different cells, depths, widths and inputs over `LETTERS`."""
    return [make(), make("gru", layers=2, scale=1.5), make("rnn", embedding=3, tie=True)]


def softmax(logits: Array) -> Array:
    y = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = y / y.sum(axis=-1, keepdims=True)
    return result


def slow_mean(members: list[Model], ids: Array) -> Array:
    """After each of ids (N,) the mean of the members' probabilities (N, V), model by model."""
    rows = []
    for model in members:
        stepper = Stepper(model, 1)
        rows.append([softmax(stepper.step([i])[0]) for i in ids.tolist()])
    mean: Array = np.mean(rows, axis=0)
    return mean


# --- the mathematics ---------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("sharpness", [1.0, 0.4, 3.0])
def test_logits_are_of_the_mean(K: int, sharpness: float) -> None:
    members, ids = models(), np.random.default_rng(1).integers(0, len(LETTERS), 20)
    stepper = MixedStepper(Mixture(members), K, sharpness=sharpness)
    for i, expected in zip(ids.tolist(), slow_mean(members, ids), strict=True):
        assert_close(stepper.step([i] * K), np.tile(np.log(expected) * sharpness, (K, 1)))
    assert np.abs(stepper.logits).max() <= sharpness * Mixture(members).highest_logit


def test_reading_beginning_and_taking_over() -> None:
    """A state goes on from what was read, in one stream or in many, and from a state that is
    given."""
    mixture, ids = Mixture(models()), np.array([3, 4, 5, -1, 2])
    single = MixedStepper(mixture, 1)
    single.read(ids)
    expected = np.log(slow_mean(mixture.models, ids)[-1:])
    assert_close(single.logits, expected)
    wide = MixedStepper(mixture, 2)
    wide.step([1, 2])
    wide.begin(1, single.carried)
    wide.take_over(wide, np.array([1, 1]))
    again = MixedStepper(mixture, 1, single.state)
    assert_close(again.logits, expected)
    assert_close(wide.step([6, 6]), np.tile(single.step([6]), (2, 1)))
    assert_close(again.step([6]), single.logits)


def test_a_unit_is_removed_after_averaging() -> None:
    members = models()
    stepper = MixedStepper(Mixture(members).without(3), 1)
    p = slow_mean(members, np.array([2]))
    p[:, 3] = 0.0
    assert_close(softmax(stepper.step([2])), p / p.sum())


def test_probabilities_that_vanish() -> None:
    """Where all models give a unit less than float64 can hold, the logarithm is finite."""
    members = [make(scale=1000.0), make("gru", scale=1000.0)]
    assert max(model.highest_logit for model in members) > 1000
    stepper = MixedStepper(Mixture(members), 1)
    for i in range(len(LETTERS)):
        expected = np.maximum(slow_mean(members, np.arange(i + 1))[-1:], SMALLEST)
        assert_close(stepper.step([i]), np.log(expected), 1e-9)


def test_nats_are_of_the_mean() -> None:
    members, ids = models(), np.random.default_rng(2).integers(0, len(LETTERS), 1500)
    places = np.arange(len(ids) - 1)
    expected = -np.log(slow_mean(members, ids[:-1])[places, ids[1:]])
    scorer = static_scorer(Mixture(members))
    assert_close(surprisals(scorer, ids), expected)
    assert_close(np.concatenate([n for _, n in scorer.stream(np.array_split(ids, 70))]), expected)
    texts = [ids[:700], ids[:1], ids[:65]]
    for ids_of_text, nats in zip(texts, scorer.lines(texts), strict=True):
        assert_close(nats, expected[: len(ids_of_text) - 1])


class Counting:
    """A scorer that learns: the share of each unit among those of earlier segments, or lines, and
    `prior` of each."""

    def __init__(self, prior: float) -> None:
        self.counts = np.full(len(LETTERS), prior)

    def stream(self, blocks: Iterable[Array], learn: bool = True) -> Iterator[tuple[Array, Array]]:
        for ids in segments(blocks):
            nats = -np.log(self.counts / self.counts.sum())[ids[1:]]
            if learn:
                self.counts += np.bincount(ids[1:], minlength=len(LETTERS))
            yield ids[1:], nats

    def lines(self, ids: Sequence[Array]) -> Iterator[Array]:
        for of_line in ids:
            for _, nats in self.stream([of_line]):
                yield nats


def test_scorers_that_learn() -> None:
    """Each learns by itself from the whole text, only when it is asked for the next part, and
    however many blocks the text comes in."""
    ids = np.random.default_rng(3).integers(0, 3, 3 * SEGMENT + 100)
    alone = [surprisals(Counting(prior), ids) for prior in (1.0, 50.0)]
    expected = -np.log(np.mean([np.exp(-nats) for nats in alone], axis=0))
    members = [Counting(1.0), Counting(50.0)]
    blocks = iter(np.array_split(ids, 40))
    scored = MixedScorer(members).stream(blocks)
    _, first = next(scored)
    assert_close(first, expected[:SEGMENT])
    assert len(list(blocks)) > 20  # no more was read than is scored
    assert_close(surprisals(MixedScorer([Counting(1.0), Counting(50.0)]), ids), expected)
    lines = MixedScorer(members := [Counting(1.0), Counting(50.0)]).lines([ids[:90], ids[90:99]])
    nats = next(lines)
    assert [scorer.counts.sum() for scorer in members] == [89 + 7, 89 + 350]
    assert nats == pytest.approx(np.full(89, np.log(len(LETTERS))))
    assert len(next(lines)) == 8


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}])
def test_what_is_drawn(options: dict[str, Any]) -> None:
    """Pairs of units are drawn as often as the mean says, temperature and cuts acting on it."""
    members, v, N = models(), vocabulary(), 4000
    completions = sampler(Mixture(members), v, 5, length=2, **{"temperature": 1.0, **options})(
        [Seed(v.encode("ab"), "ab")] * N
    )
    drawn = [completion.text for completion in completions]

    def distribution(text: str) -> Array:
        p = slow_mean(members, v.encode(text))[-1] ** (1.0 / options.get("temperature", 1.0))
        order = np.argsort(-p)
        before = np.cumsum(p[order]) - p[order]
        cut = before >= options.get("top_p", 2.0) * p.sum()
        p[order[cut]] = 0.0
        p[order[options.get("top_k", len(p)) :]] = 0.0
        result: Array = p / p.sum()
        return result

    first = distribution("ab")
    for a, b in itertools.product(range(len(LETTERS)), repeat=2):
        p = first[a] * distribution("ab" + LETTERS[a])[b]
        share = drawn.count(LETTERS[a] + LETTERS[b]) / N
        assert abs(share - p) <= 4.5 * math.sqrt(p * (1 - p) / N) + 1e-12


def test_the_beam_finds_the_most_probable() -> None:
    members, v = models(), vocabulary()
    mixture = Mixture(members)
    texts = ["".join(letters) for letters in itertools.product(LETTERS, repeat=3)]
    costs = {t: surprisals(static_scorer(mixture), v.encode("ab" + t))[1:].sum() for t in texts}
    found = beam(mixture, v, Seed(v.encode("ab"), "ab"), len(v) ** 3, length=3)
    assert found.text == min(costs, key=costs.__getitem__)
    assert found.nats == pytest.approx(costs[found.text], rel=1e-9)


# --- trained models ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of one text, of different cells and widths."""
    folder = tmp_path_factory.mktemp("pair")
    other = {"model.cell": "gru", "model.hidden": 24, "model.embedding": 9, "train.rng_seed": 2}
    return [trained(folder / "a.npz", TEXT, 150), trained(folder / "b.npz", TEXT, 150, **other)]


@pytest.fixture(scope="module")
def mixture(pair: list[Path]) -> charlstm.LanguageModel:
    return charlstm.mix([charlstm.load(path) for path in pair])


@pytest.fixture(scope="module")
def mixed(pair: list[Path]) -> tuple[str | Path, ...]:
    return ("-m", pair[0], "-m", pair[1], "--mix")


def out(*arguments: str | Path, stdin: str = "") -> str:
    process = run(*arguments, stdin=stdin)
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    return process.stdout.decode()


def test_better_than_either(pair: list[Path], mixture: charlstm.LanguageModel) -> None:
    alone = [charlstm.load(path).evaluate(OTHER).nats_per_char for path in pair]
    assert mixture.evaluate(OTHER).nats_per_char < min(alone)


def test_with_a_copy_of_itself(pair: list[Path], tmp_path: Path) -> None:
    """It is the model: scores to the bit, samples to the letter."""
    copy = shutil.copy(pair[0], tmp_path / "copy.npz")
    alone, twice = ("-m", pair[0]), ("-m", pair[0], "-m", copy, "--mix")
    for options in ([], ["--json"], ["--chars"], ["--lines"], ["--lines", "--json"]):
        command = ("evaluate", *options)
        assert out(*command, *twice, stdin=OTHER) == out(*command, *alone, stdin=OTHER)
    for options in (["-n", "300"], ["-t", "0"], ["--count", "9"]):
        command = ("sample", "--seed", "The ", "--rng-seed", "3", *options)
        assert out(*command, *twice) == out(*command, *alone)
    command = ("sample", "--seed", "The ", "--beam", "3", "-n", "20")
    assert out(*command, *twice) == out(*command, *alone)


def test_the_order_does_not_matter(pair: list[Path], mixture: charlstm.LanguageModel) -> None:
    other = charlstm.mix([charlstm.load(path) for path in reversed(pair)])
    assert_close(other.surprisals(OTHER), mixture.surprisals(OTHER))
    lines = OTHER.split("\n")
    for one, two in zip(other.evaluate_lines(lines), mixture.evaluate_lines(lines), strict=True):
        assert one.nats == pytest.approx(two.nats, rel=1e-12)
    texts = [model.sample("The ", length=200, rng_seed=1) for model in (other, mixture)]
    assert "".join(texts[0]) == "".join(texts[1])


def test_evaluate(pair: list[Path], mixed: tuple[str | Path, ...], tmp_path: Path) -> None:
    """In every way of asking, by the mean of what the models say each by itself. Some characters
    are outside: they keep their price."""
    text = OTHER[:700] + "뷁 Ω\n" + OTHER[700:]
    members = [charlstm.load(path) for path in pair]
    each = [model.surprisals(text) for model in members]
    nats = -np.log(np.mean([np.exp(-n) for n in each], axis=0))
    document = json.loads(out("evaluate", *mixed, "--json", stdin=text))
    assert document["nats"] == pytest.approx(nats.sum(), rel=1e-6)
    assert document["unknown"] == 2
    rows = out("evaluate", *mixed, "--chars", stdin=text).splitlines()
    bits = [float(row.split("\t")[1]) for row in rows]
    np.testing.assert_allclose(bits, nats / math.log(2), atol=1e-4)
    assert f"{math.log2(1_112_064):.4f}" in {row.split("\t")[1] for row in rows}
    assert "\x1b[" in out("evaluate", *mixed, "--chars", "--color", stdin=text)
    lines = text.removesuffix("\n").split("\n")
    of_lines = [charlstm.mix(members).evaluate(f"\n{line}\n").bits_per_char for line in lines]
    shown = out("evaluate", *mixed, "--lines", stdin=text).splitlines()
    np.testing.assert_allclose([float(r.split("\t")[0]) for r in shown], of_lines, atol=2e-4)
    objects = out("evaluate", *mixed, "--lines", "--json", stdin=text).splitlines()
    assert [json.loads(row)["line"] for row in objects] == lines
    chars = out("evaluate", *mixed, "--lines", "--chars", stdin=text).splitlines()
    assert len(chars) == sum(len(line) + 1 for line in lines)
    middle = sorted(of_lines)[(len(lines) - 1) // 2] + 0.001
    above = out("evaluate", *mixed, "--above", str(middle), stdin=text)
    below = out("evaluate", *mixed, "--below", str(middle), stdin=text)
    expected = [line for line, b in zip(lines, of_lines, strict=True) if b > middle]
    assert above.splitlines() == expected
    assert sorted((above + below).splitlines()) == sorted(lines)
    (tmp_path / "reference").write_text(text)
    reference = ("--quantile", "0.5", "--reference", tmp_path / "reference")
    process = run("evaluate", *mixed, *reference, stdin=text)
    assert process.stdout.decode().splitlines() == expected


def test_models_that_adapt(pair: list[Path], mixed: tuple[str | Path, ...]) -> None:
    """Each by itself, from what it has scored; whole texts, and from line to line."""
    text = OTHER * 2
    lines = text.removesuffix("\n").split("\n")
    each = [charlstm.load(path).adapting().surprisals(text) for path in pair]
    expected = -np.log(np.mean([np.exp(-nats) for nats in each], axis=0)).sum()
    document = json.loads(out("evaluate", *mixed, "--adapt", "--json", stdin=text))
    assert document["nats"] == pytest.approx(expected, rel=1e-9)
    assert document["nats"] < json.loads(out("evaluate", *mixed, "--json", stdin=text))["nats"]
    members = [charlstm.load(path).adapting() for path in pair]
    mixture = charlstm.mix(members)
    bits = [score.bits_per_char for score in mixture.evaluate_lines(lines)]
    shown = out("evaluate", *mixed, "--adapt", "--lines", stdin=text).splitlines()
    np.testing.assert_allclose([float(r.split("\t")[0]) for r in shown], bits, atol=1e-4)
    drawn = charlstm.mix([charlstm.load(path) for path in pair]).sample("The ", rng_seed=1)
    assert "".join(mixture.sample("The ", rng_seed=1)) != "".join(drawn)
    fails(run("evaluate", *mixed, "--adapt", "--save", "x.npz", stdin=text), 2, "--save", "--mix")
    with pytest.raises(UsageError, match="mix models that do"):
        mixture.adapting()


WAYS: list[tuple[str, ...]] = [
    *(("--count", "5"), ("-t", "0"), ("--top-k", "4", "-t", "2"), ("--top-p", "0.6")),
    *(("--best-of", "4", "--count", "2"), ("--unique", "--count", "4"), ("--stop", "e")),
    *(("--beam", "4"), ("--beam", "3", "--match", "[a-z]{4,9}"), ("--match", "[a-z ]{9,20}")),
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
@pytest.mark.parametrize("seed", ["", "The lamp"])
def test_nats_are_what_evaluate_says(
    way: tuple[str, ...], seed: str, mixed: tuple[str | Path, ...], mixture: charlstm.LanguageModel
) -> None:
    drawn = () if "--beam" in way else ("--rng-seed", "4")
    asked = ("sample", *mixed, "--seed", seed, "-n", "30", *drawn, *way)
    rows = [json.loads(row) for row in out(*asked, "--json").splitlines()]
    before = seed or "\n"
    for row in rows:
        whole = mixture.evaluate(before + row["text"]).nats
        expected = whole - (mixture.evaluate(before).nats if len(before) > 1 else 0.0)
        assert row["nats"] == pytest.approx(expected, abs=1e-3)
    assert len({row["text"] for row in rows}) == len(rows)
    texts = [seed + row["text"] for row in rows]
    assert out(*asked) == "\n".join(texts) + "\n"


def test_sample_k_is_the_same_in_every_way(
    mixed: tuple[str | Path, ...], mixture: charlstm.LanguageModel
) -> None:
    asked = ("sample", *mixed, "-n", "30", "--rng-seed", "7", "--no-echo")
    separated = (*asked, "--seed", "and the", "--separator", r"\0", "--count", "5")
    many = out(*separated).removesuffix("\0").split("\0")
    assert len(set(many)) == 5
    assert out(*asked, "--seed", "and the") == many[0] + "\n"
    assert out(*separated, "--unique").removesuffix("\0").split("\0") == many
    each = out(*asked, "--each", "--json", stdin="and the\nand the\n").splitlines()
    assert [json.loads(row)["text"] for row in each] == [text.split("\n")[0] for text in many[:2]]
    assert "".join(mixture.sample("and the", length=30, rng_seed=7)) == many[0]
    assert next(iter(mixture.complete(["and the"], length=30, rng_seed=7))) == many[0]


def test_novel_and_interactive(mixed: tuple[str | Path, ...], tmp_path: Path) -> None:
    (tmp_path / "known").write_text(TEXT)
    asked = ("sample", *mixed, "--rng-seed", "1")
    novel = ("--novel", tmp_path / "known", "--count", "3", "-n", "300")
    assert len(out(*asked, *novel).splitlines()) == 3
    dialogue = run(*asked, "--interactive", "-n", "9", stdin="The \n2\n:t 0\n\n").stdout.decode()
    assert len(dialogue.splitlines()) == 9
    assert len({row[3:] for row in dialogue.splitlines()[-3:]}) == 1  # at temperature 0


def test_one_of_them_from_standard_input(pair: list[Path]) -> None:
    data = pair[1].read_bytes()
    piped = ("-m", pair[0], "-m", "-", "--mix", "-n", "50", "--rng-seed", "1")
    process = run("sample", *piped, stdin=data)
    named = out("sample", "-m", pair[0], "-m", pair[1], *piped[4:])
    assert process.stdout.decode() == named
    fails(run("sample", *piped, "--each", stdin=data), 2, "standard input")
    fails(run("sample", *piped, "--seed-file", "-", stdin=data), 2, "standard input")


def test_words_and_settings_of_the_first(tmp_path: Path) -> None:
    """With an entry for unknown words, which is never drawn, and a price of its own."""
    keys = {"text.unit": "word", "text.min_count": 3}
    first = trained(tmp_path / "a.npz", TEXT, 80, **keys, **{"sample.length": 7})
    second = trained(tmp_path / "b.npz", TEXT, 80, **keys, **{"train.rng_seed": 3})
    a, b = charlstm.load(first), charlstm.load(second)
    mixture = charlstm.mix([a, b])
    expected = -np.log(np.mean([np.exp(-m.surprisals(OTHER)) for m in (a, b)], axis=0))
    assert mixture.evaluate(OTHER).nats == pytest.approx(expected.sum(), rel=1e-6)
    row = json.loads(out("sample", "-m", first, "-m", second, "--mix", "--json", "-t", "1"))
    assert len(mixture.vocabulary.encode(row["text"])) == 7
    assert "<unk>" not in row["text"]


# --- what cannot be mixed ----------------------------------------------------------------------


def test_what_is_refused(pair: list[Path], tmp_path: Path) -> None:
    units = trained(tmp_path / "u.npz", TEXT, 5, **{"text.unit": "byte"})
    fewer = trained(tmp_path / "f.npz", TEXT, 5, **{"text.min_count": 9})
    form = trained(tmp_path / "n.npz", TEXT, 5, **{"text.normalize": "nfc"})
    a, b = pair
    for command in ("evaluate", "sample"):
        for other, why in ((units, "bytes"), (fewer, "vocabularies"), (form, "nfc")):
            message = fails(run(command, "-m", a, "-m", other, "--mix", stdin="a"), 2, why)
            assert str(other) in message
        fails(run(command, "-m", a, "-m", a, "--mix", stdin="a"), 2, "twice")
        fails(run(command, "-m", a, "--mix", stdin="a"), 2, "--mix", "two")
        fails(run(command, "--mix", stdin="a"), 2, "--mix", "two")
        fails(run(command, "-m", a, "-m", tmp_path / "no", "--mix", stdin="a"), 2, "no")
    fails(run("sample", "-m", a, "-m", b), 2, "--mix")
    fails(run("evaluate", "-m", a, "-m", b, stdin="a"), 2, "--mix")
    fails(run("evaluate", "-m", a, "-m", b, "--chars", stdin="a"), 2, "--mix")


def test_python_refuses(pair: list[Path], mixture: charlstm.LanguageModel) -> None:
    one = charlstm.load(pair[0])
    for members in ([], [one]):
        with pytest.raises(UsageError, match="two models"):
            charlstm.mix(members)
    with pytest.raises(UsageError, match="model 2 is a mixture"):
        charlstm.mix([one, mixture])
    with pytest.raises(UsageError, match="gradient flow"):
        charlstm.gradient_flow(mixture, OTHER)


def test_encodings_of_their_own(pair: list[Path], tmp_path: Path) -> None:
    """Files are read in the first model's; that is said where a file is read."""
    v = Corpus.from_text(TEXT, 0.0).vocabulary
    (tmp_path / "latin").write_text(TEXT, encoding="utf-16")
    other = tmp_path / "o.npz"
    keys = {"text.encoding": "utf-16", "train.steps": 5, "model.hidden": 8}
    for _ in charlstm.train(tmp_path / "latin", other, settings=keys):
        pass
    assert charlstm.load(other).vocabulary.has_units_of(v)
    (tmp_path / "text").write_text(OTHER)
    both = ("-m", pair[0], "-m", other, "--mix")
    process = run("evaluate", *both, tmp_path / "text")
    assert process.returncode == 0
    assert f"reading in the encoding of {pair[0]}" in process.stderr.decode()
    assert out("evaluate", *both, stdin=OTHER) == process.stdout.decode()
