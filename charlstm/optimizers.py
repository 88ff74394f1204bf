"""Gradient clipping and the rules that turn a gradient into a step, on flat vectors."""

from __future__ import annotations

import math

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


class Optimizer:
    """One step of descent. `state` is what must be kept for training to go on unchanged: flat
    vectors as long as the weights, by name."""

    name: str
    sums: tuple[str, ...] = ()
    """Names of the vectors in `state`."""

    def __init__(self, w: Array) -> None:
        self.state = {name: zeros(w.shape, w.dtype) for name in self.sums}
        self._scratch = empty((min(w.size, BLOCK),), w.dtype)

    def step_(self, w: Array, g: Array, learning_rate: float, start: int = 0) -> None:
        """Change the weights w, those from `start` on, in place by the gradient g. May use g as
        scratch."""
        vectors = (w, g, *self.state.values())
        for at in range(start, w.size, BLOCK):
            w_, g_, *sums = (v[at : at + BLOCK] for v in vectors)
            self._rule_(w_, g_, learning_rate, self._scratch[: w_.size], *sums)

    def sparse_step_(
        self, w: Array, g: Array, learning_rate: float, shape: tuple[int, int, int], rows: Array
    ) -> None:
        """As `step_`, where the first weights have a `shape` (G, V, H) and their gradient is zero
        in all rows but `rows` (n,), none twice: these rows alone are read and written, and all the
        weights after them. For rules by which a zero gradient changes nothing.
        """
        size = math.prod(shape)
        whole = [v[:size].reshape(shape) for v in (w, g, *self.state.values())]
        few = [v.take(rows, axis=1) for v in whole]  # (G, n, H), contiguous
        w_, g_, *sums = (v.reshape(-1) for v in few)
        self._rule_(w_, g_, learning_rate, np.empty_like(w_), *sums)
        for v, changed in zip(whole, few, strict=True):
            v[:, rows] = changed
        self.step_(w, g, learning_rate, size)

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        """The step of some weights, with their sums; x is scratch."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent: w -= lr * g."""

    name = "sgd"

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        g *= learning_rate
        w -= g


class Adagrad(Optimizer):
    """Adagrad (J. Duchi, E. Hazan, Y. Singer, 2011): each weight's step shrinks with the
    squares of the gradients that it has seen.

    s += g^2 ;  w -= lr * g / (sqrt(s) + epsilon)
    """

    name = "adagrad"
    sums = ("squares",)
    epsilon = 1e-8

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        (s,) = sums
        np.multiply(g, g, out=x)
        s += x
        np.sqrt(s, out=x)
        x += self.epsilon
        g *= learning_rate
        g /= x
        w -= g


OPTIMIZERS: dict[str, type[Optimizer]] = {o.name: o for o in (SGD, Adagrad)}
"""Every optimizer by its name in a configuration."""
