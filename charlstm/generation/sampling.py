"""Text from a model, one character, byte or word at a time."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import count as numbers_from
from itertools import islice
from typing import NamedTuple

import numpy as np

from charlstm.errors import UsageError
from charlstm.generation.patterns import DEAD, Matcher
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.shape import State
from charlstm.nn.stepper import Stepper
from charlstm.scoring.evaluation import SEGMENT, LineScorer
from charlstm.text.vocabulary import Vocabulary, Writer

TINY = 1e-30
"""A temperature below which dividing by it would overflow, and nothing would change any more."""

HOT = 1e6
"""A temperature above which logits divided by it may be too small for float32."""

SAFE = 600.0
"""Logits between plus and minus this can be exponentiated, and the results added, in float64."""

WIDTH = 128
"""Seeds that are continued side by side."""

TRIES = 1000
"""Samples in a row of which none is wanted, after which no more are made."""

GROUP = 64
"""Samples whose random numbers are made together."""

FEWEST = 8
"""Samples that are made at a time when some are not wanted."""

NARROW = 8
"""Streams of which no fewer are made when most have ended."""

MANY = 100
"""As many numbers are sooner added by one call than one after the other."""

BLOCK = 256
"""Units for which random numbers are drawn, or memory is taken, at a time."""


def key_of(rng_seed: int | Sequence[int] | None) -> int:
    """The key of a run's random numbers, from 0 to 2^64 - 1; without a seed, another one each time.
    Raises `UsageError` for a seed that is no whole number from 0 up."""
    try:
        sequence = np.random.SeedSequence(rng_seed)
    except (TypeError, ValueError):
        raise UsageError(f"rng_seed is {rng_seed!r}; give a whole number from 0 up") from None
    return int(sequence.generate_state(1, np.uint64)[0])


class Numbers:
    """The random numbers of samples: by the key of a run, the sample and the place in it. So a
    sample is the same in whatever way, and beside whatever others, it is asked for."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.of_group = lru_cache(2)(self._of_group)

    def of_sample(self, sample: int) -> Iterator[Array]:
        """Block after block, (BLOCK,), for one sample."""
        group, row = divmod(sample, GROUP)
        for block in numbers_from():
            yield self._generator(group, block, row).random(BLOCK)

    def _of_group(self, group: int, block: int) -> Array:
        """A block for each of the samples of a group, (GROUP, BLOCK): one by one takes longer."""
        return self._generator(group, block).random((GROUP, BLOCK))

    def _generator(self, group: int, block: int, row: int = 0) -> np.random.Generator:
        """At the beginning of a row of a group's block; a count makes four numbers."""
        counter = np.array([row * BLOCK // 4, 0, block, 0], np.uint64)
        key = np.array([self.key, group], np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=key))


class StreamNumbers:
    """The next random number of each of K streams."""

    def __init__(self, K: int, numbers: Numbers) -> None:
        self.numbers, self.rows = numbers, np.arange(K)
        self.made = np.zeros(K, np.intp)
        """How many each stream has used."""
        self.block = np.zeros((K, BLOCK))
        self.samples = [0] * K

    def begin(self, k: int, sample: int) -> None:
        """Let stream k have the numbers of a sample."""
        self.samples[k], self.made[k] = sample, 0
        self.fetch(k)

    def fetch(self, k: int) -> None:
        """Get the next `BLOCK` numbers of stream k."""
        group, row = divmod(self.samples[k], GROUP)
        self.block[k] = self.numbers.of_group(group, self.made.item(k) // BLOCK)[row]

    def advance(self) -> None:
        """Go on to the next number, in all streams."""
        self.made += 1
        for k in np.flatnonzero(self.made % BLOCK == 0).tolist():
            self.fetch(k)

    def take_over(self, other: StreamNumbers, streams: Array) -> None:
        """Continue the sequences of some streams of another's."""
        self.made[...], self.block[...] = other.made[streams], other.block[streams]
        self.samples = [other.samples[k] for k in streams.tolist()]

    def random(self, K: int) -> Array:
        numbers: Array = self.block[self.rows[:K], self.made % BLOCK]
        return numbers


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
        rng: np.random.Generator | StreamNumbers,
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

    def __call__(self, logits: Array, allowed: Array | None = None) -> Array:
        """Ids (K,) by logits (K, V), which are best the transpose of an array (V, K). What is not
        `allowed` (K, V), where that is given, has a probability of zero."""
        if allowed is not None and not self.safe:  # the highest logit must be one that is
            logits, allowed = np.where(allowed, logits, -np.inf), None
        if self.temperature == 0.0:
            likeliest: Array = logits.argmax(axis=1)
            return likeliest
        p, add = self.p, np.add
        p[...] = logits.T
        if not self.safe:
            np.subtract(p, p.max(axis=0), out=p)
            np.divide(p, max(self.temperature, TINY), out=p)
        np.exp(p, out=p)  # not normalised: the draw below is scaled instead
        if allowed is not None:
            np.multiply(p, np.ascontiguousarray(allowed.T), out=p)
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
    nats: float = 0.0
    """What `evaluate` says of this sample's text after its seed, where it has ended and that was
    asked for; see `Scores`."""


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
                yield Piece(piece.sample, text, reason)
            if reason:
                return


def _highest_logit(model: Model) -> float:
    """What no logit of a model exceeds: hidden states lie between -1 and 1."""
    Wy, by = model.Wy, model.weights["by"]
    return float(np.max(np.abs(Wy).sum(axis=1) + np.abs(by), where=np.isfinite(by), initial=0.0))


def _safe(model: Model, temperature: float) -> bool:
    """Whether all logits are `SAFE` when they are divided by the temperature."""
    return _highest_logit(model) / SAFE < temperature < HOT


def _first_logits(vocabulary: Vocabulary) -> Array:
    """Logits (V,) of the first unit where no line end comes before it: as often as in the corpus,
    but never one that is unknown."""
    counts = vocabulary.counts.copy()
    if vocabulary.unknown >= 0:
        counts[vocabulary.unknown] = 0
        if not counts.any():
            counts[...] = np.arange(len(counts)) != vocabulary.unknown
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(counts / counts.sum()))


class Score(NamedTuple):
    """How a model predicts a sample."""

    nats: float
    """Sum of -ln p over the units of the text that is shown."""
    drawn: float
    """The same over all units that were drawn: those of a stop text or of the line end that ended
    the sample, which are not shown, too."""


class Scores:
    """What `evaluate` says of samples.

    The nats of a text X that continues a seed S are those of S + X less those of S: the sum of
    -ln p over the units of X under the model itself, `<unk>` included, whatever the temperature and
    the cuts by which X was drawn. Without a seed a text stands after a line end; where the corpus
    has none, its first unit is given. Where a stop text cuts a word, what is left of it is scored
    as the word that it is.
    """

    def __init__(self, model: Model, vocabulary: Vocabulary, prefix: Array | None = None) -> None:
        """With a `prefix` (N,), of samples whose seeds all begin with that."""
        self.scorer, self.vocabulary = LineScorer(model, vocabulary), vocabulary
        self.state: State | None = None
        if prefix is not None and len(prefix):
            self.state = _read(Stepper(model, 1), prefix).state

    def __call__(self, samples: Sequence[tuple[Seed, _Ended]], errors: str) -> list[Score]:
        """Of seeds, after the prefix, and what continues them, written with `errors`."""
        contexts = [_context(seed, self.vocabulary) for (seed, _), _ in samples]
        drawn = [np.append(c, each.ids) for c, (_, each) in zip(contexts, samples, strict=True)]
        nats = self._nats(drawn)
        scores = []
        for context, (seed, each), of_drawn in zip(contexts, samples, nats, strict=True):
            begin = max(0, len(context) - 1)
            shown = self._shown(seed[1], each, errors)
            of_shown = of_drawn[: max(0, len(context) + len(shown) - 1)]
            if not np.array_equal(shown, each.ids[: len(shown)]):  # a word that was cut
                (of_shown,) = self._nats([np.append(context, shown)])
            scores.append(Score(float(of_shown[begin:].sum()), float(of_drawn[begin:].sum())))
        return scores

    def _shown(self, before: str, each: _Ended, errors: str) -> Array:
        """The units of the text that is shown."""
        if self.vocabulary.unit != "byte":
            return self.vocabulary.encode(each.text)
        write, length = self.vocabulary.writer(before, errors).write, 0
        for n, i in enumerate(each.ids.tolist()):
            if length >= len(each.text) and each.stop != "length":
                return each.ids[:n]
            length += len(write(i))
        return each.ids

    def _nats(self, texts: Sequence[Array]) -> list[Array]:
        """Of each text (N,) the nats of its units but the first; none of an empty one."""
        found = iter(self.scorer.of_ids([ids for ids in texts if len(ids)], self.state))
        return [next(found) if len(ids) else np.empty(0) for ids in texts]


def _context(seed: Array, vocabulary: Vocabulary) -> Array:
    """What a text is read after: its seed, or, without one, a line end."""
    if len(seed) or vocabulary.line_end is None:
        return np.asarray(seed, np.intp)
    return np.array([vocabulary.line_end])


def _read(stepper: Stepper, ids: Array) -> Stepper:
    """The stepper after it has read ids (N,)."""
    for start in range(0, len(ids), SEGMENT):
        stepper.read(ids[start : start + SEGMENT])
    return stepper


def _without(model: Model, unit: int) -> Model:
    """The model with a probability of zero for a unit, those of the others in proportion."""
    without = model.with_weights(model.weights.flat.copy())
    without.weights["by"][unit] = -np.inf
    return without


def _one(
    stepper: Stepper, writer: Writer, length: int, chooser: Chooser, blocks: Iterator[Array]
) -> Iterator[Piece]:
    """One sample, whose logits are `SAFE`, as its chooser would draw it, with as few calls of
    NumPy for a unit as can be: each takes about as long as what it does."""
    logits, cut, exp, accumulate = stepper.logits[0], chooser.cut, np.exp, np.add.accumulate
    p, cumulative = np.empty(len(logits)), np.empty(len(logits))
    column, places, last = p[:, None], memoryview(cumulative), len(logits) - 1  # type: ignore[arg-type]
    piece_of, write = cache(lambda text: Piece(0, text, None)), writer.write
    left = length
    for block in blocks:
        for number in block.tolist():
            p[...] = logits
            exp(p, p)
            if cut:
                cut_(column, chooser.k, chooser.top_p)
            accumulate(p, 0, None, cumulative)
            i = bisect_right(places, number * places[last])
            left -= 1
            text = write(i)
            if not left:
                yield Piece(0, text + writer.end(), "length")
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
    numbers: StreamNumbers,
    logits: Array,
    stops: bool,
) -> Iterator[Piece]:
    """Any number of samples, which `new` makes, with texts to stop at or not."""
    count = len(logits)
    drawn = np.empty((BLOCK, count), np.int32)  # what the samples behind the shown one wait with
    ended: dict[int, Piece] = {}
    shown, sample = 0, new()
    hidden = [new() for _ in range(count)] if stops else []
    for n in range(1, length + 1):
        ids = chooser(logits)
        numbers.advance()
        units = ids.tolist()
        if count > 1:
            if n > len(drawn):
                drawn = np.concatenate([drawn, np.empty_like(drawn)])
            drawn[n - 1] = ids
            for k in range(shown + 1, count) if stops else ():
                if k not in ended and hidden[k].take([units[k]])[1]:
                    text, _ = new().take(drawn[:n, k].tolist())
                    ended[k] = Piece(k, text, "stop")
        text, stopped = sample.take([units[shown]])
        while True:
            if n == length and not stopped:
                more, stopped = sample.end()
                text += more
            reason = "stop" if stopped else "length" if n == length else None
            if text or reason:
                yield Piece(shown, text, reason)
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
    key: int,
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
    vocabulary is never drawn, where that has an entry for it; the model's other probabilities are
    renormalised. Each sample ends before the first text of `stop` that it comes to. `before` is the
    text of the seed, where that is not what its ids stand for to the letter: words are told apart
    from what stands there by a space or not. `errors` is as in `Vocabulary.writer`.

    Pieces come in the order of the samples: those of the first as soon as they are settled, and
    when it has ended, the next one's, which begin with all that it has by then. With `nats` there
    is one piece for each sample, with the nats of its text. Sample k depends on the key, a number
    from 0 to 2^64 - 1, and on k (`Numbers`), not on how many others there are.
    """
    if length == 0:
        return iter([Piece(k, "", "length") for k in range(count)])
    if before is None:
        before = vocabulary.decode(seed)
    if nats:
        completer = Completer(
            *(model, vocabulary, key),
            length=length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            nats=True,
            errors=errors,
            prefix=seed[:-1],
        )
        completions = completer([(seed[-1:], before)] * count)
        return (Piece(k, c.text, c.stop, c.nats) for k, c in enumerate(completions))
    context = _context(seed, vocabulary)
    if vocabulary.unknown >= 0:
        model = _without(model, vocabulary.unknown)
    safe = len(context) > 0 and _safe(model, temperature)
    taken = 1.0  # the temperature that the weights take over
    if safe:
        temperature, taken = 1.0, temperature
    stepper = _read(Stepper(model, 1, sharpness=1.0 / taken), context)
    numbers = Numbers(key)
    if safe and count == 1:
        blocks = numbers.of_sample(0)
        chooser = Chooser(1, model.V, StreamNumbers(1, numbers), temperature, top_k, top_p, safe)
        pieces = _one(stepper, vocabulary.writer(before, errors), length, chooser, blocks)
        return _Tail(stop).pieces(pieces) if stop else pieces
    if count > 1:
        stepper = Stepper(model, count, stepper.state, 1.0 / taken)
    streams = StreamNumbers(count, numbers)
    for k in range(count):
        streams.begin(k, k)
    chooser = Chooser(count, model.V, streams, temperature, top_k, top_p, safe)
    logits = stepper.logits
    if not len(context):
        logits = np.tile(_first_logits(vocabulary), (count, 1))

    def new() -> _Sample:
        return _Sample(vocabulary.writer(before, errors), stop)

    return _all(stepper, new, length, chooser, streams, logits, bool(stop))


# --- many samples, each by itself --------------------------------------------------------------


class Completion(NamedTuple):
    """A sample that has ended."""

    text: str
    """What follows the seed."""
    stop: str
    """Why it ended: "length", "stop" or "match"."""
    nats: float
    """What `evaluate` says of the text after its seed, where that was asked for; see `Scores`."""
    units: int
    """How many units were drawn, those of a stop text included, and the line end that a match ends
    with."""
    drawn_nats: float = 0.0
    """The nats of these, where that was asked for."""


class _Ended(NamedTuple):
    """A sample that has ended, before it is scored."""

    text: str
    """What is shown."""
    stop: str
    ids: Array
    """What was drawn (M,)."""


Seed = tuple[Array, str]
"""The ids (N,) of a seed, and its text."""


class _Slots:
    """K streams, each of which reads a seed, goes on with it, and is free for another one."""

    def __init__(self, completer: Completer, K: int) -> None:
        c = completer
        self.stepper = Stepper(c.model, K, sharpness=1.0 / c.taken)
        self.numbers = StreamNumbers(K, c.numbers)
        self.chooser = Chooser(
            *(K, c.model.V, self.numbers, c.temperature, c.top_k, c.top_p, c.safe)
        )
        self.drawn = np.empty((K, min(BLOCK, c.length)), np.int32)


class Completer:
    """Continues many seeds side by side, each with its own state and its own random numbers.

    What becomes of a seed depends on it, on the key and on its number, not on what stands beside
    it, except that a draw may fall the other way where roundings decide. `prefix` (N,) are units
    that all of them begin with, which are read once. The other options are as in `generate`.

    With `match`, units after which the expression could not be matched within the length have a
    probability of zero, the others theirs in proportion; where what there is matches, a line end
    ends it. So each completion matches as a whole; texts to stop at have no say then.
    """

    def __init__(
        self,
        model: Model,
        vocabulary: Vocabulary,
        key: int,
        *,
        length: int = 200,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        nats: bool = False,
        errors: str = "replace",
        prefix: Array | None = None,
        match: Matcher | None = None,
    ) -> None:
        self.match, stop = match, () if match else stop
        self.vocabulary, self.numbers, self.length = vocabulary, Numbers(key), length
        self.scores = Scores(model, vocabulary, prefix) if nats else None
        if vocabulary.unknown >= 0:
            model = _without(model, vocabulary.unknown)
        self.model, self.top_k, self.top_p = model, top_k, top_p
        self.stop, self.errors = stop, errors
        self.safe = vocabulary.line_end is not None and _safe(model, temperature)
        self.temperature, self.taken = (1.0, temperature) if self.safe else (temperature, 1.0)
        self.ends = _may_end(vocabulary, stop)
        self.origin = _read(Stepper(model, 1), np.empty(0, np.intp) if prefix is None else prefix)
        self.idle: dict[int, list[_Slots]] = {}
        """Streams that no generator uses, by their number."""

    def __call__(self, seeds: Sequence[Seed], first: int = 0) -> Iterator[Completion]:
        """A completion of each seed, in their order, the first of which has the number `first`.
        Raises `UsageError` where nothing that can follow one matches."""
        for _, before in seeds if self.match else ():
            assert self.match is not None
            self.match.start(before, self.length)
        if self.length == 0:
            yield from (Completion("", "length", 0.0, 0) for _ in seeds)
            return
        K = min(WIDTH, 1 << (max(len(seeds), 1) - 1).bit_length())
        ended: dict[int, _Ended] = {}
        found: dict[int, Completion] = {}
        used = [self._take(K)]
        running = self._run(used, seeds, first, ended)
        try:
            for n in range(len(seeds)):
                while n not in ended and n not in found:
                    next(running)
                if n not in found:
                    found |= self._completed(seeds, ended)
                    ended.clear()
                yield found.pop(n)
        finally:
            for slots in used:
                self.idle[len(slots.numbers.rows)].append(slots)

    def _completed(self, seeds: Sequence[Seed], ended: dict[int, _Ended]) -> dict[int, Completion]:
        """What has ended, with its nats where these are asked for."""
        scores = [Score(0.0, 0.0)] * len(ended)
        if self.scores is not None:
            samples = [(seeds[n], each) for n, each in ended.items()]
            scores = self.scores(samples, self.errors)
        return {
            n: Completion(each.text, each.stop, score.nats, len(each.ids), score.drawn)
            for (n, each), score in zip(ended.items(), scores, strict=True)
        }

    def _take(self, K: int) -> _Slots:
        """K streams that no other generator uses; they keep their buffers."""
        idle = self.idle.setdefault(K, [])
        return idle.pop() if idle else _Slots(self, K)

    def _run(
        self, used: list[_Slots], seeds: Sequence[Seed], first: int, ended: dict[int, _Ended]
    ) -> Iterator[None]:
        """Put into `ended` what has ended, step after step. The streams are the last `used` ones;
        what is taken besides is put there."""
        slots = used[-1]
        stepper, numbers, chooser = slots.stepper, slots.numbers, slots.chooser
        logits, made, K = stepper.logits, numbers.made, len(stepper.logits)
        waiting, rows = iter(range(len(seeds))), np.arange(K)
        number = [-1] * K  # of the seed that each stream goes on with
        reading: dict[int, list[int]] = {}  # what is left of each seed, the last unit first
        writing: Array = np.zeros(K, np.bool_)
        idle: list[int] = []  # streams for which there is no seed left
        match, states = self.match, np.full(K, DEAD)
        begins = states.tolist()  # the state that each stream has when it begins to write
        writers, texts, taken = [self.vocabulary.writer()] * K, [""] * K, [0] * K

        def end(k: int) -> bool:
            """Take what stream k has drawn; whether that ends it."""
            text, searched = texts[k], len(texts[k])
            units = slots.drawn[k, taken[k] : made[k]].tolist()
            ids = slots.drawn[k, : made[k]].copy()
            if match:
                closed = bool(units) and units[-1] in match.line_ends
                text = "".join(map(writers[k].write, units[:-1] if closed else units))
                ended[number[k]] = _Ended(text, "match", ids)
                return True
            text += "".join(map(writers[k].write, units))
            full = made[k] == self.length
            if full:
                text += writers[k].end()
            place = stop_in(text, self.stop, searched)
            texts[k], taken[k] = text, made[k]
            if place is None and not full:
                return False
            reason = "length" if place is None else "stop"
            ended[number[k]] = _Ended(text[:place], reason, ids)
            return True

        def fill(k: int) -> None:
            """Give stream k a seed that waits, or one more where that ends at once."""
            for n in waiting:
                ids, before = seeds[n]
                ids = _context(ids, self.vocabulary)
                number[k], texts[k], taken[k] = n, "", 0
                writers[k] = self.vocabulary.writer(before, self.errors)
                numbers.begin(k, first + n)
                stepper.begin(k, self.origin)
                states[k] = DEAD
                if match:
                    begins[k] = match.start(before, self.length)
                if len(ids):
                    reading[k] = ids.tolist()[::-1]
                    return
                y = _first_logits(self.vocabulary)[None]
                of_one = StreamNumbers(1, self.numbers)
                of_one.begin(0, first + n)
                allowed = None
                if match:
                    allowed = match.allowed(np.array([begins[k]]), np.array([self.length]))
                    if not np.isfinite(y[allowed]).any():  # only the empty text matches
                        end(k)
                        continue
                choose = Chooser(1, len(y[0]), of_one, self.temperature, self.top_k, self.top_p)
                i = choose(y, allowed)
                slots.drawn[k, 0], made[k] = i[0], 1
                if match:
                    begins[k] = match.table.item(begins[k], i.item())
                if not (self.length == 1 or self.ends[i[0]]) or not end(k):
                    reading[k] = i.tolist()
                    return
            made[k], states[k] = 0, DEAD
            idle.append(k)

        for k in range(K):
            fill(k)
        while True:
            allowed = None
            if match:
                left = self.length - made
                for k in np.flatnonzero(match.over(states, left)).tolist():
                    end(k)
                    writing[k] = False
                    fill(k)
                allowed = match.allowed(states, left)
            ids = chooser(logits, allowed)
            if writing.any():
                most = int(made.max())
                if most >= slots.drawn.shape[1]:
                    slots.drawn = np.hstack([slots.drawn, np.empty_like(slots.drawn)])
                slots.drawn[rows, made] = ids
                made += writing
                over = writing & (self.ends[ids] | (made == self.length))
                if match:
                    over |= writing & np.isin(ids, match.line_ends)
                    states = match.table[states, ids]
                for k in np.flatnonzero(over).tolist():
                    if end(k):
                        writing[k] = False
                        fill(k)
                for k in np.flatnonzero(writing & (made % BLOCK == 0)).tolist():
                    numbers.fetch(k)
            yield
            for k, units in list(reading.items()):
                ids[k] = units.pop()
                if not units:
                    del reading[k]
                    writing[k], states[k] = True, begins[k]
            if match and NARROW <= K // 2 <= len(idle) < K:
                # matches are as different in length as can be: go on with half as many streams
                keep = np.argsort(np.isin(rows, idle), kind="stable")[: K // 2]
                half = self._take(K // 2)
                used.append(half)
                half.stepper.take_over(stepper, keep)
                half.numbers.take_over(numbers, keep)
                half.drawn = slots.drawn[keep]
                places = {k: place for place, k in enumerate(keep.tolist())}
                idle = [places[k] for k in idle if k in places]
                reading = {places[k]: units for k, units in reading.items()}
                ids, writing, states = (x[keep] for x in (ids, writing, states))
                number, begins, taken = ([x[k] for k in places] for x in (number, begins, taken))
                writers, texts = [writers[k] for k in places], [texts[k] for k in places]
                slots, K, rows = half, K // 2, rows[: K // 2]
                stepper, numbers, chooser = half.stepper, half.numbers, half.chooser
                made = numbers.made
            logits = stepper.step(ids)


def stop_in(text: str, stops: Sequence[str], searched: int = 0) -> int | None:
    """Where in a text the stop text begins that is complete first; of several, the one that began
    first. None of them is complete in the first `searched` characters."""
    found = []
    for stop in stops:
        at = text.find(stop, max(0, searched - len(stop) + 1))
        if at >= 0:
            found.append((at + len(stop), at))
    return min(found)[1] if found else None


def _may_end(vocabulary: Vocabulary, stop: Sequence[str]) -> Array:
    """Which units (V,) a stop text may be complete with."""
    lasts = {text[-1] for text in stop}
    if vocabulary.unit == "byte":
        if not all(c.isascii() for c in lasts):
            return np.ones(len(vocabulary), np.bool_)
        return np.isin(np.arange(len(vocabulary)), [ord(c) for c in lasts])
    units = [f" {unit}\n" for unit in vocabulary.units] if vocabulary.unit == "word" else None
    return np.array([not lasts.isdisjoint(unit) for unit in units or vocabulary.units], np.bool_)


def best_of(completions: Iterable[Completion], N: int) -> Iterator[Completion]:
    """Of every N completions the one whose drawn units have the fewest nats on average, the first
    of equals."""
    each = iter(completions)
    while group := list(islice(each, N)):
        yield min(group, key=lambda c: c.drawn_nats / max(c.units, 1))


def accepted(
    completer: Completer, seed: Seed, count: int, N: int, accept: Callable[[Completion], bool]
) -> Iterator[Completion]:
    """The first `count` completions of a seed, each the best of N, that are accepted; fewer where
    `TRIES` in a row are not."""
    made = misses = 0
    while count:
        some = max(count, FEWEST)
        samples = best_of(completer([seed] * (some * N), made * N), N)
        made += some
        for completion in samples:
            if accept(completion):
                misses = 0
                count -= 1
                yield completion
                if not count:
                    return
            else:
                misses += 1
                if misses == TRIES:
                    return


def beam(
    model: Model,
    vocabulary: Vocabulary,
    seed: Seed,
    N: int,
    *,
    length: int = 200,
    stop: Sequence[str] = (),
    errors: str = "replace",
    match: Matcher | None = None,
) -> Completion:
    """The most probable continuation that a beam search over N texts finds: of all that end with
    a stop text, or are `length` units long, the one with the fewest nats.

    In each step the N most probable of all texts that are one unit longer are kept (B. Lowerre,
    The Harpy speech recognition system, 1976). With N = 1 it takes the likeliest unit each time.
    It draws nothing: equal probabilities are taken in the order of texts and units.

    With `match` only texts are kept that can still lead to a match, and what ends with one counts;
    texts to stop at have no say then. Raises `UsageError` where nothing that can follow matches.
    """
    ids, before = seed
    of_seed, scores = ids, Scores(model, vocabulary)
    stop = () if match else stop
    states: Array = np.array([match.start(before, length) if match else DEAD])
    if not length:
        return Completion("", "length", 0.0, 0)
    if vocabulary.unknown >= 0:
        model = _without(model, vocabulary.unknown)
    ids = _context(ids, vocabulary)
    origin = _read(Stepper(model, 1), ids)
    logits: Array = origin.logits if len(ids) else _first_logits(vocabulary)[None]
    V, ends = model.V, _may_end(vocabulary, stop)
    if match:
        ends[list(match.line_ends)] = True
    stepper = Stepper(model, N)
    for k in range(N):
        stepper.begin(k, origin)
    totals, texts = np.zeros(1), np.empty((1, 0), np.int32)
    best: _Ended | None = None
    fewest = np.inf  # nats of the best

    def matched(text: Array) -> _Ended:
        """What a text is if it ends here and matches."""
        closed = match is not None and len(text) > 0 and text[-1] in match.line_ends
        write = vocabulary.writer(before, errors).write
        shown = "".join(map(write, text[: len(text) - closed].tolist()))
        return _Ended(shown, "match", text)

    def ended(text: Array) -> _Ended | None:
        """What a text is if it ends here."""
        if match:
            return matched(text)
        writer, full = vocabulary.writer(before, errors), len(text) == length
        shown = "".join(map(writer.write, text.tolist())) + (writer.end() if full else "")
        place = stop_in(shown, stop)
        if place is None and not full:
            return None
        return _Ended(shown[:place], "length" if place is None else "stop", text)

    for n in range(1, length + 1):
        y = logits[: len(totals)].astype(np.float64)
        y -= y.max(axis=1, keepdims=True)
        nats = totals[:, None] + np.log(np.exp(y).sum(axis=1, keepdims=True)) - y
        if match:
            left = np.full(len(states), length - n + 1)
            for k in np.flatnonzero(match.over(states, left)).tolist():
                if totals[k] < fewest:
                    best, fewest = matched(texts[k]), totals.item(k)
            nats[~match.allowed(states, left)] = np.inf
        nats = nats.reshape(-1)
        # as many as surely have N among them that go on
        most = min(N + len(totals) * int(ends.sum()), len(nats)) if n < length else 1
        if most < len(nats):
            least = np.partition(nats, most - 1)[most - 1]
            some = np.flatnonzero(nats <= least)
        else:
            some = np.arange(len(nats))
        order = some[np.argsort(nats[some], kind="stable")]
        streams, units = [], []
        for place in order[np.isfinite(nats[order])].tolist():
            if nats[place] >= fewest:
                break
            k, i = divmod(place, V)
            if ends[i] or n == length:
                completed = ended(np.append(texts[k], i))
                if completed is not None:
                    best, fewest = completed, nats.item(place)
                    continue
            streams.append(k)
            units.append(i)
            if len(streams) == N:
                break
        if not streams:
            break
        texts = np.hstack([texts[streams], np.array(units, np.int32)[:, None]])
        totals = nats[np.array(streams) * V + units]
        if match:
            states = match.table[states[streams], units]
        filled = [*streams, *[0] * (N - len(streams))]
        stepper.reorder(np.array(filled))
        logits = stepper.step([*units, *[0] * (N - len(units))])
    assert best is not None
    (score,) = scores([((of_seed, before), best)], errors)
    return Completion(best.text, best.stop, score.nats, len(best.ids), score.drawn)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


def unescape(text: str) -> str:
    """Replace the escapes that are awkward to type in a shell: \\n, \\t, \\r, \\0 and \\\\."""
    return re.sub(r"\\([ntr0\\])", lambda match: _ESCAPES[match[1]], text)
