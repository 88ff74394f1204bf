"""From files to streams of ids: decoding, vocabulary, held-out split and contiguous streams."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from charlstm.arrays import Array
from charlstm.errors import CorpusError, UsageError, VocabularyError

UNKNOWN = -1
"""The id of a character outside the vocabulary."""

MIN_HELD_OUT = 100
"""Characters. A shorter held-out text says nothing about a model, so none is held out."""

Notice = Callable[[str], None]


def _ignore(message: str) -> None:
    pass


def read_text(
    source: str | os.PathLike[str], encoding: str = "utf-8", notice: Notice = _ignore
) -> str:
    """The text in a file, or on standard input where `source` is "-".

    Nothing in it is changed but a byte order mark at the start, which is dropped. Raises
    `UsageError` for a missing file and `CorpusError` for one that cannot be read or decoded.
    """
    name = os.fspath(source)
    try:
        if name == "-":
            name = "standard input"
            data = sys.stdin.buffer.read()
        else:
            data = Path(name).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file; check the name") from None
    except IsADirectoryError:
        raise CorpusError(f"{name}: is a directory; name the files in it") from None
    except OSError as e:
        raise CorpusError(f"{name}: cannot be read: {e.strerror}") from None
    except (AttributeError, ValueError):  # standard input is closed, or a NUL in the name
        raise CorpusError(f"{name}: cannot be read") from None
    try:
        text = data.decode(encoding)
        text.encode("utf-32-le")  # some encodings let lone surrogates through
    except UnicodeDecodeError as e:
        raise CorpusError(
            f"{name}: byte {e.start} (0x{data[e.start]:02x}) is not valid {encoding}; "
            "convert the file, or name its encoding with --set text.encoding=NAME"
        ) from None
    except UnicodeError:
        raise CorpusError(f"{name}: is not valid {encoding}") from None
    if text.startswith("\ufeff"):
        notice(f"{name}: dropped the byte order mark at its start")
        text = text[1:]
    return text


def code_points(text: str) -> Array:
    """The characters of a text as numbers (N,), uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Vocabulary:
    """The characters a model knows, each with an id: its place in the order of code points.

    `points` (V,) uint32, ascending; `counts` (V,) int64, how often each stands in the corpus.
    """

    def __init__(self, points: Array, counts: Array) -> None:
        self.points = np.asarray(points, np.uint32)
        self.counts = np.asarray(counts, np.int64)
        self.characters = [chr(p) for p in self.points.tolist()]
        self._ids = np.full(int(self.points[-1]) + 2, UNKNOWN, np.int32)
        self._ids[self.points] = np.arange(len(self.points))

    @classmethod
    def of(cls, points: Array) -> Vocabulary:
        """The vocabulary of a text that is given by its code points (N,), N > 0."""
        counts = np.bincount(points)
        used = np.flatnonzero(counts)
        return cls(used, counts[used])

    def __len__(self) -> int:
        return len(self.points)

    def __contains__(self, character: str) -> bool:
        return bool(self.encode(character)[0] != UNKNOWN)

    def encode_points(self, points: Array) -> Array:
        """Ids (N,) int32 of code points (N,); `UNKNOWN` where there is none."""
        return self._ids[np.minimum(points, len(self._ids) - 1)]

    def encode(self, text: str) -> Array:
        """Ids (N,) int32 of a text; `UNKNOWN` for a character outside the vocabulary."""
        return self.encode_points(code_points(text))

    def encode_strictly(self, text: str, what: str) -> Array:
        """As `encode`, but a character outside is a `VocabularyError` that says which, where."""
        ids = self.encode(text)
        places = np.flatnonzero(ids == UNKNOWN)
        if len(places):
            shown = ", ".join(f"{text[p]!r} at position {p}" for p in places[:5].tolist())
            more = f" and {len(places) - 5} more" if len(places) > 5 else ""
            raise VocabularyError(
                f"{what} has characters outside the model's vocabulary: {shown}{more}; "
                "leave them out, or drop them with --unknown skip"
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for."""
        return "".join(self.characters[i] for i in ids)


@dataclass
class Corpus:
    """A text split for training: ids of what is learnt from, and of what is held out."""

    vocabulary: Vocabulary
    train: Array
    """(N,) of the smallest unsigned type that holds the vocabulary."""
    valid: Array
    """(M,) int32, `UNKNOWN` where a held-out character is outside the vocabulary."""
    sha256: str
    """Of the whole text's code points, held-out text included: tells one corpus from another."""
    notices: list[str] = field(default_factory=list)

    @classmethod
    def from_text(cls, text: str, valid: float = 0.1, valid_text: str | None = None) -> Corpus:
        """Split off the last `valid` of the text, or hold out `valid_text` instead.

        The vocabulary is that of the whole text, so that a character which only the held-out
        part has is one the model can be asked about.
        """
        if not text:
            raise CorpusError("the corpus is empty; give a text with at least two characters")
        if len(text) < 2:
            raise CorpusError("the corpus is one character; give a text with at least two")
        points = code_points(text)
        vocabulary = Vocabulary.of(points)
        V = len(vocabulary)
        ids = vocabulary.encode_points(points)
        digest = hashlib.sha256(points.tobytes())
        notices = []
        if valid_text is not None:
            held_out = vocabulary.encode(valid_text)
            digest.update(b"held out:" + valid_text.encode("utf-8"))
            if len(held_out) < 2:
                raise CorpusError("the held-out text is empty; give at least two characters")
        else:
            cut = int(len(ids) * (1.0 - valid))
            ids, held_out = ids[:cut], ids[cut:]
            if valid > 0 and len(held_out) < MIN_HELD_OUT:
                notices.append(
                    f"{len(text):,} characters are too few to hold any out: "
                    "trained on all of them, without a held-out loss"
                )
                ids, held_out = vocabulary.encode_points(points), held_out[:0]
        small = np.uint8 if V <= 1 << 8 else np.uint16 if V <= 1 << 16 else np.uint32
        return cls(vocabulary, ids.astype(small), held_out, digest.hexdigest(), notices)

    @classmethod
    def from_files(
        cls,
        sources: Sequence[str | os.PathLike[str]],
        encoding: str = "utf-8",
        valid: float = 0.1,
        valid_source: str | os.PathLike[str] | None = None,
        notice: Notice = _ignore,
    ) -> Corpus:
        """Read files in order, as one text."""
        text = "".join(read_text(source, encoding, notice) for source in sources)
        valid_text = None if valid_source is None else read_text(valid_source, encoding, notice)
        return cls.from_text(text, valid, valid_text)


class Streams:
    """A text read as B contiguous streams, T characters of each at a time.

    The text is a ring: stream b starts at b N / B, and where it comes to the place at which
    another one started it simply goes on. So the recurrent state is carried for ever, every
    character is used, and `position`, the number of characters read from each stream, is all
    that must be kept to go on from here.
    """

    def __init__(self, ids: Array, B: int, T: int, position: int = 0) -> None:
        self.ids, self.B, self.T, self.position = ids, B, T, position
        self._offsets = np.arange(B, dtype=np.int64) * len(ids) // B  # (B,)
        self._steps = np.arange(T + 1, dtype=np.int64)[:, None]  # (T + 1, 1)

    def next(self) -> Array:
        """The next segment (T + 1, B): rows 0 … T-1 are inputs, rows 1 … T their targets."""
        places = (self._offsets + self._steps + self.position % len(self.ids)) % len(self.ids)
        self.position += self.T
        segment: Array = self.ids[places].astype(np.intp)
        return segment
