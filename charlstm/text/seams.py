"""Where files meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

LOOKAHEAD = 1 << 19
"""Characters in which a text that has lines has a line break."""


class _Seam(NamedTuple):
    """Between two files, where neither the end of one nor the beginning of the other is a line
    break."""

    name: str
    """Of the file before it."""


class Seams:
    """Joins files to one text in which no line, and no word, grows together with the next file's.

    A file that ends without a line break gets one, of the kind that the text has. A text without
    any has no lines, and stays as it is; but words have a space between them. Bytes with a NUL
    among them are no text, and stay as they are.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.mended: list[str] = []
        """Names of the files after which a line break was put in."""
        self._newline = self._return = ""
        self._binary = False

    @property
    def line_break(self) -> str:
        """What ends lines in the text so far; empty where it has no lines."""
        return "" if self._binary else self._newline or self._return

    def join(self, files: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
        """The text in blocks, from the name of each file and its text in blocks."""
        held: list[str | _Seam] = []  # until a line break, or so much text without one
        length = 0
        for part in self._parts(files):
            held.append(part)
            if isinstance(part, str):
                length += len(part)
                if self._newline or length >= LOOKAHEAD:
                    yield from self._closed(held)
                    held = []
        yield from self._closed(held)

    def _parts(self, files: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str | _Seam]:
        """The blocks that are not empty, and the seams between them."""
        last, before = "", ""  # the text's last character; the name of the file that it is of
        for name, texts in files:
            first = True
            for text in texts:
                if not text:
                    continue
                if first and not _breaks(last, text):
                    yield _Seam(before)
                first, before = False, name
                self._find(last, text)
                last = text[-1]
                yield text

    def _find(self, last: str, text: str) -> None:
        """See what ends lines in a block after the character `last`."""
        self._binary |= self.unit == "byte" and "\0" in text
        if not self._newline and (at := text.find("\n")) >= 0:
            self._newline = "\r\n" if (last + text[:at]).endswith("\r") else "\n"
        if not self._return and "\r" in text:
            self._return = "\r"

    def _closed(self, parts: Iterable[str | _Seam]) -> Iterator[str]:
        for part in parts:
            if isinstance(part, str):
                yield part
            elif self.line_break:
                self.mended.append(part.name)
                yield self.line_break
            elif self.unit == "word":
                yield " "

    def notices(self) -> list[str]:
        """What the user should know of it."""
        n = len(self.mended)
        if not n:
            return []
        names = ", ".join(self.mended[:3]) + (f" and {n - 3:,} more" if n > 3 else "")
        return [
            f"{names}: no line break at the end; one is put in before the next file, so that their "
            "lines stay apart"
        ]


def _breaks(last: str, text: str) -> bool:
    """Whether a line, or nothing, ends between the character `last` and a text."""
    return last in "\r\n" or text[0] in "\r\n"
