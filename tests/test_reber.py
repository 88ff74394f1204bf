"""The Reber grammar is what it says: its strings, their probabilities, its entropy, its corpus."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import CORPORA

from charlstm.config.schema import Config
from charlstm.config.sources import read_config
from corpora import reber

CORPUS = CORPORA / "reber.txt"

every_inner = pytest.mark.parametrize("inner", [1, 2, 4])

EMBEDDED = ["BTXSE", "BPVVE", "BTSXSE", "BPTVVE", "BTXXVVE", "BPVPSE", "BTSSXXTVVE", "BPVPXVPSE"]
"""Strings of Reber's grammar, read off its drawing."""


@pytest.mark.parametrize("inside", EMBEDDED)
def test_strings_of_the_grammar(inside: str) -> None:
    for symbol in "TP":
        line = f"B{symbol}{inside}{symbol}E"
        choices = 1 + len(inside) - 2  # every symbol inside is chosen but B and E
        assert reber.log_probability(line) == pytest.approx(-choices * math.log(2))
        assert reber.log_probability(f"{line}\n") == reber.log_probability(line)
        assert reber.second_last(line) == reber.second_last(f"{line}\n") == symbol
        assert reber.log_probability(f"B{symbol}{inside}{inside}{symbol}E", inner=2) < 0


@pytest.mark.parametrize(
    "line",
    ["", "B", "BTXSE", "BTBTXSEPE", "BTBTXSETE\n\n", "BTBTXSETEB", "BTBTXXETE", "BTBTXSET", "bt"],
)
def test_other_strings_are_impossible(line: str) -> None:
    assert reber.log_probability(line) == -math.inf


@every_inner
@given(seed=st.integers(0, 2**32))
def test_every_string_is_accepted(inner: int, seed: int) -> None:
    """Each symbol is among those that may follow what stands before it, and the probability of
    the string is the product of theirs."""
    line = reber.string(random.Random(seed), inner) + "\n"
    probability = Fraction(1)
    for at, symbol in enumerate(line):
        allowed = reber.successors(line[:at], inner)
        assert symbol in allowed
        probability /= len(allowed)
    assert reber.successors(line, inner) == ()
    assert reber.log_probability(line, inner) == pytest.approx(math.log(probability))
    assert reber.second_last(line) == line[1]


def test_what_may_follow() -> None:
    assert reber.successors("") == ("B",)
    assert reber.successors("B") == ("T", "P")
    assert reber.successors("BTBTS") == ("S", "X")
    assert reber.successors("BPBPVVE") == ("P",)  # as the second symbol
    assert reber.successors("BTBTXSE", inner=2) == ("B",)
    assert reber.successors("BTBTXSETE") == ("\n",)
    for wrong in ("T", "BTBTXSEP", "BTBTXSETE\nB"):
        with pytest.raises(ValueError, match="no line begins with"):
            reber.successors(wrong)


@pytest.mark.parametrize(("inner", "n"), [(1, 20), (2, 25)])
def test_probabilities_add_up(inner: int, n: int) -> None:
    """All lines of at most n characters together, and the chance that a line is longer, make 1;
    the one is counted line by line, the other by the flow from state to state."""
    begun, finished = [""], []
    for _ in range(n):
        begun = [p + symbol for p in begun for symbol in reber.successors(p, inner)]
        finished += [p for p in begun if p.endswith("\n")]
        begun = [p for p in begun if not p.endswith("\n")]
    short = sum(
        Fraction(1, 2 ** round(-reber.log_probability(p, inner) / math.log(2))) for p in finished
    )
    at: dict[str, Fraction] = {reber.START: Fraction(1)}
    for _ in range(n):
        flow: defaultdict[str, Fraction] = defaultdict(Fraction)
        for state, probability in at.items():
            leaving = reber.table(inner).get(state, {})
            for to in leaving.values():
                flow[to] += probability / len(leaving)
        flow.pop(reber.END, None)
        at = flow
    longer = sum(at.values(), Fraction(0))
    assert len(set(finished)) == len(finished) > 30
    assert 0 < longer < 1
    assert short + longer == 1


def test_visits_of_the_automaton() -> None:
    """Those of the derivation."""
    visits = reber.expected_visits(reber.table())
    inside = [visits[f"T{state}"] + visits[f"P{state}"] for state in range(7)]
    assert inside == [1, 1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("inner", range(1, 7))
def test_entropy_in_closed_form(inner: int) -> None:
    e = reber.entropy(inner)
    assert e.line_bits == 1 + 6 * inner
    assert e.line_characters == 5 + 8 * inner
    assert e.bits == Fraction(1 + 6 * inner, 5 + 8 * inner)
    assert e.nats == pytest.approx(float(e.bits) * math.log(2), rel=1e-15)


@every_inner
def test_entropy_by_drawing(inner: int) -> None:
    """Information and length of lines that were drawn have the exact means, and their quotient is
    the entropy: within three standard errors."""
    lines = list(reber.strings(20_000, 7, inner))
    e = reber.entropy(inner)
    bits = [-reber.log_probability(line, inner) / math.log(2) for line in lines]
    lengths = [len(line) + 1.0 for line in lines]
    excess = [b - float(e.bits) * n for b, n in zip(bits, lengths, strict=True)]
    for drawn, expected in ((bits, e.line_bits), (lengths, e.line_characters), (excess, 0)):
        error = stdev(drawn) / math.sqrt(len(drawn))
        assert abs(mean(drawn) - float(expected)) < 3 * error


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--entropy"], "7/13 = 0.538462 bits, 0.373233 nats a character"),
        (["--inner", "4", "--entropy"], "25/37 = 0.675676 bits, 0.468343 nats a character"),
    ],
)
def test_the_entropy_is_told(arguments: list[str], line: str) -> None:
    assert command(*arguments).splitlines() == [line]


def command(*arguments: str) -> str:
    """What `python corpora/reber.py` prints."""
    done = subprocess.run(
        [sys.executable, str(CORPORA / "reber.py"), *arguments],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_the_shipped_corpus_is_what_the_generator_makes() -> None:
    """By the command in its docstring, byte for byte."""
    n, seed, inner = reber.SHIPPED
    text = CORPUS.read_bytes().decode("ascii")
    assert text.splitlines() == list(reber.strings(n, seed, inner))
    assert text == command("-n", str(n), "--seed", str(seed), "--inner", str(inner))
    written = f"-n {n} --seed {seed} --inner {inner} > corpora/reber.txt"
    assert reber.__doc__ is not None and written in reber.__doc__
    assert 200_000 <= len(text) <= 300_000


def test_the_configurations_differ_in_the_cell_alone() -> None:
    """So that what the table of the benchmark shows is the cell's doing."""
    found = {}
    for cell in ("rnn", "gru", "lstm"):
        config = Config().updated(read_config(f"reber-{cell}")).to_dict()
        found[cell] = config.pop("model").pop("cell"), config
    assert [name for name, _ in found.values()] == list(found)
    assert found["rnn"][1] == found["gru"][1] == found["lstm"][1]
