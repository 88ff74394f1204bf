"""Section 4: every gate and state over an excerpt, and the units that follow something nameable."""

import base64
from typing import Any

import numpy as np

from charlstm.api import LanguageModel
from charlstm.nn.arrays import Array
from charlstm.report.features import NUMERIC, RECOGNISED, REMEMBERED, TRIVIAL, features
from charlstm.report.passage import Passage
from charlstm.report.recording import Place, Recording, is_gate
from charlstm.report.tracking import Tracking, track
from charlstm.text.visible import harmless

BYTES = 300_000
"""Numbers of the heat maps, one byte each, at which fewer units of the text are shown, …"""

FEWEST, MOST_BYTES = 300, 900_000
"""… but not fewer than these, as far as all heat maps stay below that size."""

SHOWN = 300
"""Units of the text in which a feature is shown."""


def cells(language: LanguageModel, passage: Passage, recording: Recording) -> dict[str, Any]:
    """Heat maps of each layer's gates and states over the beginning of the excerpt, and for each
    feature the unit that follows it best, by a recording of the passage's window."""
    v = language.vocabulary
    numbers = sum(values.shape[1] for values in recording.values.values())
    start = passage.excerpt.start
    length = max(BYTES // numbers, min(FEWEST, MOST_BYTES // numbers), 1)
    stop = min(passage.excerpt.stop, start + length)
    layers: list[dict[str, Any]] = []
    for place, values in recording.values.items():
        if place.layer == len(layers):
            layers.append({})
        layers[place.layer][place.quantity] = heat_map(recording, place, values[start:stop])
    return {
        "unit": v.unit,
        "cell": recording.cell.name,
        "units": [harmless(unit) for unit in passage.units(v)[start:stop]],
        "layers": layers,
        "measured": len(recording) - len(recording) // 2,
        "named": named(passage.units(v), recording, v.unit),
    }


def heat_map(recording: Recording, place: Place, values: Array) -> dict[str, Any]:
    """Values (N, H) as bytes in base64, unit after unit in `order`: of a gate 0 … 255 stands for
    0 … 1; else 0 … 255 for -scale … scale."""
    gate, scale = is_gate(recording.cell, place.quantity), scale_of(recording, place)
    order = arranged(values)
    x = values.astype(np.float64)[:, order].T
    share = x if gate else np.clip(x / scale, -1.0, 1.0) / 2 + 0.5
    codes = base64.b64encode(np.rint(255 * share).astype(np.uint8).tobytes()).decode()
    return {"gate": gate, "scale": scale, "order": order.tolist(), "codes": codes}


def scale_of(recording: Recording, place: Place) -> float:
    """What the strongest colour stands for: 1, but of a cell state, which has no bound, nearly the
    largest value."""
    if place.quantity != "c":
        return 1.0
    largest = np.quantile(np.abs(recording.values[place].astype(np.float32)), 0.995)
    return max(1.0, round(float(largest), 2))


def arranged(values: Array) -> Array:
    """The columns of values (N, H) in an order in which like ones stand together: by their angle
    in the plane of the two strongest principal components of their correlations (M. Friendly,
    Corrgrams, 2002), from the widest gap on."""
    x = values.astype(np.float64)
    x = x - x.mean(axis=0)
    spread = np.sqrt((x * x).sum(axis=0))
    x = np.divide(x, spread, out=np.zeros_like(x), where=spread > 0)
    if x.shape[1] < 3:
        return np.arange(x.shape[1])
    _, vectors = np.linalg.eigh(x.T @ x)
    plane = vectors[:, -2:]
    plane = plane * np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])
    angles = np.arctan2(plane[:, 0], plane[:, 1])
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    return np.roll(order, -1 - int(np.argmax(gaps)))


def named(units: list[str], recording: Recording, unit: str = "char") -> list[dict[str, Any]]:
    """For each feature that a text of this unit has, the unit that follows it best, how well, and a
    piece of the second half to see it in."""
    trivial = TRIVIAL.get(unit, set())
    values = features(units, [n for n in (*REMEMBERED, *RECOGNISED) if n not in trivial])
    tracking = track(recording, np.array([*values.values()]), [name in NUMERIC for name in values])
    rows = []
    for (name, feature), best in zip(values.items(), tracking, strict=True):
        if best is not None:
            row = {"feature": name, "remembered": name in REMEMBERED, "numeric": name in NUMERIC}
            rows.append({**row, **found(units, recording, feature, best)})
    return rows


def found(units: list[str], recording: Recording, feature: Array, best: Tracking) -> dict[str, Any]:
    """What is shown of a feature and the unit that follows it."""
    place, N = best.place, len(recording)
    start = typical(feature, N // 2)
    piece = slice(start, min(start + SHOWN, N))
    values = recording.values[place][piece, best.unit].astype(np.float64)
    return {
        "measure": "correlation" if best.threshold is None else "f1",
        "value": round(best.value, 3),
        "chance": round(best.chance, 3),
        "follows": best.follows,
        "rising": bool(best.rising),
        "threshold": None if best.threshold is None else round(best.threshold, 3),
        "layer": place.layer,
        "quantity": place.quantity,
        "index": best.unit,
        "units": [harmless(unit) for unit in units[piece]],
        "values": np.round(values, 2).tolist(),
        "strength": np.rint(100 * judged(values, best)).astype(int).tolist(),
        "truth": feature[piece].astype(int).tolist(),
    }


def judged(values: Array, best: Tracking) -> Array:
    """What a unit says of a feature, by its values (N,): from -1, no, over 0 at the threshold to 1,
    yes; of a feature that counts, from little to much. Each side has the full range: where a gate
    says yes above 0.9, yes must not be pale."""
    middle = (values.max() + values.min()) / 2 if best.threshold is None else best.threshold
    distance = (values - middle) if best.rising else (middle - values)
    said = np.zeros(len(values))
    for side in (distance > 0, distance < 0):
        farthest = np.abs(distance).max(initial=0.0, where=side)
        np.divide(distance, farthest, out=said, where=side)
    return said


def typical(feature: Array, start: int) -> int:
    """Where after `start` a piece of `SHOWN` begins in which a feature changes most."""
    changes = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(feature > 0)))])
    last = max(start, len(feature) - SHOWN)
    places = np.arange(start, last + 1, 50)
    ends = np.minimum(places + SHOWN, len(feature)) - 1
    return int(places[np.argmax(changes[ends] - changes[places])])
