"""The evaluations of a run, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

from charlstm.storage.checkpoint import Checkpoint
from charlstm.storage.progress import Evaluated, Score, Since
from charlstm.training.learner import Learner
from charlstm.training.recovery import FAR, Recovery, check_losses


class Evaluations:
    """What evaluations on held-out text decide: the best weights and the state to return to."""

    def __init__(self, learner: Learner, recovery: Recovery, checkpoint: Checkpoint) -> None:
        self.learner, self.recovery = learner, recovery
        self.unit = checkpoint.config.text.name
        self.best = checkpoint.best if checkpoint.looked is None else checkpoint.looked
        """(P,) flat weights of the best evaluation on the way."""

    def _losses(self) -> tuple[float, float | None, bool]:
        """Loss in nats per unit of the steps since the last evaluation and of the held-out text,
        and whether that is the best so far. Raises `Diverged`."""
        p = self.learner.progress
        train, valid = p.since.nats / p.since.units, self.learner.measure()
        check_losses(p, train, valid, self.learner.model.V, self.unit)
        return train, valid, valid is not None and (p.best is None or valid < p.best.nats)

    def on_the_way(self) -> dict[str, Any]:
        """Evaluate; keep the weights where their loss is the lowest so far, and the whole state as
        a good one unless the loss has risen to where that of a model on its way out is: by more
        than what guessing costs, or beyond that. Returns what a `Record` says of it."""
        p = self.learner.progress
        train, valid, best = self._losses()
        p.since = Since(0.0, 0)
        if valid is None:
            self.recovery.keep(self.learner.snapshot())
            return {}
        if best:
            self.best = self.learner.used.weights.flat.copy()
            p.best, p.looks = Score(p.step, valid), 0
        else:
            p.looks += 1
            p.setbacks += 1
        p.history.append(Evaluated(p.step, train, valid))
        assert p.best is not None
        if valid <= min(p.best.nats, FAR) + math.log(self.learner.model.V):
            self.recovery.keep(self.learner.snapshot())
        return {"valid": valid, "best": best}

    def at_the_end(self) -> dict[str, Any]:
        """Evaluate the last weights, which are the ones to use if they are the best.

        What is found stands in the file, apart from the state that training resumes from: so a
        run that was interrupted has the same evaluations on the way, and ends in the same file.
        """
        p = self.learner.progress
        _, valid, best = self._losses()
        if valid is None:
            return {}
        p.final = Score(p.step, valid) if best else None
        return {"valid": valid, "best": best}
