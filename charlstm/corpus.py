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
import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array
from charlstm.config import TextConfig
from charlstm.errors import CorpusError, OutputError, UsageError
from charlstm.vocabulary import (
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

Notice = Callable[[str], None]


def _ignore(message: str) -> None:
    pass


# --- from files to text ------------------------------------------------------------------------


def _name(source: str | os.PathLike[str]) -> str:
    """What messages call a source."""
    name = os.fspath(source)
    return "standard input" if name == "-" else name or "an empty name"


def _read_bytes(source: str | os.PathLike[str], promptly: bool = False) -> Iterator[bytes]:
    """What is in a file, or on standard input, in blocks; or `promptly` what there is of one."""
    name = _name(source)

    def blocks(file: IO[bytes]) -> Iterator[bytes]:
        read = file.read1 if promptly else file.read  # type: ignore[attr-defined]
        return iter(lambda: read(BLOCK), b"")

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


UNSTREAMED = ("idna", "punycode", "unicode-escape")
"""Encodings whose incremental decoders in Python lose their way between two blocks."""


def _decoder(encoding: str, beginning: bytes) -> codecs.IncrementalDecoder:
    """A decoder for a file, by its encoding and its first bytes.

    Of UTF-16 and UTF-32 Python's incremental decoders demand a byte order mark. A file without
    one is in the order of this machine, as it is for `bytes.decode`.
    """
    encoding = codecs.lookup(encoding).name
    marks = {
        "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
        "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    }
    if encoding in marks and not beginning.startswith(marks[encoding]):
        encoding += "-le" if sys.byteorder == "little" else "-be"
    return codecs.getincrementaldecoder(encoding)()


def read_blocks(
    source: str | os.PathLike[str],
    encoding: str | None = "utf-8",
    notice: Notice = _ignore,
    promptly: bool = False,
) -> Iterator[str]:
    """As `read_text`, but the text comes in blocks; `promptly`, what is there comes at once."""
    name = _name(source)
    blocks = _read_bytes(source, promptly)
    if encoding is None:
        escaping = codecs.getincrementaldecoder("utf-8")(ESCAPED)
        for data in itertools.chain(blocks, [b""]):
            yield escaping.decode(data, final=not data)
        return
    if codecs.lookup(encoding).name in UNSTREAMED:
        blocks = iter([b"".join(blocks)])
    beginning = next(blocks, b"")
    decoder = _decoder(encoding, beginning)
    end = 0  # of the block, in bytes from the beginning of the file
    at_start = True
    for data in itertools.chain([beginning], blocks, [b""]):
        end += len(data)
        try:
            text = decoder.decode(data, final=not data)
            text.encode("utf-32-le")  # some encodings let lone surrogates through
        except UnicodeDecodeError as e:  # its object ends with the block, but may begin before it
            place, byte = end - len(e.object) + e.start, e.object[e.start]
            raise CorpusError(
                f"{name}: byte {place} (0x{byte:02x}) is not valid {encoding}; "
                "convert the file, or name its encoding with --set text.encoding=NAME"
            ) from None
        except UnicodeError:
            raise CorpusError(f"{name}: is not valid {encoding}") from None
        if at_start and text:
            at_start = False
            if text[0] == "\ufeff":
                notice(f"{name}: dropped the byte order mark at its start")
                text = text[1:]
        yield text


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


def read_lines(
    source: str | os.PathLike[str], encoding: str | None = "utf-8", notice: Notice = _ignore
) -> Iterator[list[str]]:
    """The lines of a file, without their ends, some at a time: those of a block together, and
    those that come through a pipe as soon as they are complete. Raises what `read_text` raises."""
    waiting: list[str] = []
    for text in read_blocks(source, encoding, notice, promptly=True):
        *lines, last = text.split("\n")
        if lines:
            lines[0] = "".join([*waiting, lines[0]])
            waiting = []
            yield lines
        waiting.append(last)
    rest = "".join(waiting)
    if rest:
        yield [rest]


def encoding_of(config: TextConfig) -> str | None:
    """How files are decoded; None where they are bytes and stay so."""
    return None if config.unit == "byte" else config.encoding


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


def _encode_held_out(texts: Iterable[str], vocabulary: Vocabulary) -> Array:
    """Ids (N,) of a held-out text that comes in blocks, `UNKNOWN` among them, in the smallest
    signed type."""
    dtype = np.min_scalar_type(-len(vocabulary))
    with _id_file() as file:
        for text in CENSUSES[vocabulary.unit]().parts(texts):
            file.write(vocabulary.ids(text).astype(dtype).data)
        return _array(file, dtype)


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

    @classmethod
    def from_text(
        cls, text: str, valid: float = 0.1, valid_text: str | None = None, **others: Any
    ) -> Corpus:
        """Split off the last `valid` of the text, or hold out `valid_text` instead. `others` are
        keys of the configuration's section `text`, such as `unit`.

        The vocabulary is that of the whole text, so that a character which only the held-out
        part has is one the model can be asked about.
        """
        held_out = None if valid_text is None else _cut(valid_text)
        return cls._of(_cut(text), TextConfig(valid=valid, **others), held_out)

    @classmethod
    def from_files(
        cls,
        sources: Sequence[str | os.PathLike[str]],
        config: TextConfig | None = None,
        valid_source: str | os.PathLike[str] | None = None,
        notice: Notice = _ignore,
    ) -> Corpus:
        """Read files in order, as one text. Raises what `read_text` raises, and `OutputError`
        where a large text finds no room for its temporary file."""
        config = config or TextConfig()
        encoding = encoding_of(config)
        texts = (text for source in sources for text in read_blocks(source, encoding, notice))
        held_out = None if valid_source is None else read_blocks(valid_source, encoding, notice)
        return cls._of(texts, config, held_out)

    @classmethod
    def _of(
        cls, texts: Iterable[str], config: TextConfig, of_its_own: Iterable[str] | None
    ) -> Corpus:
        """From a text in blocks and, perhaps, a held-out text of its own."""
        digest = hashlib.sha256()
        texts = _told(
            normalised_blocks(texts, config.normalize),
            lambda text: digest.update(code_points(text).data),
        )
        vocabulary, ids, left_out = _encode(texts, config)
        notices = [left_out] if left_out else []
        if of_its_own is not None:
            digest.update(b"held out:")
            of_its_own = _told(
                normalised_blocks(of_its_own, config.normalize),
                lambda text: digest.update(text.encode("utf-8", ESCAPED)),
            )
            held_out = _encode_held_out(of_its_own, vocabulary)
            if len(held_out) < 2:
                raise CorpusError(f"the held-out text is empty; give at least two {config.name}s")
        else:
            cut = int(len(ids) * (1.0 - config.valid))
            if config.valid > 0 and len(ids) - cut < MIN_HELD_OUT:
                notices.append(
                    f"{len(ids):,} {config.name}s are too few to hold any out: "
                    "trained on all of them, without a held-out loss"
                )
                cut = len(ids)
            ids, held_out = ids[:cut], ids[cut:]
        return cls(vocabulary, ids, held_out, digest.hexdigest(), notices)


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
