"""Models for the tests of the report, and a naive one to compare them with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from support import STORY

from charlstm.nn.model import Model
from charlstm.nn.shape import Shape

Array = NDArray[Any]
TEXT = STORY.read_text(encoding="utf-8")[:6000]

FAMILIES = [
    {"cell": "rnn"},
    {"cell": "gru"},
    {"cell": "lstm"},
    {"cell": "gru", "layers": 2, "embedding": 3},
    {"cell": "lstm", "layers": 2, "embedding": 3, "tie": True},
]
every_family = pytest.mark.parametrize(
    "family", FAMILIES, ids=lambda family: "-".join(map(str, family.values()))
)


def make(V: int = 7, H: int = 5, dtype: Any = np.float64, **family: Any) -> Model:
    shape = {"cell": "lstm", "layers": 1, **family}
    model = Model(Shape(shape.pop("cell"), V, H, **shape), dtype)
    model.weights.flat[...] = np.random.default_rng(3).normal(0, 0.6, model.weights.flat.shape)
    return model


def naive(model: Model, inputs: Array) -> tuple[list[list[Any]], Array]:
    """States of each layer after each step, and the logits (T, V), of a naive model that reads
    vectors (T, n)."""
    w: Any = model.weights
    n = reference.STATES[model.cell.name]
    zero = model.zero_state(1)
    states = [tuple(zero[k * n : (k + 1) * n]) for k in range(model.shape.layers)]
    after, logits = [], []
    for x in inputs:
        x = x[None]
        for k in range(model.shape.layers):
            parts = (w[f"layer{k}.{m}"] for m in ("Wx", "Wh", "b"))
            states[k] = reference.CELLS[model.cell.name](x, states[k], *parts)
            x = states[k][0]
        after.append(list(states))
        logits.append((x @ model.Wy.T + w["by"])[0])
    return after, np.array(logits)


def read_as(model: Model, ids: Array) -> Array:
    """What the lowest layer reads of ids: one-hot or embedded."""
    rows = model.weights["E"] if model.shape.embedding else np.eye(model.V)
    return np.array([rows[i] if i >= 0 else np.zeros(rows.shape[1]) for i in ids])
