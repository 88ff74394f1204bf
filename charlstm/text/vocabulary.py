"""The units that a model knows, and their ids.

A `Vocabulary` turns text into ids and ids into text; `units` has one for characters, bytes and
words. Text is `str` for every unit. A byte that is no part of UTF-8 is a lone surrogate in it,
U+DC80 to U+DCFF, by Python's error handler "surrogateescape".
"""

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from charlstm.config.schema import UNIT_NAMES, TextConfig
from charlstm.errors import VocabularyError
from charlstm.nn.arrays import Array
from charlstm.text.normal_forms import normalised, normalised_blocks
from charlstm.text.visible import escaped

UNKNOWN = -1
"""The id of a unit outside a vocabulary that has no entry for such."""

UNK, EOS = "<unk>", "<eos>"
"""The entry for units outside the vocabulary, and the word that stands for a line end."""

ESCAPED = "surrogateescape"
"""The error handler that keeps bytes which are not UTF-8."""


class Writer(NamedTuple):
    """Makes text of ids that come one after the other."""

    write: Callable[[int], str]  # the text that an id adds; it may be empty until the next one
    end: Callable[[], str]  # the text that is left after the last id


class Vocabulary:
    """The units that a model knows, each with an id from 0 up.

    `units` (V,) are their texts; `counts` (V,) int64 how often each occurs in the corpus. Texts
    are normalised, as `normalize` says, before they become ids.
    """

    unit: ClassVar[str]  # char, byte or word, as in a configuration
    is_text: ClassVar[bool] = True  # files are decoded, so that every unit has whole characters
    between: ClassVar[str] = ""  # the text between two units
    usual_length: ClassVar[int] = 1  # mean characters of a unit, with the text between units
    mostly_rare: ClassVar[bool] = False  # most units are rare in the corpus
    limited: ClassVar[bool] = True  # `text.min_count` and `text.max_vocabulary` leave units out
    reserved: ClassVar[int] = 0  # first entries that need not occur in the corpus

    unknown: int = UNKNOWN  # the id of every unit outside: that of `UNK`, or `UNKNOWN` without it
    charged: int = UNKNOWN  # the id that costs a fixed price as a target, whatever the prediction
    line_end: int | None = None  # the id that ends a line, where the corpus has it
    line_ends: tuple[int, ...] = ()
    """The ids of a line end, that of CR before LF included, as far as the corpus has them."""

    def __init__(self, units: Sequence[str], counts: Array, normalize: str = "none") -> None:
        self.units, self.counts = list(units), np.asarray(counts, np.int64)
        self.normalize = normalize

    def ids(self, text: str) -> Array:
        """Ids (N,) int32 of a text that is normalised."""
        raise NotImplementedError

    def split(self, text: str) -> Sequence[str]:
        """The units (N,) of a text that is normalised, as messages show them."""
        raise NotImplementedError

    @staticmethod
    def whole_units(texts: Iterable[str]) -> Iterable[str]:
        """A text that comes in blocks, in blocks that cut no unit."""
        return texts

    def blocks(self, texts: Iterable[str]) -> Iterable[str]:
        """The same, normalised."""
        return self.whole_units(normalised_blocks(texts, self.normalize))

    def reader(self) -> Callable[[str], str]:
        """The text that each unit, as `split` gives it, adds to those before it."""
        return str

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        """For ids that continue the text `before`. `errors` is what `bytes.decode` does about
        bytes that are not UTF-8, where units are bytes."""
        return Writer(self.units.__getitem__, str)

    def normalised(self, text: str) -> str:
        return normalised(text, self.normalize)

    def encode(self, text: str) -> Array:
        """Ids (N,) int32 of a text; `unknown` for units outside."""
        return self.ids(self.normalised(text))

    def outside(self, text: str) -> Array:
        """Which units (N,) of a text are outside the vocabulary."""
        return np.asarray(self.encode(text) == self.unknown)

    def encode_strictly(self, text: str, what: str) -> Array:
        """As `encode`, but units outside are a `VocabularyError` that names them and their places;
        `what` names the text."""
        places = np.flatnonzero(self.outside(text))
        if len(places):
            units = self.split(self.normalised(text))
            shown = ", ".join(f"'{escaped(units[p])}' at position {p}" for p in places[:5].tolist())
            shown += f" and {len(places) - 5} more" if len(places) > 5 else ""
            raise VocabularyError(
                f"{what} has {self.name}s outside the model's vocabulary: {shown}; "
                "leave them out, or drop them with --unknown skip"
            )
        return self.encode(text)

    def without_unknown(self, text: str) -> tuple[str, int]:
        """A text, normalised, without the units outside, and how many these were."""
        outside = self.outside(text)
        if not outside.any():
            return self.normalised(text), 0
        return self.decode(self.encode(text)[~outside]), int(outside.sum())

    def decode(self, ids: Iterable[int]) -> str:
        write, end = self.writer()
        return "".join([write(i) for i in ids]) + end()

    def shown_ids(self, text: str, ids: Array, before: str, errors: str) -> Array:
        """The ids of `text`, which is the beginning of what `ids` spell after `before`."""
        return self.encode(text)

    @property
    def line_break(self) -> str:
        """The end of the corpus's lines: LF, or CRLF where at least half of them have that."""
        returns, feeds = (self.counts[self.encode(c)].sum() if c in self else 0 for c in "\r\n")
        return "\r\n" if 0 < feeds <= 2 * returns else "\n"

    def line_key(self, line: str) -> str:
        """What equal lines have in common: all but blanks at the end, such as the CR of a CRLF."""
        return self.normalised(line).rstrip()

    def within_lines(self) -> Array:
        """Which units (V,) a line may have: all but its end and `UNK`."""
        return np.array([unit not in (UNK, "\n", "\r") for unit in self.units])

    def completing(self, texts: Iterable[str]) -> Array:
        """Which units (V,) may complete one of some texts."""
        lasts = {text[-1] for text in texts}
        return np.array([not lasts.isdisjoint(unit) for unit in self.units], np.bool_)

    @property
    def name(self) -> str:
        return UNIT_NAMES[self.unit]

    def __len__(self) -> int:
        return len(self.units)

    def __contains__(self, unit: str) -> bool:
        """Whether a unit is known; `UNK` itself, where it is one that a text can have."""
        return not self.outside(unit).any()

    def has_units_of(self, other: "Vocabulary") -> bool:
        """Whether every id stands for the same unit in both."""
        return (self.unit, self.units) == (other.unit, other.units)

    def prices_as(self, other: "Vocabulary") -> bool:
        """Whether the nats that models of both give to a text compare. A unit outside costs the
        same fixed price in both, or the model's price of `UNK`, which depends on the entries."""
        fixed = self.charged == self.unknown and other.charged == other.unknown
        return fixed or self.has_units_of(other)

    def first_characters(self) -> list[str]:
        """The first character of each unit (V,)."""
        return [unit[0] for unit in self.units]

    def listed(self) -> str | list[str] | list[int]:
        """The units that a text can have, as JSON holds them."""
        return self.units

    def shown(self, most: int = 60) -> str:
        """The first units, as a line shows them after their number."""
        listed = self.listed()
        between = "" if isinstance(listed, str) else " "
        text = between.join(escaped(str(unit)) for unit in listed[:most]).replace('"', r"\"")
        return f': "{text}"' + " …" * (len(listed) > most)

    def stored(self) -> Array:
        """The units as an array."""
        raise NotImplementedError

    @staticmethod
    def stored_as(V: int, size: int) -> tuple[str, tuple[int]]:
        """Type and shape of `stored` for V units, where it is an array of this size."""
        return "<u4", (V,)

    @classmethod
    def restored(cls, stored: Array, counts: Array, text: TextConfig) -> "Vocabulary":
        """The vocabulary of `stored` and `counts` (V,). A ValueError says why there is none of this
        configuration."""
        if counts.min() < 0 or not 1 < counts.sum(dtype=np.float64) < 2.0**53:
            raise ValueError(f"its {text.name}s are not counted right")
        if cls.limited and text.max_vocabulary and len(counts) > text.max_vocabulary:
            raise ValueError("its vocabulary is over its limit")
        if (counts[cls.reserved :] < 1).any():
            raise ValueError(f"its {text.name}s are not counted right")
        return cls._restored(stored, counts.copy(), text)

    @classmethod
    def _restored(cls, stored: Array, counts: Array, text: TextConfig) -> "Vocabulary":
        raise NotImplementedError
