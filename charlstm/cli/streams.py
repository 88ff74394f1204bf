"""Standard output and standard error."""

import contextlib
import json
import math
import re
import sys
from collections.abc import Iterable
from typing import Any

from charlstm.errors import OutputError, UsageError


class ReaderGone(Exception):
    """Nobody reads standard output any more, as when it is piped into `head`."""


def write(text: str | bytes | memoryview) -> None:
    """Write to standard output at once; bytes as they are."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        if isinstance(text, str):
            sys.stdout.write(text)
        else:
            sys.stdout.buffer.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def to_json(document: Any) -> str:
    """A line of JSON; null stands for a number that is not finite, which JSON cannot express."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        if isinstance(value, list):
            return [finite(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(document), ensure_ascii=False, allow_nan=False)
    return text + "\n"


def printable(name: str) -> str:
    """The name of a file, or a text that has one in it, quoted or not: bytes that are not UTF-8 as
    escapes such as \\xff."""
    name = re.sub(r"(?<!\\)\\udc([89a-f][0-9a-f])", r"\\x\1", name)
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # lone surrogates that are no bytes
        return name.encode("utf-8", "backslashreplace").decode()


def valid_utf8(text: str) -> str:
    """A text for JSON or a terminal: lone surrogates stand for bytes; those that are not UTF-8 are
    replaced."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # some encodings have lone surrogates of their own
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def loss_at(step: int, nats: float, unit: str) -> str:
    """A held-out loss and the step whose weights have it."""
    return f"{nats / math.log(2):.4f} bits per {unit} ({nats:.4f} nats) at step {step:,}"


def notice(message: str) -> None:
    """Write a line to standard error; ignore one that is closed or full."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"charlstm: {printable(message)}\n")
        sys.stderr.flush()


def error(message: str) -> None:
    """Write an error to standard error, in one line."""
    notice("error: " + " ".join(message.split("\n")))


def terminal(stream: object) -> bool:
    """Whether a standard stream is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


def check_stdout(what: str) -> None:
    """Raise an error where standard output cannot take `what`, which is no text."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    if terminal(sys.stdout):
        other = "pipe it on, or name a file with -o"
        raise UsageError(f"{what} is nothing to show on a terminal; {other}")


def check_one_user(stream: str, files: Iterable[tuple[str, str | None]]) -> None:
    """Raise `UsageError` where several of these options and their files want one standard stream:
    the file is `-`."""
    users = [option for option, file in files if file == "-"]
    if len(users) > 1:
        raise UsageError(
            f"{users[0]} and {users[1]} both want standard {stream}; name a file for one of them"
        )
