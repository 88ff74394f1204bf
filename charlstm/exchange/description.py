"""What a model's weights mean: its units, their normal form and its configuration, as texts that
travel with the weights."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from charlstm.config.schema import Config, Setting, from_dict
from charlstm.errors import ConfigError
from charlstm.exchange.safetensors import MOST_TOKENS, Refused, plain_json, shown
from charlstm.nn.arrays import Array
from charlstm.nn.shape import Shape
from charlstm.text.units import NO_CHARACTER, VOCABULARIES
from charlstm.text.vocabulary import EOS, UNK, Vocabulary

VERSION = "1"

BYTES = [f"0x{byte:02x}" for byte in range(256)]


class Description(NamedTuple):
    """What goes with a model's weights."""

    config: Config
    vocabulary: Vocabulary

    def to_texts(self) -> dict[str, str]:
        """As the metadata of a file: `charlstm` is the version of these."""
        v = self.vocabulary
        return {
            "charlstm": VERSION,
            "unit": v.unit,
            "normalize": v.normalize,
            "vocabulary": json.dumps(v.units, ensure_ascii=False),
            "counts": json.dumps(v.counts.tolist()),
            "config": json.dumps(self.config.to_dict(), ensure_ascii=False),
        }


def config_of(texts: dict[str, str]) -> Config | None:
    """The configuration in the metadata of a file; None in those of another program. Raises
    `Refused` where it is damaged."""
    if "charlstm" not in texts:
        return None
    if texts["charlstm"] != VERSION:
        version = shown(texts["charlstm"])
        raise Refused(f"its metadata are of version {version}; this program reads {VERSION}")
    document = plain_json(_text(texts, "config"), MOST_TOKENS, "its configuration")
    try:
        config = from_dict(document, "its configuration")
    except ConfigError as e:
        raise Refused(f"{e}") from None
    if (texts.get("unit"), texts.get("normalize")) != (config.text.unit, config.text.normalize):
        raise Refused("its unit and normal form are not those of its configuration")
    return config


def vocabulary_of(texts: dict[str, str], config: Config, V: int) -> Vocabulary:
    """The vocabulary of V units in the metadata of a file. Raises `Refused` where there is none."""
    most = 2 * V + 1
    units = plain_json(_text(texts, "vocabulary"), most, "its vocabulary")
    counts = plain_json(_text(texts, "counts"), most, "the counts of its units")
    whole = isinstance(counts, list) and all(type(n) is int and 0 <= n < 2**53 for n in counts)
    if not whole or len(counts) != V:
        raise Refused(f"the counts of its units are not {V:,} whole numbers")
    return _restored(_units(units, V), np.array(counts, np.int64), config)


def _text(texts: dict[str, str], name: str) -> str:
    if name not in texts:
        raise Refused(f"its metadata lack {name}")
    return texts[name]


def _units(units: Any, V: int) -> list[str]:
    """A value of JSON that is a list of V different texts."""
    if not isinstance(units, list) or not all(isinstance(unit, str) for unit in units):
        raise Refused("its vocabulary is not a list of texts")
    if len(units) != V:
        raise Refused(f"its vocabulary has {len(units):,} units, and its weights are for {V:,}")
    if len(set(units)) < V:
        raise Refused("its vocabulary has a unit twice")
    return units


def _restored(units: Sequence[str], counts: Array, config: Config) -> Vocabulary:
    """The vocabulary of these units, in the order of their ids."""
    unit, V = config.text.unit, len(units)
    try:
        if unit == "char":
            points = (NO_CHARACTER if text == UNK else _code_point(text) for text in units)
            stored = np.fromiter(points, np.uint32, V)
        elif unit == "byte":
            if units != BYTES:
                raise Refused("its vocabulary is not 0x00 to 0xff")
            stored = np.arange(256, dtype=np.uint32)
        else:
            stored = np.frombuffer("".join(f"{word}\n" for word in units).encode(), np.uint8)
        return VOCABULARIES[unit].restored(stored, counts, config.text)
    except UnicodeEncodeError:
        raise Refused("its vocabulary is not text") from None
    except ValueError as e:
        raise Refused(f"{e}") from None


def _code_point(text: str) -> int:
    if len(text) != 1:
        raise Refused(f"{shown(text)} in its vocabulary is no character")
    return ord(text)


# --- models of other programs --------------------------------------------------------------------


def listed(data: bytes, is_json: bool, V: int) -> list[str]:
    """The units of a file that has the vocabulary alone, in the order of their ids. It is the
    characters themselves, with or without a line break behind them, or JSON: a list of units, or
    an object that has their ids. Raises `Refused` unless they are V different ones."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("the vocabulary is not UTF-8") from None
    if not is_json:
        end = next((e for e in ("\r\n", "\n") if len(text) == V + len(e)), "")
        return _units(list(text.removesuffix(end)), V)
    units = plain_json(text, 4 * V + 4, "the vocabulary")
    if isinstance(units, dict):
        if not all(type(k) is int for k in units.values()):
            raise Refused("the vocabulary has ids that are not whole numbers")
        if sorted(units.values()) != list(range(len(units))):
            raise Refused(f"the ids of the vocabulary are not 0 to {len(units) - 1:,}")
        units = sorted(units, key=units.__getitem__)
    return _units(units, V)


def foreign(units: list[str], shape: Shape) -> tuple[Description, list[int]]:
    """The description of another program's model of this shape over these units, and the id that
    each of them had there. Raises `Refused`.

    How often a unit occurs is not known: the counts only keep words in their order.
    """
    V = len(units)
    equal = len(set(shape.widths)) == 1
    settings: dict[str, Any] = {
        "model.cell": shape.cell,
        "model.hidden": shape.widths[0] if equal else shape.widths,
        "model.layers": shape.layers,
        "model.embedding": shape.embedding,
        "model.tie": shape.tie,
    }
    if all(len(unit) == 1 or unit == UNK for unit in units):
        settings["text.unit"] = "char"
        order = sorted(range(V), key=lambda k: (units[k] == UNK, units[k]))
        if UNK in units:
            settings["text.max_vocabulary"] = V
    elif sorted(units) == BYTES:
        settings["text.unit"] = "byte"
        order = sorted(range(V), key=units.__getitem__)
    elif UNK in units and EOS in units:
        settings["text.unit"] = "word"
        first = [units.index(UNK), units.index(EOS)]
        order = [*first, *(k for k in range(V) if k not in first)]
    else:
        odd = next(unit for unit in units if len(unit) != 1 and unit != UNK)
        raise Refused(f"{shown(odd)} is no character, and words need {UNK} and {EOS}")
    try:
        config = Config().updated(Setting(*each, "the model") for each in settings.items())
    except ConfigError as e:
        raise Refused(f"{e}") from None
    counts = V + 1 - np.arange(V)
    return Description(config, _restored([units[k] for k in order], counts, config)), order
