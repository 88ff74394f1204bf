"""Standard output and standard error."""

from __future__ import annotations

import contextlib
import re
import sys

from charlstm.errors import OutputError


class ReaderGone(Exception):
    """Nobody reads standard output any more, as when it is piped into `head`."""


def write(text: str | bytes) -> None:
    """Write to standard output at once; bytes as they are."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        if isinstance(text, bytes):
            sys.stdout.buffer.write(text)
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def printable(name: str) -> str:
    """The name of a file, or a text that has one in it, quoted or not: bytes that are not UTF-8 as
    escapes such as \\xff."""
    name = re.sub(r"(?<!\\)\\udc([89a-f][0-9a-f])", r"\\x\1", name)
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # lone surrogates that are no bytes
        return name.encode("utf-8", "backslashreplace").decode()


def notice(message: str) -> None:
    """Say something on standard error. Where that is closed or full, go on without it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"charlstm: {printable(message)}\n")
        sys.stderr.flush()


def error(message: str) -> None:
    """Say what went wrong, in one line."""
    notice("error: " + " ".join(message.split("\n")))


def terminal(stream: object) -> bool:
    """Whether a standard stream is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False
