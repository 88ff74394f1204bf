"""Many samples side by side, each from a state of its own."""

from typing import Self

import numpy as np

from charlstm.generation.ending import Ending, Sample
from charlstm.generation.matcher import DEAD
from charlstm.generation.numbers import STRETCH, Numbers, StreamNumbers
from charlstm.generation.source import Source, context
from charlstm.nn.arrays import Array

FEWEST = 8
"""A batch has at least this number of streams: fewer take no less time."""


class Batch:
    """K streams, each of which reads a seed, writes a sample, and then takes another.

    A step is `draw`, which draws a unit for every stream, and `feed`, which feeds it, or, to
    a stream that still reads, the next unit of its seed. In between `settle` gives a sample its
    drawn units where the last of them may end it.
    """

    def __init__(self, source: Source, ending: Ending, numbers: Numbers, K: int) -> None:
        self.source, self.ending, self.K = source, ending, K
        self.stepper, self.chooser = source.stepper(K), source.chooser(K)
        self.numbers = StreamNumbers(K, numbers)
        self.logits, self.rows = self.stepper.logits, np.arange(K)
        self.samples: list[Sample | None] = [None] * K
        self.reading: dict[int, list[int]] = {}
        """What each stream has yet to read of its seed, the last unit first."""
        self.writing: Array = np.zeros(K, np.bool_)
        self.drawn = np.empty((K, min(STRETCH, ending.length)), np.int32)
        """The units of each stream's sample."""
        self.room = 0  # steps in which no stream can fill its row of `drawn`
        self.states, self.begins = np.full(K, DEAD), np.full(K, DEAD)
        """The states of the expression, now and before the first unit."""

    def start(self, k: int, sample: Sample) -> None:
        """Let stream k write a sample. Where that ends at once, its `stop` is set, and the stream
        stays free."""
        ids, match = context(sample.seed.ids, self.source.vocabulary), self.ending.match
        self.samples[k], self.states[k], self.room = sample, DEAD, 0
        self.numbers.begin(k, sample.number)
        self.stepper.begin(k, self.source.origin)
        if match:
            self.begins[k] = match.start(sample.seed.text, self.ending.length)
            if match.over(self.begins[k : k + 1], np.array([self.ending.length]))[0]:
                sample.add([], over=True)
        if not len(ids) and not sample.stop:
            ids = self._first(k, sample)
        if sample.stop:
            self.free(k)
        else:
            self.reading[k] = ids.tolist()[::-1]

    def _first(self, k: int, sample: Sample) -> Array:
        """Draw the first unit of a sample that nothing stands before (1,)."""
        match, left = self.ending.match, np.array([self.ending.length])
        allowed = match.allowed(self.begins[k : k + 1], left) if match else None
        i = self.source.first(self.numbers.next().item(k), allowed)
        self.drawn[k, 0] = i
        self.numbers.advance(self.rows == k)
        if match:
            self.begins[k] = match.table.item(self.begins.item(k), i)
        over = bool(match and match.over(self.begins[k : k + 1], left - 1)[0])
        if over or self.ending.candidates[i] or self.ending.length == 1:
            sample.add([i], over)
        return np.array([i])

    def free(self, k: int) -> None:
        """Let stream k wait for another sample."""
        self.samples[k], self.states[k], self.writing[k] = None, DEAD, False
        self.numbers.used[k] = 0

    def draw(self) -> Array:
        """Draw a unit for each stream (K,)."""
        used, allowed = self.numbers.used, None
        if not self.room:
            self._make_room(int(used.max()))
        if self.ending.match:
            allowed = self.ending.match.allowed(self.states, self.ending.length - used)
        ids = self.chooser(self.logits, self.numbers.next(), allowed)
        self.drawn[self.rows, used] = ids
        self.numbers.advance(self.writing)
        self.room -= 1
        return ids

    def _make_room(self, used: int) -> None:
        width = self.drawn.shape[1]
        if used == width:
            more = min(width, self.ending.length - width)
            self.drawn = np.hstack([self.drawn, np.empty((self.K, more), np.int32)])
        self.room = self.drawn.shape[1] - used

    def settle(self, ids: Array) -> list[int]:
        """Give to samples the units that may end them; return the streams whose samples ended."""
        ending, match, used = self.ending, self.ending.match, self.numbers.used
        if self.room and not ending.early:
            return []
        candidates = ending.candidates[ids] | (used == ending.length)
        over = None
        if match:
            self.states = match.table[self.states, ids]
            over = match.over(self.states, ending.length - used)
            candidates |= over
        ended = []
        for k in np.flatnonzero(candidates & self.writing).tolist():
            self.take(k, over is not None and over.item(k))
            if self.sample(k).stop:
                ended.append(k)
        return ended

    def take(self, k: int, over: bool = False) -> None:
        """Give to the sample of stream k all units that were drawn for it."""
        sample = self.sample(k)
        have, used = len(sample.units), self.numbers.used.item(k)
        sample.add(self.drawn[k, have:used].tolist(), over)

    def sample(self, k: int) -> Sample:
        """The sample of stream k, which has one."""
        sample = self.samples[k]
        assert sample is not None
        return sample

    def feed(self, ids: Array) -> None:
        """Feed ids (K,), in place of those of streams that read, the next units of their seeds."""
        for k, units in list(self.reading.items()):
            ids[k] = units.pop()
            if not units:
                del self.reading[k]
                self.writing[k], self.states[k] = True, self.begins[k]
        self.logits = self.stepper.step(ids)

    def move(self, ids: Array, half: Self) -> Array:
        """Give the streams that have samples to a batch with half as many; return their ids."""
        keep = np.argsort([sample is None for sample in self.samples], kind="stable")[: half.K]
        half.stepper.take_over(self.stepper, keep)
        half.numbers.take_over(self.numbers, keep)
        half.drawn, half.writing, half.room = self.drawn[keep], self.writing[keep], self.room
        half.states, half.begins = self.states[keep], self.begins[keep]
        half.samples = [self.samples[k] for k in keep.tolist()]
        half.reading = {
            place: self.reading[k] for place, k in enumerate(keep.tolist()) if k in self.reading
        }
        self.clear()
        moved: Array = ids[keep]
        return moved

    def clear(self) -> None:
        """Free all streams."""
        self.reading.clear()
        for k in range(self.K):
            self.free(k)
