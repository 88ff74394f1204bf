"""The training loop: truncated backpropagation through time over contiguous streams.

It yields a record a step and prints nothing; saving, reporting and stopping from outside are the
caller's choice.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np

from charlstm._version import __version__
from charlstm.config.fields import seconds
from charlstm.config.schema import Config
from charlstm.errors import DivergedError, OutputError, UsageError
from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.numbers import key_of
from charlstm.generation.sampler import Sampler
from charlstm.nn.arrays import Array
from charlstm.nn.dropout import Drops
from charlstm.nn.optimizers import OPTIMIZERS, clip_norm_, clip_value_, norm
from charlstm.nn.schedule import Schedule
from charlstm.nn.shape import State
from charlstm.scoring.held_out import HeldOut
from charlstm.storage.checkpoint import (
    Checkpoint,
    Standing,
    in_use,
    network,
    network_shape,
    rescued,
    write_checkpoint,
)
from charlstm.storage.files import claim
from charlstm.storage.lock import Lock
from charlstm.text.corpus import Corpus
from charlstm.text.streams import Streams
from charlstm.text.units import VOCABULARIES
from charlstm.training.ranks import ALONE, Alone, ranks
from charlstm.training.shards import Job, Shards, cores

STEPS_AN_EPOCH = 50
"""Streams are made fewer until an epoch has as many steps: a small corpus needs them."""


class Divergence(NamedTuple):
    """Where training diverged, and by what that was seen."""

    step: int
    """The step after which it was seen, or in which."""
    what: str
    """The array, or the loss."""
    finite: bool = False
    """Whether its numbers are finite: then the loss stayed far above what guessing costs."""


@dataclass(frozen=True)
class Record:
    """What one step of training did; or, with `train` NaN, what happened between two steps."""

    step: int
    """Steps done in all, this one included."""
    epoch: float
    """Passes over the training text in all."""
    chars: int
    """Characters trained on in all."""
    seconds: float
    """Time since this run began."""
    train: float
    """Loss of this step in nats per character, before its update."""
    lr: float
    """The learning rate of this step."""
    gradient_norm: float
    """Norm of the gradient before clipping."""
    valid: float | None = None
    """Held-out loss in nats per character, where this step ended in a look at it."""
    best: bool = False
    """Whether that was the lowest so far."""
    saved: bool = False
    """Whether the checkpoint was written after this step."""
    sample: str | None = None
    """A text generated after this step, where one was asked for."""
    notice: str | None = None
    """Something the user should know."""
    diverged: Divergence | None = None
    """Where training diverged. This is then no record of a step but of the return to `step`."""


class _Diverged(Exception):
    """Training diverged."""

    def __init__(self, step: int, what: str, how: str = "is not finite") -> None:
        """`what` was seen after `step` steps, or in the one that would have been that; `how` says
        what is wrong with it."""
        super().__init__(f"step {step}: {what} {how}")
        self.divergence = Divergence(step, what, how != "is not finite")


@cache
def environment() -> dict[str, str]:
    """What the last bits of a run depend on besides the run: the versions of this program and of
    NumPy, the BLAS that NumPy was built with, and the processor as far as NumPy and the BLAS
    choose their kernels by it (an OpenBLAS goes by its model too, which nobody tells us)."""
    build = cast("dict[str, dict[str, Any]]", np.show_config(mode="dicts"))
    blas = build.get("Build Dependencies", {}).get("blas", {})
    kernels = build.get("SIMD Extensions", {}).get("found", [])
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return {
        "charlstm": __version__,
        "numpy": np.__version__,
        "blas": " ".join(str(blas.get(key, "unknown")) for key in ("name", "version")),
        "processor": " ".join([platform.machine(), *kernels, *([forced] if forced else [])]),
    }


ROLLBACKS = 3
"""How often a run that diverges goes back to its last good state, …"""

SMALLER = 0.5
"""… each time with a learning rate that is smaller by this factor from there on."""

FAR = 1.0
"""Nats per unit above what guessing costs, from which on a loss is that of a run that diverges. The
first steps of a run that learns may take it there for a while."""

COMING_DOWN = 50
"""Steps that a run has for coming down from there."""

SPARSE = 6
"""Copying rows to and fro pays where there are so many times as many rows in all."""

SAVING = 0.02
"""Share of a run's time that saves at new bests may take, where they go by time: one that comes
sooner after the last save waits."""

WORKERS_AFTER = 0.3
"""Seconds of training after which worker processes are started: a short run needs none."""

SHARD_STREAMS = 64
"""Streams of a shard at most, where the number of shards is not given."""

AUTO_EPOCHS, AUTO_STEPS = 20, 2000
"""How long training lasts unless told otherwise: so many epochs, but at least so many steps."""


def fitted(config: Config, characters: int) -> tuple[Config, str | None]:
    """The configuration with streams and steps made fewer where the training text is too short
    for them, and the number of epochs decided; and a notice where something shrank."""
    t = config.train
    length = min(t.length, characters)
    batch = max(1, min(t.batch, characters // (length * STEPS_AN_EPOCH)))
    epochs = t.epochs
    if epochs == "auto":
        epochs = max(AUTO_EPOCHS, math.ceil(AUTO_STEPS * batch * length / characters))
    shards = t.shards
    if shards == "auto":  # by the batch alone: the same on every machine
        shards = max(math.ceil(batch / SHARD_STREAMS), 2 if batch >= 32 else 1)
    shards = min(int(shards), batch)
    train = dataclasses.replace(t, batch=batch, length=length, shards=shards, epochs=epochs)
    notice = None
    if (batch, length) != (t.batch, t.length):
        notice = (
            f"{characters:,} {config.text.name}s to train on: reading {batch} "
            f"stream{'s' * (batch > 1)} of {length} steps instead of {t.batch} of {t.length}"
        )
    return dataclasses.replace(config, train=train), notice


def embedding_start(config: Config) -> float:
    """Standard deviation of the first embedding of a model.

    What a layer reads of characters should be as large as what it reads of a state. Most words are
    rare: of these a large start is noise that is hardly ever trained away. Tied to the output,
    the rows begin with length 1.
    """
    m = config.model
    if m.embedding_start is not None:
        return m.embedding_start
    if m.tie:
        return 1.0 / math.sqrt(m.embedding)
    return 0.01 if VOCABULARIES[config.text.unit].mostly_rare else 1.0


def _identity(corpus: Corpus) -> dict[str, Any]:
    """By what a corpus, and where it is split, is known again."""
    sizes = {"train": len(corpus.train), "valid": len(corpus.valid)}
    return {"sha256": corpus.sha256, **sizes}


def _copied(progress: dict[str, Any]) -> dict[str, Any]:
    """A copy that does not change with the other; of what it holds only the history grows, all
    else is replaced."""
    return {**progress, "history": progress["history"].copy()}


class Training:
    """A run of training; iterate over it to train, a `Record` a step.

    Make one with `start` or `resume`. When the iteration ends of itself, the checkpoint has been
    written (if `output` is given); whoever stops earlier calls `save`.

    The path `output` is this run's alone (`charlstm.storage.lock`) from the beginning to the end
    of the iteration, and while it is saved; to another that wants it, it is a `BusyError`.
    """

    def __init__(
        self,
        corpus: Corpus,
        checkpoint: Checkpoint,
        output: str | os.PathLike[str] | None,
        ranks: Alone = ALONE,
        lock: Lock | None = None,
    ) -> None:
        self.corpus, self.config, self.output = corpus, checkpoint.config, output
        self.ranks, self.lock = ranks, lock
        t, m = self.config.train, self.config.model
        B = self.B = t.batch * ranks.size  # streams of all ranks, of which this one has `mine`
        mine = self.mine = slice(ranks.rank * t.batch, (ranks.rank + 1) * t.batch)
        self.notices = list(corpus.notices)
        if lock is not None and lock.notice:
            self.notices.append(lock.notice)
        p = self.progress = checkpoint.progress
        self.schedule = self._schedule()
        self.held_out: HeldOut | None = None
        if len(corpus.valid) > 1:
            self.held_out = HeldOut.of(corpus.valid, B, charged=corpus.vocabulary.charged)
        held_out = None if self.held_out is None else self.held_out.part(mine)
        unknown = corpus.vocabulary.unknown
        job = Job(
            network_shape(self.config, len(corpus.vocabulary)),
            *(t.length, t.batch, int(t.shards)),
            held_out=0 if held_out is None else len(held_out.ids),
            warm_up=0 if held_out is None else held_out.warm_up,
            first=ranks.rank == 0,
            drops=Drops(m.dropout, m.variational, m.weight_drop, m.input_drop, unknown),
            seed=t.rng_seed,
            stream=mine.start,
        )
        self.dropped_to = np.array([unknown] if m.input_drop and unknown >= 0 else [], np.intp)
        workers = cores() // ranks.neighbours if t.workers == "auto" else int(t.workers)
        self.shards = Shards(job, workers, held_out)
        self.shards.weights[...] = checkpoint.last
        for s, before in zip(self.shards.state, checkpoint.state, strict=True):
            s[...] = before[mine]
        self.gradient = self.shards.gradient
        self.model = checkpoint.model(self.shards.weights)
        self.average = checkpoint.average
        self.best = checkpoint.best if checkpoint.looked is None else checkpoint.looked
        self.digest = checkpoint.digest
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = p["random"]
        rule = OPTIMIZERS[t.optimizer]
        settings = {name: getattr(t, name) for name in rule.settings}
        self.optimizer = rule(self.model.weights.flat, p["step"], **settings)
        for name, flat in checkpoint.optimizer.items():
            self.optimizer.state[name][...] = flat
        # a segment that has few of the characters has a gradient for few rows of the first
        # weights, Wx or the embedding, unless that is the output's too
        first = next(iter(self.model.weights.values()))
        self.rows_shape = (math.prod(first.shape[:-2]), *first.shape[-2:])
        few = ranks.size == 1 and SPARSE * t.batch * t.length <= self.model.V
        self.sparse = few and self.optimizer.sparse and not m.tie
        self.streams = Streams(corpus.train, B, t.length, p["position"], mine)
        self.used = self.model if self.average is None else self.model.with_weights(self.average)
        self.steps_an_epoch = max(1, len(corpus.train) // (B * t.length))
        often = 1000 if self.held_out is None else min(self.steps_an_epoch, 1000)
        self.eval_every = t.eval_every or often
        self._sample_at = frozenset(t.sample_at)
        if t.sample_every or t.sample_at:
            corpus.vocabulary.encode_strictly(self.config.sample.seed, "sample.seed")
        self._stop = False
        self.spent = 0.0
        """Seconds before the first step that a time limit counts, such as those of reading."""
        if checkpoint.good is None:
            self.good = copy.deepcopy(self._standing())
        else:
            state = [s[mine] for s in checkpoint.good.state]
            self.good = dataclasses.replace(checkpoint.good, state=state)

    # --- beginnings ----------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        corpus: Corpus,
        config: Config,
        output: str | os.PathLike[str] | None = None,
        lock: Lock | None = None,
    ) -> Training:
        """Begin a new model. The configuration is fitted to a small corpus. Without the `lock` on
        `output`, it is taken here."""
        together = ranks()
        if output is not None and together.rank == 0 and lock is None:
            lock = claim(output)
        config, notice = fitted(config, len(corpus.train) // together.size)
        t = config.train
        rng = np.random.default_rng(t.rng_seed)
        model = network(config, len(corpus.vocabulary))
        m = config.model
        model.initialise(rng, m.forget_bias, m.start, embedding_start(config))
        flat = model.weights.flat
        optimizer = OPTIMIZERS[t.optimizer](flat)
        progress = {
            "corpus": _identity(corpus),
            "environment": environment(),
            "ranks": together.size,
            "step": 0,
            "position": 0,
            "random": rng.bit_generator.state,
            "since": [0.0, 0],  # nats and characters since the last look at the held-out text
            "best": None,  # step and nats per character of the best look
            "looks": 0,  # looks since then
            "setbacks": 0,  # looks, of all there were, that brought no new best
            "history": [],  # step, train and held-out nats per character of each look
            "final": None,  # step and nats of the end of a run, where these weights are the best
            "rollbacks": [],  # step that diverged, what was not finite, step gone back to
        }
        checkpoint = Checkpoint(
            config,
            corpus.vocabulary,
            flat.copy(),
            flat,
            flat.copy() if t.average else None,
            optimizer.state,
            model.zero_state(t.batch * together.size),
            progress,
        )
        training = cls(corpus, checkpoint, output, together, lock)
        if notice:
            training.notices.append(notice)
        return training

    @classmethod
    def resume(
        cls,
        corpus: Corpus,
        checkpoint: Checkpoint,
        output: str | os.PathLike[str] | None = None,
        lock: Lock | None = None,
        accept_changes: bool = False,
    ) -> Training:
        """Go on exactly where a checkpoint stands, as if it had never stopped.

        That takes the same corpus and as many ranks: others are a `UsageError`, or, with
        `accept_changes`, a notice. Then the streams are shared out anew, and what did best on
        another held-out text counts for nothing. Another build of NumPy or another kind of
        processor, which change the last bits at most, are always a notice.
        """
        together = ranks()
        if output is not None and together.rank == 0 and lock is None:
            lock = claim(output)
        notices, p = [], checkpoint.progress
        size, before, streams = together.size, p["ranks"], len(checkpoint.state[0])
        if before != size:
            told = (
                f"the checkpoint was trained on {before} rank{'s' * (before > 1)}, this is a run "
                f"on {size}"
            )
            if not accept_changes:
                raise UsageError(
                    f"{told}; go on with as many, or with these all the same (--accept-changes), "
                    "or start anew with -o or --force"
                )
            if streams % size:
                raise UsageError(f"{told}, which cannot share its {streams} streams; start anew")
            notices.append(told)
            train = dataclasses.replace(checkpoint.config.train, batch=streams // size)
            checkpoint.config = dataclasses.replace(checkpoint.config, train=train)
            p["ranks"] = size
        text = _identity(corpus)
        if p["corpus"] == text | {"train": corpus.split_at} != text:  # of an older version
            notices.append(
                f"trained on {p['corpus']['train']:,} units before and on {text['train']:,} now, "
                "so that no line is cut where the text begins again"
            )
            p["corpus"] = text
        same_text = p["corpus"] == text
        told = "the corpus is not the one that the checkpoint was trained on"
        if not (same_text or accept_changes):
            raise UsageError(
                f"{told}; give the same text (and --valid), or go on with this one all the "
                "same (--accept-changes), or start anew with -o or --force"
            )
        if not checkpoint.vocabulary.has_units_of(corpus.vocabulary):
            if same_text:  # read by other settings of the section `text`
                told = "the settings are not those that the checkpoint was trained with"
            raise UsageError(f"{told}, nor is its vocabulary; start anew with -o or --force")
        if not same_text:
            notices.append(f"{told}; its held-out loss is measured anew")
            p |= {"corpus": _identity(corpus), "best": None, "looks": 0, "since": [0.0, 0]}
            p["final"] = None
        if notices:
            checkpoint.good = None  # that was one of the run as it had been
        checkpoint.config, _ = fitted(checkpoint.config, len(corpus.train) // size)
        if checkpoint.config.train.batch * size != streams:
            raise UsageError(f"the corpus is too small for the checkpoint's {streams} streams")
        for name, now in environment().items():
            was = p["environment"].get(name, now)
            if was != now:
                notices.append(
                    f"{name} was {was} when the checkpoint was written and is {now}: what comes "
                    "may differ in the last digits"
                )
        p["environment"] = environment()
        training = cls(corpus, checkpoint, output, together, lock)
        training.notices += notices
        return training

    def _schedule(self) -> Schedule:
        """The learning rates of this run."""
        t = self.config.train
        if t.schedule == "cosine" and self.total_steps is None:
            raise UsageError(
                "train.schedule is cosine, which must know how many steps there will be; give "
                "--steps or --epochs"
            )
        if t.schedule == "plateau" and len(self.corpus.valid) < 2:
            self.notices.append("nothing is held out, so the plateau schedule stays at its rate")
        return Schedule(
            *(t.schedule, t.lr, t.lr_min, t.warm_up),
            *(t.lr_decay, t.lr_decay_after, t.lr_divide, self.total_steps),
        )

    # --- where it stands -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The recurrent state of all streams."""
        return self.shards.state

    @property
    def step(self) -> int:
        return int(self.progress["step"])

    @property
    def chars(self) -> int:
        return self.step * self.B * self.config.train.length

    @property
    def epoch(self) -> float:
        return self.chars / len(self.corpus.train)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        epoch = self.chars // len(self.corpus.train)
        rate = self.schedule.learning_rate(self.step, epoch, self.progress["setbacks"])
        return rate * SMALLER ** len(self.progress["rollbacks"])

    @property
    def in_use(self) -> tuple[int, float] | None:
        """The step whose weights are in use, and their held-out loss in nats per unit; None before
        the first evaluation."""
        return in_use(self.progress)

    @property
    def best_valid(self) -> float | None:
        """Lowest held-out loss so far in nats per character."""
        best = self.progress["best"]
        return None if best is None else float(best[1])

    @property
    def finished(self) -> str | None:
        """Why training is at its end, by its configuration; None while it is not."""
        t = self.config.train
        if t.steps is not None and self.step >= t.steps:
            return f"{t.steps:,} steps done"
        if t.epochs is not None and self.epoch >= int(t.epochs):
            return f"{t.epochs} epochs done"
        if self.held_out and t.patience is not None and self.progress["looks"] >= t.patience:
            return f"held-out loss has not fallen for {t.patience} looks"
        return None

    @property
    def total_steps(self) -> int | None:
        """Steps after which training ends at the latest, not counting `max_time`."""
        t = self.config.train
        ends = [] if t.steps is None else [t.steps]
        if t.epochs is not None:
            ends.append(math.ceil(int(t.epochs) * len(self.corpus.train) / (self.B * t.length)))
        return min(ends, default=None)

    def _standing(self) -> Standing:
        """Where this rank stands: the arrays themselves, no copies."""
        self.progress["random"] = self.rng.bit_generator.state
        self.progress["position"] = self.streams.position
        weights, sums = self.model.weights.flat, self.optimizer.state
        return Standing(weights, self.average, sums, self.state, self.progress)

    def checkpoint(self) -> Checkpoint:
        """Everything that is needed to go on from here. Of several ranks all must ask; the answer
        is whole on rank 0."""
        now, good, p = self._standing(), None, self.progress
        if self.good.progress["step"] != self.step:
            gathered = [self.ranks.gather(s) for s in self.good.state]
            good = dataclasses.replace(self.good, state=gathered)
        return Checkpoint(
            self.config,
            self.corpus.vocabulary,
            self.used.weights.flat if p["final"] or not p["best"] else self.best,
            *(now.last, now.average, now.optimizer),
            [self.ranks.gather(s) for s in now.state],
            p,
            good,
            self.best if p["final"] and p["best"] else None,
        )

    def save(self, last: bool = False) -> None:
        """Write the checkpoint to `output`. If that fails and it is the `last` time, write it to
        another place, which the `OutputError` names."""
        if self.output is None:
            return
        checkpoint = self.checkpoint()
        if self.ranks.rank:
            return
        with self._locked():
            try:
                write_checkpoint(self.output, checkpoint)
            except OutputError as e:
                if last:
                    raise rescued(self.output, checkpoint, e) from e
                raise
        self.digest = checkpoint.digest

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Have `output` locked meanwhile; where it is already, it stays so afterwards."""
        if self.output is None or self.ranks.rank or (self.lock is not None and self.lock.held):
            yield
            return
        self.lock = claim(self.output)
        try:
            yield
        finally:
            self.lock.release()

    def held_out_loss(self) -> float | None:
        """Held-out loss, in nats per unit, of the weights in use; before the first evaluation,
        that of the weights as they are now. None without such text. Of several ranks all must
        ask."""
        if self.in_use is not None:
            return self.in_use[1]
        return None if self.held_out is None else self._measured()

    def _measured(self) -> float:
        """Held-out loss in nats per character of the weights as they are now."""
        assert self.held_out is not None
        nats = np.array([self.shards.measure(self.used.weights.flat)])
        self.ranks.add_(nats)
        return float(nats[0]) / self.held_out.characters

    def stop(self) -> None:
        """End the iteration after the step that is being done."""
        self._stop = True

    # --- the loop ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Record]:
        try:
            with self._locked():
                yield from self._steps()
        finally:
            self.shards.close()
            if self.lock is not None:
                self.lock.release()

    def _steps(self) -> Iterator[Record]:
        t = self.config.train
        began = saved_at = time.monotonic()
        max_seconds = math.inf if t.max_time is None else seconds(t.max_time) - self.spent
        by_steps = isinstance(t.save_every, int)
        save_seconds = math.inf if by_steps else seconds(str(t.save_every))
        pause, unsaved = 0.0, False  # seconds that a new best waits; whether one does
        self._stop = False

        def over() -> bool:
            """Whether this process wants to end."""
            return self._stop or time.monotonic() - began >= max_seconds

        if self.step == 0 and 0 in self._sample_at:
            yield self._event(sample=self.sample())
        if self.finished:
            self.save(last=True)
        while not self.finished:
            ends = self.ranks.size == 1 and over()  # before the first step, or asked for since
            now = time.monotonic()
            if self.shards.idle and now - began >= WORKERS_AFTER:
                self.shards.start_workers()
            lost, record = self.shards.lost, None
            changes: dict[str, Any] = {}
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # found, and reported
                    looks = due = ready = False
                    if not ends:
                        # clocks and signals differ: all ranks end, and save, in the step in which
                        # one tells the others that it wants to
                        since = now - saved_at
                        record, (ends, due, ready) = self._do_step(
                            *(over(), since >= save_seconds),
                            self.ranks.rank == 0 and since >= pause,
                        )
                        ends |= self.ranks.size == 1 and over()
                        due |= (unsaved and ready) or (
                            by_steps and self.step % int(t.save_every) == 0
                        )
                        looks = self.step % self.eval_every == 0
                    if looks or due or ends or self.finished:
                        self._check()
                    if looks:
                        changes |= self._look()
                    if ends or self.finished:
                        changes |= self._end(looks)
            except _Diverged as e:
                event = self._go_back(e)
                yield dataclasses.replace(event, seconds=time.monotonic() - began)
                if not ends:
                    continue
                self.save(last=True)
                if self.step == 0 and not self._stop:
                    raise DivergedError(
                        f"training diverged at {e}; the time is over and nothing is learnt: try a "
                        "smaller --set train.lr or train.clip_norm"
                    ) from None
                return
            if self.shards.lost > lost:
                changes["notice"] = "a worker process was lost; training goes on without it"
            unsaved |= changes.get("best", False)
            done = ends or self.finished is not None
            if self.output is not None and not done and (due or (unsaved and ready)):
                began_to_save, unsaved = time.monotonic(), False
                try:
                    self.save()
                    changes["saved"] = True
                except OutputError as e:  # the next interval tries again
                    changes["notice"] = f"{e}; training goes on"
                saved_at = time.monotonic()
                if not by_steps:
                    pause = (saved_at - began_to_save) / SAVING
            if record is None:
                if "valid" not in changes:
                    return
                record = self._event()
            elif self.step in self._sample_at or (
                t.sample_every and self.step % t.sample_every == 0
            ):
                changes["sample"] = self.sample()
            yield dataclasses.replace(record, seconds=time.monotonic() - began, **changes)
            if ends:
                return

    def _do_step(self, *wishes: bool) -> tuple[Record, list[bool]]:
        """One segment of every stream: forward, backward, clip, update. Also which of some things
        any rank wishes."""
        t, p, B = self.config.train, self.progress, self.B
        characters = B * t.length
        segment = self.streams.next()  # (T + 1, B)
        if t.reset:
            self._begin_afresh((self.rng.random(B) < t.reset)[self.mine])
        scale = 1.0 / (characters if t.loss == "mean" else B)
        gradient = self.gradient
        told = np.array([self.shards.train(segment, scale, self.step), *wishes])
        self.ranks.add_(gradient)
        self.ranks.add_(told)
        nats = float(told[0])
        length = norm(gradient)
        if not (math.isfinite(nats) and math.isfinite(length)):
            self._check()
            what = "the loss"
            if math.isfinite(nats):
                gradients = self.model.weights.like(gradient).items()
                sick = (f" of {name}" for name, array in gradients if not np.isfinite(array).all())
                what = "the gradient" + next(sick, "")
            raise _Diverged(self.step + 1, what)
        if t.clip_norm is not None:
            clip_norm_(gradient, t.clip_norm, length)
        if t.clip_value is not None:
            clip_value_(gradient, t.clip_value)
        weights, rate = self.model.weights.flat, self.learning_rate
        if self.sparse:
            rows = np.union1d(segment[:-1], self.dropped_to)
            self.optimizer.sparse_step_(weights, gradient, rate, self.rows_shape, rows)
        else:
            self.optimizer.step_(weights, gradient, rate)
        p["step"] += 1
        p["final"] = None
        if self.average is not None:
            # early on the average is short, so that the first weights are soon forgotten
            decay = min(t.average, p["step"] / (p["step"] + 10))
            np.subtract(weights, self.average, out=gradient)
            gradient *= 1.0 - decay
            self.average += gradient
        p["since"] = [p["since"][0] + nats, p["since"][1] + characters]
        record = Record(self.step, self.epoch, self.chars, 0.0, nats / characters, rate, length)
        return record, (told[1:] > 0).tolist()

    def _begin_afresh(self, chosen: Array) -> None:
        """Set the state of the chosen streams (B,) to zero, as it is where a text begins.

        A model that was only ever carried on can fall into a state it never leaves when it is
        started anywhere else: seen as single streams of held-out text at 12 nats a character
        beside others at 3.
        """
        for s in self.state:
            s[chosen] = 0.0

    def _event(self, **what: Any) -> Record:
        """A record of what happens between two steps."""
        where = (self.step, self.epoch, self.chars, 0.0)
        return Record(*where, math.nan, self.learning_rate, math.nan, **what)

    def _look(self) -> dict[str, Any]:
        """Evaluate the held-out text; keep the weights where its loss is the lowest so far, and
        all of the state as a good one unless the loss has risen to where that of a model on its
        way out is: by more than what guessing costs, or beyond that."""
        p = self.progress
        train, valid = self._losses()
        p["since"] = [0.0, 0]
        if valid is None:
            self._keep()
            return {}
        better = self.best_valid is None or valid < self.best_valid
        if better:
            self.best = self.used.weights.flat.copy()
            p["best"], p["looks"] = [self.step, valid], 0
        else:
            p["looks"] += 1
            p["setbacks"] += 1
        p["history"].append([self.step, train, valid])
        assert self.best_valid is not None
        if valid <= min(self.best_valid, FAR) + math.log(self.model.V):
            self._keep()
        return {"valid": valid, "best": better}

    def _losses(self) -> tuple[float, float | None]:
        """Loss in nats per unit of the steps since the last look, and of the held-out text.
        Raises `_Diverged` where both are far above what guessing costs."""
        nats, units = self.progress["since"]
        train, valid = nats / units, None
        if self.held_out is not None:
            valid = self._measured()
            if not math.isfinite(valid):
                raise _Diverged(self.step, "the held-out loss")
        rollbacks, guessing = self.progress["rollbacks"], math.log(self.model.V)
        steps = self.step - (rollbacks[-1][2] if rollbacks else 0)
        limit = guessing + FAR * max(1, COMING_DOWN - steps)
        if train > limit and (valid is None or valid > limit):
            raise _Diverged(
                *(self.step, "the training loss"),
                f"is {train:.1f} nats per {self.config.text.name} where guessing costs "
                f"{guessing:.1f}",
            )
        return train, valid

    def _end(self, looked: bool) -> dict[str, Any]:
        """Save the run at its end; where that is no look, with an evaluation of its last weights,
        which are the ones to use if they are the best.

        What the evaluation finds stands in the file, apart from the state that training goes on
        from: so a run that was interrupted comes to the same looks, and ends in the same file.
        """
        changes: dict[str, Any] = {}
        if not looked and self.progress["since"][1]:
            if self._stop and self.ranks.size == 1:
                self.save(last=True)  # a second signal ends the process at once
            _, valid = self._losses()
            if valid is not None:
                better = self.best_valid is None or valid < self.best_valid
                self.progress["final"] = [self.step, valid] if better else None
                changes = {"valid": valid, "best": better}
        self.save(last=True)
        return {**changes, "saved": self.output is not None}

    # --- when it diverges ----------------------------------------------------------------------

    def _check(self) -> None:
        """Raise `_Diverged` where an array of any rank holds a number that is not finite."""
        weights = self.model.weights
        named = {f"the weights {name}": array for name, array in weights.items()}
        vectors = {f"the {name} of": flat for name, flat in self.optimizer.state.items()}
        if self.average is not None:
            vectors["the average of"] = self.average
        for kind, flat in vectors.items():
            named |= {f"{kind} {name}": array for name, array in weights.like(flat).items()}
        named |= {
            f"the state {name}": array
            for name, array in zip(self.model.shape.states, self.state, strict=True)
        }
        sick = np.array([not np.isfinite(array).all() for array in named.values()], np.float64)
        self.ranks.add_(sick)  # they have different states, and must do the same
        if sick.any():
            raise _Diverged(self.step, list(named)[int(np.argmax(sick > 0))])

    def _keep(self) -> None:
        """Make this the state to go back to.

        Only looks do that, which are made after the same steps however often a run is interrupted
        and saved, and a checkpoint that is written in between holds the state that the last one
        kept: so what becomes of a run that diverges does not depend on that either. (But a sum or
        an average that overflows, which no step shows, is found when it would be saved or kept.)
        """
        now = self._standing()
        for kept, array in zip(self.good.arrays(), now.arrays(), strict=True):
            np.copyto(kept, array)
        self.good.progress = _copied(self.progress)

    def _go_back(self, diverged: _Diverged) -> Record:
        """Return to the last good state, with a smaller learning rate from there on. Raises
        `DivergedError` where that has not helped often enough."""
        good, rollbacks = self.good, self.progress["rollbacks"]
        if len(rollbacks) == ROLLBACKS:
            raise DivergedError(
                f"training diverged at {diverged}, after {ROLLBACKS} returns to a good state, each "
                "with half the learning rate; try a smaller --set train.lr or train.clip_norm"
            )
        step, what, _ = diverged.divergence
        to = good.progress["step"]
        good.progress["rollbacks"] = [*rollbacks, [step, what, to]]
        for array, kept in zip(self._standing().arrays(), good.arrays(), strict=True):
            np.copyto(array, kept)
        p = self.progress = _copied(good.progress)
        self.rng.bit_generator.state = p["random"]
        self.streams.position = p["position"]
        self.optimizer.steps = to
        return self._event(
            notice=f"training diverged at {diverged}; on from step {to:,} with half the learning "
            "rate",
            diverged=diverged.divergence,
        )

    def sample(self) -> str:
        """What `sample` would print from the model as it is now, by the configuration's section of
        that name. It draws from numbers of its own, so that looking on changes nothing."""
        s, v = self.config.sample, self.corpus.vocabulary
        seed = v.normalised(s.seed)
        key = key_of([self.config.train.rng_seed, self.step])
        sampler = Sampler(self.used, v, key, Sampling.of(s, v))
        seeds = [Seed(v.encode_strictly(seed, "sample.seed"), seed)] * s.count
        return "\n".join((seed if s.echo else "") + c.text for c in sampler(seeds))
