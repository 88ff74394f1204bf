"""The random numbers of samples: by the key of a run, the sample and the place in it.

So sample k is the same in whatever way, and beside whatever others, it is asked for.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Self

import numpy as np

from charlstm.errors import UsageError
from charlstm.nn.arrays import Array

GROUP = 64
"""Samples whose random numbers are made together: one call for each would take longer."""

STRETCH = 256
"""Random numbers of a sample that are made at a time."""


def key_of(rng_seed: int | Sequence[int] | None) -> int:
    """The key of a run's random numbers, from 0 to 2^64 - 1; without a seed, another one each time.
    Raises `UsageError` for a seed that is no whole number from 0 up."""
    try:
        sequence = np.random.SeedSequence(rng_seed)
    except (TypeError, ValueError):
        raise UsageError(f"rng_seed is {rng_seed!r}; give a whole number from 0 up") from None
    return int(sequence.generate_state(1, np.uint64)[0])


class Numbers:
    """Uniform numbers from 0 up to 1, by the counter-based generator Philox (J. Salmon et al.,
    Parallel random numbers: as easy as 1, 2, 3, 2011)."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.of_group = lru_cache(2)(self._of_group)

    def of_sample(self, sample: int) -> Iterator[list[float]]:
        """The numbers of one sample, `STRETCH` at a time."""
        group, row = divmod(sample, GROUP)
        for block in itertools.count():
            yield self._generator(group, block, row).random(STRETCH).tolist()

    def _of_group(self, group: int, block: int) -> Array:
        """A stretch of numbers for each sample of a group, (GROUP, STRETCH)."""
        return self._generator(group, block).random((GROUP, STRETCH))

    def _generator(self, group: int, block: int, row: int = 0) -> np.random.Generator:
        """The generator at the beginning of a row of a group's block. One count of Philox makes
        four numbers."""
        counter = np.array([row * STRETCH // 4, 0, block, 0], np.uint64)
        key = np.array([self.key, group], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=key))


class StreamNumbers:
    """The next random number of each of K streams."""

    def __init__(self, K: int, numbers: Numbers) -> None:
        self.numbers, self.rows = numbers, np.arange(K)
        self.used = np.zeros(K, np.intp)  # how many numbers each stream has used (K,)
        self.block = np.zeros((K, STRETCH))
        self.samples = [0] * K
        self.left = STRETCH  # steps in which no stream uses up its block

    def begin(self, k: int, sample: int) -> None:
        """Give stream k the numbers of a sample."""
        self.samples[k], self.used[k] = sample, 0
        self._fetch(k)

    def _fetch(self, k: int) -> None:
        group, row = divmod(self.samples[k], GROUP)
        self.block[k] = self.numbers.of_group(group, self.used.item(k) // STRETCH)[row]

    def next(self) -> Array:
        """The next number of each stream (K,); `advance` uses it up."""
        numbers: Array = self.block[self.rows, self.used % STRETCH]
        return numbers

    def advance(self, streams: Array) -> None:
        """Use up the next number of the streams where (K,) is true."""
        self.used += streams
        self.left -= 1
        if not self.left:
            place = self.used % STRETCH
            for k in np.flatnonzero(streams & (place == 0)).tolist():
                self._fetch(k)
            self.left = STRETCH - int(place.max())

    def take_over(self, other: Self, streams: Array) -> None:
        """Continue the sequences of some streams of another's."""
        self.used[...], self.block[...] = other.used[streams], other.block[streams]
        self.samples, self.left = [other.samples[k] for k in streams.tolist()], other.left
