"""What is generated under an expression matches it, and nothing else is kept from the model."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generating import beam, sampler
from hypothesis import given, settings
from hypothesis import strategies as st
from support import CORPORA, POLYGLOT, every_unit, fails, random_model, run, trained

from charlstm.errors import UsageError
from charlstm.generation.ending import Seed
from charlstm.generation.matcher import NEVER, OUT_OF_REACH, Matcher
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import surprisals
from charlstm.scoring.scorers import StaticScorer
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

CHARACTERS = Corpus.from_text("ab1 _-가é\n" * 9, 0.0).vocabulary
BYTES = Corpus.from_text("ab1\n" * 9, 0.0, unit="byte").vocabulary
WORDS = Corpus.from_text("a ab b1 가 - 1\n" * 9, 0.0, unit="word").vocabulary


@cache
def matcher_of(unit: str, expression: str) -> Matcher:
    """An expression over the vocabulary of `random_model`."""
    return Matcher(expression, random_model(unit)[1])


def matches(matcher: Matcher, v: Vocabulary, text: str, before: str = "") -> bool:
    """Whether a text is one of the automaton's."""
    state = 2 if matcher.words and before else 1
    for i in v.encode(text).tolist():
        state = int(matcher.table[state, i])
    return bool(matcher.accepting[state])


def expressions() -> st.SearchStrategy[str]:
    """Expressions of all that is understood."""
    one = [*"ab1가", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[ab]", "[^a1]", r"[\w-]"]
    one += [r"[^\s가-힣]", "[a-é]", "[]a]", r"\x61", r"\uac00", r"\-", " "]
    one += ["🚢", r"[߿-\uffff]", "[^🚢]", r"[é\U00010000-\U0010ffff]"]
    few = st.integers(0, 2)
    return st.recursive(
        st.sampled_from(one),
        lambda part: st.one_of(
            st.builds(lambda p, q: f"(?:{p}){q}", part, st.sampled_from(["*", "+", "?", "{2}"])),
            st.builds(
                lambda p, m, n: f"({p}){{{m},{m + n}}}", part, st.integers(0, 2), st.integers(0, 2)
            ),
            st.builds(lambda p, m: f"({p}){{{m},}}", part, few),
            st.builds(lambda p, q: f"({p}|{q})", part, part),
            st.builds(lambda p, q: f"({p}|)", part, part),
            st.builds(lambda p, q: f"{p}{q}", part, part),
        ),
        max_leaves=5,
    )


@settings(max_examples=250, deadline=None)
@given(expressions(), st.data())
def test_the_same_as_re(expression: str, data: st.DataObject) -> None:
    """An automaton over characters or words accepts what Python's `re` matches as a whole."""
    matcher, of_words = Matcher(expression, CHARACTERS), Matcher(expression, WORDS)
    expected = re.compile(expression)
    for text in data.draw(st.lists(st.text("ab1 _-가é", max_size=6), max_size=20)):
        assert matches(matcher, CHARACTERS, text) == bool(expected.fullmatch(text)), text
    for words in data.draw(st.lists(st.lists(st.sampled_from(WORDS.units[2:]), max_size=4))):
        text = " ".join(words)
        assert matches(of_words, WORDS, text) == bool(expected.fullmatch(text)), text
        if words:
            after = bool(expected.fullmatch(" " + text))
            assert matches(of_words, WORDS, text, before="a") == after, text


@settings(max_examples=25, deadline=None)
@given(expressions(), st.lists(st.text("ab1 _-가é🚢", max_size=6), max_size=20))
def test_the_same_as_re_of_bytes(expression: str, texts: list[str]) -> None:
    """So does one over bytes."""
    matcher = Matcher(expression, BYTES)
    for text in texts:
        assert matches(matcher, BYTES, text) == bool(re.fullmatch(expression, text)), text


EDGES = [0x00, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
"""Where the UTF-8 of characters becomes longer, or surrogates begin or end."""


@pytest.mark.parametrize(
    "expression",
    [
        "[a-é]",
        r"\w",
        r"\W",
        ".",
        r"[^\u0700-\ud000]",
        r"[\u0800-\U00010000]",
        "[\x7f\x80🚢]",
        r"\s",
    ],
)
def test_bytes_of_characters(expression: str) -> None:
    """All of them that match, and nothing that is no UTF-8, too long, or a surrogate."""
    matcher = Matcher(expression, BYTES)

    def accepts(data: bytes) -> bool:
        state = 1
        for byte in data:
            state = int(matcher.table[state, byte])
        return bool(matcher.accepting[state])

    rng = np.random.default_rng(0)
    points = {*EDGES, *range(0x250), *rng.integers(0, 0x110000, 300).tolist()} - {10, 13}
    for c in map(chr, points - set(range(0xD800, 0xE000))):
        assert accepts(c.encode()) == bool(re.fullmatch(expression, c)), hex(ord(c))
        assert not accepts(c.encode() + b"\x80")
        assert not any(accepts(c.encode()[:n]) for n in range(1, len(c.encode())))
    for data in (b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf"):
        assert not accepts(data)
    for data in (b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xff", b"", b"\n"):
        assert not accepts(data)


@pytest.mark.parametrize(
    "expression",
    ["", "a", "a?b+", "(ab|1){2,3}", "[^a]*1", "a{3}|b", r"\w\s\w", "x|ab", "(a*)*", "x"],
)
def test_distance(expression: str) -> None:
    """The fewest characters to a match, by trying all texts."""
    matcher = Matcher(expression, CHARACTERS)
    letters = "ab1 "
    least = NEVER
    for n in range(5):
        texts = map("".join, itertools.product(letters, repeat=n))
        if any(re.fullmatch(expression, text) for text in texts):
            least = n
            break
    assert matcher.distance[1] == least
    assert matcher.distance[0] == NEVER


def test_line_ends_and_unknown_units_are_no_part_of_a_match() -> None:
    _, v = random_model(text={"min_count": 6})
    matcher = Matcher(r"(.|\s|<unk>)*", v)
    assert v.line_end is not None
    for i in (v.line_end, v.unknown):
        assert not matcher.table[:, i].any()


@pytest.mark.parametrize(
    "expression",
    [r"[a-z]+", r"\w{3} \w{2,9}", r"(the|a) (sea|boat)( out)*", r".{0,4}", r"[가-힣 ]+"],
)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"temperature": 9.0}, {"top_k": 2}])
@every_unit
def test_all_that_is_generated_matches(unit: str, expression: str, options: dict[str, Any]) -> None:
    """At any temperature and length that is enough, in every unit, with its own surprise."""
    model, v = random_model(unit)
    matcher = matcher_of(unit, f" ?({expression})" if unit == "word" else expression)
    seeds = ["the sea", "", "went out "] * 9
    for length in (9, 30):
        if matcher.distance[1] > length or (unit == "word" and matcher.distance[1] >= NEVER):
            continue
        complete = sampler(model, v, 3, length=length, match=matcher, nats=True, **options)
        found = list(complete([Seed(v.encode(seed), seed) for seed in seeds]))
        for seed, completion in zip(seeds, found, strict=True):
            assert re.fullmatch(matcher.expression, completion.text), completion
            assert completion.stop == "match"
            assert completion.units <= length
            if unit != "word":
                ended = completion.units > len(v.encode(completion.text))
                whole = (seed or "\n") + completion.text + "\n" * ended
                nats = surprisals(StaticScorer(model), v.encode(whole))[
                    len(v.encode(seed or "\n")) - 1 :
                ].sum()
                assert completion.drawn_nats == pytest.approx(nats, rel=1e-9, abs=1e-9)
                shown = v.encode((seed or "\n") + completion.text)
                nats = surprisals(StaticScorer(model), shown)[
                    len(v.encode(seed or "\n")) - 1 :
                ].sum()
                assert completion.nats == pytest.approx(nats, rel=1e-9, abs=1e-9)


def test_what_is_allowed_keeps_its_proportions() -> None:
    """The first unit is drawn from the model's distribution over those that can lead to a match."""
    model, v = random_model()
    n = 6000
    complete = sampler(model, v, 3, length=3, temperature=1.0, match=Matcher("[a-m]x?|[n-z]bc", v))
    texts = [c.text for c in complete([Seed(v.encode("the "), "the ")] * n)]
    stepper = Stepper(model, 1)
    stepper.read(v.encode("the "))
    p = np.exp(stepper.logits[0]) * np.array(
        [bool(re.fullmatch("[a-m]|[n-z]", u)) for u in v.units]
    )
    expected = n * p / p.sum()
    observed = np.array([sum(t[0] == u for t in texts) for u in v.units])
    some = expected > 0
    assert observed[~some].sum() == 0
    chi = np.sum((observed[some] - expected[some]) ** 2 / expected[some])
    assert chi < 40 + some.sum()


def test_what_matches_belongs_to_the_seed() -> None:
    """Also where most have ended, and the rest go on in fewer streams."""
    model, v = random_model()
    match = Matcher("[a-m]{1,3}|[n-z ]+", v)
    complete = sampler(model, v, 5, length=70, match=match, nats=True)
    seeds = [Seed(v.encode(text), text) for text in ["the sea", "", "a", "the"] * 30]
    together = list(complete(seeds))
    assert len({c.units for c in together}) > 9
    assert len(complete.idle) > 2
    for n, seed in enumerate(seeds):
        (one,) = complete([seed], n)
        assert one[:2] == together[n][:2]
        assert one.nats == pytest.approx(together[n].nats, rel=1e-9)
    assert [c[:2] for c in complete(seeds)] == [c[:2] for c in together]


def small(seed: int = 7) -> tuple[Model, Vocabulary]:
    """A model of four units whose texts can all be written down."""
    v = Corpus.from_text("ab\nba a\n" * 9, 0.0).vocabulary
    model = Model(Shape("lstm", len(v), 6), np.float64)
    model.weights.flat[...] = np.random.default_rng(seed).normal(0, 1, model.weights.flat.shape)
    return model, v


SMALL = ["[ab]{2}", "a+b?| b*", "(ab)* ?", ".*", "a|ab|b(a| )b", r"\w{1,3}"]


@pytest.mark.parametrize("expression", SMALL)
def test_the_distribution_of_whole_samples(expression: str) -> None:
    """Chi-square against all texts, each with the product of its steps: what may not come is left
    out, and the rest makes the whole."""
    model, v = small()
    length, n = 4, 6000
    expected: dict[str, float] = {}
    can_match = [
        "".join(units)
        for m in range(length + 1)
        for units in itertools.product("ab ", repeat=m)
        if re.fullmatch(expression, "".join(units))
    ]

    def go_on(text: str, p: float) -> None:
        """All that a text can become; the line end, which is one unit, ends it."""
        following = {t[len(text)] for t in can_match if t.startswith(text) and t != text}
        if text in can_match and len(text) < length:
            following |= {"\n"}
        if not following or following == {"\n"}:
            expected[text] = expected.get(text, 0.0) + p
            return
        stepper = Stepper(model, 1)
        stepper.read(v.encode("b" + text))
        q = {u: float(np.exp(stepper.logits[0, v.units.index(u)])) for u in following}
        for unit, share in q.items():
            share *= p / sum(q.values())
            if unit == "\n":
                expected[text] = expected.get(text, 0.0) + share
            else:
                go_on(text + unit, share)

    go_on("", 1.0)
    assert sum(expected.values()) == pytest.approx(1.0)
    complete = sampler(model, v, 11, length=length, temperature=1.0, match=Matcher(expression, v))
    texts = [c.text for c in complete([Seed(v.encode("b"), "b")] * n)]
    assert set(texts) <= set(expected)
    chi, rare, degrees = 0.0, [0.0, 0.0], -1
    for text, p in expected.items():
        if n * p < 5:
            rare = [rare[0] + n * p, rare[1] + texts.count(text)]
        else:
            chi += (texts.count(text) - n * p) ** 2 / (n * p)
            degrees += 1
    if rare[0] > 0:
        chi += (rare[1] - rare[0]) ** 2 / max(rare[0], 1.0)
        degrees += 1
    # exceeded about once in ten thousand (E. Wilson, M. Hilferty, 1931)
    d = max(degrees, 1)
    assert chi < d * (1 - 2 / (9 * d) + 3.72 * math.sqrt(2 / (9 * d))) ** 3


@pytest.mark.parametrize("expression", SMALL)
@pytest.mark.parametrize("seed", [7, 8])
def test_a_wide_beam_finds_the_best_match(expression: str, seed: int) -> None:
    """With room for all, the most probable of the texts that match, each with its line end unless
    it is as long as it may be."""
    model, v = small(seed)
    length, costs = 4, {}
    begin = Seed(v.encode("b"), "b")
    all_texts = ["".join(t) for n in range(length + 1) for t in itertools.product("ab ", repeat=n)]
    can_match = [t for t in all_texts if re.fullmatch(expression, t)]
    for text in can_match:
        line_end = "\n" * (len(text) < length)
        costs[text] = surprisals(StaticScorer(model), v.encode("b" + text + line_end)).sum()
    best = min(costs, key=lambda t: costs[t])
    match = Matcher(expression, v)
    found = beam(model, v, begin, len(v) ** 3, length=length, match=match)
    assert (found.text, found.stop) == (best, "match")
    assert found.drawn_nats == pytest.approx(costs[best], rel=1e-9)
    narrow = beam(model, v, begin, 1, length=length, match=match)
    assert re.fullmatch(expression, narrow.text)
    assert narrow.drawn_nats >= found.drawn_nats - 1e-9


@pytest.mark.parametrize(
    ("expression", "text"), [("a{3}", "aaa"), ("", ""), ("b|bc{2}", None), ("a?b", None)]
)
def test_without_line_ends(expression: str, text: str | None) -> None:
    """A text ends where nothing can follow, and else when it is as long as it may be."""
    v = Corpus.from_text("abc" * 20, 0.0).vocabulary
    model = Model(Shape("gru", 3, 5), np.float64)
    model.initialise(np.random.default_rng(0))
    complete = sampler(model, v, 0, length=9, match=Matcher(expression, v))
    for seed in ("", "ab"):
        found = [c.text for c in complete([Seed(v.encode(seed), seed)] * 5)]
        assert all(re.fullmatch(expression, t) for t in found)
        assert text is None or found == [text] * 5


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("(?=a)", ["(?=", "not supported", "position 0"]),
        ("a(?P<n>b)", ["(?P", "position 1"]),
        (r"(a)\1", [r"\1", "not supported"]),
        (r"\bword", [r"\b", "not supported"]),
        ("^a", ["'^'", "anyway"]),
        ("a$", ["'$'", "anyway"]),
        ("a*?", ["'?'", "not supported"]),
        ("a++", ["'+'", "not supported"]),
        ("*a", ["'*'", "position 0"]),
        ("(a", ["parenthesis", "position 0"]),
        ("a)", ["parenthesis", "position 1"]),
        ("[a", ["bracket"]),
        ("[z-a]", ["range"]),
        (r"[\d-z]", ["range"]),
        ("a{2", ["{m}"]),
        ("a{x}", ["{m}"]),
        ("a{3,2}", ["order"]),
        ("a{99999999}", ["repetitions"]),
        ("((a{99}){99}){99}", ["too large"]),
        (r"\xg1", ["hexadecimal"]),
        ("a\\", ["not supported"]),
    ],
)
def test_what_is_not_understood(expression: str, parts: list[str]) -> None:
    """It is named, with its place."""
    with pytest.raises(UsageError) as e:
        Matcher(expression, CHARACTERS)
    for part in ["--match", *parts]:
        assert part in str(e.value)


def test_what_cannot_be_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before anything is drawn."""
    model, v = random_model()
    for expression, part in (("ü+", "no text that matches"), ("a{9}", "at least 9 characters")):
        complete = sampler(model, v, 0, length=8, match=Matcher(expression, v))
        with pytest.raises(UsageError, match=part):
            next(complete([Seed(v.encode("a"), "a")]))
    with pytest.raises(UsageError, match="no text that matches"):
        Matcher("a\nb", v).start("", 9)
    of_bytes = random_model("byte")[1]
    with pytest.raises(UsageError, match="at least 12 bytes"):
        Matcher("🚢{3}", of_bytes).start("", 9)
    for home in ("nfa", "matcher"):
        monkeypatch.setattr(f"charlstm.generation.{home}.MAX_STATES", 300)
    with pytest.raises(UsageError, match="too large"):
        Matcher(r"\w{3}", of_bytes)


def test_on_the_command_line(tmp_path: Path) -> None:
    corpus = (CORPORA / "names.txt").read_text(encoding="utf-8")
    model = trained(tmp_path / "m.npz", corpus, 150)
    match = ("sample", "-m", model, "--match", r"[A-M][a-z]{2,6}(an|el)", "--rng-seed", "1")
    out = run(*match, "--count", "20", "--unique").stdout.decode().splitlines()
    assert len(set(out)) == 20
    assert all(re.fullmatch("[A-M][a-z]{2,6}(an|el)", line) for line in out)
    each = ("sample", "-m", model, "--match", "r?[aeiou]+n", "--each", "--json")
    for line in run(*each, stdin="Ka\nMo\n").stdout.decode().splitlines():
        document = json.loads(line)
        assert re.fullmatch("r?[aeiou]+n", document["text"])
        assert document["stop"] == "match"
    for line in run(*each, "--beam", "3", stdin="Ka\nMo\n").stdout.decode().splitlines():
        assert re.fullmatch("r?[aeiou]+n", json.loads(line)["text"])
    best = run(*match, "--best-of", "5", "--no-echo", "--seed", "Ka")
    assert re.fullmatch("[A-M][a-z]{2,6}(an|el)\n", best.stdout.decode())
    for options, part in (
        (["--match", "(?=a)"], "not supported"),
        (["--match", "ü"], "no text that matches"),
        (["--match", "a", "--stop", "b"], "--stop"),
    ):
        process = run("sample", "-m", model, *options)
        fails(process, 2, part)
        assert process.stdout == b""


@every_unit
def test_many_scripts_on_the_command_line(unit: str, tmp_path: Path) -> None:
    """Hangul, emoji and Hebrew, in the expression and in the seeds, from a file and from a pipe."""
    sets = {"text.unit": unit, "text.valid": 0.0}
    model = trained(tmp_path / "m.npz", POLYGLOT, 40, **sets)
    (tmp_path / "seed").write_text("은여울 나루에 ", encoding="utf-8")
    expression = "(배가|שלום|🚢)( (🚢|עולם|나루에)){1,3}"
    common = ("sample", "-m", model, "--match", expression, "--no-echo")
    for seed in (["--seed", "שלום עולם "], ["--seed-file", tmp_path / "seed"]):
        for how in (["--count", "9"], ["--beam", "2"]):
            process = run(*common, *seed, *how)
            assert process.returncode == 0, process.stderr
            lines = process.stdout.decode().splitlines()
            assert len(lines) == (9 if "--count" in how else 1)
            assert all(re.fullmatch(expression, line) for line in lines)
    process = run(*common, "--each", stdin="배가 🚢 \n\nשלום \n")
    lines = process.stdout.decode().splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(expression, line) for line in lines), process.stderr


def test_an_expression_in_another_normal_form_is_refused() -> None:
    """It is not brought into the model's: a class of composed characters would be one of parts."""
    forms = {"nfc": "\uac00", "nfd": "\u1100\u1161"}
    for (normalize, right), wrong in zip(forms.items(), reversed(forms.values()), strict=True):
        v = Corpus.from_text(f"{right} a\n" * 9, 0.0, normalize=normalize).vocabulary
        Matcher(right, v)
        with pytest.raises(UsageError, match=f"is not in the normal form {normalize}"):
            Matcher(wrong, v)
        Matcher("[a-z]+", v)


# --- large and deep expressions ----------------------------------------------------------------


CHARS = Corpus.from_text("".join(map(chr, range(32, 127))) + "\n", 0.0).vocabulary


def words(n: int, letters: str, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(n)]


@pytest.mark.parametrize("frame", ["{}", "{} and {}", "({} )+end"])
def test_a_list_of_words(frame: str) -> None:
    """Thousands of alternatives, with equal beginnings, equal ends and some twice."""
    names = [*words(4000, "abcdefghij"), "ab", "abc", "abcd", "ab"]
    alternatives = "(?:" + "|".join(names) + ")"
    matcher = Matcher(frame.replace("{}", alternatives), CHARS)
    known, rng = set(names), random.Random(2)
    for text in rng.sample(names, 100) + words(100, "abcdefghij", seed=3):
        whole = frame.replace("{}", text).replace("(", "").replace(")+", "")
        assert matches(matcher, CHARS, whole) == (text in known), whole


def test_a_list_of_syllables() -> None:
    units = [chr(0xAC00 + 7 * k) for k in range(1200)]
    vocabulary = Corpus.from_text("".join(units) * 2 + "\n").vocabulary
    names = words(2000, "".join(units))
    matcher = Matcher("|".join(names), vocabulary)
    for name in names[:50]:
        assert matches(matcher, vocabulary, name)
        assert matches(matcher, vocabulary, name[::-1]) == (name[::-1] in set(names))


def test_equal_parts_share_their_states() -> None:
    """A list takes fewer states than letters: beginnings and ends are there once."""
    names = [a + b + c for a in ("anna", "berta") for b in "abcdefgh" for c in ("lise", "marie")]
    assert len(Matcher("|".join(names), CHARS).table) < 25
    once, often = "|".join(names[:3]), "|".join(names[:3] * 50)
    assert np.array_equal(Matcher(once, CHARS).table, Matcher(often, CHARS).table)


@pytest.mark.parametrize("n", [1000, 8000])
def test_long_repetitions(n: int) -> None:
    """As many states as characters; the way to a match is right over all of it."""
    matcher = Matcher(f"[a-z ]{{{n}}}", CHARS)
    assert len(matcher.table) == n + 2
    assert matcher.distance[1:].tolist() == list(range(n, -1, -1))


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(" * 5000 + "ab" + ")" * 5000, "ab"),
        ("(?:" * 3000 + "a" + ")?" * 3000, "a"),
        ("".join("a(?:b|" for _ in range(2000)) + "c" + ")" * 2000, "a" * 2000 + "c"),
        ("".join("a(?:b|" for _ in range(2000)) + "c" + ")" * 2000, "aab"),
    ],
    ids=["groups", "optional groups", "a trie", "a short way through it"],
)
def test_deep_nesting(expression: str, text: str) -> None:
    assert matches(Matcher(expression, CHARS), CHARS, text)
    assert not matches(Matcher(expression, CHARS), CHARS, text + "c")


def test_errors_show_the_expression_as_typed() -> None:
    """Shortened, and with its backslashes as they are."""
    with pytest.raises(UsageError) as caught:
        Matcher(r"\d\d\.(", CHARS)
    assert str(caught.value).startswith(r"--match '\d\d\.(': a parenthesis is not closed")
    with pytest.raises(UsageError) as caught:
        Matcher("|".join(words(5000, "abcdefghij")) + "(", CHARS)
    assert len(str(caught.value)) < 150


# --- classes of POSIX, limits, line ends -------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "yes", "no"),
    [
        ("[[:digit:]]{2}", "42", "[]"),
        ("[[:alpha:]_]+", "a_b", "a1"),
        ("[^[:space:][:digit:]]+", "ab.", "a b"),
        ("[[:upper:]][[:lower:]]*", "Ab", "aB"),
        ("[[:^alpha:]]", "1", "a"),
        ("[[:punct:]]", ".", "a"),
        ("[[:xdigit:]]+", "ab1", "xyz"),
        ("a{,2}b", "aab", "aaab"),
        ("a{,2}b", "b", "a"),
        ("[[.]", ".", "a"),
    ],
)
def test_what_the_shell_writes(expression: str, yes: str, no: str) -> None:
    for vocabulary in (CHARS, BYTES):
        matcher = Matcher(expression, vocabulary)
        assert matches(matcher, vocabulary, yes)
        assert not matches(matcher, vocabulary, no)


@pytest.mark.parametrize("expression", ["[[:digits:]]", "[[:^foo:]a]"])
def test_unknown_classes_are_named(expression: str) -> None:
    with pytest.raises(UsageError, match="is no class; there are alpha, digit"):
        Matcher(expression, CHARS)


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_the_cr_of_a_line_end_ends_a_match(unit: str) -> None:
    """It is no part of one, as the line break is none."""
    v = Corpus.from_text("Anna\r\nBert\r\n" * 50, unit=unit).vocabulary
    matcher = Matcher("[A-Z].+", v)
    cr, lf = v.encode("\r\n").tolist()
    assert matcher.line_ends == (cr, lf)
    assert not matcher.table[:, [cr, lf]].any()
    state = 1
    for i in v.encode("Anna").tolist():
        assert not matcher.allowed(np.array([1]), np.array([9]))[0, cr]
        state = int(matcher.table[state, i])
    assert matcher.allowed(np.array([state]), np.array([9]))[0, [cr, lf]].all()


def test_a_space_after_a_seed_of_words() -> None:
    """What continues a word begins with a space, and the error says so."""
    v = Corpus.from_text("the lamp and the lamp\n" * 20, unit="word").vocabulary
    matcher = Matcher("lamp.*", v)
    assert matcher.start("and the ", 9) == 1
    with pytest.raises(UsageError, match="begins with a space, since the seed ends with a word"):
        matcher.start("and the", 9)
    assert Matcher(" lamp.*", v).start("and the", 9) == 2
    with pytest.raises(UsageError, match="no text that matches"):
        Matcher("bell", v).start("and the", 9)


@pytest.mark.parametrize("count", [1, 3])
def test_a_first_unit_that_the_corpus_has_nowhere(count: int) -> None:
    """It is drawn where nothing else can lead to a match."""
    v = Corpus.from_text("abab" * 9, 0.0, unit="byte").vocabulary
    model = Model(Shape("gru", 256, 5), np.float64)
    model.initialise(np.random.default_rng(0))
    matching = sampler(model, v, 0, length=4, match=Matcher("z{2}", v))
    texts = [c.text for c in matching([Seed(v.encode(""), "")] * count)]
    assert texts == ["zz"] * count


@pytest.mark.parametrize("count", [1, 5])
def test_a_match_that_nothing_can_follow_ends_a_long_text(count: int) -> None:
    """Also where more units may come than a state can be away from a match, and no line end can."""
    v = Corpus.from_text("abab" * 9, 0.0).vocabulary
    model = Model(Shape("gru", len(v), 5), np.float64)
    model.initialise(np.random.default_rng(0))
    matching = sampler(model, v, 0, length=40_000, match=Matcher("ab", v))
    samples = list(matching([Seed(v.encode(""), "")] * count))
    assert [(c.text, c.stop) for c in samples] == [("ab", "match")] * count


def test_masks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.generation.matcher.MOST_MASKS", 2)
    matcher = Matcher("a(b|c){3}", Corpus.from_text("abc\n" * 9, 0.0).vocabulary)
    for state in range(1, len(matcher.table)):
        fresh = matcher.needed[state] < OUT_OF_REACH
        assert np.array_equal(matcher.mask(state, 99), fresh)
        assert 1 <= len(matcher.masks) <= 2
