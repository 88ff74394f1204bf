"""Counting the units of a text, and the vocabulary that comes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from charlstm.config.schema import UNIT_NAMES, TextConfig
from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.text.vocabulary import (
    EOS,
    ESCAPED,
    NO_CHARACTER,
    UNK,
    Bytes,
    Characters,
    Vocabulary,
    Words,
    code_points,
    whole_words,
    words_of,
)


class Census:
    """The units of a text that can be read only once: numbered as they come up, and counted.

    What id a unit has is known when all have been seen; until then its number stands for it.
    """

    unknown: ClassVar[int] = 0
    """How many numbers mean `UNK` from the beginning."""

    def parts(self, texts: Iterable[str]) -> Iterable[str]:
        """The same text in blocks that cut no unit."""
        return texts

    def numbers(self, text: str) -> Array:
        """Numbers (N,) of the units of a block, in the smallest type that holds all so far."""
        raise NotImplementedError

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        """The vocabulary of all that was read, and the ids of its units by their numbers."""
        raise NotImplementedError


def _kept(counts: Array, least: int, most: int | None) -> Array:
    """Places, ascending, of what is counted at least `least` times, and of that only of the `most`
    frequent; of equally frequent ones the first."""
    places = np.flatnonzero(counts >= least)
    if most is not None and len(places) > most:
        order = np.argsort(-counts[places], kind="stable")
        places = np.sort(places[order[:most]])
    return places


def _some(kept: Array, seen: int, unit: str) -> None:
    if seen and not len(kept):
        raise CorpusError(
            f"no {UNIT_NAMES[unit]} of the corpus is left in the vocabulary; "
            "lower text.min_count or raise text.max_vocabulary"
        )


class CharacterCensus(Census):
    """Of characters."""

    def __init__(self) -> None:
        self.counts = np.zeros(sys.maxunicode + 1, np.int64)  # of each code point
        self.number = np.zeros(sys.maxunicode + 1, np.uint8)  # of each code point
        self.seen = 0

    def numbers(self, text: str) -> Array:
        places = code_points(text).astype(np.intp)  # cast once for both uses
        found = np.bincount(places)  # (highest + 1,)
        so_far = self.counts[: len(found)]
        new = np.flatnonzero((found > 0) & (so_far == 0))
        so_far += found
        self.seen += len(new)
        dtype = np.min_scalar_type(max(0, self.seen - 1))
        self.number = self.number.astype(dtype, copy=False)
        self.number[new] = np.arange(self.seen - len(new), self.seen)
        return self.number[places]

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        points = np.flatnonzero(self.counts)  # (seen,)
        counts, most = self.counts[points], text.max_vocabulary
        kept = _kept(counts, text.min_count, most)
        all_kept = len(kept) == self.seen
        if not all_kept and most is not None:
            kept = kept if len(kept) < most else _kept(counts, text.min_count, most - 1)
        _some(kept, self.seen, "char")
        ids = np.full(self.seen, len(kept))  # what is left out: the entry after these
        ids[self.number[points[kept]]] = np.arange(len(kept))
        points, left_out = points[kept], counts.sum() - counts[kept].sum()
        counts = counts[kept]
        if not all_kept:
            points, counts = np.append(points, NO_CHARACTER), np.append(counts, left_out)
        return Characters(points, counts, text.normalize), ids


class ByteCensus(Census):
    """Of bytes, whose ids are known beforehand."""

    def __init__(self) -> None:
        self.counts = np.zeros(256, np.int64)

    def numbers(self, text: str) -> Array:
        data = np.frombuffer(text.encode("utf-8", ESCAPED), np.uint8)
        self.counts += np.bincount(data, minlength=256)
        return data

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        return Bytes(self.counts, text.normalize), np.arange(256)


class _Numbers(dict[str, int]):
    """Gives each key that it has not the next number."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class WordCensus(Census):
    """Of words. It holds every distinct word, however rare."""

    unknown = 1

    def __init__(self) -> None:
        self.number = _Numbers({UNK: 0, EOS: 1})
        self.counts = np.zeros(2, np.int64)

    def parts(self, texts: Iterable[str]) -> Iterator[str]:
        return whole_words(texts)

    def numbers(self, text: str) -> Array:
        words = words_of(text)
        numbers = np.fromiter(map(self.number.__getitem__, words), np.intp, len(words))
        found = np.bincount(numbers, minlength=len(self.number))
        found[: len(self.counts)] += self.counts
        self.counts = found
        return numbers.astype(np.min_scalar_type(len(self.number) - 1))

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        words = sorted(word for word, number in self.number.items() if number > 1)
        number = np.fromiter(map(self.number.__getitem__, words), np.intp, len(words))
        counts, most = self.counts[number], text.max_vocabulary
        kept = _kept(counts, text.min_count, None if most is None else most - 2)
        _some(kept, len(words), "word")
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        ids = np.zeros(len(self.number), np.intp)
        ids[1] = 1
        ids[number[kept]] = np.arange(2, 2 + len(kept))
        units = [UNK, EOS, *(words[k] for k in kept.tolist())]
        of_units = np.append(self.counts[:2], counts[kept])
        of_units[0] += counts.sum() - counts[kept].sum()
        return Words(units, of_units, text.normalize), ids


CENSUSES: dict[str, type[Census]] = {
    "char": CharacterCensus,
    "byte": ByteCensus,
    "word": WordCensus,
}
"""By unit."""
