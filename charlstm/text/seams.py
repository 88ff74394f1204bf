"""Joining files to one text."""

from collections.abc import Iterable, Iterator

from charlstm.text.units import VOCABULARIES

LOOKAHEAD = 1 << 19
"""Characters of a text without a line break after which it counts as one without lines."""


class Seams:
    """Joins files to one text in which the last line, or word, of a file does not continue in the
    next file.

    A file that ends without a line break gets one, of the kind that the text has. A text without
    any has no lines, and its files get what stands between units: nothing, or a space. Bytes with
    a NUL among them are no text, and stay as they are.
    """

    def __init__(self, unit: str) -> None:
        self.vocabulary = VOCABULARIES[unit]
        self.mended: list[str] = []  # names of the files that got a line break
        self._newline = self._return = ""
        self._binary = False

    @property
    def line_break(self) -> str:
        """The line break of the text so far; empty where it has no lines."""
        return "" if self._binary else self._newline or self._return

    def join(self, files: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
        """The text in blocks, from the name of each file and its text in blocks."""
        held: list[tuple[str | None, str]] = []  # until a line break, or `LOOKAHEAD`
        length = 0
        last, before = "", ""  # the text's last character; the name of the file that it is of
        for name, texts in files:
            first = True
            for text in filter(None, texts):
                broken = last in "\r\n" or text[0] in "\r\n"  # also where the text begins
                held.append((before if first and not broken else None, text))
                self._find_line_break(last, text)
                first, before, last = False, name, text[-1]
                length += len(text)
                if self._newline or length >= LOOKAHEAD:
                    yield from self._closed(held)
                    held = []
        yield from self._closed(held)

    def _find_line_break(self, last: str, text: str) -> None:
        """Note the line break of a block that stands after the character `last`."""
        self._binary |= not self.vocabulary.is_text and "\0" in text
        if not self._newline and (at := text.find("\n")) >= 0:
            self._newline = "\r\n" if (last + text[:at]).endswith("\r") else "\n"
        if not self._return and "\r" in text:
            self._return = "\r"

    def _closed(self, held: Iterable[tuple[str | None, str]]) -> Iterator[str]:
        """The text of blocks. The name before a block is of a file that lacks a line break."""
        for name, text in held:
            if name is not None:
                if self.line_break:
                    self.mended.append(name)
                yield self.line_break or self.vocabulary.between
            yield text

    def notices(self) -> list[str]:
        """The files that got a line break, for the user."""
        n = len(self.mended)
        names = ", ".join(self.mended[:3]) + (f" and {n - 3:,} more" if n > 3 else "")
        what = "no line break at the end; one is put in before the next file"
        return [f"{names}: {what}, so that their lines stay apart"] if n else []
