"""Matrix products, arranged so that the processor is quick with them."""

from collections.abc import Callable
from functools import partial

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, aligned_rows, empty, items_per_block

Product = Callable[[], object]
"""Makes one product: its factors and the memory of its result were fixed beforehand."""

SMALL_PRODUCT = 100**3
"""OpenBLAS multiplies (M, K) by (K, N) without first repacking the matrices as long as M*N*K is
no more than this; at these sizes that is up to twice as fast."""

FEWEST_ROWS = 16  # products of fewer rows than this are not worth their calls
FEWEST_SUMMED = 64  # products over fewer rows than this are not worth being added up

WIDEST, PANELS = 128, (64, 32)
"""Columns of a small product: all, where they are not more than `WIDEST`; else so many."""


def _stack(n: int, matrix: int) -> int:
    """The number of rows, a divisor of n, that suits small products with a matrix of `matrix`
    elements; 0 where there is none."""
    stacks = (n // parts for parts in range(1, n // FEWEST_ROWS + 1) if n % parts == 0)
    return next((stack for stack in stacks if stack * matrix <= SMALL_PRODUCT), 0)


class Panels:
    """Weights W (G, K, N) laid out for quick products x W of many rows x.

    The columns lie in panels, and the rows x are taken in stacks, such that every single product
    is a small one where that is possible. Every row of a panel begins at a cache line: with H = 100
    the products take a fifth less time than with rows that follow each other.
    """

    def __init__(self, n: int, G: int, K: int, N: int, dtype: DTypeLike) -> None:
        """For n rows; other numbers of rows are multiplied as well, if perhaps not as quickly."""
        widths = (N,) if N <= WIDEST else PANELS
        self.width = next((w for w in widths if _stack(n, K * w)), N)
        self.whole = N - N % self.width  # columns in panels of equal width; the rest is one more
        parts = (G, 1, self.whole // self.width, K, self.width), (G, 1, 1, K, N - self.whole)
        self.panels = [aligned_rows(shape, dtype) for shape in parts if shape[-1]]

    def fill(self, W: Array, scale: Array | None = None) -> None:
        """Take over W (G, K, N), times scale (G, 1, 1)."""
        G, K, _ = W.shape
        for panels, part in zip(self.panels, self._parts(W), strict=True):
            split = part.reshape(G, K, *panels.shape[2::2]).swapaxes(1, 2)
            np.copyto(panels[:, 0], split)
            if scale is not None:
                np.multiply(panels, scale[:, None, None], out=panels)

    def product(self, x: Array, out: Array) -> Product:
        """Of x, (n, K) for all gates or (G, n, K), with W, into `out` (G, n, N)."""
        *lead, n, K = x.shape
        stack = _stack(n, K * self.width) or n
        rows = x.reshape(*lead, n // stack, 1, stack, K)
        products = []
        for panels, part in zip(self.panels, self._parts(out), strict=True):
            columns = part.reshape(len(out), n // stack, stack, *panels.shape[2::2]).swapaxes(2, 3)
            products.append(partial(np.matmul, rows, panels, columns))
        first, last = products[0], products[-1]
        return first if first is last else lambda: (first(), last())

    def multiply(self, x: Array, out: Array) -> None:
        """Make the `product` now."""
        self.product(x, out)()

    def _parts(self, W: Array) -> list[Array]:
        return [W[..., : self.whole], W[..., self.whole :]][: len(self.panels)]


class OneMatrix:
    """Weights W (G, K, N) as one matrix, for quick products with a single row: with the columns of
    the gates side by side it makes x W of all gates; or, if `summed`, with the gates one above the
    other, the sum of the products with a row for each."""

    def __init__(self, G: int, K: int, N: int, dtype: DTypeLike, summed: bool = False) -> None:
        self.matrix = empty((G * K, N) if summed else (K, G * N), dtype)
        by_row = self.matrix.reshape((G, K, N) if summed else (K, G, N))
        self.W = by_row if summed else by_row.swapaxes(0, 1)

    def fill(self, W: Array, scale: Array | None = None) -> None:
        """Take over W (G, K, N), times scale (G, 1, 1)."""
        np.multiply(W, 1 if scale is None else scale, out=self.W)

    def product(self, x: Array, out: Array) -> Product:
        """Of x (1, K) into `out` (G, 1, N); summed, of x (G, 1, K) into (1, 1, N). Both are
        contiguous."""
        assert x.flags.c_contiguous
        assert out.flags.c_contiguous
        return partial(x.reshape(-1).dot, self.matrix, out.reshape(-1))


class Linear(Panels):
    """y = x W for each gate, over the positions of T steps of B streams, and its gradients."""

    def __init__(self, W: tuple[int, ...], T: int, B: int, dtype: DTypeLike) -> None:
        """W is the shape (G, K, N) of the weights."""
        G, K, N = W
        super().__init__(B, G, K, N, dtype)
        self.transposed, self.dW = Panels(B, G, N, K, dtype), empty(W, dtype)
        steps = min(T, items_per_block(G * K * B, dtype))
        self.dx = empty((G, steps * B, K), dtype)  # of a block of positions, by gate

    def backward(self, x: Array, W: Array, dy: Array, *, dW: Array, dx: Array) -> None:
        """dW = x^T dy, and dx (n, K) = dy W^T summed over the gates, with dy (G, n, N)."""
        sum_products(x, dy, dW, self.dW)
        self.transposed.fill(W.transpose(0, 2, 1))
        n, block = len(x), self.dx.shape[1]
        for at in range(0, n, block):
            dx_by_gate = self.dx[:, : min(n - at, block)]
            self.transposed.multiply(dy[:, at : at + block], dx_by_gate)
            np.add.reduce(dx_by_gate, axis=0, out=dx[at : at + block])


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
