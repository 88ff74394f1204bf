"""The keys of a configuration: five frozen sections, each key with its default and its rule.
Anything else is a `ConfigError` that names the place and the key."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from charlstm.config.fields import (
    ACCEPTABLE,
    COUNT,
    DURATION,
    ENCODING,
    EPOCHS,
    FATAL,
    FLAG,
    INTERVAL,
    STEPS,
    STOP_TEXTS,
    TEXT,
    WIDTHS,
    choice,
    integer,
    key,
    nullable,
    number,
)
from charlstm.config.yaml_subset import quoted
from charlstm.errors import ConfigError

UNIT_NAMES = {"char": "character", "byte": "byte", "word": "word"}
"""The units of text, and what each is called."""


@dataclass(frozen=True)
class TextConfig:
    """How files become units: characters, bytes or words."""

    unit: str = key("char", choice(*UNIT_NAMES), ACCEPTABLE)
    """What the model reads and predicts, one after the other."""
    encoding: str = key("utf-8", ENCODING, ACCEPTABLE)
    """Encoding of every file that is read; where the unit is the byte, files are not decoded."""
    normalize: str = key("none", choice("none", "nfc", "nfd", "nfkc"), ACCEPTABLE)
    """Normal form of Unicode into which everything that is read is brought."""
    min_count: int = key(1, integer(1), ACCEPTABLE)
    """Units that stand in the corpus less often are left out of the vocabulary."""
    max_vocabulary: int | None = key(None, nullable(integer(2)), ACCEPTABLE)
    """Most entries of the vocabulary, `<unk>` included: the most frequent units stay, and of
    equally frequent ones those of lower code points."""
    valid: float = key(0.1, number(0.0, 0.9), ACCEPTABLE)
    """Share of the text that is held out of training."""
    split: str = key("tail", choice("tail", "lines"), ACCEPTABLE)
    """Which part is held out: the end of the text (tail), or some of its lines, after
    `train.rng_seed` has shuffled them."""

    @property
    def name(self) -> str:
        """The unit in words."""
        return UNIT_NAMES[self.unit]


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    cell: str = key("lstm", choice("lstm", "gru", "rnn"), FATAL)
    """The recurrent cell."""
    hidden: int | tuple[int, ...] = key(100, WIDTHS, FATAL)
    """Width of the hidden state, of all layers or of each, the lowest first."""
    layers: int = key(1, integer(1, 64), FATAL)
    """Recurrent layers, one on the other."""
    embedding: int = key(0, integer(0, 65536), FATAL)
    """Width of the vector that is learnt for each character; 0: one-hot input."""
    tie: bool = key(False, FLAG, FATAL)
    """Whether the output weights are the embedding."""
    dropout: float = key(0.0, number(0.0, 0.99), ACCEPTABLE)
    """Share of the values that training drops: of the embedding, between the layers and above
    them, not along time; one-hot input is not dropped (see `input_drop`)."""
    variational: bool = key(False, FLAG, ACCEPTABLE)
    """Whether dropout drops the same values in all steps of a segment."""
    weight_drop: float = key(0.0, number(0.0, 0.99), ACCEPTABLE)
    """Share of the recurrent weights that training drops, for a whole segment each time."""
    input_drop: float = key(0.0, number(0.0, 0.99), ACCEPTABLE)
    """Share of the characters that training reads as unknown ones."""
    forget_bias: float = key(1.0, number(-100.0, 100.0), ACCEPTABLE)
    """First value of the bias of an LSTM's forget gate."""
    chrono: int | None = key(None, nullable(integer(3, 1_000_000)), ACCEPTABLE)
    """Steps for which a quarter of an LSTM's units begin to remember, at most. Their first biases
    are then drawn for a time that is long; null: they start like the others."""
    start: str = key("uniform", choice("uniform", "normal"), ACCEPTABLE)
    """Distribution of the first weights: uniform in ±1/sqrt(width), or normal with deviation
    1/sqrt(n) of the n values that they read."""
    embedding_start: float | None = key(None, nullable(number(0.0, 100.0, above=True)), ACCEPTABLE)
    """Standard deviation of the first embedding or, of one-hot input, of the first weights that it
    meets. null: 1 for characters and bytes, 0.01 for words, of which the rare ones are hardly ever
    trained, and 1/sqrt(width) where it is tied; one-hot input as `start` says."""


@dataclass(frozen=True)
class TrainConfig:
    """The training."""

    optimizer: str = key("adagrad", choice("adagrad", "sgd", "rmsprop", "adam", "adamw"), FATAL)
    """Rule that turns a gradient into a step."""
    rms_decay: float = key(0.95, number(0.0, 0.999999), ACCEPTABLE)
    """RMSprop's decay of its mean of squared gradients."""
    beta1: float = key(0.9, number(0.0, 0.999999), ACCEPTABLE)
    """Adam's decay of its mean gradient."""
    beta2: float = key(0.999, number(0.0, 0.999999), ACCEPTABLE)
    """Adam's decay of its mean of squared gradients."""
    weight_decay: float = key(0.0, number(0.0))
    """AdamW's shrinking of all weights in each step, in proportion to the learning rate."""
    lr: float = key(0.1, number(0.0, above=True))
    """Learning rate at the start. 0.1 suits Adagrad; RMSprop and Adam want about 0.002."""
    schedule: str = key("constant", choice("constant", "exponential", "cosine", "plateau"))
    """Course of the learning rate: constant; exponential, by epochs; cosine, down to `lr_min` at
    the last step; plateau, divided where the held-out text brings no new best."""
    warm_up: int = key(0, integer(0))
    """Steps over which the learning rate first rises from zero, under every schedule."""
    hold: int = key(0, integer(0))
    """Steps before which the cosine does not begin to fall."""
    lr_min: float = key(0.0, number(0.0))
    """Rate below which no schedule but `constant` falls, not a share of `lr`."""
    lr_decay: float = key(0.97, number(0.0, 1.0, above=True))
    """Factor of the exponential schedule for each epoch."""
    lr_decay_after: int = key(1, integer(1))
    """Epochs at the full rate before the exponential schedule begins."""
    lr_divide: float = key(4.0, number(1.0))
    """Divisor of the plateau schedule at every evaluation without a new best."""
    batch: int = key(32, integer(1, 65536), FATAL)
    """Streams of text that are read side by side."""
    length: int = key(50, integer(1, 65536), ACCEPTABLE)
    """Steps of time over which gradients flow back."""
    shards: int | str = key("auto", COUNT, ACCEPTABLE)
    """Groups of streams whose gradients are made apart and added in order; auto: two from 32
    streams up, and more where they would have over 64 streams each. Part of the run: another
    number gives other roundings."""
    workers: int | str = key("auto", COUNT)
    """Processes that share the shards; auto: as many as there are cores. Changes no result."""
    reset: float = key(0.02, number(0.0, 1.0), ACCEPTABLE)
    """Probability, for each stream before each segment, of starting afresh from a zero state."""
    average: float = key(0.99, number(0.0, 0.999999), FATAL)
    """Decay of the running average of the weights that is measured, kept and used; 0: none."""
    loss: str = key("mean", choice("mean", "sum"), ACCEPTABLE)
    """Loss whose gradient is taken: the mean over the segment's characters, or their sum over time
    (and mean over streams), as in the classic scripts, for which `clip_value` is meant."""
    clip_norm: float | None = key(5.0, nullable(number(0.0, above=True)))
    """Limit of the gradient's norm; null: none."""
    clip_value: float | None = key(None, nullable(number(0.0, above=True)))
    """Limit of each element of the gradient; null: none."""
    epochs: int | str | None = key("auto", EPOCHS)
    """Passes over the text; auto: 20, or as many as make 2000 steps of a small corpus; null: no
    limit."""
    steps: int | None = key(None, nullable(integer(1)))
    """Limit of steps; null: none."""
    max_time: str | None = key(None, DURATION)
    """Limit of time, reading included; null: none."""
    patience: int | None = key(10, nullable(integer(1)))
    """Evaluations without a new best after which training stops; null: it does not."""
    eval_every: int | None = key(None, nullable(integer(1)))
    """Steps between two evaluations of the held-out text; null: an epoch, at most 1000 steps."""
    save_every: int | str = key("60s", INTERVAL)
    """Steps, or time, between two saves."""
    sample_every: int | None = key(None, nullable(integer(1)))
    """Steps between two samples while training; null: none."""
    sample_at: tuple[int, ...] = key((), STEPS)
    """Steps after which training shows a sample."""
    rng_seed: int = key(0, integer(0, 2**63 - 1), ACCEPTABLE)
    """Number from which every random number of the run comes."""


@dataclass(frozen=True)
class SampleConfig:
    """The generation of text."""

    temperature: float = key(0.8, number(0.0))
    """Below 1 safer, above 1 wilder; 0 takes the likeliest unit each time."""
    seed: str = key("", TEXT)
    """Text to continue where no seed is given."""
    length: int = key(200, integer(0))
    """Units to generate, the seed not counted."""
    top_k: int = key(0, integer(0))
    """Draw from the likeliest so many only; 0: from all."""
    top_p: float = key(1.0, number(0.0, 1.0, above=True))
    """Draw from the likeliest whose probabilities together reach this; 1: from all."""
    stop: tuple[str, ...] = key((), STOP_TEXTS)
    """Texts before which a sample ends."""
    count: int = key(1, integer(1, 65536))
    """Samples, computed side by side."""
    echo: bool = key(True, FLAG)
    """Whether the seed is printed before its continuation."""


@dataclass(frozen=True)
class EvaluateConfig:
    """The scoring of text."""

    lines: bool = key(False, FLAG)
    """Whether every line is scored by itself."""
    json: bool = key(False, FLAG)
    """Whether JSON is printed."""
    adapt: bool = key(False, FLAG)
    """Whether the model learns from a text as it scores it, each part once it is scored."""
    adapt_rate: float = key(5e-4, number(0.0, 1.0))
    """How far a weight moves in a step of that, for a gradient of its usual size."""
    adapt_pull: float = key(0.002, number(0.0, 1.0))
    """Share of the way back to the trained weights that each such step takes."""


@dataclass(frozen=True)
class Config:
    """A whole configuration."""

    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections and keys as plain values that JSON and YAML can hold."""
        return {
            section: {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()}
            for section, keys in dataclasses.asdict(self).items()
        }

    def updated(self, settings: "Iterable[Setting]") -> "Config":
        """This configuration with new values for keys; later settings win over earlier ones."""
        values, settings = dataclasses.asdict(self), list(settings)
        for setting in settings:
            section, _, name = setting.key.partition(".")
            values[section][name] = _checked(setting)
        config = Config(*(type(getattr(self, s))(**values[s]) for s in values))
        _check_together(config, settings)
        return config


class Setting(NamedTuple):
    """One value for one key (`section.name`) and where it was written."""

    key: str
    value: Any
    where: str


SECTIONS = tuple(section.name for section in dataclasses.fields(Config))

KEYS: dict[str, dataclasses.Field[Any]] = {
    f"{section}.{field.name}": field
    for section in SECTIONS
    for field in dataclasses.fields(getattr(Config, section))
}
"""Every key, `section.name`, with the dataclass field that declares it."""


def from_dict(values: Mapping[str, Mapping[str, Any]], where: str) -> Config:
    """The configuration that `Config.to_dict` gave, checked like any other."""
    if not isinstance(values, Mapping) or not all(isinstance(v, Mapping) for v in values.values()):
        raise ConfigError(f"{where}: expected sections of keys")
    return Config().updated(
        Setting(f"{section}.{name}", value, where)
        for section, keys in values.items()
        for name, value in keys.items()
    )


def check(settings: Iterable[Setting]) -> None:
    """Raise `ConfigError` where a setting by itself, whatever it is added to, is wrong."""
    for setting in settings:
        _checked(setting)


def _checked(setting: Setting) -> Any:
    if setting.key not in KEYS:
        raise unknown_name(setting.where, "key", setting.key, KEYS)
    rule = KEYS[setting.key].metadata
    try:
        return rule["check"](setting.value)
    except (ValueError, TypeError, OverflowError):
        wrong = f"expected {rule['expected']}, got {quoted(setting.value)}"
        raise ConfigError(f"{setting.where}: {setting.key}: {wrong}") from None


def _check_together(config: Config, settings: Sequence[Setting]) -> None:
    """Raise `ConfigError` where two keys contradict each other; it names the last that was set."""

    def last(*keys: str) -> str:
        where = (setting.where for setting in reversed(settings) if setting.key in keys)
        return next(where, "configuration")

    m = config.model
    if isinstance(m.hidden, tuple) and len(m.hidden) != m.layers:
        n, where = len(m.hidden), last("model.hidden", "model.layers")
        raise ConfigError(
            f"{where}: model.hidden has {n} width{'s' * (n > 1)} for {m.layers} "
            f"layer{'s' * (m.layers > 1)}; set model.layers={n}, or one width for all layers"
        )
    if m.tie and not m.embedding:
        raise ConfigError(
            f"{last('model.tie', 'model.embedding')}: model.tie is the embedding's use "
            "for the output, and there is none; set model.embedding, such as 100"
        )


def unknown_name(where: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error about a name that is not known, with the nearest one that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if "." in name:  # the right name in the wrong section, or none
        near = [k for k in known if k.endswith("." + name.rpartition(".")[2])][:1] or near
    listing = "charlstm config" if what == "configuration" else "charlstm config default"
    listed = f"known are {', '.join(known)}" if len(known) <= 10 else f"{listing} lists them"
    hint = f"did you mean {near[0]}?" if near else listed
    return ConfigError(f"{where}: unknown {what} {quoted(name)}; {hint}")
