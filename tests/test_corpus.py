"""Text becomes ids without a character changed, lost or read twice."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.config import Config, parse_setting
from charlstm.corpus import (
    MIN_HELD_OUT,
    UNKNOWN,
    Corpus,
    Streams,
    Vocabulary,
    code_points,
    read_text,
)
from charlstm.errors import ConfigError, CorpusError, UsageError, VocabularyError

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def vocabulary_of(text: str) -> Vocabulary:
    return Vocabulary.of(code_points(text))


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
        (b"abc\xffdef", "utf-8", r"byte 3 \(0xff\) is not valid utf-8"),
        (b"\xea\xb0", "utf-8", r"byte 0 \(0xea\)"),
        (b"ok \xed\xa0\x80", "utf-8", r"byte 3 \(0xed\)"),
        (b"\xb0\xa1\xff", "euc_kr", r"byte 2 \(0xff\) is not valid euc_kr"),
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
    if "byte" in rest:
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


# --- vocabulary --------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(texts)
def test_vocabulary(text: str) -> None:
    """Characters in the order of code points, counted, each with its place as its id."""
    v = vocabulary_of(text)
    assert v.characters == sorted(set(text))
    assert v.counts.tolist() == [text.count(c) for c in v.characters]
    assert len(v) == len(set(text))
    ids = v.encode(text)
    assert ids.dtype == np.int32
    assert [v.characters[i] for i in ids] == list(text)
    assert v.decode(ids) == text
    assert v.encode_strictly(text, "it").tolist() == ids.tolist()


def test_emoji_and_planes() -> None:
    """A character is a code point, also beyond the first plane and up to the very last."""
    text = "a😀\U0010ffff한e\u0301😀"
    v = vocabulary_of(text)
    assert v.characters == ["a", "e", "\u0301", "한", "😀", "\U0010ffff"]
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
    assert corpus.vocabulary.characters == ["a", "b", "c"]
    assert corpus.valid.tolist() == [0, 1, UNKNOWN, 1, 0]
    (tmp_path / "b").write_text("a")
    with pytest.raises(CorpusError, match="held-out"):
        Corpus.from_files([tmp_path / "a"], valid_source=tmp_path / "b")


def test_vocabulary_is_of_the_whole_text() -> None:
    """A character that only the tail has is known."""
    corpus = Corpus.from_text("ab" * 1000 + "z" * 10)
    assert corpus.vocabulary.characters == ["a", "b", "z"]
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
