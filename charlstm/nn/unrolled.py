"""The model over T steps of B streams, forward and back, with every buffer that takes."""

from __future__ import annotations

from copy import copy

import numpy as np

from charlstm.nn.arrays import Array, empty
from charlstm.nn.dropout import (
    KEEP_ALL,
    CharacterDropout,
    Draws,
    Dropout,
    Drops,
    value_dropout,
    weight_dropout,
)
from charlstm.nn.input import Input, Weights, inputs
from charlstm.nn.model import Model
from charlstm.nn.output import output
from charlstm.nn.parameters import Parameters
from charlstm.nn.recurrent import Recurrent
from charlstm.nn.shape import State


class Layer:
    """Layer k: its input, its recurrent weights, the loop over time, and dropout of what it shows.

    `backward` takes the way back of the last `forward`, part by part in reverse.
    """

    def __init__(
        self,
        k: int,
        *,
        input: Input,
        weight_dropout: Dropout,
        recurrent: Recurrent,
        dropout: Dropout,
    ) -> None:
        self.input, self.recurrent = input, recurrent
        self.weight_dropout, self.dropout = weight_dropout, dropout
        self.name = f"layer{k}.Wh"
        self.Wh = np.empty(0)

    def forward(
        self, w: Weights, x: Array, before: State, draws: Draws | None, training: bool
    ) -> tuple[Array, State]:
        """Of x, (T', B) or (T', B, n), and the state before, what the layer shows (T', B, H) and
        the state after. With `training`, keep what `backward` needs."""
        T = len(x)
        write_u = self.input.forward(w, x, self.recurrent.scale, draws)
        self.Wh = self.weight_dropout.forward(w[self.name], draws)
        after = self.recurrent.forward(self.Wh, before, T, write_u, training)
        return self.dropout.forward(self.recurrent.h[1 : T + 1], draws), after

    def backward(self, w: Weights, d: Weights, dh: Array, dafter: State | None, dx: Array) -> State:
        """From the gradients of what the layer showed (T', B, H), overwritten, and of the state
        after (None: zero), write those of the weights into `d` and of x into `dx`, which may share
        memory with dh; return that of the state before."""
        self.dropout.backward(dh)
        dbefore = self.recurrent.backward(self.Wh, d[self.name], dh, dafter)
        self.weight_dropout.backward(d[self.name])
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
        self.model, self.T, self.B, self.training = model, T, B, training
        shape, cell, dtype = model.shape, model.cell, model.dtype
        below = [shape.embedding, *shape.widths]  # widths of what enters each layer, the output
        self.character_dropout = CharacterDropout(drops, T, B)
        self.dropouts = [value_dropout(drops, k, (T, B, n), dtype) for k, n in enumerate(below)]
        self.layers = [
            Layer(
                k,
                input=layer_input,
                weight_dropout=weight_dropout(drops, k, (len(cell.gates), H, H), dtype),
                recurrent=Recurrent(cell, T, B, H, dtype, training),
                dropout=self.dropouts[k + 1],
            )
            for k, (layer_input, H) in enumerate(
                zip(inputs(shape, T, B, dtype, self.dropouts[0]), shape.widths, strict=True)
            )
        ]
        self.output = output(shape, T, B, dtype)
        memory = empty((T * B * max(below),), dtype)  # gradients of x, one in the other's place
        self.dx = [memory[: T * B * n].reshape(T, B, n) for n in below]
        self.ids = np.empty((0, B), np.intp)
        """What the last `forward` read: its ids, some of them dropped."""
        self.shown = empty((0, B, model.H), dtype)
        """What the output read in the last `forward`: hidden states of the uppermost layer (with
        dropout, where there was), (T', B, H)."""

    def over(self, model: Model) -> Unrolled:
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
        x = self.ids = self.character_dropout.forward(ids, draws)
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
        scale: float = 1.0,
        dstate: State | None = None,
    ) -> tuple[Array, State]:
        """Backpropagation through time over the last `forward`.

        Writes the gradient of scale * (sum of the nats) into `gradient`. `dstate` is the
        gradient of the state after the segment; left out, it is zero: the gradient is cut at
        the segment's edge. Returns the nats (T', B) and the gradient of the state before.
        """
        w, d, h = self.model.weights, gradient, self.top
        dx = [part[: len(targets)] for part in self.dx]
        nats = self.output.loss_and_gradient(
            w, d, h, targets.reshape(-1), scale=scale, dh=dx[-1].reshape(h.shape)
        )
        dafter = [None] * len(self.layers) if dstate is None else self.model.shape.by_layer(dstate)
        dbefore: State = []
        for k, layer in reversed([*enumerate(self.layers)]):
            dbefore = layer.backward(w, d, dx[k + 1], dafter[k], dx[k]) + dbefore
        return nats.reshape(targets.shape), dbefore
