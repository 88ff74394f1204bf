"""Section 8: which earlier units a prediction depends on.

After A. Madsen, Visualizing memorization in RNNs, Distill, 2019, but with the loss in the place of
the likeliest unit's logit.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from charlstm.api import LanguageModel
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.report.passage import CONTEXT, Passage
from charlstm.scoring.flow import backward, gradient_of_loss
from charlstm.scoring.trace import trace
from charlstm.text.visible import harmless

PLACES = 400
"""Units of the excerpt, at most, whose prediction is followed back."""

LAGS = 60
"""Units before each, at most, that are shown."""

NUMBERS = 1 << 24
"""Local derivatives, at most, that are in memory. A wide network is followed at fewer places."""


def memory(languages: Mapping[str, LanguageModel], passage: Passage) -> dict[str, Any]:
    """For each model, by its name, the strengths (M, L) of a prediction's dependence on the L units
    before it, the nearest first, as bytes in base64: 255 stands for the strongest of each place.
    `halves` has how many units back half, and nine tenths, of all strength lie."""
    first = next(iter(languages.values()))
    start, stop = passage.excerpt.start, passage.excerpt.stop
    rows, places, lags = [], min(PLACES, stop - start), LAGS
    for language in languages.values():
        assert isinstance(language.model, Model)
        shape, kept = language.model.shape, len(language.model.cell.kept)
        places = min(places, max(50, NUMBERS // (kept * sum(shape.widths)) - lags))
    for name, language in languages.items():
        assert isinstance(language.model, Model)
        ids = passage.ids(language.vocabulary)[max(0, start - CONTEXT) : start + places]
        norms = dependence(language.model, ids.astype(np.intp), places, lags)
        peaks = norms.max(axis=1, keepdims=True, initial=0.0)
        relative = np.divide(norms, peaks, out=np.zeros_like(norms), where=peaks > 0)
        codes = base64.b64encode(np.rint(255 * relative).astype(np.uint8).tobytes()).decode()
        shares = np.cumsum(relative.sum(axis=0))
        halves = [
            int(np.searchsorted(shares, share * shares[-1])) + 1 if shares[-1] > 0 else None
            for share in (0.5, 0.9)
        ]
        cell = language.checkpoint.config.model.cell
        rows.append({"name": harmless(name), "cell": cell, "strength": codes, "halves": halves})
    units = passage.shown(first.vocabulary)[:places]
    return {"unit": first.vocabulary.unit, "units": units, "lags": lags, "models": rows}


def dependence(model: Model, ids: Array, places: int, lags: int) -> Array:
    """Norms (places, lags) of d loss_t / d x_(t-k), for the last `places` of ids (N,) as what is
    predicted, and k = 1 … `lags`; x is what the lowest layer reads, one-hot or embedded, loss_t
    the nats of unit t. Where nothing stands, or what is predicted is outside the vocabulary, 0.

    A step back is taken for all places together.
    """
    wide = model.with_weights(model.weights.flat.astype(np.float64))
    read, N = ids[:-1], len(ids)
    kept: list[list[Array]] = []
    top = np.zeros((N, wide.H))  # what is shown before each unit
    for t, done in enumerate(trace(wide, read[:, None], wide.zero_state(1)), 1):
        top[t] = done[-1].state[0][0]
        kept.append([step.derivatives(wide.cell) for step in done])
    norms = np.zeros((places, lags))
    predicted = np.arange(N - places, N)
    counted = (predicted > 0) & (ids[predicted] >= 0)
    predicted = predicted[counted]
    if not len(predicted):
        return norms
    by_layer = [np.concatenate(layer, axis=1) for layer in zip(*kept, strict=True)]  # (D, N-1, H)

    def going_back() -> Iterator[list[Array]]:
        for lag in range(1, lags + 1):
            at = predicted - lag
            yield [np.where((at >= 0)[:, None], d[:, np.maximum(at, 0)], 0.0) for d in by_layer]

    # ||du Wx^T|| = ||du R^T|| with Wx = Q R, which is no wider
    Wx = wide.weights["layer0.Wx"]
    G, n, H = Wx.shape
    R = np.asarray(np.linalg.qr(Wx.transpose(1, 0, 2).reshape(n, G * H), mode="r"))
    dh = gradient_of_loss(wide, top[predicted], ids[predicted])
    for lag, (_, du) in enumerate(backward(wide, going_back(), dh)):
        flat = du.transpose(1, 0, 2).reshape(len(predicted), G * H)
        norms[counted, lag] = np.linalg.norm(flat @ R.T, axis=1)
    return norms
