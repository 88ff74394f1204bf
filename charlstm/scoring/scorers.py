"""What scores ids, and the first that does: a trained model as it is."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.output import Softmax
from charlstm.nn.shape import State
from charlstm.nn.stepper import Stepper
from charlstm.nn.unrolled import Unrolled
from charlstm.text.vocabulary import UNKNOWN

UNKNOWN_NATS = math.log(1_112_064)
"""What a character outside the vocabulary costs: as if drawn from all Unicode characters alike
(20.08 bits). The same for every model, so that models can be compared."""

SEGMENT = 512
"""Units of a stream that are scored at a time. The result does not depend on it."""

WIDTH, STEPS = 128, 64
"""Lines that are scored side by side, and units of each at a time; both change roundings alone."""


class Scorer(Protocol):
    """What gives each unit of a text its nats, -ln p, given those before it.

    The first unit of each text is given, not predicted. What a scorer learns from a text may change
    its scores of later ones, never those of the same unit or of earlier ones.
    """

    def stream(self, blocks: Iterable[Array], learn: bool = True) -> Iterator[tuple[Array, Array]]:
        """Of a text whose ids come in blocks, the units (n,) but the first and the nats (n,),
        float64, of each: `SEGMENT` at a time, at the end what is left. Where the blocks end changes
        no bit of the result. Only with `learn` a scorer that learns does so."""

    def lines(self, ids: Sequence[Array]) -> Iterator[Array]:
        """For each of some texts (N,), N > 0, each by itself, the nats (N - 1,), float64. A scorer
        that learns scores a text, and learns from it, when it is asked for."""


class StaticScorer:
    """A trained model as it is: no text changes the score of another. Many lines are scored side by
    side; what stands beside one changes nothing but roundings."""

    def __init__(self, model: Model, charged: int = UNKNOWN, state: State | None = None) -> None:
        """The id `charged` costs a fixed price, whatever the prediction. Texts begin at `state`,
        each array (1, H); None: zero."""
        self.model, self.charged = model, charged
        self.state = model.zero_state(1) if state is None else state
        self.unrolled: dict[int, Unrolled] = {}  # by width

    def stream(self, blocks: Iterable[Array], learn: bool = True) -> Iterator[tuple[Array, Array]]:
        model = self.model
        weights = {"Wy": model.Wy, "by": model.weights["by"]}
        stepper: Stepper | None = None
        for ids in segments(blocks):
            units = ids[1:]
            if stepper is None:  # the first segment is the longest
                stepper = Stepper(model, 1, self.state)
                output = Softmax(model.V, len(units), model.H, model.dtype)
            nats = output.loss(weights, stepper.read(ids[:-1]), units)
            yield units, charge(nats, units, self.charged)

    def lines(self, ids: Sequence[Array]) -> Iterator[Array]:
        nats = [np.empty(len(of_line) - 1) for of_line in ids]
        order = sorted(range(len(ids)), key=lambda k: -len(ids[k]))
        for at in range(0, len(order), WIDTH):
            group = order[at : at + WIDTH]
            together = [np.repeat(s, len(group), axis=0) for s in self.state]
            self._score([ids[k] for k in group], [nats[k] for k in group], together)
        return iter(nats)

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
            nats = charge(unrolled.loss(targets), targets, self.charged)
            for of_line, out in zip(nats.T, outs[:left], strict=False):
                part = out[start : start + steps]
                part[...] = of_line[: len(part)]


def segments(blocks: Iterable[Array]) -> Iterator[Array]:
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


def charge(nats: Array, units: Array, charged: int) -> Array:
    """The nats of units as float64, with the fixed price where a unit is `charged`."""
    priced: Array = np.where(units == charged, UNKNOWN_NATS, nats.astype(np.float64))
    return priced


def _as_many(state: State, B: int) -> State:
    """The first B streams of a state; where it has fewer, the others are zero."""
    return [np.pad(s[:B], [(0, B - len(s[:B])), (0, 0)]) for s in state]
