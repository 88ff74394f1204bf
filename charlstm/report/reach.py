"""Section 6: how far back a loss is felt, for one model or for several side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from charlstm.api import LanguageModel, gradient_flow
from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.report.figures import reach_curves
from charlstm.report.passage import Passage
from charlstm.text.visible import harmless

LAGS = 50
"""Steps back, at most, that a loss is followed."""


def reach(languages: Mapping[str, LanguageModel], passage: Passage) -> dict[str, Any]:
    """For each model, by its name, the norms of the gradient at each lag relative to that at lag 0
    of its states; first the one that is the way from step to step, c of an LSTM and h of others,
    of the uppermost layer. Of a short text fewer lags; None where there is too little."""
    rows: list[dict[str, Any]] = []
    for name, language in languages.items():
        text = "".join(passage.units(language.vocabulary))
        lags = min(LAGS, len(passage.ids(language.vocabulary)) - 2)
        try:
            norms = gradient_flow(language, text, lags).norms if lags > 0 else {}
        except CorpusError:  # nothing that is in the vocabulary
            norms = {}
        shape = language.checkpoint.config.model
        states = {state: _relative(values) for state, values in norms.items()}
        main = f"layer{shape.layers - 1}.{'c' if shape.cell == 'lstm' else 'h'}"
        if main in states:
            states = {main: states.pop(main), **states}
            rows.append({"name": harmless(name), "cell": shape.cell, "states": states})
    svg = reach_curves([row["states"] for row in rows]) if rows else None
    return {"models": rows, "svg": svg}


def _relative(norms: Array) -> list[float]:
    """Norms relative to the first, to three digits."""
    if not norms[0] > 0:
        return [0.0] * len(norms)
    return [float(f"{x:.3g}") for x in np.asarray(norms / norms[0]).tolist()]
