"""Section 3: what a text costs the model, unit by unit, and what it expected instead."""

import math
from typing import Any

import numpy as np

from charlstm.api import LanguageModel
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.stepper import Stepper
from charlstm.report.passage import CONTEXT, Passage, name_of
from charlstm.scoring.scorers import UNKNOWN_NATS

GUESSES = 5
"""The likeliest units that are shown at each place."""

ROWS = 256
"""Places whose probabilities (ROWS, V) are in memory at a time."""


def surprise(language: LanguageModel, passage: Passage) -> dict[str, Any]:
    """For each unit of the excerpt its bits, None where nothing comes before it, and the likeliest
    units there, as pairs of a place among `names` and a probability; `ranks` has which of these
    came, -1 for none. A unit outside the vocabulary costs what `charlstm evaluate` charges, and is
    listed in `outside`."""
    model, v = language.model, language.vocabulary
    assert isinstance(model, Model)
    start, stop = passage.excerpt.start, passage.excerpt.stop
    first = max(0, start - CONTEXT)
    ids = passage.ids(v)[first:stop].astype(np.intp)
    given = max(1, start - first)  # the units before the first one that is predicted
    shown = Stepper(model, 1).read(ids[:-1])[given - 1 :]
    bits: list[float | None] = [None] * (given - (start - first))
    guesses: list[list[list[float]]] = [[] for _ in bits]
    ranks = [-1] * len(bits)
    names: dict[int, int] = {}
    for at in range(0, len(shown), ROWS):
        p = probabilities(model, shown[at : at + ROWS])
        targets = ids[given + at : given + at + len(p)]
        nats = -np.log(np.maximum(p[np.arange(len(p)), targets], 1e-300))
        bits += (np.where(targets == v.charged, UNKNOWN_NATS, nats) / math.log(2)).tolist()
        likeliest = np.argsort(-p, axis=1, kind="stable")[:, :GUESSES]
        for row, best, target in zip(p, likeliest.tolist(), targets.tolist(), strict=True):
            ranks.append(best.index(target) if target in best else -1)
            places = [names.setdefault(i, len(names)) for i in best]
            guesses.append([[k, float(f"{row[i]:.3g}")] for k, i in zip(places, best, strict=True)])
    return {
        "unit": v.unit,
        "units": passage.shown(v),
        "bits": [None if b is None else round(b, 3) for b in bits],
        "outside": np.flatnonzero(ids[start - first :] == v.unknown).tolist(),
        "names": [name_of(v, i) for i in names],
        "guesses": guesses,
        "ranks": ranks,
    }


def probabilities(model: Model, h: Array) -> Array:
    """The probabilities (N, V), float64, of what comes next, from what the uppermost layer shows
    (N, H)."""
    y = (h @ model.Wy.T + model.weights["by"]).astype(np.float64)
    p = np.exp(y - y.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.asarray(p)
