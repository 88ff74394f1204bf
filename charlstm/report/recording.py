"""What every gate and state of a model is at each unit of a text."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.cells import Cell
from charlstm.nn.model import Model
from charlstm.report.passage import CONTEXT
from charlstm.scoring.trace import quantities, trace

VALUES = 60_000_000
"""Numbers that a recording has at most, two bytes each. A wider network is recorded for less."""


class Place(NamedTuple):
    """A gate or state of a layer."""

    layer: int
    quantity: str


@dataclass(frozen=True)
class Recording:
    """Gates and states over N units of a text."""

    cell: Cell
    values: dict[Place, Array]  # (N, H) float16, each after reading the unit

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


def longest(model: Model) -> int:
    """Units of a text, at most, of which a model is recorded."""
    return max(2 * CONTEXT, VALUES // (len(quantities(model.cell)) * sum(model.shape.widths)))


def record(model: Model, ids: Array) -> Recording:
    """Read ids (N,) from a zero state."""
    names, N = quantities(model.cell), len(ids)
    values = {
        Place(k, name): np.empty((N, H), np.float16)
        for k, H in enumerate(model.shape.widths)
        for name in names
    }
    for t, done in enumerate(trace(model, ids[:, None], model.zero_state(1))):
        for place, array in values.items():
            array[t] = done[place.layer].quantity(model.cell, place.quantity)[0]
    return Recording(model.cell, values)


def is_gate(cell: Cell, quantity: str) -> bool:
    """Whether it is a valve between 0 and 1: what goes through a sigmoid."""
    return quantity in cell.gates and cell.scale[cell.gates.index(quantity)] == 0.5
