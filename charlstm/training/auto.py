"""The configuration that makes the most of a time: `-c auto`.

A trial of a few seconds measures how many operations this machine gets done in the time. What is
chosen for so many, `rules.py` says.
"""

import math
import time
from collections.abc import Sequence

from charlstm.config.fields import MOST, seconds
from charlstm.config.schema import Config, Setting
from charlstm.errors import UsageError
from charlstm.storage.lock import Lock, Path_
from charlstm.text.corpus import Corpus
from charlstm.text.reading import Notice
from charlstm.training.plan import fitted
from charlstm.training.ranks import ranks
from charlstm.training.rules import FEWEST_STREAMS, MOST_WEIGHT_DROP, Rules, operations
from charlstm.training.run import Training
from charlstm.training.shards import cores

TIME = "10m"
"""The limit of time where none is given."""

FIRST_RATE = 5e10
"""Operations a second of one core: a guess, by which the network of the first trial is chosen."""

NEAR, TRIALS = 1.5, 2
"""A trial is the last where it finds a rate within this factor of the one that its network was
chosen by; and so many there are at most."""

TRIAL, SHORTEST, LONGEST = 0.04, 0.6, 15.0
"""A trial takes this share of the time, but at least and at most so many seconds."""

IN_TIME, SPARE = 0.97, 0.06
"""Share of the time left that steps are planned for; the rest is for a machine that slows down. A
plan that ends in time is kept unless it leaves more than `SPARE` of the whole time unused."""

BY_HEART, STILL, LATEST, CLIP_NORM = 0.1, 2, 2 / 3, 0.25
"""Records are learnt by heart where no evaluation is better in this share of all steps, and in so
many epochs: within one, the loss swings. Weights are then dropped, unless too little is left of the
run to learn without them, and gradients clipped to this norm: steps that are scaled for the small
gradients of before would undo what is learnt, and in 8 streams did."""

CHECKS = 20
"""The number of steps is decided anew at the end of the full rate, by the time that the latter half
of them took. After that it is checked so many times in a run."""


class Auto:
    """Chooses the best configuration for a corpus in the time that `train.max_time` allows."""

    def __init__(self, corpus: Corpus, settings: Sequence[Setting], began: float) -> None:
        """What the settings set is not chosen; the limit of time is among them, and counts from
        `began`, a moment of `time.monotonic`. Raises `UsageError` as `time_limit` does."""
        self.corpus, self.limit = corpus, time_limit(settings)
        self.rules = Rules(corpus, settings)
        self.train = Config().train
        """Of the run, when it has begun."""
        self.end, self.trial = began + self.limit, min(max(TRIAL * self.limit, SHORTEST), LONGEST)
        self.done, self.spent = 0, 0.0
        """Steps done when their number was last decided, and seconds of the limit that had passed
        then."""
        self.steps, self.hold, self.next_check = 0, 0, 0
        """As they are now planned, and the step after which they are checked."""
        self.only_last = False
        """Whether the last weights alone are evaluated."""
        self.summary, self.reasons = "", self.rules.reasons
        """What was chosen, and why, when it has been."""

    @property
    def left(self) -> float:
        """Seconds until the limit, but at least those of a trial."""
        return max(self.trial, self.end - time.monotonic())

    def start(self, output: Path_ | None, lock: Lock | None, notice: Notice) -> Training:
        """Begin a run of what is chosen, and report that beforehand. Raises `UsageError` where no
        time is left for it."""
        config = self.choose()
        if time.monotonic() >= self.end:
            spent = f"auto took all of --max-time {config.train.max_time} to read and try"
            raise UsageError(f"{spent}; give more")
        notice(self.summary)
        training = Training.start(self.corpus, config, output, lock)
        training.reasons = self.reasons
        self.train = t = training.config.train
        self.steps, self.hold, self.next_check = int(t.steps or 0), t.hold, max(1, t.hold // 2)
        self.only_last = (t.eval_every or MOST) >= self.steps

        def replan(step: int, spent: float) -> tuple[list[Setting], str | None]:
            more, notice = self.drop_more(training)
            return [*self.replan(step, spent), *more], notice

        training.replan = replan if self.rules.planned else None
        return training

    def choose(self) -> Config:
        """The configuration, after a trial or two."""
        rules = self.rules
        rate = FIRST_RATE * min(cores(), rules.kind.read[0] // FEWEST_STREAMS)
        for _ in range(TRIALS):
            guess, config = rate, rules.configuration(rules.network(rate * self.left))
            speed = self._speed(config)
            rate = speed * operations(config, rules.V)
            self.reasons.append(
                f"a trial of {described(config)} read {speed:,.0f} {config.text.name}s a second, "
                f"{rate / 1e9:.0f} GFLOP/s where {guess / 1e9:.0f} were expected"
            )
            if guess / NEAR <= rate <= guess * NEAR:
                break
        network = rules.network(rate * self.left)
        config = rules.configuration(network)
        units = IN_TIME * rate * self.left / operations(config, rules.V)
        config = rules.configuration({**network, **rules.steps(config, units)})
        fitting, self.spent = fitted(config, rules.N)[0], self.limit - self.left
        t = fitting.train
        epochs = int(t.steps or 0) * t.batch * t.length / rules.N
        self.summary = f"auto: {described(fitting)}, some {epochs:.3g} epochs in {t.max_time}"
        return config

    def replan(self, step: int, spent: float) -> list[Setting]:
        """What changes so that the steps fill the time, after so many steps and seconds since the
        run was asked for.

        At the end of the full rate the number of steps is decided by the time that the latter half
        of them took: a trial may differ from a run, and the first steps, in which workers start,
        from later ones. After that it changes only where the machine has become so much slower or
        faster that the run would miss its end. Then the rate falls on from where it is; only where
        much time is won does it rise, to that of a run which had planned so many steps.
        """
        if step != self.next_check or step >= self.steps:
            return []
        pace = (spent - self.spent) / (self._work(step) - self._work(self.done))
        self.done, self.spent, left = step, spent, self.limit - spent
        early = left - pace * (self._work(self.steps) + self.rules.evaluation - self._work(step))
        settings = list[Setting]()
        if step == self.hold or (step > self.hold and not 0 <= early <= SPARE * self.limit):
            part = (step - self.hold) / (self.steps - self.hold)  # of the way that the rate falls
            self.steps = self._steps(step, IN_TIME * left / pace - self.rules.evaluation)
            hold = round(self.steps - (self.steps - step) / (1.0 - part))
            self.hold = max(min(self.train.warm_up, step), hold)
            keys = {"train.steps": self.steps, "train.hold": self.hold}
            if self.only_last:
                keys["train.eval_every"] = self.steps
            settings = [Setting(key, value, "auto") for key, value in keys.items()]
        check = step + math.ceil(self.steps / CHECKS)
        self.next_check = self.hold if step < self.hold else check
        return settings

    def drop_more(self, training: Training) -> tuple[list[Setting], str | None]:
        """What changes where a run that reads records has long not become better, and why. It then
        learns by heart what is chance in them, from the state that it carries along; so from there
        on recurrent weights are dropped. Dropped from the beginning, they would keep it from
        learning to repeat the names of the line before: 0.72 nats on the log of a package manager,
        with dropout 0.5 as well, where it reached 0.41."""
        best, dropped = training.progress.best, training.config.model.weight_drop
        if best is None or dropped >= MOST_WEIGHT_DROP or not self.rules.may_drop_weights:
            return [], None
        epoch = self.rules.N / training.plan.units_a_step
        long = max(STILL * epoch, BY_HEART * self.steps)
        if training.step < best.step + long or training.step > LATEST * self.steps:
            return [], None
        how = f"{MOST_WEIGHT_DROP:.0%} of the recurrent weights are dropped from here"
        keys = {"model.weight_drop": MOST_WEIGHT_DROP, "train.clip_norm": CLIP_NORM}
        settings = [Setting(key, value, "auto") for key, value in keys.items()]
        return settings, f"auto: not better since step {best.step:,}; {how}"

    def _steps(self, step: int, units: float) -> int:
        """The number of steps that `units` more of work allow after `step`, at least one."""
        of_a_step, steps = self.train.batch * self.train.length, self.steps
        for _ in range(3):  # how many evaluations there are depends on how many steps
            trained = (steps - step) * of_a_step
            evaluating = self._work(steps) - self._work(step) - trained
            steps = step + max(1, int((units - evaluating) / of_a_step))
        return steps

    def _work(self, steps: int) -> float:
        """Units that so many steps train on, with what the evaluations before the last of these
        take."""
        t = self.train
        evaluations = 0 if self.only_last else max(0, steps - 1) // (t.eval_every or MOST)
        return steps * t.batch * t.length + evaluations * self.rules.evaluation

    def _speed(self, config: Config) -> float:
        """Units a second that training reads, measured for the length of a trial."""
        free = ("steps", "epochs", "max_time", "patience", "sample_every")
        keys = {"schedule": "constant", "eval_every": MOST, "sample_at": (), **dict.fromkeys(free)}
        endless = config.updated(Setting(f"train.{k}", v, "auto") for k, v in keys.items())
        training = Training.start(self.corpus, endless)
        shards, records = training.learner.shards, iter(training)
        shards.start_workers()
        next(records)
        while not all(worker.ready for worker in shards.workers):
            next(records)
        times = [time.monotonic()]
        while len(times) == 1 or times[-1] - times[0] < self.trial:
            next(records)
            times.append(time.monotonic())
        shards.close()
        settled = times[len(times) // 3 :]  # caches and branches are warm
        steps = len(settled) - 1
        return steps * training.plan.units_a_step / max(settled[-1] - settled[0], 1e-9)


def time_limit(settings: Sequence[Setting]) -> float:
    """Seconds that the settings allow. Raises `UsageError` where they set no limit, or several
    ranks train."""
    most = Config().updated(settings).train.max_time
    if most is None:
        raise UsageError("auto chooses for a time, and train.max_time is null; give --max-time")
    if ranks().size > 1:
        raise UsageError("auto chooses for one process and its workers, not for several ranks")
    return seconds(most)


def described(config: Config) -> str:
    """A configuration in a few words."""
    m, t = config.model, config.train
    layers = f"{m.layers} layers" if m.layers > 1 else "a layer"
    what = f"{m.cell.upper()}, {layers} of {m.hidden}"
    if m.embedding:
        what += f", {'tied ' if m.tie else ''}embedding of {m.embedding}"
    return f"{what}, dropout {m.dropout:g}, {t.batch} streams of {t.length}"
