"""A quick measure of the held-out loss while training: the text as many streams side by side."""

import math
from typing import Self

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.unrolled import Unrolled
from charlstm.scoring.scorers import UNKNOWN_NATS
from charlstm.text.vocabulary import UNKNOWN

WARM_UP = 100
"""Units that each of many streams reads before the first one that is scored."""

LIMIT = 400_000
"""Units that are scored at most."""

NOT_COUNTED, COUNTS, CHARGED = 0, 1, 2
"""What becomes of a held-out unit: it is left out, or scored by the model, or costs the fixed price
of what is outside the vocabulary."""


class HeldOut:
    """The held-out text as B streams side by side.

    Each stream reads the last `WARM_UP` units before its own first, so that it starts from nearly
    the state that reading everything from the beginning would have left. All units count once,
    unless there are more than `limit`: then each stream's beginning does.
    """

    def __init__(self, ids: Array, counted: Array, first: bool = True) -> None:
        """ids (W + S + 1, B): W that only prepare the state, then S with their targets, which are
        `NOT_COUNTED`, `COUNTS` or `CHARGED` in counted (S, B). `first` says whether the first
        stream begins where the text does."""
        self.ids, self.counted, self.first = ids, counted, first
        self.warm_up = len(ids) - len(counted) - 1
        self.characters = int(np.count_nonzero(counted))

    @classmethod
    def of(cls, ids: Array, B: int, limit: int = LIMIT, charged: int = UNKNOWN) -> Self:
        """A text (N,), N > 1, as B streams. The id `charged` costs a fixed price."""
        last = len(ids) - 1
        L = math.ceil(last / B)  # units per stream
        scored = min(L, math.ceil(limit / B))
        warm_up = min(WARM_UP, L)
        places = np.arange(B) * L + np.arange(-warm_up, scored + 1)[:, None]
        read = ids[np.clip(places, 0, last)].astype(np.int32)
        counted = np.where(read[warm_up + 1 :] == charged, CHARGED, COUNTS)
        counted[places[warm_up + 1 :] > last] = NOT_COUNTED
        return cls(read, counted.astype(np.uint8))

    def part(self, streams: slice) -> Self:
        """The text of a slice of the streams."""
        first = self.first and not streams.start
        return type(self)(self.ids[:, streams], self.counted[:, streams], first)

    def nats(self, unrolled: Unrolled) -> float:
        """Nats of all streams together under the model of `unrolled`, which is of B streams."""
        T, total, ids = unrolled.T, 0.0, self.ids.astype(np.intp)
        state = unrolled.model.zero_state(ids.shape[1])
        for start in range(0, self.warm_up, T):
            state = unrolled.forward(ids[start : min(start + T, self.warm_up)], state)
        if self.first:
            for s in state:
                s[0] = 0.0  # nothing stands before the first stream
        ids = ids[self.warm_up :]
        for start in range(0, len(self.counted), T):
            targets = ids[start + 1 : start + 1 + T]
            state = unrolled.forward(ids[start : start + len(targets)], state)
            counted = self.counted[start : start + T]
            nats = unrolled.loss(targets).astype(np.float64)
            nats = np.where(counted == CHARGED, UNKNOWN_NATS, nats)
            total += float(np.sum(nats * (counted > NOT_COUNTED)))
        return total
