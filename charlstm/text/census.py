"""Counting the units of a text, and the vocabulary that follows.

A text can be read only once, and the id of a unit is known when all have been seen. Until then its
number stands for it: its place in the order in which units first occur. A census gives the
`numbers` (N,) of the units of a block, in the smallest type that holds all so far. Its `vocabulary`
has ids for the numbers. Its first `unknown` numbers mean `UNK`.
"""

import itertools
import sys
from collections import defaultdict

import numpy as np

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.text.units import NO_CHARACTER, Bytes, Characters, Words, code_points
from charlstm.text.vocabulary import EOS, ESCAPED, UNK, Vocabulary


def _kept(counts: Array, text: TextConfig, reserved: int = 0) -> Array:
    """Places, ascending, of the units that the limits of the vocabulary leave in it, beside
    `reserved` other entries. Of equally frequent ones the first stay."""
    places = np.flatnonzero(counts >= text.min_count)
    if text.max_vocabulary is not None:
        order = np.argsort(-counts[places], kind="stable")
        places = np.sort(places[order[: text.max_vocabulary - reserved]])
    if len(counts) and not len(places):
        raise CorpusError(
            f"no {text.name} of the corpus is left in the vocabulary; "
            "lower text.min_count or raise text.max_vocabulary"
        )
    return places


class CharacterCensus:
    unknown = 0

    def __init__(self) -> None:
        self.counts = np.zeros(sys.maxunicode + 1, np.int64)  # of each code point
        self.number = np.zeros(sys.maxunicode + 1, np.uint8)  # of each code point
        self.seen = 0

    def numbers(self, text: str) -> Array:
        places = code_points(text).astype(np.intp)  # cast once for both uses
        counts = np.bincount(places)  # (highest + 1,)
        so_far = self.counts[: len(counts)]
        new = np.flatnonzero((counts > 0) & (so_far == 0))
        so_far += counts
        self.seen += len(new)
        dtype = np.min_scalar_type(max(0, self.seen - 1))
        self.number = self.number.astype(dtype, copy=False)
        self.number[new] = np.arange(self.seen - len(new), self.seen)
        return self.number[places]

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        points = np.flatnonzero(self.counts)  # (seen,)
        counts = self.counts[points]
        kept = _kept(counts, text)
        if len(kept) < self.seen:  # one entry is `UNK`
            kept = _kept(counts, text, reserved=1)
        left_out = counts.sum() - counts[kept].sum()
        points, counts = points[kept], counts[kept]
        ids = np.full(self.seen, len(kept))  # what is left out: the entry after these
        ids[self.number[points]] = np.arange(len(kept))
        if left_out:
            points, counts = np.append(points, NO_CHARACTER), np.append(counts, left_out)
        return Characters(points, counts, text.normalize), ids


class ByteCensus:
    """A census of bytes, whose ids are their numbers."""

    unknown = 0

    def __init__(self) -> None:
        self.counts = np.zeros(256, np.int64)

    def numbers(self, text: str) -> Array:
        data = np.frombuffer(text.encode("utf-8", ESCAPED), np.uint8)
        self.counts += np.bincount(data, minlength=256)
        return data

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        return Bytes(self.counts, text.normalize), np.arange(256)


class WordCensus:
    """A census of words. It holds every distinct word, however rare."""

    unknown = 1

    def __init__(self) -> None:
        self.number = defaultdict(itertools.count(2).__next__, {UNK: 0, EOS: 1})  # of each word
        self.counts = np.zeros(2, np.int64)

    def numbers(self, text: str) -> Array:
        words = Words.split(text)
        numbers = np.fromiter(map(self.number.__getitem__, words), np.intp, len(words))
        before, self.counts = self.counts, np.bincount(numbers, minlength=len(self.number))
        self.counts[: len(before)] += before
        return numbers.astype(np.min_scalar_type(len(self.number) - 1))

    def vocabulary(self, text: TextConfig) -> tuple[Vocabulary, Array]:
        words = sorted(itertools.islice(self.number, 2, None))
        number = np.fromiter(map(self.number.__getitem__, words), np.intp, len(words))
        counts = self.counts[number]
        kept = _kept(counts, text, reserved=2)
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        units = [UNK, EOS, *(words[k] for k in kept.tolist())]
        numbers = np.append([0, 1], number[kept])  # of the units
        ids = np.zeros(len(self.number), np.intp)
        ids[numbers] = np.arange(len(units))
        counts = self.counts[numbers]
        counts[0] += self.counts.sum() - counts.sum()
        return Words(units, counts, text.normalize), ids


Census = CharacterCensus | ByteCensus | WordCensus

CENSUSES: dict[str, type[Census]]
CENSUSES = {"char": CharacterCensus, "byte": ByteCensus, "word": WordCensus}
"""By unit."""
