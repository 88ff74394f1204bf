"""What generation and comparison ask of a vocabulary holds for characters, bytes and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary

TEXT = "the sea was calm\r\nand the boat went out\n\n배가 나루에 닿았다 🚢\n" * 5
UNITS = ("char", "byte", "word")
every_unit = pytest.mark.parametrize("unit", UNITS)


def vocabulary(unit: str, text: str = TEXT, **keys: Any) -> Vocabulary:
    return Corpus.from_text(text, unit=unit, **keys).vocabulary


@every_unit
@pytest.mark.parametrize("stop", [[], ["t"], ["the", "\n"], [" "], ["다", "x"], ["\udc80"]])
def test_units_that_may_complete_a_text(unit: str, stop: list[str]) -> None:
    """No other unit ever completes one of the texts, whatever is written before it."""
    v = vocabulary(unit)
    may = v.completing(stop)
    assert may.shape == (len(v),)
    assert may.dtype == np.bool_
    lasts = {text[-1] for text in stop}
    for i in np.flatnonzero(~may).tolist():
        for before in ("", "a", " "):
            write, end = v.writer(before, "surrogateescape")
            written = write(i)
            assert lasts.isdisjoint(written), (i, written)
            if unit != "byte":
                assert end() == ""
    if not stop:
        assert not may.any()
    if stop == ["t"] and unit != "word":
        assert may.sum() == 1


@every_unit
def test_ids_of_a_text_that_is_cut(unit: str) -> None:
    """Ids of the text that is shown, where a stop text cuts what was drawn."""
    v = vocabulary(unit)
    ids = v.encode("the boat went out")
    assert v.shown_ids("the boat", ids, "", "replace").tolist() == v.encode("the boat").tolist()
    assert v.shown_ids("", ids, "", "replace").tolist() == []
    assert v.shown_ids("the boat went out", ids, "", "replace").tolist() == ids.tolist()


def test_bytes_of_a_cut_character() -> None:
    """Bytes have no text until their character is whole."""
    v = vocabulary("byte")
    ids = np.frombuffer("a배b".encode(), np.uint8).astype(np.intp)
    assert len(v.shown_ids("a배", ids, "", "replace")) == 4
    assert len(v.shown_ids("a", ids, "", "replace")) == 1


@every_unit
def test_what_a_reader_sees(unit: str) -> None:
    """Units, as they are split, are read as the text that they were, white space aside."""
    v = vocabulary(unit)
    text = "and the boat\n배가 나루에\n"
    read = v.reader()
    assert "".join(map(read, v.split(text))) == text
    assert v.decode(v.encode(text)) == text


@every_unit
def test_units_within_lines(unit: str) -> None:
    """All but line ends and the entry for what is outside."""
    v = vocabulary(unit, min_count=1 if unit == "byte" else 6)
    others = {i for i in range(len(v)) if not v.within_lines()[i]}
    assert others == {*v.line_ends, *([v.unknown] if v.unknown >= 0 else [])}


def test_which_models_compare() -> None:
    """Words outside cost what the model makes of `<unk>`; so only equal vocabularies compare."""
    char, byte, word = (vocabulary(unit) for unit in UNITS)
    other = vocabulary("word", "another text\n" * 20)
    assert char.prices_as(byte)
    assert byte.prices_as(vocabulary("char", "another text\n" * 20, min_count=2))
    assert word.prices_as(vocabulary("word"))
    assert not word.prices_as(other)
    assert not word.prices_as(char)
    assert not byte.prices_as(word)


def test_lines_that_count_as_the_same() -> None:
    """Blanks at the end do not count, and between words no blank does."""
    assert vocabulary("char").line_key("  a  b \r") == "  a  b"
    assert vocabulary("word").line_key("  a  b \r") == "a b"
    assert vocabulary("char", normalize="nfc").line_key("e\u0301") == "é"
