"""From files to text: reading, decoding, and what is said of both."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import math
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError, UsageError
from charlstm.text.encodings import MARKS, UNSTREAMED, decoder_of
from charlstm.text.sniff import likely_cause, likely_encoding
from charlstm.text.vocabulary import ESCAPED

BLOCK = 1 << 19
"""Bytes of a file, or characters of a text, that are read at a time."""


SAMPLE = 1 << 12
"""Bytes at the beginning of a file by which it is recognised."""

SAID_AFTER, SAID_EVERY = 5.0, 15.0
"""Seconds of reading after which a notice says how much has been read, and between two of them."""


Notice = Callable[[str], None]


def ignore(message: str) -> None:
    pass


def name_of(source: str | os.PathLike[str]) -> str:
    """What messages call a source."""
    name = os.fspath(source)
    return "standard input" if name == "-" else name or "an empty name"


class Reading:
    """The reading of a corpus: says now and then how much has been read, and ends in time."""

    def __init__(self, notice: Notice = ignore, until: float = math.inf) -> None:
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


def read_bytes(
    source: str | os.PathLike[str], promptly: bool = False, reading: Reading | None = None
) -> Iterator[bytes]:
    """What is in a file, or on standard input, in blocks; or `promptly` what there is of one."""
    name = name_of(source)

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


def sniffed(
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
                decoder_of(encoding, beginning).decode(beginning)
            except UnicodeError:
                raise CorpusError(f"{name}: {cause}") from None
        notice(f"{name}: {cause}")
    return itertools.chain([beginning], blocks)


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
    notice: Notice = ignore,
    reading: Reading | None = None,
) -> Iterator[str]:
    """As `read_text`, but the text comes in blocks. A `reading` may end before the file does."""
    name = name_of(source)
    blocks = read_bytes(source, reading=reading)
    blocks = sniffed(blocks, name, encoding, notice, strict=True)
    if encoding is None:
        escaping = codecs.getincrementaldecoder("utf-8")(ESCAPED)
        for data in itertools.chain(blocks, [b""]):
            yield escaping.decode(data, final=not data)
        return
    if codecs.lookup(encoding).name in UNSTREAMED:
        blocks = iter([b"".join(blocks)])
    beginning = next(blocks, b"")
    decoder = decoder_of(encoding, beginning)
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
    source: str | os.PathLike[str], encoding: str | None = "utf-8", notice: Notice = ignore
) -> str:
    """The text in a file, or on standard input where `source` is "-".

    Nothing in it is changed but a byte order mark at the start, which is dropped. Without an
    encoding it is a file of bytes: each stays, and one that is not UTF-8 is a lone surrogate
    (`ESCAPED`). Raises `UsageError` for a missing file and `CorpusError` for one that cannot be
    read or decoded.
    """
    return "".join(read_blocks(source, encoding, notice))


def encoding_of(config: TextConfig) -> str | None:
    """How files are decoded; None where they are bytes and stay so."""
    return None if config.unit == "byte" else config.encoding


def blocks_of(text: str) -> Iterator[str]:
    """A text in blocks."""
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))
