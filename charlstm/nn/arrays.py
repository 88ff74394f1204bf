"""Arrays whose memory suits the processor, and how much of them fits its cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

CACHE_LINE = 64
"""Bytes. A vector register of the widest kind is as long."""

BLOCK_BYTES = 1 << 19
"""Bytes that a block of work fills at most, so that it stays in a common second-level cache."""


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Like `numpy.empty`, with the first element at the beginning of a cache line.

    NumPy aligns to 16 bytes; wide loads then straddle two cache lines each, and element-wise
    work on arrays in the second-level cache was measured to take up to twice as long.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """As `empty`, filled with zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def items_per_block(size: int, dtype: DTypeLike) -> int:
    """How many items of `size` numbers each a block of `BLOCK_BYTES` holds; at least one."""
    return max(1, BLOCK_BYTES // (size * np.dtype(dtype).itemsize))
