"""What the keys of a configuration may be."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any


def key(default: Any, expected: str, check: Callable[[Any], Any]) -> Any:
    """A dataclass field whose values `check` accepts (returning them) or refuses (ValueError)."""
    return field(default=default, metadata={"expected": expected, "check": check})


def number(default: float | None, low: float, high: float = math.inf, above: bool = False) -> Any:
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

    return key(default, f"a number {limits}{' or null' if optional else ''}", check)


def integer(default: int | None, low: int, high: int = 2**31 - 1, optional: bool = False) -> Any:
    optional = optional or default is None

    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    limits = f"from {low} to {high}" if high < 2**31 - 1 else f"from {low} up"
    return key(default, f"a whole number {limits}{' or null' if optional else ''}", check)


def choice(default: str, *names: str) -> Any:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return key(default, f"one of {', '.join(names)}", check)


def flag(default: bool) -> Any:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return key(default, "true or false", check)


def duration_check(value: Any) -> str | None:
    if value is not None:
        seconds(value)
    return value  # type: ignore[no-any-return]


def interval_check(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    seconds(value)
    return str(value)


def epochs_check(value: Any) -> int | str | None:
    if value is None or value == "auto":
        return value  # type: ignore[no-any-return]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ValueError
    return value


def count_check(value: Any) -> int | str:
    if value == "auto":
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024:
        raise ValueError
    return value


def steps_check(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in value):
        raise ValueError
    return tuple(value)


def text_check(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def texts_check(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise ValueError
    return tuple(value)


def hidden_check(value: Any) -> int | tuple[int, ...]:
    widths = value if isinstance(value, list | tuple) else [value]
    if not widths or not all(type(n) is int and 1 <= n <= 65536 for n in widths):
        raise ValueError
    return tuple(widths) if widths is value else int(value)


def encoding_check(value: Any) -> str:
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
