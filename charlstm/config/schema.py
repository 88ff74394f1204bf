"""Configuration: YAML files and single settings become frozen dataclasses, strictly.

A configuration has five sections of flat keys. Every key is declared once, below, with its
default and with what it may be; anything else is a `ConfigError` that names the file, the line
and the key. The YAML that is understood is small on purpose: mappings, lists and scalars, with
the numbers of YAML 1.2 (`1e-3` is a number, `no` is a word), and without anchors, aliases and tags.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from charlstm.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8

UNIT_NAMES = {"char": "character", "byte": "byte", "word": "word"}
"""The units of text, and what each is called."""


class OnResume(Enum):
    """Whether something may differ between a checkpoint and the run that resumes it."""

    FREE = "yes"
    ACCEPTABLE = "if the user accepts it"
    FATAL = "no"


def _fixed(key: Any, on_resume: OnResume = OnResume.ACCEPTABLE) -> Any:
    """A key that is part of the run: it may not change on resume, unless the user accepts that."""
    return field(default=key.default, metadata={**key.metadata, "on_resume": on_resume})


def _shape(key: Any) -> Any:
    """A key that may never change on resume: the arrays of a checkpoint would be others."""
    return _fixed(key, OnResume.FATAL)


# --- what a key may be -------------------------------------------------------------------------


def _key(default: Any, expected: str, check: Callable[[Any], Any]) -> Any:
    """A dataclass field whose values `check` accepts (returning them) or refuses (ValueError)."""
    metadata = {"expected": expected, "check": check, "on_resume": OnResume.FREE}
    return field(default=default, metadata=metadata)


def _number(default: float | None, low: float, high: float = math.inf, above: bool = False) -> Any:
    limits = f"{'above' if above else 'from'} {low:g}"
    limits += f" to {high:g}" if high < math.inf else "" if above else " up"
    optional = default is None

    def check(value: Any) -> float | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        number = float(value)
        if not (low <= number <= high) or math.isinf(number) or (above and number == low):
            raise ValueError
        return number

    return _key(default, f"a number {limits}{' or null' if optional else ''}", check)


def _integer(default: int | None, low: int, high: int = 2**31 - 1, optional: bool = False) -> Any:
    optional = optional or default is None

    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    limits = f"from {low} to {high}" if high < 2**31 - 1 else f"from {low} up"
    return _key(default, f"a whole number {limits}{' or null' if optional else ''}", check)


def _choice(default: str, *names: str) -> Any:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return _key(default, f"one of {', '.join(names)}", check)


def _flag(default: bool) -> Any:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return _key(default, "true or false", check)


def _duration_check(value: Any) -> str | None:
    if value is not None:
        seconds(value)
    return value  # type: ignore[no-any-return]


def _interval_check(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    seconds(value)
    return str(value)


def _epochs_check(value: Any) -> int | str | None:
    if value is None or value == "auto":
        return value  # type: ignore[no-any-return]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ValueError
    return value


def _count_check(value: Any) -> int | str:
    if value == "auto":
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise ValueError
    return value


def _steps_check(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in value):
        raise ValueError
    return tuple(value)


def _text_check(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _texts_check(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise ValueError
    return tuple(value)


def _hidden_check(value: Any) -> int | tuple[int, ...]:
    widths = value if isinstance(value, list | tuple) else [value]
    if not widths or not all(type(n) is int and 1 <= n <= 65536 for n in widths):
        raise ValueError
    return tuple(widths) if widths is value else int(value)


def _encoding_check(value: Any) -> str:
    try:
        codec = codecs.lookup(value)
    except (LookupError, TypeError) as e:
        raise ValueError from e
    if not getattr(codec, "_is_text_encoding", True):
        raise ValueError
    return codec.name


def seconds(duration: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h. ValueError where it is none."""
    if not isinstance(duration, str):
        raise ValueError(duration)
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)", duration)
    if match is None or float(match[1]) <= 0:
        raise ValueError(duration)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


# --- the keys ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextConfig:
    """How files become units: characters, bytes or words."""

    unit: str = _fixed(_choice("char", *UNIT_NAMES))
    encoding: str = _fixed(
        _key("utf-8", "the name of a text encoding, such as utf-8", _encoding_check)
    )
    """Of every file that is read; where the unit is the byte, files are not decoded."""
    normalize: str = _fixed(_choice("none", "none", "nfc", "nfd", "nfkc"))
    """Unicode's normal form that everything read is brought into."""
    min_count: int = _fixed(_integer(1, 1))
    """Units that stand in the corpus less often are left out of the vocabulary …"""
    max_vocabulary: int | None = _fixed(_integer(None, 2))
    """… and all but the most frequent, so that it has no more entries than this; of equally
    frequent units those of lower code points stay."""
    valid: float = _fixed(_number(0.1, 0.0, 0.9))
    """Share of the text that is held out of training."""
    split: str = _fixed(_choice("tail", "tail", "lines"))
    """Which part that is: the text's end; or, of lines that stand for themselves, some of them,
    after `train.rng_seed` has shuffled all."""

    @property
    def name(self) -> str:
        """What a unit is called."""
        return UNIT_NAMES[self.unit]


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    cell: str = _shape(_choice("lstm", "lstm", "gru", "rnn"))
    hidden: int | tuple[int, ...] = _shape(
        _key(100, "a whole number from 1 to 65536, or a list of one for each layer", _hidden_check)
    )
    """Width of the hidden state, of all layers or of each, the lowest first."""
    layers: int = _shape(_integer(1, 1, 64))
    embedding: int = _shape(_integer(0, 0, 65536))
    """Width of a vector that is learnt for each character; 0: one-hot input."""
    tie: bool = _shape(_flag(False))
    """Whether the output weights are the embedding."""
    dropout: float = _fixed(_number(0.0, 0.0, 0.99))
    """Share of the values that are dropped while training: of the embedding, between the layers
    and above them, not along time; one-hot input is not dropped (see `input_drop`)."""
    variational: bool = _fixed(_flag(False))
    """Whether dropout drops the same values in all steps of a segment."""
    weight_drop: float = _fixed(_number(0.0, 0.0, 0.99))
    """Share of the recurrent weights that are dropped, for a whole segment, while training."""
    input_drop: float = _fixed(_number(0.0, 0.0, 0.99))
    """Share of the characters that count as unknown when they are read while training."""
    forget_bias: float = _fixed(_number(1.0, -100.0, 100.0))
    start: str = _fixed(_choice("uniform", "uniform", "normal"))
    """From what the first weights are drawn; see `Model.initialise`."""
    embedding_start: float | None = _shape(_number(None, 0.0, 100.0, above=True))
    """Standard deviation of the first embedding; null: 1 for characters and bytes, 0.01 for words,
    of which the rare ones are hardly ever trained, and 1 / sqrt(width) where it is tied."""


@dataclass(frozen=True)
class TrainConfig:
    """The training."""

    optimizer: str = _shape(_choice("adagrad", "adagrad", "sgd", "rmsprop", "adam", "adamw"))
    rms_decay: float = _fixed(_number(0.95, 0.0, 0.999999))
    """RMSprop's decay of its mean of squared gradients."""
    beta1: float = _fixed(_number(0.9, 0.0, 0.999999))
    """Adam's decay of its mean gradient."""
    beta2: float = _fixed(_number(0.999, 0.0, 0.999999))
    """Adam's decay of its mean of squared gradients."""
    weight_decay: float = _number(0.0, 0.0)
    """AdamW's shrinking of all weights in each step, in proportion to the learning rate."""
    lr: float = _number(0.1, 0.0, above=True)
    schedule: str = _choice("constant", "constant", "exponential", "cosine", "plateau")
    """How the learning rate goes on from `lr`; see `optimizers.Schedule`."""
    warm_up: int = _integer(0, 0)
    """Steps over which the learning rate first rises from zero, under every schedule."""
    lr_min: float = _number(0.0, 0.0)
    """Where the cosine ends and the other schedules stop falling: a rate, not a share of `lr`."""
    lr_decay: float = _number(0.97, 0.0, 1.0, above=True)
    """Factor of the exponential schedule for each epoch …"""
    lr_decay_after: int = _integer(1, 1)
    """… after so many at the full rate."""
    lr_divide: float = _number(4.0, 1.0)
    """Divisor of the plateau schedule at every look at the held-out text without a new best."""
    batch: int = _shape(_integer(32, 1, 65536))
    """Streams of text that are read side by side."""
    length: int = _fixed(_integer(50, 1, 65536))
    """Steps of time over which gradients flow back."""
    shards: int | str = _fixed(_key("auto", "a whole number from 1 up or auto", _count_check))
    """Groups of streams whose gradients are made apart and added in order; auto: two from 32
    streams up, and more where they would have over 64 streams each. Part of the run: another
    number gives other roundings."""
    workers: int | str = _key("auto", "a whole number from 1 up or auto", _count_check)
    """Processes that share the shards; auto: as many as there are cores. Changes no result."""
    reset: float = _fixed(_number(0.02, 0.0, 1.0))
    """Probability, for each stream before each segment, of starting afresh from a zero state."""
    average: float = _shape(_number(0.99, 0.0, 0.999999))
    """Decay of the running average of the weights that is measured, kept and used; 0: none."""
    loss: str = _fixed(_choice("mean", "mean", "sum"))
    """What the gradient is of: the mean over the segment's characters, or their sum over time
    (and mean over streams), as in the classic scripts, where `clip_value` is meant for it."""
    clip_norm: float | None = _number(None, 0.0, above=True)
    clip_value: float | None = _number(None, 0.0, above=True)
    epochs: int | str | None = _key("auto", "a whole number from 1 up, auto or null", _epochs_check)
    """Passes over the text; auto: 20, or as many as make 2000 steps of a small corpus."""
    steps: int | None = _integer(None, 1)
    max_time: str | None = _key(None, "a duration such as 90s, 10m or 2h, or null", _duration_check)
    patience: int | None = _integer(None, 1)
    """Evaluations without a new best after which training stops."""
    eval_every: int | None = _integer(None, 1)
    """Steps between two looks at the held-out text; null: an epoch, at most 1000 steps."""
    save_every: int | str = _key("60s", "a number of steps or a duration", _interval_check)
    sample_every: int | None = _integer(None, 1)
    sample_at: tuple[int, ...] = _key((), "a list of steps", _steps_check)
    rng_seed: int = _fixed(_integer(0, 0, 2**63 - 1))


@dataclass(frozen=True)
class SampleConfig:
    """The generating of text."""

    temperature: float = _number(0.8, 0.0)
    seed: str = _key("", "a text", _text_check)
    """What is continued where no seed is given."""
    length: int = _integer(200, 0)
    top_k: int = _integer(0, 0)
    top_p: float = _number(1.0, 0.0, 1.0, above=True)
    stop: tuple[str, ...] = _key((), "a list of texts that are not empty", _texts_check)
    count: int = _integer(1, 1, 65536)
    echo: bool = _flag(True)
    """Whether the seed is printed before its continuation."""


@dataclass(frozen=True)
class EvaluateConfig:
    """The scoring of text."""

    lines: bool = _flag(False)
    """Whether every line is scored by itself."""
    json: bool = _flag(False)


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


def _unknown(where: str, what: str, name: str, known: Iterable[str]) -> ConfigError:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if "." in name:  # the right name in the wrong section, or none
        near = [k for k in known if k.endswith("." + name.rpartition(".")[2])][:1] or near
    listed = f"known are {', '.join(known)}" if len(known) <= 10 else "see configs/default.yaml"
    hint = f"did you mean {near[0]}?" if near else listed
    return ConfigError(f"{where}: unknown {what} {_shown(name)}; {hint}")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    text = repr(text)
    return text if len(text) <= 60 else text[:57] + "..."


def _named(name: str) -> str:
    """A name as it was written, unless that would break or swell the line."""
    return name if name.isprintable() and len(name) <= 60 else _shown(name)


def check(settings: Iterable[Setting]) -> None:
    """Raise `ConfigError` where a setting by itself, whatever it is added to, is wrong."""
    for setting in settings:
        _checked(setting)


def _checked(setting: Setting) -> Any:
    key = KEYS.get(setting.key)
    if key is None:
        raise _unknown(setting.where, "key", setting.key, KEYS)
    try:
        return key.metadata["check"](setting.value)
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(
            f"{setting.where}: {setting.key}: expected {key.metadata['expected']}, "
            f"got {_shown(setting.value)}"
        ) from None


# --- YAML --------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class _Node(NamedTuple):
    """A YAML value with its line, and that of its key; mappings hold nodes, lists plain values."""

    value: Any
    line: int
    key_line: int = 0


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _parse(text: str, name: str) -> _Node:
    """The one document in `text`. Reads events, not objects: nothing is constructed by a tag, and
    neither nesting nor aliases can blow up."""

    def fail(line: int, message: str) -> ConfigError:
        return ConfigError(f"{name}:{line}: {message}" if line else f"{name}: {message}")

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise fail(0, f"a configuration has at most {MAX_BYTES // 1024} KiB")
    root: _Node | None = None
    # open collections: (its line, the collection, the key that waits for its value)
    stack: list[tuple[int, dict[str, _Node] | list[Any], _Node | None]] = []
    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1  # type: ignore[union-attr]
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise fail(line, "expected one document, not several")
                continue
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise fail(line, "anchors and aliases are not supported")
            tag = getattr(event, "tag", None)
            if tag:
                raise fail(line, f"tags such as {_named(tag)} are not supported")
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(stack) == MAX_DEPTH:
                    raise fail(line, "nested too deeply")
                if stack and isinstance(stack[-1][1], dict) and stack[-1][2] is None:
                    raise fail(line, "a key must be a word")
                mapping = isinstance(event, yaml.MappingStartEvent)
                stack.append((line, {} if mapping else [], None))
                continue
            if isinstance(event, yaml.ScalarEvent):
                if stack and isinstance(stack[-1][1], dict) and stack[-1][2] is None:
                    at, mapping_, _ = stack[-1]
                    if event.value in mapping_:
                        raise fail(line, f"the key {_shown(event.value)} stands here twice")
                    stack[-1] = (at, mapping_, _Node(event.value, line))
                    continue
                node = _Node(_scalar(event), line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                at, collection, _ = stack.pop()
                node = _Node(collection, at)
            else:
                continue
            if not stack:
                root = node
            else:
                at, parent, key = stack[-1]
                if isinstance(parent, list):
                    parent.append(node.value)
                else:
                    assert key is not None
                    parent[key.value] = _Node(node.value, node.line, key.line)
                    stack[-1] = (at, parent, None)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise fail(
            mark.line + 1 if mark else 0, f"not valid YAML: {e.problem or e.context}"
        ) from None
    except yaml.YAMLError as e:
        raise fail(0, f"not valid YAML: {str(e).splitlines()[0]}") from None
    return root or _Node(None, 1)


def parse_yaml(text: str, name: str) -> list[Setting]:
    """The settings that a YAML document makes, in its order. `name` is for messages."""
    root = _parse(text, name)
    if root.value is None:
        return []
    if not isinstance(root.value, dict):
        raise ConfigError(f"{name}:{root.line}: expected the sections {', '.join(SECTIONS)}")
    settings = []
    for section, node in root.value.items():
        where = f"{name}:{node.line}"
        if section not in SECTIONS:
            raise _unknown(f"{name}:{node.key_line}", "section", section, SECTIONS)
        if node.value is None:
            continue
        if not isinstance(node.value, dict):
            raise ConfigError(f"{where}: {section}: expected keys and values")
        for key, child in node.value.items():
            setting = Setting(f"{section}.{key}", child.value, f"{name}:{child.line}")
            if isinstance(child.value, dict):
                raise ConfigError(
                    f"{setting.where}: {_named(setting.key)}: expected a single value"
                )
            if setting.key not in KEYS:
                raise _unknown(f"{name}:{child.key_line}", "key", setting.key, KEYS)
            settings.append(setting)
    return settings


def parse_setting(text: str) -> Setting:
    """One KEY=VALUE of `--set`; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {_named(text)}: expected KEY=VALUE, such as model.hidden=200")
    key = key.strip()
    return setting_from_option(key, value, f"--set {_named(key)}")


def setting_from_option(key: str, value: str, option: str) -> Setting:
    """A value that was given as text on the command line; it is read as YAML."""
    node = _parse(value, option)
    if isinstance(node.value, dict):
        raise ConfigError(f"{option}: {key}: expected a single value, got {_shown(value)}")
    return Setting(key, node.value, option)


def bundled() -> dict[str, Path]:
    """The configurations that ship with the package, by name."""
    package = Path(__file__).parent.parent
    folder = package / "configs"
    if not folder.is_dir():  # a source checkout
        folder = package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_config(name: str) -> list[Setting]:
    """The settings of a bundled configuration (by name) or of a YAML file (by path)."""
    if not name:
        raise ConfigError("--config: an empty name; give a configuration's name or a YAML file")
    known = bundled()
    path = known.get(name, Path(name))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if Path(name).suffix in (".yaml", ".yml") or os.path.dirname(name):
            raise ConfigError(f"{name}: no such file; check the name") from None
        raise _unknown("--config", "configuration", name, known) from None
    except OSError as e:
        raise ConfigError(f"{name}: cannot be read: {e.strerror}") from None
    except ValueError:
        raise ConfigError(f"{name!r}: not a file name") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{name}: byte {e.start} is not valid UTF-8") from None
    return parse_yaml(text, str(path))


def from_dict(values: Mapping[str, Mapping[str, Any]], where: str) -> Config:
    """The configuration that `Config.to_dict` gave, checked like any other."""
    if not isinstance(values, Mapping) or not all(isinstance(v, Mapping) for v in values.values()):
        raise ConfigError(f"{where}: expected sections of keys")
    return Config().updated(
        Setting(f"{section}.{key}", value, where)
        for section, keys in values.items()
        for key, value in keys.items()
    )
