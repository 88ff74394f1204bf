"""The language model: recurrent layers one on the other, between one-hot input and softmax.

`Model` is the weights and their names. `Unrolled` is the model over T steps of B streams, with
every buffer that a pass forward and back needs. `Stepper` advances it by one character.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array, empty, zeros
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


class Stepper:
    """The model one character at a time, for K streams, with nothing allocated in a step.

    A single stream takes products of a vector with a matrix, the gates side by side in its
    columns, which cost less to call than those of many streams.
    """

    def __init__(self, model: Model, K: int) -> None:
        self.cell, self.single, self.n = model.cell, K == 1, len(model.cell.states)
        H, G, dtype, weights = model.H, len(model.cell.gates), model.dtype, model.weights
        scale = np.array(model.cell.scale, dtype).reshape(G, 1, 1)
        self.Wx, self.Wh, self.b = (
            [weights[f"layer{k}.{name}"] * scale for k in range(model.layers)]
            for name in ("Wx", "Wh", "b")
        )
        # u of every character, and last, where id -1 finds it, that of an unknown one
        table = np.append(self.Wx[0] + self.b[0], self.b[0], axis=1)  # (G, V + 1, H)
        self.table = np.ascontiguousarray(table.transpose(1, 0, 2)) if K == 1 else table
        self.Wy, self.by = weights["Wy"], weights["by"]
        # no logit can exceed this: hidden states lie between -1 and 1
        self.bound = float(np.max(np.abs(self.Wy).sum(axis=1) + np.abs(self.by)))
        memory = [empty((model.cell.activations, K, H), dtype) for _ in range(model.layers)]
        self.u = [m[:G] for m in memory]
        self.views = [model.cell.forward_views(m) for m in memory]
        self.v = empty((G, K, H), dtype)
        self.logits = empty((K, model.V), dtype)
        self.columns = [np.hstack(list(Wh)) for Wh in self.Wh]  # (H, G H)
        self.flat_u, self.flat_v = self.u[0][:, 0], self.v.reshape(-1)
        self.flat_logits = self.logits.reshape(-1)

    def step(self, ids: Sequence[int] | Array, state: State) -> Array:
        """Feed one character to each stream; `state` becomes the state after it, in place.

        Returns the logits (K, V) of the next character, valid until the next call.
        """
        cell, single, n = self.cell, self.single, self.n
        if single:
            np.copyto(self.flat_u, self.table[ids[0]])
        else:
            np.take(self.table, ids, axis=1, out=self.u[0], mode="wrap")
        for k, views in enumerate(self.views):
            if k:
                np.matmul(state[(k - 1) * n], self.Wx[k], out=self.u[k])
                np.add(self.u[k], self.b[k], out=self.u[k])
            here = state[k * n : (k + 1) * n]
            if single:
                np.dot(here[0][0], self.columns[k], out=self.flat_v)
            else:
                np.matmul(here[0], self.Wh[k], out=self.v)
            cell.forward(views, self.v, here, here)
        if single:
            np.dot(self.Wy, state[-n][0], out=self.flat_logits)
            np.add(self.flat_logits, self.by, out=self.flat_logits)
        else:
            np.matmul(state[-n], self.Wy.T, out=self.logits)
            np.add(self.logits, self.by, out=self.logits)
        return self.logits
