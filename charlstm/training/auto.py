"""The configuration that makes the most of a time: `-c auto`.

What is chosen follows from the size of the text, its vocabulary, and the number of operations that
this machine gets done in the time, which a trial of a few seconds measures. The rules are fitted to
the runs in `tests/benchmarks/auto_table.csv`, which `auto_table.py` beside it makes.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from charlstm.config.fields import MOST, seconds
from charlstm.config.schema import Config, Setting
from charlstm.errors import UsageError
from charlstm.scoring.held_out import LIMIT
from charlstm.storage.checkpoint import network_shape
from charlstm.storage.lock import Lock, Path_
from charlstm.text.corpus import Corpus
from charlstm.text.reading import Notice
from charlstm.training.plan import fitted
from charlstm.training.ranks import ranks
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

EVALUATION, EVALUATIONS, EVALUATING = 0.4, 20, 0.04
"""To evaluate a unit takes this share of the time to train on one. There are so many evaluations
at most, and they take this share of the time at most, unless there is only the last."""

UNITS_A_WEIGHT = 10.0
"""Units to read for each weight that a unit meets below the output. With fewer a large network
stays untrained; with more a larger one would learn better in the same time."""

WIDTHS = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
"""Widths to choose among: multiples of 16 suit the processor. One wide layer was better than two
narrower ones in the same time, wherever both were tried."""

LENGTH, STREAMS, MOST_STREAMS, ENOUGH_STEPS = 64, 32, 128, 5000
"""Steps of a segment, its streams, and their number where a run would still have `ENOUGH_STEPS`:
more streams are read faster, but fewer steps learn less."""

SHORT, FEW_STEPS = 32, 1500
"""The length of a segment where a run would have fewer steps than these, unless the text is one of
records that are longer."""

ALIKE, LOOKED_AT = 0.25, 1_000_000
"""Lines are records, such as those of a log, where they are longer than `SHORT`, and the deviation
of their length is less than this share of the mean: in so many units at the beginning."""

RECORD_RATE, RECORD_DECAY, UNITS_OF_RECORDS = 0.006, 0.1, 40.0
"""Learning rate, least weight decay, and units for each weight, for records. They repeat a form,
and hold much that is chance: a lower rate, more steps and a narrower network learn them better, and
nothing is dropped while the text is not scarce."""

FEWER_STREAMS = 16
"""Streams of records, and of words: 6.13 nats a word of Shakespeare in a minute, 6.34 with 32."""

EVALUATING_RECORDS = 0.1
"""`EVALUATING` for records. Their end is of another time than what is learnt from, and often an
earlier model does better on it: after a fifth of 2,685 steps on the log of a package manager
1.62 bits, after all of them 1.73."""

FEWEST_STREAMS = 8
"""Streams of a shard: with fewer its products are slow."""

LEARNING_RATE, NARROW = 0.02, 384
"""AdamW's, up to where the cosine begins; of a network wider than `NARROW`, times the ratio of the
two. At 0.02 a network of 768 diverged, and one of 512 learned best."""

SGD = {
    "train.optimizer": "sgd",
    "train.lr": 20.0,
    "train.weight_decay": 0.0,
    "train.clip_norm": 0.25,
}
"""By which words are learnt. AdamW moves those that are rare as far as those that are frequent, and
learns them by heart: at best 6.10 nats a word of Shakespeare, where this reached 5.88."""

DECAY, MOST_DECAY, DECAYS = 0.05, 0.15, 6.0
"""Weight decay for each doubling of the scarcity of text, and at most; and the largest product of
rate, decay and steps: with more a network forgets what it learns."""

HOLD, CHECKS = 0.2, 20
"""Share of the steps at the full rate. At their end the number of steps is decided anew, by the
time that the latter half of them took. After that it is checked so many times in a run."""

AVERAGED, MOST_AVERAGE = 20.0, 0.998
"""The average of the weights goes over a share of 1 / `AVERAGED` of all steps, and over 500 steps
at most."""

WARM_UP = 100
"""Steps over which the rate rises, in a run of ten times as many or more."""

DROPOUT, MOST_DROPOUT, MOST_TIED = 0.12, 0.5, 0.4
"""What is dropped more for each doubling of the scarcity of text, from a half on; and the most that
is dropped, also of tied vectors, of which it is dropped at both ends."""

WIDE, EPOCHS = 256, 20
"""A network that is narrower than `WIDE` and reads the text no more than `EPOCHS` times has less to
spare: what is dropped, and the weight decay, are times the root of the ratio of the widths. With
more epochs, that ratio counts in proportion to them."""

SCARCE, ALPHABET = 100.0, 500
"""Where the scarcity of text exceeds this, the characters of an alphabet, which has no more of
them, are read through the vectors by which they are predicted, some of whose values are dropped.
Words, most of which are rare, always are. Else the input is one-hot, which is learnt faster."""

WEIGHT_DROP, MOST_WEIGHT_DROP, PLENTY, PLENTY_TIED = 0.11, 0.5, 20.0, 250.0
"""What is dropped more of the recurrent weights for each doubling of the scarcity of text beyond
`PLENTY`, with a tied embedding beyond `PLENTY_TIED`; and the most."""

SHAPE = {"model.hidden", "model.layers", "model.embedding", "model.tie"}
"""Keys of which none is chosen so that it might contradict another that is set."""

OPTIMIZER = {"train.optimizer", "train.lr"}
"""Where one of them is set, words are learnt by AdamW, too."""

PLANNED = ("steps", "epochs", "hold")
"""Keys of `train`: where one is set, the run is not planned anew on its way."""

ONE_HOT_START = 2.0
"""Deviation of the first weights of one-hot input: with those of other weights it takes AdamW
thousands of steps to tell characters apart."""


class Auto:
    """Chooses the best configuration for a corpus in the time that `train.max_time` allows."""

    def __init__(self, corpus: Corpus, settings: Sequence[Setting], began: float) -> None:
        """What the settings set is not chosen; the limit of time is among them, and counts from
        `began`, a moment of `time.monotonic`. Raises `UsageError` as `time_limit` does."""
        self.corpus, self.settings, self.limit = corpus, settings, time_limit(settings)
        keys = {setting.key for setting in settings}
        self.shape_given = not SHAPE.isdisjoint(keys)
        self.sgd = corpus.vocabulary.mostly_rare and OPTIMIZER.isdisjoint(keys)
        self.train = Config().train
        """Of the run, when it has begun."""
        self.N, self.V = len(corpus.train), len(corpus.vocabulary)
        self.records = self._of_records()
        self.end, self.trial = began + self.limit, min(max(TRIAL * self.limit, SHORTEST), LONGEST)
        given = {setting.key for setting in settings if setting.value is not None}
        self.planned = given.isdisjoint(f"train.{key}" for key in PLANNED)
        self.done, self.spent = 0, 0.0
        """Steps done when their number was last decided, and seconds of the limit that had passed
        then."""
        self.steps, self.hold, self.next_check = 0, 0, 0
        """As they are now planned, and the step after which they are checked."""
        self.only_last = False
        """Whether the last weights alone are evaluated."""
        self.summary, self.reasons = "", list[str]()
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
        training.replan = self.replan if self.planned else None
        return training

    def choose(self) -> Config:
        """The configuration, after a trial or two."""
        if self.records:
            self.reasons.append("the lines, of like length, are taken for records")
        rate = FIRST_RATE * min(cores(), STREAMS // FEWEST_STREAMS)
        for _ in range(TRIALS):
            guess, config = rate, self._with(self._network(rate * self.left))
            speed = self._speed(config)
            rate = speed * operations(config, self.V)
            self.reasons.append(
                f"a trial of {described(config)} read {speed:,.0f} {config.text.name}s a second, "
                f"{rate / 1e9:.0f} GFLOP/s where {guess / 1e9:.0f} were expected"
            )
            if guess / NEAR <= rate <= guess * NEAR:
                break
        keys = self._network(rate * self.left)
        config = self._with(keys)
        units = rate * self.left / operations(config, self.V)
        config = self._with({**keys, **self._end(config, units)})
        fitting, self.spent = fitted(config, self.N)[0], self.limit - self.left
        t = fitting.train
        epochs = int(t.steps or 0) * t.batch * t.length / self.N
        self.summary = f"auto: {described(fitting)}, some {epochs:.3g} epochs in {t.max_time}"
        return config

    def _with(self, keys: dict[str, Any]) -> Config:
        """The configuration of what was chosen, with the settings over it."""
        chosen = [Setting(key, value, "auto") for key, value in keys.items()]
        return Config().updated([*chosen, *self.settings])

    def _network(self, budget: float) -> dict[str, Any]:
        """Network and training for so many operations, with the number of steps left open: the
        widest network which these let read `UNITS_A_WEIGHT` units a weight. How much is dropped
        depends on the scarcity of text: the product of the epochs and of weights for each unit
        of the text."""
        scarcity, records = budget / (6.0 * self.N**2), self.records
        alphabet = scarcity > SCARCE and self.V <= ALPHABET
        tied = (alphabet or self.corpus.vocabulary.mostly_rare) and not self.shape_given
        units_a_weight = UNITS_OF_RECORDS if records else UNITS_A_WEIGHT
        for width in reversed(WIDTHS):
            network: dict[str, Any] = {"model.hidden": width}
            if tied:
                network |= {"model.embedding": width, "model.tie": True}
            config = self._with(network)
            cost, width = operations(config, self.V), max(network_shape(config, self.V).widths)
            if budget / cost >= units_a_weight * (cost / 6 - width * self.V):
                break
        if not (config.model.embedding or self.corpus.vocabulary.mostly_rare):
            network["model.embedding_start"] = ONE_HOT_START
        streams = FEWER_STREAMS if records or self.sgd else STREAMS
        while streams < MOST_STREAMS and budget / cost >= 2 * streams * LENGTH * ENOUGH_STEPS:
            streams *= 2
        length = SHORT if budget / cost < streams * LENGTH * FEW_STEPS else LENGTH
        epochs = budget / cost / self.N
        spare = min(1.0, math.sqrt(width / WIDE * max(1.0, epochs / EPOCHS)))
        rate, decay, doublings = LEARNING_RATE, 0.0, math.log2(1.0 + scarcity)
        if records:
            rate, length, decay = RECORD_RATE, LENGTH, RECORD_DECAY
            doublings = math.log2(max(1.0, scarcity))
        dropout = spare * min(MOST_TIED if tied else MOST_DROPOUT, DROPOUT * doublings)
        beyond = math.log2(max(1.0, scarcity / (PLENTY_TIED if tied else PLENTY)))
        self.reasons.append(
            f"{budget / 1e12:,.1f} TFLOP train {cost / 6:,.0f} weights on {budget / cost:,.0f} "
            f"units, {epochs:.1f} epochs; scarcity {scarcity:.1f}"
        )
        return {
            **network,
            "model.dropout": round(dropout, 2),
            "model.weight_drop": round(min(MOST_WEIGHT_DROP, WEIGHT_DROP * beyond), 2),
            "model.variational": True,
            "train.optimizer": "adamw",
            "train.lr": round(rate * min(1.0, NARROW / width), 4),
            "train.weight_decay": max(decay, spare * min(MOST_DECAY, DECAY * doublings)),
            "train.batch": streams,
            "train.length": length,
            "train.shards": max(1, min(cores(), streams // FEWEST_STREAMS)),
            "train.clip_norm": 1.0,
            "train.epochs": None,
            "train.patience": None,
            **(SGD if self.sgd else {}),
        }

    def _of_records(self) -> bool:
        """Whether the lines of the text are records."""
        ends = np.flatnonzero(self.corpus.train[:LOOKED_AT] == self.corpus.vocabulary.line_end)
        lengths = np.diff(ends)
        return len(lengths) > 1 and bool(
            np.mean(lengths) > SHORT and np.std(lengths) < ALIKE * np.mean(lengths)
        )

    def _end(self, config: Config, units: float) -> dict[str, Any]:
        """The number of steps that read so many units, evaluations included, and what depends on
        it."""
        t = fitted(config, self.N)[0].train
        of_a_step, evaluation = t.batch * t.length, self.evaluation
        share = EVALUATING_RECORDS if self.records else EVALUATING
        evaluations = max(1, min(EVALUATIONS, int(share * units / max(1.0, evaluation))))
        steps = max(1, int((IN_TIME * units - evaluations * evaluation) / of_a_step))
        steps = t.steps or math.ceil(int(t.epochs or 0) * self.N / of_a_step) or steps
        every = math.ceil(steps / evaluations)
        return {
            "train.steps": steps,
            "train.eval_every": every,
            "train.schedule": "cosine",
            "train.warm_up": min(WARM_UP, steps // 10),
            "train.hold": int(HOLD * steps) if self.planned else 0,
            "train.weight_decay": round(min(t.weight_decay, DECAYS / (t.lr * steps)), 4),
            "train.average": round(max(0.0, min(MOST_AVERAGE, 1.0 - AVERAGED / steps)), 4),
        }

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
        early = left - pace * (self._work(self.steps) + self.evaluation - self._work(step))
        settings = list[Setting]()
        if step == self.hold or (step > self.hold and not 0 <= early <= SPARE * self.limit):
            part = (step - self.hold) / (self.steps - self.hold)  # of the way that the rate falls
            self.steps = self._steps(step, IN_TIME * left / pace - self.evaluation)
            hold = round(self.steps - (self.steps - step) / (1.0 - part))
            self.hold = max(min(self.train.warm_up, step), hold)
            keys = {"train.steps": self.steps, "train.hold": self.hold}
            if self.only_last:
                keys["train.eval_every"] = self.steps
            settings = [Setting(key, value, "auto") for key, value in keys.items()]
        check = step + math.ceil(self.steps / CHECKS)
        self.next_check = self.hold if step < self.hold else check
        return settings

    def _steps(self, step: int, units: float) -> int:
        """The number of steps that `units` more of work allow after `step`, at least one."""
        of_a_step, steps = self.train.batch * self.train.length, self.steps
        for _ in range(3):  # how many evaluations there are depends on how many steps
            trained = (steps - step) * of_a_step
            evaluating = self._work(steps) - self._work(step) - trained
            steps = step + max(1, int((units - evaluating) / of_a_step))
        return steps

    @property
    def evaluation(self) -> float:
        """Units that could be trained on in the time of an evaluation."""
        return EVALUATION * min(len(self.corpus.valid), LIMIT)

    def _work(self, steps: int) -> float:
        """Units that so many steps train on, with what the evaluations before the last of these
        take."""
        t = self.train
        evaluations = 0 if self.only_last else max(0, steps - 1) // (t.eval_every or MOST)
        return steps * t.batch * t.length + evaluations * self.evaluation

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


def operations(config: Config, V: int) -> int:
    """Floating-point operations of training on one unit: two for each weight that it meets on the
    way forward and four on the way back. A row that is looked up costs none."""
    shape = network_shape(config, V)
    looked_up = [] if shape.tie else ["E" if shape.embedding else "layer0.Wx"]
    return 6 * (shape.size - sum(math.prod(shape.weights[name]) for name in looked_up))


def described(config: Config) -> str:
    """A configuration in a few words."""
    m, t = config.model, config.train
    layers = f"{m.layers} layers" if m.layers > 1 else "a layer"
    what = f"{m.cell.upper()}, {layers} of {m.hidden}"
    if m.embedding:
        what += f", {'tied ' if m.tie else ''}embedding of {m.embedding}"
    return f"{what}, dropout {m.dropout:g}, {t.batch} streams of {t.length}"
