"""The three recurrent cells: their equations, forward and backward.

This page holds what happens inside a cell, element by element; every matrix product is in
`charlstm.nn.recurrent`. `tests/reference.py` has the same cells as naive code, an equation a line:
the tests hold both to be equal, and every gradient to be the derivative.

Two pre-activations come in, each with the gates as its leading axis:

    u = x Wx + b      from the input            (G, B, H)
    v = h Wh          from the previous state   (G, B, H)

They are kept apart because the GRU's reset gate acts on v alone. G is the number of gates, B of
streams, T of steps; H is the hidden size. Three functions make a cell:

    forward      one step: u and v become activations and the next state
    derivatives  many steps at once: activations become local derivatives
    backward     one step, last step first: local derivatives become gradients

so that the backward loop, which cannot be done for all steps at once, only multiplies.

`forward` and `backward` yield their operations, a NumPy function with its inputs and where the
result goes: the same memory serves every segment, so the operations are prepared once and then
only called (`prepared`).

Letters: z is what stands inside sigma or tanh, dh is d loss / d h, `*` is element-wise. A prime
marks the state after the step, in the code `_next`: h' is h_next.

Memory: the arrays (B, H) of a step lie in slots that each cell names. `activations` are the slots
of an array (A, T, B, H), the gates first, where u stands when `forward` begins. `kept` are the
slots of an array (D, T, B, H) of local derivatives, where `backward` leaves d loss / d u in the
slots `du` and d loss / d v in `dv`. Slots that go through the same operation are one view, and
take one call. `derivatives` uses the activations as scratch: they are in cache, and needed no more.

The logistic function is computed as sigma(x) = 1/2 + 1/2 tanh(x/2), which never overflows and
costs one tanh. The inner 1/2 is not spent on every element: u and v of a sigmoid gate come in
halved, because the weights that they are made with are (`scale`, once a segment).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from charlstm.nn.arrays import Array

States = Sequence[Array]
Call = Callable[[], object]

Operation = tuple[Callable[..., object], *tuple[Array, ...]]
"""A function, arrays that go into it, and the array that its result goes to."""

HALF = np.array(0.5, np.float32)  # an array: a Python float costs a conversion each time
ONE = np.array(1.0, np.float32)


def prepared(operations: Iterable[Operation]) -> list[Call]:
    """The operations as functions to call, which costs less than to look up what they need."""
    return [partial(function, *arrays) for function, *arrays in operations]


def perform(operations: Iterable[Operation]) -> None:
    """Do the operations now."""
    for call in prepared(operations):
        call()


def slots(names: Sequence[str], *wanted: str) -> slice:
    """The slots `wanted` among `names`, equally far apart, as one slice: a view, not a copy."""
    places = [names.index(name) for name in wanted]
    first, last = places[0], places[-1]
    stride = (last - first) // max(1, len(places) - 1) or 1
    assert places == list(range(first, last + 1, stride)), wanted
    return slice(first, last + 1, stride)


class Cell:
    """What `charlstm.nn.recurrent` asks of a cell."""

    name: str
    gates: tuple[str, ...]  # in the order of the leading axis of Wx, Wh and b
    scale: tuple[float, ...]  # factor of u and v of each gate beforehand: 1/2 for a sigmoid, else 1
    states: tuple[str, ...] = ("h",)  # the first is h, what the layer above sees
    activations: tuple[str, ...]  # the A slots of a step's activations; the first G hold u before
    kept: tuple[str, ...]  # the D slots of what a step keeps for the backward pass
    du: slice  # the slots of `kept` with the gradient of u after `backward`
    dv: slice  # those of v; the same as `du` where u and v count by their sum alone
    direct = False  # whether h' depends on h also without Wh, so that dh has a direct part

    def forward(self, a: Array, v: Array, state: States, state_next: States) -> Iterator[Operation]:
        """From u in the activations a (A, B, H), v and `state` compute the activations and
        `state_next`, which may be the arrays of `state`. The first operation adds v to u where
        they count by their sum alone."""
        raise NotImplementedError

    def derivatives(self, a: Array, h_next: Array, d: Array) -> None:
        """From activations a (A, T, B, H), overwritten, and h' (T, B, H) write the local
        derivatives d (D, T, B, H). What else they need of a state, the activations keep."""
        raise NotImplementedError

    def backward(self, d: Array, dstate_next: States, dstate: States) -> Iterator[Operation]:
        """From the local derivatives d (D, B, H) and the gradient of the state after (overwritten)
        write du and dv, and into `dstate` what reaches the state before without passing through
        Wh. An LSTM's or RNN's dh has no such part and is not written."""
        raise NotImplementedError


class RNN(Cell):
    """Simple recurrent network (J. L. Elman, Finding Structure in Time, 1990, with tanh).

    forward     h' = tanh(u + v)
    backward    dz = dh' * (1 - h'^2)        du = dv = dz

    activations   after forward      kept   after derivatives   after backward
    h             u + v              dz     dh'/dz              dz
    """

    name = "rnn"
    gates = ("h",)
    scale = (1.0,)
    activations = gates
    kept = ("dz",)
    du = dv = slots(kept, "dz")

    def forward(self, a: Array, v: Array, state: States, state_next: States) -> Iterator[Operation]:
        z, (h_next,) = a, state_next
        yield np.add, z, v, z
        yield np.tanh, z[0], h_next  # h' = tanh(u + v)

    def derivatives(self, a: Array, h_next: Array, d: Array) -> None:
        (dz,) = d
        np.multiply(h_next, h_next, out=dz)
        np.subtract(ONE, dz, out=dz)  # dh'/dz = 1 - h'^2

    def backward(self, d: Array, dstate_next: States, dstate: States) -> Iterator[Operation]:
        (dz,), (dh_next,) = d, dstate_next
        yield np.multiply, dz, dh_next, dz  # dz = dh' dh'/dz


class GRU(Cell):
    """Gated recurrent unit (K. Cho et al., 2014), reset gate applied after the product, as in
    cuDNN: one product with Wh serves all three gates.

    forward
        r, q = sigma(u + v)          reset gate, update gate
        n    = tanh(u_n + r * v_n)   candidate
        h'   = (1 - q) * n + q * h   = n + q * (h - n)

    backward
        dz_n = dh' * (1 - q) * (1 - n^2)     du_n = dz_n     dv_n = dz_n * r
        dz_q = dh' * (h - n) * q * (1 - q)   du_q = dv_q = dz_q
        dz_r = dz_n * v_n * r * (1 - r)      du_r = dv_r = dz_r
        dh   = dh' * q + (through Wh)

        activations   after forward      kept   after derivatives   after backward
        r             r                  dz_r   dz_n/dz_r           dz_r
        q             q                  dz_q   dh'/dz_q            dz_q
        n             n                  dz_n   dh'/dz_n            dz_n
        vn            v_n                r      dz_n/dv_n = r       r
        qhn           q * (h - n)        q      dh'/dh = q          q
                                         dv_r                       dz_r
                                         dv_q                       dz_q
                                         dv_n                       dz_n * r
    """

    name = "gru"
    gates = ("r", "q", "n")
    scale = (0.5, 0.5, 1.0)
    activations = (*gates, "vn", "qhn")
    kept = ("dz_r", "dz_q", "dz_n", "r", "q", "dv_r", "dv_q", "dv_n")
    du = slots(kept, "dz_r", "dz_q", "dz_n")
    dv = slots(kept, "dv_r", "dv_q", "dv_n")
    direct = True

    N, RQ, VN_QHN = gates.index("n"), slots(gates, "r", "q"), slots(activations, "vn", "qhn")
    DZ_RQ, DZ_N, KEPT_RQ = slots(kept, "dz_r", "dz_q"), kept.index("dz_n"), slots(kept, "r", "q")
    DV_RQ = slots(kept, "dv_r", "dv_q")

    def forward(self, a: Array, v: Array, state: States, state_next: States) -> Iterator[Operation]:
        (h,), (h_next,) = state, state_next
        r, q, n, vn, qhn = a
        rq = a[self.RQ]
        yield np.add, rq, v[self.RQ], rq
        yield np.tanh, rq, rq
        yield np.multiply, rq, HALF, rq
        yield np.add, rq, HALF, rq  # r, q = sigma(u + v)
        yield np.copyto, vn, v[self.N]
        yield np.multiply, r, vn, qhn
        yield np.add, n, qhn, n
        yield np.tanh, n, n  # n = tanh(u_n + r v_n)
        yield np.subtract, h, n, qhn
        yield np.multiply, q, qhn, qhn
        yield np.add, n, qhn, h_next  # h' = n + q (h - n)

    def derivatives(self, a: Array, h_next: Array, d: Array) -> None:
        r, q, n, vn, _ = a
        rq, vn_qhn, dz_rq, dz_n = a[self.RQ], a[self.VN_QHN], d[self.DZ_RQ], d[self.DZ_N]
        # r in z_n = u_n + r v_n, and q in h' = n + q (h - n), with dr/dz_r = r - r r, so too q
        np.multiply(r, vn, out=vn)
        np.multiply(vn_qhn, rq, out=dz_rq)
        np.subtract(vn_qhn, dz_rq, out=dz_rq)
        # dz_n/dz_r = r v_n - (r v_n) r = v_n r (1 - r)
        # dh'/dz_q = q (h - n) - (q (h - n)) q = (h - n) q (1 - q)
        # n in h' = n + q (h - n), with dn/dz_n = 1 - n^2
        np.multiply(n, n, out=n)
        np.subtract(ONE, n, out=n)
        np.multiply(n, q, out=dz_n)
        np.subtract(n, dz_n, out=dz_n)
        # dh'/dz_n = (1 - n^2) - (1 - n^2) q = (1 - q) (1 - n^2)
        np.copyto(d[self.KEPT_RQ], rq)  # dz_n/dv_n = r, dh'/dh = q

    def backward(self, d: Array, dstate_next: States, dstate: States) -> Iterator[Operation]:
        (dh_next,), (dh,) = dstate_next, dstate
        dz_r, dz_q, dz_n, r, q, _, _, dv_n = d
        dz_rq, dv_rq = d[self.DZ_RQ], d[self.DV_RQ]
        yield np.multiply, dz_n, dh_next, dz_n  # dz_n = dh' dh'/dz_n
        yield np.multiply, dz_q, dh_next, dz_q  # dz_q = dh' dh'/dz_q
        yield np.multiply, dz_r, dz_n, dz_r  # dz_r = dz_n dz_n/dz_r
        yield np.copyto, dv_rq, dz_rq
        yield np.multiply, dz_n, r, dv_n  # dv_n = dz_n r
        yield np.multiply, dh_next, q, dh  # dh = dh' q + (through Wh)


class LSTM(Cell):
    """Long short-term memory (S. Hochreiter, J. Schmidhuber, 1997; forget gate: F. Gers,
    J. Schmidhuber, F. Cummins, 2000), without peepholes.

    forward
        i, f, o = sigma(u + v)       input, forget and output gate
        g       = tanh(u + v)        candidate
        c'      = f * c + i * g      cell state: what is kept, and what is written
        h'      = o * tanh(c')       hidden state: what is shown

    backward
        dz_o = dh' * tanh(c') * o * (1 - o)
        dc' += dh' * o * (1 - tanh(c')^2)
        dz_i = dc' * g * i * (1 - i)
        dz_f = dc' * c * f * (1 - f)
        dz_g = dc' * i * (1 - g^2)
        dc   = dc' * f               du = dv = dz

        activations   after forward      kept   after derivatives   after backward
        i             i                  dz_i   dc'/dz_i            dz_i
        f             f                  dz_f   dc'/dz_f            dz_f
        o             o                  dz_o   dh'/dz_o            dz_o
        g             g                  dz_g   dc'/dz_g            dz_g
        tanh_c        tanh(c')           dc_h   dh'/dc'             dh' * dh'/dc'
        ig            i * g              f      dc'/dc = f          f
        fc            f * c
    """

    name = "lstm"
    gates = ("i", "f", "o", "g")
    scale = (0.5, 0.5, 0.5, 1.0)
    states = ("h", "c")
    activations = (*gates, "tanh_c", "ig", "fc")
    kept = ("dz_i", "dz_f", "dz_o", "dz_g", "dc_h", "f")
    du = dv = slots(kept, "dz_i", "dz_f", "dz_o", "dz_g")

    Z, IF, IFO = slots(activations, *gates), slots(gates, "i", "f"), slots(gates, "i", "f", "o")
    IG_FC = slots(activations, "ig", "fc")
    DZ_IF, DZ_O_DC_H = slots(kept, "dz_i", "dz_f"), slots(kept, "dz_o", "dc_h")

    def forward(self, a: Array, v: Array, state: States, state_next: States) -> Iterator[Operation]:
        (_, c), (h_next, c_next) = state, state_next
        i, f, o, g, tanh_c, ig, fc = a
        z, ifo = a[self.Z], a[self.IFO]
        yield np.add, z, v, z
        yield np.tanh, z, z  # g = tanh(u + v)
        yield np.multiply, ifo, HALF, ifo
        yield np.add, ifo, HALF, ifo  # i, f, o = sigma(u + v)
        yield np.multiply, i, g, ig
        yield np.multiply, f, c, fc
        yield np.add, fc, ig, c_next  # c' = f c + i g
        yield np.tanh, c_next, tanh_c
        yield np.multiply, o, tanh_c, h_next  # h' = o tanh(c')

    def derivatives(self, a: Array, h_next: Array, d: Array) -> None:
        i, f, o, g, tanh_c, ig, _ = a
        _, _, dz_o, dz_g, dc_h, kept_f = d
        i_f, ig_fc, dz_if = a[self.IF], a[self.IG_FC], d[self.DZ_IF]
        # c' = f c + i g, with df/dz_f = f - f f, so too i, and dg/dz_g = 1 - g g
        np.copyto(kept_f, f)  # dc'/dc = f
        np.multiply(ig, g, out=g)
        np.subtract(i, g, out=dz_g)  # dc'/dz_g = i - (i g) g = i (1 - g^2)
        np.multiply(ig_fc, i_f, out=i_f)
        np.subtract(ig_fc, i_f, out=dz_if)
        # dc'/dz_i = i g - (i g) i = g i (1 - i)
        # dc'/dz_f = f c - (f c) f = c f (1 - f)
        # h' = o tanh(c'), with do/dz_o = o - o o, and tanh c' derived is 1 - tanh(c') tanh(c')
        np.multiply(h_next, tanh_c, out=tanh_c)
        np.subtract(o, tanh_c, out=dc_h)  # dh'/dc' = o - h' tanh(c') = o (1 - tanh(c')^2)
        np.multiply(h_next, o, out=o)
        np.subtract(h_next, o, out=dz_o)  # dh'/dz_o = h' - h' o = tanh(c') o (1 - o)

    def backward(self, d: Array, dstate_next: States, dstate: States) -> Iterator[Operation]:
        (dh_next, dc_next), (_, dc) = dstate_next, dstate
        _, _, _, dz_g, dc_h, f = d
        dz_if, dz_o_dc_h = d[self.DZ_IF], d[self.DZ_O_DC_H]
        yield np.multiply, dz_o_dc_h, dh_next, dz_o_dc_h  # dz_o = dh' dh'/dz_o, and dh' dh'/dc'
        yield np.add, dc_next, dc_h, dc_next  # dc' += dh' dh'/dc'
        yield np.multiply, dz_if, dc_next, dz_if  # dz_i = dc' dc'/dz_i, dz_f = dc' dc'/dz_f
        yield np.multiply, dz_g, dc_next, dz_g  # dz_g = dc' dc'/dz_g
        yield np.multiply, f, dc_next, dc  # dc = dc' f


CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN(), GRU(), LSTM())}
"""Every cell by its name in a configuration. A cell listed here is trained, stored, sampled
from and tested like the others."""
