"""How a run goes by its configuration: its size, its limits, its learning rates."""

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

from charlstm.config.schema import Config
from charlstm.errors import UsageError
from charlstm.nn.optimizers import Schedule
from charlstm.storage.progress import Progress
from charlstm.text.units import VOCABULARIES

STEPS_AN_EPOCH = 50
"""Streams are made fewer until an epoch has as many steps: a small corpus needs them."""

SHARD_STREAMS = 64
"""Streams of a shard at most, where the number of shards is not given."""

AUTO_EPOCHS, AUTO_STEPS = 20, 2000
"""How long training lasts by default: so many epochs, but at least so many steps."""

SMALLER = 0.5
"""Factor of the learning rate from each return to a good state on."""


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
        reading = f"{batch} stream{'s' * (batch > 1)} of {length} steps"
        reading += f" instead of {t.batch} of {t.length}"
        notice = f"{characters:,} {config.text.name}s to train on: reading {reading}"
    return dataclasses.replace(config, train=train), notice


def embedding_start(config: Config) -> float | None:
    """Standard deviation of what characters are looked up as in a new model; None for one-hot input
    that the configuration says nothing of: its weights begin like others.

    What a layer reads of characters should be as large as what it reads of a state. Most words are
    rare: of these a large start is noise that is hardly ever trained away. Tied to the output,
    the rows begin with length 1.
    """
    m = config.model
    if m.embedding_start is not None:
        return m.embedding_start
    if not m.embedding:
        return None
    if m.tie:
        return 1.0 / math.sqrt(m.embedding)
    return 0.01 if VOCABULARIES[config.text.unit].mostly_rare else 1.0


@dataclass(frozen=True)
class Plan:
    """The size, the limits and the rates of a run."""

    config: Config  # fitted to the corpus
    train: int  # units that are trained on
    held_out: bool  # whether there is text to evaluate on
    ranks: int

    @property
    def streams(self) -> int:
        """Of all ranks."""
        return self.config.train.batch * self.ranks

    @property
    def units_a_step(self) -> int:
        return self.streams * self.config.train.length

    @property
    def total_steps(self) -> int | None:
        """Steps after which training ends at the latest, not counting `max_time`."""
        t = self.config.train
        ends = [] if t.steps is None else [t.steps]
        if t.epochs is not None:
            ends.append(math.ceil(int(t.epochs) * self.train / self.units_a_step))
        return min(ends, default=None)

    @property
    def eval_every(self) -> int:
        """Steps from one evaluation to the next."""
        epoch = max(1, self.train // self.units_a_step) if self.held_out else 1000
        return self.config.train.eval_every or min(epoch, 1000)

    def samples(self, step: int) -> bool:
        """Whether a sample is to be shown after this step."""
        t = self.config.train
        every = t.sample_every is not None and step > 0 and step % t.sample_every == 0
        return every or step in t.sample_at

    def chars(self, step: int) -> int:
        """Units that this number of steps reads, at the present streams and length."""
        return step * self.units_a_step

    def epoch(self, step: int) -> float:
        """Passes over the training text in this number of steps."""
        return self.chars(step) / self.train

    def finished(self, progress: Progress) -> str | None:
        """Why training is at its end; None while it is not."""
        t = self.config.train
        if t.steps is not None and progress.step >= t.steps:
            return f"{t.steps:,} steps done"
        if t.epochs is not None and self.epoch(progress.step) >= int(t.epochs):
            return f"{t.epochs} epochs done"
        if self.held_out and t.patience is not None and progress.looks >= t.patience:
            return f"held-out loss has not fallen for {t.patience} looks"
        return None

    @cached_property
    def schedule(self) -> Schedule:
        """Raises `UsageError` for a cosine of a run without an end."""
        t = self.config.train
        if t.schedule == "cosine" and self.total_steps is None:
            what = "train.schedule is cosine, which must know how many steps there will be"
            raise UsageError(f"{what}; give --steps or --epochs")
        return Schedule(
            *(t.schedule, t.lr, t.lr_min, t.warm_up),
            *(t.lr_decay, t.lr_decay_after, t.lr_divide, self.total_steps),
            hold=t.hold,
        )

    def learning_rate(self, progress: Progress) -> float:
        """The learning rate of the next step."""
        epoch = self.chars(progress.step) // self.train
        rate = self.schedule.learning_rate(progress.step, epoch, progress.setbacks)
        return rate * SMALLER ** len(progress.rollbacks)
