"""Which unit of a network follows what a person can name in a text.

Honest by halves: the unit and its threshold are chosen on the first half of a text, and what is
reported is measured on the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.report.recording import Place, Recording

CANDIDATES = 24
"""Units with the highest correlations, among which the threshold with the best F1 is sought."""

FEWEST = 20
"""Places in each half that must have a feature, and places that must lack it. What counts must
begin anew as often."""

ENOUGH = 0.7
"""F1, or correlation, from which a unit is said to follow a feature; F1 must also lie as far
above that of saying yes everywhere as `BEYOND` of the way to 1."""

BEYOND = 0.5


@dataclass(frozen=True)
class Tracking:
    """The unit that follows a feature best, and how well it does on the second half."""

    place: Place
    unit: int
    value: float  # F1 at the threshold, or the absolute correlation
    chance: float  # F1 of saying yes everywhere; 0 of a correlation
    rising: bool  # whether high values stand for the feature, or for more of it
    threshold: float | None  # None of a correlation

    @property
    def follows(self) -> bool:
        return self.value >= ENOUGH and self.value - self.chance >= BEYOND * (1 - self.chance)


def correlations(values: Array, features: Array) -> Array:
    """Pearson's correlations (K, H) of the columns of values (N, H) with features (K, N); 0 for
    what never changes."""
    x, y = values.astype(np.float64), features.astype(np.float64)
    x -= x.mean(axis=0)
    y -= y.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.outer((y * y).sum(axis=1), (x * x).sum(axis=0)))
    products: Array = y @ x
    return np.divide(products, spread, out=np.zeros_like(products), where=spread > 0)


def f1(said: Array, true: Array) -> float:
    """The harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN)."""
    both, either = np.sum(said & true), np.sum(said) + np.sum(true)
    return float(2 * both / either) if either else 0.0


def best_threshold(values: Array, true: Array) -> tuple[float, float]:
    """The threshold, and its F1, for which "above" says best whether a feature is there: halfway
    between two neighbouring values (N,)."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(true[order])
    scores = 2 * hits / (np.arange(1, len(values) + 1) + hits[-1])
    scores[:-1][ranked[:-1] == ranked[1:]] = 0.0  # no threshold lies between equal values
    best = int(np.argmax(scores))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[-1] - 1.0
    return float(ranked[best] + below) / 2, float(scores[best])


def track(recording: Recording, features: Array, numeric: Sequence[bool]) -> list[Tracking | None]:
    """The unit that follows each of the features (K, N) best; None for a feature that is too rare
    or too common. `numeric` says which of them count; the others are 1 or 0."""
    half = features.shape[1] // 2
    candidates: list[list[tuple[float, Place, int]]] = [[] for _ in features]
    for place, values in recording.values.items():
        for r, of_feature in zip(
            correlations(values[:half], features[:, :half]), candidates, strict=True
        ):
            for unit in np.argsort(-np.abs(r), kind="stable")[:CANDIDATES].tolist():
                of_feature.append((float(r[unit]), place, unit))
    best: list[Tracking | None] = []
    for feature, counts, of_feature in zip(features, numeric, candidates, strict=True):
        halves, ranked = (feature[:half], feature[half:]), sorted(of_feature, key=_weakness)
        if min(_rarer(part, counts) for part in halves) < FEWEST:
            best.append(None)
        elif counts:
            best.append(_best_correlation(recording, feature, ranked[0]))
        else:
            best.append(_best_threshold(recording, feature > 0, ranked[:CANDIDATES]))
    return best


def _weakness(candidate: tuple[float, Place, int]) -> float:
    return -abs(candidate[0])


def _rarer(feature: Array, counts: bool) -> int:
    """How often the rarer of two values stands in a feature; of one that counts, how often it
    begins anew."""
    if counts:
        return int(np.count_nonzero(np.diff(feature) < 0))
    there = int(np.count_nonzero(feature))
    return min(there, len(feature) - there)


def _best_correlation(
    recording: Recording, feature: Array, candidate: tuple[float, Place, int]
) -> Tracking:
    r, place, unit = candidate
    half = len(feature) // 2
    column = recording.values[place][half:, unit, None]
    measured = float(correlations(column, feature[None, half:])[0, 0])
    value = max(0.0, measured if r > 0 else -measured)
    return Tracking(place, unit, value, chance=0.0, rising=r > 0, threshold=None)


def _best_threshold(
    recording: Recording, true: Array, ranked: Sequence[tuple[float, Place, int]]
) -> Tracking:
    half, trials = len(true) // 2, list[tuple[float, float, Place, int, float]]()
    for r, place, unit in ranked:
        sign = 1.0 if r > 0 else -1.0
        column = sign * recording.values[place][:half, unit].astype(np.float64)
        threshold, score = best_threshold(column, true[:half])
        trials.append((score, threshold, place, unit, sign))
    _, threshold, place, unit, sign = max(trials, key=lambda trial: trial[0])
    said = sign * recording.values[place][half:, unit].astype(np.float64) > threshold
    value, share = f1(said, true[half:]), float(true[half:].mean())
    chance = 2 * share / (1 + share)
    return Tracking(place, unit, value, chance, rising=sign > 0, threshold=sign * threshold)
