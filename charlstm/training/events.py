"""What a run of training reports."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Record:
    """What one step of training did; or, with `train` NaN, what happened between two steps."""

    step: int
    """Steps done in all, this one included."""
    epoch: float
    """Passes over the training text in all."""
    chars: int
    """Characters trained on in all."""
    seconds: float
    """Time since this run began."""
    train: float
    """Loss of this step in nats per character, before its update."""
    lr: float
    """The learning rate of this step."""
    gradient_norm: float
    """Norm of the gradient before clipping."""
    valid: float | None = None
    """Held-out loss in nats per character, where this step ended in an evaluation."""
    best: bool = False
    """Whether that was the lowest so far."""
    saved: bool = False
    """Whether the checkpoint was written after this step."""
    sample: str | None = None
    """A text generated after this step, where one was asked for."""
    notice: str | None = None
    """Something the user should know."""


class Divergence(NamedTuple):
    """Where training diverged, and by what that was seen."""

    step: int
    """The step after which it was seen, or in which."""
    what: str
    """The array, or the loss."""
    finite: bool = False
    """Whether its numbers are finite: then the loss stayed far above what guessing costs."""


@dataclass(frozen=True)
class Rollback:
    """The return of a run that diverged to its last good state. Step, epoch and characters are
    those of that state; from there the learning rate `lr` is smaller."""

    step: int
    epoch: float
    chars: int
    seconds: float
    """Time since this run began."""
    lr: float
    diverged: Divergence
    notice: str
    """What the user should know."""


Event = Record | Rollback
