"""Arrays and matrix products, arranged so that the processor is quick with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

CACHE_LINE = 64
"""Bytes. A vector register of the widest kind is as long."""

SMALL_PRODUCT = 100**3
"""OpenBLAS multiplies (M, K) by (K, N) without first repacking the matrices as long as M*N*K is
no more than this; at these sizes that is up to a fifth faster."""

FEWEST_ROWS = 16
"""Products of fewer rows than this are not worth their calls."""

FEWEST_SUMMED = 64
"""Products over fewer rows than this are not worth being added up."""


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


def stack_count(rows: int, matrix: int) -> int:
    """Into how many equal stacks (a divisor of `rows`) to cut the rows that are multiplied by a
    matrix of `matrix` elements, so that every product is a small one; 1 where that is not
    possible."""
    for parts in range(1, rows // FEWEST_ROWS + 1):
        if rows % parts == 0 and rows // parts * matrix <= SMALL_PRODUCT:
            return parts
    return 1


def multiply_rows(x: Array, W: Array, out: Array) -> None:
    """out = x W for many rows: x (..., n, K), W (..., K, N), out (..., n, N), as small products.

    The n rows of `x` and of `out` must be evenly spaced, so that cutting them copies nothing.
    """
    n, (K, N) = x.shape[-2], W.shape[-2:]
    cut = (stack_count(n, K * N), -1)
    if cut[0] == 1:
        np.matmul(x, W, out=out)
    else:
        x, out = (m.reshape(*m.shape[:-2], *cut, m.shape[-1]) for m in (x, out))
        np.matmul(x, W[..., None, :, :], out=out)


def sum_products(x: Array, y: Array, out: Array, scratch: Array) -> None:
    """out = x^T y, summed over many rows, as small products: x (n, K), y (G, n, N), `out` and
    `scratch` (G, K, N). It is the gradient of weights W where y is that of x W."""
    n, (K, N) = len(x), out.shape[1:]
    rows = SMALL_PRODUCT // (K * N)
    if rows < FEWEST_SUMMED:
        rows = n
    np.matmul(x[:rows].T, y[:, :rows], out=out)
    for at in range(rows, n, rows):
        np.matmul(x[at : at + rows].T, y[:, at : at + rows], out=scratch)
        np.add(out, scratch, out=out)
