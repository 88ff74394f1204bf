"""What a layer reads: one-hot characters, embedded ones, or the layer below.

An `Input` is how layer k makes u = (x Wx + b) * scale of what it reads, and the way back:

    forward    return a function that writes u for some of the steps; scale is (G, 1, 1)
    backward   by the last `forward` and du (G, T', B, H), write the gradients of the weights, and
               that of dense values into dx (T', B, D)

Its weights are layer{k}.Wx (G, V or D, H) and layer{k}.b (G, 1, H) among `w`, their gradients among
`d`. What enters is x: ids (T', B) of the lowest layer, values (T', B, D) of others.

N is the number of positions, T * B; V the size of the vocabulary; G the gates of the cell; H the
width of the layer, and D of what it reads, where that is dense.
"""

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, Weights, empty, items_per_block
from charlstm.nn.dropout import Draws, Dropout
from charlstm.nn.products import SMALL_PRODUCT, Linear
from charlstm.nn.recurrent import WriteU
from charlstm.nn.shape import Shape


class RowSums:
    """The gradient of rows that were looked up: of each id the sum over where it stands."""

    def __init__(self, G: int, V: int, N: int, H: int, dtype: DTypeLike) -> None:
        self.block = items_per_block(G * H, dtype)
        self.rows = empty((G * N * H,), dtype)
        self.sums = empty((G * min(V + 1, N) * H,), dtype)
        self.rank = np.zeros(V + 1, np.uint16 if V < 1 << 16 else np.intp)  # 16 bits: radix sort
        self.ones = np.ones((1, N), dtype)
        # as a matrix, where that is small: sorting would take longer
        self.one_hot = empty((N if N * V * H <= SMALL_PRODUCT else 0, V), dtype)
        self.places = np.arange(N)

    def write(self, ids: Array, du: Array, dW: Array, db: Array) -> None:
        """Write into dW (G, V, H) the sums of du (G, T, B, H) over the places of each of the ids
        (T, B), and into db (G, 1, H) that over all. An id below zero has no row."""
        ids, N = ids.reshape(-1), ids.size
        du = du.reshape(len(du), N, -1)
        if not len(self.one_hot):
            self._write_sorted(ids, du, dW, db)
            return
        x = self.one_hot[:N]
        x[...] = 0.0
        x[self.places[:N], ids] = ids >= 0
        np.matmul(x.T, du, out=dW)
        np.matmul(self.ones[:, :N], du, out=db)

    def _write_sorted(self, ids: Array, du: Array, dW: Array, db: Array) -> None:
        """The places of a character are brought together by sorting, characters that stand equally
        often side by side, and their runs are summed as products with a row of ones."""
        G, V, H = dW.shape
        ids = np.where(ids < 0, V, ids)  # V: all that is unknown
        counts = np.bincount(ids, minlength=V + 1)
        used = np.flatnonzero(counts)
        used = used[np.argsort(counts[used], kind="stable")]
        lengths, runs = np.unique(counts[used], return_counts=True)
        self.rank[used] = np.arange(len(used))
        order = np.argsort(self.rank[ids], kind="stable")
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
        dW[...] = 0.0
        known = used < V
        dW[:, used[known]] = sums if known.all() else sums[:, known]


class OneHot:
    """One-hot input: x_t Wx is the row of Wx that belongs to the character, so it is looked up.

    An id below zero stands for a character outside the vocabulary: its one-hot vector is zero,
    and of x Wx + b only b remains.
    """

    def __init__(self, Wx: tuple[int, ...], N: int, dtype: DTypeLike) -> None:
        """Of the lowest layer, with the shape of its Wx, for N positions."""
        G, V, H = Wx
        # where there are fewer rows than positions, bias and scale go to the rows, in a table
        self.table = empty(Wx, dtype) if V <= N else None
        self.row_sums = RowSums(G, V, N, H, dtype)
        self.ids = np.empty((0, 0), np.intp)

    def forward(self, w: Weights, x: Array, scale: Array, draws: Draws | None) -> WriteU:
        ids = self.ids = x
        table, Wx, b = self.table, w["layer0.Wx"], w["layer0.b"] * scale
        if table is not None:
            np.multiply(Wx, scale, out=table)
            np.add(table, b, out=table)
        unknown = ids < 0
        any_unknown = unknown.any()
        G, V, H = Wx.shape
        rows = (Wx if table is None else table).reshape(G * V, H)
        places = ids[:, None] + V * np.arange(G)[:, None]  # (T, G, B), among the rows of all gates

        def write(start: int, end: int, u: Array) -> None:
            part, u_by_step = places[start:end], u.swapaxes(0, 1)
            if u.shape[2] == 1:  # of a single stream, calls for each step would take longer
                u_by_step[...] = rows.take(part, 0, mode="clip")
            else:
                for place, u_t in zip(part, u_by_step, strict=True):
                    rows.take(place, 0, u_t, "clip")
            if table is None:
                np.multiply(u, scale[:, None], out=u)
                np.add(u, b[:, None], out=u)
            if any_unknown:
                u[:, unknown[start:end]] = b

        return write

    def backward(self, w: Weights, d: Weights, du: Array, dx: Array) -> None:
        self.row_sums.write(self.ids, du, d["layer0.Wx"], d["layer0.b"])


class Dense:
    """Dense input: u = x Wx + b with x the hidden states of the layer below, or an embedding."""

    def __init__(self, k: int, Wx: tuple[int, ...], T: int, B: int, dtype: DTypeLike) -> None:
        """Of layer k, with the shape of its Wx."""
        self.Wx, self.b = f"layer{k}.Wx", f"layer{k}.b"
        self.linear = Linear(Wx, T, B, dtype)
        self.x = empty((0, B, Wx[1]), dtype)
        self.product = empty((Wx[0] * T * B * Wx[2],), dtype)  # used as far as a chunk goes

    def forward(self, w: Weights, x: Array, scale: Array, draws: Draws | None) -> WriteU:
        self.x = x
        self.linear.fill(w[self.Wx], scale)
        b = w[self.b] * scale

        def write(start: int, end: int, u: Array) -> None:
            G, T, B, H = u.shape
            product = self.product[: u.size].reshape(G, T * B, H)
            self.linear.multiply(x[start:end].reshape(T * B, -1), product)
            np.add(product.reshape(u.shape), b[:, None], out=u)

        return write

    def backward(self, w: Weights, d: Weights, du: Array, dx: Array) -> None:
        x, dx = (array.reshape(-1, array.shape[-1]) for array in (self.x, dx))
        du = du.reshape(len(du), len(x), -1)
        np.add.reduce(du, axis=1, keepdims=True, out=d[self.b])
        self.linear.backward(x, w[self.Wx], du, dW=d[self.Wx], dx=dx)


class Embedding:
    """Dense input of x = E[id], the character's row of E (V, D); the zero vector for an id below
    zero. That is one-hot input times E, so the gradient of E is that of rows looked up. Where
    the output is tied, this is added to the gradient that the output has written."""

    def __init__(self, shape: Shape, T: int, B: int, dtype: DTypeLike, dropout: Dropout) -> None:
        V, D = shape.V, shape.embedding
        self.dense = Dense(0, shape.weights["layer0.Wx"], T, B, dtype)
        self.dropout = dropout
        self.row_sums = RowSums(1, V, T * B, D, dtype)
        self.db = empty((1, 1, D), dtype)  # of the bias that there is not
        self.tied_dE = empty((V, D), dtype) if shape.tie else None
        self.x = empty((T, B, D), dtype)
        self.ids = np.empty((0, B), np.intp)

    def forward(self, w: Weights, x: Array, scale: Array, draws: Draws | None) -> WriteU:
        ids = self.ids = x
        x = self.x[: len(ids)]
        w["E"].take(ids, 0, x, "clip")
        unknown = ids < 0
        if unknown.any():
            x[unknown] = 0.0
        return self.dense.forward(w, self.dropout.forward(x, draws), scale, draws)

    def backward(self, w: Weights, d: Weights, du: Array, dx: Array) -> None:
        self.dense.backward(w, d, du, dx)
        self.dropout.backward(dx)
        dE = d["E"] if self.tied_dE is None else self.tied_dE
        self.row_sums.write(self.ids, dx[None], dE[None], self.db)
        if self.tied_dE is not None:
            np.add(d["E"], dE, out=d["E"])


Input = OneHot | Embedding | Dense


def inputs(shape: Shape, T: int, B: int, dtype: DTypeLike, dropout: Dropout) -> list[Input]:
    """The input of each layer, the lowest first. The dropout is that of an embedding's values."""
    Wx = [shape.weights[f"layer{k}.Wx"] for k in range(shape.layers)]
    embedded = shape.embedding > 0
    lowest = Embedding(shape, T, B, dtype, dropout) if embedded else OneHot(Wx[0], T * B, dtype)
    return [lowest, *(Dense(k, Wx[k], T, B, dtype) for k in range(1, shape.layers))]
