"""A character-level language model: an LSTM (or GRU, or RNN) written by hand in NumPy.

    import charlstm

    for record in charlstm.train("corpus.txt", "model.npz"):
        ...
    model = charlstm.load("model.npz")
    print("".join(model.sample(seed="Once ", length=100)))
    print(model.evaluate("Once upon a time").bits_per_char)

What is named here is the public interface. It is imported when it is first used, so that
importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charlstm._version import __version__ as __version__

if TYPE_CHECKING:
    from charlstm.api import LanguageModel, gradient_flow, load, train
    from charlstm.config.schema import Config, Setting
    from charlstm.errors import (
        BusyError,
        CharLSTMError,
        CheckpointError,
        ConfigError,
        CorpusError,
        DivergedError,
        OutputError,
        UsageError,
        VocabularyError,
    )
    from charlstm.scoring.evaluation import Evaluation
    from charlstm.scoring.flow import GradientFlow
    from charlstm.training.events import Record, Rollback
    from charlstm.training.run import Training

_HOMES = {
    "api": ("LanguageModel", "gradient_flow", "load", "train"),
    "config.schema": ("Config", "Setting"),
    "errors": (
        "BusyError",
        "CharLSTMError",
        "CheckpointError",
        "ConfigError",
        "CorpusError",
        "DivergedError",
        "OutputError",
        "UsageError",
        "VocabularyError",
    ),
    "scoring.evaluation": ("Evaluation",),
    "scoring.flow": ("GradientFlow",),
    "training.events": ("Record", "Rollback"),
    "training.run": ("Training",),
}

__all__ = [
    "BusyError",
    "CharLSTMError",
    "CheckpointError",
    "Config",
    "ConfigError",
    "CorpusError",
    "DivergedError",
    "Evaluation",
    "GradientFlow",
    "LanguageModel",
    "OutputError",
    "Record",
    "Rollback",
    "Setting",
    "Training",
    "UsageError",
    "VocabularyError",
    "gradient_flow",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            return getattr(importlib.import_module(f"charlstm.{home}"), name)
    raise AttributeError(f"module 'charlstm' has no attribute {name!r}")
