"""How the keys of a configuration are declared: a default, and a rule for other values."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

Check = Callable[[Any], Any]
"""Returns the value that the configuration holds. A ValueError refuses it."""

MOST = 2**31 - 1
"""The largest whole number where a key names no limit of its own."""


class Rule(NamedTuple):
    """What the values of a key may be."""

    expected: str
    """The values, as an error names them."""
    check: Check


class OnResume(Enum):
    """Whether something may differ between a checkpoint and the run that resumes it."""

    FREE = "yes"
    ACCEPTABLE = "if the user accepts it"
    FATAL = "no"


FREE, ACCEPTABLE, FATAL = OnResume


def key(default: Any, rule: Rule, on_resume: OnResume = FREE) -> Any:
    """A dataclass field with a default, a rule, and whether it may change when a run is resumed:
    `ACCEPTABLE` is a part of the run, and by what is `FATAL` the arrays would be others."""
    return field(default=default, metadata={**rule._asdict(), "on_resume": on_resume})


def number(low: float, high: float = math.inf, above: bool = False) -> Rule:
    """A number from `low` to `high`; with `above`, `low` itself is refused."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        number = float(value)
        if not (low <= number <= high) or math.isinf(number) or (above and number == low):
            raise ValueError
        return number

    limits = f"{'above' if above else 'from'} {low:g}"
    limits += f" to {high:g}" if high < math.inf else "" if above else " up"
    return Rule(f"a number {limits}", check)


def integer(low: int, high: float = MOST) -> Rule:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Rule(f"a whole number from {low} " + (f"to {high}" if high < MOST else "up"), check)


def choice(*names: str) -> Rule:
    """One of some names."""

    def check(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Rule(f"one of {', '.join(names)}", check)


def nullable(rule: Rule) -> Rule:
    """The values of another rule, or null."""
    return Rule(f"{rule.expected} or null", _with(rule.check, None))


def _with(check: Check, *constants: str | None) -> Check:
    return lambda value: value if value in constants else check(value)


def _instance(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError
    return value


def _list(check: Check, value: Any) -> tuple[Any, ...]:
    return tuple(map(check, _instance(list | tuple, value)))


def _texts(value: Any) -> tuple[str, ...]:
    texts = _list(partial(_instance, str), value)
    if "" in texts:
        raise ValueError
    return texts


def _widths(value: Any) -> int | tuple[int, ...]:
    if value in ([], ()):
        raise ValueError
    width = integer(1, 65536).check
    return width(value) if isinstance(value, int) else _list(width, value)


def _encoding(value: Any) -> str:
    try:
        codec = codecs.lookup(value)
    except (LookupError, TypeError) as e:
        raise ValueError from e
    if not getattr(codec, "_is_text_encoding", True):
        raise ValueError
    return codec.name


def seconds(duration: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h. A ValueError refuses anything else."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)", _instance(str, duration))
    if match is None or float(match[1]) <= 0:
        raise ValueError(duration)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _duration(value: Any) -> str:
    seconds(value)
    return str(value)


def _interval(value: Any) -> int | str:
    return _duration(value) if isinstance(value, str) else integer(1, math.inf).check(value)


FLAG = Rule("true or false", partial(_instance, bool))
TEXT = Rule("a text", partial(_instance, str))
STOP_TEXTS = Rule("a list of texts that are not empty", _texts)
WIDTHS = Rule("a whole number from 1 to 65536, or a list of one for each layer", _widths)
ENCODING = Rule("the name of a text encoding, such as utf-8", _encoding)
DURATION = Rule("a duration such as 90s, 10m or 2h, or null", _with(_duration, None))
INTERVAL = Rule("a number of steps or a duration", _interval)
STEPS = Rule("a list of steps", partial(_list, integer(0, math.inf).check))
COUNT = Rule("a whole number from 1 up or auto", _with(integer(1, 1024).check, "auto"))
EPOCHS = Rule("a whole number from 1 up, auto or null", _with(integer(1).check, "auto", None))
