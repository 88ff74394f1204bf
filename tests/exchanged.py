"""Models to export, and files to import, for the tests of `charlstm.exchange`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import STORY

from charlstm.api import LanguageModel
from charlstm.config.schema import Config, Setting
from charlstm.exchange.safetensors import File, pack
from charlstm.nn.unrolled import Unrolled
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training

Array = NDArray[Any]

TEXT = STORY.read_text(encoding="utf-8")[:4200]
"""Over 500 words, so far more characters."""

ENDS: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedded": {"model.embedding": 5},
    "tied": {"model.embedding": 9, "model.tie": True},
    "projected": {"model.embedding": 5, "model.tie": True},
}
"""What may stand around the layers, the uppermost of which is 9 wide."""

every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
every_end = pytest.mark.parametrize("ends", ENDS)
every_depth = pytest.mark.parametrize("widths", [(9,), (7, 9)], ids=["1-layer", "2-layers"])
every_unit = pytest.mark.parametrize("unit", ["char", "word"])


def language(
    cell: str = "lstm",
    ends: str = "one-hot",
    widths: tuple[int, ...] = (9,),
    text: str = TEXT,
    **keys: Any,
) -> LanguageModel:
    """A model of a text with weights at random, biases and signs of zeros included."""
    settings = {
        "model.cell": cell,
        "model.hidden": widths[0] if len(set(widths)) == 1 else widths,
        "model.layers": len(widths),
        "train.batch": 2,
        **ENDS[ends],
        **keys,
    }
    config = Config().updated(Setting(k, v, "test") for k, v in settings.items())
    corpus = Corpus.from_text(text, **dataclasses.asdict(config.text))
    checkpoint = Training.start(corpus, config).checkpoint()
    rng = np.random.default_rng(3)
    checkpoint.best[...] = rng.normal(0.0, 0.3, checkpoint.best.shape)
    model = checkpoint.model()
    model.weights["layer0.b"][0, 0, :2] = -0.0, 0.0
    return LanguageModel(checkpoint)


def log_probabilities(logits: Array) -> Array:
    """Natural logarithms of the probabilities (…, V) that logits make, in float64."""
    y = np.asarray(logits, np.float64)
    y = y - y.max(axis=-1, keepdims=True)
    lp: Array = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return lp


def ids_of(language: LanguageModel, N: int = 501) -> Array:
    """Ids (N,) of the beginning of the text."""
    ids: Array = language.vocabulary.encode(TEXT)[:N].astype(np.int64)
    assert len(ids) == N
    return ids


def ours(language: LanguageModel, ids: Array) -> Array:
    """Log-probabilities (N, V) after each of the ids (N,), from the zero state."""
    model = language.checkpoint.model()
    unrolled = Unrolled(model, len(ids), 1, training=False)
    unrolled.forward(ids[:, None], model.zero_state(1))
    return log_probabilities(unrolled.logits()[:, 0])


def assert_equal(one: LanguageModel, other: LanguageModel) -> None:
    """Two models whose weights in use, configurations and vocabularies are the same bits."""
    a, b = one.checkpoint, other.checkpoint
    assert a.best.tobytes() == b.best.tobytes()
    assert a.config == b.config
    assert a.vocabulary.units == b.vocabulary.units
    assert a.vocabulary.counts.tolist() == b.vocabulary.counts.tolist()
    assert a.vocabulary.normalize == b.vocabulary.normalize


def written(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] = {}) -> Path:
    """A safetensors file at `path` of these arrays as float32."""
    float32 = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    path.write_bytes(b"".join(pack(File(float32, dict(metadata)))))
    return path


def network(
    cell: str = "lstm", V: int = 6, D: int = 4, H: int = 3, names: str = "embedding rnn linear"
) -> dict[str, Array]:
    """Weights of a model of one layer, embedded or, with D = 0, one-hot, by PyTorch's names."""
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    embedding, rnn, linear = names.split()
    rng = np.random.default_rng(5)
    shapes = {
        f"{rnn}.weight_ih_l0": (G * H, D or V),
        f"{rnn}.weight_hh_l0": (G * H, H),
        f"{rnn}.bias_ih_l0": (G * H,),
        f"{rnn}.bias_hh_l0": (G * H,),
        f"{linear}.weight": (V, H),
        f"{linear}.bias": (V,),
        **({f"{embedding}.weight": (V, D)} if D else {}),
    }
    arrays = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    if cell == "gru":
        arrays[f"{rnn}.bias_hh_l0"][2 * H :] = 0.0
    return arrays
