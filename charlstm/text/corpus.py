"""From files to streams of ids: decoding, encoding, held-out split and contiguous streams.

A text is read once, block by block, and only its ids are kept: one, two or four bytes a unit.
Past `IN_MEMORY` bytes they stand in a temporary file that is mapped, so that a text of many
gigabytes is trained on in little memory.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError
from charlstm.nn.arrays import Array
from charlstm.text.ids import encode, encode_held_out, passed_to
from charlstm.text.normal_forms import normalised_blocks
from charlstm.text.reading import (
    Notice,
    Reading,
    blocks_of,
    encoding_of,
    ignore,
    name_of,
    read_blocks,
)
from charlstm.text.seams import Seams
from charlstm.text.split import Lines, tail_is_unlike
from charlstm.text.vocabulary import ESCAPED, Vocabulary, code_points

MIN_HELD_OUT = 100
"""Units. A shorter held-out text says nothing about a model, so none is held out."""


PART = 10
"""A line that the end of the training text cuts is left out where it is at most this part of it."""


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
        held_out = None if valid_text is None else blocks_of(valid_text)
        config = TextConfig(valid=valid, **others)
        return cls._of([("the text", blocks_of(text))], config, held_out, rng_seed)

    @classmethod
    def from_files(
        cls,
        sources: Sequence[str | os.PathLike[str]],
        config: TextConfig | None = None,
        valid_source: str | os.PathLike[str] | None = None,
        notice: Notice = ignore,
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

        files = ((name_of(source), blocks(source, readings[0])) for source in sources)
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
        texts = passed_to(
            normalised_blocks(seams.join(files), config.normalize),
            lambda text: digest.update(code_points(text).data),
        )
        vocabulary, ids, left_out = encode(texts, config)
        notices = seams.notices() + ([left_out] if left_out else [])
        lines = Lines.of(seams.line_break, vocabulary)
        if reading is not None and reading.over:
            ids = lines.shortened(ids, 2)
        N = len(ids)
        cut = int(N * (1.0 - config.valid))
        train, held_out = ids, ids[:0]
        if of_its_own is not None:
            digest.update(b"held out:")
            of_its_own = passed_to(
                normalised_blocks(of_its_own, config.normalize),
                lambda text: digest.update(text.encode("utf-8", ESCAPED)),
            )
            held_out, outside = encode_held_out(of_its_own, vocabulary)
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
                if tail_is_unlike(train, held_out, vocabulary, lines):
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
