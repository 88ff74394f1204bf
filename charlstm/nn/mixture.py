"""Several models over one vocabulary as one, whose probabilities are the mean of theirs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from charlstm.nn.arrays import Array, empty
from charlstm.nn.model import Model
from charlstm.nn.shape import State
from charlstm.nn.stepper import BaseStepper, Stepper

SMALLEST = float(np.finfo(np.float64).tiny)
"""No mean is below this: the logarithm is finite, and each unit can still be drawn."""

LOWEST = float(np.log(SMALLEST))
"""The logarithm of that, about -708."""

Mix = Callable[[], Array]
"""Brings the logits of a mixture up to date, and returns them, (K, V)."""


class Mixture:
    """Models m = 1 … M over the same V units: p = 1/M sum_m p_m.

    Each reads the text by itself, and has a state of its own; so they may be of any sizes and
    cells. By the concavity of the logarithm, the mean costs no more nats than the models do on
    average (L. K. Hansen, P. Salamon, Neural network ensembles, 1990, mix classifiers).
    """

    def __init__(self, models: Sequence[Model], removed: int | None = None) -> None:
        """The mean has no probability for the unit `removed`, and those of the others in
        proportion."""
        self.models, self.V, self.removed = list(models), models[0].V, removed

    def without(self, unit: int) -> "Mixture":
        """The mixture with a probability of zero for a unit, those of the others in proportion."""
        return Mixture(self.models, unit)

    @property
    def highest_logit(self) -> float:
        """A bound of the logarithms of all probabilities."""
        spread = 2 * max(model.highest_logit for model in self.models)
        return min(spread + float(np.log(self.V)), -LOWEST)

    def by_model(self, state: State | None) -> list[State] | list[None]:
        """The arrays of each model, of those of all, one model after the other; None: zero."""
        if state is None:
            return [None] * len(self.models)
        arrays = iter(state)
        return [[next(arrays) for _ in model.shape.states] for model in self.models]


class MixedStepper(BaseStepper):
    """The mixture one character at a time. Its logits are the logarithms of the mean, times
    `sharpness`: a temperature acts on the mixture, not on the models."""

    def __init__(
        self, mixture: Mixture, K: int, state: State | None = None, sharpness: float = 1.0
    ) -> None:
        states = mixture.by_model(state)
        pairs = zip(mixture.models, states, strict=True)
        self.steppers = [Stepper(model, K, of_model) for model, of_model in pairs]
        self.rows = list(zip(*(stepper.rows for stepper in self.steppers), strict=True))
        self.look_up = lambda ids: [stepper.look_up(ids) for stepper in self.steppers]
        self.state = [s for stepper in self.steppers for s in stepper.state]
        self.carried = [array for stepper in self.steppers for array in stepper.carried]
        logits = empty((mixture.V, K), np.float64)
        self.logits = logits.T
        self.mix = _mixing(mixture, self.steppers, logits, sharpness)
        self.steps = [_feeding(self.steppers, self.mix)]
        self.mix()

    def read(self, ids: Array) -> None:
        """Feed ids (N,) to a single stream."""
        for stepper in self.steppers:
            stepper.read(ids)
        self.mix()


def _feeding(steppers: Sequence[Stepper], mix: Mix) -> Callable[[Sequence[Any]], Array]:
    """What feeds a character to each model, and mixes."""
    steps_of_models = [stepper.steps for stepper in steppers]

    def feed(us: Sequence[Any]) -> Array:
        for steps, u in zip(steps_of_models, us, strict=True):
            for step in steps:
                u = step(u)
        return mix()

    return feed


def _mixing(mixture: Mixture, steppers: Sequence[Stepper], logits: Array, sharpness: float) -> Mix:
    """What writes the logarithms of the mean, times `sharpness`, into `logits` (V, K), and returns
    them, (K, V). Nearly all models are tame: their logits can be exponentiated as they are."""
    tame, removed = mixture.highest_logit < -LOWEST, mixture.removed
    p, share = empty((len(steppers), *logits.shape), np.float64), 1.0 / len(steppers)
    pairs = [(of_model, stepper.logits.T) for of_model, stepper in zip(p, steppers, strict=True)]
    result = logits.T
    highest = partial(np.maximum.reduce, p, axis=1, keepdims=True)
    total = partial(np.add.reduce, p, axis=1, keepdims=True)
    mean = partial(np.add.reduce, p, axis=0, out=logits)

    def mix() -> Array:
        for of_model, y in pairs:
            of_model[...] = y
        if not tame:
            np.subtract(p, highest(), p)
        np.exp(p, p)
        np.multiply(p, share / total(), p)
        mean()
        if not tame:
            np.maximum(logits, SMALLEST, out=logits)
        np.log(logits, logits)
        np.multiply(logits, sharpness, logits)
        if removed is not None:
            logits[removed] = -np.inf
        return result

    return mix


Predictor = Model | Mixture
"""What gives each unit its probability: one model, or several as one."""


def stepper_of(
    predictor: Predictor, K: int, state: State | None = None, sharpness: float = 1.0
) -> BaseStepper:
    """A model, or a mixture, one character at a time, for K streams: see `Stepper`."""
    if isinstance(predictor, Mixture):
        return MixedStepper(predictor, K, state, sharpness)
    return Stepper(predictor, K, state, sharpness)
