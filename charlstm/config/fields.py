"""How the keys of a configuration are declared: a default, and a rule for other values."""

import codecs
import math
import re
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any, NamedTuple

Check = Callable[[Any], Any]
"""Returns the value that the configuration holds. A ValueError refuses it."""

MOST = 2**31 - 1
"""The largest whole number where a key names no limit of its own."""


class Rule(NamedTuple):
    """What the values of a key may be."""

    expected: str  # the values, as an error names them
    check: Check


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
    return Rule(f"a number {begin}{end}", check)


def integer(low: int, high: float = MOST) -> Rule:
    """A whole number from `low` to `high`."""
    limits = f"from {low} to {high}" if high < MOST else f"from {low} up"
    check = _only(lambda value: _is_whole(value) and low <= value <= high)
    return Rule(f"a whole number {limits}", check)


def choice(*names: str) -> Rule:
    return Rule(f"one of {', '.join(names)}", _only(lambda value: value in names))


def nullable(rule: Rule) -> Rule:
    return Rule(f"{rule.expected} or null", _with(rule.check, None))


def _with(check: Check, *constants: str | None) -> Check:
    return lambda value: value if value in constants else check(value)


def _list_of(check: Check) -> Check:
    """The check of a list, which the configuration holds as a tuple, by that of its items."""

    def check_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple):
            raise ValueError
        return tuple(map(check, values))

    return check_all


def _widths(value: Any) -> Any:
    if value in ([], ()):
        raise ValueError
    width = integer(1, 65536).check
    return width(value) if isinstance(value, int) else _list_of(width)(value)


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
    pattern = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)"
    match = re.fullmatch(pattern, duration) if isinstance(duration, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError(duration)
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _duration(value: Any) -> str:
    seconds(value)
    return str(value)


def _interval(value: Any) -> int | str:
    return _duration(value) if isinstance(value, str) else integer(1, math.inf).check(value)


FLAG = Rule("true or false", _only(lambda value: isinstance(value, bool)))
TEXT = Rule("a text", _only(lambda value: isinstance(value, str)))
STOP_TEXTS = Rule(
    "a list of texts that are not empty",
    _list_of(_only(lambda text: isinstance(text, str) and text != "")),
)
WIDTHS = Rule("a whole number from 1 to 65536, or a list of one for each layer", _widths)
ENCODING = Rule("the name of a text encoding, such as utf-8", _encoding)
DURATION = Rule("a duration such as 90s, 10m or 2h, or null", _with(_duration, None))
INTERVAL = Rule("a number of steps or a duration", _interval)
STEPS = Rule("a list of steps", _list_of(integer(0, math.inf).check))
COUNT = Rule("a whole number from 1 to 1024, or auto", _with(integer(1, 1024).check, "auto"))
EPOCHS = Rule("a whole number from 1 up, auto or null", _with(integer(1).check, "auto", None))
