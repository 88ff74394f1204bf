"""From text to ids, which are kept in a temporary file where they are many."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError, OutputError
from charlstm.nn.arrays import Array
from charlstm.text.census import CENSUSES
from charlstm.text.units import VOCABULARIES
from charlstm.text.vocabulary import UNK, Vocabulary

try:
    import mmap
except ImportError:  # not on every system
    mmap = None  # type: ignore[assignment]

CHUNK = 1 << 19
"""Ids that are copied or searched at a time."""

IN_MEMORY = 1 << 26
"""Bytes of ids that are kept in memory; more of them go into a temporary file."""


@contextlib.contextmanager
def id_file() -> Iterator[IO[bytes]]:
    """A file for ids: in memory while it is small, then on disk. There it has no name, where the
    system allows that, so nothing remains of it however the process ends."""
    try:
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            yield file
    except OSError as e:
        raise OutputError(
            f"the corpus needs a temporary file, which cannot be written: {e.strerror}; "
            "set the environment variable TMPDIR to a directory with more room"
        ) from None


def as_array(file: IO[bytes], dtype: DTypeLike) -> Array:
    """The ids (N,) of a file, read-only; mapped where the file is on disk."""
    file.flush()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    mapped = size > IN_MEMORY and mmap is not None
    buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if mapped else file.read()
    return np.ndarray(size // np.dtype(dtype).itemsize, dtype, buffer)  # `release` needs this base


def release(ids: Array) -> None:
    """Give the system the pages back that were read of mapped ids. Another read restores them."""
    base: Any = ids
    while isinstance(base, np.ndarray):
        base = base.base
    if hasattr(mmap, "MADV_DONTNEED") and isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined,unused-ignore]


def find(ids: Array, unit: int, start: int, last: bool = False) -> int | None:
    """The first place of a unit in ids (N,), or the last one, from `start` on."""
    starts = range(start, len(ids), CHUNK)
    for at in reversed(starts) if last else starts:
        places = np.flatnonzero(ids[at : at + CHUNK] == unit)
        if len(places):
            return at + int(places[-1 if last else 0])
    return None


def extended(ids: Array, more: Array) -> Array:
    """Ids (N,) with more ids (M,) after them, as one array (N + M,)."""
    with id_file() as file:
        for at in range(0, len(ids), CHUNK):
            file.write(ids[at : at + CHUNK].data)
            release(ids)
        file.write(more.astype(ids.dtype).data)
        return as_array(file, ids.dtype)


def encode(texts: Iterable[str], config: TextConfig) -> tuple[Vocabulary, Array, list[str]]:
    """Vocabulary and ids (N,) of a text that comes in blocks and can be read only once; and a
    notice where units were left out. The numbers of a `Census` are written first; ids replace them
    when all units have been seen."""
    census = CENSUSES[config.unit]()
    written: dict[np.dtype[Any], int] = {}  # how many numbers of each type, in this order
    with id_file() as file:
        for text in VOCABULARIES[config.unit].whole_units(texts):
            numbers = census.numbers(text)
            file.write(numbers.data)
            written[numbers.dtype] = written.get(numbers.dtype, 0) + len(numbers)
        N, name = sum(written.values()), config.name
        if N < 2:
            what, least = (f"one {name}", "two") if N else ("empty", f"two {name}s")
            raise CorpusError(f"the corpus is {what}; give a text with at least {least}")
        vocabulary, ids = census.vocabulary(config)
        ids = ids.astype(np.min_scalar_type(len(vocabulary) - 1))
        left_out = int(np.count_nonzero(ids == vocabulary.unknown)) - census.unknown
        notice = (
            f"{left_out:,} of {len(ids) - census.unknown:,} {name}s are left out of the "
            f"vocabulary: {UNK} is {vocabulary.counts[vocabulary.unknown] / N:.2%} of the text"
        )
        _renumber(file, written, ids)
        return vocabulary, as_array(file, ids.dtype), [notice] if left_out else []


def _renumber(file: IO[bytes], written: dict[np.dtype[Any], int], ids: Array) -> None:
    """Replace every number n in a file by ids[n]. `written` has how many numbers of one type stand
    there, then of the next.

    The replacement goes from the end to the beginning, since an id may take more room than its
    number. Ids that take less are moved together afterwards.
    """
    if set(written) == {ids.dtype} and np.array_equal(ids, np.arange(len(ids))):
        return
    narrow, widest = ids.dtype, max([*written, ids.dtype], key=lambda dtype: dtype.itemsize)
    ids, N = ids.astype(widest), sum(written.values())
    old, new = sum(dtype.itemsize * n for dtype, n in written.items()), widest.itemsize * N
    for dtype, left in reversed(written.items()):
        while left > 0:
            n = min(left, CHUNK)
            left, old, new = left - n, old - n * dtype.itemsize, new - n * widest.itemsize
            file.seek(old)
            numbers = np.frombuffer(file.read(n * dtype.itemsize), dtype)
            file.seek(new)
            file.write(ids[numbers.astype(np.intp)].data)
    if narrow != widest:
        for at in range(0, N, CHUNK):
            file.seek(at * widest.itemsize)
            wide = np.frombuffer(file.read(CHUNK * widest.itemsize), widest)
            file.seek(at * narrow.itemsize)
            file.write(wide.astype(narrow).data)
        file.truncate(N * narrow.itemsize)


def encode_held_out(texts: Iterable[str], vocabulary: Vocabulary) -> tuple[Array, int]:
    """Ids (N,) of a held-out text that comes in blocks, `UNKNOWN` among them, in the smallest
    signed type; and how many of its units are outside the vocabulary."""
    dtype, outside = np.min_scalar_type(-len(vocabulary)), 0
    with id_file() as file:
        for text in vocabulary.whole_units(texts):
            ids = vocabulary.ids(text)
            if (ids == vocabulary.unknown).any():  # perhaps only a word `UNK` of the text
                outside += int(np.count_nonzero(vocabulary.outside(text)))
            file.write(ids.astype(dtype).data)
        return as_array(file, dtype), outside
