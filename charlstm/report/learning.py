"""Section 2: how a model learned, by what it remembers of it, and by a log, which has more."""

import json
import math
from collections.abc import Iterable
from typing import Any

from charlstm.api import LanguageModel
from charlstm.errors import UsageError
from charlstm.report.figures import learning_curves
from charlstm.text.visible import harmless

ROWS = 40
"""Evaluations, at most, that the table of numbers lists."""

SAMPLES = 12
"""Samples, at most, that are shown; the first and the last are among them."""

LONGEST = 600
"""Characters of a sample that are shown."""

POINTS = 1_500
"""Points of a curve, at most, that are drawn."""

Line = dict[str, Any]


def parsed(lines: Iterable[bytes | str], name: str) -> list[Line]:
    """The lines of a log of `charlstm train`; one that a crash has torn may be the last. Raises
    `UsageError` where it is none."""
    rows, documents = list(lines), list[Line]()
    for number, line in enumerate(rows, 1):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if _is_of_a_log(document):
            documents.append(document)
        elif not documents or number < len(rows):
            what = "is not of a log that charlstm train --log writes"
            raise UsageError(f"{name}: line {number} {what}")
    return documents


def _is_of_a_log(line: Any) -> bool:
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return False
    if "diverged_at" in line:
        return type(line["diverged_at"]) is int
    numbers = [line.get(key) for key in ("train", "valid", "lr")]
    sound = all(n is None or (type(n) in (int, float) and math.isfinite(n)) for n in numbers)
    return "train" in line and sound and isinstance(line.get("sample", ""), str)


def learning(language: LanguageModel, log: Iterable[Line] | None = None) -> dict[str, Any]:
    """Losses by step, in bits per unit, and where training returned after diverging; from a log
    also more points, learning rates and samples."""
    p = language.checkpoint.progress
    returns = [[r.step, r.to] for r in p.rollbacks]
    if log is None:
        train = [[e.step, _bits(e.train)] for e in p.history]
        valid = [[e.step, _bits(e.valid)] for e in p.history]
        rate, samples = list[list[float]](), list[list[Any]]()
    else:
        lines = [line for line in log if "diverged_at" not in line]
        returns = [[r["diverged_at"], r["step"]] for r in log if "diverged_at" in r]
        train = [[r["step"], _bits(r["train"])] for r in lines if r["train"] is not None]
        valid = [[r["step"], _bits(r["valid"])] for r in lines if r.get("valid") is not None]
        rate = [[r["step"], r["lr"]] for r in lines if r.get("lr") is not None]
        samples = _samples(lines)
    best = None if p.in_use is None else [p.in_use.step, _bits(p.in_use.nats)]
    svg = None
    if train or valid:
        svg = learning_curves(
            train=thinned(train, POINTS),
            valid=thinned(valid, POINTS),
            rate=thinned(rate, POINTS),
            best=best,
            returns=returns,
        )
    return {
        "unit": language.vocabulary.unit,
        "best": best,
        "returns": returns,
        "logged": log is not None,
        "table": thinned(valid, ROWS),
        "samples": samples,
        "svg": svg,
        "rate": bool(rate),
    }


def _samples(lines: Iterable[Line]) -> list[list[Any]]:
    """Step, bits and text of samples; the loss is that of training up to there, None before it."""
    rows = []
    for line in lines:
        if "sample" in line:
            nats, text = line["train"], line["sample"]
            cut = text[:LONGEST] + "…" * (len(text) > LONGEST)
            rows.append([line["step"], None if nats is None else _bits(nats), harmless(cut)])
    return thinned(rows, SAMPLES)


def thinned(rows: list[Any], most: int) -> list[Any]:
    """At most so many of some rows, evenly apart, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(k * (len(rows) - 1) / (most - 1))] for k in range(most)]


def _bits(nats: float) -> float:
    return round(nats / math.log(2), 4)
