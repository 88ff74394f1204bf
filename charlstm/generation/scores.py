"""What `evaluate` says of samples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charlstm.generation.ending import Sample
from charlstm.generation.source import context, read
from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Predictor, stepper_of
from charlstm.nn.shape import State
from charlstm.scoring.mixed import static_scorer
from charlstm.text.vocabulary import Vocabulary


class Score(NamedTuple):
    """How a model predicts a sample."""

    nats: float  # sum of -ln p over the units of the text that is shown
    drawn: float  # the same over all units that were drawn


class Scores:
    """Scores samples that have ended.

    The nats of a text X that continues a seed S are those of S + X less those of S: the sum of
    -ln p over the units of X under the model itself, `<unk>` included, whatever the temperature and
    the cuts by which X was drawn. Without a seed a text stands after a line end; where the corpus
    has none, its first unit is given. Where a stop text cuts a word, what is left of it is scored
    as the word that it is.
    """

    def __init__(
        self, model: Predictor, vocabulary: Vocabulary, prefix: Array | None = None
    ) -> None:
        """`prefix` (N,) are units that stand before all seeds."""
        self.vocabulary = vocabulary
        state: State | None = None
        if prefix is not None and len(prefix):
            state = read(stepper_of(model, 1), prefix).state
        self.scorer = static_scorer(model, vocabulary.charged, state)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        contexts = [context(sample.seed.ids, self.vocabulary) for sample in samples]
        of_drawn = self._nats(
            [np.append(c, sample.units) for c, sample in zip(contexts, samples, strict=True)]
        )
        scores = []
        for c, sample, drawn in zip(contexts, samples, of_drawn, strict=True):
            begin = max(0, len(c) - 1)
            shown = self._shown_units(sample)
            nats = drawn[: max(0, len(c) + len(shown) - 1)]
            if shown != sample.units[: len(shown)]:  # a word that was cut
                (nats,) = self._nats([np.append(c, shown)])
            scores.append(Score(float(nats[begin:].sum()), float(drawn[begin:].sum())))
        return scores

    def _shown_units(self, sample: Sample) -> list[int]:
        """The units of the text that is shown."""
        if sample.stop == "length":
            return sample.units
        ids, errors = np.array(sample.units, np.int32), sample.ending.errors
        shown = self.vocabulary.shown_ids(sample.text, ids, sample.seed.text, errors)
        units: list[int] = shown.tolist()
        return units

    def _nats(self, texts: Sequence[Array]) -> list[Array]:
        """Of each text (N,) the nats of its units but the first; none of an empty one."""
        found = self.scorer.lines([ids for ids in texts if len(ids)])
        return [next(found) if len(ids) else np.empty(0) for ids in texts]
