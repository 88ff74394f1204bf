"""What is generated under an expression matches it, and nothing else is kept from the model."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import CORPORA, fails, run
from test_pipes import random_model, trained

from charlstm.corpus import Corpus
from charlstm.errors import UsageError
from charlstm.evaluation import surprisals
from charlstm.model import Model, Stepper
from charlstm.patterns import NEVER, Matcher
from charlstm.sampling import Completer
from charlstm.vocabulary import Vocabulary

CHARACTERS = Corpus.from_text("ab1 _-가é\n" * 9, 0.0).vocabulary
WORDS = Corpus.from_text("a ab b1 가 - 1\n" * 9, 0.0, unit="word").vocabulary


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
@pytest.mark.parametrize("unit", ["char", "word"])
def test_all_that_is_generated_matches(unit: str, expression: str, options: dict[str, Any]) -> None:
    """At any temperature and length that is enough, in every unit, with its own surprise."""
    model, v = random_model(unit)
    matcher = Matcher(expression if unit == "char" else f" ?({expression})", v)
    seeds = ["the sea", "", "went out "] * 9
    for length in (9, 30):
        if matcher.distance[1] > length or (unit == "word" and matcher.distance[1] >= NEVER):
            continue
        complete = Completer(model, v, 3, length=length, match=matcher, nats=True, **options)
        found = list(complete([(v.encode(seed), seed) for seed in seeds]))
        for seed, completion in zip(seeds, found, strict=True):
            assert re.fullmatch(matcher.expression, completion.text), completion
            assert completion.stop == "match"
            assert completion.units <= length
            if unit == "char":
                ended = completion.units > len(completion.text)
                whole = (seed or "\n") + completion.text + "\n" * ended
                nats = surprisals(model, v.encode(whole))[len(seed or "\n") - 1 :].sum()
                assert completion.nats == pytest.approx(nats, rel=1e-9, abs=1e-9)


def test_what_is_allowed_keeps_its_proportions() -> None:
    """The first unit is drawn from the model's distribution over those that can lead to a match."""
    model, v = random_model()
    n = 6000
    complete = Completer(
        model, v, 3, length=3, temperature=1.0, match=Matcher("[a-m]x?|[n-z]bc", v)
    )
    texts = [c.text for c in complete([(v.encode("the "), "the ")] * n)]
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


@pytest.mark.parametrize(
    ("expression", "text"), [("a{3}", "aaa"), ("", ""), ("b|bc{2}", None), ("a?b", None)]
)
def test_without_line_ends(expression: str, text: str | None) -> None:
    """A text ends where nothing can follow, and else when it is as long as it may be."""
    v = Corpus.from_text("abc" * 20, 0.0).vocabulary
    model = Model("gru", 3, 5, 1, np.float64)
    model.initialise(np.random.default_rng(0))
    complete = Completer(model, v, 0, length=9, match=Matcher(expression, v))
    for seed in ("", "ab"):
        found = [c.text for c in complete([(v.encode(seed), seed)] * 5)]
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


def test_what_cannot_be_matched() -> None:
    """An error before anything is drawn."""
    model, v = random_model()
    for expression, part in (("ü+", "no text that matches"), ("a{9}", "at least 9 characters")):
        complete = Completer(model, v, 0, length=8, match=Matcher(expression, v))
        with pytest.raises(UsageError, match=part):
            next(complete([(v.encode("a"), "a")]))
    with pytest.raises(UsageError, match="no text that matches"):
        Matcher("a\nb", v).start("", 9)
    with pytest.raises(UsageError, match="bytes"):
        Matcher("a", random_model("byte")[1])


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
    best = run(*match, "--best-of", "5", "--no-echo", "--seed", "Ka")
    assert re.fullmatch("[A-M][a-z]{2,6}(an|el)\n", best.stdout.decode())
    for options, part in (
        (["--match", "(?=a)"], "not supported"),
        (["--match", "ü"], "no text that matches"),
        (["--match", "a", "--stop", "b"], "--stop"),
        (["--match", "a", "--beam", "2"], "--match"),
    ):
        process = run("sample", "-m", model, *options)
        fails(process, 2, part)
        assert process.stdout == b""
