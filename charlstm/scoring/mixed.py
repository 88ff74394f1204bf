"""Several scorers as one, whose probabilities are the mean of theirs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import tee

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.mixture import Mixture, Predictor
from charlstm.nn.shape import State
from charlstm.scoring.scorers import Scorer, StaticScorer
from charlstm.text.vocabulary import UNKNOWN


class MixedScorer:
    """Scorers m = 1 … M over one vocabulary: the nats of a unit are -ln(1/M sum_m exp(-nats_m)).
    What is charged a fixed price costs that still."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self.scorers = scorers

    def stream(self, blocks: Iterable[Array], learn: bool = True) -> Iterator[tuple[Array, Array]]:
        copies = tee(blocks, len(self.scorers))
        streams = (one.stream(copy, learn) for one, copy in zip(self.scorers, copies, strict=True))
        for segments in zip(*streams, strict=True):
            units, _ = segments[0]
            yield units, _mixed([nats for _, nats in segments])

    def lines(self, ids: Sequence[Array]) -> Iterator[Array]:
        return map(_mixed, zip(*(one.lines(ids) for one in self.scorers), strict=True))


def static_scorer(
    predictor: Predictor, charged: int = UNKNOWN, state: State | None = None
) -> Scorer:
    """A trained model, or a mixture of such, as it is: see `StaticScorer`."""
    if not isinstance(predictor, Mixture):
        return StaticScorer(predictor, charged, state)
    pairs = zip(predictor.models, predictor.by_model(state), strict=True)
    return MixedScorer([StaticScorer(model, charged, of_model) for model, of_model in pairs])


def _mixed(nats: Sequence[Array]) -> Array:
    """Nats (n,) by the mean of probabilities, from those of each scorer."""
    least = np.minimum.reduce(nats)  # of equal nats it is the result, to the bit
    mixed: Array = least - np.log(np.mean(np.exp(least - np.array(nats)), axis=0))
    return mixed
