"""The three recurrent cells: their equations, forward and backward.

Only what happens inside one cell stands here, element by element; every matrix product is
in `charlstm.nn.recurrent`. Two pre-activations come in, each with the gates as its leading axis:

    u = x Wx + b      from the input            (G, B, H)
    v = h Wh          from the previous state   (G, B, H)

They are kept apart because the GRU's reset gate acts on v alone. B is the number of streams,
H the hidden size, G the number of gates. Three functions make a cell:

    forward      one step: u and v become activations and the next state
    derivatives  many steps at once: activations become local derivatives
    backward     one step, last step first: local derivatives become gradients

so that the backward loop, which cannot be done for all steps at once, only multiplies. The
activations live in an array (A, T, B, H) whose first G slots hold u when `forward` begins; the
local derivatives in an array (D, T, B, H) whose slots `du` and `dv` hold d loss / d u and
d loss / d v when `backward` has ended.

Gradients are named d + the name of what they belong to: dh is d loss / d h. A prime in the
equations, a trailing underscore in the code, marks the state after the step: h' or h_.
`*` is element-wise.

The logistic function is computed as sigma(x) = 1/2 + 1/2 tanh(x/2), which never overflows and
costs one tanh. The inner 1/2 is not spent on every element: u and v of a sigmoid gate come in
halved, because the weights that they are made with are (`scale`, once a segment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from charlstm.nn.arrays import Array

States = Sequence[Array]

HALF = np.array(0.5, np.float32)  # an array: a Python float costs a conversion each time
ONE = np.array(1.0, np.float32)


def sigmoid_of_half_(x: Array) -> None:
    """sigma(2x) in place: 1/2 + 1/2 tanh(x)."""
    np.tanh(x, out=x)
    np.multiply(x, HALF, out=x)
    np.add(x, HALF, out=x)


class Cell(Protocol):
    """What `charlstm.nn.recurrent` asks of a cell."""

    name: str
    gates: tuple[str, ...]
    """Names of the gates, in the order of the leading axis of Wx, Wh and b."""
    scale: tuple[float, ...]
    """What u and v of each gate are multiplied by beforehand: 1/2 for a sigmoid, else 1."""
    states: tuple[str, ...]
    """Names of the state arrays; the first is h, what the layer above sees."""
    activations: int
    """A: how many (B, H) arrays a step's activations take; the first G hold u beforehand."""
    derivatives_kept: int
    """D: how many (B, H) arrays a step keeps for the backward pass."""
    du: slice
    """Where among the D the gradient of u is after `backward`."""
    dv: slice
    """Where the gradient of v is; the same as `du` where dv = du."""
    direct: bool
    """Whether h' depends on h also without Wh, so that dh has a direct part."""

    def forward_views(self, a: Array) -> Any:
        """Name the parts of one step's activations (A, B, H), once, for `forward`."""

    def forward(self, a: Any, v: Array, state: States, after: States) -> None:
        """From u in `a`, v and `state` compute the activations and the state `after`, which may
        be the arrays of `state`."""

    def derivatives(self, a: Array, h_: Array, d: Array) -> None:
        """From activations (A, T, B, H) and h' (T, B, H) write the local derivatives d
        (D, T, B, H). What else they need of a state, the activations keep."""

    def backward_views(self, d: Array) -> Any:
        """Name the parts of one step's derivatives (D, B, H), once, for `backward`."""

    def backward(self, d: Any, dafter: States, dstate: States) -> None:
        """From the gradient of the state after (overwritten) write du and dv, and into `dstate`
        what reaches the state before without passing through Wh. An LSTM's or RNN's dh has no
        such part and is not written."""


class RNN:
    """Simple recurrent network (J. L. Elman, Finding Structure in Time, 1990, with tanh).

        h' = tanh(u + v)

    backward
        dz = dh' * (1 - h'^2)        du = dv = dz
    """

    name: str = "rnn"
    gates: tuple[str, ...] = ("h",)
    scale: tuple[float, ...] = (1.0,)
    states: tuple[str, ...] = ("h",)
    activations = 1
    derivatives_kept = 1
    du = dv = slice(0, 1)
    direct = False

    def forward_views(self, a: Array) -> Array:
        z: Array = a[0]
        return z

    def forward(self, a: Array, v: Array, state: States, after: States) -> None:
        (h_,) = after
        np.add(a, v[0], out=h_)
        np.tanh(h_, out=h_)  # h' = tanh(u + v)

    def derivatives(self, a: Array, h_: Array, d: Array) -> None:
        dz = d[0]
        np.multiply(h_, h_, out=dz)
        np.subtract(ONE, dz, out=dz)  # dh'/dz = 1 - h'^2

    def backward_views(self, d: Array) -> Array:
        z: Array = d[0]
        return z

    def backward(self, d: Array, dafter: States, dstate: States) -> None:
        (dh_,) = dafter
        np.multiply(d, dh_, out=d)  # dz = dh' dh'/dz


class GRUForward(NamedTuple):
    """Views of one step's activations; u in the first three."""

    rq: Array
    r: Array
    q: Array
    n: Array
    vn: Array
    rest: Array


class GRUBackward(NamedTuple):
    """Views of one step's derivatives."""

    rq: Array
    r: Array
    q: Array
    n: Array
    gate_r: Array
    gate_q: Array
    dv_rq: Array
    dv_n: Array


class GRU:
    """Gated recurrent unit (K. Cho et al., 2014), reset gate applied after the product, as in
    cuDNN: one product with Wh serves all three gates.

        r, q = sigma(u + v)          reset gate, update gate
        n    = tanh(u_n + r * v_n)   candidate
        h'   = (1 - q) * n + q * h   = n + q * (h - n)

    backward, with dz the gradient of what stands inside sigma or tanh
        dz_n = dh' * (1 - q) * (1 - n^2)     du_n = dz_n     dv_n = dz_n * r
        dz_q = dh' * (h - n) * q * (1 - q)   du_q = dv_q = dz_q
        dz_r = dz_n * v_n * r * (1 - r)      du_r = dv_r = dz_r
        dh   = dh' * q + (through Wh)
    """

    name: str = "gru"
    gates: tuple[str, ...] = ("r", "q", "n")
    scale: tuple[float, ...] = (0.5, 0.5, 1.0)
    states: tuple[str, ...] = ("h",)
    activations = 5
    derivatives_kept = 8
    du = slice(0, 3)
    dv = slice(5, 8)
    direct = True

    def forward_views(self, a: Array) -> GRUForward:
        return GRUForward(a[0:2], a[0], a[1], a[2], a[3], a[4])

    def forward(self, a: GRUForward, v: Array, state: States, after: States) -> None:
        (h,), (h_,) = state, after
        rq, r, q, n, vn, rest = a
        np.add(rq, v[:2], out=rq)
        sigmoid_of_half_(rq)  # r, q = sigma(u + v)
        np.copyto(vn, v[2])
        np.multiply(r, vn, out=rest)
        np.add(n, rest, out=n)
        np.tanh(n, out=n)  # n = tanh(u_n + r v_n)
        np.subtract(h, n, out=rest)
        np.multiply(q, rest, out=rest)  # q (h - n)
        np.add(n, rest, out=h_)  # h' = n + q (h - n)

    def derivatives(self, a: Array, h_: Array, d: Array) -> None:
        r, q, n, vn, _ = a
        rq, vn_rest = a[0:2], a[3:5]
        d_rq, dn, gates = d[0:2], d[2], d[3:5]
        np.copyto(gates, rq)  # dh'/dh = q
        np.multiply(r, vn, out=vn)
        np.multiply(vn_rest, rq, out=d_rq)
        np.subtract(vn_rest, d_rq, out=d_rq)  # dz_n/dz_r = v_n r (1-r), dh'/dz_q = (h-n) q (1-q)
        np.multiply(n, n, out=n)
        np.subtract(ONE, n, out=n)
        np.multiply(n, q, out=dn)
        np.subtract(n, dn, out=dn)  # dh'/dz_n = (1 - q) (1 - n^2)

    def backward_views(self, d: Array) -> GRUBackward:
        return GRUBackward(d[0:2], d[0], d[1], d[2], d[3], d[4], d[5:7], d[7])

    def backward(self, d: GRUBackward, dafter: States, dstate: States) -> None:
        (dh_,), (dh,) = dafter, dstate
        rq, r, q, n, gate_r, gate_q, dv_rq, dv_n = d
        np.multiply(n, dh_, out=n)  # dz_n
        np.multiply(q, dh_, out=q)  # dz_q
        np.multiply(r, n, out=r)  # dz_r
        np.copyto(dv_rq, rq)
        np.multiply(n, gate_r, out=dv_n)  # dv_n = dz_n r
        np.multiply(dh_, gate_q, out=dh)  # dh = dh' q + …


class LSTMForward(NamedTuple):
    """Views of one step's activations; u in z."""

    z: Array
    ifo: Array
    i: Array
    f: Array
    o: Array
    g: Array
    tanh_c: Array
    ig: Array
    fc: Array


class LSTMBackward(NamedTuple):
    """Views of one step's derivatives."""

    i_f: Array
    o_and_tanh_c: Array
    tanh_c: Array
    g: Array
    gate_f: Array


class LSTM:
    """Long short-term memory (S. Hochreiter, J. Schmidhuber, 1997; forget gate: F. Gers,
    J. Schmidhuber, F. Cummins, 2000), without peepholes.

        i, f, o = sigma(u + v)       input, forget and output gate
        g       = tanh(u + v)        candidate
        c'      = f * c + i * g      cell state: what is kept, and what is written
        h'      = o * tanh(c')       hidden state: what is shown

    backward, with dz the gradient of what stands inside sigma or tanh
        dz_o = dh' * tanh(c') * o * (1 - o)
        dc' += dh' * o * (1 - tanh(c')^2)
        dz_i = dc' * g * i * (1 - i)
        dz_f = dc' * c * f * (1 - f)
        dz_g = dc' * i * (1 - g^2)
        dc   = dc' * f               du = dv = dz
    """

    name: str = "lstm"
    gates: tuple[str, ...] = ("i", "f", "o", "g")
    scale: tuple[float, ...] = (0.5, 0.5, 0.5, 1.0)
    states: tuple[str, ...] = ("h", "c")
    activations = 7
    derivatives_kept = 6
    du = dv = slice(0, 4)
    direct = False

    def forward_views(self, a: Array) -> LSTMForward:
        return LSTMForward(a[0:4], a[0:3], *a)

    def forward(self, a: LSTMForward, v: Array, state: States, after: States) -> None:
        (_, c), (h_, c_) = state, after
        z, ifo, i, f, o, g, tanh_c, ig, fc = a
        np.add(z, v, out=z)
        np.tanh(z, out=z)  # g = tanh(u + v)
        np.multiply(ifo, HALF, out=ifo)
        np.add(ifo, HALF, out=ifo)  # i, f, o = sigma(u + v)
        np.multiply(i, g, out=ig)
        np.multiply(f, c, out=fc)
        np.add(fc, ig, out=c_)  # c' = f c + i g
        np.tanh(c_, out=tanh_c)
        np.multiply(o, tanh_c, out=h_)  # h' = o tanh(c')

    def derivatives(self, a: Array, h_: Array, d: Array) -> None:
        i, f, o, g, tanh_c, ig, _ = a
        i_f, ig_fc = a[0:2], a[5:7]
        d_if, d_o, d_g, d_tanh, gate_f = d[0:2], d[2], d[3], d[4], d[5]
        # products go into the activations, which are in cache and not needed any more
        np.copyto(gate_f, f)  # dc'/dc = f
        np.multiply(ig, g, out=g)
        np.subtract(i, g, out=d_g)  # dc'/dz_g = i (1 - g^2)
        np.multiply(ig_fc, i_f, out=i_f)
        np.subtract(ig_fc, i_f, out=d_if)  # dc'/dz_i = g i (1 - i), dc'/dz_f = c f (1 - f)
        np.multiply(h_, tanh_c, out=tanh_c)
        np.subtract(o, tanh_c, out=d_tanh)  # dh'/dc' = o (1 - tanh(c')^2)
        np.multiply(h_, o, out=o)
        np.subtract(h_, o, out=d_o)  # dh'/dz_o = tanh(c') o (1 - o)

    def backward_views(self, d: Array) -> LSTMBackward:
        return LSTMBackward(d[0:2], d[2:5:2], d[4], d[3], d[5])

    def backward(self, d: LSTMBackward, dafter: States, dstate: States) -> None:
        (dh_, dc_), (_, dc) = dafter, dstate
        i_f, o_and_tanh_c, tanh_c, g, gate_f = d
        np.multiply(o_and_tanh_c, dh_, out=o_and_tanh_c)  # dz_o, and what dc' gets from dh'
        np.add(dc_, tanh_c, out=dc_)  # dc' += dh' o (1 - tanh(c')^2)
        np.multiply(i_f, dc_, out=i_f)  # dz_i, dz_f
        np.multiply(g, dc_, out=g)  # dz_g
        np.multiply(gate_f, dc_, out=dc)  # dc = dc' f


CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN(), GRU(), LSTM())}
"""Every cell by its name in a configuration. A cell listed here is trained, stored, sampled
from and tested like the others."""
