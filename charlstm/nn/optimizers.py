"""How a gradient becomes a step: the learning rate, clipping, and the rules, on flat vectors."""

import math
from dataclasses import dataclass

import numpy as np

from charlstm.nn.arrays import Array, empty, zeros


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step, a function of where the run stands and of nothing else.

    constant     lr
    exponential  lr * lr_decay^(n + 1 - lr_decay_after) from epoch n = lr_decay_after on, the first
                 one being 0: so many epochs at the full rate (as in A. Karpathy, char-rnn, 2015)
    cosine       from lr to lr_min along half a wave, (1 + cos(pi * part)) / 2, until the last of
                 `total` steps (I. Loshchilov, F. Hutter, 2017, equation 5, one cycle)
    plateau      lr / lr_divide^n after n held-out evaluations without a new best (as in K. Saitoh,
                 Deep Learning from Scratch 2, 2018, section 6.5)

    None but constant falls below lr_min. In each, the rate first rises in a straight line for
    `warm_up` steps, whatever lr_min is. The cosine begins after these, and not before step `hold`.
    """

    kind: str  # one of `SCHEDULES`
    lr: float
    lr_min: float = 0.0
    warm_up: int = 0
    lr_decay: float = 0.97
    lr_decay_after: int = 1
    lr_divide: float = 4.0
    total: int | None = None  # steps of the run in all: needed for the cosine
    hold: int = 0

    def learning_rate(self, step: int, epoch: int, setbacks: int) -> float:
        """The rate of the step after `step` steps and `epoch` whole epochs, and after `setbacks`
        held-out evaluations without a new best."""
        lr = self.lr
        if self.kind == "exponential":
            lr *= self.lr_decay ** max(0, epoch + 1 - self.lr_decay_after)
        elif self.kind == "plateau":
            lr *= (1.0 / self.lr_divide) ** setbacks  # a power that may vanish but not overflow
        elif self.kind == "cosine":
            assert self.total is not None
            begin = max(self.warm_up, self.hold)
            part = max(0, step - begin) / max(1, self.total - begin)
            lr -= (lr - self.lr_min) * (1.0 - math.cos(math.pi * min(1.0, part))) / 2
        if self.kind != "constant":
            lr = max(lr, self.lr_min)
        return lr * min(1.0, (step + 1) / (self.warm_up + 1))


SCHEDULES = ("constant", "exponential", "cosine", "plateau")


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


STRIDE = 1 << 16
"""Weights that are changed at a time, so that a step's several passes find them in cache."""

SPARSE = 6
"""Changing only the rows that a segment uses pays where the matrix has at least this number of
times as many."""

ABOVE_SUBNORMAL = 1e-30
"""Added to what goes into a sum that decays. The sums of a weight without a gradient for some
hundred steps (its character does not occur) would else become subnormal numbers, with which
processors are slow, and stay so. Far below where it could change a weight."""


class Optimizer:
    """One step of descent. To resume training unchanged takes `state`, flat vectors as long as the
    weights, by name, and `steps`, the number of steps made."""

    name: str
    sums: tuple[str, ...] = ()  # names of the vectors in `state`
    settings: tuple[str, ...] = ()  # attributes that may have other values than their defaults
    sparse = False  # whether a zero gradient changes neither a weight nor its sums

    def __init__(self, w: Array, steps: int = 0, **settings: float) -> None:
        """For weights such as w that have made so many steps before."""
        assert set(settings) <= set(self.settings), settings
        vars(self).update(settings)
        self.steps = steps
        self.state = {name: zeros(w.shape, w.dtype) for name in self.sums}
        self._scratch = empty((min(w.size, STRIDE),), w.dtype)

    def step_(self, w: Array, g: Array, learning_rate: float, start: int = 0) -> None:
        """Change the weights w, those from `start` on, in place by the gradient g. May use g as
        scratch."""
        self.steps += 1
        vectors = (w, g, *self.state.values())
        for at in range(start, w.size, STRIDE):
            w_block, g_block, *sums = (v[at : at + STRIDE] for v in vectors)
            self._rule_(w_block, g_block, learning_rate, self._scratch[: w_block.size], *sums)

    def sparse_step_(
        self, w: Array, g: Array, learning_rate: float, shape: tuple[int, int, int], rows: Array
    ) -> None:
        """As `step_`, where the first weights have a `shape` (G, V, H) and their gradient is zero
        in all rows but `rows` (n,), none twice: these rows alone are read and written, and all the
        weights after them. For rules that are `sparse`.
        """
        assert self.sparse
        size = math.prod(shape)
        vectors = [v[:size].reshape(shape) for v in (w, g, *self.state.values())]
        copies = [v.take(rows, axis=1) for v in vectors]  # (G, n, H), contiguous
        w_rows, g_rows, *sums = (copy.reshape(-1) for copy in copies)
        self._rule_(w_rows, g_rows, learning_rate, np.empty_like(w_rows), *sums)
        for v, changed in zip(vectors, copies, strict=True):
            v[:, rows] = changed
        self.step_(w, g, learning_rate, size)

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        """Step number `steps`, from 1, of weights w with the gradient g and their sums. x is
        scratch."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent: w -= lr * g."""

    name = "sgd"
    sparse = True

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
    sparse = True
    epsilon = 1e-8

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        (s,) = sums
        np.multiply(g, g, out=x)
        self._add_(s, x)
        np.sqrt(s, out=x)
        x += self.epsilon
        g *= learning_rate
        g /= x
        w -= g

    def _add_(self, s: Array, squares: Array) -> None:
        s += squares


class RMSprop(Adagrad):
    """RMSprop (T. Tieleman, G. Hinton, 2012): as Adagrad, but with a running mean of the squares,
    which forgets. D is `rms_decay`.

    s = D s + (1 - D) g^2 ;  w -= lr * g / (sqrt(s) + epsilon)
    """

    name = "rmsprop"
    settings = ("rms_decay",)
    sparse = False
    rms_decay = 0.95

    def _add_(self, s: Array, squares: Array) -> None:
        _decay_(s, squares, self.rms_decay)


class Adam(Optimizer):
    """Adam (D. Kingma, J. Ba, 2015, algorithm 1): running means of the gradient and of its square,
    both corrected, at step t, for having begun at zero. B1 and B2 are `beta1` and `beta2`.

    m = B1 m + (1 - B1) g ;  s = B2 s + (1 - B2) g^2
    w -= lr * (m / (1 - B1^t)) / (sqrt(s / (1 - B2^t)) + epsilon)
    """

    name = "adam"
    sums = ("means", "squares")
    settings: tuple[str, ...] = ("beta1", "beta2")
    beta1, beta2 = 0.9, 0.999
    epsilon = 1e-8

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        m, s = sums
        t = self.steps
        np.multiply(g, g, out=x)
        _decay_(s, x, self.beta2)
        _decay_(m, g, self.beta1)
        np.sqrt(s, out=x)
        x *= 1.0 / math.sqrt(1.0 - self.beta2**t)
        x += self.epsilon
        np.divide(m, x, out=g)
        g *= learning_rate / (1.0 - self.beta1**t)
        w -= g


class AdamW(Adam):
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019, algorithm 2): before
    Adam's step all the weights, biases too, shrink in proportion.

    w -= lr * weight_decay * w
    """

    name = "adamw"
    settings = (*Adam.settings, "weight_decay")
    weight_decay = 0.0

    def _rule_(self, w: Array, g: Array, learning_rate: float, x: Array, *sums: Array) -> None:
        w *= 1.0 - learning_rate * self.weight_decay
        super()._rule_(w, g, learning_rate, x, *sums)


def _decay_(s: Array, x: Array, decay: float) -> None:
    """s = decay s + (1 - decay) x, but never subnormal for long. Uses x as scratch."""
    x *= 1.0 - decay
    x += ABOVE_SUBNORMAL
    s *= decay
    s += x


OPTIMIZERS: dict[str, type[Optimizer]] = {o.name: o for o in (SGD, Adagrad, RMSprop, Adam, AdamW)}
