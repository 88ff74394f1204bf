"""The model one character at a time, for sampling: nothing is allocated in a step.

A stepper keeps, besides the state, the products that wait for the next character: from the new h
of a layer follow at once its own v = h Wh, and u of the layer above, or the logits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from charlstm.nn.arrays import Array, empty, zeros
from charlstm.nn.cells import Cell, prepared
from charlstm.nn.model import Model
from charlstm.nn.products import Panels, Product
from charlstm.nn.shape import State

COLUMNS = 16
"""A vector times a matrix is up to a quarter faster where its columns are a multiple of this."""

Step = Callable[[Array], Array]
Ids = Sequence[int] | Array
LookUp = Callable[[Ids], Array]
"""From the ids of K characters their u in the lowest layer."""


class StepperLayer:
    """One layer of a `Stepper`. u and v are (G, K, H), of a single stream without the axis K."""

    state: State  # each (K, H), changed in place; the first is h
    v: Array
    above: Array  # h W + b (g, K, n): u of the layer above, or the logits
    multiply: Product  # makes v and `above` of h
    step: Step  # from u the state after the character, v and `above`, which it returns
    read: Step  # from u the state after the character and v; returns h, leaves `above` as it was


class SingleLayer(StepperLayer):
    """The layer for a single stream: one product of a vector with a matrix, in whose columns W and
    Wh stand side by side, and whose last row, which meets a 1, is b."""

    def __init__(self, cell: Cell, Wh: Array, W: Array, b: Array) -> None:
        (G, H, _), (g, _, n), A, dtype = Wh.shape, W.shape, len(cell.activations), Wh.dtype
        start = -(-g * n // COLUMNS) * COLUMNS  # of v among the columns
        end = start + -(-G * H // COLUMNS) * COLUMNS
        columns = zeros((H + 1, end), dtype)
        columns[:H, : g * n], columns[H, : g * n] = np.hstack(list(W)), b.reshape(-1)
        columns[:H, start : start + G * H] = own = np.hstack(list(Wh))
        out = empty((max(end, start + A * H),), dtype)
        summed = cell.du == cell.dv
        a = out[start : start + A * H].reshape(A, H) if summed else empty((A, H), dtype)
        v = self.v = out[start : start + G * H].reshape(G, H)
        with_1 = np.ones(H + 1, dtype)
        h = with_1[:H]
        self.state = [h, *(empty((H,), dtype) for _ in cell.states[1:])]
        self.above = out[: g * n].reshape(g, n)
        self.multiply = partial(with_1.dot, columns, out[:end])
        self.step = _stepping(cell, a, v, self.state, self.multiply, self.above)
        self.read = _stepping(cell, a, v, self.state, partial(h.dot, own, v.reshape(-1)), h)


class WideLayer(StepperLayer):
    """The layer for K > 1 streams: one product of matrices for each of W and Wh."""

    def __init__(self, cell: Cell, K: int, Wh: Array, W: Array, b: Array, top: bool) -> None:
        """`top` says whether `above` are the logits, whose memory is (V, K)."""
        (G, H, _), (g, _, n), A, dtype = Wh.shape, W.shape, len(cell.activations), Wh.dtype
        a = empty((A, K, H), dtype)
        v = self.v = a[:G] if cell.du == cell.dv else empty((G, K, H), dtype)
        self.state = [empty((K, H), dtype) for _ in cell.states]
        h = self.state[0]
        above = empty((g, n, K), dtype).swapaxes(1, 2) if top else empty((g, K, n), dtype)
        biases = np.empty_like(above)  # in the same order: quicker than broadcasting
        biases[...] = b
        panels, panels_own = Panels(K, g, H, n, dtype), Panels(K, G, H, H, dtype)
        panels.fill(W)
        panels_own.fill(Wh)
        multiply_up, multiply_own = panels.product(h, above), panels_own.product(h, v)

        def multiply() -> None:
            multiply_own()
            multiply_up()
            np.add(above, biases, out=above)

        self.above, self.multiply = above, multiply
        self.step = _stepping(cell, a, v, self.state, multiply, above)
        self.read = _stepping(cell, a, v, self.state, multiply_own, h)


def _stepping(
    cell: Cell, a: Array, v: Array, state: State, multiply: Product, result: Array
) -> Step:
    """A step of a layer: from u, with v, the state after it; then `multiply`. Returns `result`. A
    function in a function, since looking up attributes would be felt."""
    add_v, *rest = prepared(cell.forward(a, v, state, state))
    z, add = a[: len(cell.gates)], np.add

    def step(u: Array) -> Array:
        z[...] = u
        add_v()
        for call in rest:
            call()
        multiply()
        return result

    def step_summed(u: Array) -> Array:  # v is where the cell expects u: no copy
        add(z, u, z)
        for call in rest:
            call()
        multiply()
        return result

    return step_summed if cell.du == cell.dv else step


def _wide_look_up(table: Array, K: int) -> LookUp:
    """Of K streams u is (G, K, H), in memory that the next look-up overwrites."""
    G, _, H = table.shape
    u = empty((G, K, H), table.dtype)
    gates = list(zip(table, u, strict=True))

    def look_up(ids: Ids) -> Array:
        for rows, u_gate in gates:  # one by one: together they take four times as long
            rows.take(ids, 0, u_gate, "wrap")
        return u

    return look_up


class BaseStepper:
    """K streams that are fed one character at a time, by one model or by several.

    `logits` (K, V) are always those of the next character, and valid until one is fed.
    """

    rows: list[Any]  # of a single stream what the steps take for each id; last, unknown
    look_up: Callable[[Ids], Any]
    """What the steps take for the ids of K characters."""
    steps: list[Callable[[Any], Any]]
    """One after the other, each from what the one before it returns: a character is fed."""
    state: State
    carried: list[Array]
    """The state and what else goes from character to character, each array (K, …)."""
    logits: Array

    def step(self, ids: Ids) -> Array:
        """Feed one character to each stream; return the logits of the next."""
        u = self.look_up(ids)
        for step in self.steps:
            u = step(u)
        return self.logits

    def read(self, ids: Array) -> object:
        """Feed ids (N,) to a single stream."""
        raise NotImplementedError

    def begin(self, k: int, origin: Sequence[Array]) -> None:
        """Let stream k continue where a single stream stands, by what that has `carried`. Its
        logits are valid only when it has been fed."""
        for own, single in zip(self.carried, origin, strict=True):
            own[k] = single[0]

    def take_over(self, other: Self, streams: Array) -> None:
        """Let each stream k continue where streams[k] of another stepper, or of this one, stands.
        The logits are valid only when all have been fed."""
        for own, before in zip(self.carried, other.carried, strict=True):
            own[...] = before[streams]


class Stepper(BaseStepper):
    """The model one character at a time, for K streams.

    It begins at `state`, each array (K, H), or (1, H) for all streams alike; None: zero. That is
    copied, and `Stepper.state` is changed in place. The logits are times `sharpness`. An embedding,
    tied or not, costs nothing: it is multiplied with the weights that it meets beforehand.
    """

    def __init__(
        self, model: Model, K: int, state: State | None = None, sharpness: float = 1.0
    ) -> None:
        cell, weights, layers = model.cell, model.weights, model.shape.layers
        scale = np.array(cell.scale, model.dtype).reshape(-1, 1, 1)
        G, rows, H = len(cell.gates), model.V + 1, model.shape.widths[0]
        self.rows = []
        if K == 1:
            table = empty((rows, G, H), model.dtype)
            model.input_table(table.swapaxes(0, 1))
            self.rows = by_id = list(table)
            self.look_up = lambda ids: by_id[ids[0]]
        else:
            table = empty((G, rows, H), model.dtype)
            model.input_table(table)
            self.look_up = _wide_look_up(table, K)
        W = [weights[f"layer{k}.Wx"] * scale for k in range(1, layers)]
        b = [weights[f"layer{k}.b"] * scale for k in range(1, layers)]
        W.append((model.Wy * sharpness).T[None])
        b.append((weights["by"] * sharpness)[None, None])
        Wh = [weights[f"layer{k}.Wh"] * scale for k in range(layers)]
        self.layers: list[StepperLayer] = [
            SingleLayer(cell, *part) if K == 1 else WideLayer(cell, K, *part, top=part[1] is W[-1])
            for part in zip(Wh, W, b, strict=True)
        ]
        self.steps = [layer.step for layer in self.layers]
        self.state: State = [s.reshape(K, -1) for layer in self.layers for s in layer.state]
        v = [layer.v.reshape(G, K, -1).swapaxes(0, 1) for layer in self.layers]
        self.carried = [*self.state, *v]
        self.logits = self.layers[-1].above.reshape(K, model.V)
        for s, given in zip(self.state, state or model.zero_state(1), strict=True):
            np.copyto(s, given)
        for layer in self.layers:
            layer.multiply()

    def read(self, ids: Array) -> Array:
        """Feed ids (N,) to a single stream; return what the uppermost layer shows after each,
        (N, H). Of the logits only the last are made."""
        *below, top = self.layers
        shown = np.empty((len(ids), len(top.state[0])), top.state[0].dtype)
        for i, h in zip(ids.tolist(), shown, strict=True):
            u = self.rows[i]
            for layer in below:
                u = layer.step(u)
            h[...] = top.read(u)
        top.multiply()
        return shown
