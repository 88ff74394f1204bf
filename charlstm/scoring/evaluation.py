"""How well a model predicts a text: nats, bits and perplexity per character, byte or word."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from charlstm.config.schema import UNIT_NAMES
from charlstm.nn.arrays import Array
from charlstm.scoring.scorers import Scorer
from charlstm.text.vocabulary import UNKNOWN, Vocabulary

LONG = 1 << 16
"""Characters of a line that is scored in blocks, as a stream by itself, for the sake of memory."""


@dataclass(frozen=True)
class Evaluation:
    """The score of a text. Its first unit is given, not predicted, and is not scored."""

    units: int  # characters, bytes or words scored, those outside the vocabulary included
    unknown: int  # of these, units outside the vocabulary
    nats: float
    """Sum of -ln p over the units scored. A character outside costs `UNKNOWN_NATS`; a word outside
    is scored as `<unk>`, which is one of the words that the model predicts."""
    unit: str = "char"  # or byte or word

    @property
    def nats_per_unit(self) -> float:
        return self.nats / self.units if self.units else math.nan

    @property
    def bits_per_unit(self) -> float:
        return self.nats_per_unit / math.log(2)

    @property
    def bits(self) -> float:
        """Of all units together."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp of the nats per unit: the number of equally likely choices of the same difficulty."""
        nats = self.nats_per_unit
        return math.exp(nats) if nats < 700 or math.isnan(nats) else math.inf

    @property
    def characters(self) -> int:
        """The usual names, where the unit is the character."""
        return self.units

    nats_per_char, bits_per_char = nats_per_unit, bits_per_unit

    def to_dict(self) -> dict[str, float | int | str]:
        return {
            "unit": self.unit,
            f"nats_per_{self.unit}": self.nats_per_unit,
            f"bits_per_{self.unit}": self.bits_per_unit,
            "perplexity": self.perplexity,
            f"{UNIT_NAMES[self.unit]}s": self.units,
            "unknown": self.unknown,
            "nats": self.nats,
        }


def surprisals(scorer: Scorer, ids: Array) -> Array:
    """Nats (N - 1,), float64, of each unit of ids (N,) but the first, as one stream."""
    return np.concatenate([np.empty(0), *(nats for _, nats in scorer.stream([ids]))])


def evaluate(
    scorer: Scorer,
    ids: Array | Iterable[Array],
    vocabulary: Vocabulary | None = None,
    learn: bool = True,
) -> Evaluation:
    """Score ids (N,), or blocks of them, those of unknown units among them, as one stream whose
    state is carried through. Without the vocabulary they are of characters, and `UNKNOWN` of those
    outside. `learn` is for scorers that do."""
    v = vocabulary
    unit, unknown = ("char", UNKNOWN) if v is None else (v.unit, v.unknown)
    blocks = [ids] if isinstance(ids, np.ndarray) else ids
    scored, outside, total = 0, 0, 0.0
    for units, nats in scorer.stream(blocks, learn):
        scored += len(units)
        outside += int(np.count_nonzero(units == unknown))
        total += float(np.sum(nats))
    return Evaluation(scored, outside, total, unit)


def between_line_ends(line: str, line_break: str) -> Iterator[str]:
    """The text by which a line is scored, "\\nLINE\\n", in blocks. It ends as the lines of the
    model's corpus do."""
    yield "\n"
    yield from (line[at : at + LONG] for at in range(0, len(line), LONG))
    yield line_break


class LineScorer:
    """Scores lines, each by itself, as the model met them while it learnt: after a line end.

    The score of a line is that of the text "\\nLINE\\n": from a zero state a line end is given,
    which is not scored, and then the line and its end are predicted. For a model of a corpus with
    CRLF that end is "\\r\\n", however the line came. One of more than `LONG` characters is scored
    block by block, and not learnt from.
    """

    def __init__(self, scorer: Scorer, vocabulary: Vocabulary) -> None:
        self.scorer, self.vocabulary = scorer, vocabulary
        self.line_break = vocabulary.line_break

    def __call__(self, lines: Sequence[str]) -> list[Evaluation]:
        """The scores of lines, which are without their ends, in their order."""
        v = self.vocabulary
        ids = self._ids([line for line in lines if len(line) <= LONG])
        short = zip(ids, self.scorer.lines(ids), strict=True)
        scores = []
        for line in lines:
            if len(line) <= LONG:
                of_line, nats = next(short)
                outside = int(np.count_nonzero(of_line[1:] == v.unknown))
                scores.append(Evaluation(len(nats), outside, float(np.sum(nats)), v.unit))
            else:
                blocks = v.blocks(between_line_ends(line, self.line_break))
                scores.append(evaluate(self.scorer, map(v.ids, blocks), v, learn=False))
        return scores

    def surprisals(self, lines: Sequence[str]) -> Iterator[Array]:
        """For each line the nats (N + E,), float64, of its N units and the E of its end."""
        return self.scorer.lines(self._ids(lines))

    def _ids(self, lines: Sequence[str]) -> list[Array]:
        return [self.vocabulary.encode(f"\n{line}{self.line_break}") for line in lines]
