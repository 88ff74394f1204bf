"""Weights and gradients as one flat vector each, with named views into it.

Clipping, an optimizer's step, a checkpoint and an exchange between processes all act on the
flat vector; the network reads and writes through the names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from numpy.typing import DTypeLike

from charlstm.nn.arrays import Array, zeros

Weights = Mapping[str, Array]
"""Arrays by name: weights, or their gradients."""


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers arrays of these shapes hold together."""
    return sum(math.prod(shape) for shape in shapes.values())


class Parameters(Weights):
    """Named arrays that lie one after the other in `flat` (P,).

    Each value is a view: writing into it, or into `flat`, changes both.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike, flat: Array | None = None
    ) -> None:
        self.shapes = dict(shapes)
        size = count(self.shapes)
        self.flat: Array = zeros((size,), dtype) if flat is None else flat
        if self.flat.shape != (size,):
            raise ValueError(f"a flat vector of {size} numbers is needed, not {self.flat.shape}")
        self._views: dict[str, Array] = {}
        at = 0
        for name, shape in self.shapes.items():
            end = at + math.prod(shape)
            self._views[name] = self.flat[at:end].reshape(shape)
            at = end

    def like(self, flat: Array | None = None) -> Parameters:
        """The same names and shapes over another vector (zeros where none is given)."""
        return Parameters(self.shapes, self.flat.dtype, flat)

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
