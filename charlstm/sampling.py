"""Text from a model, one character, byte or word at a time."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from charlstm.arrays import Array
from charlstm.evaluation import SEGMENT
from charlstm.model import Model, Stepper
from charlstm.vocabulary import Vocabulary, Writer

TINY = 1e-30
"""A temperature below which dividing by it would overflow, and nothing would change any more."""

HOT = 1e6
"""A temperature above which logits divided by it may be too small for float32."""

SAFE = 600.0
"""Logits between plus and minus this can be exponentiated, and the results added, in float64."""

MANY = 100
"""As many numbers are sooner added by one call than one after the other."""

BLOCK = 256
"""Units for which random numbers are drawn, or memory is taken, at a time."""


class Chooser:
    """Draws one of V units for each of K streams, with one random number for each.

    The distribution is softmax(logits / temperature), cut to the `top_k` likeliest (0: all) and
    then to the likeliest whose probabilities together reach `top_p`. Temperature 0 takes the
    likeliest, the first of equals. Works in float64: a sum that is 1 only in float32 has no
    business in a cumulative distribution. `safe`: the logits are `SAFE`, the temperature is 1.
    """

    def __init__(
        self,
        K: int,
        V: int,
        rng: np.random.Generator,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        safe: bool = False,
    ) -> None:
        self.rng, self.temperature, self.safe = rng, temperature, safe
        self.k, self.top_p = min(top_k or V, V), top_p
        self.cut = self.k < V or top_p < 1.0
        self.p, self.place = np.empty((V, K)), np.min_scalar_type(V)
        self.rows = list(zip(self.p[:-1], self.p[1:], strict=True)) if K >= MANY else []

    def __call__(self, logits: Array) -> Array:
        """Ids (K,) by logits (K, V), which are best the transpose of an array (V, K)."""
        if self.temperature == 0.0:
            likeliest: Array = logits.argmax(axis=1)
            return likeliest
        p, add = self.p, np.add
        p[...] = logits.T
        if not self.safe:
            np.subtract(p, p.max(axis=0), out=p)
            np.divide(p, max(self.temperature, TINY), out=p)
        np.exp(p, out=p)  # not normalised: the draw below is scaled instead
        if self.cut:
            cut_(p, self.k, self.top_p)
        # cumulative sums; for many streams by row, since accumulate adds number by number
        if not self.rows:
            add.accumulate(p, axis=0, out=p)
        for above, row in self.rows:
            add(above, row, row)
        # the first place whose sum exceeds the draw: never one of probability zero
        totals = p[-1]
        draws = np.minimum(self.rng.random(len(totals)) * totals, np.nextafter(totals, 0.0))
        places: Array = add.reduce(p <= draws, axis=0, dtype=self.place)
        return places.astype(np.intp)


def cut_(p: Array, k: int, top_p: float) -> None:
    """Put zeros in p (V, K) for all but the likeliest: k, or of these as many as it takes to
    reach the share `top_p` of their sum. Of equals, the first are likelier."""
    rising = p.T.copy()
    rising.sort()
    falling = rising[:, : -k - 1 : -1]  # (K, k)
    kept: Array = np.full(len(falling), k)
    if top_p < 1.0:
        cumulative = np.add.accumulate(falling, axis=1)
        before = cumulative - falling  # what stands ahead of each
        more = before[:, 1:] < top_p * cumulative[:, -1:]
        kept = 1 + np.add.reduce(more, axis=1, dtype=np.intp)
    least = falling[np.arange(len(falling)), kept - 1]
    stays = p >= least
    np.multiply(p, stays, out=p)
    surplus = np.add.reduce(stays, axis=0, dtype=np.intp) - kept  # equals that are too many
    for stream in np.flatnonzero(surplus):
        equals = np.flatnonzero(p[:, stream] == least[stream])
        p[equals[-surplus[stream] :], stream] = 0.0


class Piece(NamedTuple):
    """A stretch of one sample's text that is settled."""

    sample: int
    """Which of the samples it continues, from 0."""
    text: str
    stop: str | None
    """Why the sample ended with this piece: "length" or "stop"; None while it goes on."""
    nats: float
    """-ln p under the model of all units generated so far in this sample."""


class _Tail:
    """The end of one sample's text: holds back what may be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops, self.firsts = stops, {stop[0] for stop in stops}
        self.held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text; return what is settled now, and whether a stop text ends with it."""
        if not self.held and self.firsts.isdisjoint(text):
            return text, False
        if len(text) > 1:  # a stop text may end anywhere in it
            settled = ""
            for character in text:
                more, stopped = self.push(character)
                settled += more
                if stopped:
                    return settled, True
            return settled, False
        self.held += text
        # the stop text that it ends with; of several, the one that began first
        complete = max((len(s) for s in self.stops if self.held.endswith(s)), default=0)
        if complete:
            return self.held[:-complete], True
        keep = max(
            (n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n])),
            default=0,
        )
        settled = self.held[: len(self.held) - keep]
        self.held = self.held[len(settled) :]
        return settled, False

    def pieces(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The pieces of a sample up to the first stop text."""
        for piece in pieces:
            text, stopped = self.push(piece.text)
            reason = "stop" if stopped else piece.stop
            if reason == "length":
                text += self.held
            if text or reason:
                yield Piece(piece.sample, text, reason, piece.nats)
            if reason:
                return


def _highest_logit(model: Model) -> float:
    """What no logit of a model exceeds: hidden states lie between -1 and 1."""
    Wy, by = model.Wy, model.weights["by"]
    return float(np.max(np.abs(Wy).sum(axis=1) + np.abs(by), where=np.isfinite(by), initial=0.0))


def _without(model: Model, unit: int) -> Model:
    """The model with a probability of zero for a unit, those of the others in proportion."""
    without = model.with_weights(model.weights.flat.copy())
    without.weights["by"][unit] = -np.inf
    return without


def _one(stepper: Stepper, writer: Writer, length: int, chooser: Chooser) -> Iterator[Piece]:
    """One sample, whose logits are `SAFE`, as its chooser would draw it, with as few calls of
    NumPy for a unit as can be: each takes about as long as what it does."""
    logits, cut, exp, accumulate = stepper.logits[0], chooser.cut, np.exp, np.add.accumulate
    p, cumulative = np.empty(len(logits)), np.empty(len(logits))
    column, places, last = p[:, None], memoryview(cumulative), len(logits) - 1  # type: ignore[arg-type]
    piece_of, write = cache(lambda text: Piece(0, text, None, 0.0)), writer.write
    left = length
    while True:
        for number in chooser.rng.random(min(BLOCK, left)).tolist():
            p[...] = logits
            exp(p, p)
            if cut:
                cut_(column, chooser.k, chooser.top_p)
            accumulate(p, 0, None, cumulative)
            i = bisect_right(places, number * places[last])
            left -= 1
            text = write(i)
            if not left:
                yield Piece(0, text + writer.end(), "length", 0.0)
                return
            if text:
                yield piece_of(text)
            u = stepper.rows[i]
            for step in stepper.steps:
                u = step(u)


class _Sample:
    """The text of one sample as it grows."""

    def __init__(self, writer: Writer, stops: Sequence[str]) -> None:
        self.writer, self.tail = writer, _Tail(stops)

    def take(self, ids: Iterable[int]) -> tuple[str, bool]:
        """Go on with ids; return what is settled now, and whether a stop text ends it."""
        if not self.tail.stops:
            return "".join(map(self.writer.write, ids)), False
        settled = ""
        for i in ids:
            text, stopped = self.tail.push(self.writer.write(i))
            settled += text
            if stopped:
                return settled, True
        return settled, False

    def end(self) -> tuple[str, bool]:
        """What is left when no more ids come, and whether a stop text ends it."""
        text, stopped = self.tail.push(self.writer.end())
        return text if stopped else text + self.tail.held, stopped


def _all(
    stepper: Stepper,
    new: Callable[[], _Sample],
    length: int,
    chooser: Chooser,
    logits: Array,
    stops: bool,
    temperature: float | None,
) -> Iterator[Piece]:
    """Any number of samples, which `new` makes, with texts to stop at or not. With nats, where
    there is a `temperature`, that the logits have been divided by."""
    count = len(logits)
    drawn = np.empty((BLOCK, count), np.int32)  # what the samples behind the shown one wait with
    totals = np.zeros(count)
    ended: dict[int, Piece] = {}
    shown, sample = 0, new()
    hidden = [new() for _ in range(count)] if stops else []
    for n in range(1, length + 1):
        ids = chooser(logits)
        units = ids.tolist()
        if temperature is not None:
            y = logits.astype(np.float64) * temperature
            y -= y.max(axis=1, keepdims=True)
            totals += np.log(np.exp(y).sum(axis=1)) - y[np.arange(count), ids]
        if count > 1:
            if n > len(drawn):
                drawn = np.concatenate([drawn, np.empty_like(drawn)])
            drawn[n - 1] = ids
            for k in range(shown + 1, count) if stops else ():
                if k not in ended and hidden[k].take([units[k]])[1]:
                    text, _ = new().take(drawn[:n, k].tolist())
                    ended[k] = Piece(k, text, "stop", totals.item(k))
        text, stopped = sample.take([units[shown]])
        while True:
            if n == length and not stopped:
                more, stopped = sample.end()
                text += more
            reason = "stop" if stopped else "length" if n == length else None
            if text or reason:
                yield Piece(shown, text, reason, totals.item(shown))
            if reason is None:
                break
            shown += 1
            while shown in ended:
                yield ended.pop(shown)
                shown += 1
            if shown == count:
                return
            sample = new()
            text, stopped = sample.take(drawn[:n, shown].tolist())
        logits = stepper.step(ids)


def generate(
    model: Model,
    vocabulary: Vocabulary,
    seed: Array,
    rng: np.random.Generator,
    *,
    count: int = 1,
    length: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    nats: bool = False,
    before: str | None = None,
    errors: str = "replace",
) -> Iterator[Piece]:
    """Continue the seed, ids (N,), `count` times side by side, at most `length` units each.

    Without a seed a text begins as a line does: after a line end, which is not part of it; where
    the corpus has none, with a unit drawn as often as it stands there. What is outside the
    vocabulary is never drawn, where that has an entry for it: the model's other probabilities
    make the whole. Each sample ends before the first text of `stop` that it comes to. With
    `nats`, pieces carry the model's own surprise at what was drawn. `before` is the text of the
    seed, where that is not what its ids stand for to the letter: words are told apart from what
    stands there by a space or not. `errors` is as in `Vocabulary.writer`.

    Pieces come in the order of the samples: those of the first as soon as they are settled, and
    when it has ended, the next one's, which begin with all that it has by then. A unit takes
    one random number of `rng` for each sample, in their order, whether it has ended or not, and
    none at temperature 0.
    """
    if length == 0:
        return iter([Piece(k, "", "length", 0.0) for k in range(count)])
    if before is None:
        before = vocabulary.decode(seed)
    if not len(seed) and vocabulary.line_end is not None:
        seed = np.array([vocabulary.line_end])
    if vocabulary.unknown >= 0:
        model = _without(model, vocabulary.unknown)
    safe = len(seed) > 0 and _highest_logit(model) / SAFE < temperature < HOT
    taken = 1.0  # the temperature that the weights take over
    if safe:
        temperature, taken = 1.0, temperature
    stepper = Stepper(model, 1, sharpness=1.0 / taken)
    for start in range(0, len(seed), SEGMENT):
        stepper.read(seed[start : start + SEGMENT])
    if count > 1:
        stepper = Stepper(model, count, stepper.state, 1.0 / taken)
    chooser = Chooser(count, model.V, rng, temperature, top_k, top_p, safe)
    if safe and count == 1 and not nats:
        pieces = _one(stepper, vocabulary.writer(before, errors), length, chooser)
        return _Tail(stop).pieces(pieces) if stop else pieces
    logits = stepper.logits
    if not len(seed):
        counts = vocabulary.counts.copy()
        if vocabulary.unknown >= 0:
            counts[vocabulary.unknown] = 0
            if not counts.any():
                counts[...] = np.arange(len(counts)) != vocabulary.unknown
        with np.errstate(divide="ignore"):
            logits = np.tile(np.log(counts / counts.sum()), (count, 1))

    def new() -> _Sample:
        return _Sample(vocabulary.writer(before, errors), stop)

    return _all(stepper, new, length, chooser, logits, bool(stop), taken if nats else None)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescape(text: str) -> str:
    """Replace the escapes that are awkward to type in a shell: \\n, \\t, \\r and \\\\."""
    return re.sub(r"\\([ntr\\])", lambda match: _ESCAPES[match[1]], text)
