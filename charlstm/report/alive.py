"""The model itself, as data from which the page runs it: section "Try it".

`assets/model.js` is the other side: it computes what `charlstm.nn` computes.
"""

import base64
from typing import Any

import numpy as np

from charlstm.api import LanguageModel
from charlstm.errors import UsageError
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.report.page import page
from charlstm.text.vocabulary import Vocabulary

LARGEST = 10_000_000
"""Characters of base64 that the weights fill at most: with all else, a page stays below 12 MB."""

PRECISIONS = ("<f4", "<f2")
"""How the weights are stored: as they are, or, where that is too large, as halves, whose relative
error is 2^-11."""

HOTTEST = 2.0
"""The highest temperature that the page offers."""


def alive(language: LanguageModel) -> dict[str, Any]:
    """All that the page needs to run a model: sizes, weights, vocabulary, defaults.

    `weights` has the flat vector (P,) of the model in base64, little-endian, and the names and
    shapes of the arrays in it. Where even halves would fill more than `LARGEST` characters, there
    is `left_out` instead: the number of weights, and how many a page holds. Raises `UsageError`
    for a mixture.
    """
    model = language.model
    if not isinstance(model, Model):
        raise UsageError("a mixture does not run in a page; take one of its models")
    shape, flat, sample = model.shape, model.weights.flat, language.config.sample
    precision = next((p for p in PRECISIONS if _length(flat, p) <= LARGEST), None)
    if precision is None:
        most = LARGEST // 4 * 3 // np.dtype(PRECISIONS[-1]).itemsize
        return {"left_out": {"weights": len(flat), "most": most}}
    return {
        "cell": shape.cell,
        "V": shape.V,
        "widths": list(shape.widths),
        "embedding": shape.embedding,
        "tie": shape.tie,
        "weights": {
            "precision": precision,
            "shapes": {name: list(sizes) for name, sizes in shape.weights.items()},
            "base64": base64.b64encode(_stored(flat, precision)).decode("ascii"),
        },
        "vocabulary": vocabulary_data(language.vocabulary),
        "temperature": min(sample.temperature, HOTTEST),
        "length": sample.length,
        "seed": sample.seed,
    }


def alive_page(language: LanguageModel, *, lang: str, title: str) -> str:
    """The section alone, as a page. Raises `UsageError` where the model is too large for one."""
    data = alive(language)
    if "left_out" in data:
        reason = "{weights:,} weights are too many for a page, which holds {most:,}"
        raise UsageError(reason.format(**data["left_out"]))
    return page({"alive": data}, lang=lang, title=title)


def vocabulary_data(vocabulary: Vocabulary) -> dict[str, Any]:
    """A vocabulary as `assets/model.js` takes it; all bytes have no list of units."""
    return {
        "unit": vocabulary.unit,
        "units": vocabulary.units if vocabulary.is_text else [],
        "counts": vocabulary.counts.tolist(),
        "normalize": vocabulary.normalize,
        "unknown": vocabulary.unknown,
        "line_end": vocabulary.line_end,
        "line_break": vocabulary.line_break,
    }


def _length(flat: Array, precision: str) -> int:
    """How many characters of base64 a vector takes."""
    return -(-len(flat) * np.dtype(precision).itemsize // 3) * 4


def _stored(flat: Array, precision: str) -> bytes:
    """A vector in a precision; what is beyond its range becomes its largest number."""
    most = float(np.finfo(precision).max)
    return np.clip(flat, -most, most).astype(precision).tobytes()
