"""The sizes of a network, and the names and shapes that follow from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from charlstm.nn.arrays import Array
from charlstm.nn.cells import CELLS

State = list[Array]
"""The recurrent state of all layers, from the lowest up, each array (B, H) with H the width of its
layer: for an LSTM of two layers h, c, h, c."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; `ValueError` where they contradict each other."""

    cell: str  # a name in `CELLS`
    V: int  # entries of the vocabulary
    hidden: int | Sequence[int]  # the width H of all layers, or of each, the lowest first
    layers: int = 1
    embedding: int = 0  # the width D of the embedding; 0: one-hot input
    tie: bool = False  # whether the rows of the embedding are the output weights, too

    def __post_init__(self) -> None:
        if len(self.widths) != self.layers:
            raise ValueError(f"{len(self.widths)} widths for {self.layers} layers")
        if self.tie and not self.embedding:
            raise ValueError("only an embedding can be tied to the output")

    @property
    def widths(self) -> tuple[int, ...]:
        """The width H of each layer, the lowest first."""
        hidden = self.hidden
        return (hidden,) * self.layers if isinstance(hidden, int) else tuple(hidden)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of the flat vector (see `Model`)."""
        G, D = len(CELLS[self.cell].gates), self.embedding
        shapes: dict[str, tuple[int, ...]] = {"E": (self.V, D)} if D else {}
        below = D or self.V
        for k, H in enumerate(self.widths):
            shapes[f"layer{k}.Wx"] = (G, below, H)
            shapes[f"layer{k}.Wh"] = (G, H, H)
            shapes[f"layer{k}.b"] = (G, 1, H)
            below = H
        if not self.tie:
            shapes["Wy"] = (self.V, below)
        elif below != D:
            shapes["Wp"] = (below, D)
        return {**shapes, "by": (self.V,)}

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(map(math.prod, self.weights.values()))

    @property
    def states(self) -> dict[str, int]:
        """Names and widths of the arrays of a `State`, in its order: layer0.h, layer0.c, …"""
        names = CELLS[self.cell].states
        return {f"layer{k}.{name}": H for k, H in enumerate(self.widths) for name in names}

    def by_layer(self, state: State) -> list[State]:
        """The arrays of each layer, the lowest first."""
        n = len(CELLS[self.cell].states)
        return [state[k * n : (k + 1) * n] for k in range(self.layers)]
