"""What learns: the weights of a run and all else that a step changes."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from charlstm.config.schema import Setting
from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.numbers import key_of
from charlstm.generation.sampler import Sampler
from charlstm.nn.arrays import Array
from charlstm.nn.dropout import Drops
from charlstm.nn.optimizers import OPTIMIZERS, SPARSE, clip_norm_, clip_value_, norm
from charlstm.nn.shape import State
from charlstm.scoring.held_out import HeldOut
from charlstm.storage.checkpoint import Checkpoint, Snapshot, network_shape, snapshot_groups
from charlstm.text.corpus import Corpus, Streams
from charlstm.training.events import Divergence
from charlstm.training.plan import Plan
from charlstm.training.ranks import Alone, Votes
from charlstm.training.shards import Job, Shards, cores


class Diverged(Exception):
    """Training diverged."""

    def __init__(self, step: int, what: str, how: str = "is not finite") -> None:
        """`what` was seen after `step` steps, or in the one that would have been that; `how` says
        what is wrong with it."""
        super().__init__(f"step {step}: {what} {how}")
        self.divergence = Divergence(step, what, how != "is not finite")


class Learner:
    """The weights, their average, the optimizer, the streams of this rank with their state, and
    the progress."""

    def __init__(self, corpus: Corpus, checkpoint: Checkpoint, plan: Plan, ranks: Alone) -> None:
        self.plan, self.ranks, self.vocabulary = plan, ranks, corpus.vocabulary
        t, m, p = plan.config.train, plan.config.model, checkpoint.progress
        self.progress = p
        mine = self.mine = slice(ranks.rank * t.batch, (ranks.rank + 1) * t.batch)
        """Which of all streams are those of this rank."""
        self.held_out: HeldOut | None = None
        if plan.held_out:
            charged = corpus.vocabulary.charged
            self.held_out = HeldOut.of(corpus.valid, plan.streams, charged=charged)
        self.shards = self._shards()
        self.shards.weights[...] = checkpoint.last
        for s, before in zip(self.state, checkpoint.state, strict=True):
            s[...] = before[mine]
        self.gradient = self.shards.gradient
        self.model = checkpoint.model(self.shards.weights)
        self.average = checkpoint.average
        self.used = self.model if self.average is None else self.model.with_weights(self.average)
        """The model that is evaluated, kept and used."""
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = p.random
        self.streams = Streams(corpus.train, plan.streams, t.length, p.position, mine)
        rule = OPTIMIZERS[t.optimizer]
        settings = {name: getattr(t, name) for name in rule.settings}
        self.optimizer = rule(self.model.weights.flat, p.step, **settings)
        for name, flat in checkpoint.optimizer.items():
            self.optimizer.state[name][...] = flat
        # a segment that has few of the characters has a gradient for few rows of the first
        # weights, Wx or the embedding, unless that is the output's too
        few = ranks.size == 1 and SPARSE * t.batch * t.length <= self.model.V
        self.sparse = few and self.optimizer.sparse and not m.tie
        unknown = corpus.vocabulary.unknown
        self.dropped_to = np.array([unknown] if m.input_drop and unknown >= 0 else [], np.intp)

    def _shards(self) -> Shards:
        t = self.plan.config.train
        held_out = None if self.held_out is None else self.held_out.part(self.mine)
        job = Job(
            network_shape(self.plan.config, len(self.vocabulary)),
            *(t.length, t.batch, int(t.shards)),
            *((0, 0) if held_out is None else (len(held_out.ids), held_out.warm_up)),
            first=self.ranks.rank == 0,
            drops=self._drops(),
            seed=t.rng_seed,
            stream=self.mine.start,
        )
        workers = cores() // self.ranks.neighbours if t.workers == "auto" else int(t.workers)
        return Shards(job, workers, held_out)

    def _drops(self) -> Drops:
        m, unknown = self.plan.config.model, self.vocabulary.unknown
        return Drops(m.dropout, m.variational, m.weight_drop, m.input_drop, unknown)

    def change(self, settings: Sequence[Setting]) -> Plan:
        """Continue with some settings changed, of those that change no array; return the plan."""
        config = self.plan.config.updated(settings)
        self.plan = dataclasses.replace(self.plan, config=config)
        if (drops := self._drops()) != self.shards.job.drops:
            self.shards.drop(drops)
        return self.plan

    @property
    def state(self) -> State:
        """The recurrent state of the streams of this rank."""
        return self.shards.state

    @np.errstate(over="ignore", invalid="ignore")  # found, and reported
    def step(self, votes: Votes) -> tuple[float, float, Votes]:
        """Learn from one segment of every stream. Returns the loss in nats per unit, before the
        update, the norm of the gradient, before clipping, and the votes of all ranks. Raises
        `Diverged`, before the update, where one of these numbers is not finite."""
        plan, segment = self.plan, self.streams.next()  # (T + 1, B)
        self._reset_streams()
        mean_over = plan.units_a_step if plan.config.train.loss == "mean" else plan.streams
        nats = self.shards.train(segment, 1.0 / mean_over, self.progress.step)
        self.ranks.add_(self.gradient)
        nats, votes = self.ranks.exchange(nats, votes)
        length = self._clip(nats)
        self._update(segment)
        self.progress.count_step(nats, plan.units_a_step)
        self._move_average()
        return nats / plan.units_a_step, length, votes

    def _reset_streams(self) -> None:
        """Set the state of some streams to zero, as it is where a text begins.

        A model that was only ever carried on can fall into a state it never leaves when it is
        started anywhere else: seen as single streams of held-out text at 12 nats a character
        beside others at 3.
        """
        if reset := self.plan.config.train.reset:
            chosen = (self.rng.random(self.plan.streams) < reset)[self.mine]
            for s in self.state:
                s[chosen] = 0.0

    def _clip(self, nats: float) -> float:
        """Clip the gradient; return its norm before. Raises `Diverged` where that, or the loss, is
        not finite."""
        t, gradient = self.plan.config.train, self.gradient
        length = norm(gradient)
        if not (math.isfinite(nats) and math.isfinite(length)):
            self.check()
            what = "the loss"
            if math.isfinite(nats):
                gradients = self.model.weights.like(gradient).items()
                sick = (f" of {name}" for name, array in gradients if not np.isfinite(array).all())
                what = "the gradient" + next(sick, "")
            raise Diverged(self.progress.step + 1, what)
        if t.clip_norm is not None:
            clip_norm_(gradient, t.clip_norm, length)
        if t.clip_value is not None:
            clip_value_(gradient, t.clip_value)
        return length

    def _update(self, segment: Array) -> None:
        weights, rate = self.model.weights.flat, self.plan.learning_rate(self.progress)
        if self.sparse:
            rows = np.union1d(segment[:-1], self.dropped_to)
            self.optimizer.sparse_step_(weights, self.gradient, rate, self.model.rows_shape, rows)
        else:
            self.optimizer.step_(weights, self.gradient, rate)

    def _move_average(self) -> None:
        """Move the average towards the weights. The gradient is scratch."""
        if self.average is not None:
            # over about ten steps at first, so that the first weights are soon forgotten
            step = self.progress.step
            decay = min(self.plan.config.train.average, step / (step + 10))
            np.subtract(self.model.weights.flat, self.average, out=self.gradient)
            self.gradient *= 1.0 - decay
            self.average += self.gradient

    def snapshot(self) -> Snapshot:
        """Where this rank stands: the arrays themselves, no copies."""
        self.progress.random = self.rng.bit_generator.state
        self.progress.position = self.streams.position
        average = [] if self.average is None else [self.average]
        vectors = [self.model.weights.flat, *average, *self.optimizer.state.values()]
        named = dict(zip(snapshot_groups(self.plan.config), vectors, strict=True))
        return Snapshot(named, self.state, self.progress)

    def restore(self, good: Snapshot) -> None:
        """Return to a state of this rank."""
        now = self.snapshot()
        now.copy_(good)
        p = self.progress = now.progress
        self.rng.bit_generator.state = p.random
        self.streams.position = p.position
        self.optimizer.steps = p.step

    def check(self) -> None:
        """Raise `Diverged` where an array of any rank holds a number that is not finite."""
        vectors = {"the weights": self.model.weights.flat}
        vectors |= {f"the {name} of": flat for name, flat in self.optimizer.state.items()}
        if self.average is not None:
            vectors["the average of"] = self.average
        named = {
            f"{kind} {name}": array
            for kind, flat in vectors.items()
            for name, array in self.model.weights.like(flat).items()
        }
        names = (f"the state {name}" for name in self.model.shape.states)
        named |= zip(names, self.state, strict=True)
        sick = np.array([not np.isfinite(array).all() for array in named.values()], np.float64)
        self.ranks.add_(sick)  # they have different states, and must do the same
        if sick.any():
            raise Diverged(self.progress.step, list(named)[int(np.argmax(sick > 0))])

    @np.errstate(over="ignore", invalid="ignore")  # found, and reported
    def measure(self) -> float | None:
        """Held-out loss in nats per unit of the weights as they are now; None without held-out
        text. Of several ranks all must ask."""
        if self.held_out is None:
            return None
        nats = np.array([self.shards.measure(self.used.weights.flat)])
        self.ranks.add_(nats)
        return float(nats[0]) / self.held_out.characters

    def sample(self) -> str:
        """What `sample` would print from the model as it is now, by the configuration's section of
        that name. It draws from numbers of its own, so that looking on changes nothing."""
        s, v = self.plan.config.sample, self.vocabulary
        seed = v.normalised(s.seed)
        key = key_of([self.plan.config.train.rng_seed, self.progress.step])
        sampler = Sampler(self.used, v, key, Sampling.of(s, v, None, "replace"))
        seeds = [Seed(v.encode_strictly(seed, "sample.seed"), seed)] * s.count
        return "\n".join((seed if s.echo else "") + c.text for c in sampler(seeds))
