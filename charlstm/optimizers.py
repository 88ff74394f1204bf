"""Gradient clipping and the rules that turn a gradient into a step, on flat vectors."""

from __future__ import annotations

import math
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
        self._scratch = empty(w.shape, w.dtype)

    def step_(self, w: Array, g: Array, learning_rate: float) -> None:
        s, x = self.squares, self._scratch
        np.multiply(g, g, out=x)
        s += x
        np.sqrt(s, out=x)
        x += self.epsilon
        g *= learning_rate
        g /= x
        w -= g


OPTIMIZERS: dict[str, type[Optimizer]] = {o.name: o for o in (SGD, Adagrad)}
"""Every optimizer by its name in a configuration."""
