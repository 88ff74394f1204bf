"""A character-level language model: an LSTM (or GRU, or RNN) written by hand in NumPy.

    import charlstm

    for record in charlstm.train("corpus.txt", "model.npz"):
        ...
    model = charlstm.load("model.npz")
    print("".join(model.sample(seed="Once ", length=100)))
    print(model.evaluate("Once upon a time").bits_per_char)

What is named here is the public interface. What needs NumPy is imported when it is first used, so
that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from charlstm._version import __version__ as __version__
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

if TYPE_CHECKING:
    from charlstm.api import LanguageModel, gradient_flow, load
    from charlstm.config.schema import Config, Setting
    from charlstm.exchange.exports import export_model
    from charlstm.exchange.imports import import_model
    from charlstm.mixing import mix
    from charlstm.scoring.evaluation import Evaluation
    from charlstm.scoring.flow import GradientFlow
    from charlstm.training.events import Record, Rollback
    from charlstm.training.run import Training
    from charlstm.training.start import train

_HOMES = {
    **dict.fromkeys(("LanguageModel", "gradient_flow", "load"), "api"),
    **dict.fromkeys(("Config", "Setting"), "config.schema"),
    "Evaluation": "scoring.evaluation",
    "export_model": "exchange.exports",
    "GradientFlow": "scoring.flow",
    "import_model": "exchange.imports",
    "mix": "mixing",
    **dict.fromkeys(("Record", "Rollback"), "training.events"),
    "Training": "training.run",
    "train": "training.start",
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
    "export_model",
    "gradient_flow",
    "import_model",
    "load",
    "mix",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"charlstm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'charlstm' has no attribute {name!r}")
