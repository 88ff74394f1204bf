"""A model and a seed, made ready to draw from."""

import numpy as np

from charlstm.generation.choose import Chooser
from charlstm.generation.ending import Sampling
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor, stepper_of
from charlstm.nn.stepper import BaseStepper
from charlstm.scoring.scorers import SEGMENT
from charlstm.text.vocabulary import Vocabulary

HIGHEST = 600.0
"""Logits between plus and minus this can be exponentiated, and the results added, in float64."""

HOTTEST = 1e6
"""A temperature above which logits divided by it may be too small for float32."""


class Source:
    """Makes steppers and choosers for the units that follow seeds.

    What is outside the vocabulary is never drawn, where that has an entry for it; the model's other
    probabilities are renormalised. Where no logit can leave the range in which exp is safe, the
    weights take over the temperature, once.
    """

    def __init__(
        self,
        model: Predictor,
        vocabulary: Vocabulary,
        sampling: Sampling,
        prefix: Array | None = None,
    ) -> None:
        """`prefix` (N,) are units that all seeds begin with; they are read once."""
        if vocabulary.unknown >= 0:
            model = model.without(vocabulary.unknown)
        self.model, self.vocabulary, self.sampling = model, vocabulary, sampling
        self.plain = model.highest_logit / HIGHEST < sampling.temperature < HOTTEST
        self.sharpness = 1.0 / sampling.temperature if self.plain else 1.0
        self.single = self.stepper(1)  # a stream, after the prefix
        if prefix is not None:
            read(self.single, prefix)
        self.origin = [array.copy() for array in self.single.carried]  # what seeds begin from

    def stepper(self, K: int) -> BaseStepper:
        """K streams, at the zero state."""
        return stepper_of(self.model, K, sharpness=self.sharpness)

    def chooser(self, K: int) -> Chooser:
        """What draws from the logits of K streams."""
        return self._chooser(K, self.plain)

    def first(self, number: float, allowed: Array | None) -> int:
        """The first unit of a text before which no line end comes: drawn as often as it stands in
        the corpus, by a uniform number, of those that are `allowed` (1, V)."""
        logits = self.first_logits()
        if allowed is not None and not np.isfinite(logits[allowed]).any():
            logits[...] = 0.0  # none of them stands in the corpus
        return int(self._chooser(1, False)(logits, np.array([number]), allowed)[0])

    def first_logits(self) -> Array:
        """Logits (1, V) by the counts of the corpus, but minus infinity for what is unknown."""
        unknown, counts = self.vocabulary.unknown, self.vocabulary.counts.copy()
        if unknown >= 0:
            counts[unknown] = 0
            if not counts.any():
                counts[...] = np.arange(len(counts)) != unknown
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(counts / counts.sum()))[None]

    def _chooser(self, K: int, plain: bool) -> Chooser:
        s = self.sampling
        return Chooser(
            K,
            self.model.V,
            temperature=1.0 if plain else s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            plain=plain,
        )


def context(seed: Array, vocabulary: Vocabulary) -> Array:
    """What a text is read after: its seed, or, without one, a line end."""
    if len(seed) or vocabulary.line_end is None:
        return np.asarray(seed, np.intp)
    return np.array([vocabulary.line_end])


def read(stepper: BaseStepper, ids: Array) -> BaseStepper:
    """The stepper after it has read ids (N,), of which `SEGMENT` at a time are kept in memory."""
    for start in range(0, len(ids), SEGMENT):
        stepper.read(ids[start : start + SEGMENT])
    return stepper
