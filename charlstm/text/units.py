"""Characters, bytes and words: what a vocabulary of each knows."""

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np

from charlstm.config.schema import TextConfig
from charlstm.errors import VocabularyError
from charlstm.nn.arrays import Array
from charlstm.text.normal_forms import recut
from charlstm.text.vocabulary import EOS, ESCAPED, UNK, Vocabulary, Writer

NO_CHARACTER = sys.maxunicode + 1
"""What stands for `UNK` among code points: the number after the last one."""


def code_points(text: str) -> Array:
    """The characters of a text as numbers (N,), uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class Characters(Vocabulary):
    """Characters, which are Unicode's code points, in their order.

    Where some of the corpus were left out, the last entry is `UNK`. The model learns it in their
    place, and reads it as context for every character outside. As a target a character outside
    costs one price, whether a vocabulary has this entry or not.
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
        self.line_ends = tuple(i for i in self.ids("\r\n").tolist() if i != self.unknown)
        self.line_end = next((i for i in self.line_ends if units[i] == "\n"), None)

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

    @classmethod
    def _restored(cls, stored: Array, counts: Array, text: TextConfig) -> "Characters":
        points = stored.astype(np.int64)
        left_out = text.min_count > 1 or text.max_vocabulary is not None
        if (np.diff(points) <= 0).any() or points[-1] > NO_CHARACTER - (not left_out):
            raise ValueError("its vocabulary is not in order")
        if ((points >= 0xD800) & (points <= 0xDFFF)).any() or points[0] == NO_CHARACTER:
            raise ValueError("its vocabulary is not text")
        return cls(stored.copy(), counts, text.normalize)


class Bytes(Vocabulary):
    """All 256 bytes; nothing is outside."""

    unit = "byte"
    is_text = False
    limited = False
    reserved = 256

    def __init__(self, counts: Array, normalize: str = "none") -> None:
        super().__init__([f"0x{byte:02x}" for byte in range(256)], counts, normalize)
        self.line_ends = tuple(byte for byte in b"\r\n" if self.counts[byte])
        self.line_end = ord("\n") if self.counts[ord("\n")] else None

    def ids(self, text: str) -> Array:
        try:
            data = text.encode("utf-8", ESCAPED)
        except UnicodeEncodeError as e:
            raise VocabularyError(f"the text has {text[e.start]!a}, no character") from None
        return np.frombuffer(data, np.uint8).astype(np.int32)

    def split(self, text: str) -> Sequence[str]:
        return [self.units[i] for i in self.ids(text).tolist()]

    def reader(self) -> Callable[[str], str]:
        write = self.writer().write
        return lambda unit: write(int(unit, 16))

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        decoder = codecs.getincrementaldecoder("utf-8")(errors)
        each = [bytes([byte]) for byte in range(256)]
        return Writer(lambda i: decoder.decode(each[i]), lambda: decoder.decode(b"", True))

    def shown_ids(self, text: str, ids: Array, before: str, errors: str) -> Array:
        write, length = self.writer(before, errors).write, 0
        for n, i in enumerate(ids.tolist()):
            if length >= len(text):
                return ids[:n]
            length += len(write(i))
        return ids

    def within_lines(self) -> Array:
        return np.isin(np.arange(256), list(b"\r\n"), invert=True)

    def completing(self, texts: Iterable[str]) -> Array:
        lasts = "".join(text[-1] for text in texts)
        return np.isin(np.arange(256), list(map(ord, lasts))) | (not lasts.isascii())

    def first_characters(self) -> list[str]:
        return list(map(chr, range(256)))

    def listed(self) -> list[int]:
        return [byte for byte in range(256) if self.counts[byte]]

    def shown(self, most: int = 60) -> str:
        return f", of which the corpus has {len(self.listed())}"

    def stored(self) -> Array:
        return np.arange(256, dtype=np.uint32)

    @classmethod
    def _restored(cls, stored: Array, counts: Array, text: TextConfig) -> "Bytes":
        if stored.tolist() != list(range(256)):
            raise ValueError("its vocabulary is not all bytes")
        return cls(counts, text.normalize)


class Words(Vocabulary):
    """Words: what stands between white space, and `EOS` at each line end.

    First `UNK` and `EOS`, then the words, the more frequent first, of equally frequent ones by
    their code points. `UNK` and `EOS` that stand in a text are these entries.
    """

    unit = "word"
    between = " "
    usual_length = 6
    mostly_rare = True
    reserved = 2
    unknown = 0

    def __init__(self, units: Sequence[str], counts: Array, normalize: str = "none") -> None:
        super().__init__(units, counts, normalize)
        self._ids = {word: i for i, word in enumerate(self.units)}
        if self.counts[self._ids[EOS]]:
            self.line_end = self._ids[EOS]
            self.line_ends = (self.line_end,)

    def ids(self, text: str) -> Array:
        words = self.split(text)
        ids = map(self._ids.get, words, repeat(self.unknown))  # no Python code for each word
        return np.fromiter(ids, np.int32, len(words))

    @staticmethod
    def split(text: str) -> list[str]:
        return text.replace("\n", f" {EOS} ").split()

    @staticmethod
    def whole_units(texts: Iterable[str]) -> Iterator[str]:
        return recut(texts, lambda text, at: at > 0 and text[at - 1].isspace())

    def outside(self, text: str) -> Array:
        words = self.split(self.normalised(text))
        return np.fromiter((word not in self._ids for word in words), np.bool_, len(words))

    def reader(self, before: str = "") -> Callable[[str], str]:
        after_word = bool(before) and not before[-1].isspace()

        def write(word: str) -> str:
            nonlocal after_word
            space, after_word = after_word, word != EOS
            return "\n" if word == EOS else f" {word}" if space else word

        return write

    def writer(self, before: str = "", errors: str = "replace") -> Writer:
        write, units = self.reader(before), self.units
        return Writer(lambda i: write(units[i]), str)

    def line_key(self, line: str) -> str:
        return " ".join(line.split())

    def within_lines(self) -> Array:
        return np.arange(len(self)) >= self.reserved

    def completing(self, texts: Iterable[str]) -> Array:
        lasts = {text[-1] for text in texts}
        return np.array([not lasts.isdisjoint(f" {word}\n") for word in self.units], np.bool_)

    def stored(self) -> Array:
        return np.frombuffer("".join(f"{word}\n" for word in self.units).encode(), np.uint8)

    @staticmethod
    def stored_as(V: int, size: int) -> tuple[str, tuple[int]]:
        return "|u1", (size,)

    @classmethod
    def _restored(cls, stored: Array, counts: Array, text: TextConfig) -> "Words":
        try:
            *words, rest = stored.tobytes().decode("utf-8").split("\n")
        except UnicodeDecodeError:
            raise ValueError("its vocabulary is not text") from None
        if rest or len(words) != len(counts) or words[:2] != [UNK, EOS]:
            raise ValueError(f"its vocabulary is not of {len(counts)} words")
        if any(word.split() != [word] for word in words):
            raise ValueError("its vocabulary has words with white space")
        order = list(zip((-counts[2:]).tolist(), words[2:], strict=True))
        if order != sorted(set(order)) or not {UNK, EOS}.isdisjoint(words[2:]):
            raise ValueError("its vocabulary is not in order")
        if len(set(words)) < len(words):
            raise ValueError("its vocabulary has a word twice")
        return cls(words, counts, text.normalize)


VOCABULARIES: dict[str, type[Vocabulary]] = {kind.unit: kind for kind in (Characters, Bytes, Words)}
"""By unit."""
