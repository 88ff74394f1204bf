"""Invented names, one a line, from a small grammar of syllables.

    python corpora/names.py -n 4000 --seed 1 > corpora/names.txt

A name has two or three syllables, an onset, a vowel and perhaps a coda each, and an ending:

    name      ->  first inner ending  |  first ending          1 : 2
    first     ->  [onset] vowel [coda]                          an onset in 5 of 6 names
    inner     ->  onset vowel [coda]
    ending    ->  onset final
    onset     ->  one or two consonants
    coda      ->  one consonant, in 2 of 5 syllables

with two rules that reach over a distance, for a model to find out:

- Harmony. The vowels of a name are all front (e, i, ie) or all back (a, o, u, au); so is the final,
  of which either kind has its own.
- No consonant is doubled: a coda is not the letter that the next onset begins with.

Each choice is drawn from all that is allowed, all alike probable, but for the odds above. The first
letter is a capital, and no name comes twice. Where one is borne by somebody, that is chance.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Iterator
from typing import NamedTuple

ONSETS = [*"bdfghklmnprstv", "br", "dr", "fl", "gr", "kl", "sk", "st", "th", "tr"]
CODAS = [*"lmnrs"]


class Kind(NamedTuple):
    """What a name of one kind is made of."""

    vowels: list[str]
    finals: list[str]


KINDS = (
    Kind(["e", "i", "ie"], ["e", "en", "il", "ine", "is"]),
    Kind(["a", "o", "u", "au"], ["a", "an", "o", "ur", "us"]),
)
"""Front and back."""


class Shipped(NamedTuple):
    """How `corpora/names.txt` is made."""

    names: int = 4000
    seed: int = 1


SHIPPED = Shipped()


def _syllable(rng: random.Random, vowels: list[str], before: str, onset: bool) -> str:
    """One syllable after the text `before`."""
    begun = rng.choice([o for o in ONSETS if o[0] != before[-1:]]) if onset else ""
    coda = rng.choice(CODAS) if rng.random() < 2 / 5 else ""
    return begun + rng.choice(vowels) + coda


def name(rng: random.Random) -> str:
    """A name, drawn at random."""
    kind = rng.choice(KINDS)
    text = _syllable(rng, kind.vowels, "", rng.random() < 5 / 6)
    if rng.random() < 1 / 3:
        text += _syllable(rng, kind.vowels, text, True)
    text += rng.choice([o for o in ONSETS if o[0] != text[-1]]) + rng.choice(kind.finals)
    return text.capitalize()


def harmonious(text: str) -> bool:
    """Whether a name keeps the two rules."""
    letters = text.lower()
    doubled = any(a == b for a, b in itertools.pairwise(letters))
    return not doubled and not (set(letters) & set("ei") and set(letters) & set("aou"))


def names(n: int, seed: int) -> Iterator[str]:
    """As many names, no two alike; the same for the same seed."""
    rng, told = random.Random(seed), set[str]()
    while len(told) < n:
        drawn = name(rng)
        if drawn not in told:
            told.add(drawn)
            yield drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--names", type=int, default=SHIPPED.names)
    parser.add_argument("--seed", type=int, default=SHIPPED.seed)
    o = parser.parse_args()
    sys.stdout.writelines(f"{each}\n" for each in names(o.names, o.seed))


if __name__ == "__main__":
    main()
