"""The corpus of invented names is what its grammar says."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import CORPORA

from corpora import names

CORPUS = CORPORA / "names.txt"

ONSET = "(?:br|dr|fl|gr|kl|sk|st|th|tr|[bdfghklmnprstv])"
SHAPE = {
    "front": f"{ONSET}?(?:ie|e|i)[lmnrs]?(?:{ONSET}(?:ie|e|i)[lmnrs]?)?{ONSET}(?:en?|il|ine|is)",
    "back": f"{ONSET}?(?:au|a|o|u)[lmnrs]?(?:{ONSET}(?:au|a|o|u)[lmnrs]?)?{ONSET}(?:an?|o|ur|us)",
}
"""The grammar once more, as expressions."""


@given(seed=st.integers(0, 2**32))
def test_every_name_is_of_the_grammar(seed: int) -> None:
    name = names.name(random.Random(seed))
    assert name == name.capitalize()
    assert names.harmonious(name)
    shapes = [kind for kind, shape in SHAPE.items() if re.fullmatch(shape, name.lower())]
    assert len(shapes) == 1


@pytest.mark.parametrize("name", ["Tello", "Sala", "Nessa", "Gorris", "Annur"])
def test_the_rules(name: str) -> None:
    """Mixed vowels and doubled consonants are against them."""
    assert names.harmonious(name) == (name == "Sala")


def test_how_often_what_is_chosen() -> None:
    """The odds are those of the docstring, within four standard errors."""
    drawn = [names.name(random.Random(k)).lower() for k in range(20_000)]
    short = f"{ONSET}?(?:ie|au|[aeiou])[lmnrs]?{ONSET}(?:an?|o|ur|us|en?|il|ine|is)"
    odds = {
        "front": (sum(bool(set(n) & set("ei")) for n in drawn), 1 / 2),
        "vowel first": (sum(n[0] in "aeiou" for n in drawn), 1 / 6),
        "two syllables": (sum(bool(re.fullmatch(short, n)) for n in drawn), 2 / 3),
    }
    for what, (count, p) in odds.items():
        error = (len(drawn) * p * (1 - p)) ** 0.5
        assert abs(count - len(drawn) * p) < 4 * error, what


def test_the_shipped_corpus_is_what_the_generator_makes() -> None:
    """By the command in its docstring, byte for byte; and all names are different."""
    n, seed = names.SHIPPED
    text = CORPUS.read_bytes().decode("ascii")
    command = [
        sys.executable,
        str(CORPORA / "names.py"),
        "-n",
        str(n),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout == text
    assert len(set(text.splitlines())) == n == 4000
    written = f"-n {n} --seed {seed} > corpora/names.txt"
    assert names.__doc__ is not None and written in names.__doc__
