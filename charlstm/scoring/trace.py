"""A model step by step in the open: what every gate and every state is at each step.

`charlstm.nn.recurrent` computes the same, faster, and keeps none of it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.cells import Cell, perform
from charlstm.nn.model import Model
from charlstm.nn.shape import State


class LayerStep(NamedTuple):
    """What one layer did in one step of B streams."""

    activations: Array  # (A, B, H), in the slots of its cell
    state: State  # after the step, each (B, H); h first

    def derivatives(self, cell: Cell) -> Array:
        """The local derivatives (D, B, H) that the cell's backward pass takes. The activations
        are scratch for them, and are lost."""
        d = np.empty((len(cell.kept), 1, *self.state[0].shape), self.state[0].dtype)
        cell.derivatives(self.activations[:, None], self.state[0][None], d)
        return d[:, 0]

    def quantity(self, cell: Cell, name: str) -> Array:
        """The gate or state (B, H) of a name in `quantities`."""
        if name in cell.states:
            return self.state[cell.states.index(name)]
        array: Array = self.activations[cell.activations.index(name)]
        return array


def quantities(cell: Cell) -> tuple[str, ...]:
    """The names of what can be watched in a cell: its gates, then its states, h last."""
    gates = [gate for gate in cell.gates if gate not in cell.states]
    return (*gates, *reversed(cell.states))


def trace(model: Model, ids: Array, state: State) -> Iterator[list[LayerStep]]:
    """Run over ids (T, B) from `state`; yield what each layer did, the lowest first, in each
    step. An id below zero is read as a unit outside the vocabulary."""
    cell, shape, w = model.cell, model.shape, model.weights
    scale = np.array(cell.scale, model.dtype).reshape(-1, 1, 1)
    table = np.empty((len(cell.gates), model.V + 1, shape.widths[0]), model.dtype)
    model.input_table(table)
    layers = range(shape.layers)
    Wh = [w[f"layer{k}.Wh"] * scale for k in layers]
    Wx = [w[f"layer{k}.Wx"] * scale for k in layers[1:]]
    b = [w[f"layer{k}.b"] * scale for k in layers[1:]]
    befores = shape.by_layer(state)
    for row in ids:
        u, done = table[:, row], list[LayerStep]()
        for k, before in enumerate(befores):
            if k:
                u = done[-1].state[0] @ Wx[k - 1] + b[k - 1]
            a = np.empty((len(cell.activations), *before[0].shape), model.dtype)
            a[: len(u)] = u
            after = [np.empty_like(s) for s in before]
            perform(cell.forward(a, before[0] @ Wh[k], before, after))
            done.append(LayerStep(a, after))
        befores = [step.state for step in done]
        yield done
