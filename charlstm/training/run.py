"""The training loop: truncated backpropagation through time over contiguous streams.

It yields an event a step and prints nothing; saving, reporting and stopping from outside are the
caller's choice.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from charlstm.config.fields import seconds
from charlstm.config.schema import Config, Setting
from charlstm.errors import DivergedError, OutputError
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.storage.checkpoint import Checkpoint, network_shape, snapshot_groups
from charlstm.storage.lock import Lock, Path_
from charlstm.storage.progress import NO_TEXT, Progress, Score
from charlstm.text.corpus import Corpus
from charlstm.training.evaluations import Evaluations
from charlstm.training.events import Event, Record
from charlstm.training.learner import Diverged, Learner
from charlstm.training.plan import Plan, embedding_start, fitted
from charlstm.training.ranks import Votes, ranks
from charlstm.training.resume import Resumption, begun, environment, identity
from charlstm.training.saving import Output, SavePolicy

WORKERS_AFTER = 0.3
"""Seconds of training after which worker processes are started: a short run needs none."""


def first_checkpoint(
    corpus: Corpus, config: Config, weights: Array | None = None
) -> tuple[Checkpoint, list[str]]:
    """A model before its first step, with these weights (P,) or new ones, and notices. The
    configuration is fitted to a small corpus."""
    size = ranks().size
    config, notice = fitted(config, len(corpus.train) // size)
    t, m = config.train, config.model
    rng = np.random.default_rng(t.rng_seed)
    model = Model(network_shape(config, len(corpus.vocabulary)))
    flat = model.weights.flat
    if weights is None:
        model.initialise(rng, m.forget_bias, m.start, embedding_start(config), m.chrono)
    else:
        flat[...] = weights
    average = [flat.copy()] if t.average else []
    vectors = [flat, *average, *OPTIMIZERS[t.optimizer](flat).state.values()]
    text, known, random = identity(corpus), environment(), rng.bit_generator.state
    checkpoint = Checkpoint(
        dict(zip(snapshot_groups(config), vectors, strict=True)),
        model.zero_state(t.batch * size),
        Progress(corpus=text, environment=known, ranks=size, random=random),
        config=config,
        vocabulary=corpus.vocabulary,
        best=flat.copy(),
    )
    return checkpoint, [notice] if notice else []


class Training:
    """A run of training; iterate over it to train: a `Record` a step, and a `Rollback` for each
    return to an earlier one. Make one with `start` or `resume`. When the iteration ends of itself,
    the checkpoint has been written (if `output` is given); whoever stops earlier calls `save`.

    The path `output` is this run's alone (`charlstm.storage.lock`) from the beginning to the end
    of the iteration, and while it is saved; to another that wants it, it is a `BusyError`.
    """

    def __init__(
        self,
        corpus: Corpus,
        checkpoint: Checkpoint,
        output: Path_ | None,
        lock: Lock | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        self.corpus, self.ranks = corpus, ranks()
        held_out = len(corpus.valid) > 1  # the first unit is given, not predicted
        self.plan = Plan(checkpoint.config, len(corpus.train), held_out, self.ranks.size)
        self.writes = output is not None
        self.output = Output(output, lock) if output is not None and not self.ranks.rank else None
        self.notices = list(corpus.notices)
        if self.output is not None and self.output.lock.notice:
            self.notices.append(self.output.lock.notice)
        if self.plan.schedule.kind == "plateau" and not held_out:
            self.notices.append("nothing is held out, so the plateau schedule stays at its rate")
        self.notices += notices
        t = self.config.train
        if t.sample_every or t.sample_at:
            corpus.vocabulary.encode_strictly(self.config.sample.seed, "sample.seed")
        self.learner = Learner(corpus, checkpoint, self.plan, self.ranks)
        self.evaluations = Evaluations(self.learner, checkpoint)
        self._stop = False
        self.spent = 0.0
        """Seconds before the first step that a time limit counts, such as those of reading."""
        self.reasons: list[str] = []
        """Why the configuration is as it is, where it was chosen."""
        self.replan: Callable[[int, float], tuple[Sequence[Setting], str | None]] | None = None
        """What is to change after a step, so many seconds after the run was asked for, and what the
        user should know of it."""

    @classmethod
    def start(
        cls, corpus: Corpus, config: Config, output: Path_ | None = None, lock: Lock | None = None
    ) -> Self:
        """Begin a new model. Without the `lock` on `output`, it is taken here."""
        checkpoint, notices = first_checkpoint(corpus, config)
        return cls(corpus, checkpoint, output, lock, notices)

    @classmethod
    def resume(
        cls,
        corpus: Corpus,
        checkpoint: Checkpoint,
        output: Path_ | None = None,
        lock: Lock | None = None,
        *,
        settings: Sequence[Setting] = (),
        accept_changes: bool = False,
    ) -> Self:
        """Continue exactly where a checkpoint stands, as if the run had never stopped, but with
        some settings changed; begin, where its model was imported. Raises `UsageError` at a change
        that the run does not survive, or does only with `accept_changes`: see `Resumption`."""
        if checkpoint.progress.corpus == NO_TEXT:
            checkpoint, notices = first_checkpoint(corpus, *begun(checkpoint, corpus, settings))
            return cls(corpus, checkpoint, output, lock, notices)
        resumption = Resumption(checkpoint, corpus, settings, ranks().size, output)
        return cls(corpus, checkpoint, output, lock, resumption.apply(accept_changes))

    @property
    def config(self) -> Config:
        return self.plan.config

    @property
    def progress(self) -> Progress:
        return self.learner.progress

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def chars(self) -> int:
        return self.plan.chars(self.step)

    @property
    def epoch(self) -> float:
        return self.plan.epoch(self.step)

    @property
    def in_use(self) -> Score | None:
        """Step and held-out loss of the weights in use; None before the first evaluation."""
        return self.progress.in_use

    @property
    def best_valid(self) -> float | None:
        """Lowest held-out loss so far in nats per character."""
        return None if self.progress.best is None else self.progress.best.nats

    @property
    def finished(self) -> str | None:
        """Why training is at its end, by its configuration; None while it is not."""
        return self.plan.finished(self.progress)

    def held_out_loss(self) -> float | None:
        """Held-out loss, in nats per unit, of the weights in use, or before the first evaluation
        of those there are. None without such text. Of several ranks all must ask."""
        return self.learner.measure() if self.in_use is None else self.in_use.nats

    def checkpoint(self) -> Checkpoint:
        """What is needed to resume from here; whole on rank 0. Of several ranks all must ask."""
        now, p, good = self.learner.snapshot(), self.progress, self.evaluations.good
        gathered = None
        if good.progress.step != self.step:
            state = [self.ranks.gather(s) for s in good.state]
            gathered = dataclasses.replace(good, state=state)
        best, used = self.evaluations.best, self.learner.used.weights.flat
        return Checkpoint(
            now.vectors,
            [self.ranks.gather(s) for s in now.state],
            p,
            config=self.config,
            vocabulary=self.corpus.vocabulary,
            best=used if p.final or not p.best else best,
            good=gathered,
            looked=best if p.final and p.best else None,
        )

    def save(self, last: bool = False) -> None:
        """Write the checkpoint to `output`; the `last` time, elsewhere where that fails."""
        if self.writes:
            checkpoint = self.checkpoint()
            if self.output is not None:
                self.output.write(checkpoint, last)

    # --- the loop ------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the iteration after the step that is being done."""
        self._stop = True

    def __iter__(self) -> Iterator[Event]:
        try:
            with contextlib.nullcontext() if self.output is None else self.output.locked():
                yield from self._steps()
        finally:
            self.learner.shards.close()
            if self.output is not None:
                self.output.lock.release()

    def _steps(self) -> Iterator[Event]:
        learner, alone, plan = self.learner, self.ranks.size == 1, self.plan
        t, began, self._stop = self.config.train, time.monotonic(), False
        limit = math.inf if t.max_time is None else seconds(t.max_time) - self.spent
        saves = SavePolicy(t.save_every, began)

        def over() -> bool:
            """Whether this process wants to end."""
            return self._stop or time.monotonic() - began >= limit

        if self.step == 0 and plan.samples(0):
            yield self._record(sample=learner.sample())
        if self.finished:
            self.save(last=True)
        while not self.finished:
            ends = alone and over()  # before the first step, or asked for since the last one
            stepping, said, votes = not ends, dict[str, Any](), Votes()
            now, lost = time.monotonic(), learner.shards.lost
            if now - began >= WORKERS_AFTER:
                learner.shards.start_workers()
            try:
                if stepping:
                    said, votes = self._do_step(saves.votes(now, over(), self.ranks.rank))
                    ends = votes.end or (alone and over())
                    if self.replan is not None:
                        so_far = self.spent + time.monotonic() - began
                        settings, said["notice"] = self.replan(self.step, so_far)
                        plan = self._change(settings)
                evaluating = stepping and self.step % plan.eval_every == 0
                if evaluating or ends or self.finished:
                    learner.check()  # before anything is kept or saved
                if evaluating:
                    said |= self.evaluations.on_the_way()
                if ends or self.finished:
                    said |= self._end(evaluating)
            except Diverged as e:
                yield self.evaluations.go_back(e, time.monotonic() - began)
                if ends:
                    self._end_diverged(e)
                    return
                continue
            if learner.shards.lost > lost:
                said["notice"] = "a worker process was lost; training continues without it"
            saves.unsaved_best |= said.get("best", False)
            if self.writes and not (ends or self.finished) and saves.due(self.step, votes):
                said |= self._save_on_the_way(saves)
            if stepping and plan.samples(self.step):
                said["sample"] = learner.sample()
            if stepping or "valid" in said:
                yield self._record(time.monotonic() - began, **said)
            if ends:
                return

    # What the parts of the loop return is what a `Record` says of them.

    def _do_step(self, votes: Votes) -> tuple[dict[str, Any], Votes]:
        """A step of the learner; also returns the votes of all ranks."""
        rate = self.plan.learning_rate(self.progress)
        loss, gradient_norm, votes = self.learner.step(votes)
        return {"train": loss, "lr": rate, "gradient_norm": gradient_norm}, votes

    def _change(self, settings: Sequence[Setting]) -> Plan:
        if settings:
            self.plan = self.learner.change(settings)
        return self.plan

    def _end(self, evaluated: bool) -> dict[str, Any]:
        """Save the run at its end, which is evaluated once."""
        said: dict[str, Any] = {}
        if not evaluated and self.progress.since.units:
            if self._stop and self.ranks.size == 1:
                self.save(last=True)  # a second signal ends the process at once
            said = self.evaluations.at_the_end()
        self.save(last=True)
        return {**said, "saved": self.writes}

    def _end_diverged(self, diverged: Diverged) -> None:
        """Save the good state that a run returned to at its end."""
        self.save(last=True)
        if self.step == 0 and not self._stop:
            raise DivergedError(
                f"training diverged at {diverged}; the time is over and nothing is learnt: try a "
                "smaller --set train.lr or train.clip_norm"
            ) from None

    def _save_on_the_way(self, saves: SavePolicy) -> dict[str, Any]:
        """Save; where that fails, training continues. A run that has diverged is not saved: when it
        goes back, its evaluations say and not the time."""
        began, said = time.monotonic(), dict[str, Any](saved=True)
        try:
            self.learner.check()
            self.save()
        except Diverged:
            return {}
        except OutputError as e:
            said = {"notice": f"{e}; training continues"}
        saves.tried(began, time.monotonic())
        return said

    def _record(self, elapsed: float = 0.0, **said: Any) -> Record:
        """A record of a step, or of what happens between two."""
        rate = self.plan.learning_rate(self.progress)
        said = {"train": math.nan, "lr": rate, "gradient_norm": math.nan, **said}
        return Record(self.step, self.epoch, self.chars, elapsed, **said)
