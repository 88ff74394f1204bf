"""Configuration: YAML files and single settings become frozen dataclasses, strictly.

A configuration has five sections of flat keys. Every key is declared once, below, with its
default and with what it may be; anything else is a `ConfigError` that names the file, the line
and the key. The YAML that is understood is small on purpose: mappings, lists and scalars, with
the numbers of YAML 1.2 (`1e-3` is a number, `no` is a word), and without anchors, aliases and tags.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from charlstm.config.fields import (
    choice,
    count_check,
    duration_check,
    encoding_check,
    epochs_check,
    flag,
    hidden_check,
    integer,
    interval_check,
    key,
    number,
    steps_check,
    text_check,
    texts_check,
)
from charlstm.config.yaml_subset import shown
from charlstm.errors import ConfigError

UNIT_NAMES = {"char": "character", "byte": "byte", "word": "word"}
"""The units of text, and what each is called."""


@dataclass(frozen=True)
class TextConfig:
    """How files become units: characters, bytes or words."""

    unit: str = choice("char", *UNIT_NAMES)
    encoding: str = key("utf-8", "the name of a text encoding, such as utf-8", encoding_check)
    """Of every file that is read; where the unit is the byte, files are not decoded."""
    normalize: str = choice("none", "none", "nfc", "nfd", "nfkc")
    """Unicode's normal form that everything read is brought into."""
    min_count: int = integer(1, 1)
    """Units that stand in the corpus less often are left out of the vocabulary …"""
    max_vocabulary: int | None = integer(None, 2)
    """… and all but the most frequent, so that it has no more entries than this; of equally
    frequent units those of lower code points stay."""
    valid: float = number(0.1, 0.0, 0.9)
    """Share of the text that is held out of training."""
    split: str = choice("tail", "tail", "lines")
    """Which part that is: the text's end; or, of lines that stand for themselves, some of them,
    after `train.rng_seed` has shuffled all."""

    @property
    def name(self) -> str:
        """What a unit is called."""
        return UNIT_NAMES[self.unit]


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    cell: str = choice("lstm", "lstm", "gru", "rnn")
    hidden: int | tuple[int, ...] = key(
        100, "a whole number from 1 to 65536, or a list of one for each layer", hidden_check
    )
    """Width of the hidden state, of all layers or of each, the lowest first."""
    layers: int = integer(1, 1, 64)
    embedding: int = integer(0, 0, 65536)
    """Width of a vector that is learnt for each character; 0: one-hot input."""
    tie: bool = flag(False)
    """Whether the output weights are the embedding."""
    dropout: float = number(0.0, 0.0, 0.99)
    """Share of the values that are dropped while training: of the embedding, between the layers
    and above them, not along time; one-hot input is not dropped (see `input_drop`)."""
    variational: bool = flag(False)
    """Whether dropout drops the same values in all steps of a segment."""
    weight_drop: float = number(0.0, 0.0, 0.99)
    """Share of the recurrent weights that are dropped, for a whole segment, while training."""
    input_drop: float = number(0.0, 0.0, 0.99)
    """Share of the characters that count as unknown when they are read while training."""
    forget_bias: float = number(1.0, -100.0, 100.0)
    start: str = choice("uniform", "uniform", "normal")
    """From what the first weights are drawn; see `Model.initialise`."""
    embedding_start: float | None = number(None, 0.0, 100.0, above=True)
    """Standard deviation of the first embedding; null: 1 for characters and bytes, 0.01 for words,
    of which the rare ones are hardly ever trained, and 1 / sqrt(width) where it is tied."""


@dataclass(frozen=True)
class TrainConfig:
    """The training."""

    optimizer: str = choice("adagrad", "adagrad", "sgd", "rmsprop", "adam", "adamw")
    rms_decay: float = number(0.95, 0.0, 0.999999)
    """RMSprop's decay of its mean of squared gradients."""
    beta1: float = number(0.9, 0.0, 0.999999)
    """Adam's decay of its mean gradient."""
    beta2: float = number(0.999, 0.0, 0.999999)
    """Adam's decay of its mean of squared gradients."""
    weight_decay: float = number(0.0, 0.0)
    """AdamW's shrinking of all weights in each step, in proportion to the learning rate."""
    lr: float = number(0.1, 0.0, above=True)
    schedule: str = choice("constant", "constant", "exponential", "cosine", "plateau")
    """How the learning rate goes on from `lr`; see `optimizers.Schedule`."""
    warm_up: int = integer(0, 0)
    """Steps over which the learning rate first rises from zero, under every schedule."""
    lr_min: float = number(0.0, 0.0)
    """Where the cosine ends and the other schedules stop falling: a rate, not a share of `lr`."""
    lr_decay: float = number(0.97, 0.0, 1.0, above=True)
    """Factor of the exponential schedule for each epoch …"""
    lr_decay_after: int = integer(1, 1)
    """… after so many at the full rate."""
    lr_divide: float = number(4.0, 1.0)
    """Divisor of the plateau schedule at every look at the held-out text without a new best."""
    batch: int = integer(32, 1, 65536)
    """Streams of text that are read side by side."""
    length: int = integer(50, 1, 65536)
    """Steps of time over which gradients flow back."""
    shards: int | str = key("auto", "a whole number from 1 up or auto", count_check)
    """Groups of streams whose gradients are made apart and added in order; auto: two from 32
    streams up, and more where they would have over 64 streams each. Part of the run: another
    number gives other roundings."""
    workers: int | str = key("auto", "a whole number from 1 up or auto", count_check)
    """Processes that share the shards; auto: as many as there are cores. Changes no result."""
    reset: float = number(0.02, 0.0, 1.0)
    """Probability, for each stream before each segment, of starting afresh from a zero state."""
    average: float = number(0.99, 0.0, 0.999999)
    """Decay of the running average of the weights that is measured, kept and used; 0: none."""
    loss: str = choice("mean", "mean", "sum")
    """What the gradient is of: the mean over the segment's characters, or their sum over time
    (and mean over streams), as in the classic scripts, where `clip_value` is meant for it."""
    clip_norm: float | None = number(None, 0.0, above=True)
    clip_value: float | None = number(None, 0.0, above=True)
    epochs: int | str | None = key("auto", "a whole number from 1 up, auto or null", epochs_check)
    """Passes over the text; auto: 20, or as many as make 2000 steps of a small corpus."""
    steps: int | None = integer(None, 1)
    max_time: str | None = key(None, "a duration such as 90s, 10m or 2h, or null", duration_check)
    patience: int | None = integer(None, 1)
    """Evaluations without a new best after which training stops."""
    eval_every: int | None = integer(None, 1)
    """Steps between two looks at the held-out text; null: an epoch, at most 1000 steps."""
    save_every: int | str = key("60s", "a number of steps or a duration", interval_check)
    sample_every: int | None = integer(None, 1)
    sample_at: tuple[int, ...] = key((), "a list of steps", steps_check)
    rng_seed: int = integer(0, 0, 2**63 - 1)


@dataclass(frozen=True)
class SampleConfig:
    """The generating of text."""

    temperature: float = number(0.8, 0.0)
    seed: str = key("", "a text", text_check)
    """What is continued where no seed is given."""
    length: int = integer(200, 0)
    top_k: int = integer(0, 0)
    top_p: float = number(1.0, 0.0, 1.0, above=True)
    stop: tuple[str, ...] = key((), "a list of texts that are not empty", texts_check)
    count: int = integer(1, 1, 65536)
    echo: bool = flag(True)
    """Whether the seed is printed before its continuation."""


@dataclass(frozen=True)
class EvaluateConfig:
    """The scoring of text."""

    lines: bool = flag(False)
    """Whether every line is scored by itself."""
    json: bool = flag(False)


@dataclass(frozen=True)
class Config:
    """A whole configuration."""

    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig(clip_norm=5.0, patience=10)
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections and keys as plain values that JSON and YAML can hold."""
        return {
            section: {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()}
            for section, keys in dataclasses.asdict(self).items()
        }

    def updated(self, settings: Iterable[Setting]) -> Config:
        """This configuration with some keys set; later settings win over earlier ones."""
        values = dataclasses.asdict(self)
        settings = list(settings)
        for setting in settings:
            section, _, name = setting.key.partition(".")
            values[section][name] = _checked(setting)

        def at_fault(*keys: str) -> str:
            found = (setting.where for setting in reversed(settings) if setting.key in keys)
            return next(found, "configuration")

        config = Config(*(type(getattr(self, s))(**values[s]) for s in values))
        m = config.model
        if isinstance(m.hidden, tuple) and len(m.hidden) != m.layers:
            n = len(m.hidden)
            raise ConfigError(
                f"{at_fault('model.hidden', 'model.layers')}: model.hidden has {n} "
                f"width{'s' * (n > 1)} for {m.layers} layer{'s' * (m.layers > 1)}; "
                f"set model.layers={n}, or one width for all layers"
            )
        if m.tie and not m.embedding:
            raise ConfigError(
                f"{at_fault('model.tie', 'model.embedding')}: model.tie is the embedding's use "
                "for the output, and there is none; set model.embedding, such as 100"
            )
        return config


class Setting(NamedTuple):
    """One value for one key (`section.name`) and where it was written."""

    key: str
    value: Any
    where: str


def _keys() -> dict[str, dataclasses.Field[Any]]:
    return {
        f"{section.name}.{key.name}": key
        for section in dataclasses.fields(Config)
        for key in dataclasses.fields(section.default)  # type: ignore[arg-type]
    }


KEYS = _keys()
"""Every key, `section.name`, with the dataclass field that declares it."""

SECTIONS = tuple(section.name for section in dataclasses.fields(Config))


def unknown(where: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if "." in name:  # the right name in the wrong section, or none
        near = [k for k in known if k.endswith("." + name.rpartition(".")[2])][:1] or near
    listed = f"known are {', '.join(known)}" if len(known) <= 10 else "see configs/default.yaml"
    hint = f"did you mean {near[0]}?" if near else listed
    return ConfigError(f"{where}: unknown {what} {shown(name)}; {hint}")


def check(settings: Iterable[Setting]) -> None:
    """Raise `ConfigError` where a setting by itself, whatever it is added to, is wrong."""
    for setting in settings:
        _checked(setting)


def _checked(setting: Setting) -> Any:
    key = KEYS.get(setting.key)
    if key is None:
        raise unknown(setting.where, "key", setting.key, KEYS)
    try:
        return key.metadata["check"](setting.value)
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(
            f"{setting.where}: {setting.key}: expected {key.metadata['expected']}, "
            f"got {shown(setting.value)}"
        ) from None


def from_dict(values: Mapping[str, Mapping[str, Any]], where: str) -> Config:
    """The configuration that `Config.to_dict` gave, checked like any other."""
    if not isinstance(values, Mapping) or not all(isinstance(v, Mapping) for v in values.values()):
        raise ConfigError(f"{where}: expected sections of keys")
    return Config().updated(
        Setting(f"{section}.{key}", value, where)
        for section, keys in values.items()
        for key, value in keys.items()
    )
