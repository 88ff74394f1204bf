"""The batch streams of training."""

from __future__ import annotations

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.text.ids import release

RESIDENT = 1 << 22
"""Units read from mapped ids before their pages, which count as memory in use, are released."""


class Streams:
    """A text read as B contiguous streams, T units of each at a time.

    The text is a ring. Stream b starts at b N / B and never ends, so the recurrent state is
    carried on for ever and every unit is used. `position`, the number of units read from each
    stream, is all that a resumed run needs.
    """

    def __init__(
        self, ids: Array, B: int, T: int, position: int = 0, part: slice = slice(None)
    ) -> None:
        """`part` are the streams to read, of all B."""
        self.ids, self.T, self.position = ids, T, position
        self._offsets = (np.arange(B, dtype=np.int64) * len(ids) // B)[part]  # (B,)
        self._steps = np.arange(T + 1, dtype=np.int64)[:, None]  # (T + 1, 1)
        self._resident = 0  # units read since pages were last released

    def next(self) -> Array:
        """The next segment (T + 1, B): rows 0 … T-1 are inputs, rows 1 … T their targets."""
        places = (self._offsets + self._steps + self.position % len(self.ids)) % len(self.ids)
        self.position += self.T
        segment: Array = self.ids[places].astype(np.intp)
        self._resident += segment.size
        if self._resident >= RESIDENT:
            release(self.ids)
            self._resident = 0
        return segment
