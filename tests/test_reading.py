"""Files are read whole, in blocks, and with an error where they cannot be."""

from __future__ import annotations

import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from texts import sizes_of, stdin, texts

import charlstm.text.corpus
import charlstm.text.ids
import charlstm.text.reading
from charlstm.config.schema import Config
from charlstm.config.sources import parse_setting
from charlstm.errors import ConfigError, CorpusError, UsageError
from charlstm.text.corpus import Corpus
from charlstm.text.encodings import likely_cause
from charlstm.text.reading import read_text


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
