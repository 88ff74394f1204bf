"""Files in legacy encodings, which are often called by the name of a smaller one."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from support import fails, run

import charlstm
from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError
from charlstm.text.corpus import Corpus
from charlstm.text.encodings import CODE_PAGES, SUPERSETS, incremental, likely_encoding
from charlstm.text.reading import read_lines, read_text

TEXTS = {
    "cp949": "똠방각하 펲시 뷁, 그리고 나루에 배가 닿았다.\n",
    "cp932": "①髙橋さんは日本語を話します。カタカナも\n",
    "gb18030": "朱镕基总理在北京说，没有别的句子。\n",
    "cp1252": "“Voilà”, dit-elle – c’était l’été, à 5 €…\n",
}

NAMED = [
    *(("euc-kr", "cp949"), ("ks_c_5601", "cp949"), ("EUC_KR", "cp949")),
    *(("shift_jis", "cp932"), ("sjis", "cp932")),
    *(("gb2312", "gb18030"), ("gbk", "gb18030")),
    *(("latin-1", "cp1252"), ("iso-8859-1", "cp1252")),
]


@pytest.mark.parametrize(("name", "larger"), NAMED)
def test_the_larger_one_decodes(name: str, larger: str, tmp_path: Path) -> None:
    """Whole texts, lines and corpora alike, wherever blocks end."""
    text, path = TEXTS[larger], tmp_path / "t"
    path.write_bytes(text.encode(larger))
    encoding = codecs.lookup(name).name
    if larger != "cp1252" and name != "gbk":
        with pytest.raises(UnicodeDecodeError):
            path.read_bytes().decode(name)
    assert read_text(path, encoding) == text
    ((line,),) = read_lines(path, encoding)
    assert (line, line.raw, line.bad) == (text[:-1], path.read_bytes(), 0)
    assert set(Corpus.from_files([path], TextConfig(encoding=encoding)).vocabulary.units) == set(
        text
    )


def test_undefined_bytes_of_cp1252(tmp_path: Path) -> None:
    """They are the control characters that they are in Latin-1: every file can be decoded."""
    (tmp_path / "t").write_bytes(bytes(range(256)))
    text = read_text(tmp_path / "t", "iso8859-1")
    assert [ord(text[b]) for b in (0x41, 0x80, 0x81, 0x8D, 0x8F, 0x90, 0x9D, 0xE9)] == [
        *(0x41, 0x20AC, 0x81, 0x8D, 0x8F, 0x90, 0x9D, 0xE9)
    ]


@pytest.mark.parametrize("name", list(SUPERSETS))
def test_nothing_is_lost(name: str) -> None:
    """What the smaller one decodes, the larger one does too, the same but for a few signs."""
    assert codecs.lookup(name).name == name
    larger = incremental(name)
    others = total = 0
    for lead in range(256):
        for trail in (None, *range(256)):
            data = bytes([lead]) if trail is None else bytes([lead, trail])
            try:
                text = data.decode(name)
            except UnicodeDecodeError:
                continue
            larger.reset()
            if any(0x80 <= byte < 0xA0 for byte in data) and SUPERSETS[name] in CODE_PAGES:
                assert len(larger.decode(data)) == len(data)
                continue
            total += 1
            others += larger.decode(data) != text
    assert total > 5000
    assert others <= 0.002 * total


def test_a_checkpoint_says_what_was_named(tmp_path: Path) -> None:
    """It loads and reads files as before."""
    (tmp_path / "c").write_bytes(TEXTS["cp949"].encode("cp949") * 9)
    options = ("--set", "text.encoding=euc-kr", "--set", "model.hidden=8", "--steps", "3")
    process = run("train", "c", "-o", "m.npz", *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    language = charlstm.load(tmp_path / "m.npz")
    assert language.config.text.encoding == "euc_kr"
    assert language.read(tmp_path / "c") == TEXTS["cp949"] * 9
    resumed = run("train", "c", "-o", "m.npz", "--resume", "--steps", "5", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize("encoding", [*TEXTS, "euc_jp", "utf-8"])
def test_the_likely_one_is_named(encoding: str, tmp_path: Path) -> None:
    text = TEXTS.get(encoding, "これは日本語の文章です。カタカナも\n")
    (tmp_path / "t").write_bytes(text.encode(encoding) * 30)
    stated = "ascii" if encoding == "utf-8" else "utf-8"
    message = fails(
        run("train", "t", "--set", f"text.encoding={stated}", cwd=tmp_path),
        3,
        f"not valid {stated}" if stated == "utf-8" else "",
    )
    assert f"--set text.encoding={encoding}" in message


@pytest.mark.parametrize("stated", ["euc_kr", "cp949", "shift_jis", "ascii"])
def test_no_advice_that_was_taken(stated: str, tmp_path: Path) -> None:
    """Where an encoding was named, the error does not say to name one."""
    (tmp_path / "t").write_bytes(b"a few words\n\x80\xff\xff\x81\xfe\xa0 \xfd and on\n")
    with pytest.raises(CorpusError) as caught:
        read_text(tmp_path / "t", stated)
    assert f"line 2, column {4 if stated == 'shift_jis' else 1}" in str(caught.value)
    assert "NAME" not in str(caught.value)
    assert likely_encoding((tmp_path / "t").read_bytes(), stated) is None
