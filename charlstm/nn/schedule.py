"""The schedules of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass


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

    None of them goes below lr_min. In each, the rate first rises in a straight line from zero for
    `warm_up` steps; the cosine begins after them.
    """

    kind: str
    lr: float
    lr_min: float = 0.0
    warm_up: int = 0
    lr_decay: float = 0.97
    lr_decay_after: int = 1
    lr_divide: float = 4.0
    total: int | None = None
    """Steps of the run in all: needed for the cosine."""

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
            part = max(0, step - self.warm_up) / max(1, self.total - self.warm_up)
            lr -= (lr - self.lr_min) * (1.0 - math.cos(math.pi * min(1.0, part))) / 2
        if self.kind != "constant":
            lr = max(lr, self.lr_min)
        return lr * min(1.0, (step + 1) / (self.warm_up + 1))


SCHEDULES = ("constant", "exponential", "cosine", "plateau")
"""Every `Schedule.kind`."""
