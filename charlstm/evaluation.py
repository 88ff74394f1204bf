"""How well a model predicts a text: nats, bits and perplexity per character."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from charlstm.arrays import Array
from charlstm.corpus import UNKNOWN
from charlstm.layers import SoftmaxOutput
from charlstm.model import Model, State, Stepper, Unrolled

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
        nats = self.nats_per_char
        return math.exp(nats) if nats < 700 or math.isnan(nats) else math.inf

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
    ids = np.asarray(ids, np.intp)
    Wy, by, N = model.Wy, model.weights["by"], len(ids) - 1
    stepper = Stepper(model, 1, state)
    output = SoftmaxOutput(model.V, max(1, min(SEGMENT, N)), model.H, model.dtype)
    parts = [np.empty(0)]
    for start in range(0, N, SEGMENT):
        targets = ids[start + 1 : start + 1 + SEGMENT]
        shown = stepper.read(ids[start : start + len(targets)])
        nats = output.loss(shown, Wy, by, targets)
        parts.append(_charged(nats, targets))
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

    def __init__(self, ids: Array, counted: Array, first: bool = True) -> None:
        """ids (W + S + 1, B): W that only prepare the state, then S with their targets, of which
        those count that are 1 in counted (S, B). Whether the first stream is the text's first."""
        self.ids, self.counted, self.first = ids, counted, first
        self.warm_up = len(ids) - len(counted) - 1
        self.characters = int(counted.sum(dtype=np.int64))

    @classmethod
    def of(cls, ids: Array, B: int, limit: int = 400_000) -> HeldOut:
        """A text (N,), N > 1, as B streams."""
        last = len(ids) - 1
        L = math.ceil(last / B)  # characters per stream
        scored = min(L, math.ceil(limit / B))
        warm_up = min(WARM_UP, L)
        places = np.arange(B) * L + np.arange(-warm_up, scored + 1)[:, None]
        counted = places[warm_up + 1 :] <= last
        return cls(ids[np.clip(places, 0, last)].astype(np.int32), counted.astype(np.uint8))

    def part(self, streams: slice) -> HeldOut:
        """Some of the streams."""
        first = self.first and not streams.start
        return HeldOut(self.ids[:, streams], self.counted[:, streams], first)

    def nats(self, model: Model, unrolled: Unrolled, streams: slice) -> float:
        """Nats of some of the streams together under a model of the same shape as that of
        `unrolled`, whose buffers are borrowed."""
        T = unrolled.T
        trained, unrolled.model, unrolled.training = unrolled.model, model, False
        ids = self.ids[:, streams].astype(np.intp)
        state = model.zero_state(ids.shape[1])
        for start in range(0, self.warm_up, T):
            state = unrolled.forward(ids[start : min(start + T, self.warm_up)], state)
        if self.first and not streams.start:
            for s in state:
                s[0] = 0.0  # nothing stands before the first stream
        total = 0.0
        ids, counted = ids[self.warm_up :], self.counted[:, streams]
        for start in range(0, len(counted), T):
            targets = ids[start + 1 : start + 1 + T]
            state = unrolled.forward(ids[start : start + len(targets)], state)
            nats = _charged(unrolled.loss(targets), targets)
            total += float(np.sum(nats * counted[start : start + T]))
        unrolled.model, unrolled.training = trained, True
        return total
