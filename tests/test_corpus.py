"""Text becomes ids without a character changed, lost or read twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import mmap
import os
import sys
import tempfile
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import records

import charlstm.text.corpus
import charlstm.text.ids
import charlstm.text.reading
from charlstm.cli import main
from charlstm.config.schema import Config, Setting, TextConfig
from charlstm.config.sources import parse_setting
from charlstm.errors import ConfigError, CorpusError, OutputError, UsageError, VocabularyError
from charlstm.text.census import CharacterCensus
from charlstm.text.corpus import CUT_PART, MIN_HELD_OUT, Corpus, Streams
from charlstm.text.encodings import likely_cause
from charlstm.text.normal_forms import begins_anew, normalised, normalised_blocks
from charlstm.text.reading import read_text
from charlstm.text.vocabulary import UNKNOWN, Vocabulary
from charlstm.training.run import Training

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


# --- reading -----------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is a mistake in the command (exit 2) that names the file."""
    with pytest.raises(UsageError, match=r"gone\.txt: no such file") as caught:
        read_text(tmp_path / "gone.txt")
    assert caught.value.exit_code == 2


def test_directory(tmp_path: Path) -> None:
    """A directory is no corpus (exit 3)."""
    with pytest.raises(CorpusError, match="is a directory") as caught:
        read_text(tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "file/below"])
def test_impossible_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that no file can have fail like files that cannot be read."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(CorpusError, match="cannot be read"):
        read_text(name)


@pytest.mark.parametrize(
    ("data", "encoding", "rest"),
    [
        (b"abc\xffdef", "utf-8", r"byte 3 \(0xff\), line 1, column 4, is not valid utf-8"),
        (b"\xea\xb0", "utf-8", r"byte 0 \(0xea\)"),
        (b"ok \xed\xa0\x80", "utf-8", r"byte 3 \(0xed\)"),
        (b"\xb0\xa1\xff", "euc_kr", r"byte 2 \(0xff\), line 1, column 2, is not valid euc_kr"),
        (b"abc\x80", "ascii", r"byte 3 \(0x80\)"),
        (b"a\0b", "utf-16-le", r"byte 2 \(0x62\)"),
        (b"+2AA-", "utf-7", r"is not valid utf-7"),
        (b"anything", "undefined", r"is not valid undefined"),
    ],
)
def test_undecodable(tmp_path: Path, data: bytes, encoding: str, rest: str) -> None:
    """The first byte that cannot be decoded is named, and what to do about it."""
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=rest) as caught:
        read_text(path, encoding)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    if encoding == "utf-8":
        assert "--set text.encoding=" in message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "euc_kr", "cp949", "johab"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    """The same text in another encoding is the same text."""
    path = tmp_path / "text"
    path.write_bytes("무정, 이형식\n".encode(encoding))
    assert read_text(path, encoding) == "무정, 이형식\n"


def test_unknown_encoding() -> None:
    """An encoding that does not exist is found while the configuration is read."""
    with pytest.raises(ConfigError, match=r"text\.encoding"):
        Config().updated([parse_setting("text.encoding=utf-81")])


def test_byte_order_mark(tmp_path: Path) -> None:
    """One mark at the start is dropped, with a notice; any other is text."""
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\xef\xbb\xbfb")
    notices: list[str] = []
    assert read_text(path, notice=notices.append) == "a\ufeffb"
    assert len(notices) == 1
    assert "byte order mark" in notices[0]
    assert str(path) in notices[0]
    path.write_bytes(b"plain")
    read_text(path, notice=notices.append)
    assert len(notices) == 1


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb\rc\n",
        "a\0b",
        unicodedata.normalize("NFD", "가é"),
        "\x1a\x85\u2028",
        "👩‍👩‍👧",
        " \t ",
    ],
)
def test_nothing_is_changed(tmp_path: Path, text: str) -> None:
    """Line endings, NUL, composition, separators and spaces arrive as they are."""
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    assert read_text(path) == text


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, in bytes, whatever the locale."""
    stdin(monkeypatch, "안녕\r\n".encode())
    assert read_text("-") == "안녕\r\n"
    stdin(monkeypatch, b"\xff")
    with pytest.raises(CorpusError, match=r"standard input: byte 0 \(0xff\)"):
        read_text("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CorpusError, match="standard input: cannot be read"):
        read_text("-")


def test_files_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files are one text in the order given, each without its own mark."""
    (tmp_path / "1").write_bytes(b"\xef\xbb\xbfab")
    (tmp_path / "2").write_bytes(b"\xef\xbb\xbfcd")
    stdin(monkeypatch, b"ef")
    corpus = Corpus.from_files([tmp_path / "2", "-", tmp_path / "1"])
    assert corpus.vocabulary.decode(corpus.train) == "cdefab"


# --- reading in blocks -------------------------------------------------------------------------

ENCODINGS = [
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7"),
    *("cp949", "johab", "iso2022_kr", "gb18030", "unicode_escape", "punycode"),
]


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(ENCODINGS), st.integers(4, 40))
def test_blocks_do_not_show(text: str, encoding: str, block: int) -> None:
    """Wherever the blocks end, in the middle of characters too, the text is the same."""
    data = text.encode(encoding, "ignore")
    try:
        expected = data.decode(encoding)
    except UnicodeDecodeError:  # a control character of the text is the encoding's own
        assume(False)
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block):
        path = Path(folder, "text")
        path.write_bytes(data)
        assert read_text(path, encoding) == expected.removeprefix("\ufeff")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=30), texts, st.integers(1, 12), st.data())
def test_the_first_wrong_byte(noise: bytes, text: str, block: int, data: Any) -> None:
    """Its place counts from the beginning of the file, wherever the blocks end."""
    good = text.encode()
    at = data.draw(st.integers(0, len(good)))
    contents = good[:at] + noise + good[at:]
    assume(likely_cause(contents[:block], "utf-8") is None)  # else that is the error
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block):
        path = Path(folder, "text")
        path.write_bytes(contents)
        try:
            expected = contents.decode()
        except UnicodeDecodeError as e:
            before = contents[: e.start].decode().removeprefix("\ufeff").split("\n")
            place = (
                rf"text: byte {e.start} \(0x{contents[e.start]:02x}\), line {len(before)}, "
                rf"column {len(before[-1]) + 1}, is not valid utf-8"
            )
            with pytest.raises(CorpusError, match=place):
                read_text(path)
        else:
            assert read_text(path) == expected.removeprefix("\ufeff")


@pytest.mark.parametrize("block", range(1, 9))
@pytest.mark.parametrize("tail", [b"\xed", b"\xed\x95", b"\xf0\x9f\x98"])
def test_truncated_character(tmp_path: Path, block: int, tail: bytes) -> None:
    """A character that the end of a file cuts is an error there, though the next file would
    complete it."""
    (tmp_path / "1").write_bytes(b"abcd" + tail)
    (tmp_path / "2").write_bytes("한😀".encode()[len(tail) :])
    with sizes_of(BLOCK=block), pytest.raises(CorpusError, match=rf"1: byte 4 \(0x{tail[0]:x}\)"):
        Corpus.from_files([tmp_path / "1", tmp_path / "2"])


def test_wrong_byte_in_other_encodings(tmp_path: Path) -> None:
    """The place is right where a mark stands before the text, or a pair of bytes is cut."""
    path = tmp_path / "text"
    for contents, encoding, place in [
        (
            "\ufeffabcd".encode("utf-16-le") + b"\0\xd8a\0",
            "utf-16",
            "byte 10 (0x00), line 1, column 5",
        ),
        ("abcd".encode("utf-16-le") + b"x", "utf-16", "byte 8 (0x78), line 1, column 5"),
        (b"\xef\xbb\xbfabcde\xff", "utf-8-sig", "byte 8 (0xff), line 1, column 6"),
        ("가\n나다".encode("cp949") + b"\xb0", "cp949", "byte 7 (0xb0), line 2, column 3"),
        ("가\r\n나다\n\n".encode() + b"\xea", "utf-8", "byte 13 (0xea), line 4, column 1"),
    ]:
        path.write_bytes(contents)
        for block in range(4, 14):
            with sizes_of(BLOCK=block), pytest.raises(CorpusError) as caught:
                read_text(path, encoding)
            assert place in str(caught.value)


def test_long_file(tmp_path: Path) -> None:
    """At the size that is in use: characters across the edges, and the place of a wrong byte."""
    path, n = tmp_path / "text", 2 * charlstm.text.reading.BLOCK
    path.write_bytes(b"a" + "한".encode() * n)
    assert read_text(path) == "a" + "한" * n
    path.write_bytes(b"a" + "한".encode() * n + b"\xff")
    with pytest.raises(CorpusError, match=rf"byte {3 * n + 1} \(0xff\)"):
        Corpus.from_files([path])


# --- vocabulary --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(texts)
def test_vocabulary(text: str) -> None:
    """Characters in the order of code points, counted, each with its place as its id."""
    v = vocabulary_of(text)
    assert v.units == sorted(set(text))
    assert v.counts.tolist() == [text.count(c) for c in v.units]
    assert len(v) == len(set(text))
    ids = v.encode(text)
    assert ids.dtype == np.int32
    assert [v.units[i] for i in ids] == list(text)
    assert v.decode(ids) == text
    assert v.encode_strictly(text, "it").tolist() == ids.tolist()


def test_emoji_and_planes() -> None:
    """A character is a code point, also beyond the first plane and up to the very last."""
    text = "a😀\U0010ffff한e\u0301😀"
    v = vocabulary_of(text)
    assert v.units == ["a", "e", "\u0301", "한", "😀", "\U0010ffff"]
    assert v.counts.tolist() == [1, 1, 1, 1, 2, 1]
    assert v.decode(v.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_unknown(known: str, text: str) -> None:
    """Whatever is not in the vocabulary is `UNKNOWN`, nothing else is."""
    v = vocabulary_of(known)
    ids = v.encode(text)
    assert [i == UNKNOWN for i in ids] == [c not in known for c in text]
    assert [c in v for c in text] == [c in known for c in text]


def test_unknown_around_the_edges() -> None:
    """Below, between, just above and far above the known characters."""
    v = vocabulary_of("bd")
    assert v.encode("abcde\U0010ffff\0").tolist() == [-1, 0, -1, 1, -1, -1, -1]
    assert v.encode("").tolist() == []


def test_strict_message() -> None:
    """The message names what is encoded, the characters and their places, five at most."""
    v = vocabulary_of("abc")
    with pytest.raises(VocabularyError) as caught:
        v.encode_strictly("aXb\nc", "the seed")
    message = str(caught.value)
    assert message.startswith("the seed has characters outside")
    assert "'X' at position 1, '\\n' at position 3;" in message
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 2
    with pytest.raises(VocabularyError, match=r"position 4 and 7 more;"):
        v.encode_strictly("zzzzzzzzzzzz", "it")


# --- corpus ------------------------------------------------------------------------------------


def split(N: int, valid: float = 0.1) -> tuple[Corpus, str]:
    text = ("abcdefghij" * (N // 10 + 1))[:N]
    return Corpus.from_text(text, valid), text


@pytest.mark.parametrize("N", [1000, 1001, 1003, 1009, 1999, 12345])
def test_split(N: int) -> None:
    """The first int(0.9 N) characters are learnt from, the rest is held out."""
    corpus, text = split(N)
    cut = int(0.9 * N)
    assert corpus.vocabulary.decode(corpus.train) == text[:cut]
    assert corpus.vocabulary.decode(corpus.valid) == text[cut:]
    assert corpus.notices == []


@pytest.mark.parametrize("valid", [0.05, 0.25, 0.5, 0.9])
def test_other_shares(valid: float) -> None:
    """Another share is that share, to a character, and nothing is lost between."""
    corpus, text = split(4000, valid)
    assert abs(len(corpus.valid) - 4000 * valid) <= 1
    assert corpus.vocabulary.decode([*corpus.train, *corpus.valid]) == text


def test_nothing_held_out() -> None:
    """A share of zero holds nothing out, without a notice."""
    corpus, text = split(5000, 0.0)
    assert corpus.vocabulary.decode(corpus.train) == text
    assert len(corpus.valid) == 0
    assert corpus.notices == []


def test_small_corpora() -> None:
    """Too short a tail is not held out but learnt from, and a notice says so."""
    N = 10 * MIN_HELD_OUT
    enough, _ = split(N)
    assert len(enough.valid) == MIN_HELD_OUT
    corpus, text = split(N - 10)
    assert corpus.vocabulary.decode(corpus.train) == text
    assert len(corpus.valid) == 0
    assert len(corpus.notices) == 1
    assert "990 characters" in corpus.notices[0]
    hello = Corpus.from_text("hello")
    assert hello.vocabulary.decode(hello.train) == "hello"
    assert Corpus.from_text("aa").train.tolist() == [0, 0]


@pytest.mark.parametrize("text", ["", "a", "한"])
def test_too_small(text: str) -> None:
    """Nothing, and one character, cannot be learnt from (exit 3)."""
    with pytest.raises(CorpusError, match=r"two") as caught:
        Corpus.from_text(text)
    assert caught.value.exit_code == 3


def test_held_out_text_from_elsewhere(tmp_path: Path) -> None:
    """A held-out text leaves the corpus whole; its strange characters stay unknown."""
    (tmp_path / "a").write_text("abcabc" * 200)
    (tmp_path / "b").write_text("abxba")
    corpus = Corpus.from_files([tmp_path / "a"], valid_source=tmp_path / "b")
    assert len(corpus.train) == 1200
    assert corpus.vocabulary.units == ["a", "b", "c"]
    assert corpus.valid.tolist() == [0, 1, UNKNOWN, 1, 0]
    (tmp_path / "b").write_text("a")
    with pytest.raises(CorpusError, match="held-out"):
        Corpus.from_files([tmp_path / "a"], valid_source=tmp_path / "b")


def test_vocabulary_is_of_the_whole_text() -> None:
    """A character that only the tail has is known."""
    corpus = Corpus.from_text("ab" * 1000 + "z" * 10)
    assert corpus.vocabulary.units == ["a", "b", "z"]
    assert corpus.vocabulary.counts.tolist() == [1000, 1000, 10]
    assert 2 not in corpus.train
    assert 2 in corpus.valid


@pytest.mark.parametrize(
    ("V", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)]
)
def test_smallest_type(V: int, dtype: type[np.generic]) -> None:
    """The training text takes one, two or four bytes a character, as many as it needs."""
    text = "".join(map(chr, range(0x10000, 0x10000 + V)))
    corpus = Corpus.from_text(text, 0.0)
    assert corpus.train.dtype == dtype
    assert corpus.train.tolist() == list(range(V))


def test_digest_tells_corpora_apart() -> None:
    """One character, a held-out text or the order of files makes another corpus."""
    text = "abc" * 500
    digests = [
        Corpus.from_text(text).sha256,
        Corpus.from_text(text[:-1] + "a").sha256,
        Corpus.from_text("c" + text[:-1]).sha256,
        Corpus.from_text(text, valid_text="abc").sha256,
        Corpus.from_text(text, valid_text="abcd").sha256,
    ]
    assert len(set(digests)) == len(digests)
    assert Corpus.from_text(text).sha256 == digests[0]


def digest_of(text: str, valid_text: str | None = None) -> str:
    """The digest as checkpoints have it."""
    digest = hashlib.sha256(text.encode("utf-32-le"))
    if valid_text is not None:
        digest.update(b"held out:" + valid_text.encode())
    return digest.hexdigest()


def test_digest_is_the_one_that_checkpoints_have() -> None:
    """It does not change from version to version: it stands in the files of users."""
    assert Corpus.from_text("abc한😀").sha256 == digest_of("abc한😀")
    assert Corpus.from_text("abc", valid_text="xyz").sha256 == digest_of("abc", "xyz")
    assert digest_of("hello", "hell") == (
        "7af24647a37b76b26449e9369a6a3d175054d25a2aa9f85b51cac05ce874d4d9"
    )


wide = st.one_of(
    texts,
    # so many characters that their numbers outgrow a byte on the way, and seldom at its edge
    st.builds(
        lambda before, low, n, after: before + "".join(map(chr, range(low, low + n))) + after,
        *(texts, st.integers(0xAC00, 0xB000), st.integers(240, 600), texts),
    ),
)
"""Texts with few and with many characters."""


@settings(max_examples=200, deadline=None)
@given(
    st.lists(wide, min_size=1, max_size=4),
    st.none() | wide,
    st.integers(1, 300),
    st.sampled_from([0, 50, 1000, 1 << 20]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_in_blocks_as_in_one(
    parts: list[str], held_out: str | None, block: int, in_memory: int, valid: float
) -> None:
    """Files in blocks of any size, in memory or mapped, give what the plain definition gives."""
    text = joined([part.removeprefix("\ufeff") for part in parts])
    if len(text) < 2 or (held_out is not None and len(held_out.removeprefix("\ufeff")) < 2):
        return
    sizes = sizes_of(BLOCK=block, IN_MEMORY=in_memory)
    with tempfile.TemporaryDirectory() as folder, sizes:
        names = [Path(folder, str(k)) for k in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            name.write_bytes(part.encode())
        held_out_name = None
        if held_out is not None:
            held_out_name = Path(folder, "held out")
            held_out_name.write_bytes(held_out.encode())
            held_out = held_out.removeprefix("\ufeff")
        corpus = Corpus.from_files(names, TextConfig(valid=valid), held_out_name)
        same = Corpus.from_text(text, valid, held_out)
    characters = sorted(set(text))
    ids = [characters.index(c) for c in text]
    cut = len(text) if held_out is not None else int(len(text) * (1.0 - valid))
    trained_on = text[:cut]
    if len(text) - cut < MIN_HELD_OUT:
        cut, trained_on = len(text), closed(text)
    elif line_break := line_break_of(text)[-1:]:
        end = trained_on.rfind(line_break) + 1
        trained_on = trained_on[:end] if cut - end < cut // CUT_PART else trained_on
    expected = ids[cut:]
    if held_out is not None:
        expected = [characters.index(c) if c in characters else UNKNOWN for c in held_out]
    for c in (corpus, same):
        assert c.vocabulary.units == characters
        assert c.vocabulary.counts.tolist() == [text.count(c) for c in characters]
        assert c.train.dtype == (np.uint8 if len(characters) <= 256 else np.uint16)
        assert c.train.tolist() == [characters.index(x) for x in trained_on]
        assert c.valid.tolist() == expected
        assert c.sha256 == digest_of(text, held_out)
        stored = max(len(text), len(trained_on))
        assert mapped(c.train) == (stored * c.train.itemsize > in_memory)


@pytest.mark.parametrize(
    ("V", "dtype"), [(128, np.int8), (129, np.int16), (32768, np.int16), (32769, np.int32)]
)
def test_smallest_type_of_a_held_out_text(V: int, dtype: type[np.generic]) -> None:
    """A held-out text of its own has room for every id and for `UNKNOWN`."""
    text = "".join(map(chr, range(0x10000, 0x10000 + V)))
    corpus = Corpus.from_text(text, valid_text=text + "a")
    assert corpus.valid.dtype == dtype
    assert corpus.valid.tolist() == [*range(V), UNKNOWN]


def test_from_one_to_two_to_four_bytes() -> None:
    """Numbers outgrow their type twice on the way, in memory and on disk."""
    text = "z" * 300 + "".join(map(chr, range(0x20000, 0x20000 + 66000))) + "a" * 300
    for in_memory in (0, 200, 100_000, 1 << 26):
        with sizes_of(BLOCK=97, IN_MEMORY=in_memory):
            corpus = Corpus.from_text(text, 0.0)
        assert corpus.train.dtype == np.uint32
        assert corpus.train.tolist() == [1] * 300 + list(range(2, 66002)) + [0] * 300
        assert mapped(corpus.train) == (in_memory < 1 << 26)


# --- the temporary file ------------------------------------------------------------------------


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file has no name, neither while the corpus is read nor while it is used;
    interrupting leaves nothing either."""
    if os.name != "posix":
        pytest.skip("files in use have names here")
    text, folder = tmp_path / "text", tmp_path / "temporary"
    text.write_text("abc" * 1000)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    seen: list[list[str]] = []

    def interrupt(places: Any) -> Any:
        seen.append(os.listdir(folder))
        if len(seen) > 200:
            raise KeyboardInterrupt
        return bincount(places)

    bincount = np.bincount
    monkeypatch.setattr(np, "bincount", interrupt)
    with sizes_of(BLOCK=20, IN_MEMORY=100):
        corpus = Corpus.from_files([text])
        assert mapped(corpus.train)
        assert mapped(corpus.valid)
        assert os.listdir(folder) == []
        with pytest.raises(KeyboardInterrupt):
            Corpus.from_files([text])
    assert os.listdir(folder) == []
    assert not any(seen)


@pytest.mark.skipif(os.name != "posix", reason="a file in use cannot be changed here")
@pytest.mark.parametrize("change", ["cut short", "overwritten", "removed"])
def test_a_file_that_changes_under_a_run(tmp_path: Path, change: str) -> None:
    """What is mapped is a copy of its own: training goes on, to the same bits."""
    text = tmp_path / "text"
    text.write_text("abcd" * 1000)
    keys = [Setting("train.steps", 6, "test"), Setting("train.workers", 1, "test")]
    losses: list[list[float]] = []
    for changed in (False, True):
        with sizes_of(BLOCK=500, IN_MEMORY=100):
            corpus = Corpus.from_files([text])
        assert mapped(corpus.train)
        training = Training.start(corpus, Config().updated(keys))
        losses.append([])
        for record in records(training):
            losses[-1].append(record.train)
            if changed and record.step == 2:
                if change == "removed":
                    text.unlink()
                else:
                    text.write_bytes(b"z" * 4000 if change == "overwritten" else b"")
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names here")
def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    """It is read like a file; a second time, when nobody writes, it would be waited for."""
    pipe, text = tmp_path / "pipe", "a pipe 한글\n" * 3000
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,), kwargs={"encoding": "utf-8"})
    writer.start()
    corpus = Corpus.from_files([pipe])
    writer.join()
    assert corpus.sha256 == Corpus.from_text(text).sha256


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line: that it may have no end, or that it is empty."""
    for name, part in (
        ("/dev/zero", "/dev/zero: is a device, which may have no end"),
        (os.devnull, "empty"),
    ):
        assert main(["train", name, "-o", str(tmp_path / "m.npz")]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("charlstm: error: ")
        assert part in line
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A temporary file that finds no room is one line that tells what to do, and exit code 6."""
    text = tmp_path / "text"
    text.write_text("abc" * 1000)
    full = lambda **arguments: open("/dev/full", "w+b")  # noqa: E731, SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    for block in (20, 1 << 20):  # found while writing, and only at the end
        with sizes_of(BLOCK=block, IN_MEMORY=100):
            with pytest.raises(OutputError, match=r"temporary file.*No space left.*TMPDIR"):
                Corpus.from_files([text])
            assert main(["train", str(text), "-o", str(tmp_path / "m.npz")]) == 6
        message = capsys.readouterr().err
        assert message.startswith("charlstm: error: ")
        assert message.count("\n") == 1


def test_no_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nowhere to write, a small text needs nothing and a large one says so."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "_sanitize_params", lambda *arguments: nowhere())
    assert len(Corpus.from_text("abc").train) == 3
    with sizes_of(IN_MEMORY=2), pytest.raises(OutputError, match="No usable temporary directory"):
        Corpus.from_text("abc")


# --- streams -----------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 12))


@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(0, 200))
def test_streams(size: tuple[int, int, int], position: int) -> None:
    """Stream b reads the ring from b N / B on; inputs and targets are neighbours; segments join."""
    N, B, T = size
    streams = Streams(np.arange(N, dtype=np.uint8), B, T, position)
    last: Any = None
    for k in range(4):
        segment = streams.next()
        assert segment.shape == (T + 1, B)
        assert segment.dtype == np.intp
        expected = [
            [(b * N // B + position + k * T + t) % N for b in range(B)] for t in range(T + 1)
        ]
        assert segment.tolist() == expected
        if last is not None:
            assert segment[0].tolist() == last.tolist()
        last = segment[-1]
        assert streams.position == position + (k + 1) * T


@settings(max_examples=100, deadline=None)
@given(sizes)
def test_every_character_is_used(size: tuple[int, int, int]) -> None:
    """After N / B characters of each stream, each character has been an input and a target."""
    N, B, T = size
    streams = Streams(np.arange(N, dtype=np.uint8), B, T)
    inputs: set[int] = set()
    targets: set[int] = set()
    while streams.position < -(-N // B):
        segment = streams.next()
        inputs.update(segment[:-1].reshape(-1).tolist())
        targets.update(segment[1:].reshape(-1).tolist())
    assert inputs == targets == set(range(N))


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(0, 10), st.integers(1, 5))
def test_position_resumes(size: tuple[int, int, int], before: int, after: int) -> None:
    """From its position alone a reader goes on exactly, across the end of the ring too."""
    N, B, T = size
    ids = np.random.default_rng(0).integers(0, 200, N).astype(np.uint8)
    straight = Streams(ids, B, T)
    for _ in range(before):
        straight.next()
    resumed = Streams(ids, B, T, straight.position)
    for _ in range(after):
        assert resumed.next().tolist() == straight.next().tolist()
    assert resumed.position == straight.position


def test_position_beyond_the_integers_of_the_machine() -> None:
    """A run that has read more than 2^63 characters still reads."""
    N, position = 7, 2**70
    segment = Streams(np.arange(N, dtype=np.uint8), 1, 3, position).next()
    assert segment[:, 0].tolist() == [(position + t) % N for t in range(4)]


def test_a_mapped_text_is_read_alike() -> None:
    """From a mapped file come the same segments, whose pages are let go on the way."""
    text = "".join(map(chr, range(97, 110))) * 500
    with sizes_of(IN_MEMORY=100, RESIDENT=50):
        on_disk = Corpus.from_text(text).train
        in_memory = np.array(on_disk)
        assert mapped(on_disk)
        assert not on_disk.flags.writeable
        some, others = Streams(on_disk, 3, 7, 5000), Streams(in_memory, 3, 7, 5000)
        for _ in range(1000):
            assert np.array_equal(some.next(), others.next())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_are_let_go() -> None:
    """Reading all of a mapped text keeps little of it resident."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    N = 1 << 26
    with sizes_of(IN_MEMORY=1 << 20, RESIDENT=1 << 20):
        ids = Corpus.from_text("ab" * (N // 2), 0.0).train
        assert mapped(ids)
        streams = Streams(ids, 8, 1 << 16)
        before = resident()
        most = 0
        while streams.position < N // 8:
            streams.next()
            most = max(most, resident() - before)
        assert most < N // 2


def test_places_beyond_32_bits() -> None:
    """Places in a text of more than 2^32 characters are exact."""
    N, B, T, position = 5 * 2**30 + 3, 7, 4, 3 * 2**33

    class Places:
        """A text whose id at a place is the place."""

        def __len__(self) -> int:
            return N

        def __getitem__(self, places: Any) -> Any:
            return places

    ids: Any = Places()
    segment = Streams(ids, B, T, position).next()
    expected = [[(b * N // B + position + t) % N for b in range(B)] for t in range(T + 1)]
    assert segment.tolist() == expected


# --- other units, and normal forms -------------------------------------------------------------

FORMS = ["none", "nfc", "nfd", "nfkc"]

MIXED = (
    *("a", " ", "\n", "\r\n", "\u00a0", "\u3000", "b", "é", "e\u0301", "\u0301", "\u0323"),
    *("가", "각", "\u1100", "\u1161", "\u11a8", "\u314f", "ｶ", "\uff9e", "ﬁ", "¨", "\u1e9b"),
    *("\u0dd9", "\u0dcf", "\u0dca", "😀", "\U000110ba", "\U0001d15e", "<unk>", "<eos>"),
)
"""What composes, decomposes, is reordered, or becomes or is white space."""

mixed = st.one_of(st.lists(st.sampled_from(MIXED), max_size=30).map("".join), texts)


def test_where_a_text_may_be_cut() -> None:
    """Before every character that is said to begin anew: what each of some others, one or two of
    them, becomes before it is the same with it and without. Those that do not are few."""
    before = [*"aeｶ\u05d0\u1100\u1161가\u0301\u0dd9\u0b47", "\u1100\u1161", "a\u0323", "\u1025"]
    joined = 0
    for p in (*range(0x3200), *range(0xA640, 0xD800), *range(0xF900, 0x1F000)):
        character = chr(p)
        if not begins_anew(character):
            joined += 1
            continue
        for form in ("NFC", "NFD", "NFKC"):
            own = unicodedata.normalize(form, character)
            for text in before:
                whole = unicodedata.normalize(form, text + character)
                assert whole == unicodedata.normalize(form, text) + own
    assert 500 < joined < 3000
    for character in "\u0301\u1161\u11a8\u314f\uff9e\u0dcf\u09be\u3099":
        assert not begins_anew(character)


@settings(max_examples=400, deadline=None)
@given(mixed, st.sampled_from(FORMS), st.lists(st.integers(0, 40), max_size=6))
def test_normalising_blocks_is_normalising_the_whole(text: str, form: str, cuts: list[int]) -> None:
    """Wherever a text is cut, before what composes too, its blocks together are in the form."""
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    blocks = [text[a:b] for a, b in itertools.pairwise(edges)]
    for each in (blocks, list(text)):
        assert "".join(normalised_blocks(each, form)) == normalised(text, form)


def test_a_long_text_waits_for_little() -> None:
    """A block is let go but for its last character, with and without ASCII in it."""
    for text in ("abc" * 100, "무정한강" * 100, "漢字" * 100):
        parts = iter(normalised_blocks(iter([text, "x"]), "nfc"))
        assert len(next(parts)) == len(text) - 1


def split_of(text: str, unit: str) -> list[str]:
    """The units of a text by the plain definition."""
    if unit == "byte":
        return [f"0x{b:02x}" for b in text.encode("utf-8", "surrogateescape")]
    return text.replace("\n", " <eos> ").split() if unit == "word" else list(text)


def limited(counts: dict[str, int], least: int, most: int | None, special: int) -> set[str]:
    """Units that stay, by the plain definition."""
    kept = sorted((unit for unit in counts if counts[unit] >= least), key=lambda u: (-counts[u], u))
    if special == 0 and (len(kept) < len(counts) or (most is not None and len(kept) > most)):
        special = 1  # <unk>
    return set(kept if most is None else kept[: most - special])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(mixed, min_size=1, max_size=3),
    st.none() | mixed,
    st.sampled_from(["char", "byte", "word"]),
    st.sampled_from(FORMS),
    st.integers(1, 3),
    st.none() | st.integers(2, 6),
    st.integers(1, 60),
    st.sampled_from([0, 50, 1 << 20]),
)
def test_every_unit_in_blocks_as_in_one(
    parts: list[str],
    held_out: str | None,
    unit: str,
    form: str,
    least: int,
    most: int | None,
    block: int,
    in_memory: int,
) -> None:
    """Vocabulary and ids are those of the plain definition, however the files are cut."""
    config = TextConfig(unit, "utf-8", form, least, most, 0.0)
    parts = [part.removeprefix("\ufeff") for part in parts]
    assume(not (unit == "byte" and "\0" in "".join(parts)))
    text = normalised(joined(parts, unit), form)
    units, ring = split_of(text, unit), split_of(closed(text, unit), unit)
    if unit == "word":
        ring = units + ["<eos>"] * ("\n" in text and units[-1:] != ["<eos>"])
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block, IN_MEMORY=in_memory):
        names = [Path(folder, str(k)) for k in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            name.write_bytes(part.encode())
        valid = None
        if held_out is not None:
            held_out = held_out.removeprefix("\ufeff")
            valid = Path(folder, "held out")
            valid.write_bytes(held_out.encode())
            held_out = normalised(held_out, form)
        try:
            corpus = Corpus.from_files(names, config, valid)
        except CorpusError as e:
            counts = Counter(units)
            if unit == "word":
                del counts["<unk>"], counts["<eos>"]
            few = len(units) < 2 or (held_out is not None and len(split_of(held_out, unit)) < 2)
            none = counts and not limited(counts, least, most, 2 if unit == "word" else 0)
            assert few or none, e
            return
    v, seen = corpus.vocabulary, Counter(units)
    if unit == "byte":
        assert v.units == [f"0x{b:02x}" for b in range(256)]
    elif unit == "char":
        kept = sorted(limited(seen, least, most, 0))
        assert v.units == kept + ["<unk>"] * (len(kept) < len(seen))
    else:
        words = {u: n for u, n in seen.items() if u not in ("<unk>", "<eos>")}
        kept = sorted(limited(words, least, most, 2), key=lambda u: (-words[u], u))
        assert v.units == ["<unk>", "<eos>", *kept]
    outside = v.units.index("<unk>") if "<unk>" in v.units else UNKNOWN
    assert (v.unknown, v.charged) == (outside, UNKNOWN if unit == "word" else outside)
    assert most is None or unit == "byte" or len(v) <= most
    number = {u: i for i, u in enumerate(v.units)}
    if (least, most) == (1, None):  # else the line break itself may be left out
        assert corpus.train.tolist() == [number.get(u, outside) for u in ring]
    assert corpus.train[: len(units)].tolist() == [number.get(u, outside) for u in units]
    assert corpus.train.dtype == np.min_scalar_type(len(v) - 1)
    occurrences = np.bincount(corpus.train[: len(units)], minlength=len(v))
    assert v.counts.tolist() == occurrences.tolist()
    expected = (
        [] if held_out is None else [number.get(u, outside) for u in split_of(held_out, unit)]
    )
    assert corpus.valid.tolist() == expected
    assert v.encode(text).tolist() == corpus.train[: len(units)].tolist()
    assert corpus.sha256 == digest_of(text, held_out)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=2, max_size=60), st.integers(1, 20), st.sampled_from(FORMS))
def test_any_bytes(data: bytes, block: int, form: str) -> None:
    """A corpus of bytes may be anything: nothing is dropped, and nothing is wrong."""
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block):
        path = Path(folder, "data")
        path.write_bytes(data)
        corpus = Corpus.from_files([path], TextConfig(unit="byte", encoding="ascii", valid=0.0))
        ring = closed(data.decode("latin-1"), "byte").encode("latin-1")
        assert bytes(corpus.train) == ring
        assert corpus.vocabulary.encode(read_text(path, None)).tolist() == list(data)
        formed = Corpus.from_files([path], TextConfig(unit="byte", normalize=form, valid=0.0))
        text = normalised(data.decode("utf-8", "surrogateescape"), form)
        assert bytes(formed.train) == closed(text, "byte").encode("utf-8", "surrogateescape")
    write, end = corpus.vocabulary.writer(errors="surrogateescape")
    text = "".join(map(write, data)) + end()
    assert text.encode("utf-8", "surrogateescape") == data
    assert corpus.vocabulary.decode(data) == data.decode("utf-8", "replace")


@settings(max_examples=200, deadline=None)
@given(mixed)
def test_words_are_joined_as_they_were_told_apart(text: str) -> None:
    """One space between words and none around a line end; read again, they are the same words."""
    if len(split_of(text, "word")) < 2:
        return
    corpus = Corpus.from_text(text, 0.0, unit="word")
    read = corpus.vocabulary.decode(corpus.train.tolist())
    units = split_of(text, "word")
    assert split_of(read, "word") == units + ["<eos>"] * ("\n" in text and units[-1] != "<eos>")
    assert "  " not in read
    assert " \n" not in read
    assert "\n " not in read


def test_composed_and_decomposed_are_one_corpus() -> None:
    """In a normal form they have the same ids and the same digest; without, neither."""
    text = "은여울 나루의 억수 é\n" * 9
    decomposed = unicodedata.normalize("NFD", text)
    for unit in ("char", "byte", "word"):
        one, two = (
            Corpus.from_text(t, 0.0, unit=unit, normalize="nfc") for t in (text, decomposed)
        )
        assert one.train.tolist() == two.train.tolist()
        assert one.sha256 == two.sha256
        assert one.vocabulary.encode(decomposed).tolist() == one.train.tolist()
        assert Corpus.from_text(decomposed, unit=unit).sha256 != one.sha256


def test_ties_stay_in_the_order_of_code_points() -> None:
    """Of equally frequent units those of the lower code points stay."""
    assert Corpus.from_text("dcba" * 9, max_vocabulary=3).vocabulary.units == ["a", "b", "<unk>"]
    words = Corpus.from_text("d c b a " * 9, unit="word", max_vocabulary=4).vocabulary
    assert words.units == ["<unk>", "<eos>", "a", "b"]
    assert words.counts.tolist() == [18, 0, 9, 9]
    all_four = Corpus.from_text("dcba" * 9, max_vocabulary=4).vocabulary
    assert all_four.units == ["a", "b", "c", "d"]


def test_what_is_left_out_is_told() -> None:
    """How many units, and how much of the text."""
    corpus = Corpus.from_text("the sea the the <unk> ferry\n" * 3 + "oar", unit="word", min_count=3)
    assert corpus.notices[0] == (
        "1 of 5 words are left out of the vocabulary: <unk> is 18.18% of the text"
    )
    assert corpus.vocabulary.units == ["<unk>", "<eos>", "the", "ferry", "sea"]
    assert "1 of 3 characters" in Corpus.from_text("abbcc", min_count=2).notices[0]
    assert Corpus.from_text("abbcc" * 300, unit="byte", min_count=999).notices == []


@pytest.mark.parametrize("unit", ["char", "word"])
def test_no_unit_is_left(unit: str) -> None:
    """A vocabulary without a single unit is refused, with what to do."""
    with pytest.raises(CorpusError, match=r"lower text\.min_count"):
        Corpus.from_text("a b c d", unit=unit, min_count=5)


def test_seeds_of_words() -> None:
    """`<unk>` and `<eos>` may be given; other words outside are named, with their places."""
    v = Corpus.from_text("the sea was calm\n" * 3, unit="word").vocabulary
    assert v.encode_strictly("the <unk> sea\n", "it").tolist() == [
        v.units.index(u) for u in ("the", "<unk>", "sea", "<eos>")
    ]
    with pytest.raises(VocabularyError, match=r"has words outside .*'oar' at position 1;"):
        v.encode_strictly("the oar was", "the seed")
    assert v.without_unknown("the oar  was <unk>\n oh calm") == ("the was <unk>\ncalm", 2)
    assert v.without_unknown("the  sea ") == ("the  sea ", 0)
    assert "sea" in v
    assert "oar" not in v


def test_rare_characters_are_outside() -> None:
    """A character that was left out is no seed, though there is an entry for it."""
    v = Corpus.from_text("abab" * 9 + "x", min_count=2).vocabulary
    assert v.units == ["a", "b", "<unk>"]
    assert v.encode("axb\U0010ffff").tolist() == [0, 2, 1, 2]
    with pytest.raises(VocabularyError, match=r"'x' at position 1"):
        v.encode_strictly("ax", "the seed")
    assert v.without_unknown("axb") == ("ab", 1)


def test_bytes_that_are_none() -> None:
    """A lone surrogate that stands for no byte is an error of one line."""
    v = Corpus.from_text("abc", unit="byte").vocabulary
    assert v.encode_strictly("한", "it").tolist() == [0xED, 0x95, 0x9C]
    with pytest.raises(VocabularyError, match=r"\\ud800"):
        v.encode("a\ud800")


def test_many_words() -> None:
    """Numbers that outgrow two bytes become ids of one where the limit lets them, in memory and on
    disk."""
    text = " ".join([*(f"w{k}" for k in range(70_000)), *["w5"] * 4, *["w7"] * 3])
    for in_memory in (0, 100_000, 1 << 26):
        with sizes_of(BLOCK=5000, IN_MEMORY=in_memory):
            corpus = Corpus.from_text(text, 0.0, unit="word", max_vocabulary=4)
        assert corpus.train.dtype == np.uint8
        assert len(corpus.train) == 70_007
        assert np.flatnonzero(corpus.train).tolist() == [5, 7, *range(70_000, 70_007)]
        assert corpus.train[[5, 7, 70_000, 70_006]].tolist() == [2, 3, 2, 3]
        assert mapped(corpus.train) == (in_memory < 70_007)
