"""Lines of a text as ids, and the parts of it for training and held out."""

import unicodedata
from dataclasses import dataclass
from typing import Self

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.text.ids import as_array, extended, find, id_file, release
from charlstm.text.vocabulary import Vocabulary

SHUFFLED = 1 << 22
"""Units whose lines are shuffled together where lines are held out: 8 MiB of ids of 2 bytes."""

WINDOWS, WINDOW = 16, 1 << 16
"""Windows over a text, and units of each, of which the lines are compared."""

SHORT_LINE, FEW_LINES = 24, 10
"""Characters of a short line, on average, and the fewest lines that say something of a text."""

UNLIKE, DRAWS = 0.4, 8
"""The share of the tail's lines with other first letters than those of the rest, less the mean of
that share over some draws at random, above which the tail is unlike the rest. Of 1,738 texts and
source files 6 are above, one of them a sorted list; of 300 sorted lists of 125 to 400 names 292."""


@dataclass(frozen=True)
class Lines:
    """The line ends of a text, as ids."""

    ends: Array  # the line break, (1,) or, of CRLF, (2,); (0,) where the text has no lines
    breaks: Array  # ids that end the last line where one of them ends the text

    @classmethod
    def of(cls, line_break: str, vocabulary: Vocabulary) -> Self:
        ends, breaks = vocabulary.ids(line_break), vocabulary.ids("\r\n")
        return cls(ends[ends != vocabulary.unknown], breaks[breaks != vocabulary.unknown])

    @property
    def last(self) -> int:
        """The id that ends a line."""
        return int(self.ends[-1])

    def closed(self, ids: Array) -> Array:
        """Ids (N,) with a line break after them, unless there is one or the text has no lines."""
        closed = not len(self.ends) or ids[-1] in self.breaks
        return ids if closed else extended(ids, self.ends)

    def shortened(self, ids: Array, part: int) -> Array:
        """Ids (N,) without the line that their end cuts, where that is at most 1 / `part` of
        them."""
        if not len(self.ends):
            return ids
        place = find(ids, self.last, len(ids) - len(ids) // part, last=True)
        return ids if place is None else ids[: place + 1]

    def drawn(self, ids: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """The lines of closed ids (N,) that are kept, and those that are held out, each with
        probability `share`. Both are in random order, within about `SHUFFLED` units."""
        with id_file() as kept, id_file() as held_out:
            at = 0
            while at < len(ids):
                end = find(ids, self.last, at + SHUFFLED - 1)
                stop = len(ids) if end is None else end + 1
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


def _letter(character: str) -> int:
    """A number for a character without accents, for the first consonant of a Hangul syllable, and
    for all digits."""
    first = unicodedata.normalize("NFD", character)[0].lower()[0]
    return ord("0") if first.isdigit() else ord(first)


def _first_letters(ids: Array, last: int, letters: Array) -> tuple[Array, float]:
    """The first letters (n,) of lines in `WINDOWS` windows over a text; mean units of a line."""
    starts = np.arange(0, len(ids), WINDOW)
    evenly = np.linspace(0, len(starts) - 1, min(WINDOWS, len(starts))).astype(np.intp)
    firsts, units = [], 0
    for start in starts[evenly].tolist():
        window = ids[start : start + WINDOW]
        places = np.flatnonzero(window[:-1] == last) + 1
        firsts.append(letters[window[places]])
        units += len(window)
        release(ids)
    return np.concatenate(firsts), units / max(1, sum(map(len, firsts)))


def tail_is_unlike(rest: Array, tail: Array, vocabulary: Vocabulary, lines: Lines) -> bool:
    """Whether the lines of the tail begin with other letters than those of the rest, as in a
    sorted list: more than as many lines drawn at random do. Only short lines count."""
    if not len(lines.ends):
        return False
    letters = np.array([*map(_letter, vocabulary.first_characters())])  # (V,)
    of_rest, _ = _first_letters(rest, lines.last, letters)
    of_tail, units = _first_letters(tail, lines.last, letters)
    too_long = units > SHORT_LINE // vocabulary.usual_length
    if len(of_tail) < FEW_LINES or len(of_rest) < FEW_LINES or too_long:
        return False
    together, rng = np.concatenate([of_rest, of_tail]), np.random.default_rng(0)
    drawn = [rng.permutation(together) for _ in range(DRAWS)]
    n, V = len(of_rest), int(together.max()) + 1

    def distance(of_lines: Array) -> float:
        """Total variation distance between the first n and the others."""
        a, b = (np.bincount(part, minlength=V) for part in (of_lines[:n], of_lines[n:]))
        return float(np.abs(a / a.sum() - b / b.sum()).sum()) / 2

    return distance(together) - sum(map(distance, drawn)) / DRAWS > UNLIKE
