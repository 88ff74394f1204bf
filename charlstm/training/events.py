"""What a run of training reports."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Record:
    """What one step of training did; or, with `train` NaN, what happened between two steps."""

    step: int  # steps done in all, this one included
    epoch: float  # passes over the training text in all
    chars: int  # characters trained on in all
    seconds: float  # time since this run began
    train: float  # loss of this step in nats per character, before its update
    lr: float  # the learning rate of this step
    gradient_norm: float  # norm of the gradient before clipping
    valid: float | None = None
    """Held-out loss in nats per character, where this step ended in an evaluation."""
    best: bool = False  # whether that was the lowest so far
    saved: bool = False  # whether the checkpoint was written after this step
    sample: str | None = None  # a text generated after this step, where one was asked for
    notice: str | None = None  # something the user should know


class Divergence(NamedTuple):
    """Where training diverged, and by what that was seen."""

    step: int  # the step after which it was seen, or in which
    what: str  # the array, or the loss
    finite: bool = False
    """Whether its numbers are finite: then the loss stayed far above what guessing costs."""


@dataclass(frozen=True)
class Rollback:
    """The return of a run that diverged to its last good state. Step, epoch and characters are
    those of that state; from there the learning rate `lr` is smaller."""

    step: int
    epoch: float
    chars: int
    seconds: float  # time since this run began
    lr: float
    diverged: Divergence
    notice: str  # what the user should know


Event = Record | Rollback
