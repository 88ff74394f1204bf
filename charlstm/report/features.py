"""What a person can name in a text: whether a place is in quotation marks, in a line's first
letter, and so on."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import numpy as np

from charlstm.nn.arrays import Array

QUOTES = {"“": "”", "‘": "’", "「": "」", "『": "』", "«": "»"}
BRACKETS = {"(": ")", "[": "]", "{": "}", "〔": "〕", "（": "）", "【": "】"}
LONGEST = 600
"""Characters after which what is still open counts as never closed: the mark was something else."""

SPEAKER = re.compile(r"^[A-Z][A-Za-z .'-]{1,40}:$", re.MULTILINE)
"""A line that says who speaks, as in a play."""


def within(text: str, pairs: dict[str, str]) -> Array:
    """Whether each character is between an opening mark and the one that closes it; the opening
    mark itself is, the closing one is not."""
    marks, inside, opened = np.zeros(len(text)), list[tuple[str, int]](), set(pairs)
    for at, c in enumerate(text):
        if c in opened:
            inside.append((pairs[c], at))
        elif inside and c == inside[-1][0]:
            _, start = inside.pop()
            if at - start <= LONGEST:
                marks[start:at] = 1.0
    return marks


def quoted(text: str) -> Array:
    """Whether each character is in quotation marks, straight or not. Straight ones open and close
    in turn, anew in each paragraph."""
    marks, start = within(text, QUOTES), None
    for found in re.finditer(r'"|\n\s*\n', text):
        if found[0] != '"':
            start = None
        elif start is None:
            start = found.start()
        else:
            if found.start() - start <= LONGEST:
                marks[start : found.start()] = 1.0
            start = None
    return marks


def spans(pattern: re.Pattern[str], text: str) -> Array:
    """Whether each character is in a match of an expression."""
    marks = np.zeros(len(text))
    for found in pattern.finditer(text):
        marks[found.start() : found.end()] = 1.0
    return marks


def since(text: str, ends: Callable[[str], bool]) -> Array:
    """Characters since the last one of a kind; of that itself 0."""
    counts = accumulate(text, lambda n, c: 0 if ends(c) else n + 1, initial=0)
    return np.array(list(counts)[1:], np.float64)


def of(test: Callable[[str], bool]) -> Callable[[str], Array]:
    """The feature of a character that passes a test."""
    known: dict[str, bool] = {}

    def feature(text: str) -> Array:
        known.update((c, test(c)) for c in set(text) - known.keys())
        return np.array([known[c] for c in text], np.float64)

    return feature


def first_letters(text: str) -> Array:
    """Whether each character is the first letter of a word."""
    return spans(re.compile(r"(?<![^\W\d_])[^\W\d_]"), text)


def has_final(c: str) -> bool:
    """Whether a hangul syllable ends in a consonant (받침): its number counts 28 finals, the first
    of which is none."""
    return "가" <= c <= "힣" and (ord(c) - ord("가")) % 28 > 0


def is_hanja(c: str) -> bool:
    return "\u3400" <= c <= "\u9fff" or "\uf900" <= c <= "\ufaff"


REMEMBERED: dict[str, Callable[[str], Array]] = {
    "quoted": quoted,
    "bracketed": lambda text: within(text, BRACKETS),
    "speaker": lambda text: spans(SPEAKER, text),
    "line_position": lambda text: since(text, lambda c: c == "\n"),
    "sentence_position": lambda text: since(text, lambda c: c in ".?!。"),
    "word_position": lambda text: since(text, lambda c: not c.isalnum()),
}
"""What no single character shows: the network must remember it."""

RECOGNISED: dict[str, Callable[[str], Array]] = {
    "line_start": lambda text: spans(re.compile(r"(?<=\n)[^\n]"), text),
    "line_end": of(lambda c: c == "\n"),
    "blank": of(lambda c: c == " "),
    "after_blank": lambda text: spans(re.compile(r"(?<= )[^ \n]"), text),
    "first_letter": first_letters,
    "capital": of(str.isupper),
    "vowel": of(lambda c: c.lower() in "aeiou"),
    "digit": of(str.isdigit),
    "punctuation": of(lambda c: c in ".,;:?!…"),
    "final": of(has_final),
    "hanja": of(is_hanja),
}
"""What the character read last shows, perhaps with the one before it."""

TRIVIAL = {"word": {"word_position", "blank", "after_blank", "first_letter", "vowel"}}
"""Features that say nothing of a unit of some kind: each word has its first letter."""

NUMERIC = frozenset(("line_position", "sentence_position", "word_position"))
"""Features that count; the others are 1 or 0."""


def features(units: Sequence[str], names: Iterable[str]) -> dict[str, Array]:
    """Features (N,) of the units of a text, each unit given by what it adds to the text. Of a unit
    of several characters, what is recognised holds where it holds for any of them, what is
    remembered as for the last; a unit that adds nothing is like the one before it."""
    text = "".join(units)
    ends = np.cumsum([len(unit) for unit in units])
    lasts = np.maximum(ends - 1, 0)
    several = any(len(unit) > 1 for unit in units)
    values = {}
    for name in names:
        of_characters = (REMEMBERED | RECOGNISED)[name](text)
        values[name] = of_characters[lasts]
        if name in RECOGNISED and several:
            sums = np.concatenate([[0.0], np.cumsum(of_characters)])
            starts = np.concatenate([[0], ends[:-1]])
            own = (sums[ends] > sums[starts]).astype(np.float64)
            values[name] = np.where(ends > starts, own, values[name])
    return values
