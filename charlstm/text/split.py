"""Training text and held-out text."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.text.ids import CHUNK, as_array, id_file, release
from charlstm.text.vocabulary import Vocabulary

SHUFFLED = 1 << 22
"""Units whose lines are shuffled together where lines are held out."""

WINDOWS, WINDOW = 16, 1 << 16
"""How many places of a text its lines are looked at in, and units of each."""

SHORT_LINE, FEW_LINES = 24, 10
"""Units of a short line, on average; fewer lines than this say nothing of a text."""

UNLIKE, DRAWS = 0.4, 8
"""Share of the tail's lines that begin with other letters than the rest's, beyond chance, which
is the mean over so many draws. Of 1,738 texts and source files 6 are above, one of them a sorted
list; of 300 sorted lists of 125 to 400 names 292."""


@dataclass(frozen=True)
class Lines:
    """What ends lines, as ids."""

    ends: Array
    """(0,), (1,) or, of CRLF, (2,): the line break; none where the text has no lines."""
    breaks: Array
    """Ids of which one at the end of the text ends its last line."""

    @classmethod
    def of(cls, line_break: str, vocabulary: Vocabulary) -> Lines:
        def known(text: str) -> Array:
            ids = vocabulary.ids(text)
            known: Array = ids[ids != vocabulary.unknown]
            return known

        return cls(known(line_break), known("\r\n"))

    @property
    def last(self) -> int:
        """The unit that a line ends with."""
        return int(self.ends[-1])

    def closed(self, ids: Array) -> Array:
        """Ids (N,) with a line break after them, unless there is one or the text has no lines."""
        if not len(self.ends) or ids[-1] in self.breaks:
            return ids
        with id_file() as file:
            for at in range(0, len(ids), CHUNK):
                file.write(ids[at : at + CHUNK].data)
                release(ids)
            file.write(self.ends.astype(ids.dtype).data)
            return as_array(file, ids.dtype)

    def shortened(self, ids: Array, part: int) -> Array:
        """Ids (N,) without the line that their end cuts, where that is at most 1 / `part` of
        them."""
        if not len(self.ends):
            return ids
        least = len(ids) - len(ids) // part
        for stop in range(len(ids), least, -CHUNK):
            start = max(least, stop - CHUNK)
            places = np.flatnonzero(ids[start:stop] == self.last)
            if len(places):
                return ids[: start + int(places[-1]) + 1]
        return ids

    def drawn(self, ids: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """The lines of ids (N,), which end with one, that are kept and those that are held out,
        each with this probability, in random order: those of about `SHUFFLED` units at a time."""
        with id_file() as kept, id_file() as held_out:
            at = 0
            while at < len(ids):
                stop = self._next(ids, at + SHUFFLED)
                block = ids[at:stop]
                ends = np.flatnonzero(block == self.last) + 1
                lengths, order = np.diff(ends, prepend=0), rng.permutation(len(ends))
                out = rng.random(len(ends)) < share
                for file, lines in ((kept, order[~out]), (held_out, order[out])):
                    n = lengths[lines]
                    shift = ends[lines] - np.cumsum(n)  # from a place in the new order to the old
                    file.write(block[np.arange(n.sum()) + np.repeat(shift, n)].data)
                at = stop
                release(ids)
            return as_array(kept, ids.dtype), as_array(held_out, ids.dtype)

    def _next(self, ids: Array, at: int) -> int:
        """The first place from `at` on where a line begins, or the end."""
        while at < len(ids):
            places = np.flatnonzero(ids[at - 1 : at - 1 + CHUNK] == self.last)
            if len(places):
                return at + int(places[0])
            at += CHUNK
        return len(ids)


def _letters(vocabulary: Vocabulary) -> Array:
    """For each unit (V,) the number of the letter that it begins with: without accents, of a
    Hangul syllable its first consonant, and one for all digits."""

    def letter(unit: str) -> int:
        if vocabulary.unit == "byte":
            unit = chr(int(unit, 16))
        first = unicodedata.normalize("NFD", unit[:1])[:1].lower()[:1]
        return ord("0") if first.isdigit() else ord(first or " ")

    return np.array([letter(unit) for unit in vocabulary.units])


def _first_letters(ids: Array, last: int, letters: Array) -> tuple[Array, float]:
    """The first letters (n,) of lines in `WINDOWS` windows over a text, and how many units a line
    has."""
    starts = np.arange(0, len(ids), WINDOW)
    evenly = np.linspace(0, len(starts) - 1, min(WINDOWS, len(starts))).astype(np.intp)
    found, units = [], 0
    for start in starts[evenly].tolist():
        window = ids[start : start + WINDOW]
        places = np.flatnonzero(window[:-1] == last) + 1
        found.append(letters[window[places]])
        units += len(window)
        release(ids)
    firsts = np.concatenate(found)
    return firsts, units / max(1, len(firsts))


def tail_is_unlike(rest: Array, tail: Array, vocabulary: Vocabulary, lines: Lines) -> bool:
    """Whether the lines of the tail begin with other letters than those of the rest, as in a
    sorted list: by more than as many lines drawn at random would, and where lines are so short
    that their first letters count."""
    if not len(lines.ends):
        return False
    letters = _letters(vocabulary)
    of_rest, _ = _first_letters(rest, lines.last, letters)
    of_tail, units = _first_letters(tail, lines.last, letters)
    longest = SHORT_LINE // 6 if vocabulary.unit == "word" else SHORT_LINE
    if len(of_tail) < FEW_LINES or len(of_rest) < FEW_LINES or units > longest:
        return False
    together = np.concatenate([of_rest, of_tail])
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(together) for _ in range(DRAWS)]
    n, V = len(of_rest), int(together.max()) + 1

    def distance(of_lines: Array) -> float:
        """Total variation distance between the last ones and the n before them."""
        a, b = (np.bincount(part, minlength=V) for part in (of_lines[:n], of_lines[n:]))
        return float(np.abs(a / a.sum() - b / b.sum()).sum()) / 2

    return distance(together) - sum(map(distance, drawn)) / DRAWS > UNLIKE
