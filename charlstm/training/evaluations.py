"""The evaluations of a run. They decide which weights are the best, whether the run diverges, and
to which state it returns then."""

import copy
import dataclasses
import math
from typing import Any

from charlstm.errors import DivergedError
from charlstm.storage.checkpoint import Checkpoint
from charlstm.storage.progress import Evaluated, Return, Score, Since
from charlstm.training.events import Rollback
from charlstm.training.learner import Diverged, Learner

ROLLBACKS = 3
"""Returns to a good state in a run at most: where three did not help, a fourth will not."""

FAR = 1.0
"""Nats per unit above what guessing costs, from which on a loss is that of a run that diverges. The
first steps of a run that learns may take it there for a while."""

SETTLING_STEPS = 50
"""Steps in which the limit above guessing falls from this number of nats to `FAR`."""


class Evaluations:
    """The best weights and the last good state of a run.

    Only evaluations on the way keep a good state. They are made after the same steps however often
    a run is interrupted, and a checkpoint that is written in between holds the state that the last
    one kept: so what becomes of a run that diverges does not depend on that either. (But a sum or
    an average that overflows, which no step shows, is found when it would be saved or kept.)
    """

    def __init__(self, learner: Learner, checkpoint: Checkpoint) -> None:
        self.learner, self.unit = learner, checkpoint.config.text.name
        self.guessing = math.log(learner.model.V)  # what guessing costs, in nats per unit
        self.best = checkpoint.best if checkpoint.looked is None else checkpoint.looked
        """(P,) flat weights of the best evaluation on the way."""
        if checkpoint.good is None:
            self.good = copy.deepcopy(learner.snapshot())
        else:
            state = [s[learner.mine] for s in checkpoint.good.state]
            self.good = dataclasses.replace(checkpoint.good, state=state)

    def on_the_way(self) -> dict[str, Any]:
        """Evaluate; keep the weights where their loss is the lowest so far, and the whole state as
        a good one unless the loss exceeds the lowest, or `FAR` where that is less, by more than
        guessing costs. Returns what a `Record` says of it."""
        p = self.learner.progress
        train, valid, best = self._losses()
        p.since = Since(0.0, 0)
        if valid is None:
            self._keep()
            return {}
        if best:
            self.best = self.learner.used.weights.flat.copy()
            p.best, p.looks = Score(p.step, valid), 0
        else:
            p.looks += 1
            p.setbacks += 1
        p.history.append(Evaluated(p.step, train, valid))
        assert p.best is not None
        if valid <= min(p.best.nats, FAR) + self.guessing:
            self._keep()
        return {"valid": valid, "best": best}

    def at_the_end(self) -> dict[str, Any]:
        """Evaluate the last weights, which are the ones to use if they are the best.

        The result stands in the file, apart from the state that training resumes from: so a run
        that was interrupted has the same evaluations on the way, and ends in the same file.
        """
        p = self.learner.progress
        _, valid, best = self._losses()
        if valid is None:
            return {}
        p.final = Score(p.step, valid) if best else None
        return {"valid": valid, "best": best}

    def _losses(self) -> tuple[float, float | None, bool]:
        """Loss in nats per unit of the steps since the last evaluation and of the held-out text,
        and whether that is the best so far. Raises `Diverged` where the held-out loss is not
        finite, or both are far above what guessing costs."""
        p = self.learner.progress
        train, valid = p.since.nats / p.since.units, self.learner.measure()
        if valid is not None and not math.isfinite(valid):
            raise Diverged(p.step, "the held-out loss")
        steps = p.step - (p.rollbacks[-1].to if p.rollbacks else 0)
        limit = self.guessing + FAR * max(1, SETTLING_STEPS - steps)
        if train > limit and (valid is None or valid > limit):
            how = f"is {train:.1f} nats per {self.unit} where guessing costs {self.guessing:.1f}"
            raise Diverged(p.step, "the training loss", how)
        return train, valid, valid is not None and (p.best is None or valid < p.best.nats)

    def _keep(self) -> None:
        self.good.copy_(self.learner.snapshot())

    def go_back(self, diverged: Diverged, seconds: float) -> Rollback:
        """Return to the last good state, with a smaller learning rate from there on. Raises
        `DivergedError` where that has not helped often enough."""
        learner, good, (step, what, _) = self.learner, self.good, diverged.divergence
        rollbacks = learner.progress.rollbacks
        if len(rollbacks) == ROLLBACKS:
            raise DivergedError(
                f"training diverged at {diverged}, after {ROLLBACKS} returns to a good state, each "
                "with half the learning rate; try a smaller --set train.lr or train.clip_norm"
            )
        good.progress.rollbacks = [*rollbacks, Return(step, what, good.progress.step)]
        learner.restore(good)
        plan, p = learner.plan, learner.progress
        on = f"on from step {p.step:,} with half the learning rate"
        return Rollback(
            *(p.step, plan.epoch(p.step), plan.chars(p.step), seconds, plan.learning_rate(p)),
            diverged=diverged.divergence,
            notice=f"training diverged at {diverged}; {on}",
        )
