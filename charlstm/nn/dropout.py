"""What is left out at random while training, and where the random numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from charlstm.nn.arrays import Array, empty, items_per_block


@dataclass(frozen=True)
class Drops:
    """What is left out at random while training, as shares from 0 to below 1."""

    dropout: float = 0.0
    """Of the values that enter a layer with dense input, or the output."""
    variational: bool = False
    """Whether these are the same in all steps of a segment."""
    weight_drop: float = 0.0
    """Of the recurrent weights Wh."""
    input_drop: float = 0.0
    """Of the characters that are read, each of which then counts as unknown …"""
    unknown: int = -1
    """… and has this id: that of `<unk>`, where there is such an entry."""


KEEP_ALL = Drops()
"""Nothing is left out."""


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of a segment come from: from where it stands in the run.

    A run's masks must be the same whichever process makes them, again by another one if that is
    killed, and after a resume; so there is no generator that is drawn from in turn, and no state
    to keep. Philox (J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011) turns
    a key and a counter of 256 bits into random bits without any history. The key is the seed of
    the run, and the counter begins at (0, place, stream, step): each place in the network, group
    of streams and step has 2^64 blocks of numbers of its own, which no other one touches.
    """

    seed: int
    """The seed of the run."""
    step: int = 0
    """Steps of training before this one."""
    stream: int = 0
    """The first of the streams, counted over all ranks."""

    def generator(self, place: int) -> np.random.Generator:
        """The numbers of one place in the network: 0 are the characters, 1 + 2k the recurrent
        weights of layer k, 2 + 2k what enters it (or, above the last layer, the output)."""
        counter = np.array([0, place, self.stream, self.step], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self.seed))


class Mask:
    """Factors that are 0 with probability p and else 1 / (1 - p), which leaves the mean of what is
    multiplied by them as it was (inverted dropout, N. Srivastava et al., 2014)."""

    def __init__(self, p: float, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.p, self.factors = p, empty(shape, dtype)
        self.factor = np.array(1.0 / (1.0 - p), dtype)
        self.stays = np.empty(min(items_per_block(1, dtype), self.factors.size), bool)

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """The first n, or as many as there are, of the factors, drawn anew."""
        factors = self.factors[:n]
        flat, block = factors.reshape(-1), len(self.stays)
        for at in range(0, len(flat), block):
            part = flat[at : at + block]
            stays = self.stays[: len(part)]
            rng.random(None, part.dtype, part)
            np.greater_equal(part, self.p, out=stays)
            np.multiply(stays, self.factor, out=part)
        return factors


class Dropout(Protocol):
    """Multiplies an array by a mask: values (T, B, n), or weights (G, n, n)."""

    factors: Array | None
    """The mask of the last `forward`; None where nothing was left out."""

    def forward(self, x: Array, draws: Draws | None) -> Array:
        """x * mask, with the mask of these draws; without draws x."""

    def backward(self, dx: Array) -> None:
        """In place: dx * mask, by the last `forward`."""


class Keep:
    """Leaves nothing out."""

    factors: Array | None = None

    def forward(self, x: Array, draws: Draws | None) -> Array:
        return x

    def backward(self, dx: Array) -> None:
        pass


class Drop:
    """Leaves out each value by itself, with the probability p."""

    def __init__(
        self, p: float, place: int, shape: tuple[int, ...], mask: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        """For arrays of a `shape`, of which there may be fewer rows, and a mask of a shape that
        goes with it. The `place` is that of `Draws.generator`."""
        self.place, self.mask, self.out = place, Mask(p, mask, dtype), empty(shape, dtype)
        self.factors: Array | None = None

    def forward(self, x: Array, draws: Draws | None) -> Array:
        if draws is None:
            self.factors = None
            return x
        self.factors = self.mask.draw(draws.generator(self.place), len(x))
        return np.multiply(x, self.factors, out=self.out[: len(x)])

    def backward(self, dx: Array) -> None:
        if self.factors is not None:
            np.multiply(dx, self.factors, out=dx)


def value_dropout(drops: Drops, k: int, shape: tuple[int, int, int], dtype: DTypeLike) -> Dropout:
    """Dropout of the values (T, B, n) that enter layer k, or the output after the last: one mask
    a step, or, variational, one for all steps (Y. Gal, Z. Ghahramani, A theoretically grounded
    application of dropout in recurrent neural networks, 2016)."""
    if not drops.dropout:
        return Keep()
    T, B, n = shape
    return Drop(drops.dropout, 2 + 2 * k, shape, (1 if drops.variational else T, B, n), dtype)


def weight_dropout(drops: Drops, k: int, shape: tuple[int, int, int], dtype: DTypeLike) -> Dropout:
    """Dropout of the recurrent weights (G, H, H) of layer k, the same in all steps (S. Merity,
    N. Keskar, R. Socher, Regularizing and optimizing LSTM language models, 2018)."""
    if not drops.weight_drop:
        return Keep()
    return Drop(drops.weight_drop, 1 + 2 * k, shape, shape, dtype)


class CharacterDropout:
    """Makes characters unknown, each by itself, with the probability `drops.input_drop`."""

    def __init__(self, drops: Drops, T: int, B: int) -> None:
        self.drops = drops
        self.known = np.empty((T if drops.input_drop else 0, B), np.intp)

    def forward(self, ids: Array, draws: Draws | None) -> Array:
        """The ids (T, B), with those of these draws replaced; without draws as they are."""
        if draws is None or not self.drops.input_drop:
            return ids
        known = self.known[: len(ids)]
        np.copyto(known, ids)
        known[draws.generator(0).random(ids.shape) < self.drops.input_drop] = self.drops.unknown
        return known
