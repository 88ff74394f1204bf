"""Gradient clipping and the rules that turn a gradient into a step, on flat vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from charlstm.arrays import Array, empty, zeros


def norm(g: Array) -> float:
    """Euclidean norm of a flat vector."""
    return math.sqrt(float(np.dot(g, g)))


def clip_norm_(g: Array, limit: float, length: float) -> None:
    """Shorten g, whose norm is `length`, to at most `limit`; its direction stays
    (R. Pascanu, T. Mikolov, Y. Bengio, 2013, algorithm 1)."""
    if length > limit:
        g *= limit / length


def clip_value_(g: Array, limit: float) -> None:
    """Cut every element of g to the range -limit … limit."""
    np.clip(g, -limit, limit, out=g)


BLOCK = 1 << 16
"""Weights are changed so many at a time, so that a step's several passes find them in cache."""


def blocks(*vectors: Array) -> Iterator[tuple[Array, ...]]:
    """The same part of each of several flat vectors, part by part."""
    for at in range(0, vectors[0].size, BLOCK):
        yield tuple(v[at : at + BLOCK] for v in vectors)


class Optimizer(Protocol):
    """One step of descent. `state` is what must be kept for training to go on unchanged:
    flat vectors as long as the weights, by name."""

    name: str
    sums: tuple[str, ...]
    """Names of the vectors in `state`."""
    state: dict[str, Array]

    def __init__(self, w: Array) -> None: ...

    def step_(self, w: Array, g: Array, learning_rate: float) -> None:
        """Change the weights w in place by the gradient g. May use g as scratch."""


class SGD:
    """Stochastic gradient descent: w -= lr * g."""

    name = "sgd"
    sums: tuple[str, ...] = ()

    def __init__(self, w: Array) -> None:
        self.state: dict[str, Array] = {}

    def step_(self, w: Array, g: Array, learning_rate: float) -> None:
        g *= learning_rate
        w -= g


class Adagrad:
    """Adagrad (J. Duchi, E. Hazan, Y. Singer, 2011): each weight's step shrinks with the
    squares of the gradients that it has seen.

    s += g^2 ;  w -= lr * g / (sqrt(s) + epsilon)
    """

    name = "adagrad"
    sums: tuple[str, ...] = ("squares",)
    epsilon = 1e-8

    def __init__(self, w: Array) -> None:
        self.squares = zeros(w.shape, w.dtype)
        self.state = {"squares": self.squares}
        self._scratch = empty((min(w.size, BLOCK),), w.dtype)

    def step_(self, w: Array, g: Array, learning_rate: float) -> None:
        for w_, g_, s in blocks(w, g, self.squares):
            x = self._scratch[: len(w_)]
            np.multiply(g_, g_, out=x)
            s += x
            np.sqrt(s, out=x)
            x += self.epsilon
            g_ *= learning_rate
            g_ /= x
            w_ -= g_


OPTIMIZERS: dict[str, type[Optimizer]] = {o.name: o for o in (SGD, Adagrad)}
"""Every optimizer by its name in a configuration."""
