"""What stands below and above the recurrent layers: input and output.

N is the number of positions, T * B; V the size of the vocabulary; G the gates of the cell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array, empty, multiply_rows, sum_products
from charlstm.recurrent import Input

CACHE_BYTES = 1 << 19
"""Positions are worked off in blocks, so that what is made of them takes this much memory."""

MODERATE = 60.0
"""As long as all logits of a block are between minus and plus this, exp can neither overflow nor
vanish in float32, and the pass that takes their maxima off beforehand is saved."""


class OneHot:
    """One-hot input: x_t Wx is the row of Wx that belongs to the character, so it is looked up.

    An id below zero stands for a character outside the vocabulary: its one-hot vector is zero,
    and of x Wx + b only b remains.
    """

    def __init__(self, G: int, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        # where there are fewer rows than positions, bias and scale go to the rows, in a table
        self.table = empty((G, V, H), dtype) if V <= N else None
        self.block = CACHE_BYTES // (G * H * np.dtype(dtype).itemsize)
        self.rows = empty((G * N * H,), dtype)
        self.unknown = empty((G, 1, H), dtype)
        self.ones = np.ones((1, N), dtype)

    def prepare(self, ids: Array, Wx: Array, b: Array, scale: Array) -> Input:
        """Return a function that writes u = (x Wx + b) * scale for the steps start to end.

        ids (T, B), Wx (G, V, H), b (G, 1, H), scale (G, 1, 1); u (G, end - start, B, H).
        """
        table, b = self.table, b * scale
        if table is not None:
            np.multiply(Wx, scale, out=table)
            np.add(table, b, out=table)
        unknown = ids < 0
        any_unknown = bool(unknown.any())

        def write(start: int, end: int, u: Array) -> None:
            part = ids[start:end]
            for rows, u_gate in zip(Wx if table is None else table, u, strict=True):
                rows.take(part, 0, u_gate, "clip")
            if table is None:
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
        N, V = T * B, dWx.shape[1]
        flat = np.where(ids < 0, V, ids).reshape(N)  # V: all that is unknown
        if V < 1 << 16:
            flat = flat.astype(np.uint16)  # sorted by radix, four times as fast
        order = np.argsort(flat, kind="stable")
        in_order = flat[order]
        ends = np.append(np.flatnonzero(np.diff(in_order)) + 1, N)  # of each character's run
        runs = list(zip(in_order[ends - 1].tolist(), ends.tolist(), strict=True))
        du = du.reshape(G, N, H)
        dWx[...] = 0.0
        self.unknown[...] = 0.0
        first = at = 0
        while at < N:  # a block of whole runs at a time, so that what is gathered stays in cache
            last = max(first + 1, int(np.searchsorted(ends, at + self.block, "right")))
            n = runs[last - 1][1] - at
            rows = self.rows[: G * n * H].reshape(G, n, H)
            du.take(order[at : at + n], 1, rows, "clip")
            start = 0
            for row, end in runs[first:last]:
                out = dWx[:, row : row + 1] if row < V else self.unknown
                np.matmul(self.ones[:, : end - at - start], rows[:, start : end - at], out=out)
                start = end - at
            first, at = last, at + n
        np.add.reduce(dWx, axis=1, keepdims=True, out=db)  # every position is in one of the rows
        np.add(db, self.unknown, out=db)  # or here


class Dense:
    """Input of a layer that stands on another one: u = x Wx + b with x the hidden states below."""

    def __init__(self, G: int, D: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.Wx = empty((G, D, H), dtype)  # Wx times scale
        self.WxT = empty((G, H, D), dtype)
        self.dWx = empty((G, D, H), dtype)
        self.block = min(N, max(16, CACHE_BYTES // (G * D * np.dtype(dtype).itemsize)))
        self.dx = empty((G, self.block, D), dtype)  # of a block of positions, by gate

    def prepare(self, x: Array, Wx: Array, b: Array, scale: Array) -> Input:
        """As `OneHot.prepare`. x (T, B, D), Wx (G, D, H)."""
        Wx, b = np.multiply(Wx, scale, out=self.Wx), b * scale

        def write(start: int, end: int, u: Array) -> None:
            G, T, B, H = u.shape
            u = u.reshape(G, T * B, H)
            multiply_rows(x[start:end].reshape(1, T * B, -1), Wx, u)
            np.add(u, b, out=u)

        return write

    def backward(self, x: Array, Wx: Array, du: Array, dWx: Array, db: Array, dx: Array) -> None:
        """dWx = x^T du, db = sum of du, dx = du Wx^T summed over the gates."""
        G, T, B, H = du.shape
        N = T * B
        du, out = du.reshape(G, N, H), dx.reshape(N, -1)
        sum_products(x.reshape(N, -1), du, dWx, self.dWx)
        np.add.reduce(du, axis=1, keepdims=True, out=db)
        np.copyto(self.WxT, Wx.transpose(0, 2, 1))
        for at in range(0, N, self.block):
            part = slice(at, min(N, at + self.block))
            dx_gates = self.dx[:, : part.stop - at]
            multiply_rows(du[:, part], self.WxT, dx_gates)
            np.add.reduce(dx_gates, axis=0, out=out[part])


class SoftmaxOutput:
    """Output projection, softmax and cross-entropy: y = h Wy^T + by, p = softmax(y).

    The loss of one position is -ln p[target] in nats, and d loss / d y = p - onehot(target).
    Positions are worked off in blocks, so that the logits of a block (n, V) stay in cache and
    no (N, V) array exists.
    """

    def __init__(self, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.block = min(N, max(16, CACHE_BYTES // (V * np.dtype(dtype).itemsize)))
        self.y = empty((self.block, V), dtype)
        self.WyT = empty((H, V), dtype)
        self.dWy = empty((V, H), dtype)
        self.dby = empty((V,), dtype)
        self.rows = np.arange(self.block) * V  # where they begin in flat memory
        self.ones = np.ones(max(V, self.block), dtype)  # sums as products: quicker than add.reduce

    def _probabilities(
        self, h: Array, by: Array, targets: Array, nats: Array
    ) -> tuple[Array, Array]:
        """Write the loss of the n positions into nats; return y (n, V) with exp(y) in it, up to
        a factor for each position, and the sums over the vocabulary."""
        n = len(h)
        y = self.y[:n]
        multiply_rows(h, self.WyT, y)
        np.add(y, by, out=y)
        moderate = max(y.max(), -y.min()) <= MODERATE  # not if any is not a number
        if not moderate:
            np.subtract(y, y.max(axis=1, keepdims=True), out=y)
        np.negative(y.reshape(-1)[self.rows[:n] + targets], out=nats)
        np.exp(y, out=y)
        sums = np.matmul(y, self.ones[: y.shape[1]])
        np.add(nats, np.log(sums), out=nats)
        return y, sums

    def loss(self, h: Array, Wy: Array, by: Array, targets: Array) -> Array:
        """Nats of each position (N,). h (N, H), Wy (V, H), by (V,), targets (N,)."""
        nats = empty((len(h),), h.dtype)
        np.copyto(self.WyT, Wy.T)
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            self._probabilities(h[part], by, targets[part], nats[part])
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
        np.copyto(self.WyT, Wy.T)
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            y, sums = self._probabilities(h[part], by, targets[part], nats[part])
            n = len(y)
            np.multiply(y, (scale / sums)[:, None], out=y)
            y.reshape(-1)[self.rows[:n] + targets[part]] -= scale  # dy = scale (p - onehot)
            multiply_rows(y, Wy, dh[part])
            first = at == 0
            np.matmul(y.T, h[part], out=dWy if first else self.dWy)
            np.matmul(self.ones[:n], y, out=dby if first else self.dby)
            if not first:
                np.add(dWy, self.dWy, out=dWy)
                np.add(dby, self.dby, out=dby)
        return nats
