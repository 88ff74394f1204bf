"""Where settings come from: files, and options of the command line."""

import os
from pathlib import Path

from charlstm.config.bundle import AUTO, bundled
from charlstm.config.schema import KEYS, SECTIONS, Setting, unknown_name
from charlstm.config.yaml_subset import parse, quoted, quoted_if_odd
from charlstm.errors import ConfigError


def parse_yaml(text: str, name: str) -> list[Setting]:
    """The settings that a YAML document makes, in its order. `name` is for messages."""
    root = parse(text, name)
    if root.value is None:
        return []
    if not isinstance(root.value, dict):
        raise ConfigError(f"{name}:{root.line}: expected the sections {', '.join(SECTIONS)}")
    settings = []
    for section, node in root.value.items():
        if section not in SECTIONS:
            raise unknown_name(f"{name}:{node.key_line}", "section", section, SECTIONS)
        if node.value is None:
            continue
        if not isinstance(node.value, dict):
            raise ConfigError(f"{name}:{node.line}: {section}: expected keys and values")
        for field, child in node.value.items():
            key, where = f"{section}.{field}", f"{name}:{child.line}"
            if isinstance(child.value, dict):
                raise ConfigError(f"{where}: {quoted_if_odd(key)}: expected a single value")
            if key not in KEYS:
                raise unknown_name(f"{name}:{child.key_line}", "key", key, KEYS)
            settings.append(Setting(key, child.value, where))
    return settings


def parse_setting(text: str) -> Setting:
    """One KEY=VALUE of `--set`; the value is read as YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        where = f"--set {quoted_if_odd(text)}"
        raise ConfigError(f"{where}: expected KEY=VALUE, such as model.hidden=200")
    key = name.strip()
    return setting_from_option(key, value, f"--set {quoted_if_odd(key)}")


def setting_from_option(key: str, value: str, option: str) -> Setting:
    """A value that was given as text on the command line; it is read as YAML."""
    node = parse(value, option)
    if isinstance(node.value, dict):
        raise ConfigError(f"{option}: {key}: expected a single value, got {quoted(value)}")
    return Setting(key, node.value, option)


def read_config(name: str) -> list[Setting]:
    """The settings of a bundled configuration (by name) or of a YAML file (by path)."""
    if not name:
        raise ConfigError("--config: an empty name; give a configuration's name or a YAML file")
    if name == AUTO:
        raise ConfigError("--config auto is a choice of training; only train takes it")
    known = bundled()
    path = Path(known.get(name, name))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if Path(name).suffix in (".yaml", ".yml") or os.path.dirname(name):
            raise ConfigError(f"{name}: no such file; check the name") from None
        raise unknown_name("--config", "configuration", name, [AUTO, *known]) from None
    except OSError as e:
        raise ConfigError(f"{name}: cannot be read: {e.strerror}") from None
    except ValueError:
        raise ConfigError(f"{name!r}: not a file name") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{name}: byte {e.start} is not valid UTF-8") from None
    return parse_yaml(text, str(path))
