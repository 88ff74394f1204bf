"""A corpus that is not what it seems is named; ordinary text of any script never is."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zipfile
from pathlib import Path

import pytest
from support import ROOT, STORY

from charlstm.cli import main
from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError
from charlstm.text.corpus import Corpus
from charlstm.text.encodings import likely_cause
from charlstm.text.reading import BEGINNING

SCRIPTS = {
    "English": "It was a bright cold day in April, and the clocks were striking.\n",
    "German": "Die Würde des Menschen ist unantastbar. Äpfel, Öl, Übermut, Straße.\n",
    "Russian": "Все счастливые семьи похожи друг на друга.\n",
    "Greek": "Στην αρχή ήταν ο λόγος, και ο λόγος ήταν εδώ.\n",
    "Hebrew": "בראשית ברא אלהים את השמים ואת הארץ.\n",
    "Arabic": "في البدء خلق الله السماوات والأرض.\n",
    "Hindi": "आदि में परमेश्वर ने आकाश और पृथ्वी की सृष्टि की।\n",
    "Korean": "은여울 나루의 억수는 오늘도 배를 저었다. 가느다란 관을 세웠다.\n",
    "Chinese": "中文文本没有空格，但有标点符号。\n",
    "Japanese": "吾輩は猫である。名前はまだ無い。\n",
    "emoji": "👩‍👩‍👧 went to the 🛶 and 배를 탔다 🎉\n",
}
every_script = pytest.mark.parametrize("script", SCRIPTS)

ORDINARY = {
    "code": 'int main(void) {\n\tputs("hello\\n");\f\n}\n',
    "carriage returns": "10%\r20%\r30%\r\ndone\r\n",
    "colours": "\x1b[31merror\x1b[m: a line\x07\x08 of a log\n",
    "NUL between names": "\0".join(f"./a/{k}.txt" for k in range(300)),
    "even records of NUL": "abcdefg\0" * 300,
    "fields": "\x01".join("abcdefg") * 300,
    "PK at the start": "PK is a name. BZh too, and %PDF.\n",
    "one line": "hello",
    "nothing": "",
}


def sample(text: str, encoding: str) -> bytes:
    return (text * (BEGINNING // len(text) + 1)).encode(encoding)[:BEGINNING]


# --- no false alarm ----------------------------------------------------------------------------


@every_script
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_ordinary_text(script: str, encoding: str) -> None:
    """In its encoding no text is suspicious, as little as it be."""
    text = SCRIPTS[script]
    assert likely_cause(sample(text, encoding), encoding) is None
    assert likely_cause(text.encode(encoding), encoding) is None


@pytest.mark.parametrize(
    ("script", "encoding"),
    [
        *(("Korean", "cp949"), ("Korean", "johab"), ("Japanese", "shift_jis"), ("Chinese", "gbk")),
        *(("Russian", "koi8_r"), ("Russian", "cp1251"), ("Greek", "cp1253"), ("German", "latin-1")),
        *(("Hebrew", "cp1255"), ("Arabic", "cp1256"), ("Japanese", "iso2022_jp")),
    ],
)
def test_legacy_encodings(script: str, encoding: str) -> None:
    assert likely_cause(sample(SCRIPTS[script], encoding), encoding) is None


@pytest.mark.parametrize("kind", ORDINARY)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", None])
def test_odd_text(kind: str, encoding: str | None) -> None:
    """Code, logs, records and lists are text, whatever separates them."""
    assert likely_cause(ORDINARY[kind].encode()[:BEGINNING], encoding) is None


def test_the_tree_itself() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.py"), *ROOT.glob("corpora/*")]:
        if path.is_file():
            assert likely_cause(path.read_bytes()[:BEGINNING], "utf-8") is None, path


def test_bytes_may_be_anything() -> None:
    """Whoever trains on bytes knows what they are."""
    assert likely_cause(random.Random(0).randbytes(BEGINNING), None) is None
    assert likely_cause(sample("a text\n", "utf-16"), None) is None
    assert likely_cause(b"\x7fELF" + bytes(range(256)) * 8, None) is None


# --- what is found -----------------------------------------------------------------------------


@every_script
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("read_as", ["utf-8", "latin-1", "cp949", "utf-16-be", "utf-32-le"])
def test_wide_text_without_a_mark(script: str, encoding: str, read_as: str) -> None:
    """UTF-16 and UTF-32 are recognised in either order, in long and in short."""
    if encoding == read_as:
        return
    for data in (sample(SCRIPTS[script], encoding), SCRIPTS[script].encode(encoding)):
        cause = likely_cause(data, read_as)
        assert cause is not None
        assert cause.startswith(f"seems to be {encoding.upper()} and is read as ")
        assert cause.endswith(f"--set text.encoding={encoding}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("read_as", ["utf-8", "latin-1"])
def test_a_mark(encoding: str, read_as: str) -> None:
    cause = likely_cause("a text\n".encode(encoding), read_as)
    assert cause is not None
    assert f"--set text.encoding={encoding}" in cause


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != "English"])
@pytest.mark.parametrize("read_as", ["latin-1", "cp1252", "cp949", "utf-16", "koi8_r"])
def test_utf8_read_as_another(script: str, read_as: str) -> None:
    cause = likely_cause(sample(SCRIPTS[script], "utf-8"), read_as)
    assert cause is not None
    assert "seems to be UTF-8" in cause


COMPRESSED = {
    "gzip": gzip.compress(b"text " * 99),
    "bzip2": bz2.compress(b"text " * 99),
    "xz": lzma.compress(b"text " * 99),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x58",
    "PDF": b"%PDF-1.7\n%\xb5\xb5\n",
}


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", None])
def test_compressed(kind: str, encoding: str | None) -> None:
    """Of bytes too, since nobody can learn these."""
    cause = likely_cause(COMPRESSED[kind], encoding)
    assert cause is not None
    assert kind in cause
    assert "cannot be learnt" in cause


def test_binary() -> None:
    for encoding in ("latin-1", "cp437", "cp1252"):
        cause = likely_cause(random.Random(0).randbytes(BEGINNING), encoding)
        assert cause is not None
        assert "no text but binary data" in cause


# --- what is said ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_one_line_a_file(tmp_path: Path, encoding: str) -> None:
    """It names the file: a notice, or the error where it cannot be decoded."""
    (tmp_path / "a.txt").write_bytes("a plain text\n".encode(encoding) * 20)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b", "text " * 99)
    said: list[str] = []
    try:
        Corpus.from_files(
            [tmp_path / "a.txt", tmp_path / "b.zip"],
            TextConfig(encoding=encoding),
            None,
            said.append,
        )
    except CorpusError as e:
        said.append(str(e))
    said = [message for message in said if "byte order mark" not in message]
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / 'b.zip'}: seems to be a zip archive")


def test_what_cannot_be_decoded_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That names the cause and not the byte."""
    texts = [
        gzip.compress(b"text " * 99),
        "a text\n".encode("utf-16"),
        "각 지방\n".encode("utf-16-be"),
    ]
    causes = ["gzip -d", "--set text.encoding=utf-16", "--set text.encoding=utf-16-be"]
    for data, cause in zip(texts, causes, strict=True):
        (tmp_path / "c").write_bytes(data)
        assert main(["train", str(tmp_path / "c"), "-o", str(tmp_path / "m.npz")]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"charlstm: error: {tmp_path / 'c'}: seems to be ")
        assert line.endswith(cause)


def test_evaluate_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = STORY.read_text(encoding="utf-8")
    (tmp_path / "c.txt").write_text(text)
    (tmp_path / "wide").write_bytes(text[:500].encode("utf-16-le"))
    model = str(tmp_path / "m.npz")
    assert main(["train", str(tmp_path / "c.txt"), "-o", model, "--steps", "2", "-q"]) == 0
    assert main(["evaluate", "-m", model, str(tmp_path / "wide")]) == 0
    assert "seems to be UTF-16-LE and is read as utf-8" in capsys.readouterr().err
