"""From files to streams of ids: decoding, encoding, held-out split and contiguous streams.

A text is read once, block by block, and only its ids are kept: one, two or four bytes a unit.
Past `IN_MEMORY` bytes they stand in a temporary file that is mapped, so that a text of many
gigabytes is trained on in little memory.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import itertools
import math
import mmap
import os
import select
import stat
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError, OutputError, UsageError
from charlstm.nn.arrays import Array
from charlstm.text.sniff import likely_cause, likely_encoding
from charlstm.text.vocabulary import (
    CENSUSES,
    ESCAPED,
    UNK,
    Vocabulary,
    code_points,
    normalised_blocks,
)

MIN_HELD_OUT = 100
"""Units. A shorter held-out text says nothing about a model, so none is held out."""

BLOCK = 1 << 19
"""Bytes of a file, or characters of a text, that are read at a time."""

IN_MEMORY = 1 << 26
"""Bytes of ids that are held in memory; more of them go into a temporary file."""

RESIDENT = 1 << 22
"""Units read from mapped ids before their pages, which count as memory in use, are let go."""

SAMPLE = 1 << 12
"""Bytes at the beginning of a file by which it is recognised."""

SAID_AFTER, SAID_EVERY = 5.0, 15.0
"""Seconds of reading after which a notice says how much has been read, and between two of them."""

LOOKAHEAD = 1 << 19
"""Characters in which a text that has lines has a line break."""

PART = 10
"""A line that the end of the training text cuts is left out where it is at most this part of it."""

SHUFFLED = 1 << 22
"""Units whose lines are shuffled together where lines are held out."""

WINDOWS, WINDOW = 16, 1 << 16
"""How many places of a text its lines are looked at in, and units of each."""

SHORT_LINE, FEW_LINES = 24, 10
"""Units of a short line, on average; fewer lines than this say nothing of a text."""

UNLIKE, DRAWS = 0.4, 8
"""Share of the tail's lines that begin with other letters than the rest's, beyond chance, which
is the mean over so many draws. Of 1,738 texts and source files 6 are above, one of them a sorted
list; of 300 sorted lists of 125 to 400 names 292."""

Notice = Callable[[str], None]


def _ignore(message: str) -> None:
    pass


# --- from files to text ------------------------------------------------------------------------


def _name(source: str | os.PathLike[str]) -> str:
    """What messages call a source."""
    name = os.fspath(source)
    return "standard input" if name == "-" else name or "an empty name"


class Reading:
    """The reading of a corpus: says now and then how much has been read, and ends in time."""

    def __init__(self, notice: Notice = _ignore, until: float = math.inf) -> None:
        """`until` is a moment of `time.monotonic`."""
        self.notice, self.until = notice, until
        self.over = False
        """Whether time ended the reading before the end of the files."""
        self._read, self._say_at = 0, time.monotonic() + SAID_AFTER

    def blocks(self, file: IO[bytes], name: str) -> Iterator[bytes]:
        """The bytes of a file, until the time is over."""
        limited = self.until < math.inf
        read = file.read1 if limited else file.read  # type: ignore[attr-defined]
        while not limited or self._waits(file, name):
            data = read(BLOCK)
            if not data:
                return
            self._read += len(data)
            if time.monotonic() >= self._say_at:
                self._say_at = time.monotonic() + SAID_EVERY
                self.notice(f"{name}: reading, {self._read / 1e6:,.0f} MB so far")
            yield data

    def _waits(self, file: IO[bytes], name: str) -> bool:
        """Wait until there is something to read; False where there is no time for it."""
        if self.over:
            return False
        left = self.until - time.monotonic()
        ready: list[Any] = [file]
        with contextlib.suppress(OSError, ValueError):  # what cannot be waited for is read
            ready = select.select([file], [], [], max(0.0, left))[0]
        if left > 0 and ready:
            return True
        self.over = True
        self.notice(
            f"{name}: stopped reading after {self._read:,} bytes, since training needs the "
            "rest of train.max_time; what is learnt is that much of the text, and another run "
            "may read more or less"
        )
        return False


def _read_bytes(
    source: str | os.PathLike[str], promptly: bool = False, reading: Reading | None = None
) -> Iterator[bytes]:
    """What is in a file, or on standard input, in blocks; or `promptly` what there is of one."""
    name = _name(source)

    def blocks(file: IO[bytes]) -> Iterator[bytes]:
        if promptly:
            return iter(lambda: file.read1(BLOCK), b"")  # type: ignore[attr-defined]
        return (reading or Reading()).blocks(file, name)

    try:
        if os.fspath(source) == "-":
            yield from blocks(sys.stdin.buffer)
        else:
            with open(source, "rb") as file:
                if _endless(file):
                    raise CorpusError(
                        f"{name}: is a device, which may have no end; name a file, or pipe in "
                        "what you want of it"
                    )
                yield from blocks(file)
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; check the name") from None
    except IsADirectoryError:
        raise CorpusError(f"{name}: is a directory; name the files in it") from None
    except OSError as e:
        raise CorpusError(f"{name}: cannot be read: {e.strerror}") from None
    except (AttributeError, ValueError):  # standard input is closed, or a NUL in the name
        raise CorpusError(f"{name}: cannot be read") from None


def _endless(file: IO[bytes]) -> bool:
    """Whether it is a device such as /dev/zero; of a terminal or of /dev/null there is an end."""
    info = os.fstat(file.fileno())
    if not stat.S_ISCHR(info.st_mode) or file.isatty():
        return False
    return not os.path.samestat(info, os.stat(os.devnull))


def _sniffed(
    blocks: Iterator[bytes], name: str, encoding: str | None, notice: Notice, strict: bool
) -> Iterator[bytes]:
    """The same blocks. Where the first one is not what it is read as, that is a notice; where it
    cannot even be decoded, and `strict`, a `CorpusError`."""
    beginning = next(blocks, b"")
    if encoding is not None and codecs.lookup(encoding).name in MARKS:
        while len(beginning) < 4 and (more := next(blocks, b"")):  # until a mark is whole
            beginning += more
    cause = likely_cause(beginning[:SAMPLE], encoding)
    if cause is not None:
        if encoding is not None and strict:
            try:
                _decoder(encoding, beginning).decode(beginning)
            except UnicodeError:
                raise CorpusError(f"{name}: {cause}") from None
        notice(f"{name}: {cause}")
    return itertools.chain([beginning], blocks)


UNSTREAMED = ("idna", "punycode", "unicode-escape")
"""Encodings whose incremental decoders in Python lose their way between two blocks."""

MARKS = {
    "utf-16": {codecs.BOM_UTF16_LE: "-le", codecs.BOM_UTF16_BE: "-be"},
    "utf-32": {codecs.BOM_UTF32_LE: "-le", codecs.BOM_UTF32_BE: "-be"},
}
"""Byte order marks of encodings that have two orders, and the order that each stands for."""

SUPERSETS = {
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
}
"""Encodings whose names are given to files of their larger successors, by which they are decoded;
browsers do the same."""

CODE_PAGES = ("cp1252", "cp1254", "cp874")
"""Of these, encodings of one byte a character. A byte that they leave undefined is the control
character that it was before them, so that any file can be decoded as it could be then."""


class _CodePage(codecs.IncrementalDecoder):
    """Decodes one of `CODE_PAGES`."""

    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__(errors)
        undefined = "\ufffe"  # for charmap_decode
        self.table = "".join(
            c if c != "\ufffd" else chr(byte) if byte < 0xA0 else undefined
            for byte, c in enumerate(bytes(range(256)).decode(encoding, "replace"))
        )

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]
        return codecs.charmap_decode(data, self.errors, self.table)[0]


def _incremental(encoding: str, errors: str = "strict") -> codecs.IncrementalDecoder:
    """A decoder for an encoding, by the name that `codecs.lookup` has for it."""
    larger = SUPERSETS.get(encoding, encoding)
    if encoding in SUPERSETS and larger in CODE_PAGES:
        return _CodePage(larger, errors)
    return codecs.getincrementaldecoder(larger)(errors)


BYTE_ESCAPES = "charlstm-byte-escapes"
"""The error handler that makes a lone surrogate, U+DC80 to U+DCFF, of each byte that cannot be
decoded in any encoding. Unlike `ESCAPED` it does so with bytes below 0x80, too, and the way back
is closed."""


def _escape_bytes(e: UnicodeError) -> tuple[str, int]:
    if not isinstance(e, UnicodeDecodeError):
        raise e
    return "".join(chr(0xDC80 | byte) for byte in e.object[e.start : e.end]), e.end


codecs.register_error(BYTE_ESCAPES, _escape_bytes)


def _in_order(encoding: str, beginning: bytes) -> str:
    """An encoding with the byte order of a file that begins so. A file without a mark is in the
    order of this machine, as it is for `bytes.decode`."""
    encoding = codecs.lookup(encoding).name
    for mark, order in MARKS.get(encoding, {}).items():
        if beginning.startswith(mark):
            return encoding + order
    native = "-le" if sys.byteorder == "little" else "-be"
    return encoding + native if encoding in MARKS else encoding


def _decoder(encoding: str, beginning: bytes) -> codecs.IncrementalDecoder:
    """A decoder for a file, by its encoding and its first bytes."""
    name = codecs.lookup(encoding).name
    if any(beginning.startswith(mark) for mark in MARKS.get(name, {})):
        return _incremental(name)  # which drops the mark
    return _incremental(_in_order(name, beginning))


class _Place:
    """How far the reading of a file is."""

    def __init__(self) -> None:
        self.bytes, self.line, self.column = 0, 1, 1
        """Bytes before it; the line and the character in it, both from 1."""

    def move(self, text: str) -> None:
        """Move on over the text that was decoded."""
        breaks = text.count("\n")
        self.line += breaks
        self.column = len(text) - text.rfind("\n") if breaks else self.column + len(text)

    def __str__(self) -> str:
        return f"line {self.line:,}, column {self.column:,}"


def read_blocks(
    source: str | os.PathLike[str],
    encoding: str | None = "utf-8",
    notice: Notice = _ignore,
    reading: Reading | None = None,
) -> Iterator[str]:
    """As `read_text`, but the text comes in blocks. A `reading` may end before the file does."""
    name = _name(source)
    blocks = _read_bytes(source, reading=reading)
    blocks = _sniffed(blocks, name, encoding, notice, strict=True)
    if encoding is None:
        escaping = codecs.getincrementaldecoder("utf-8")(ESCAPED)
        for data in itertools.chain(blocks, [b""]):
            yield escaping.decode(data, final=not data)
        return
    if codecs.lookup(encoding).name in UNSTREAMED:
        blocks = iter([b"".join(blocks)])
    beginning = next(blocks, b"")
    decoder = _decoder(encoding, beginning)
    place = _Place()
    at_start = True
    for data in itertools.chain([beginning], blocks, [b""]):
        before = decoder.getstate()
        try:
            whole = reading is None or not reading.over  # else it may end within a character
            text = decoder.decode(data, final=whole and not data)
            text.encode("utf-32-le")  # some encodings let lone surrogates through
        except UnicodeDecodeError as e:  # its object begins with what was left of other blocks
            left = len(e.object) - len(data)
            decoder.setstate(before)
            good = decoder.decode(data[: max(0, e.start - left)])
            place.move(good.removeprefix("\ufeff") if at_start else good)
            raise CorpusError(
                f"{name}: byte {place.bytes - left + e.start} (0x{e.object[e.start]:02x}), "
                f"{place}, is not valid {encoding}; {_remedy(encoding, e.object)}"
            ) from None
        except UnicodeEncodeError as e:
            place.move(text[: e.start])
            raise CorpusError(f"{name}: {place}, is not valid {encoding}") from None
        except UnicodeError:
            raise CorpusError(f"{name}: is not valid {encoding}") from None
        if at_start and text:
            at_start = False
            if text[0] == "\ufeff":
                notice(f"{name}: dropped the byte order mark at its start")
                text = text[1:]
        place.bytes += len(data)
        place.move(text)
        yield text


def _remedy(encoding: str, data: bytes) -> str:
    """What to do about bytes that are not in an encoding."""
    likely = likely_encoding(data, encoding)
    if likely is not None:
        return f"it seems to be {likely}; if so, --set text.encoding={likely}"
    if encoding != "utf-8":  # it has been named
        return "convert the file to UTF-8, or leave the bytes out"
    return "convert the file, or name its encoding with --set text.encoding=NAME"


def read_text(
    source: str | os.PathLike[str], encoding: str | None = "utf-8", notice: Notice = _ignore
) -> str:
    """The text in a file, or on standard input where `source` is "-".

    Nothing in it is changed but a byte order mark at the start, which is dropped. Without an
    encoding it is a file of bytes: each stays, and one that is not UTF-8 is a lone surrogate
    (`ESCAPED`). Raises `UsageError` for a missing file and `CorpusError` for one that cannot be
    read or decoded.
    """
    return "".join(read_blocks(source, encoding, notice))


# --- lines -------------------------------------------------------------------------------------


class Line(str):
    """The text of a line, without its end. A byte that cannot be decoded is a lone surrogate."""

    __slots__ = ("bad", "column", "raw")

    raw: bytes
    """The bytes that it came as, its end included; where the last line has none, with one."""
    column: bytes
    """The same, for the last column of a table, which is in ASCII: as UTF-8, where the encoding
    is one that cannot stand beside ASCII."""
    bad: int
    """The place, from 1, of the first byte in it that cannot be decoded; 0 where there is none."""

    @classmethod
    def of(cls, text: str, raw: bytes, in_table: bool = True) -> Line:
        """From a text and bytes that still have their end."""
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
    source: str | os.PathLike[str], encoding: str | None = "utf-8", notice: Notice = _ignore
) -> Iterator[list[Line]]:
    """The lines of a file, some at a time: those of a block together, and those that come through
    a pipe as soon as they are complete.

    A line ends with a line feed, and a carriage return before it belongs to the end. Bytes that
    cannot be decoded end nothing: the lines that have some say so, and so does one notice at the
    end. A byte order mark stays in the bytes of the first line, and is no part of its text. Raises
    `UsageError` for a missing file and `CorpusError` for one that cannot be read.
    """
    name = _name(source)
    blocks = _read_bytes(source, promptly=True)
    blocks = _sniffed(blocks, name, encoding, notice, strict=False)
    beginning = next(blocks, b"")
    encoded = "utf-8" if encoding is None else _in_order(encoding, beginning)
    decode = _line_decoder(encoded, ESCAPED if encoding is None else BYTE_ESCAPES)
    end = _line_end(encoded)
    in_table = end == b"\n"
    number, damaged, first = 0, 0, ""
    for lines in _raw_lines(itertools.chain([beginning], blocks), end):
        found = []
        for raw in lines:
            text = decode(raw)
            if not number and encoding is not None:
                text = text.removeprefix("\ufeff")
                if not text:  # nothing but a mark
                    continue
            line = Line.of(text, raw if raw.endswith(end) else raw + end, in_table)
            number += 1
            if line.bad and encoding is not None:
                damaged += 1
                first = first or f"line {number:,}, column {line.bad:,}"
            found.append(line)
        yield found
    if damaged:
        lines_of = "1 line" if damaged == 1 else f"{damaged:,} lines"
        where = f"at {first}" if damaged == 1 else f"the first at {first}"
        notice(
            f"{lines_of} of {name} had bytes that are not {str(encoding).upper()}, {where}; "
            "they count as outside the vocabulary"
        )


def _line_end(encoding: str) -> bytes:
    """What a line feed is in an encoding."""
    if encoding.startswith(("utf-16", "utf-32")):
        return "\n".encode(encoding)
    try:
        return b"\n" if b"\n".decode(encoding) == "\n" else "\n".encode(encoding)
    except UnicodeError:
        return b"\n"


def _line_decoder(encoding: str, errors: str) -> Callable[[bytes], str]:
    """Decodes line after line."""
    decoder = _incremental(encoding, errors)

    def decode(raw: bytes) -> str:
        try:
            if encoding in UNSTREAMED:
                return raw.decode(encoding, errors)
            # a line that lacks an end is the last one
            return decoder.decode(raw, final=not raw.endswith(end))
        except UnicodeError:  # an encoding without such handlers
            return "".join(chr(0xDC80 | byte) for byte in raw.removesuffix(end))

    end = _line_end(encoding)
    return decode


def _raw_lines(blocks: Iterable[bytes], end: bytes) -> Iterator[list[bytes]]:
    """The lines in blocks of bytes, with their ends, some at a time."""
    width = len(end)  # bytes of a code unit
    waiting: list[bytes] = []  # of a line that has not ended
    rest = b""  # of a code unit that is not whole
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


def encoding_of(config: TextConfig) -> str | None:
    """How files are decoded; None where they are bytes and stay so."""
    return None if config.unit == "byte" else config.encoding


# --- where files meet --------------------------------------------------------------------------


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


# --- from text to ids --------------------------------------------------------------------------


def _cut(text: str) -> Iterator[str]:
    """A text in blocks."""
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))


@contextlib.contextmanager
def _id_file() -> Iterator[IO[bytes]]:
    """A file for ids: in memory while it is small, then on disk.

    On disk it has no name, where the system can do without, so that nothing is left of it however
    the process ends. An error in writing it is an `OutputError`.
    """
    try:
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            yield file
    except OSError as e:
        raise OutputError(
            f"the corpus needs a temporary file, which cannot be written: {e.strerror}; "
            "set the environment variable TMPDIR to a directory with more room"
        ) from None


def _array(file: IO[bytes], dtype: DTypeLike) -> Array:
    """All that is in a file of ids (N,), read-only; mapped where the file is on disk."""
    file.flush()
    size = file.seek(0, os.SEEK_END)
    buffer: bytes | mmap.mmap
    if size > IN_MEMORY:
        buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    else:
        file.seek(0)
        buffer = file.read()
    return np.ndarray(size // np.dtype(dtype).itemsize, dtype, buffer)


def _let_go(ids: Array) -> None:
    """Where ids are mapped, let the system have the pages back that were read; reading them again
    brings them back."""
    base: Any = ids
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _told(texts: Iterable[str], tell: Callable[[str], object]) -> Iterator[str]:
    """A text in blocks, each of which is told before it goes on."""
    for text in texts:
        tell(text)
        yield text


def _encode(texts: Iterable[str], config: TextConfig) -> tuple[Vocabulary, Array, str | None]:
    """Vocabulary and ids (N,) of a text that comes in blocks and can be read only once; and a
    notice where units were left out.

    What id a unit has is known when all have been seen. Until then they are numbered as they come
    up, and a number is written in the smallest type that holds all so far.
    """
    census = CENSUSES[config.unit]()
    written: dict[np.dtype[Any], int] = {}  # how many numbers of each type, in this order
    with _id_file() as file:
        for text in census.parts(texts):
            numbers = census.numbers(text)
            file.write(numbers.data)
            written[numbers.dtype] = written.get(numbers.dtype, 0) + len(numbers)
        N = sum(written.values())
        if N < 2:
            what = f"one {config.name}" if N else "empty"
            raise CorpusError(
                f"the corpus is {what}; give a text with at least two"
                + ("" if N else f" {config.name}s")
            )
        vocabulary, ids = census.vocabulary(config)
        ids = ids.astype(np.min_scalar_type(len(vocabulary) - 1))
        notice = None
        left_out = int(np.count_nonzero(ids == vocabulary.unknown)) - census.unknown
        if left_out:
            notice = (
                f"{left_out:,} of {len(ids) - census.unknown:,} {config.name}s are left out of the "
                f"vocabulary: {UNK} is {vocabulary.counts[vocabulary.unknown] / N:.2%} of the text"
            )
        _renumber(file, written, ids)
        return vocabulary, _array(file, ids.dtype), notice


def _renumber(file: IO[bytes], written: dict[np.dtype[Any], int], ids: Array) -> None:
    """Put ids[n] in the place of every number n in a file.

    `written` tells how many numbers of one type stand there, then of the next. It goes from the
    end to the beginning, since an id may take more room than the number that it replaces; ids that
    take less are brought together afterwards.
    """
    if set(written) == {ids.dtype} and np.array_equal(ids, np.arange(len(ids))):
        return
    widest = max([*written, ids.dtype], key=lambda dtype: dtype.itemsize)
    narrow, ids = ids.dtype, ids.astype(widest)
    old = sum(dtype.itemsize * n for dtype, n in written.items())
    new = sum(written.values()) * ids.itemsize
    for dtype, left in reversed(written.items()):
        while left > 0:
            n = min(left, BLOCK)
            left -= n
            old -= n * dtype.itemsize
            new -= n * ids.itemsize
            file.seek(old)
            numbers = np.frombuffer(file.read(n * dtype.itemsize), dtype)
            file.seek(new)
            file.write(ids[numbers.astype(np.intp)].data)
    if narrow != widest:
        _narrow(file, sum(written.values()), widest, narrow)


def _narrow(file: IO[bytes], N: int, wide: np.dtype[Any], narrow: np.dtype[Any]) -> None:
    """Bring N ids of a wide type in a file into a narrow one."""
    for at in range(0, N, BLOCK):
        file.seek(at * wide.itemsize)
        ids = np.frombuffer(file.read(min(BLOCK, N - at) * wide.itemsize), wide)
        file.seek(at * narrow.itemsize)
        file.write(ids.astype(narrow).data)
    file.truncate(N * narrow.itemsize)


def _encode_held_out(texts: Iterable[str], vocabulary: Vocabulary) -> tuple[Array, int]:
    """Ids (N,) of a held-out text that comes in blocks, `UNKNOWN` among them, in the smallest
    signed type; and how many of its units are outside the vocabulary."""
    dtype, outside = np.min_scalar_type(-len(vocabulary)), 0
    with _id_file() as file:
        for text in CENSUSES[vocabulary.unit]().parts(texts):
            ids = vocabulary.ids(text)
            if (ids == vocabulary.unknown).any():  # a word `UNK` that stands in the text is not
                outside += int(np.count_nonzero(vocabulary.outside(text)))
            file.write(ids.astype(dtype).data)
        return _array(file, dtype), outside


# --- training text and held-out text -----------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """What ends lines, as ids."""

    ends: Array
    """(0,), (1,) or, of CRLF, (2,): the line break; none where the text has no lines."""
    breaks: Array
    """Ids of which one at the end of the text ends its last line."""

    @classmethod
    def of(cls, line_break: str, vocabulary: Vocabulary) -> _Lines:
        def known(text: str) -> Array:
            ids = vocabulary.ids(text)
            known: Array = ids[ids != vocabulary.unknown]
            return known

        return cls(known(line_break), known("\r\n"))

    @property
    def last(self) -> int:
        """The unit that a line ends with."""
        return int(self.ends[-1])

    def closed(self, ids: Array) -> Array:
        """Ids (N,) with a line break after them, unless there is one or the text has no lines."""
        if not len(self.ends) or ids[-1] in self.breaks:
            return ids
        with _id_file() as file:
            for at in range(0, len(ids), BLOCK):
                file.write(ids[at : at + BLOCK].data)
                _let_go(ids)
            file.write(self.ends.astype(ids.dtype).data)
            return _array(file, ids.dtype)

    def shortened(self, ids: Array, part: int) -> Array:
        """Ids (N,) without the line that their end cuts, where that is at most 1 / `part` of
        them."""
        if not len(self.ends):
            return ids
        least = len(ids) - len(ids) // part
        for stop in range(len(ids), least, -BLOCK):
            start = max(least, stop - BLOCK)
            places = np.flatnonzero(ids[start:stop] == self.last)
            if len(places):
                return ids[: start + int(places[-1]) + 1]
        return ids

    def drawn(self, ids: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """The lines of ids (N,), which end with one, that are kept and those that are held out,
        each with this probability, in random order: those of about `SHUFFLED` units at a time."""
        with _id_file() as kept, _id_file() as held_out:
            at = 0
            while at < len(ids):
                stop = self._next(ids, at + SHUFFLED)
                block = ids[at:stop]
                ends = np.flatnonzero(block == self.last) + 1
                lengths, order = np.diff(ends, prepend=0), rng.permutation(len(ends))
                out = rng.random(len(ends)) < share
                for file, lines in ((kept, order[~out]), (held_out, order[out])):
                    n = lengths[lines]
                    shift = ends[lines] - np.cumsum(n)  # from a place in the new order to the old
                    file.write(block[np.arange(n.sum()) + np.repeat(shift, n)].data)
                at = stop
                _let_go(ids)
            return _array(kept, ids.dtype), _array(held_out, ids.dtype)

    def _next(self, ids: Array, at: int) -> int:
        """The first place from `at` on where a line begins, or the end."""
        while at < len(ids):
            places = np.flatnonzero(ids[at - 1 : at - 1 + BLOCK] == self.last)
            if len(places):
                return at + int(places[0])
            at += BLOCK
        return len(ids)


def _letters(vocabulary: Vocabulary) -> Array:
    """For each unit (V,) the number of the letter that it begins with: without accents, of a
    Hangul syllable its first consonant, and one for all digits."""

    def letter(unit: str) -> int:
        if vocabulary.unit == "byte":
            unit = chr(int(unit, 16))
        first = unicodedata.normalize("NFD", unit[:1])[:1].lower()[:1]
        return ord("0") if first.isdigit() else ord(first or " ")

    return np.array([letter(unit) for unit in vocabulary.units])


def _first_letters(ids: Array, last: int, letters: Array) -> tuple[Array, float]:
    """The first letters (n,) of lines in `WINDOWS` windows over a text, and how many units a line
    has."""
    starts = np.arange(0, len(ids), WINDOW)
    evenly = np.linspace(0, len(starts) - 1, min(WINDOWS, len(starts))).astype(np.intp)
    found, units = [], 0
    for start in starts[evenly].tolist():
        window = ids[start : start + WINDOW]
        places = np.flatnonzero(window[:-1] == last) + 1
        found.append(letters[window[places]])
        units += len(window)
        _let_go(ids)
    firsts = np.concatenate(found)
    return firsts, units / max(1, len(firsts))


def _tail_is_unlike(rest: Array, tail: Array, vocabulary: Vocabulary, lines: _Lines) -> bool:
    """Whether the lines of the tail begin with other letters than those of the rest, as in a
    sorted list: by more than as many lines drawn at random would, and where lines are so short
    that their first letters count."""
    if not len(lines.ends):
        return False
    letters = _letters(vocabulary)
    of_rest, _ = _first_letters(rest, lines.last, letters)
    of_tail, units = _first_letters(tail, lines.last, letters)
    longest = SHORT_LINE // 6 if vocabulary.unit == "word" else SHORT_LINE
    if len(of_tail) < FEW_LINES or len(of_rest) < FEW_LINES or units > longest:
        return False
    together = np.concatenate([of_rest, of_tail])
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(together) for _ in range(DRAWS)]
    n, V = len(of_rest), int(together.max()) + 1

    def distance(of_lines: Array) -> float:
        """Total variation distance between the last ones and the n before them."""
        a, b = (np.bincount(part, minlength=V) for part in (of_lines[:n], of_lines[n:]))
        return float(np.abs(a / a.sum() - b / b.sum()).sum()) / 2

    return distance(together) - sum(map(distance, drawn)) / DRAWS > UNLIKE


@dataclass
class Corpus:
    """A text split for training: ids of what is learnt from, and of what is held out."""

    vocabulary: Vocabulary
    train: Array
    """(N,) of the smallest unsigned type that holds the vocabulary."""
    valid: Array
    """(M,) of the same type; of a text of its own the smallest signed one, with `UNKNOWN` where a
    unit is outside a vocabulary that has no entry for such."""
    sha256: str
    """Of the whole text's code points, held-out text included: tells one corpus from another."""
    notices: list[str] = field(default_factory=list)
    split_at: int | None = None
    """Units up to the held-out tail, or to the end of the text. Earlier versions trained on all
    of these, a line that the split cuts included, and on no line break at the end."""

    @classmethod
    def from_text(
        cls,
        text: str,
        valid: float = 0.1,
        valid_text: str | None = None,
        *,
        rng_seed: int = 0,
        **others: Any,
    ) -> Corpus:
        """Split off the last `valid` of the text, or hold out `valid_text` instead. `others` are
        keys of the configuration's section `text`, such as `unit`; `rng_seed` draws the lines of
        `split="lines"`.

        The vocabulary is that of the whole text, so that a character which only the held-out
        part has is one the model can be asked about.
        """
        held_out = None if valid_text is None else _cut(valid_text)
        config = TextConfig(valid=valid, **others)
        return cls._of([("the text", _cut(text))], config, held_out, rng_seed)

    @classmethod
    def from_files(
        cls,
        sources: Sequence[str | os.PathLike[str]],
        config: TextConfig | None = None,
        valid_source: str | os.PathLike[str] | None = None,
        notice: Notice = _ignore,
        *,
        rng_seed: int = 0,
        seconds: float = math.inf,
    ) -> Corpus:
        """Read files in order, as one text, for half of so many `seconds` at most, and the
        held-out text to three quarters of them. Raises what `read_text` raises, and `OutputError`
        where a large text finds no room for its temporary file."""
        config = config or TextConfig()
        began = time.monotonic()
        readings = [Reading(notice, began + share * seconds) for share in (0.5, 0.75)]

        def blocks(source: str | os.PathLike[str], reading: Reading) -> Iterator[str]:
            return read_blocks(source, encoding_of(config), notice, reading=reading)

        files = ((_name(source), blocks(source, readings[0])) for source in sources)
        held_out = None if valid_source is None else blocks(valid_source, readings[1])
        return cls._of(files, config, held_out, rng_seed, readings[0])

    @classmethod
    def _of(
        cls,
        files: Iterable[tuple[str, Iterable[str]]],
        config: TextConfig,
        of_its_own: Iterable[str] | None,
        rng_seed: int,
        reading: Reading | None = None,
    ) -> Corpus:
        """From files, each in blocks, and, perhaps, a held-out text of its own."""
        digest, seams = hashlib.sha256(), Seams(config.unit)
        texts = _told(
            normalised_blocks(seams.join(files), config.normalize),
            lambda text: digest.update(code_points(text).data),
        )
        vocabulary, ids, left_out = _encode(texts, config)
        notices = seams.notices() + ([left_out] if left_out else [])
        lines = _Lines.of(seams.line_break, vocabulary)
        if reading is not None and reading.over:
            ids = lines.shortened(ids, 2)
        N = len(ids)
        cut = int(N * (1.0 - config.valid))
        train, held_out = ids, ids[:0]
        if of_its_own is not None:
            digest.update(b"held out:")
            of_its_own = _told(
                normalised_blocks(of_its_own, config.normalize),
                lambda text: digest.update(text.encode("utf-8", ESCAPED)),
            )
            held_out, outside = _encode_held_out(of_its_own, vocabulary)
            if len(held_out) < 2:
                raise CorpusError(f"the held-out text is empty; give at least two {config.name}s")
            if outside:
                notices.append(
                    f"{outside:,} of the {len(held_out):,} {config.name}s of the held-out text are "
                    "outside the vocabulary"
                )
        elif config.valid > 0 and N - cut >= MIN_HELD_OUT:
            if config.split == "tail":
                train, held_out = lines.shortened(ids[:cut], PART), ids[cut:]
                if _tail_is_unlike(train, held_out, vocabulary, lines):
                    notices.append(
                        "the held-out tail looks unlike the rest, since its lines begin with "
                        "other letters, as in a sorted list; where lines stand for themselves, "
                        "shuffle them with --set text.split=lines"
                    )
                return cls(vocabulary, train, held_out, digest.hexdigest(), notices, cut)
            if not len(lines.ends):
                raise CorpusError("the corpus has no lines to hold out; use text.split=tail")
            rng = np.random.default_rng([rng_seed, *b"lines"])
            train, held_out = lines.drawn(lines.closed(ids), config.valid, rng)
            if min(len(train), len(held_out)) < MIN_HELD_OUT:
                train, held_out = ids, ids[:0]
            digest.update(f"held out: {config.valid!r} of the lines, {rng_seed}".encode())
        if config.valid > 0 and not len(held_out):
            notices.append(
                f"{N:,} {config.name}s are too few to hold any out: "
                "trained on all of them, without a held-out loss"
            )
        whole = None if config.split == "lines" and of_its_own is None else N
        return cls(vocabulary, lines.closed(train), held_out, digest.hexdigest(), notices, whole)


# --- from ids to streams -----------------------------------------------------------------------


class Streams:
    """A text read as B contiguous streams, T units of each at a time.

    The text is a ring: stream b starts at b N / B, and where it comes to the place at which
    another one started it simply goes on. So the recurrent state is carried for ever, every
    unit is used, and `position`, the number of units read from each stream, is all that must be
    kept to go on from here.
    """

    def __init__(
        self, ids: Array, B: int, T: int, position: int = 0, part: slice = slice(None)
    ) -> None:
        """With `part`, only those of the streams are read."""
        self.ids, self.T, self.position = ids, T, position
        self._offsets = (np.arange(B, dtype=np.int64) * len(ids) // B)[part]  # (B,)
        self._steps = np.arange(T + 1, dtype=np.int64)[:, None]  # (T + 1, 1)
        self._resident = 0  # units read since pages were last let go

    def next(self) -> Array:
        """The next segment (T + 1, B): rows 0 … T-1 are inputs, rows 1 … T their targets."""
        places = (self._offsets + self._steps + self.position % len(self.ids)) % len(self.ids)
        self.position += self.T
        segment: Array = self.ids[places].astype(np.intp)
        self._resident += segment.size
        if self._resident >= RESIDENT:
            _let_go(self.ids)
            self._resident = 0
        return segment
