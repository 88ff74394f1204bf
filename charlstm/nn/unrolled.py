"""The model over T steps of B streams, forward and back, with every buffer that takes."""

from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np

from charlstm.nn.arrays import Array, Parameters, Weights, empty
from charlstm.nn.dropout import KEEP_ALL, Draws, Dropout, Drops, drop_characters
from charlstm.nn.input import Input, inputs
from charlstm.nn.model import Model
from charlstm.nn.output import output
from charlstm.nn.recurrent import Recurrent
from charlstm.nn.shape import State


@dataclass
class Layer:
    """One recurrent layer; `backward` takes the way of the last `forward` back, part by part."""

    Wh: str  # the name of its recurrent weights
    input: Input
    weight_dropout: Dropout
    recurrent: Recurrent
    dropout: Dropout  # of what the layer shows

    def forward(
        self, w: Weights, x: Array, before: State, draws: Draws | None, training: bool
    ) -> tuple[Array, State]:
        """Of x, (T', B) or (T', B, n), and the state before, what the layer shows (T', B, H) and
        the state after. With `training`, keep what `backward` needs."""
        T = len(x)
        write_u = self.input.forward(w, x, self.recurrent.scale, draws)
        Wh = self.weight_dropout.forward(w[self.Wh], draws)
        after = self.recurrent.forward(Wh, before, T, write_u, training)
        return self.dropout.forward(self.recurrent.h[1 : T + 1], draws), after

    def backward(self, w: Weights, d: Weights, dh: Array, dafter: State | None, dx: Array) -> State:
        """From the gradients of what the layer showed (T', B, H), overwritten, and of the state
        after (None: zero), write those of the weights into `d` and of x into `dx`, which may share
        memory with dh; return that of the state before."""
        self.dropout.backward(dh)
        dbefore = self.recurrent.backward(d[self.Wh], dh, dafter)
        self.weight_dropout.backward(d[self.Wh])
        self.input.backward(w, d, self.recurrent.du[:, : len(dh)], dx)
        return dbefore


class Unrolled:
    """A model unrolled over at most T steps of B streams, with its own buffers.

    Two of them over the same `Model` can run in two threads. What `drops` says is left out only
    where `forward` is given the draws for it. Without `training` there is no gradient.
    """

    def __init__(
        self, model: Model, T: int, B: int, training: bool = True, drops: Drops = KEEP_ALL
    ) -> None:
        self.model, self.T, self.B, self.training, self.drops = model, T, B, training, drops
        shape, cell, dtype = model.shape, model.cell, model.dtype
        below = [shape.embedding, *shape.widths]
        # of what enters each layer, and last of what the output reads
        self.dropouts = [
            Dropout(drops.dropout, 2 + 2 * k, (T, B, n), dtype, shared=drops.variational)
            for k, n in enumerate(below)
        ]
        self.layers = []
        for k, layer_input in enumerate(inputs(shape, T, B, dtype, self.dropouts[0])):
            Wh, H = f"layer{k}.Wh", shape.widths[k]
            weight_dropout = Dropout(drops.weight_drop, 1 + 2 * k, shape.weights[Wh], dtype)
            recurrent = Recurrent(cell, T, B, H, dtype, training)
            layer = Layer(Wh, layer_input, weight_dropout, recurrent, self.dropouts[k + 1])
            self.layers.append(layer)
        self.output = output(shape, T, B, dtype)
        memory = empty((T * B * max(below),), dtype)  # gradients of x, one in the other's place
        self.dx = [memory[: T * B * n].reshape(T, B, n) for n in below]
        # what was read in the last `forward`: ids, some of them dropped, …
        self.ids = np.empty((0, B), np.intp)
        # … and by the output, (T', B, H): hidden states of the uppermost layer, with dropout
        self.shown = empty((0, B, model.H), dtype)

    def over(self, model: Model) -> Self:
        """The same buffers over another model of this shape, for its loss alone. A pass of the one
        overwrites what the last pass of the other has left."""
        other = copy(self)
        other.model, other.training = model, False
        return other

    def forward(self, ids: Array, state: State, draws: Draws | None = None) -> State:
        """Run over ids (T', B), T' <= T, from `state`; return the state after them.

        With `draws`, leave out at random what `drops` says; the same draws give the same masks.
        """
        w, after = self.model.weights, []
        x = self.ids = drop_characters(ids, self.drops, draws)
        for layer, before in zip(self.layers, self.model.shape.by_layer(state), strict=True):
            x, layer_after = layer.forward(w, x, before, draws, self.training)
            after += layer_after
        self.shown = x
        return after

    @property
    def top(self) -> Array:
        """`shown` as one row a position, (T' * B, H)."""
        return self.shown.reshape(-1, self.model.H)

    def logits(self) -> Array:
        """Unnormalised log-probabilities of the next character, (T', B, V)."""
        y: Array = self.top @ self.model.Wy.T + self.model.weights["by"]
        return y.reshape(*self.ids.shape, self.model.V)

    def loss(self, targets: Array) -> Array:
        """Cross-entropy of targets (T', B) after the last `forward`, in nats, (T', B)."""
        nats = self.output.loss(self.model.weights, self.top, targets.reshape(-1))
        return nats.reshape(targets.shape)

    def loss_and_gradient(
        self,
        targets: Array,
        gradient: Parameters,
        scale: float | Array = 1.0,
        dstate: State | None = None,
    ) -> tuple[Array, State]:
        """Backpropagation through time over the last `forward`.

        Writes the gradient of the sum of scale * nats into `gradient`, with one scale or one for
        each position (T', B). `dstate` is the gradient of the state after the segment; left out,
        it is zero: the gradient is cut at the segment's edge. Returns the nats (T', B) and the
        gradient of the state before.
        """
        w, h = self.model.weights, self.top
        dx = [part[: len(targets)] for part in self.dx]
        flat, dh = targets.reshape(-1), dx[-1].reshape(h.shape)
        scale = np.reshape(scale, -1) if np.ndim(scale) else scale
        nats = self.output.loss_and_gradient(w, gradient, h, flat, scale=scale, dh=dh)
        dafter = [None] * len(self.layers) if dstate is None else self.model.shape.by_layer(dstate)
        dbefore: State = []
        for k, layer in reversed([*enumerate(self.layers)]):
            dbefore = layer.backward(w, gradient, dx[k + 1], dafter[k], dx[k]) + dbefore
        return nats.reshape(targets.shape), dbefore
