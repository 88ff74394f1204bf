"""Text from a model, one character at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from charlstm.arrays import Array
from charlstm.corpus import Vocabulary
from charlstm.evaluation import SEGMENT
from charlstm.model import Model, State, Stepper, Unrolled

TINY = 1e-30
"""A temperature below which dividing by it would overflow, and nothing would change any more."""


def choose(
    logits: Array, temperature: float, top_k: int, top_p: float, rng: np.random.Generator
) -> Array:
    """One id (K,) for each row of logits (K, V).

    The distribution is softmax(logits / temperature), cut to the `top_k` likeliest (0: all) and
    then to the likeliest whose probabilities together reach `top_p`. Temperature 0 takes the
    likeliest, the first of equals. Works in float64: a sum that is 1 only in float32 has no
    business in a cumulative distribution.
    """
    if temperature == 0.0:
        likeliest: Array = logits.argmax(axis=1)
        return likeliest
    y = logits.astype(np.float64)
    y -= np.maximum.reduce(y, axis=1, keepdims=True)
    y /= max(temperature, TINY)
    p = np.exp(y, out=y)  # not normalised: the draw below is scaled instead
    if 0 < top_k < p.shape[1]:
        # by rank, not by value, so that equals do not make more than k
        order = np.argsort(-p, axis=1, kind="stable")[:, top_k:]
        np.put_along_axis(p, order, 0.0, axis=1)
    if top_p < 1.0:
        order = np.argsort(-p, axis=1, kind="stable")
        falling = np.take_along_axis(p, order, axis=1)
        before = np.cumsum(falling, axis=1) - falling  # what stands ahead of each
        falling[before >= top_p * falling.sum(axis=1, keepdims=True)] = 0.0
        np.put_along_axis(p, order, falling, axis=1)
    cumulative = np.add.accumulate(p, axis=1)
    # the first place whose cumulative sum exceeds the draw: never one of probability zero
    totals = cumulative[:, -1]
    draws = np.minimum(rng.random(len(p)) * totals, np.nextafter(totals, 0.0))
    places: Array = np.add.reduce(cumulative <= draws[:, None], axis=1, dtype=np.intp)
    return places


SAFE = 600.0
"""Logits between plus and minus this can be exponentiated, and the results added, in float64."""


def _draw_one(logits: Array, sharpness: Array, rng: np.random.Generator) -> tuple[int]:
    """As `choose` for one stream, uncut, whose logits (1, V) times `sharpness`, the inverse of the
    temperature, are known to be `SAFE`: at a third of the cost."""
    y = logits[0].astype(np.float64)
    np.multiply(y, sharpness, out=y)
    np.exp(y, out=y)
    cumulative = y.cumsum()
    total = cumulative.item(-1)
    draw = min(rng.random() * total, math.nextafter(total, 0.0))
    return (int(cumulative.searchsorted(draw, "right")),)


class Piece(NamedTuple):
    """A stretch of one sample's text that is settled."""

    sample: int
    """Which of the samples it continues, from 0."""
    text: str
    stop: str | None
    """Why the sample ended with this piece: "length" or "stop"; None while it goes on."""
    nats: float
    """-ln p under the model of all characters generated so far in this sample."""


class _Tail:
    """The end of one sample's text: holds back what may be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""

    def push(self, character: str) -> tuple[str, bool]:
        """Take a character; return what is settled now, and whether a stop text is complete."""
        self.held += character
        complete = max((len(s) for s in self.stops if self.held.endswith(s)), default=0)
        if complete:  # of several, the one that began first
            return self.held[:-complete], True
        keep = max(
            (n for stop in self.stops for n in range(1, len(stop)) if self.held.endswith(stop[:n])),
            default=0,
        )
        settled = self.held[: len(self.held) - keep]
        self.held = self.held[len(settled) :]
        return settled, False


def _after(model: Model, ids: Array) -> tuple[State, int]:
    """The state after all of ids (N,) but the last, N > 0, and the last."""
    state = model.zero_state(1)
    if len(ids) > 1:
        unrolled = Unrolled(model, min(SEGMENT, len(ids) - 1), 1, training=False)
        column = np.asarray(ids[:-1], np.intp)[:, None]
        for start in range(0, len(column), SEGMENT):
            state = unrolled.forward(column[start : start + SEGMENT], state)
    return state, int(ids[-1])


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
) -> Iterator[Piece]:
    """Continue the seed, ids (N,), `count` times side by side, at most `length` characters each.

    Without a seed a text begins as a line does: after a line break, which is not part of it;
    where the vocabulary has none, with a character drawn as often as it stands in the corpus.
    Each sample ends before the first text of `stop` that it comes to. With `nats`, pieces carry
    the model's own surprise at what was drawn.
    """
    if length == 0:
        yield from (Piece(k, "", "length", 0.0) for k in range(count))
        return
    tails = [_Tail(stop) for _ in range(count)]
    totals = np.zeros(count)
    running = list(range(count))
    logits: Array
    if not len(seed) and "\n" in vocabulary:
        seed = vocabulary.encode("\n")
    stepper = Stepper(model, count)
    if len(seed):
        before, last = _after(model, seed)
        state = [np.repeat(s, count, axis=0) for s in before]
        logits = stepper.step(np.full(count, last), state)
    else:
        state = model.zero_state(count)
        with np.errstate(divide="ignore"):
            logits = np.tile(np.log(vocabulary.counts / vocabulary.counts.sum()), (count, 1))
    sharpness = np.array(1.0 / max(temperature, TINY))
    cut = top_k > 0 or top_p < 1.0 or temperature == 0.0
    safe = bool(len(seed)) and stepper.bound * float(sharpness) < SAFE
    quick = count == 1 and not cut and safe
    single = count == 1 and not stop  # nothing to hold back, nothing to wait for
    characters = vocabulary.characters
    settled = [Piece(0, c, None, 0.0) for c in characters] if single else []
    ids: Sequence[int] | Array
    for drawn in range(1, length + 1):
        if quick:
            ids = _draw_one(logits, sharpness, rng)
        else:
            ids = choose(logits, temperature, top_k, top_p, rng)
        if nats:
            y = logits.astype(np.float64)
            y -= y.max(axis=1, keepdims=True)
            totals += np.log(np.exp(y).sum(axis=1)) - y[np.arange(count), ids]
        end = "length" if drawn == length else None
        if single:
            if end:
                yield Piece(0, characters[ids[0]], end, totals.item(0))
                return
            yield Piece(0, characters[ids[0]], None, totals.item(0)) if nats else settled[ids[0]]
        for k in () if single else running.copy():
            text, stopped = tails[k].push(characters[ids[k]])
            reason = "stop" if stopped else end
            if reason == "length":
                text += tails[k].held
            if text or reason:
                yield Piece(k, text, reason, totals.item(k))
            if reason:
                running.remove(k)
        if not running:
            return
        logits = stepper.step(ids, state)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescape(text: str) -> str:
    """Replace the escapes that are awkward to type in a shell: \\n, \\t, \\r and \\\\."""
    return re.sub(r"\\([ntr\\])", lambda match: _ESCAPES[match[1]], text)
