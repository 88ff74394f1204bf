"""What stands below and above the recurrent layers: input and output.

N is the number of positions, T * B; V the size of the vocabulary; G the gates of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from charlstm.nn.arrays import FEWEST_ROWS, SMALL_PRODUCT, Array, Panels, empty, sum_products
from charlstm.nn.recurrent import Input

CACHE_BYTES = 1 << 19
"""Positions are worked off in blocks, so that what is made of them takes this much memory."""

FEWEST_POSITIONS = 160
"""A block of logits has at least so many positions: with fewer, products with a large vocabulary
would take longer to prepare than to make."""

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
        self.sums = empty((G * min(V + 1, N) * H,), dtype)
        self.rank = np.zeros(V + 1, np.uint16 if V < 1 << 16 else np.intp)  # 16 bits: radix sort
        self.ones = np.ones((1, N), dtype)
        # as a matrix, where that is small: sorting would take longer
        self.x = empty((N, V), dtype) if N * V * H <= SMALL_PRODUCT else None
        self.places = np.arange(N)

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

        Where x^T du is no small product, the places of a character are brought together by sorting,
        characters that stand equally often side by side, and their runs are summed as products with
        a row of ones.
        """
        G, T, B, H = du.shape
        N, V = T * B, dWx.shape[1]
        flat = ids.reshape(N)
        if self.x is not None:
            x, by_place = self.x[:N], du.reshape(G, N, H)
            x[...] = 0.0
            x[self.places[:N], flat] = flat >= 0
            np.matmul(x.T, by_place, out=dWx)
            np.matmul(self.ones[:, :N], by_place, out=db)
            return
        flat = np.where(flat < 0, V, flat)  # V: all that is unknown
        counts = np.bincount(flat, minlength=V + 1)
        used = np.flatnonzero(counts)
        used = used[np.argsort(counts[used], kind="stable")]
        lengths, runs = np.unique(counts[used], return_counts=True)
        self.rank[used] = np.arange(len(used))
        order = np.argsort(self.rank[flat], kind="stable")
        du = du.reshape(G, N, H)
        sums = self.sums[: G * len(used) * H].reshape(G, len(used), 1, H)
        at = first = 0
        for length, last in zip(lengths.tolist(), np.cumsum(runs).tolist(), strict=True):
            ones = self.ones[:, :length]
            while first < last:  # some runs at a time, so that what is gathered stays in cache
                end = min(last, first + max(1, self.block // length))
                n = (end - first) * length
                rows = self.rows[: G * n * H].reshape(G, n, H)
                du.take(order[at : at + n], 1, rows, "clip")
                np.matmul(ones, rows.reshape(G, -1, length, H), out=sums[:, first:end])
                first, at = end, at + n
        sums = sums[:, :, 0]
        np.add.reduce(sums, axis=1, keepdims=True, out=db)
        dWx[...] = 0.0
        known = used < V
        dWx[:, used[known]] = sums if known.all() else sums[:, known]


class Embedding:
    """x = E[id]: the character's row of E (V, D); the zero vector for an id below zero.

    That is one-hot input times E, so its gradient is that of `OneHot` with one gate and no bias.
    """

    def __init__(self, V: int, D: int, T: int, B: int, dtype: DTypeLike) -> None:
        self.x = empty((T, B, D), dtype)
        self.one_hot = OneHot(1, V, T * B, D, dtype)
        self.db = empty((1, 1, D), dtype)  # of the bias that there is not

    def forward(self, ids: Array, E: Array) -> Array:
        """x (T', B, D) of ids (T', B), in memory of our own."""
        x = self.x[: len(ids)]
        E.take(ids, 0, x, "clip")
        unknown = ids < 0
        if unknown.any():
            x[unknown] = 0.0
        return x

    def backward(self, ids: Array, dx: Array, dE: Array) -> None:
        """dE: each row is the sum of dx over the places where its character stands."""
        self.one_hot.backward(ids, dx[None], dE[None], self.db)


class Dense:
    """Dense input: u = x Wx + b with x the hidden states of the layer below, or an embedding."""

    def __init__(self, G: int, D: int, T: int, B: int, H: int, dtype: DTypeLike) -> None:
        self.Wx = Panels(B, G, D, H, dtype)  # times scale
        self.WxT = Panels(B, G, H, D, dtype)
        self.dWx = empty((G, D, H), dtype)
        steps = max(1, min(T, CACHE_BYTES // (G * D * B * np.dtype(dtype).itemsize)))
        self.dx = empty((G, steps * B, D), dtype)  # of a block of positions, by gate
        self.ones = np.ones(G, dtype)

    def prepare(self, x: Array, Wx: Array, b: Array | None, scale: Array | None) -> Input:
        """As `OneHot.prepare`. x (T, B, D), Wx (G, D, H). Bias and scale may be left out."""
        self.Wx.fill(Wx, scale)
        if b is not None and scale is not None:
            b = b * scale

        def write(start: int, end: int, u: Array) -> None:
            G, T, B, H = u.shape
            u = u.reshape(G, T * B, H)
            self.Wx.multiply(self.Wx.rows(x[start:end].reshape(T * B, -1)), self.Wx.columns(u))
            if b is not None:
                np.add(u, b, out=u)

        return write

    def backward(
        self, x: Array, Wx: Array, du: Array, dWx: Array, db: Array | None, dx: Array
    ) -> None:
        """dWx = x^T du, db = sum of du, dx = du Wx^T summed over the gates."""
        G, T, B, H = du.shape
        N = T * B
        du, out = du.reshape(G, N, H), dx.reshape(N, -1)
        sum_products(x.reshape(N, -1), du, dWx, self.dWx)
        if db is not None:
            np.add.reduce(du, axis=1, keepdims=True, out=db)
        self.WxT.fill(Wx.transpose(0, 2, 1))
        block = self.dx.shape[1]
        for at in range(0, N, block):
            n = min(N - at, block)
            by_gate = self.dx[:, :n]
            rows = self.WxT.rows(du[:, at : at + n])
            self.WxT.multiply(rows, self.WxT.columns(by_gate))
            np.add.reduce(by_gate, axis=0, out=out[at : at + n])


@dataclass(frozen=True)
class Drops:
    """What is left out at random while training, as shares from 0 to below 1."""

    dropout: float = 0.0
    """Of the values that enter a layer with dense input, or the output."""
    variational: bool = False
    """Whether these are the same in all steps of a segment."""
    weight_drop: float = 0.0
    """Of the recurrent weights Wh."""
    input_drop: float = 0.0
    """Of the characters that are read, each of which then counts as unknown …"""
    unknown: int = -1
    """… and has this id: that of `<unk>`, where there is such an entry."""


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of a segment come from: from where it stands in the run.

    A run's masks must be the same whichever process makes them, again by another one if that is
    killed, and after a resume; so there is no generator that is drawn from in turn, and no state
    to keep. Philox (J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) turns
    a key and a counter of 256 bits into random bits without any history. The key is the seed of
    the run, and the counter begins at (0, place, stream, step): each place in the network, group
    of streams and step has 2^64 blocks of numbers of its own, which no other one touches.
    """

    seed: int
    """The seed of the run."""
    step: int = 0
    """Steps of training before this one."""
    stream: int = 0
    """The first of the streams, counted over all ranks."""

    def generator(self, place: int) -> np.random.Generator:
        """The numbers of one place in the network."""
        counter = np.array([0, place, self.stream, self.step], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self.seed))


class Mask:
    """Factors that are 0 with probability p and else 1 / (1 - p), which leaves the mean of what is
    multiplied by them as it was (inverted dropout, N. Srivastava et al., 2014)."""

    def __init__(self, p: float, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.p, self.factors = p, empty(shape, dtype)
        self.factor = np.array(1.0 / (1.0 - p), dtype)
        block = max(1, CACHE_BYTES // self.factors.itemsize)
        self.stays = np.empty(min(block, self.factors.size), bool)

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """The first n, or as many as there are, of the factors, drawn anew."""
        factors = self.factors[:n]
        flat, block = factors.reshape(-1), len(self.stays)
        for at in range(0, len(flat), block):
            part = flat[at : at + block]
            stays = self.stays[: len(part)]
            rng.random(None, part.dtype, part)
            np.greater_equal(part, self.p, out=stays)
            np.multiply(stays, self.factor, out=part)
        return factors


class Dropout:
    """Dropout of values x (T, B, n): each by itself, or, if `shared`, one mask for all steps
    (Y. Gal, Z. Ghahramani, A theoretically grounded application of dropout in recurrent neural
    networks, 2016)."""

    def __init__(self, p: float, shared: bool, T: int, B: int, n: int, dtype: DTypeLike) -> None:
        self.mask = Mask(p, (1 if shared else T, B, n), dtype)

    def forward(self, x: Array, rng: np.random.Generator, out: Array) -> Array:
        """x * mask, in `out`, which may be x."""
        return np.multiply(x, self.mask.draw(rng, len(x)), out=out)

    def backward(self, dx: Array) -> None:
        """In place: dx * mask."""
        np.multiply(dx, self.mask.factors[: len(dx)], out=dx)


class SoftmaxOutput:
    """Output projection, softmax and cross-entropy: y = h Wy^T + by, p = softmax(y).

    The loss of one position is -ln p[target] in nats, and d loss / d y = p - onehot(target).
    Positions are worked off in blocks, so that the logits of a block (n, V) stay in cache and
    no (N, V) array exists.
    """

    def __init__(self, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        fitting = CACHE_BYTES // (V * np.dtype(dtype).itemsize) // FEWEST_ROWS * FEWEST_ROWS
        self.block = min(N, max(FEWEST_POSITIONS, fitting))
        self.y = empty((self.block, V), dtype)
        self.wide = V > H
        self.rh = empty((self.block if self.wide else 0, H), dtype)
        self.WyT = Panels(self.block, 1, H, V, dtype)
        self.Wy = Panels(self.block, 1, V, H, dtype)
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
        self.WyT.multiply(self.WyT.rows(h), self.WyT.columns(y[None]))
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
        self.WyT.fill(Wy.T[None])
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
        self.WyT.fill(Wy.T[None])
        self.Wy.fill(Wy[None])
        for at in range(0, len(h), self.block):
            part = slice(at, at + self.block)
            y, sums = self._probabilities(h[part], by, targets[part], nats[part])
            n = len(y)
            # dy = scale (p - onehot) = r (exp(y) - sum * onehot), where r = scale / sum
            y.reshape(-1)[self.rows[:n] + targets[part]] -= sums
            r, of_dWy, of_dby = (scale / sums)[:, None], h[part], self.ones[:n]
            if not self.wide:
                np.multiply(y, r, out=y)
            else:  # the rows of h and dh are shorter: r is left to them
                of_dWy, of_dby = np.multiply(h[part], r, out=self.rh[:n]), r[:, 0]
            self.Wy.multiply(self.Wy.rows(y), self.Wy.columns(dh[None, part]))
            if self.wide:
                np.multiply(dh[part], r, out=dh[part])
            first = at == 0
            np.matmul(y.T, of_dWy, out=dWy if first else self.dWy)
            np.matmul(of_dby, y, out=dby if first else self.dby)
            if not first:
                np.add(dWy, self.dWy, out=dWy)
                np.add(dby, self.dby, out=dby)
        return nats
