"""Small runs of training, for tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm.config.schema import Config, Setting
from charlstm.text.corpus import Corpus
from charlstm.training.events import Event, Rollback
from charlstm.training.learner import Learner
from charlstm.training.run import Training


def configured(**keys: Any) -> Config:
    """The default configuration with keys such as train_steps=5 set."""
    return Config().updated(
        Setting(key.replace("_", ".", 1), value, "test") for key, value in keys.items()
    )


SMALL = {"model_hidden": 12, "train_batch": 4, "train_length": 10}


def trained(corpus: Corpus, path: Path | None = None, **keys: Any) -> tuple[Training, list[Any]]:
    training = Training.start(corpus, configured(**{**SMALL, **keys}), path)
    return training, list(training)


def rollbacks(events: Iterable[Event]) -> list[Rollback]:
    return [event for event in events if isinstance(event, Rollback)]


RESUMED = {
    "as it comes": {},
    "gru, two layers": {"model_cell": "gru", "model_layers": 2},
    "rnn, sgd, value clip, sum": {
        "model_cell": "rnn",
        "train_optimizer": "sgd",
        "train_loss": "sum",
        "train_clip_value": 0.5,
        "train_clip_norm": None,
        "train_lr": 0.01,
    },
    "no average, no resets": {"train_average": 0.0, "train_reset": 0.0},
    "one short stream, sparse steps": {"train_batch": 1, "train_length": 5},
    "the best model lies behind": {"train_lr": 0.5, "train_patience": None},
    "rmsprop, exponential": {
        "train_optimizer": "rmsprop",
        "train_lr": 0.01,
        "train_schedule": "exponential",
        "train_lr_decay": 0.7,
    },
    "adam, warm-up": {"train_optimizer": "adam", "train_lr": 0.01, "train_warm_up": 100},
    "adamw, plateau": {
        "train_optimizer": "adamw",
        "train_weight_decay": 0.1,
        "train_lr": 0.05,
        "train_schedule": "plateau",
        "train_lr_divide": 1.5,
        "train_patience": None,
    },
    "embedding, dropout, one short stream": {
        "train_batch": 1,
        "train_length": 5,
        "model_embedding": 7,
        "model_dropout": 0.2,
    },
    "tied, time-shared dropout": {
        "model_layers": 2,
        "model_hidden": [9, 12],
        "model_embedding": 12,
        "model_tie": True,
        "model_dropout": 0.3,
        "model_variational": True,
    },
    "tied and projected, everything dropped": {
        "model_cell": "gru",
        "model_embedding": 7,
        "model_tie": True,
        "model_dropout": 0.2,
        "model_weight_drop": 0.3,
        "model_input_drop": 0.1,
        "train_shards": 2,
    },
    "adam, one short stream": {
        "train_optimizer": "adam",
        "train_lr": 0.01,
        "train_batch": 1,
        "train_length": 5,
    },
}
"""Runs whose limit may be raised on the way."""


def poisoned(name: str) -> Callable[[Training], None]:
    """Something that puts a number that is not finite where `name` says."""

    def poison(training: Training) -> None:
        value = {"nan": math.nan, "inf": math.inf}[name.split()[1]]
        arrays = {
            "weights": training.learner.model.weights["layer0.Wh"],
            "output": training.learner.model.weights["by"],
            "average": training.learner.average,
            "squares": training.learner.optimizer.state["squares"],
            "state": training.learner.state[1],
        }
        array = arrays[name.split()[0]]
        assert array is not None
        array.reshape(-1)[1] = value

    return poison


def injected(
    monkeypatch: pytest.MonkeyPatch, at: dict[int, Callable[[Training], None]], times: int = 1
) -> None:
    """Have what `at` tells happen before the step that follows so many; of a run that has gone
    back so often already that it is `times`, no more. What happens depends on the run alone, not
    on how often it was interrupted."""
    do = Training._do_step

    def step(self: Training, *arguments: Any) -> Any:
        if self.step in at and len(self.progress.rollbacks) < times:
            at[self.step](self)
        return do(self, *arguments)

    monkeypatch.setattr(Training, "_do_step", step)


def all_finite(path: Path) -> bool:
    with np.load(path) as archive:
        floats = [archive[name] for name in archive.files if archive[name].dtype.kind == "f"]
    assert floats
    return all(np.isfinite(array).all() for array in floats)


PLACES = {"weights": "the weights layer0.Wh", "output": "the weights by"}
PLACES |= {"average": "the average of layer0.Wx", "squares": "the squares of layer0.Wx"}
PLACES |= {"state": "the state layer0.c"}


SHORT = {"train_steps": 60, "train_eval_every": 20, "train_save_every": 7, "train_epochs": None}


def values(losses: dict[int, float]) -> Callable[[Learner], float]:
    """Held-out losses by step, to be measured."""
    return lambda learner: losses[learner.progress.step]
