"""How well a model predicts a text: nats, bits and perplexity per character, byte or word."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from charlstm.config.schema import UNIT_NAMES
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.output import Softmax
from charlstm.nn.shape import State
from charlstm.nn.stepper import Stepper
from charlstm.nn.unrolled import Unrolled
from charlstm.text.vocabulary import UNKNOWN, Vocabulary

UNKNOWN_NATS = math.log(1_112_064)
"""What a character outside the vocabulary costs: as if drawn from all Unicode characters alike
(20.08 bits). The same for every model, so that models can be compared."""

SEGMENT = 512
"""Units that a single stream is scored at a time. The result does not depend on it."""

WIDTH, STEPS = 128, 64
"""Lines that are scored side by side, and units of each at a time; both change roundings alone."""

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


def surprisals(
    model: Model, ids: Array, state: State | None = None, charged: int = UNKNOWN
) -> Array:
    """Nats (N - 1,), float64, of each unit of ids (N,) but the first, as one stream; where that is
    `charged`, its fixed price."""
    parts = (nats for _, nats in stream_surprisals(model, [ids], state, charged))
    return np.concatenate([np.empty(0), *parts])


def stream_surprisals(
    model: Model, blocks: Iterable[Array], state: State | None = None, charged: int = UNKNOWN
) -> Iterator[tuple[Array, Array]]:
    """As `surprisals`, of a stream of ids that comes in blocks: units (n,) and the nats (n,) of
    each, at most `SEGMENT` at a time. Where the blocks end changes no bit of the result."""
    weights = {"Wy": model.Wy, "by": model.weights["by"]}
    stepper: Stepper | None = None
    for ids in _segments(blocks):
        units = ids[1:]
        if stepper is None:  # the first segment is the longest
            stepper = Stepper(model, 1, state)
            output = Softmax(model.V, len(units), model.H, model.dtype)
        nats = output.loss(weights, stepper.read(ids[:-1]), units)
        yield units, np.where(units == charged, UNKNOWN_NATS, nats.astype(np.float64))


def _segments(blocks: Iterable[Array]) -> Iterator[Array]:
    """Ids in segments (SEGMENT + 1,), each of which begins with the last one of that before it;
    at the end what is left."""
    waiting = np.empty(0, np.intp)
    for block in blocks:
        waiting = np.concatenate([waiting, np.asarray(block, np.intp)])
        stop = max(0, len(waiting) - 1) // SEGMENT * SEGMENT
        for start in range(0, stop, SEGMENT):
            yield waiting[start : start + SEGMENT + 1]
        waiting = waiting[stop:]
    if len(waiting) > 1:
        yield waiting


def evaluate(
    model: Model, ids: Array | Iterable[Array], vocabulary: Vocabulary | None = None
) -> Evaluation:
    """Score ids (N,), or blocks of them, those of unknown units among them, as one stream whose
    state is carried through. Without the vocabulary they are of characters, and `UNKNOWN` of those
    outside."""
    v, default = vocabulary, ("char", UNKNOWN, UNKNOWN)
    unit, unknown, charged = default if v is None else (v.unit, v.unknown, v.charged)
    blocks = [ids] if isinstance(ids, np.ndarray) else ids
    scored, outside, total = 0, 0, 0.0
    for units, nats in stream_surprisals(model, blocks, charged=charged):
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
    CRLF that end is "\\r\\n", however the line came. Many lines are scored side by side, the long
    with the long ones; what stands beside a line changes nothing but roundings. One of more than
    `LONG` characters is scored alone, block by block.
    """

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary
        self.line_break = vocabulary.line_break
        self.unrolled: dict[int, Unrolled] = {}  # by width

    def __call__(self, lines: Sequence[str]) -> list[Evaluation]:
        """The scores of lines, which are without their ends, in their order."""
        v = self.vocabulary
        ids = self._ids([line for line in lines if len(line) <= LONG])
        short = zip(ids, self.of_ids(ids), strict=True)
        scores = []
        for line in lines:
            if len(line) <= LONG:
                of_line, nats = next(short)
                outside = int(np.count_nonzero(of_line[1:] == v.unknown))
                scores.append(Evaluation(len(nats), outside, float(np.sum(nats)), v.unit))
            else:
                blocks = v.blocks(between_line_ends(line, self.line_break))
                scores.append(evaluate(self.model, map(v.ids, blocks), v))
        return scores

    def surprisals(self, lines: Sequence[str]) -> list[Array]:
        """For each line the nats (N + E,), float64, of its N units and the E of its end."""
        return self.of_ids(self._ids(lines))

    def _ids(self, lines: Sequence[str]) -> list[Array]:
        return [self.vocabulary.encode(f"\n{line}{self.line_break}") for line in lines]

    def of_ids(self, ids: Sequence[Array], state: State | None = None) -> list[Array]:
        """For each of some texts (N,), N > 0, the nats (N - 1,), float64, of its units but the
        first, from a zero state or from another one, each array (1, H)."""
        nats = [np.empty(len(of_line) - 1) for of_line in ids]
        order = sorted(range(len(ids)), key=lambda k: -len(ids[k]))
        for at in range(0, len(order), WIDTH):
            group = order[at : at + WIDTH]
            before = self.model.zero_state(1) if state is None else state
            together = [np.repeat(s, len(group), axis=0) for s in before]
            self._score([ids[k] for k in group], [nats[k] for k in group], together)
        return nats

    def _score(self, ids: Sequence[Array], outs: Sequence[Array], state: State) -> None:
        """Write the nats of at most `WIDTH` lines, the longest first, into `outs`."""
        left = len(ids)
        for start in range(0, len(outs[0]), STEPS):
            while len(outs[left - 1]) <= start:
                left -= 1
            width = 1 << (left - 1).bit_length()  # few widths: few buffers
            if width not in self.unrolled:
                self.unrolled[width] = Unrolled(self.model, STEPS, width, training=False)
            unrolled = self.unrolled[width]
            steps = min(STEPS, len(outs[0]) - start)
            units = np.full((width, steps + 1), UNKNOWN, np.intp)
            for row, of_line in zip(units, ids[:left], strict=False):
                part = of_line[start : start + steps + 1]
                row[: len(part)] = part
            targets = units[:, 1:].T
            state = unrolled.forward(units[:, :-1].T, _as_many(state, width))
            nats = unrolled.loss(targets).astype(np.float64)
            nats[targets == self.vocabulary.charged] = UNKNOWN_NATS
            for of_line, out in zip(nats.T, outs[:left], strict=False):
                part = out[start : start + steps]
                part[...] = of_line[: len(part)]


def _as_many(state: State, B: int) -> State:
    """The first B streams of a state; where it has fewer, the others are zero."""
    return [np.pad(s[:B], [(0, B - len(s[:B])), (0, 0)]) for s in state]
