"""When a run diverges: how that is seen, and the good state that it returns to."""

from __future__ import annotations

import math

import numpy as np

from charlstm.errors import DivergedError
from charlstm.nn.model import Model
from charlstm.storage.checkpoint import Snapshot
from charlstm.storage.progress import Progress, Return
from charlstm.training.events import Divergence
from charlstm.training.ranks import Alone

ROLLBACKS = 3
"""Returns to a good state in a run at most: where three did not help, a fourth will not."""

FAR = 1.0
"""Nats per unit above what guessing costs, from which on a loss is that of a run that diverges. The
first steps of a run that learns may take it there for a while."""

COMING_DOWN = 50
"""Steps that a run has for coming down from there."""


class Diverged(Exception):
    """Training diverged."""

    def __init__(self, step: int, what: str, how: str = "is not finite") -> None:
        """`what` was seen after `step` steps, or in the one that would have been that; `how` says
        what is wrong with it."""
        super().__init__(f"step {step}: {what} {how}")
        self.divergence = Divergence(step, what, how != "is not finite")


def check_arrays(now: Snapshot, model: Model, ranks: Alone) -> None:
    """Raise `Diverged` where an array of any rank holds a number that is not finite."""
    vectors = {"the weights": now.last}
    vectors |= {f"the {name} of": flat for name, flat in now.optimizer.items()}
    if now.average is not None:
        vectors["the average of"] = now.average
    named = {
        f"{kind} {name}": array
        for kind, flat in vectors.items()
        for name, array in model.weights.like(flat).items()
    }
    names = (f"the state {name}" for name in model.shape.states)
    named |= zip(names, now.state, strict=True)
    sick = np.array([not np.isfinite(array).all() for array in named.values()], np.float64)
    ranks.add_(sick)  # they have different states, and must do the same
    if sick.any():
        raise Diverged(now.progress.step, list(named)[int(np.argmax(sick > 0))])


def check_losses(progress: Progress, train: float, valid: float | None, V: int, unit: str) -> None:
    """Raise `Diverged` where the held-out loss, in nats per unit, is not finite, or it and that in
    training are far above what guessing among V units costs."""
    if valid is not None and not math.isfinite(valid):
        raise Diverged(progress.step, "the held-out loss")
    guessing, rollbacks = math.log(V), progress.rollbacks
    steps = progress.step - (rollbacks[-1].to if rollbacks else 0)
    limit = guessing + FAR * max(1, COMING_DOWN - steps)
    if train > limit and (valid is None or valid > limit):
        how = f"is {train:.1f} nats per {unit} where guessing costs {guessing:.1f}"
        raise Diverged(progress.step, "the training loss", how)


class Recovery:
    """The last good state of a run.

    Only evaluations keep one. They are made after the same steps however often a run is
    interrupted and saved, and a checkpoint that is written in between holds the state that the
    last one kept: so what becomes of a run that diverges does not depend on that either. (But a
    sum or an average that overflows, which no step shows, is found when it would be saved or kept.)
    """

    def __init__(self, good: Snapshot) -> None:
        """Of arrays that nothing else changes."""
        self.good = good

    def keep(self, now: Snapshot) -> None:
        """Make this the state to return to."""
        for kept, array in zip(self.good.arrays(), now.arrays(), strict=True):
            np.copyto(kept, array)
        self.good.progress = now.progress.copy()

    def restore_(self, now: Snapshot, diverged: Diverged) -> None:
        """Put the good state, with this return in its progress, in the place of another. Raises
        `DivergedError` where returning has not helped often enough."""
        good, rollbacks = self.good, now.progress.rollbacks
        if len(rollbacks) == ROLLBACKS:
            raise DivergedError(
                f"training diverged at {diverged}, after {ROLLBACKS} returns to a good state, each "
                "with half the learning rate; try a smaller --set train.lr or train.clip_norm"
            )
        step, what, _ = diverged.divergence
        good.progress.rollbacks = [*rollbacks, Return(step, what, good.progress.step)]
        for array, kept in zip(now.arrays(), good.arrays(), strict=True):
            np.copyto(array, kept)
        now.progress = good.progress.copy()
