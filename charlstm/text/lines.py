"""The lines of a file, in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from charlstm.text.encodings import BYTE_ESCAPES, UNSTREAMED, in_order, incremental
from charlstm.text.reading import MARK, Notice, Source, ignore, name_of, read_bytes, sniffed
from charlstm.text.vocabulary import ESCAPED


class Line(str):
    """The text of a line, without its end. A byte that cannot be decoded is a lone surrogate."""

    __slots__ = ("bad", "column", "raw")

    raw: bytes
    """The bytes of the line and of its end; the last line of a file gets an end if it has none."""
    column: bytes
    """The same for the last column of a table in ASCII. It is UTF-8 where the encoding cannot
    stand beside ASCII."""
    bad: int
    """The place, from 1, of the first byte that cannot be decoded; 0 where there is none."""

    @classmethod
    def of(cls, text: str, raw: bytes, in_table: bool = True) -> Line:
        """A line of a text and bytes that still have their end."""
        text = text.removesuffix("\n").removesuffix("\r")
        bad = 0
        try:
            text.encode()
        except UnicodeEncodeError as e:
            bad = e.start + 1
        line = cls(text)
        line.raw, line.bad = raw, bad
        line.column = raw if in_table else text.encode("utf-8", "replace") + b"\n"
        return line


def read_lines(
    source: Source, encoding: str | None = "utf-8", notice: Notice = ignore
) -> Iterator[list[Line]]:
    """The lines of a file in batches: those of a block together, and those of a pipe as soon as
    they are complete.

    A line ends with a line feed, and a carriage return before it belongs to the end. Bytes that
    cannot be decoded are no error: their lines say so, and one notice at the end counts these. A
    byte order mark stays in the bytes of the first line, and is no part of its text. Raises
    `UsageError` for a missing file and `CorpusError` for one that cannot be read.
    """
    name = name_of(source)
    blocks = sniffed(read_bytes(source, promptly=True), name, encoding, notice, strict=False)
    beginning = next(blocks, b"")
    encoded = "utf-8" if encoding is None else in_order(encoding, beginning)
    decode = _line_decoder(encoded, ESCAPED if encoding is None else BYTE_ESCAPES)
    end = _line_end(encoded)
    in_table = end == b"\n"
    number, damaged, first = 0, 0, ""
    for lines in _raw_lines(itertools.chain([beginning], blocks), end):
        batch = []
        for raw in lines:
            text = decode(raw)
            if not number and encoding is not None:
                text = text.removeprefix(MARK)
                if not text:  # nothing but a mark
                    continue
            line = Line.of(text, raw if raw.endswith(end) else raw + end, in_table)
            number += 1
            if line.bad and encoding is not None:
                damaged += 1
                first = first or f"line {number:,}, column {line.bad:,}"
            batch.append(line)
        yield batch
    if damaged:
        lines_of = "1 line" if damaged == 1 else f"{damaged:,} lines"
        where = f"at {first}" if damaged == 1 else f"the first at {first}"
        notice(
            f"{lines_of} of {name} had bytes that are not {str(encoding).upper()}, {where}; "
            "they count as outside the vocabulary"
        )


def _line_end(encoding: str) -> bytes:
    """A line feed in an encoding."""
    if encoding.startswith(("utf-16", "utf-32")):
        return "\n".encode(encoding)
    try:
        return b"\n" if b"\n".decode(encoding) == "\n" else "\n".encode(encoding)
    except UnicodeError:
        return b"\n"


def _line_decoder(encoding: str, errors: str) -> Callable[[bytes], str]:
    """A function that decodes line after line."""
    end = _line_end(encoding)
    decoder = incremental(encoding, errors)

    def decode(raw: bytes) -> str:
        try:
            if encoding in UNSTREAMED:
                return raw.decode(encoding, errors)
            # only the last line may lack an end
            return decoder.decode(raw, final=not raw.endswith(end))
        except UnicodeError:  # an encoding without error handlers
            return "".join(chr(0xDC80 | byte) for byte in raw.removesuffix(end))

    return decode


def _raw_lines(blocks: Iterable[bytes], end: bytes) -> Iterator[list[bytes]]:
    """The lines in blocks of bytes, with their ends, in batches."""
    width = len(end)  # bytes of a code unit
    waiting: list[bytes] = []  # parts of a line that has not ended
    rest = b""  # a part of a code unit
    for block in blocks:
        data = rest + block
        whole = len(data) - len(data) % width
        data, rest = data[:whole], data[whole:]
        units = np.frombuffer(data, f"u{width}")
        ends = (np.flatnonzero(units == np.frombuffer(end, f"u{width}")[0]) + 1) * width
        places = [0, *ends.tolist()]
        lines = [data[a:b] for a, b in itertools.pairwise(places)]
        if lines:
            lines[0] = b"".join([*waiting, lines[0]])
            waiting = []
            yield lines
        waiting.append(data[places[-1] :])
    last = b"".join([*waiting, rest])
    if last:
        yield [last]
