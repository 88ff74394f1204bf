"""One recurrent layer unrolled over time: every recurrent product and every buffer.

The loop over time is the only part of the network that cannot be done for all steps at once.
It is kept short: one product with Wh a step and the element-wise work of the cell, all of it
into arrays that are allocated once.

Steps are taken in chunks of a few. The activations of a chunk are turned into what the backward
pass needs, the local derivatives, as soon as the chunk is done: so they never leave the cache,
their memory serves the next chunk again, and a pass without a backward one keeps nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from charlstm.nn.arrays import Array, DTypeLike, empty
from charlstm.nn.cells import Call, Cell, prepared
from charlstm.nn.products import OneMatrix, Panels, sum_products

CACHE_BYTES = 3 << 18
"""A chunk's activations fill at most this much memory (a part of a common second-level cache)."""

WriteU = Callable[[int, int, Array], None]
"""write_u(start, end, u): put u = (x Wx + b) * scale of the steps from start to end into u
(G, end - start, B, H)."""


class Recurrent:
    """A layer of `cell`, unrolled over at most T steps of B streams.

    After `forward`, `h[1:]` (T, B, H) is what the layer shows. After `backward`, `du`
    (G, T, B, H) is the gradient of u. Without `training` there is no memory for the backward pass.
    """

    def __init__(
        self, cell: Cell, T: int, B: int, H: int, dtype: DTypeLike, training: bool = True
    ) -> None:
        G, A = len(cell.gates), len(cell.activations)
        self.cell = cell
        self.chunk = max(1, min(T, CACHE_BYTES // (A * B * H * np.dtype(dtype).itemsize)))
        single = B == 1
        # what a step works on lies together, which is a fifth quicker
        self.a = empty((self.chunk, A, B, H), dtype).swapaxes(0, 1)
        self.v = empty((G, B, H), dtype)
        self.scale = np.array(cell.scale, dtype).reshape(G, 1, 1)
        # h[t] is before step t, h[t + 1] after it; the other states change in place
        self.h = empty((T + 1, B, H), dtype)
        self.inner = [empty((B, H), dtype) for _ in cell.states[1:]]
        self.Wh = OneMatrix(G, H, H, dtype) if single else Panels(B, G, H, H, dtype)  # times scale
        states = [(h, *self.inner) for h in self.h]
        # what a step calls, made once, so that the loops over time only call
        self.forward_steps: list[list[Call]] = [
            [
                self.Wh.product(h, self.v),  # v = h Wh
                *prepared(cell.forward(self.a[:, t % self.chunk], self.v, *states[t : t + 2])),
            ]
            for t, h in enumerate(self.h[:T])
        ]

        T_back = T if training else 0
        # all steps of a gate lie together, so that their sum is a product; of a single stream it
        # is one of two vectors, so what a step works on does
        D = len(cell.kept)
        self.d = (
            empty((T_back, D, B, H), dtype).swapaxes(0, 1)
            if single
            else empty((D, T_back, B, H), dtype)
        )
        self.du, self.dv = self.d[cell.du], self.d[cell.dv]  # (G, T, B, H)
        self.weights = np.empty(0)  # Wh of the last `forward`
        self.dWh = empty((G, H, H), dtype)
        # the gradient of the state before step t is at t % 2
        self.dstates = [tuple(empty((B, H), dtype) for _ in cell.states) for _ in range(2)]
        # dh is the sum of these: what comes through Wh, by gate or already summed, and last what
        # comes directly
        through = 1 if single else G
        self.dh_parts = empty((through + cell.direct, B, H), dtype)
        dstate_parts = [(self.dh_parts[-1], *inner) for _, *inner in self.dstates]
        self.WhT = OneMatrix(G, H, H, dtype, summed=True) if single else Panels(B, G, H, H, dtype)
        # a product with ones is a quicker sum than add.reduce
        ones, parts = np.ones(len(self.dh_parts), dtype), self.dh_parts.reshape(-1, B * H)
        self.backward_steps: list[list[Call]] = [
            [
                *prepared(
                    cell.backward(self.d[:, t], self.dstates[t % 2 - 1], dstate_parts[t % 2])
                ),
                self.WhT.product(self.dv[:, t], self.dh_parts[:through]),  # dh = dv Wh^T, by gate
                partial(np.dot, ones, parts, self.dstates[t % 2][0].reshape(-1)),
            ]
            for t in range(T_back)
        ]

    def forward(
        self, Wh: Array, state: Sequence[Array], T: int, write_u: WriteU, training: bool = False
    ) -> list[Array]:
        """Run T steps from `state` (each (B, H)); return a copy of the state after the last.

        With `training`, keep what `backward` needs.
        """
        self.weights, G = Wh, len(Wh)
        self.Wh.fill(Wh, self.scale)
        np.copyto(self.h[0], state[0])
        for s, before in zip(self.inner, state[1:], strict=True):
            np.copyto(s, before)
        for start in range(0, T, self.chunk):
            end = min(T, start + self.chunk)
            n = end - start
            write_u(start, end, self.a[:G, :n])
            for calls in self.forward_steps[start:end]:
                for call in calls:
                    call()
            if training:
                h_next = self.h[start + 1 : end + 1]
                self.cell.derivatives(self.a[:, :n], h_next, self.d[:, start:end])
        return [s.copy() for s in (self.h[T], *self.inner)]

    def backward(self, dWh: Array, dh: Array, dstate: Sequence[Array] | None) -> list[Array]:
        """Go back through the T steps of the last `forward`; write dWh (G, H, H) and `du`.

        `dh` (T, B, H) is the gradient of what the layer showed; `dstate` that of the state
        after the last step (None: zero, the edge of truncated backpropagation). Returns the
        gradient of the state before the first step.
        """
        h, T = self.h, len(dh)
        self.WhT.fill(self.weights.transpose(0, 2, 1))
        G, H, _ = dWh.shape
        for k, ds in enumerate(self.dstates[T % 2]):
            ds[...] = 0.0 if dstate is None else dstate[k]
        for t in range(T - 1, -1, -1):
            dh_next = self.dstates[(t + 1) % 2][0]
            np.add(dh_next, dh[t], out=dh_next)
            for call in self.backward_steps[t]:
                call()
        # dWh = sum over the steps of h^T dv
        sum_products(h[:T].reshape(-1, H), self.dv[:, :T].reshape(G, -1, H), dWh, self.dWh)
        return [ds.copy() for ds in self.dstates[0]]
