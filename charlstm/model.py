"""The language model: recurrent layers one on the other, between one-hot input and softmax.

`Model` is the weights and their names. `Unrolled` is the model over T steps of B streams, with
every buffer that a pass forward and back needs. `Stepper` advances it by one character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array, Panels, empty, zeros
from charlstm.cells import CELLS, Cell
from charlstm.layers import Dense, OneHot, SoftmaxOutput
from charlstm.parameters import Parameters
from charlstm.recurrent import Recurrent

State = list[Array]
"""The recurrent state of all layers, from the lowest up, each array (B, H): for an LSTM of two
layers h, c, h, c."""


def weight_shapes(cell: Cell, V: int, H: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's weights, in the order of the flat vector (see `Model`)."""
    G = len(cell.gates)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        shapes[f"layer{layer}.Wx"] = (G, H if layer else V, H)
        shapes[f"layer{layer}.Wh"] = (G, H, H)
        shapes[f"layer{layer}.b"] = (G, 1, H)
    return {**shapes, "Wy": (V, H), "by": (V,)}


def state_names(cell: Cell, layers: int) -> list[str]:
    """Names of the arrays of a `State`, in its order: layer0.h, layer0.c, …"""
    return [f"layer{layer}.{s}" for layer in range(layers) for s in cell.states]


class Model:
    """Weights of a recurrent language model over a vocabulary of V characters.

    Arrays, for each layer l = 0, 1, … (D = V for the lowest, H for the others; G gates):
    `layer{l}.Wx` (G, D, H), `layer{l}.Wh` (G, H, H), `layer{l}.b` (G, 1, H); then the output
    projection `Wy` (V, H) and `by` (V,). The gates stand in the order of `cell.gates`.
    """

    def __init__(
        self,
        cell: str,
        vocabulary: int,
        hidden: int,
        layers: int = 1,
        dtype: DTypeLike = np.float32,
        flat: Array | None = None,
    ) -> None:
        self.cell = CELLS[cell]
        self.V, self.H, self.layers = vocabulary, hidden, layers
        self.dtype = np.dtype(dtype)
        shapes = weight_shapes(self.cell, vocabulary, hidden, layers)
        self.weights = Parameters(shapes, self.dtype, flat)

    def initialise(self, rng: np.random.Generator, forget_bias: float = 1.0) -> None:
        """Draw the weights: uniform in ±1/sqrt(H), biases zero.

        The forget gate's bias starts at `forget_bias`, so that a new LSTM keeps its cell state
        until it has learnt to forget (R. Jozefowicz et al., 2015).
        """
        bound = 1.0 / np.sqrt(self.H)
        for name, w in self.weights.items():
            if name.endswith(("b", "by")):
                w[...] = 0.0
            else:
                w[...] = rng.uniform(-bound, bound, w.shape)
        if "f" in self.cell.gates:
            for layer in range(self.layers):
                self.weights[f"layer{layer}.b"][self.cell.gates.index("f")] = forget_bias

    @property
    def state_names(self) -> list[str]:
        """Names of the arrays of a `State`, in its order: layer0.h, layer0.c, …"""
        return state_names(self.cell, self.layers)

    def zero_state(self, B: int) -> State:
        """The state before the first character of B streams."""
        return [zeros((B, self.H), self.dtype) for _ in self.state_names]

    def with_weights(self, flat: Array) -> Model:
        """The same model over another flat vector of weights, which is not copied."""
        return Model(self.cell.name, self.V, self.H, self.layers, self.dtype, flat)


class Unrolled:
    """A model unrolled over at most T steps of B streams, with its own buffers.

    Two of them over the same `Model` can run in two threads.
    """

    def __init__(self, model: Model, T: int, B: int, training: bool = True) -> None:
        self.model, self.T, self.B, self.training = model, T, B, training
        G, V, H, dtype = len(model.cell.gates), model.V, model.H, model.dtype
        self.recurrent = [
            Recurrent(model.cell, T, B, H, dtype, training) for _ in range(model.layers)
        ]
        self.one_hot = OneHot(G, V, T * B, H, dtype)
        self.dense = [Dense(G, H, T, B, H, dtype) for _ in range(model.layers - 1)]
        self.output = SoftmaxOutput(V, T * B, H, dtype)
        self.dh = empty((T, B, H), dtype)
        self.ids = np.empty((0, B), np.intp)

    def forward(self, ids: Array, state: State) -> State:
        """Run over ids (T', B), T' <= T, from `state`; return the state after them."""
        model, T = self.model, len(ids)
        per_layer = len(model.cell.states)
        self.ids = ids
        after: State = []
        for k, layer in enumerate(self.recurrent):
            w = [model.weights[f"layer{k}.{name}"] for name in ("Wx", "Wh", "b")]
            if k == 0:
                write_u = self.one_hot.prepare(ids, w[0], w[2], layer.scale)
            else:
                below = self.recurrent[k - 1].h[1 : T + 1]
                write_u = self.dense[k - 1].prepare(below, w[0], w[2], layer.scale)
            after += layer.forward(
                w[1], state[k * per_layer : (k + 1) * per_layer], T, write_u, self.training
            )
        return after

    @property
    def top(self) -> Array:
        """Hidden states of the uppermost layer in the last `forward`, (T' * B, H)."""
        return self.recurrent[-1].h[1 : len(self.ids) + 1].reshape(-1, self.model.H)

    def logits(self) -> Array:
        """Unnormalised log-probabilities of the next character, (T', B, V)."""
        w = self.model.weights
        return (self.top @ w["Wy"].T + w["by"]).reshape(*self.ids.shape, self.model.V)

    def loss(self, targets: Array) -> Array:
        """Cross-entropy of targets (T', B) after the last `forward`, in nats, (T', B)."""
        w = self.model.weights
        nats = self.output.loss(self.top, w["Wy"], w["by"], targets.reshape(-1))
        return nats.reshape(targets.shape)

    def loss_and_gradient(
        self,
        targets: Array,
        gradient: Parameters,
        scale: float = 1.0,
        dstate: State | None = None,
    ) -> tuple[Array, State]:
        """Backpropagation through time over the last `forward`.

        Writes the gradient of scale * (sum of the nats) into `gradient`. `dstate` is the
        gradient of the state after the segment; left out, it is zero: the gradient is cut at
        the segment's edge. Returns the nats (T', B) and the gradient of the state before.
        """
        model, T = self.model, len(self.ids)
        w, d = model.weights, gradient
        per_layer = len(model.cell.states)
        dh = self.dh[:T]
        nats = self.output.loss_and_gradient(
            self.top,
            w["Wy"],
            w["by"],
            targets.reshape(-1),
            scale,
            d["Wy"],
            d["by"],
            dh.reshape(-1, model.H),
        )
        dbefore: State = []
        for k in range(model.layers - 1, -1, -1):
            layer = self.recurrent[k]
            ds = None if dstate is None else dstate[k * per_layer : (k + 1) * per_layer]
            dbefore = layer.backward(w[f"layer{k}.Wh"], d[f"layer{k}.Wh"], dh, ds, T) + dbefore
            du, dWx, db = layer.du[:, :T], d[f"layer{k}.Wx"], d[f"layer{k}.b"]
            if k == 0:
                self.one_hot.backward(self.ids, du, dWx, db)
            else:
                below = self.recurrent[k - 1].h[1 : T + 1]
                self.dense[k - 1].backward(below, w[f"layer{k}.Wx"], du, dWx, db, dh)
        return nats.reshape(targets.shape), dbefore


COLUMNS = 16
"""A vector times a matrix is up to a quarter faster where its columns are a multiple of this."""


def _padded(columns: int) -> int:
    return -(-columns // COLUMNS) * COLUMNS


Step = Callable[[Array], Array]


def _stepping(
    cell: Cell, a: Array, v: Array, state: State, multiply: Callable[[], object], result: Array
) -> Step:
    """A step of a layer: from u (G, K, H), with v, the state after it; then `multiply`. Returns
    `result`. A function in a function, since looking up attributes would be felt."""
    forward, views, ours = cell.forward, cell.forward_views(a), a[: len(cell.gates)]

    def step(u: Array) -> Array:
        ours[...] = u
        forward(views, v, state, state)
        multiply()
        return result

    def step_summed(u: Array) -> Array:  # v is where the cell looks for u: no copy
        forward(views, u, state, state)
        multiply()
        return result

    return step_summed if _summed(cell) else step


def _summed(cell: Cell) -> bool:
    """Whether u and v count by their sum alone, so that one may stand for the other."""
    return cell.du == cell.dv


class _StepperLayer:
    """A layer of a `Stepper`: its state, and the products that wait for its hidden state.

    From u (G, K, H) follow the state after the character, and from its h at once v = h Wh
    (G, K, H), for the next character, and `above` = h W + b (g, K, n): u of the layer above, or
    the logits. A single stream has no axis K, and takes one product of a vector with a matrix:
    W and Wh stand side by side in its columns, and its last row, which meets a 1, is b.
    """

    def __init__(self, cell: Cell, K: int, Wh: Array, W: Array, b: Array, top: bool) -> None:
        (G, H, _), (g, _, n), A, dtype = Wh.shape, W.shape, cell.activations, Wh.dtype
        self.multiply: Callable[[], object]
        if K == 1:
            start = _padded(g * n)  # of v among the columns
            end = _padded(start + G * H)
            columns = zeros((H + 1, end), dtype)
            columns[:H, : g * n], columns[H, : g * n] = np.hstack(list(W)), b.reshape(-1)
            columns[:H, start : start + G * H] = own = np.hstack(list(Wh))
            out = empty((max(end, start + A * H),), dtype)
            self.above, v = out[: g * n].reshape(g, n), out[start : start + G * H].reshape(G, H)
            a = out[start : start + A * H].reshape(A, H) if _summed(cell) else empty((A, H), dtype)
            with_1 = np.ones(H + 1, dtype)
            h, rest = with_1[:H], [empty((H,), dtype) for _ in cell.states[1:]]
            self.multiply = partial(with_1.dot, columns, out[:end])
            multiply_own = partial(h.dot, own, v.reshape(-1))
            self.read = _stepping(cell, a, v, [h, *rest], multiply_own, h)
        else:
            a = empty((A, K, H), dtype)
            v = a[:G] if _summed(cell) else empty((G, K, H), dtype)
            h, *rest = (empty((K, H), dtype) for _ in cell.states)
            # the logits' memory is (V, K)
            self.above = empty((g, n, K), dtype).swapaxes(1, 2) if top else empty((g, K, n), dtype)
            biases = np.empty_like(self.above)  # in the same order: quicker than broadcasting
            biases[...] = b

            def product(W: Array, out: Array) -> Callable[[], None]:
                G, H, n = W.shape
                panels = Panels(K, G, H, n, dtype)
                panels.fill(W)
                return partial(panels.multiply, panels.rows(h), panels.columns(out))

            products = product(Wh, v), product(W, self.above)

            def multiply() -> None:
                for each in products:
                    each()
                np.add(self.above, biases, out=self.above)

            self.multiply = multiply
        self.state = [h, *rest]
        self.step = _stepping(cell, a, v, self.state, self.multiply, self.above)


class Stepper:
    """The model one character at a time, for K streams, with nothing allocated in a step.

    It begins at `state`, each array (K, H), or (1, H) for all streams alike; None: zero. That is
    copied, and `Stepper.state` is changed in place. `logits` (K, V) are always those of the next
    character, and valid until one is fed.
    """

    def __init__(self, model: Model, K: int, state: State | None = None) -> None:
        cell, weights, dtype = model.cell, model.weights, model.dtype
        G, V, H = len(cell.gates), model.V, model.H
        scale = np.array(cell.scale, dtype).reshape(G, 1, 1)
        # u of every character, and last, where id -1 finds it, that of an unknown one
        table = (
            empty((V + 1, G, H), dtype).swapaxes(0, 1) if K == 1 else empty((G, V + 1, H), dtype)
        )
        np.multiply(weights["layer0.Wx"], scale, out=table[:, :V])
        table[:, V:] = 0.0
        np.add(table, weights["layer0.b"] * scale, out=table)
        self.rows = list(table.swapaxes(0, 1)) if K == 1 else []  # (G, H) of each
        self.u = empty((G, K, H), dtype)
        self.gates = list(zip(table, self.u, strict=True)) if K > 1 else []
        Wh = [weights[f"layer{k}.Wh"] * scale for k in range(model.layers)]
        Wx, b = (
            [weights[f"layer{k}.{name}"] * scale for k in range(1, model.layers)]
            for name in ("Wx", "b")
        )
        above = [*Wx, weights["Wy"].T[None]], [*b, weights["by"][None, None]]
        self.layers = [
            _StepperLayer(cell, K, *w, top=k + 1 == model.layers)
            for k, w in enumerate(zip(Wh, *above, strict=True))
        ]
        self.steps = [layer.step for layer in self.layers]
        self.state = [s.reshape(K, H) for layer in self.layers for s in layer.state]
        self.logits = self.layers[-1].above.reshape(K, V)
        for s, given in zip(self.state, state or model.zero_state(1), strict=True):
            np.copyto(s, given)
        for layer in self.layers:
            layer.multiply()

    def step(self, ids: Sequence[int] | Array) -> Array:
        """Feed one character to each stream; return the logits of the next."""
        if self.rows:
            u = self.rows[ids[0]]
        else:
            for rows, u in self.gates:  # one by one: together they take four times as long
                rows.take(ids, 0, u, "wrap")
            u = self.u
        for step in self.steps:
            u = step(u)
        return self.logits

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
