"""From files to the ids of a text for training and of a held-out text, and the batch streams.

A text is read once, block by block, and only its ids are kept: one, two or four bytes a unit.
Past `ids.IN_MEMORY` bytes they are in a mapped temporary file, so a text of many gigabytes needs
little memory.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.text.ids import encode, encode_held_out, release
from charlstm.text.normal_forms import normalised_blocks
from charlstm.text.reading import (
    Notice,
    Reading,
    Source,
    blocks_of,
    encoding_of,
    ignore,
    name_of,
    read_blocks,
)
from charlstm.text.seams import Seams
from charlstm.text.split import Lines, tail_is_unlike
from charlstm.text.units import code_points
from charlstm.text.vocabulary import ESCAPED, Vocabulary

MIN_HELD_OUT = 100
"""The fewest units that are held out. A shorter text says nothing about a model."""

CUT_PART = 10
"""The training text loses a line that its end cuts, but no more than 1 / `CUT_PART` of itself."""

RESIDENT = 1 << 22
"""Units read from mapped ids before their pages, which count as memory in use, are released."""


@dataclass
class Corpus:
    """A text split for training: ids to learn from, and ids that are held out."""

    vocabulary: Vocabulary
    train: Array  # (N,) of the smallest unsigned type that holds the vocabulary
    valid: Array
    """(M,) of the same type; of a text of its own the smallest signed one, with `UNKNOWN` where a
    unit is outside a vocabulary that has no entry for such."""
    sha256: str  # of the whole text, held-out text included, by which a corpus is known again
    notices: list[str] = field(default_factory=list)
    split_at: int | None = None
    """Units up to the held-out tail, or to the end of the text; None where lines are held out.
    Earlier versions trained on these, a cut line included, without a line break at the end."""

    @classmethod
    def from_text(
        cls,
        text: str,
        valid: float = 0.1,
        valid_text: str | None = None,
        *,
        rng_seed: int = 0,
        **others: Any,
    ) -> Self:
        """Split off the last `valid` of the text, or hold out `valid_text` instead. `others` are
        keys of the configuration's section `text`, such as `unit`; `rng_seed` draws the lines of
        `split="lines"`. The vocabulary is that of the whole text, held-out part included."""
        own = None if valid_text is None else blocks_of(valid_text)
        config = TextConfig(valid=valid, **others)
        return cls._of([("the text", blocks_of(text))], config, own, rng_seed, Reading())

    @classmethod
    def from_files(
        cls,
        sources: Sequence[Source],
        config: TextConfig | None = None,
        valid_source: Source | None = None,
        notice: Notice = ignore,
        *,
        rng_seed: int = 0,
        seconds: float = math.inf,
    ) -> Self:
        """Read files in order as one text. Their reading ends after half of `seconds`, that of the
        held-out text after three quarters. Raises what `read_text` raises, and `OutputError` where
        a large text finds no room for its temporary file."""
        config, began = config or TextConfig(), time.monotonic()
        first, last = (Reading(notice, began + share * seconds) for share in (0.5, 0.75))
        encoding, own = encoding_of(config), None
        files = ((name_of(s), read_blocks(s, encoding, notice, first)) for s in sources)
        if valid_source is not None:
            own = read_blocks(valid_source, encoding, notice, last)
        return cls._of(files, config, own, rng_seed, first)

    @classmethod
    def _of(
        cls,
        files: Iterable[tuple[str, Iterable[str]]],
        config: TextConfig,
        own: Iterable[str] | None,
        rng_seed: int,
        reading: Reading,
    ) -> Self:
        """`files` are names and texts in blocks; `own` is a held-out text of its own in blocks."""
        digest, seams = hashlib.sha256(), Seams(config.unit)
        texts, form = seams.join(files), config.normalize
        texts = _hashed(texts, form, lambda text: digest.update(code_points(text).data))
        vocabulary, ids, left_out = encode(texts, config)
        lines = Lines.of(seams.line_break, vocabulary)
        if reading.over:
            ids = lines.shortened(ids, 2)
        cut = int(len(ids) * (1.0 - config.valid))
        enough = config.valid > 0 and len(ids) - cut >= MIN_HELD_OUT
        corpus = cls(vocabulary, ids, ids[:0], "", seams.notices() + left_out, len(ids))
        if own is None and config.split == "tail" and enough:
            corpus._hold_out_tail(cut, lines)
        else:
            corpus.train = lines.closed(ids)
        if own is not None:
            digest.update(b"held out:")
            own = _hashed(own, form, lambda text: digest.update(text.encode("utf-8", ESCAPED)))
            corpus._hold_out_text(own)
        elif config.split == "lines":
            corpus.split_at = None
            if enough:
                corpus._hold_out_lines(config.valid, lines, rng_seed)
                digest.update(f"held out: {config.valid!r} of the lines, {rng_seed}".encode())
        if config.valid > 0 and not len(corpus.valid):
            corpus.notices.append(
                f"{len(ids):,} {config.name}s are too few to hold any out: "
                "trained on all of them, without a held-out loss"
            )
        corpus.sha256 = digest.hexdigest()
        return corpus

    def _hold_out_tail(self, cut: int, lines: Lines) -> None:
        """Hold out the ids from `cut` on, and train on no line that the cut leaves incomplete."""
        self.split_at, self.valid = cut, self.train[cut:]
        self.train = lines.shortened(self.train[:cut], CUT_PART)
        if tail_is_unlike(self.train, self.valid, self.vocabulary, lines):
            self.notices.append(
                "the held-out tail looks unlike the rest, since its lines begin with "
                "other letters, as in a sorted list; where lines stand for themselves, "
                "shuffle them with --set text.split=lines"
            )

    def _hold_out_lines(self, share: float, lines: Lines, rng_seed: int) -> None:
        """Hold out a share of the lines, where enough remains on both sides."""
        if not len(lines.ends):
            raise CorpusError("the corpus has no lines to hold out; use text.split=tail")
        rng = np.random.default_rng([rng_seed, *b"lines"])
        train, valid = lines.drawn(self.train, share, rng)
        if min(len(train), len(valid)) >= MIN_HELD_OUT:
            self.train, self.valid = train, valid

    def _hold_out_text(self, texts: Iterable[str]) -> None:
        self.valid, outside = encode_held_out(texts, self.vocabulary)
        name = self.vocabulary.name
        if len(self.valid) < 2:
            raise CorpusError(f"the held-out text is empty; give at least two {name}s")
        if outside:
            self.notices.append(
                f"{outside:,} of the {len(self.valid):,} {name}s of the held-out text are "
                "outside the vocabulary"
            )


def _hashed(texts: Iterable[str], form: str, update: Callable[[str], None]) -> Iterator[str]:
    """A text in blocks, normalised; each block enters a digest before it is passed on."""
    for text in normalised_blocks(texts, form):
        update(text)
        yield text


class Streams:
    """A text read as B contiguous streams, T units of each at a time.

    The text is a ring. Stream b starts at b N / B and never ends, so the recurrent state is
    carried on for ever and every unit is used. `position`, the number of units read from each
    stream, is all that a resumed run needs.
    """

    def __init__(
        self, ids: Array, B: int, T: int, position: int = 0, part: slice = slice(None)
    ) -> None:
        """`part` are the streams to read, of all B."""
        self.ids, self.T, self.position = ids, T, position
        self._offsets = (np.arange(B, dtype=np.int64) * len(ids) // B)[part]  # (B,)
        self._steps = np.arange(T + 1, dtype=np.int64)[:, None]  # (T + 1, 1)
        self._resident = 0  # units read since pages were last released

    def next(self) -> Array:
        """The next segment (T + 1, B): rows 0 … T-1 are inputs, rows 1 … T their targets."""
        places = (self._offsets + self._steps + self.position % len(self.ids)) % len(self.ids)
        self.position += self.T
        segment: Array = self.ids[places].astype(np.intp)
        self._resident += segment.size
        if self._resident >= RESIDENT:
            release(self.ids)
            self._resident = 0
        return segment
