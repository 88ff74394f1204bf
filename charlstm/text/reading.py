"""From files to text: in blocks, as a whole, or in lines."""

import codecs
import contextlib
import itertools
import math
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Self

import numpy as np

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError, UsageError
from charlstm.text.encodings import (
    BYTE_ESCAPES,
    TWO_ORDERS,
    UNSTREAMED,
    decoder_of,
    in_order,
    incremental,
    likely_cause,
    likely_encoding,
)
from charlstm.text.units import VOCABULARIES
from charlstm.text.vocabulary import ESCAPED

BLOCK = 1 << 19
"""Bytes of a file, or characters of a text, that are read at a time."""

BEGINNING = 1 << 12
"""Bytes of a file by which its kind is guessed."""

NOTICE_AFTER, NOTICE_EVERY = 5.0, 15.0
"""Seconds of reading before the first notice of how much has been read, and between two."""

MARK = "\ufeff"
"""The byte order mark."""

Source = str | os.PathLike[str]
"""A file, or "-" for standard input."""

Notice = Callable[[str], None]
"""Takes a line that the user should read."""


def ignore(message: str) -> None:
    pass


def name_of(source: Source) -> str:
    """A source's name in messages."""
    name = os.fspath(source)
    return "standard input" if name == "-" else name or "an empty name"


class Reading:
    """The reading of a corpus: it reports its progress, and ends in time."""

    def __init__(
        self, notice: Notice = ignore, until: float = math.inf, promptly: bool = False
    ) -> None:
        """`until` is a moment of `time.monotonic`. `promptly`, blocks need not be full."""
        self.notice, self.until, self.promptly = notice, until, promptly
        self.over = False  # whether time ended the reading before the end of the files
        self._read, self._notice_at = 0, time.monotonic() + NOTICE_AFTER

    def blocks(self, file: IO[bytes], name: str) -> Iterator[bytes]:
        """The bytes of a file, until the time is over."""
        limited = self.until < math.inf
        read = file.read1 if limited or self.promptly else file.read  # type: ignore[attr-defined]
        while not limited or self._wait(file, name):
            data = read(BLOCK)
            if not data:
                return
            self._read += len(data)
            if time.monotonic() >= self._notice_at:
                self._notice_at = time.monotonic() + NOTICE_EVERY
                self.notice(f"{name}: reading, {self._read / 1e6:,.0f} MB so far")
            yield data

    def _wait(self, file: IO[bytes], name: str) -> bool:
        """Wait for something to read; False where the time does not suffice."""
        if self.over:
            return False
        left = self.until - time.monotonic()
        ready = True
        with contextlib.suppress(OSError, ValueError):  # what cannot be waited for is read
            ready = bool(select.select([file], [], [], max(0.0, left))[0])
        self.over = left <= 0 or not ready
        if self.over:
            self.notice(
                f"{name}: stopped reading after {self._read:,} bytes, since training needs the "
                "rest of train.max_time; what is learnt is that much of the text, and another run "
                "may read more or less"
            )
        return not self.over


def read_bytes(source: Source, reading: Reading) -> Iterator[bytes]:
    """The bytes of a source in blocks."""
    name = name_of(source)
    try:
        if os.fspath(source) == "-":
            yield from reading.blocks(sys.stdin.buffer, name)
        else:
            with open(source, "rb") as file:
                if _endless(file):
                    raise CorpusError(
                        f"{name}: is a device, which may have no end; name a file, or pipe in "
                        "what you want of it"
                    )
                yield from reading.blocks(file, name)
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; check the name") from None
    except IsADirectoryError:
        raise CorpusError(f"{name}: is a directory; name the files in it") from None
    except OSError as e:
        raise CorpusError(f"{name}: cannot be read: {e.strerror}") from None
    except (AttributeError, ValueError):  # standard input is closed, or a NUL in the name
        raise CorpusError(f"{name}: cannot be read") from None


def _endless(file: IO[bytes]) -> bool:
    """Whether a file is a device such as /dev/zero; a terminal and /dev/null have an end."""
    info = os.fstat(file.fileno())
    device = stat.S_ISCHR(info.st_mode) and not file.isatty()
    return device and not os.path.samestat(info, os.stat(os.devnull))


def _sniffed(
    blocks: Iterator[bytes], name: str, encoding: str | None, notice: Notice, strict: bool
) -> tuple[bytes, Iterator[bytes]]:
    """The first block, and all; with a notice where the file seems to be in another encoding or no
    text. If `strict`, and the first block cannot be decoded, that is a `CorpusError`."""
    beginning = next(blocks, b"")
    if encoding is not None and codecs.lookup(encoding).name in TWO_ORDERS:
        while len(beginning) < 4 and (more := next(blocks, b"")):  # until a mark is whole
            beginning += more
    cause = likely_cause(beginning[:BEGINNING], encoding)
    if cause is not None:
        if encoding is not None and strict:
            try:
                decoder_of(encoding, beginning).decode(beginning)
            except UnicodeError:
                raise CorpusError(f"{name}: {cause}") from None
        notice(f"{name}: {cause}")
    return beginning, itertools.chain([beginning], blocks)


class _Decoding:
    """Decodes a file block by block, and knows the place that it has reached."""

    def __init__(self, name: str, encoding: str, beginning: bytes) -> None:
        self.name, self.encoding = name, encoding
        self.decoder = decoder_of(encoding, beginning)
        self.bytes, self.line, self.column = 0, 1, 1  # bytes before the place; the others from 1
        self.at_start = True

    def decode(self, data: bytes, final: bool) -> str:
        """The text of the next bytes. A `CorpusError` names the first that is none."""
        before, wrong = self.decoder.getstate(), f"is not valid {self.encoding}"
        try:
            text = self.decoder.decode(data, final)
            text.encode("utf-32-le")  # some encodings let lone surrogates through
        except UnicodeDecodeError as e:  # its object begins with what was left of other blocks
            left = len(e.object) - len(data)
            self.decoder.setstate(before)
            self._move(self.decoder.decode(data[: max(0, e.start - left)]))
            raise CorpusError(
                f"{self.name}: byte {self.bytes - left + e.start} (0x{e.object[e.start]:02x}), "
                f"{self._place()}, {wrong}; {_remedy(self.encoding, e.object)}"
            ) from None
        except UnicodeEncodeError as e:
            self._move(text[: e.start])
            raise CorpusError(f"{self.name}: {self._place()}, {wrong}") from None
        except UnicodeError:
            raise CorpusError(f"{self.name}: {wrong}") from None
        self._move(text)
        self.bytes += len(data)
        return text

    def _move(self, text: str) -> None:
        """Move the place over a text. A mark at the start has no column."""
        if self.at_start and text:
            self.at_start, text = False, text.removeprefix(MARK)
        breaks = text.count("\n")
        self.line += breaks
        self.column = len(text) - text.rfind("\n") if breaks else self.column + len(text)

    def _place(self) -> str:
        return f"line {self.line:,}, column {self.column:,}"


def read_blocks(
    source: Source,
    encoding: str | None = "utf-8",
    notice: Notice = ignore,
    reading: Reading | None = None,
) -> Iterator[str]:
    """As `read_text`, but the text comes in blocks. A `reading` may end before the file does."""
    name, reading = name_of(source), reading or Reading()
    blocks = read_bytes(source, reading)
    beginning, blocks = _sniffed(blocks, name, encoding, notice, strict=True)
    if encoding is None:
        yield from codecs.iterdecode(blocks, "utf-8", ESCAPED)
        return
    if codecs.lookup(encoding).name in UNSTREAMED:
        blocks = iter([b"".join(blocks)])
    decoding = _Decoding(name, encoding, beginning)
    for data in itertools.chain(blocks, [b""]):
        at_start = decoding.at_start
        # a text that time cuts off may end within a character
        text = decoding.decode(data, final=not data and not reading.over)
        if at_start and text.startswith(MARK):
            notice(f"{name}: dropped the byte order mark at its start")
            text = text[1:]
        yield text


def _remedy(encoding: str, data: bytes) -> str:
    """What to do about bytes that are not in an encoding."""
    likely = likely_encoding(data, encoding)
    if likely is not None:
        return f"it seems to be {likely}; if so, --set text.encoding={likely}"
    if encoding != "utf-8":  # it has been named
        return "convert the file to UTF-8, or leave the bytes out"
    return "convert the file, or name its encoding with --set text.encoding=NAME"


def read_text(source: Source, encoding: str | None = "utf-8", notice: Notice = ignore) -> str:
    """The text in a file, or on standard input where `source` is "-".

    Nothing in it is changed but a byte order mark at the start, which is dropped. Without an
    encoding it is a file of bytes: each stays, and one that is not UTF-8 is a lone surrogate
    (`ESCAPED`). Raises `UsageError` for a missing file and `CorpusError` for one that cannot be
    read or decoded.
    """
    return "".join(read_blocks(source, encoding, notice))


def encoding_of(config: TextConfig) -> str | None:
    """The encoding of files; None where they are bytes and stay so."""
    return config.encoding if VOCABULARIES[config.unit].is_text else None


def blocks_of(text: str) -> Iterator[str]:
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))


class Line(str):
    """The text of a line, without its end. A byte that cannot be decoded is a lone surrogate."""

    __slots__ = ("bad", "column", "raw")

    raw: bytes  # the line with its end; the last line of a file gets an end if it has none
    column: bytes  # the same for a table in ASCII: UTF-8 where the encoding does not contain ASCII
    bad: int  # the place, from 1, of the first byte that cannot be decoded; 0 where there is none

    @classmethod
    def of(cls, text: str, raw: bytes, in_table: bool) -> Self:
        """A line of a text and bytes that still have their end."""
        line = cls(text.removesuffix("\n").removesuffix("\r"))
        line.raw, line.bad = raw, 0
        line.column = raw if in_table else line.encode("utf-8", "replace") + b"\n"
        try:
            line.encode()
        except UnicodeEncodeError as e:
            line.bad = e.start + 1
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
    blocks = read_bytes(source, Reading(promptly=True))
    beginning, blocks = _sniffed(blocks, name, encoding, notice, strict=False)
    encoded = "utf-8" if encoding is None else in_order(encoding, beginning)
    end = _line_end(encoded)
    decode = _line_decoder(encoded, end, ESCAPED if encoding is None else BYTE_ESCAPES)
    number, damaged, first = 0, 0, ""
    for lines in _raw_lines(blocks, end):
        batch = []
        for raw in lines:
            text = decode(raw)
            if not number and encoding is not None:
                text = text.removeprefix(MARK)
                if not text:  # nothing but a mark
                    continue
            line = Line.of(text, raw if raw.endswith(end) else raw + end, end == b"\n")
            number += 1
            if line.bad and encoding is not None:
                damaged += 1
                first = first or f"line {number:,}, column {line.bad:,}"
            batch.append(line)
        yield batch
    if damaged:
        many, at = ("1 line", "at") if damaged == 1 else (f"{damaged:,} lines", "the first at")
        notice(
            f"{many} of {name} had bytes that are not {str(encoding).upper()}, {at} {first}; "
            "they count as outside the vocabulary"
        )


def _line_end(encoding: str) -> bytes:
    if encoding.startswith(("utf-16", "utf-32")):
        return "\n".encode(encoding)
    try:
        return b"\n" if b"\n".decode(encoding) == "\n" else "\n".encode(encoding)
    except UnicodeError:
        return b"\n"


def _line_decoder(encoding: str, end: bytes, errors: str) -> Callable[[bytes], str]:
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
    width, unit = len(end), f"u{len(end)}"  # bytes and type of a code unit
    waiting: list[bytes] = []  # parts of a line that has not ended
    rest = b""  # a part of a code unit
    for block in blocks:
        data = rest + block
        whole = len(data) - len(data) % width
        data, rest = data[:whole], data[whole:]
        ends = np.flatnonzero(np.frombuffer(data, unit) == np.frombuffer(end, unit)) + 1
        places = [0, *(ends * width).tolist()]
        lines = [data[a:b] for a, b in itertools.pairwise(places)]
        if lines:
            lines[0] = b"".join([*waiting, lines[0]])
            waiting = []
            yield lines
        waiting.append(data[places[-1] :])
    last = b"".join([*waiting, rest])
    if last:
        yield [last]
