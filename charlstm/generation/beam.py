"""The most probable text, by a beam search."""

from collections.abc import Iterator

import numpy as np

from charlstm.generation.ending import Ending, Sample, Sampling, Seed
from charlstm.generation.matcher import DEAD
from charlstm.generation.sampler import Completion, completion
from charlstm.generation.scores import Scores
from charlstm.generation.source import Source, context, read
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor
from charlstm.text.vocabulary import Vocabulary


def beam(
    model: Predictor, vocabulary: Vocabulary, seed: Seed, N: int, sampling: Sampling
) -> Completion:
    """The most probable continuation that a beam search over N texts finds: of all that end with
    a stop text, or are `length` units long, the one with the fewest nats.

    In each step the N most probable of all texts that are one unit longer are kept (B. Lowerre,
    The Harpy speech recognition system, 1976). With N = 1 it takes the likeliest unit each time.
    It draws nothing: equal probabilities are taken in the order of texts and units. Temperature
    and cuts have no say.

    With `match` only texts are kept that can still lead to a match, and what ends with one counts.
    Raises `UsageError` where nothing that can follow matches.
    """
    search = _Beam(model, vocabulary, seed, N, sampling)
    if not sampling.length:
        return Completion("", "length", 0.0, 0)
    best = search.run()
    (score,) = Scores(model, vocabulary)([best])
    return completion(best, score)


class _Beam:
    """The texts that are kept, (M, n) units, M <= N, the more probable first."""

    def __init__(
        self, model: Predictor, vocabulary: Vocabulary, seed: Seed, N: int, sampling: Sampling
    ) -> None:
        self.seed, self.N, self.V = seed, N, model.V
        self.ending, match = Ending(vocabulary, sampling), sampling.match
        self.source = Source(model, vocabulary, Sampling(temperature=1.0))
        state = match.start(seed.text, sampling.length) if match else DEAD
        self.texts, self.totals = np.empty((1, 0), np.int32), np.zeros(1)
        """Units, and their nats (M,)."""
        self.states: Array = np.array([state])
        self.best: Sample | None = None
        self.fewest = np.inf  # nats of the best text that has ended

    def run(self) -> Sample:
        """The best text."""
        ids = context(self.seed.ids, self.source.vocabulary)
        origin, stepper = read(self.source.single, ids), self.source.stepper(self.N)
        for k in range(self.N):
            stepper.begin(k, origin.carried)
        logits = origin.logits if len(ids) else self.source.first_logits()
        for n in range(self.ending.length):
            nats = self._longer(logits[: len(self.totals)], self.ending.length - n)
            streams, units = self._keep(nats, last=n + 1 == self.ending.length)
            if not streams:
                break
            self.texts = np.hstack([self.texts[streams], np.array(units, np.int32)[:, None]])
            self.totals = nats[streams, units]
            if self.ending.match:
                self.states = self.ending.match.table[self.states[streams], units]
            idle = [0] * (self.N - len(streams))
            stepper.take_over(stepper, np.array([*streams, *idle]))
            logits = stepper.step([*units, *idle])
        assert self.best is not None
        return self.best

    def _longer(self, logits: Array, left: int) -> Array:
        """The nats (M, V) of all texts that are one unit longer; infinite where no match can
        follow. A text after which nothing may follow has ended."""
        y = logits.astype(np.float64)
        y -= y.max(axis=1, keepdims=True)
        nats: Array = self.totals[:, None] + np.log(np.exp(y).sum(axis=1, keepdims=True)) - y
        if match := self.ending.match:
            lefts = np.full(len(self.states), left)
            for k in np.flatnonzero(match.over(self.states, lefts)).tolist():
                self._offer(self._ended(self.texts[k], over=True), self.totals.item(k))
            nats[~match.allowed(self.states, lefts)] = np.inf
        return nats

    def _keep(self, nats: Array, last: bool) -> tuple[list[int], list[int]]:
        """The streams and units of the N texts with the fewest nats that have not ended."""
        streams, units = [], []
        for k, i in self._rising(nats, last):
            if nats[k, i] >= self.fewest:
                break
            if self.ending.candidates[i] or last:
                sample = self._ended(np.append(self.texts[k], i), over=last)
                if sample.stop:
                    self._offer(sample, nats.item(k, i))
                    continue
            streams.append(k)
            units.append(i)
            if len(streams) == self.N:
                break
        return streams, units

    def _rising(self, nats: Array, last: bool) -> Iterator[tuple[int, int]]:
        """Streams and units by their nats, as many as surely have N among them that have not
        ended; in the `last` step the first."""
        flat = nats.reshape(-1)
        most = 1 if last else self.N + len(nats) * int(self.ending.candidates.sum())
        places = np.arange(len(flat))
        if most < len(flat):
            places = np.flatnonzero(flat <= np.partition(flat, most - 1)[most - 1])
        order = places[np.argsort(flat[places], kind="stable")]
        for place in order[np.isfinite(flat[order])].tolist():
            yield divmod(place, self.V)

    def _ended(self, text: Array, over: bool) -> Sample:
        """A text as a sample, which has ended if its `stop` is set."""
        sample = self.ending.sample(0, self.seed)
        sample.add(text.tolist(), over)
        return sample

    def _offer(self, sample: Sample, nats: float) -> None:
        if nats < self.fewest:
            self.best, self.fewest = sample, nats
