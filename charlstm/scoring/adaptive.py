"""Dynamic evaluation: a model that learns from the text that it scores, after each score."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from charlstm.nn.arrays import Array, empty, zeros
from charlstm.nn.model import Model
from charlstm.nn.optimizers import ABOVE_SUBNORMAL, SPARSE, STRIDE
from charlstm.nn.shape import State
from charlstm.nn.unrolled import Unrolled
from charlstm.scoring.scorers import charge, segments
from charlstm.text.vocabulary import UNKNOWN

LENGTH = 64
"""Units of a stream between two steps."""

TAUGHT = 128
"""Units at the beginning of a line that are learnt from. However long a line is, it is one step."""

MEMORY = 0.01
"""Least share of a new gradient in the mean of the squares."""

FIRST, EVERY = 32, 8
"""The first steps, each of which renews the squares and draws the weights back; after them every so
many."""

EPSILON = 0.1
"""Part of the root of the mean of all squares that is added to that of each weight: no weight whose
gradient has long been zero is thrown far by the next one."""

LIMIT = 4.0
"""A longer gradient than so many times the root mean square of those before is shortened."""


class Dynamics:
    """Weights that move by the gradient of a text, and are drawn back to where they began.

    It is dynamic evaluation by the root of mean squares, with decay towards the trained weights
    (B. Krause, E. Kahembwe, I. Murray, S. Renals, Dynamic Evaluation of Neural Sequence Models,
    2018, equations 6 to 8). With the gradient g of the nats of the units between two steps, summed:

        g  =  g min(1, LIMIT sqrt(mean(s)) / rms(g))
        s +=  a (g^2 - s)
        w +=  -rate g / (sqrt(s) + EPSILON sqrt(mean(s)))
        w +=  (1 - (1 - pull)^n) (w0 - w)

    There s are Krause's MS_g, but of the text that is read, not of the corpus: the squares in a
    checkpoint are those of another size of batch, and of rules that each count them otherwise; SGD
    has none. They begin as the mean of the first g^2, alike for all weights. At their k-th update,
    a = max(1 / (k + 1), MEMORY). So `rate` is in units of the weights, whatever the size of the
    gradient, and one rate suits all models. The pull is the same for all weights. The second and
    the last line are done every n steps, which saves time: n is 1 at first, later `EVERY`.
    """

    def __init__(
        self, w: Array, rate: float, pull: float, first: tuple[int, ...] = (0, 0, 0)
    ) -> None:
        """w (P,) are changed in place; where they are now they are drawn to. The `first` of them
        have this shape (G, V, H)."""
        self.w, self.trained, self.rate, self.pull, self.first = w, w.copy(), rate, pull, first
        self.squares, self.factors = zeros(w.shape, w.dtype), empty(w.shape, w.dtype)
        self.mean, self.steps, self.updates, self.unpulled = 0.0, 0, 0, 0
        self.scratch = empty((min(w.size, STRIDE),), w.dtype)

    def step_(self, g: Array, rows: Array | None = None) -> None:
        """Move the weights by the gradient g (P,), which is scratch afterwards. One that is not
        finite puts them back where they began. Of the first weights, the gradient is zero in all
        rows but `rows` (n,), none twice, where they are given: the others are not read."""
        mean = float(np.dot(g, g)) / g.size
        if not math.isfinite(mean):
            self.w[...] = self.trained
            return
        if not mean:
            return
        if not self.updates:
            self.squares[...] = self.mean = mean
        if mean > (most := LIMIT**2 * self.mean):
            g *= math.sqrt(most / mean)
            mean = most
        renew = self.steps < FIRST or self.steps % EVERY == 0
        self.steps += 1
        self.unpulled += 1
        if renew:
            self.updates += 1
            self.mean += self._share * (mean - self.mean)
        start = 0
        if rows is not None and not renew:
            start = math.prod(self.first)
            w, of_g, of_rows = (v[:start].reshape(self.first) for v in (self.w, g, self.factors))
            w[:, rows] -= of_g[:, rows] * of_rows[:, rows]
        for at in range(start, g.size, STRIDE):
            part = slice(at, at + STRIDE)
            if renew:
                self._renew_(g[part], part)
            g[part] *= self.factors[part]
            self.w[part] -= g[part]
            if renew:
                self._pull_(part)
        if renew:
            self.unpulled = 0

    @property
    def _share(self) -> float:
        """That of a new gradient in the squares."""
        return max(1.0 / (self.updates + 1), MEMORY)

    def _renew_(self, g: Array, part: slice) -> None:
        """Add a gradient to a part of the squares; write rate / (sqrt(s) + epsilon)."""
        s, x = self.squares[part], self.scratch[: g.size]
        np.multiply(g, g, out=x)
        x -= s
        x *= self._share
        x += ABOVE_SUBNORMAL
        s += x
        np.sqrt(s, out=x)
        x += EPSILON * math.sqrt(self.mean)
        np.divide(self.rate, x, out=self.factors[part])

    def _pull_(self, part: slice) -> None:
        """Draw a part of the weights back, for all steps since this was last done."""
        w, x = self.w[part], self.scratch[: self.w[part].size]
        np.subtract(self.trained[part], w, out=x)
        x *= 1.0 - (1.0 - self.pull) ** self.unpulled
        w += x


class AdaptiveScorer:
    """A copy of a trained model that learns from each text that it scores, once the score is made
    (`Dynamics`): from a stream after every `LENGTH` units, from a line after the whole line. Units
    outside the vocabulary are not learnt from. What it has learnt lasts from text to text."""

    def __init__(self, model: Model, rate: float, pull: float, charged: int = UNKNOWN) -> None:
        """The id `charged` costs a fixed price, whatever the prediction."""
        self.model, self.charged = model.with_weights(model.weights.flat.copy()), charged
        self.gradient = self.model.weights.like()
        self.learnt = 0  # units learnt from
        # few units have a gradient for few rows of the first weights, but the output's for all
        self.sparse = not model.shape.tie and SPARSE * LENGTH <= model.V
        self.dynamics = Dynamics(self.model.weights.flat, rate, pull, model.rows_shape)
        self.of_stream, self.of_line = (Unrolled(self.model, T, 1) for T in (LENGTH, TAUGHT))

    def stream(self, blocks: Iterable[Array], learn: bool = True) -> Iterator[tuple[Array, Array]]:
        state = self.model.zero_state(1)
        for ids in segments(blocks):
            nats = np.empty(len(ids) - 1)
            for at in range(0, len(nats), LENGTH):
                part = ids[at : at + LENGTH + 1]
                nats[at : at + LENGTH], state = self._score(self.of_stream, part, state, learn)
                if learn:
                    self._learn(part[:-1])
            yield ids[1:], nats

    def lines(self, ids: Sequence[Array]) -> Iterator[Array]:
        for of_line in ids:
            nats, state = np.empty(len(of_line) - 1), self.model.zero_state(1)
            for at in range(0, len(nats), TAUGHT):
                part, learn = of_line[at : at + TAUGHT + 1], at == 0
                nats[at : at + TAUGHT], state = self._score(self.of_line, part, state, learn)
            if len(nats):
                self._learn(of_line[:-1][:TAUGHT])
            yield nats

    def _learn(self, read: Array) -> None:
        """Move the weights by the gradient of what follows ids (n,) that were read."""
        rows = None
        if self.sparse:
            rows = np.unique(read)
            rows = rows[rows >= 0]  # an unknown unit has none
        self.dynamics.step_(self.gradient.flat, rows)

    @np.errstate(over="ignore", invalid="ignore")  # found by `Dynamics`
    def _score(
        self, unrolled: Unrolled, ids: Array, state: State, learn: bool
    ) -> tuple[Array, State]:
        """Nats of ids (n + 1,) but the first, and the state after them; to `learn`, the gradient
        of those in the vocabulary."""
        column = np.asarray(ids, np.intp)[:, None]
        units = column[1:]
        state = unrolled.forward(column[:-1], state)
        known = units != self.charged
        targets = np.where(known, units, 0)
        if learn:
            nats, _ = unrolled.loss_and_gradient(targets, self.gradient, known)
            self.learnt += int(np.count_nonzero(known))
        else:
            nats = unrolled.loss(targets)
        return charge(nats, units, self.charged)[:, 0], state
