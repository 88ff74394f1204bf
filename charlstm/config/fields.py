"""How the keys of a configuration are declared: a default, and a rule for other values."""

import codecs
import contextlib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any, NamedTuple

Check = Callable[[Any], Any]
"""Returns the value that the configuration holds. A ValueError refuses it."""

Schema = dict[str, Any]
"""A JSON Schema, draft 7, of the values that a check takes."""

MOST = 2**31 - 1
"""The largest whole number where a key names no limit of its own."""


class Rule(NamedTuple):
    """What the values of a key may be."""

    expected: str  # the values, as an error names them
    check: Check
    schema: Schema  # the values, as an editor checks them


class OnResume(Enum):
    """Whether something may differ between a checkpoint and the run that resumes it."""

    FREE = "yes"
    ACCEPTABLE = "if the user accepts it"
    FATAL = "no"


FREE, ACCEPTABLE, FATAL = OnResume


def key(default: Any, rule: Rule, on_resume: OnResume = FREE) -> Any:
    """A dataclass field with a default, a rule, and whether it may change when a run is resumed.
    What is `ACCEPTABLE` belongs to the run, so the user must agree; with what is `FATAL` the arrays
    in the file would not fit."""
    return field(default=default, metadata={**rule._asdict(), "on_resume": on_resume})


def _only(fits: Callable[[Any], bool]) -> Check:
    """The check that refuses what does not fit."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError
        return value

    return check


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def number(low: float, high: float = math.inf, above: bool = False) -> Rule:
    """A number from `low` to `high`; with `above`, `low` itself is refused."""

    def check(value: Any) -> float:
        number = float(value) if _is_whole(value) or isinstance(value, float) else math.nan
        if not low <= number <= high or math.isinf(number) or (above and number == low):
            raise ValueError
        return number

    begin = f"above {low:g}" if above else f"from {low:g}"
    end = f" to {high:g}" if high < math.inf else "" if above else " up"
    least = "exclusiveMinimum" if above else "minimum"
    limits = {least: low, "maximum": min(high, sys.float_info.max)}
    return Rule(f"a number {begin}{end}", check, {"type": "number", **limits})


def integer(low: int, high: float = MOST) -> Rule:
    """A whole number from `low` to `high`."""
    limits = f"from {low} to {high}" if high < MOST else f"from {low} up"
    check = _only(lambda value: _is_whole(value) and low <= value <= high)
    most = {"maximum": high} if high < math.inf else {}
    schema = {"type": "integer", "minimum": low, **most}
    return Rule(f"a whole number {limits}", check, schema)


def choice(*names: str) -> Rule:
    check = _only(lambda value: value in names)
    return Rule(f"one of {', '.join(names)}", check, {"enum": [*names]})


def nullable(rule: Rule) -> Rule:
    return _any_of(f"{rule.expected} or null", rule, _NULL)


def _any_of(expected: str, *rules: Rule) -> Rule:
    """A value that one of several rules takes."""

    def check(value: Any) -> Any:
        for rule in rules:
            with contextlib.suppress(ValueError, OverflowError):
                return rule.check(value)
        raise ValueError

    return Rule(expected, check, {"anyOf": [rule.schema for rule in rules]})


def _list_of(expected: str, item: Rule, least: int = 0) -> Rule:
    """A list of `least` items or more, which the configuration holds as a tuple."""

    def check(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple) or len(values) < least:
            raise ValueError
        return tuple(map(item.check, values))

    schema = {"type": "array", "items": item.schema, "minItems": least}
    return Rule(expected, check, schema)


def _encoding(value: Any) -> str:
    try:
        codec = codecs.lookup(value)
    except (LookupError, TypeError) as e:
        raise ValueError from e
    if not getattr(codec, "_is_text_encoding", True):
        raise ValueError
    return codec.name


_DURATION = r"(?=[0-9.]*[1-9])([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)"
"""The number of a duration, which is above zero, and its unit."""


def seconds(duration: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h. A ValueError refuses anything else."""
    match = re.fullmatch(_DURATION, duration) if isinstance(duration, str) else None
    if match is None:
        raise ValueError(duration)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _duration(value: Any) -> str:
    seconds(value)
    return str(value)


_NULL = Rule("null", _only(lambda value: value is None), {"type": "null"})
_AUTO = choice("auto")
_WIDTH = integer(1, 65536)
_TIME = Rule("a duration", _duration, {"type": "string", "pattern": f"^{_DURATION}$(?!\\n)"})
_STOP_TEXT = Rule(
    "a text that is not empty",
    _only(lambda value: isinstance(value, str) and value != ""),
    {"type": "string", "minLength": 1},
)

FLAG = Rule("true or false", _only(lambda value: isinstance(value, bool)), {"type": "boolean"})
TEXT = Rule("a text", _only(lambda value: isinstance(value, str)), {"type": "string"})
STOP_TEXTS = _list_of("a list of texts that are not empty", _STOP_TEXT)
WIDTHS = _any_of(
    "a whole number from 1 to 65536, or a list of one for each layer",
    _WIDTH,
    _list_of("a list of widths", _WIDTH, least=1),
)
ENCODING = Rule("the name of a text encoding, such as utf-8", _encoding, {"type": "string"})
DURATION = _any_of("a duration such as 90s, 10m or 2h, or null", _TIME, _NULL)
INTERVAL = _any_of("a number of steps or a duration", integer(1, math.inf), _TIME)
STEPS = _list_of("a list of steps", integer(0, math.inf))
COUNT = _any_of("a whole number from 1 to 1024, or auto", integer(1, 1024), _AUTO)
EPOCHS = _any_of("a whole number from 1 up, auto or null", integer(1), _AUTO, _NULL)
