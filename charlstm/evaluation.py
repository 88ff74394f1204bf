"""How well a model predicts a text: nats, bits and perplexity per character."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from charlstm.arrays import Array
from charlstm.corpus import UNKNOWN
from charlstm.model import Model, State, Unrolled

UNKNOWN_NATS = math.log(1_112_064)
"""What a character outside the vocabulary costs: as if drawn from all Unicode characters alike
(20.08 bits). The same for every model, so that models can be compared."""

SEGMENT = 512
"""Characters that a single stream is scored at a time. The result does not depend on it."""

WARM_UP = 100
"""Characters that each of many streams reads before the first one that is scored."""


@dataclass(frozen=True)
class Evaluation:
    """The score of a text. Its first character is given, not predicted, and is not scored."""

    characters: int
    """Characters scored, those outside the vocabulary included."""
    unknown: int
    """Of these, characters outside the vocabulary."""
    nats: float
    """Sum of -ln p over the characters scored; a character outside costs `UNKNOWN_NATS`."""

    @property
    def nats_per_char(self) -> float:
        return self.nats / self.characters if self.characters else math.nan

    @property
    def bits_per_char(self) -> float:
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp of the nats per character: among how many alike the next one would be as hard."""
        return math.exp(self.nats_per_char) if self.characters else math.nan

    def to_dict(self) -> dict[str, float | int]:
        return {
            "nats_per_char": self.nats_per_char,
            "bits_per_char": self.bits_per_char,
            "perplexity": self.perplexity,
            "characters": self.characters,
            "unknown": self.unknown,
            "nats": self.nats,
        }


def _charged(nats: Array, targets: Array) -> Array:
    """Nats (any shape) with the price of an unknown character put where the target is one."""
    return np.where(targets == UNKNOWN, UNKNOWN_NATS, nats.astype(np.float64))


def surprisals(model: Model, ids: Array, state: State | None = None) -> Array:
    """Nats (N - 1,), float64, of each character of ids (N,) but the first, as one stream."""
    ids = np.asarray(ids, np.intp).reshape(-1, 1)  # (N, 1)
    unrolled = Unrolled(model, max(1, min(SEGMENT, len(ids) - 1)), 1, training=False)
    state = model.zero_state(1) if state is None else state
    parts = [np.empty(0)]
    for start in range(0, len(ids) - 1, SEGMENT):
        targets = ids[start + 1 : start + 1 + SEGMENT]
        state = unrolled.forward(ids[start : start + len(targets)], state)
        parts.append(_charged(unrolled.loss(targets), targets).reshape(-1))
    return np.concatenate(parts)


def evaluate(model: Model, ids: Array) -> Evaluation:
    """Score ids (N,), `UNKNOWN` among them, as one stream whose state is carried through."""
    nats = surprisals(model, ids)
    unknown = int(np.count_nonzero(np.asarray(ids[1:]) == UNKNOWN))
    return Evaluation(len(nats), unknown, float(np.sum(nats)))


class HeldOut:
    """A quick measure of the held-out loss while training: the text as many streams side by side.

    Each stream reads the last `WARM_UP` characters before its own first, so that it starts from
    nearly the state that reading everything from the beginning would have left. All characters
    count once, unless there are more than `limit`: then each stream's beginning does.
    """

    def __init__(self, ids: Array, shards: list[Unrolled], limit: int = 400_000) -> None:
        B = sum(shard.B for shard in shards)
        scored = len(ids) - 1
        L = math.ceil(scored / B)  # characters per stream
        warm_up = min(WARM_UP, L)
        starts = np.arange(B) * L
        take = min(L, math.ceil(limit / B))
        places = starts + np.arange(-warm_up, take + 1)[:, None]  # (warm_up + take + 1, B)
        self.warm_up = warm_up
        self.ids = ids[np.clip(places, 0, scored)].astype(np.intp)
        self.counts = (places[warm_up + 1 :] <= scored).astype(np.float64)  # (take, B)
        self.shards = shards
        edges = np.cumsum([0, *(shard.B for shard in shards)])
        self.columns = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        # the first stream, and with a short text others too, has nothing before it
        self.fresh = starts < warm_up

    def _shard(self, k: int) -> float:
        unrolled, columns = self.shards[k], self.columns[k]
        ids, counts = self.ids[:, columns], self.counts[:, columns]
        state = unrolled.model.zero_state(unrolled.B)
        unrolled.training = False
        for start in range(0, self.warm_up, unrolled.T):
            segment = ids[start : min(start + unrolled.T, self.warm_up)]
            state = unrolled.forward(np.ascontiguousarray(segment), state)
        for s in state:
            s[self.fresh[columns]] = 0.0
        total = 0.0
        ids = ids[self.warm_up :]
        for start in range(0, len(counts), unrolled.T):
            targets = np.ascontiguousarray(ids[start + 1 : start + 1 + unrolled.T])
            state = unrolled.forward(
                np.ascontiguousarray(ids[start : start + len(targets)]), state
            )
            nats = _charged(unrolled.loss(targets), targets)
            total += float(np.sum(nats * counts[start : start + len(targets)]))
        unrolled.training = True
        return total

    def nats_per_char(
        self, run: Callable[[Callable[[int], float], int], list[float]]
    ) -> float:
        """The mean. `run(f, n)` returns [f(0), …, f(n - 1)], perhaps in parallel."""
        return sum(run(self._shard, len(self.shards))) / float(self.counts.sum())
