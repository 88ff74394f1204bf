"""Texts, and how they are read, for tests."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import charlstm.text.corpus
import charlstm.text.ids
import charlstm.text.reading
from charlstm.config.schema import TextConfig
from charlstm.text.census import CharacterCensus
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


SIZES = {
    "BLOCK": ((charlstm.text.reading, "BLOCK"), (charlstm.text.ids, "CHUNK")),
    "IN_MEMORY": ((charlstm.text.ids, "IN_MEMORY"),),
    "RESIDENT": ((charlstm.text.corpus, "RESIDENT"),),
}
"""Where each of the sizes is kept."""


@contextlib.contextmanager
def sizes_of(**sizes: int) -> Iterator[None]:
    """Within it, sizes are others: `BLOCK`, here also that of ids, `IN_MEMORY`, `RESIDENT`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            for home, constant in SIZES[name]:
                patch.setattr(home, constant, size)
        yield


def mapped(ids: Any) -> bool:
    """Whether an array is a view of a mapped file."""
    while isinstance(ids, np.ndarray):
        ids = ids.base
    return isinstance(ids, mmap.mmap)


def line_break_of(text: str, unit: str = "char") -> str:
    """What ends lines in a text, by the plain definition: the first line feed, with a carriage
    return before it where there is one, or a carriage return where there is no line feed."""
    if unit == "byte" and "\0" in text:
        return ""
    at = text.find("\n")
    return ("\r\n" if text[:at].endswith("\r") else "\n") if at >= 0 else "\r" * ("\r" in text)


def joined(parts: list[str], unit: str = "char") -> str:
    """Files as one text: a line break in between where the text has lines and there is none."""
    seam = line_break_of("".join(parts), unit) or " " * (unit == "word")
    text = ""
    for part in filter(None, parts):
        apart = not text or text[-1] in "\r\n" or part[0] in "\r\n"
        text += part if apart else seam + part
    return text


def closed(text: str, unit: str = "char") -> str:
    """A text that is trained on as a whole, as a ring: the last line ends where there are lines."""
    return text if text.endswith(("\r", "\n")) else text + line_break_of(text, unit)


def vocabulary_of(text: str) -> Vocabulary:
    census = CharacterCensus()
    census.numbers(text)
    return census.vocabulary(TextConfig())[0]


def split(N: int, valid: float = 0.1) -> tuple[Corpus, str]:
    text = ("abcdefghij" * (N // 10 + 1))[:N]
    return Corpus.from_text(text, valid), text


def digest_of(text: str, valid_text: str | None = None) -> str:
    """The digest as checkpoints have it."""
    digest = hashlib.sha256(text.encode("utf-32-le"))
    if valid_text is not None:
        digest.update(b"held out:" + valid_text.encode())
    return digest.hexdigest()


sizes = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 12))
