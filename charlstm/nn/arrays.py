"""Arrays in memory that suits the processor, and named ones in one flat vector."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike as DTypeLike
from numpy.typing import NDArray

Array = NDArray[Any]

Weights = Mapping[str, Array]
"""Arrays by name: weights, or their gradients."""

CACHE_LINE = 64  # bytes; a vector register of the widest kind is as long
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


def aligned_rows(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """As `empty`, with each row at the beginning of a cache line."""
    *lead, n = shape
    line = CACHE_LINE // np.dtype(dtype).itemsize
    return empty((*lead, -(-n // line) * line), dtype)[..., :n]


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """As `empty`, filled with zeros."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def items_per_block(size: int, dtype: DTypeLike) -> int:
    """How many items of `size` numbers each a block of `BLOCK_BYTES` holds; at least one."""
    return max(1, BLOCK_BYTES // (size * np.dtype(dtype).itemsize))


class Parameters(dict[str, Array]):
    """Named arrays that lie one after the other in `flat` (P,), all the weights or all gradients.

    Clipping, an optimizer's step, a checkpoint and an exchange between processes all act on the
    flat vector; the network reads and writes through the names. Each array is a view: writing into
    it, or into `flat`, changes both.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, flat: Array | None = None
    ) -> None:
        self.shapes = shapes
        size = sum(map(math.prod, shapes.values()))
        self.flat: Array = zeros((size,), dtype) if flat is None else flat
        if self.flat.shape != (size,):
            raise ValueError(f"a flat vector of {size} numbers is needed, not {self.flat.shape}")
        at = 0
        for name, shape in shapes.items():
            end = at + math.prod(shape)
            super().__setitem__(name, self.flat[at:end].reshape(shape))
            at = end

    def __setitem__(self, name: str, array: Array) -> None:
        raise TypeError(f"the array {name} lies in `flat`: write into it, [...]")

    def like(self, flat: Array | None = None) -> Self:
        """The same names and shapes over another vector (zeros where none is given)."""
        return type(self)(self.shapes, self.flat.dtype, flat)
