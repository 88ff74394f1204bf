"""What `-c auto` chooses: the rules by which a configuration follows from the size of a text, its
vocabulary, the lengths of its lines, and the number of operations that a machine gets done in the
time. They are fitted to the runs in `tests/benchmarks/auto_table.csv`, which `auto_table.py` beside
it makes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from charlstm.config.schema import Config, Setting
from charlstm.scoring.held_out import LIMIT
from charlstm.storage.checkpoint import network_shape
from charlstm.text.corpus import Corpus
from charlstm.training.plan import fitted
from charlstm.training.shards import cores


class Kind(NamedTuple):
    """How a kind of text is read."""

    read: tuple[int, int]
    read_short: tuple[int, int]
    few_steps: int
    """Streams and the length of their segments; and both where a run would have fewer steps."""
    enough_steps: int
    """Streams double, up to `MOST_STREAMS`, while a run still has so many steps: more streams are
    read faster, but fewer steps learn less."""
    units_a_weight: float
    """Units to read for each weight that a unit meets below the output. With fewer a large network
    stays untrained; with more a larger one would learn better in the same time."""
    rate: float
    """AdamW's learning rate, up to where the cosine begins; of a network wider than `NARROW`, times
    the ratio of the two. Prose at 0.02 diverged with a network of 768, and one of 512 was best."""
    decay: float
    """The least weight decay."""
    averaged: float
    """The average of the weights goes over a share of 1 / `averaged` of all steps."""
    evaluations: int
    evaluating: float
    """The most evaluations, and the share of the time that they take at most, unless there is only
    the last."""


PROSE = Kind(
    read=(32, 64),
    read_short=(32, 32),
    few_steps=1500,
    enough_steps=5000,
    units_a_weight=10.0,
    rate=0.02,
    decay=0.0,
    averaged=20.0,
    evaluations=20,
    evaluating=0.04,
)

WORDS = PROSE._replace(read=(16, 64), read_short=(16, 32))
"""6.13 nats a word of Shakespeare in a minute, 6.34 with as many streams as for characters."""

RECORDS = Kind(
    read=(8, 256),
    read_short=(8, 128),
    few_steps=1500,
    enough_steps=10_000,
    units_a_weight=40.0,
    rate=0.006,
    decay=0.1,
    averaged=200.0,
    evaluations=200,
    evaluating=0.2,
)
"""They repeat a form, and hold much that is chance: a lower rate, more steps and a narrower network
learn them better, and nothing is dropped while the text is not scarce. A segment that holds several
of them lets a field be guessed by that of the record before: on the log of a package manager 1.07
nats after two million characters, 1.14 with 16 streams of 64. What is held out is of another time
than what is learnt from, and often the model does better on it that has learnt for a fifth of the
time, or that happens to be less sure of what has changed: so they are evaluated often, and averaged
over few steps.

A quarter of the units start as ones that remember for a segment (`chrono`): so the names of a line
before are learnt early. In a minute that is 0.51 nats on the log of a package manager, 0.71
without; on those of daemons, a service and a web server 0.298, 0.460 and 0.241, and without 0.310,
0.461 and 0.242. More streams are not better in some minutes: 0.466 nats of a log in JSON in 32
streams, 0.456 in 8. Nor are shorter segments in 20 seconds: 0.387 nats on a log of daemons in 16
streams of 64, 0.373 in 8 of 128."""

EVALUATION = 0.4
"""To evaluate a unit takes this share of the time to train on one."""

WIDTHS = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
"""Widths to choose among: multiples of 16 suit the processor. One wide layer was better than two
narrower ones in the same time, wherever both were tried."""

LONG, ALIKE, LOOKED_AT = 32, 0.25, 1_000_000
"""Lines are records, such as those of a log, where they are longer than this, and the deviation of
their length is less than this share of the mean: in so many units at the beginning."""

MOST_STREAMS = 128

FEWEST_STREAMS = 4
"""Streams of a shard: its products are slow with fewer."""

NARROW = 384
"""Width up to which the learning rate is that of the kind of text."""

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

HOLD = 0.2
"""Share of the steps at the full rate."""

MOST_AVERAGE = 0.998
"""Decay of the average of the weights, at most: over some 500 steps."""

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


class Rules:
    """What suits a corpus, whose lines say of which kind it is."""

    def __init__(self, corpus: Corpus, settings: Sequence[Setting]) -> None:
        """What the settings set is not chosen."""
        self.corpus, self.settings = corpus, settings
        self.N, self.V = len(corpus.train), len(corpus.vocabulary)
        keys = {setting.key for setting in settings}
        self.shape_given = not SHAPE.isdisjoint(keys)
        self.sgd = corpus.vocabulary.mostly_rare and OPTIMIZER.isdisjoint(keys)
        self.kind = RECORDS if self._of_records() else WORDS if self.sgd else PROSE
        given = {setting.key for setting in settings if setting.value is not None}
        self.planned = given.isdisjoint(f"train.{key}" for key in PLANNED)
        """Whether the run may be planned anew on its way."""
        self.may_drop_weights = self.kind is RECORDS and "model.weight_drop" not in keys
        """Whether recurrent weights may be dropped on the run's way."""
        self.reasons = list[str]()
        if self.kind is RECORDS:
            self.reasons.append("the lines, of like length, are taken for records")

    def configuration(self, keys: dict[str, Any]) -> Config:
        """The configuration of what was chosen, with the settings over it."""
        chosen = [Setting(key, value, "auto") for key, value in keys.items()]
        return Config().updated([*chosen, *self.settings])

    def network(self, budget: float) -> dict[str, Any]:
        """Network and training for so many operations, with the number of steps left open: the
        widest network which these let read `units_a_weight`. How much is dropped depends on the
        scarcity of text: the product of the epochs and of weights for each unit of the text."""
        kind, scarcity = self.kind, budget / (6.0 * self.N**2)
        alphabet = scarcity > SCARCE and self.V <= ALPHABET
        tied = (alphabet or self.corpus.vocabulary.mostly_rare) and not self.shape_given
        for width in reversed(WIDTHS):
            network: dict[str, Any] = {"model.hidden": width}
            if tied:
                network |= {"model.embedding": width, "model.tie": True}
            config = self.configuration(network)
            cost, width = operations(config, self.V), max(network_shape(config, self.V).widths)
            if budget / cost >= kind.units_a_weight * (cost / 6 - width * self.V):
                break
        if not (config.model.embedding or self.corpus.vocabulary.mostly_rare):
            network["model.embedding_start"] = ONE_HOT_START
        streams, length = kind.read
        units = budget / cost
        if units < streams * length * kind.few_steps:
            streams, length = kind.read_short
        else:
            while streams < MOST_STREAMS and units >= 2 * streams * length * kind.enough_steps:
                streams *= 2
        if kind is RECORDS:
            network["model.chrono"] = length
        epochs = units / self.N
        spare = min(1.0, math.sqrt(width / WIDE * max(1.0, epochs / EPOCHS)))
        doublings = math.log2(max(1.0, scarcity) if kind is RECORDS else 1.0 + scarcity)
        dropout = spare * min(MOST_TIED if tied else MOST_DROPOUT, DROPOUT * doublings)
        beyond = math.log2(max(1.0, scarcity / (PLENTY_TIED if tied else PLENTY)))
        self.reasons.append(
            f"{budget / 1e12:,.1f} TFLOP train {cost / 6:,.0f} weights on {units:,.0f} "
            f"units, {epochs:.1f} epochs; scarcity {scarcity:.1f}"
        )
        return {
            **network,
            "model.dropout": round(dropout, 2),
            "model.weight_drop": round(min(MOST_WEIGHT_DROP, WEIGHT_DROP * beyond), 2),
            "model.variational": True,
            "train.optimizer": "adamw",
            "train.lr": round(kind.rate * min(1.0, NARROW / width), 4),
            "train.weight_decay": max(kind.decay, spare * min(MOST_DECAY, DECAY * doublings)),
            "train.batch": streams,
            "train.length": length,
            "train.shards": max(1, min(cores(), streams // FEWEST_STREAMS)),
            "train.clip_norm": 1.0,
            "train.epochs": None,
            "train.patience": None,
            **(SGD if self.sgd else {}),
        }

    def steps(self, config: Config, units: float) -> dict[str, Any]:
        """The number of steps that read so many units, evaluations included, and what depends on
        it."""
        t, kind = fitted(config, self.N)[0].train, self.kind
        of_a_step, evaluation = t.batch * t.length, self.evaluation
        most = kind.evaluating * units / max(1.0, evaluation)
        evaluations = max(1, min(kind.evaluations, int(most)))
        steps = max(1, int((units - evaluations * evaluation) / of_a_step))
        steps = t.steps or math.ceil(int(t.epochs or 0) * self.N / of_a_step) or steps
        every = math.ceil(steps / evaluations)
        return {
            "train.steps": steps,
            "train.eval_every": every,
            "train.schedule": "cosine",
            "train.warm_up": min(WARM_UP, steps // 10),
            "train.hold": int(HOLD * steps) if self.planned else 0,
            "train.weight_decay": round(min(t.weight_decay, DECAYS / (t.lr * steps)), 4),
            "train.average": round(max(0.0, min(MOST_AVERAGE, 1.0 - kind.averaged / steps)), 4),
        }

    @property
    def evaluation(self) -> float:
        """Units that could be trained on in the time of an evaluation."""
        return EVALUATION * min(len(self.corpus.valid), LIMIT)

    def _of_records(self) -> bool:
        """Whether the lines of the text are records."""
        ends = np.flatnonzero(self.corpus.train[:LOOKED_AT] == self.corpus.vocabulary.line_end)
        lengths = np.diff(ends)
        return len(lengths) > 1 and bool(
            np.mean(lengths) > LONG and np.std(lengths) < ALIKE * np.mean(lengths)
        )


def operations(config: Config, V: int) -> int:
    """Floating-point operations of training on one unit: two for each weight that it meets on the
    way forward and four on the way back. A row that is looked up costs none."""
    shape = network_shape(config, V)
    looked_up = [] if shape.tie else ["E" if shape.embedding else "layer0.Wx"]
    return 6 * (shape.size - sum(math.prod(shape.weights[name]) for name in looked_up))
