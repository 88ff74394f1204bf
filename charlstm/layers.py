"""What stands below and above the recurrent layers: input and output.

N is the number of positions, T * B; V the size of the vocabulary; G the gates of the cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array, empty
from charlstm.recurrent import Input

CACHE_BYTES = 1 << 19
"""The softmax is worked off in blocks of positions whose logits fit into this much memory."""


class OneHot:
    """One-hot input: x_t Wx is the row of Wx that belongs to the character, so it is looked up.

    An id below zero stands for a character outside the vocabulary: its one-hot vector is zero,
    and of x Wx + b only b remains.
    """

    def __init__(self, G: int, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.rows = empty((G, N, H), dtype)
        self.ones = np.ones((1, N), dtype)
        self.table = empty((G, V, H), dtype)

    def prepare(self, ids: Array, Wx: Array, b: Array, scale: Array) -> Input:
        """Return a function that writes u = (x Wx + b) * scale for the steps start to end.

        ids (T, B), Wx (G, V, H), b (G, 1, H), scale (G, 1, 1); u (G, end - start, B, H).
        """
        b = b * scale
        few = ids.size < Wx.shape[1]  # bias and scale go where there are fewer rows
        table = Wx if few else self.table
        if not few:
            np.multiply(Wx, scale, out=table)
            np.add(table, b, out=table)
        unknown = ids < 0
        any_unknown = bool(unknown.any())

        def write(start: int, end: int, u: Array) -> None:
            part = ids[start:end]
            for k in range(len(u)):
                np.take(table[k], part, axis=0, out=u[k], mode="clip")
            if few:
                np.multiply(u, scale[:, None], out=u)
                np.add(u, b[:, None], out=u)
            if any_unknown:
                u[:, unknown[start:end]] = b

        return write

    def backward(self, ids: Array, du: Array, dWx: Array, db: Array) -> None:
        """dWx = x^T du: each row is the sum of du over the places where its character stands.

        The places are brought together by sorting, and each run is summed as a product with
        a row of ones.
        """
        G, T, B, H = du.shape
        N = T * B
        flat = ids.reshape(N)
        # unsigned: unknown characters, below zero, come last; 16 bits are sorted by radix
        flat = flat.astype(np.uint16 if dWx.shape[1] < 1 << 16 else np.uint64)
        order = np.argsort(flat, kind="stable")
        rows = self.rows[:, :N]
        np.take(du.reshape(G, N, H), order, axis=1, out=rows, mode="clip")
        in_order = flat[order]
        ends = np.append(np.flatnonzero(np.diff(in_order)) + 1, N)
        dWx[...] = 0.0
        start = 0
        for row, end in zip(in_order[ends - 1].tolist(), ends.tolist(), strict=True):
            if row < dWx.shape[1]:
                out = dWx[:, row : row + 1]
                np.matmul(self.ones[:, : end - start], rows[:, start:end], out=out)
                start = end
        np.add.reduce(dWx, axis=1, keepdims=True, out=db)  # a position is in at most one row
        if start < N:
            db += np.add.reduce(rows[:, start:], axis=1, keepdims=True)


class Dense:
    """Input of a layer that stands on another one: u = x Wx + b with x the hidden states below."""

    def __init__(self, G: int, D: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.scaled = empty((G, D, H), dtype)
        self.dx = empty((N, D), dtype)

    def prepare(self, x: Array, Wx: Array, b: Array, scale: Array) -> Input:
        """As `OneHot.prepare`. x (T, B, D), Wx (G, D, H)."""
        scaled, b = np.multiply(Wx, scale, out=self.scaled), b * scale

        def write(start: int, end: int, u: Array) -> None:
            G, T, B, H = u.shape
            u = u.reshape(G, T * B, H)
            np.matmul(x[start:end].reshape(T * B, -1), scaled, out=u)
            np.add(u, b, out=u)

        return write

    def backward(self, x: Array, Wx: Array, du: Array, dWx: Array, db: Array, dx: Array) -> None:
        """dWx = x^T du, db = sum of du, dx = du Wx^T summed over the gates."""
        G, T, B, H = du.shape
        N = T * B
        du = du.reshape(G, N, H)
        np.matmul(x.reshape(N, -1).T, du, out=dWx)
        np.add.reduce(du, axis=1, keepdims=True, out=db)
        out, part = dx.reshape(N, -1), self.dx[:N]
        np.matmul(du[0], Wx[0].T, out=out)
        for k in range(1, G):
            np.matmul(du[k], Wx[k].T, out=part)
            np.add(out, part, out=out)


class SoftmaxOutput:
    """Output projection, softmax and cross-entropy: y = Wy h + by, p = softmax(y).

    The loss of one position is -ln p[target] in nats, and d loss / d y = p - onehot(target).
    The vocabulary is the leading axis of the logits (V, n), so that maxima and sums run along
    contiguous rows; positions are worked off in blocks, so that a large vocabulary stays in
    cache and no (V, N) array exists.
    """

    def __init__(self, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.block = min(N, max(16, CACHE_BYTES // (V * np.dtype(dtype).itemsize)))
        self.y = empty((V * self.block,), dtype)
        self.dWy = empty((V, H), dtype)
        self.columns = np.arange(self.block)

    def _probabilities(
        self, h: Array, Wy: Array, by: Array, targets: Array, nats: Array
    ) -> tuple[Array, Array]:
        """Write the loss of the n positions into nats; return exp(y - max) (V, n) and its sums."""
        n, V = len(h), len(Wy)
        y = self.y[: V * n].reshape(V, n)
        np.matmul(Wy, h.T, out=y)
        np.add(y, by[:, None], out=y)
        np.subtract(y, np.maximum.reduce(y, axis=0), out=y)
        np.negative(y[targets, self.columns[:n]], out=nats)
        np.exp(y, out=y)
        sums = np.add.reduce(y, axis=0)
        np.add(nats, np.log(sums), out=nats)
        return y, sums

    def loss(self, h: Array, Wy: Array, by: Array, targets: Array) -> Array:
        """Nats of each position (N,). h (N, H), Wy (V, H), by (V,), targets (N,)."""
        nats = empty((len(h),), h.dtype)
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            self._probabilities(h[part], Wy, by, targets[part], nats[part])
        return nats

    def loss_and_gradient(
        self,
        h: Array,
        Wy: Array,
        by: Array,
        targets: Array,
        scale: float,
        dWy: Array,
        dby: Array,
        dh: Array,
    ) -> Array:
        """As `loss`; also write the gradients of scale * (sum of the nats)."""
        nats = empty((len(h),), h.dtype)
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            y, sums = self._probabilities(h[part], Wy, by, targets[part], nats[part])
            np.multiply(y, scale / sums, out=y)
            y[targets[part], self.columns[: len(sums)]] -= scale  # dy = scale (p - onehot)
            np.matmul(y.T, Wy, out=dh[part])
            if at == 0:
                np.matmul(y, h[part], out=dWy)
                np.add.reduce(y, axis=1, out=dby)
            else:
                np.matmul(y, h[part], out=self.dWy)
                np.add(dWy, self.dWy, out=dWy)
                dby += np.add.reduce(y, axis=1)
        return nats
