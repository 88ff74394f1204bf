"""A configuration is what it says or a `ConfigError` in one line that names place and key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.config.bundle import bundled
from charlstm.config.fields import seconds
from charlstm.config.schema import KEYS, SECTIONS, Config, Setting, from_dict
from charlstm.config.sources import (
    parse_setting,
    parse_yaml,
    read_config,
    setting_from_option,
)
from charlstm.config.yaml_subset import MAX_BYTES, MAX_DEPTH
from charlstm.errors import ConfigError


def configured(text: str) -> Config:
    """The defaults with the settings of a YAML document."""
    return Config().updated(parse_yaml(text, "my.yaml"))


def assert_one_line(error: BaseException) -> str:
    """The message of an error, which must be one printable line."""
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 600, len(message)
    return message


def nested(depth: int) -> str:
    """Mappings in mappings, `depth` of them, as YAML."""
    return "".join("  " * k + "model:\n" for k in range(depth - 1)) + "  " * depth + "hidden: 1\n"


# --- what is wrong -----------------------------------------------------------------------------

WRONG: list[tuple[str, str, int | None, str]] = [
    # name, YAML, line, expression that the rest of the message matches
    ("unknown-section", "modle:\n  hidden: 5\n", 1, r"unknown section 'modle'; did you mean model"),
    ("unknown-section-far", "zzzz: {}\n", 1, r"unknown section 'zzzz'; known are text, model"),
    ("unknown-key", "model:\n  hiden: 5\n", 2, r"'model.hiden'; did you mean model.hidden\?"),
    ("unknown-key-far", "model:\n  qqqq: 5\n", 2, r"unknown key 'model.qqqq'"),
    ("key-elsewhere", "sample:\n  rng_seed: 5\n", 2, r"did you mean train.rng_seed\?"),
    ("key-of-another", "model:\n  temperature: 1\n", 2, r"did you mean sample.temperature\?"),
    ("key-at-top", "hidden: 5\n", 1, r"unknown section 'hidden'"),
    ("dotted-key", "model.hidden: 5\n", 1, r"unknown section 'model.hidden'"),
    ("key-case", "model:\n  Hidden: 5\n", 2, r"did you mean model.hidden\?"),
    ("empty-key", "model:\n  '': 5\n", 2, r"unknown key"),
    ("word-for-int", "model:\n  hidden: many\n", 2, r"model.hidden: expected a whole number.*many"),
    ("float-for-int", "model:\n  hidden: 100.0\n", 2, r"model.hidden: .*whole number from 1"),
    ("exponent-for-int", "model:\n  hidden: 1e2\n", 2, r"model.hidden: .*got 100.0"),
    ("quoted-int", "model:\n  hidden: '100'\n", 2, r"model.hidden: .*got '100'"),
    ("bool-for-int", "model:\n  hidden: true\n", 2, r"model.hidden: .*got 'true'"),
    ("false-for-int", "sample:\n  length: false\n", 2, r"sample.length: .*got 'false'"),
    ("null-for-int", "model:\n  hidden: null\n", 2, r"model.hidden: .*got 'null'"),
    ("nothing-for-int", "model:\n  hidden:\n", 2, r"model.hidden: .*got 'null'"),
    ("empty-list", "model:\n  hidden: []\n", 2, r"model.hidden: .*a list of one for each layer"),
    ("wide-in-list", "model:\n  hidden: [5, 65537]\n", 2, r"model.hidden: .*65537"),
    ("widths", "model:\n  hidden: [5, 6]\n", 2, r"2 widths for 1 layer; set model.layers=2"),
    ("fewer-widths", "model: {hidden: [5], layers: 2}\n", 1, r"1 width for 2 layers; set model"),
    ("tie-of-nothing", "model:\n  tie: true\n", 2, r"model.tie is .* set model.embedding"),
    ("dropout-all", "model:\n  dropout: 1\n", 2, r"model.dropout: .*from 0 to 0.99, got 1"),
    ("drop-negative", "model:\n  weight_drop: -0.1\n", 2, r"model.weight_drop: .*from 0"),
    ("list-of-words", "model:\n  hidden: [a]\n", 2, r"model.hidden: .*got"),
    ("map-for-int", "model:\n  hidden: {a: 1}\n", 2, r"model.hidden: expected a single value"),
    ("zero-hidden", "model:\n  hidden: 0\n", 2, r"model.hidden: .*from 1 to 65536"),
    ("negative", "model:\n  layers: -1\n", 2, r"model.layers: .*got -1"),
    ("too-large", "model:\n  hidden: 65537\n", 2, r"model.hidden: .*got 65537"),
    ("huge-int", f"model:\n  hidden: {'9' * 40}\n", 2, r"model.hidden: "),
    ("huger-int", f"model:\n  hidden: {'9' * 5000}\n", 2, r"model.hidden: .*\.\.\."),
    ("huge-steps", "train:\n  steps: 99999999999\n", 2, r"train.steps: .*got 99999999999"),
    ("huge-seed", "train:\n  rng_seed: 9223372036854775808\n", 2, r"train.rng_seed: "),
    ("hex", "model:\n  hidden: 0x10\n", 2, r"model.hidden: .*'0x10'"),
    ("octal", "model:\n  hidden: 0o10\n", 2, r"model.hidden: .*'0o10'"),
    ("underscore", "model:\n  hidden: 1_000\n", 2, r"model.hidden: .*'1_000'"),
    ("sexagesimal", "model:\n  hidden: 1:30\n", 2, r"model.hidden: .*'1:30'"),
    ("word-for-float", "train:\n  lr: fast\n", 2, r"train.lr: expected a number above 0"),
    ("bool-for-float", "train:\n  lr: true\n", 2, r"train.lr: .*'true'"),
    ("zero-lr", "train:\n  lr: 0\n", 2, r"train.lr: .*above 0, got 0"),
    ("nan", "train:\n  lr: .nan\n", 2, r"train.lr: .*got '\.nan'"),
    ("nan-word", "train:\n  lr: nan\n", 2, r"train.lr: .*got 'nan'"),
    ("inf", "train:\n  lr: .inf\n", 2, r"train.lr: .*got '\.inf'"),
    ("overflow", "train:\n  lr: 1e999\n", 2, r"train.lr: .*got inf"),
    ("negative-zero-lr", "train:\n  lr: -0.0\n", 2, r"train.lr: "),
    ("int-too-wide-for-float", f"train:\n  lr: {'9' * 41}\n", 2, r"train.lr: "),
    ("negative-temperature", "sample:\n  temperature: -0.1\n", 2, r"sample.temperature: .*from 0"),
    ("top-p-over-1", "sample:\n  top_p: 1.01\n", 2, r"sample.top_p: .*above 0 to 1"),
    ("top-p-zero", "sample:\n  top_p: 0\n", 2, r"sample.top_p: "),
    ("valid-all", "text:\n  valid: 1.0\n", 2, r"text.valid: .*from 0 to 0\.9"),
    ("choice", "model:\n  cell: LSTM\n", 2, r"model.cell: expected one of lstm, gru, rnn, got 'L"),
    ("choice-int", "model:\n  cell: 5\n", 2, r"model.cell: .*got 5"),
    ("choice-list", "model:\n  cell: [lstm]\n", 2, r"model.cell: "),
    ("schedule", "train:\n  schedule: linear\n", 2, r"train.schedule: .*cosine, plateau, got 'li"),
    ("beta-one", "train:\n  beta2: 1.0\n", 2, r"train.beta2: expected a number from 0 to 0.99"),
    ("weight-decay", "train:\n  weight_decay: -0.1\n", 2, r"train.weight_decay: .*from 0"),
    ("warm-up", "train:\n  warm_up: 0.1\n", 2, r"train.warm_up: expected a whole number from 0"),
    ("lr-decay", "train:\n  lr_decay: 1.5\n", 2, r"train.lr_decay: .*above 0 to 1"),
    ("lr-divide", "train:\n  lr_divide: 0.25\n", 2, r"train.lr_divide: .*from 1"),
    ("choice-null", "train:\n  optimizer: ~\n", 2, r"train.optimizer: .*got 'null'"),
    ("no-is-a-word", "sample:\n  echo: no\n", 2, r"sample.echo: expected true or false, got 'no'"),
    ("yes-is-a-word", "sample:\n  echo: yes\n", 2, r"sample.echo: .*got 'yes'"),
    ("on-is-a-word", "evaluate:\n  json: on\n", 2, r"evaluate.json: .*got 'on'"),
    ("one-is-no-flag", "evaluate:\n  json: 1\n", 2, r"evaluate.json: .*got 1"),
    ("encoding", "text:\n  encoding: utf-9\n", 2, r"text.encoding: .*text encoding.*'utf-9'"),
    ("binary-codec", "text:\n  encoding: hex\n", 2, r"text.encoding: "),
    ("encoding-int", "text:\n  encoding: 8\n", 2, r"text.encoding: "),
    ("encoding-null", "text:\n  encoding:\n", 2, r"text.encoding: "),
    ("encoding-list", "text:\n  encoding: [utf-8]\n", 2, r"text.encoding: "),
    (
        "unit",
        "text:\n  unit: line\n",
        2,
        r"text.unit: expected one of char, byte, word, got 'line'",
    ),
    ("unit-null", "text:\n  unit:\n", 2, r"text.unit: .*got 'null'"),
    ("unit-key", "text:\n  units: word\n", 2, r"did you mean text.unit\?"),
    ("form", "text:\n  normalize: NFKD\n", 2, r"text.normalize: .*none, nfc, nfd, nfkc, got"),
    ("min-count", "text:\n  min_count: 0\n", 2, r"text.min_count: .*from 1"),
    ("min-count-null", "text:\n  min_count:\n", 2, r"text.min_count: .*got 'null'"),
    ("limit", "text:\n  max_vocabulary: 1\n", 2, r"text.max_vocabulary: .*from 2 up or null"),
    ("duration", "train:\n  max_time: 10\n", 2, r"train.max_time: expected a duration"),
    ("duration-unit", "train:\n  max_time: 10d\n", 2, r"train.max_time: .*'10d'"),
    ("duration-clock", "train:\n  max_time: 1:30\n", 2, r"train.max_time: .*'1:30'"),
    ("duration-zero", "train:\n  max_time: 0s\n", 2, r"train.max_time: "),
    ("save-never", "train:\n  save_every: 0\n", 2, r"train.save_every: .*got 0"),
    ("save-null", "train:\n  save_every: null\n", 2, r"train.save_every: "),
    ("save-bool", "train:\n  save_every: true\n", 2, r"train.save_every: "),
    ("save-float", "train:\n  save_every: 1.5\n", 2, r"train.save_every: .*got 1\.5"),
    ("epochs-zero", "train:\n  epochs: 0\n", 2, r"train.epochs: .*auto or null, got 0"),
    ("epochs-word", "train:\n  epochs: all\n", 2, r"train.epochs: "),
    ("epochs-bool", "train:\n  epochs: true\n", 2, r"train.epochs: "),
    ("epochs-float", "train:\n  epochs: 1.5\n", 2, r"train.epochs: "),
    ("epochs-list", "train:\n  epochs: [auto]\n", 2, r"train.epochs: "),
    ("steps-not-list", "train:\n  sample_at: 5\n", 2, r"train.sample_at: expected a list of steps"),
    ("steps-of-words", "train:\n  sample_at: [a]\n", 2, r"train.sample_at: "),
    ("steps-negative", "train:\n  sample_at: [0, -1]\n", 2, r"train.sample_at: "),
    ("steps-of-bools", "train:\n  sample_at: [true]\n", 2, r"train.sample_at: "),
    ("steps-of-lists", "train:\n  sample_at: [[1]]\n", 2, r"train.sample_at: "),
    ("stop-text", "sample:\n  stop: END\n", 2, r"sample.stop: expected a list of texts"),
    ("stop-empty", "sample:\n  stop: ['']\n", 2, r"sample.stop: "),
    ("stop-number", "sample:\n  stop: [1]\n", 2, r"sample.stop: "),
    ("stop-of-maps", "sample:\n  stop: [{a: b}]\n", 2, r"sample.stop: "),
    ("section-scalar", "model: 5\n", 1, r"model: expected keys and values"),
    ("section-list", "text: {}\nmodel:\n  - hidden\n", 3, r"model: expected keys and values"),
    ("top-list", "# a list\n- model\n- text\n", 2, r"expected the sections text, model"),
    ("top-scalar", "model\n", 1, r"expected the sections"),
    ("top-number", "5\n", 1, r"expected the sections"),
    ("duplicate-key", "model:\n  hidden: 5\n  hidden: 6\n", 3, r"'hidden' stands here twice"),
    ("duplicate-section", "model: {}\ntext: {}\nmodel: {}\n", 3, r"'model' stands here twice"),
    ("duplicate-quoted", 'model:\n  hidden: 5\n  "hidden": 6\n', 3, r"'hidden' .* twice"),
    ("anchor", "model: &m\n  hidden: 5\n", 1, r"anchors and aliases"),
    ("anchor-on-scalar", "model:\n  hidden: &h 5\n", 2, r"anchors and aliases"),
    ("anchor-on-key", "model:\n  &h hidden: 5\n", 2, r"anchors and aliases"),
    ("alias", "model: {}\ntext: *m\n", 2, r"anchors and aliases"),
    ("merge-key", "model:\n  <<: {hidden: 5}\n", 2, r"model.<<: "),
    ("merge-alias", "a: &a {x: 1}\nb: {<<: *a}\n", 1, r"anchors and aliases"),
    ("tag", "model:\n  hidden: !!int 5\n", 2, r"tags such as"),
    ("tag-python", "model: !!python/object:os.system {}\n", 1, r"tags such as tag:yaml.org"),
    ("tag-own", "model:\n  hidden: !mine 5\n", 2, r"tags such as !mine"),
    ("list-as-key", "model:\n  [a, b]: 5\n", 2, r"a key must be a word"),
    ("map-as-key", "? {a: b}\n: 5\n", 1, r"a key must be a word"),
    ("depth", nested(MAX_DEPTH + 1), MAX_DEPTH + 1, r"nested too deeply"),
    ("brackets", "[" * 50_000, 1, r"nested too deeply"),
    ("braces", "{" * 50_000, 1, r"nested too deeply|a key must be a word"),
    ("dashes", "- " * 30_000, 1, r"nested too deeply"),
    ("two-documents", "model: {}\n---\ntext: {}\n", 2, r"one document, not several"),
    ("tab", "model:\n\thidden: 5\n", 2, r"not valid YAML: .*\\t"),
    ("open-bracket", "model: {}\nsample:\n  stop: [a, b\n", 4, r"not valid YAML"),
    ("open-quote", "model:\n  cell: 'lstm\n", 3, r"not valid YAML"),
    ("open-brace", "model: {hidden: 5\n", 2, r"not valid YAML"),
    ("closing-bracket", "model: ]\n", 1, r"not valid YAML"),
    ("indentation", "model:\n  hidden: 5\n layers: 2\n", 3, r"not valid YAML"),
    ("no-space", "model:\n  hidden:5\n", 2, r"model: expected keys and values"),
    ("percent", "model:\n  cell: %lstm\n", 2, r"not valid YAML"),
    ("directive", "%YAML 9.9\n---\nmodel: {}\n", 1, r"not valid YAML"),
    ("bad-escape", 'model:\n  cell: "\\q"\n', 2, r"not valid YAML"),
    ("control-character", "model: \x01\n", None, r"not valid YAML"),
    ("nul", "model: \x00\n", None, r"not valid YAML"),
    ("surrogate", "model: \ud800\n", None, r"not valid YAML"),
    ("too-long", "#" * (MAX_BYTES + 1), None, r"at most 64 KiB"),
    ("too-long-in-bytes", "# " + "가" * (MAX_BYTES // 3), None, r"at most 64 KiB"),
]


def test_table_is_large() -> None:
    """The tables keep the promise of seventy cases, and no name stands twice."""
    assert len(WRONG) >= 70
    assert len({name for name, *_ in WRONG}) == len(WRONG)


@pytest.mark.parametrize(("text", "line", "rest"), [pytest.param(*w[1:], id=w[0]) for w in WRONG])
def test_wrong(text: str, line: int | None, rest: str) -> None:
    """What is wrong fails in one line with the file's name, the line and what is the matter."""
    with pytest.raises(ConfigError) as caught:
        configured(text)
    message = assert_one_line(caught.value)
    place = "my.yaml: " if line is None else f"my.yaml:{line}: "
    assert message.startswith(place)
    assert re.search(rest, message[len(place) :]), message


@pytest.mark.parametrize(
    "text",
    ['model: {"a\\nb": {c: 1}}', "model:\n  hidden: !a%0Ab 5\n", '"a\\nb": 1', '{"\\u2028": 1}'],
    ids=["key", "tag", "section", "separator"],
)
def test_line_breaks_in_names_do_not_break_the_message(text: str) -> None:
    """Whatever a file calls its keys and tags, the message about it is one line."""
    with pytest.raises(ConfigError) as caught:
        configured(text)
    assert_one_line(caught.value)


def test_anchors_make_no_bomb() -> None:
    """Aliases of aliases, which would unfold to 10^9 values, end at the first anchor."""
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10)
    )
    with pytest.raises(ConfigError, match=r"my\.yaml:1: anchors"):
        configured(bomb)


# --- what is right -----------------------------------------------------------------------------

RIGHT: list[tuple[str, str, Any]] = [
    ("train.lr", "1e-3", 0.001),
    ("train.lr", "5E-4", 0.0005),
    ("train.lr", "1.0e3", 1000.0),
    ("train.lr", ".5", 0.5),
    ("train.lr", "+2.", 2.0),
    ("train.lr", "1", 1.0),
    ("model.hidden", "012", 12),
    ("model.hidden", "+7", 7),
    ("model.hidden", "65536", 65536),
    ("model.cell", "gru", "gru"),
    ("model.cell", "'rnn'", "rnn"),
    ("model.forget_bias", "-1.5", -1.5),
    ("model.chrono", "3", 3),
    ("model.chrono", "null", None),
    ("text.encoding", "UTF8", "utf-8"),
    ("text.encoding", "euc-kr", "euc_kr"),
    ("text.encoding", "Latin-1", "iso8859-1"),
    ("text.valid", "0", 0.0),
    ("train.epochs", "auto", "auto"),
    ("train.epochs", "null", None),
    ("train.epochs", "~", None),
    ("train.epochs", "", None),
    ("train.epochs", "3", 3),
    ("train.clip_norm", "null", None),
    ("train.clip_value", "5", 5.0),
    ("train.max_time", "90s", "90s"),
    ("train.max_time", "1.5h", "1.5h"),
    ("train.save_every", "100", 100),
    ("train.save_every", "10m", "10m"),
    ("train.sample_at", "[0, 5, 10]", (0, 5, 10)),
    ("train.sample_at", "[]", ()),
    ("train.rng_seed", "9223372036854775807", 2**63 - 1),
    ("sample.stop", "[no, '1:30', \"\\n\"]", ("no", "1:30", "\n")),
    ("sample.stop", "[1:30, no, 0x10, 2026-01-01]", ("1:30", "no", "0x10", "2026-01-01")),
    ("sample.stop", "['null', '~', 'true', '5']", ("null", "~", "true", "5")),
    ("sample.temperature", "0", 0.0),
    ("sample.echo", "false", False),
    ("sample.echo", "True", True),
    ("evaluate.json", "TRUE", True),
]


@pytest.mark.parametrize(("key", "value", "expected"), RIGHT)
def test_right(key: str, value: str, expected: Any) -> None:
    """Values are read by the rules of YAML 1.2, from a file and from --set alike."""
    section, name = key.split(".")
    from_file = configured(f"{section}:\n  {name}: {value}\n")
    got = getattr(getattr(from_file, section), name)
    assert got == expected
    assert type(got) is type(expected)
    assert Config().updated([parse_setting(f"{key}={value}")]) == from_file


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "# nothing\n", "---\n", "---\n...\n", "null", "~", "{}", "model:\n", "model: {}"],
)
def test_nothing_is_said(text: str) -> None:
    """Empty files, null and empty sections leave the defaults."""
    assert configured(text) == Config()


def test_lines_of_settings() -> None:
    """Each setting knows its file and line, in the order of the file."""
    text = "# one\nmodel:\n  hidden: 5\n\n  layers: 2\ntrain: {lr: 1}\n"
    assert parse_yaml(text, "f.yaml") == [
        Setting("model.hidden", 5, "f.yaml:3"),
        Setting("model.layers", 2, "f.yaml:5"),
        Setting("train.lr", 1, "f.yaml:6"),
    ]


def test_deepest_and_longest_allowed() -> None:
    """The limits of depth and size refuse what is beyond them and nothing that is not."""
    with pytest.raises(ConfigError, match=r"expected"):
        configured(nested(MAX_DEPTH))
    assert configured("#" * MAX_BYTES) == Config()


# --- files -------------------------------------------------------------------------------------


def test_missing_file_suggests_a_name() -> None:
    """A configuration that is neither a file nor a bundled name names the nearest one."""
    with pytest.raises(ConfigError, match=r"'defalt'; did you mean default\?") as caught:
        read_config("defalt")
    assert_one_line(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", "nothing/here.yaml", "a\0b", "x" * 5000])
def test_no_such_file(name: str) -> None:
    """Names that cannot be files are a `ConfigError` as well."""
    with pytest.raises(ConfigError):
        read_config(name)


def test_unreadable_files(tmp_path: Path) -> None:
    """A directory, and a file that is not UTF-8, are named, with the byte."""
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))) as caught:
        read_config(str(tmp_path))
    assert_one_line(caught.value)
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"model:\n  cell: \xff\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: byte 15 is not valid UTF-8"):
        read_config(str(bad))


def test_file_by_path(tmp_path: Path) -> None:
    """A file is found by its path; its byte order mark and CRLF do no harm."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel:\r\n  hidden: 7\r\n")
    assert read_config(str(path)) == [Setting("model.hidden", 7, f"{path}:2")]


@pytest.mark.parametrize("name", sorted(bundled()))
def test_bundled_configurations_load(name: str) -> None:
    """Every configuration that ships is valid and says something."""
    found = read_config(name)
    assert found
    Config().updated(found)


def test_default_configuration_states_every_default() -> None:
    """configs/default.yaml is the list of keys: all of them, each with exactly its default."""
    assert "default" in bundled()
    stated = {setting.key: setting.value for setting in read_config("default")}
    assert sorted(stated) == sorted(KEYS)
    values = {f"{s}.{k}": v for s, keys in Config().to_dict().items() for k, v in keys.items()}
    assert stated == values
    assert {k: type(v) for k, v in stated.items()} == {k: type(v) for k, v in values.items()}


def test_bundled_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package has a folder of configurations inside, that one is used."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own.yaml").write_text("model: {hidden: 3}\n")
    monkeypatch.setattr("charlstm.config.bundle.__file__", str(tmp_path / "config" / "x.py"))
    assert list(bundled()) == ["own"]
    assert read_config("own")[0].value == 3


# --- durations, settings, dictionaries ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5m", 90), ("0.25s", 0.25)]
)
def test_durations(text: str, expected: float) -> None:
    """Seconds, minutes and hours, whole or not."""
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "value",
    ["", "s", "10", "10 s", " 10s", "10s\n", "-1s", "+1s", "0s", "0.0h", "1e3s", ".5s", "1d", "1S"],
)
def test_not_durations(value: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):
        seconds(value)


@pytest.mark.parametrize("value", ["1h30m", "9" * 20 + "s", "nan", 10, 1.5, None, True, ["1s"]])
def test_still_not_durations(value: Any) -> None:
    """Nor are several at once, absurd ones, or other types."""
    with pytest.raises(ValueError):
        seconds(value)


def test_set() -> None:
    """KEY=VALUE is split at the first equals sign and remembers that it came from --set."""
    assert parse_setting("model.hidden=200") == Setting("model.hidden", 200, "--set model.hidden")
    assert parse_setting(" model.hidden = 200 ").key == "model.hidden"
    assert parse_setting("sample.stop=['a=b']").value == ["a=b"]
    assert parse_setting("train.clip_norm=").value is None
    assert setting_from_option("train.max_time", "10m", "--max-time") == Setting(
        "train.max_time", "10m", "--max-time"
    )


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("model.hidden", r"--set model.hidden: expected KEY=VALUE"),
        ("", r"expected KEY=VALUE"),
        ("=5", r"unknown key ''"),
        ("hidden=5", r"--set hidden: unknown key 'hidden'; did you mean model.hidden\?"),
        ("model.hiden=5", r"did you mean model.hidden\?"),
        ("model=5", r"unknown key 'model'"),
        ("model.hidden.x=5", r"unknown key"),
        ("model.hidden=many", r"--set model.hidden: model.hidden: expected a whole number"),
        ("model.hidden={a: 1}", r"expected a single value"),
        ("model.hidden=[", r"not valid YAML"),
        ("model.hidden=a: b: c", r"not valid YAML"),
        ("model.hidden=&a 5", r"anchors"),
        ("model.hidden=!!int 5", r"tags"),
        ("a\nb", r"expected KEY=VALUE"),
        ("a\nb=5", r"unknown key"),
    ],
)
def test_wrong_set(text: str, rest: str) -> None:
    """A wrong --set fails in one line that begins with --set."""
    with pytest.raises(ConfigError, match=rest) as caught:
        Config().updated([parse_setting(text)])
    assert assert_one_line(caught.value).startswith("--set")


def test_round_trip() -> None:
    """`from_dict` undoes `to_dict`, which holds nothing that JSON and YAML cannot."""
    config = configured(
        "text: {encoding: latin-1, valid: 0.25}\nmodel: {cell: gru, layers: 2}\n"
        "train: {sample_at: [1, 2], max_time: 5m, clip_norm: null, epochs: 7}\n"
        "sample: {stop: [a, 'no'], echo: false}\nevaluate: {json: true}\n"
    )
    assert config != Config()
    values = config.to_dict()
    assert from_dict(values, "here") == config
    assert configured(yaml.safe_dump(values)) == config
    assert tuple(values) == SECTIONS
    assert Config() == from_dict({}, "here")


HIDDEN: list[Any] = [None, True, "5", 5.0, math.nan, [], {}, 0, 10**400]
"""No numbers of hidden units."""


@pytest.mark.parametrize(
    "values",
    [
        *(None, 5, [], "model", {"model": None}, {"model": 5}, {"model": [1]}),
        {"modle": {"hidden": 5}},
        *({"model": {"hidden": v}} for v in HIDDEN),
        *({"train": {"lr": v}} for v in (math.nan, math.inf, -1.0, 10**400, "1")),
    ],
    ids=repr,
)
def test_from_dict_is_strict(values: Any) -> None:
    """What a file's metadata may hold instead of a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        from_dict(values, "metadata")
    assert assert_one_line(caught.value).startswith("metadata: ")


def test_widths_agree_with_layers_in_the_end() -> None:
    """What counts is all settings together, in whatever order they come."""
    for text in ("{hidden: [5, 6], layers: 2}", "{layers: 2, hidden: [5, 6]}"):
        assert configured(f"model: {text}\n").model.hidden == (5, 6)
    tied = configured("model: {tie: true, embedding: 5}\n")
    with pytest.raises(ConfigError, match=r"^later: model\.tie"):
        tied.updated([Setting("model.embedding", 0, "later")])
    assert configured("model: {hidden: [5]}\n").to_dict()["model"]["hidden"] == [5]


def test_precedence() -> None:
    """Later settings win, others stay as they were, and nothing is changed in place."""
    base = configured("model: {hidden: 5, layers: 2}\n")
    over = base.updated([Setting("model.hidden", 6, "a"), Setting("model.hidden", 7, "b")])
    assert (over.model.hidden, over.model.layers) == (7, 2)
    assert base.model.hidden == 5
    assert Config().model.hidden == 100
    assert Config().updated([]) == Config()


def test_every_default_is_valid() -> None:
    """No default is one that its own check refuses or changes."""
    config = Config()
    for key, field in KEYS.items():
        section, name = key.split(".")
        for value in (field.default, getattr(getattr(config, section), name)):
            assert field.metadata["check"](value) == value, key
        assert field.metadata["expected"]


# --- anything at all ---------------------------------------------------------------------------

_WORDS = [*SECTIONS, *(k.split(".")[1] for k in KEYS), ": ", "- ", "[", "]", "{", "}", "\n", "  "]
_WORDS += ["\n  ", "&a ", "*a", "!!int ", "<<", "1e-3", "5", "no", "'", '"', "|", ">", "#", "---\n"]
_WORDS += ["\t", "\0", "\ufeff", "\x85", "\u2028", "%", "? ", ", ", "null", "true", "\\n", "한"]

anything = st.one_of(st.text(), st.lists(st.sampled_from(_WORDS), max_size=30).map("".join))


@settings(max_examples=400, deadline=None)
@given(anything)
def test_any_text(text: str) -> None:
    """No text at all raises anything but a `ConfigError` of one line."""
    try:
        configured(text)
    except ConfigError as e:
        assert_one_line(e)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _replaced(key: str, value: Any) -> dict[str, dict[str, Any]]:
    values = Config().to_dict()
    section, name = key.split(".")
    values[section][name] = value
    return values


@settings(max_examples=400, deadline=None)
@given(st.builds(_replaced, st.sampled_from(sorted(KEYS)), json_like))
def test_any_value(values: dict[str, dict[str, Any]]) -> None:
    """Any JSON value for any key is taken, and then survives a round trip, or a `ConfigError`."""
    try:
        config = from_dict(values, "metadata")
    except ConfigError as e:
        assert_one_line(e)
    else:
        assert from_dict(config.to_dict(), "again") == config


@pytest.mark.parametrize("make", [lambda: "- " * 32_000, lambda: "a: " * 21_000, lambda: "? " * 9])
def test_odd_nesting(make: Callable[[], str]) -> None:
    """Nesting without brackets ends as quickly."""
    with pytest.raises(ConfigError):
        configured(make())
