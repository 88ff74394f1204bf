"""Samples: one by itself, or many side by side."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np

from charlstm.generation.batch import FEWEST, Batch
from charlstm.generation.ending import Ending, Sample, Sampling, Seed
from charlstm.generation.numbers import Numbers
from charlstm.generation.scores import Score, Scores
from charlstm.generation.source import Source, context, read
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor
from charlstm.text.vocabulary import Vocabulary

WIDTH = 256
"""Samples that are made side by side."""

FEW = 4
"""Up to so many samples are made one after the other: a step of a few streams takes as long as one
of eight."""

TRIES = 1000
"""Samples in a row of which none is accepted, after which no more are made."""


class Piece(NamedTuple):
    """A stretch of one sample's text that is settled."""

    sample: int  # which of the samples it continues, from 0
    text: str
    stop: str | None
    """Why the sample ended with this piece: "length", "stop" or "match"; None while it grows."""


class Completion(NamedTuple):
    """A sample that has ended."""

    text: str  # what follows the seed
    stop: str  # why it ended: "length", "stop" or "match"
    nats: float
    """What `evaluate` says of the text after its seed, where that was asked for; see `Scores`."""
    units: int
    """How many units were drawn, those of a stop text included, and the line end that a match ends
    with."""
    drawn_nats: float = 0.0  # the nats of these, where that was asked for


class Sampler:
    """Continues seeds, each with its own state and its own random numbers.

    Sample k depends on its seed, the key (0 to 2^64 - 1) and k, not on its neighbours, except that
    a draw may fall the other way where roundings decide. Without a seed a text begins as a line
    does: after a line end, which is not part of it; where the corpus has none, with a unit drawn
    as often as it occurs there. With `nats` completions are scored. `prefix` (N,) are units that
    stand before all seeds, whose ids leave them out, and that are read once.
    """

    def __init__(
        self,
        model: Predictor,
        vocabulary: Vocabulary,
        key: int,
        sampling: Sampling,
        *,
        nats: bool = False,
        prefix: Array | None = None,
    ) -> None:
        self.sampling, self.vocabulary, self.numbers = sampling, vocabulary, Numbers(key)
        self.scores = Scores(model, vocabulary, prefix) if nats else None
        self.source = Source(model, vocabulary, sampling, prefix)
        self.ending = Ending(vocabulary, sampling)
        self.idle: dict[int, list[Batch]] = {}
        """Batches that no iteration uses, by their number of streams; they keep their buffers."""
        self.alone = [self.source.single]  # the same for single streams

    def __call__(self, seeds: Sequence[Seed], first: int = 0) -> Iterator[Completion]:
        """A completion of each seed, in their order; the first one is sample `first`. Raises
        `UsageError` where nothing that can follow a seed matches."""
        ended: list[Sample] = []
        completions: dict[int, Completion] = {}
        for sample in self._samples(seeds, first, ended):
            if sample.number not in completions:  # all that ended by now are scored together
                scores = self.scores(ended) if self.scores else [Score(0.0, 0.0)] * len(ended)
                for one, score in zip(ended, scores, strict=True):
                    completions[one.number] = completion(one, score)
                ended.clear()
            yield completions.pop(sample.number)

    def pieces(self, seeds: Sequence[Seed]) -> Iterator[Piece]:
        """Samples in their order: pieces of the first as soon as they are settled, and when it has
        ended, the next one's, which begin with all that is settled by then."""
        if len(seeds) == 1 and self.sampling.length:
            sample = self.ending.sample(0, seeds[0])
            piece_of = cache(lambda text: Piece(0, text, None))
            for text in self._alone(sample):
                if sample.stop:
                    yield Piece(0, text, sample.stop)
                elif text:
                    yield piece_of(text)
            return
        shown = 0
        for sample in self._samples(seeds, 0, [], watch=True):
            text, shown = "".join(sample.parts[shown:]), len(sample.parts)
            if text or sample.stop:
                yield Piece(sample.number, text, sample.stop)
            if sample.stop:
                shown = 0

    def _samples(
        self, seeds: Sequence[Seed], first: int, ended: list[Sample], watch: bool = False
    ) -> Iterator[Sample]:
        """The samples of seeds in their order, when they have ended, and with `watch` also as they
        grow. What has ended is appended to `ended`."""
        match = self.sampling.match
        for seed in seeds if match else ():
            assert match is not None
            match.start(seed.text, self.sampling.length)
        samples = (self.ending.sample(first + n, seed) for n, seed in enumerate(seeds))
        if not self.sampling.length or len(seeds) <= FEW:
            for sample in samples:
                for _ in self._alone(sample):
                    if watch and not sample.stop:
                        yield sample
                ended.append(sample)
                yield sample
            return
        K = min(WIDTH, 1 << (len(seeds) - 1).bit_length())
        used, grown = [self._batch(K)], dict[int, Sample]()
        running = self._run(samples, used, grown, ended)
        try:
            for n in range(first, first + len(seeds)):
                while n not in grown or not grown[n].stop:
                    next(running)
                    if watch and n in grown and not grown[n].stop:
                        batch = used[-1]
                        batch.take(batch.samples.index(grown[n]))
                        yield grown[n]
                yield grown.pop(n)
        finally:
            for batch in used:
                batch.clear()
                self.idle[batch.K].append(batch)

    def _run(
        self,
        samples: Iterator[Sample],
        used: list[Batch],
        grown: dict[int, Sample],
        ended: list[Sample],
    ) -> Iterator[None]:
        """Let samples grow, step by step, in the last of the `used` batches."""

        def fill(k: int) -> None:
            """Give stream k the next sample that does not end at once, where there is one."""
            for sample in samples:
                grown[sample.number] = sample
                batch.start(k, sample)
                if not sample.stop:
                    return
                ended.append(sample)

        batch = used[-1]
        for k in range(batch.K):
            fill(k)
        while True:
            ids = batch.draw()
            for k in batch.settle(ids):
                ended.append(batch.sample(k))
                batch.free(k)
                fill(k)
            yield
            free = batch.samples.count(None)
            if FEWEST <= batch.K // 2 <= free < batch.K:
                used.append(self._batch(batch.K // 2))
                ids = batch.move(ids, used[-1])
                batch = used[-1]
            batch.feed(ids)

    def _batch(self, K: int) -> Batch:
        idle = self.idle.setdefault(K, [])
        return idle.pop() if idle else Batch(self.source, self.ending, self.numbers, K)

    def _alone(self, sample: Sample) -> Iterator[str]:
        """Let a single sample grow; yield what is settled after each unit. A call of NumPy
        costs about as much as what it does here, so a unit takes as few as can be."""
        match, left = self.sampling.match, self.sampling.length
        state = match.start(sample.seed.text, left) if match else 0
        if not left or (match and match.least.item(state) > left):
            sample.stop = "match" if match and left else "length"
            yield ""
            return
        stepper = self.alone.pop() if self.alone else self.source.stepper(1)
        weigh_, accumulate = self.source.chooser(1).weigh_, np.add.accumulate
        logits, last = stepper.logits[0], len(stepper.logits[0]) - 1
        p, cumulative = np.empty(last + 1), np.empty(last + 1)
        places = memoryview(cumulative)  # type: ignore[arg-type]
        allowed: Array | None = None
        ids, stops = context(sample.seed.ids, self.vocabulary), self.ending.stops
        line_ends, over = self.ending.line_ends, False
        begun = len(ids) > 0
        stepper.begin(0, self.source.origin)
        read(stepper, ids)
        try:
            for block in self.numbers.of_sample(sample.number):
                for number in block:
                    if match:
                        allowed = match.mask(state, left)
                    if begun:
                        weigh_(p, logits, allowed)
                        accumulate(p, 0, None, cumulative)
                        i = bisect_right(places, number * places[last])
                    else:
                        may_come = None if allowed is None else allowed[None] > 0.0
                        i, begun = self.source.first(number, may_come), True
                    left -= 1
                    if match:
                        state = match.table.item(state, i)
                        over = match.least.item(state) > left
                    if left and not (over or stops or i in line_ends):
                        yield sample.grow(i)
                    else:
                        yield sample.add([i], over)
                        if sample.stop:
                            return
                    u = stepper.rows[i]
                    for step in stepper.steps:
                        u = step(u)
        finally:
            self.alone.append(stepper)


def completion(sample: Sample, score: Score) -> Completion:
    """What became of a sample that has ended."""
    assert sample.stop is not None
    return Completion(sample.text, sample.stop, score.nats, len(sample.units), score.drawn)


def best_of(completions: Iterable[Completion], N: int) -> Iterator[Completion]:
    """Of every N completions the one whose drawn units have the fewest nats on average, the first
    of equals."""
    each = iter(completions)
    while group := list(islice(each, N)):
        yield min(group, key=lambda c: c.drawn_nats / max(c.units, 1))


def accepted(
    sampler: Sampler, seed: Seed, count: int, N: int, accept: Callable[[Completion], bool]
) -> Iterator[Completion]:
    """The first `count` completions of a seed, each the best of N, that are accepted; fewer where
    `TRIES` in a row are not."""
    made = misses = 0
    while count:
        tries = max(count, FEWEST) if made else count
        samples = best_of(sampler([seed] * (tries * N), made * N), N)
        made += tries
        for one in samples:
            if accept(one):
                misses = 0
                count -= 1
                yield one
                if not count:
                    return
            else:
                misses += 1
                if misses == TRIES:
                    return
