"""The units of text and their ids: characters, bytes or words.

What a unit is, is known here alone. A `Vocabulary` turns text into ids and ids into text, and its
`Census` makes it: it numbers the units of a text as they come up, and counts them. Text is `str`
for every unit; a byte that is no part of UTF-8 is a lone surrogate in it, U+DC80 to U+DCFF, by
Python's error handler "surrogateescape".
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from charlstm.config.schema import UNIT_NAMES
from charlstm.errors import VocabularyError
from charlstm.nn.arrays import Array
from charlstm.text.normal_forms import normalised, normalised_blocks
from charlstm.text.visible import escaped

UNKNOWN = -1
"""The id of a unit outside a vocabulary that has no entry for such."""

UNK, EOS = "<unk>", "<eos>"
"""The entry for units that are outside the vocabulary; and the word that a line end is."""

NO_CHARACTER = sys.maxunicode + 1
"""What stands for `UNK` among code points: the number after the last one."""

ESCAPED = "surrogateescape"
"""The error handler that keeps bytes which are not UTF-8."""


def code_points(text: str) -> Array:
    """The characters of a text as numbers (N,), uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Writer(NamedTuple):
    """Makes text of ids that come one after the other."""

    write: Callable[[int], str]
    """What an id adds to the text; it may be nothing yet."""
    end: Callable[[], str]
    """What is left when no more come."""


class Vocabulary:
    """The units a model knows, each with an id from 0 up.

    `units` (V,) are their texts; `counts` (V,) int64 how often each stands in the corpus. Texts
    are normalised, as `normalize` says, before they become ids.
    """

    unit: ClassVar[str]
    """What a unit is: char, byte or word, as the configuration has it."""
    unknown: int = UNKNOWN
    """The id of whatever is outside: that of `UNK`, or `UNKNOWN` where there is no such entry."""
    charged: int = UNKNOWN
    """The id that costs a fixed price when it comes, and not what the model makes of it."""
    line_end: int | None = None
    """The id that ends a line, where the corpus has it."""
    line_ends: tuple[int, ...] = ()
    """The ids that a line end is or, of CRLF, begins with, as far as the corpus has them."""

    def __init__(self, units: Sequence[str], counts: Array, normalize: str = "none") -> None:
        self.units, self.counts = list(units), np.asarray(counts, np.int64)
        self.normalize = normalize

    @property
    def name(self) -> str:
        """What a unit is called."""
        return UNIT_NAMES[self.unit]

    def __len__(self) -> int:
        return len(self.units)

    def has_units_of(self, other: Vocabulary) -> bool:
        """Whether an id stands for the same here and there."""
        return (self.unit, self.units) == (other.unit, other.units)

    @property
    def line_break(self) -> str:
        """What ends the lines of the corpus: a line feed, in most with a carriage return or not."""
        returns, feeds = (self.counts[self.encode(c)].sum() if c in self else 0 for c in "\r\n")
        return "\r\n" if 0 < feeds <= 2 * returns else "\n"

    def __contains__(self, unit: str) -> bool:
        """Whether a unit is known; `UNK` itself, where it is one that a text can have."""
        return not self.outside(unit).any()

    def normalised(self, text: str) -> str:
        return normalised(text, self.normalize)

    def ids(self, text: str) -> Array:
        """Ids (N,) int32 of a text that is normalised."""
        raise NotImplementedError

    def split(self, text: str) -> Sequence[str]:
        """The units (N,) of a text that is normalised, as messages show them."""
        raise NotImplementedError

    def blocks(self, texts: Iterable[str]) -> Iterator[str]:
        """A text that comes in blocks, normalised, in blocks that cut no unit."""
        return normalised_blocks(texts, self.normalize)

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        """For ids that continue the text `before`. `errors` is what `bytes.decode` does about
        bytes that are not UTF-8, where units are bytes."""
        return Writer(self.units.__getitem__, str)

    def stored(self) -> Array:
        """The units as an array that a checkpoint holds."""
        raise NotImplementedError

    def listed(self) -> str | list[str] | list[int]:
        """The units that a text can have, as JSON holds them."""
        return self.units

    def shown(self, most: int = 60) -> str:
        """Some of the units, as a line shows them after their number."""
        listed = self.listed()
        between = "" if isinstance(listed, str) else " "
        text = between.join(escaped(str(unit)) for unit in listed[:most]).replace('"', r"\"")
        return f': "{text}"' + " …" * (len(listed) > most)

    def encode(self, text: str) -> Array:
        """Ids (N,) int32 of a text; `unknown` for what is outside."""
        return self.ids(self.normalised(text))

    def outside(self, text: str) -> Array:
        """Which units (N,) of a text are outside the vocabulary."""
        outside: Array = self.encode(text) == self.unknown
        return outside

    def encode_strictly(self, text: str, what: str) -> Array:
        """As `encode`, but a unit outside is a `VocabularyError` that says which, where."""
        places = np.flatnonzero(self.outside(text))
        if len(places):
            units = self.split(self.normalised(text))
            shown = ", ".join(f"'{escaped(units[p])}' at position {p}" for p in places[:5].tolist())
            more = f" and {len(places) - 5} more" if len(places) > 5 else ""
            raise VocabularyError(
                f"{what} has {self.name}s outside the model's vocabulary: {shown}{more}; "
                "leave them out, or drop them with --unknown skip"
            )
        return self.encode(text)

    def without_unknown(self, text: str) -> tuple[str, int]:
        """A text, normalised, without the units that are outside, and how many these were."""
        outside = self.outside(text)
        if not outside.any():
            return self.normalised(text), 0
        return self.decode(self.encode(text)[~outside]), int(outside.sum())

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for."""
        write, end = self.writer()
        return "".join([write(i) for i in ids]) + end()


class Characters(Vocabulary):
    """Characters, which are Unicode's code points, in their order.

    Where some of the corpus were left out, the last entry is `UNK`. It stands for these while the
    model learns, and for any other as context; but as what comes next, all that is outside costs
    one price, whether a vocabulary has this entry or not.
    """

    unit = "char"

    def __init__(self, points: Array, counts: Array, normalize: str = "none") -> None:
        """`points` (V,) uint32, ascending; `NO_CHARACTER`, as the last, is `UNK`."""
        self.points = np.asarray(points, np.uint32)
        known = self.points[self.points < NO_CHARACTER]
        units = [chr(p) for p in known.tolist()]
        if len(known) < len(self.points):
            units.append(UNK)
            self.unknown = self.charged = len(known)
        super().__init__(units, counts, normalize)
        self._ids = np.full(int(known[-1]) + 2, self.unknown, np.int32)
        self._ids[known] = np.arange(len(known))
        line_end = int(self.ids("\n")[0])
        self.line_end = None if line_end == self.unknown else line_end
        ends = self.ids("\r\n")
        self.line_ends = tuple(ends[ends != self.unknown].tolist())

    def ids(self, text: str) -> Array:
        return self._ids[np.minimum(code_points(text), len(self._ids) - 1)]

    def split(self, text: str) -> Sequence[str]:
        return text

    def listed(self) -> str:
        return "".join(unit for unit in self.units if unit != UNK)

    def shown(self, most: int = 60) -> str:
        return (f" and {UNK}" if self.unknown >= 0 else "") + super().shown(most)

    def stored(self) -> Array:
        return self.points


class Bytes(Vocabulary):
    """All 256 bytes; nothing is outside."""

    unit = "byte"

    def __init__(self, counts: Array, normalize: str = "none") -> None:
        super().__init__([f"0x{byte:02x}" for byte in range(256)], counts, normalize)
        self.line_end = 10 if self.counts[10] else None
        self.line_ends = tuple(byte for byte in b"\r\n" if self.counts[byte])

    def ids(self, text: str) -> Array:
        try:
            data = text.encode("utf-8", ESCAPED)
        except UnicodeEncodeError as e:
            raise VocabularyError(f"the text has {text[e.start]!a}, no character") from None
        return np.frombuffer(data, np.uint8).astype(np.int32)

    def split(self, text: str) -> Sequence[str]:
        return [self.units[i] for i in self.ids(text).tolist()]

    def listed(self) -> list[int]:
        """Those that the corpus has."""
        found: list[int] = np.flatnonzero(self.counts).tolist()
        return found

    def shown(self, most: int = 60) -> str:
        return f", of which the corpus has {len(self.listed())}"

    def outside(self, text: str) -> Array:
        return np.zeros(len(self.encode(text)), np.bool_)

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        decoder, each = codecs.getincrementaldecoder("utf-8")(errors), list(map(_byte, range(256)))
        return Writer(lambda i: decoder.decode(each[i]), lambda: decoder.decode(b"", True))

    def stored(self) -> Array:
        return np.arange(256, dtype=np.uint32)


def _byte(i: int) -> bytes:
    return bytes([i])


class Words(Vocabulary):
    """Words: what stands between white space, and `EOS` at each line end.

    First `UNK` and `EOS`, then the words, the more frequent first, of equally frequent ones by
    their code points. `UNK` and `EOS` that stand in a text are these entries.
    """

    unit = "word"
    unknown = 0

    def __init__(self, units: Sequence[str], counts: Array, normalize: str = "none") -> None:
        super().__init__(units, counts, normalize)
        self._ids = {word: i for i, word in enumerate(self.units)}
        self.line_end = 1 if self.counts[1] else None
        self.line_ends = () if self.line_end is None else (1,)

    def ids(self, text: str) -> Array:
        words, get = words_of(text), self._ids.get
        return np.fromiter((get(word, self.unknown) for word in words), np.int32, len(words))

    def split(self, text: str) -> Sequence[str]:
        return words_of(text)

    def blocks(self, texts: Iterable[str]) -> Iterator[str]:
        return whole_words(super().blocks(texts))

    def outside(self, text: str) -> Array:
        words = words_of(self.normalised(text))
        return np.fromiter((word not in self._ids for word in words), np.bool_, len(words))

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        after_word, line_end, units = bool(before) and not before[-1].isspace(), 1, self.units

        def write(i: int) -> str:
            nonlocal after_word
            space, after_word = after_word, i != line_end
            return "\n" if i == line_end else f" {units[i]}" if space else units[i]

        return Writer(write, str)

    def stored(self) -> Array:
        return np.frombuffer("".join(f"{word}\n" for word in self.units).encode(), np.uint8)


def words_of(text: str) -> list[str]:
    """The words of a text, `EOS` for each line end among them."""
    return text.replace("\n", f" {EOS} ").split()


def whole_words(texts: Iterable[str]) -> Iterator[str]:
    """A text that comes in blocks, in blocks that end with white space, but for the last."""
    waiting: list[str] = []  # a word may go on in the next block
    for text in texts:
        at = len(text)
        while at and not text[at - 1].isspace():
            at -= 1
        if at:
            yield "".join([*waiting, text[:at]])
            waiting = []
        waiting.append(text[at:])
    yield "".join(waiting)
