"""Lines go through filters as the bytes that they came as; what is scored is their text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, fails, run

import charlstm
from charlstm.scoring.scorers import UNKNOWN_NATS
from charlstm.text.reading import Line, read_lines

TEXT = "the sea was calm\nand the boat went out\n나루에 배가\n" * 8
CRLF = TEXT.replace("\n", "\r\n")

BAD = b"the sea was calm\nthe \xff\xfe boat\n\xe2\x82\nand the boat\n"
"""Five bytes that are not UTF-8, in lines 2 and 3."""

EVERYTHING = ("--above", "-1")


def trained(path: Path, corpus: bytes, **sets: Any) -> Path:
    source = path.with_suffix(".txt")
    source.write_bytes(corpus)
    changes = {"train.steps": 60, "train.workers": 1, "model.hidden": 16, "text.valid": 0.0, **sets}
    for _ in charlstm.train(source, path, settings=changes):
        pass
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return trained(folder / "plain.npz", TEXT.encode())


@pytest.fixture(scope="module")
def crlf(folder: Path) -> Path:
    return trained(folder / "crlf.npz", CRLF.encode())


@pytest.fixture(scope="module")
def korean(folder: Path) -> Path:
    return trained(folder / "ko.npz", TEXT.encode("cp949"), **{"text.encoding": "euc-kr"})


@pytest.fixture(scope="module")
def wide(folder: Path) -> Path:
    return trained(folder / "wide.npz", TEXT.encode("utf-16"), **{"text.encoding": "utf-16"})


# --- reading -----------------------------------------------------------------------------------


def lines_of(data: bytes, encoding: str | None, path: Path) -> tuple[list[Line], list[str]]:
    path.write_bytes(data)
    said: list[str] = []
    return [line for batch in read_lines(path, encoding, said.append) for line in batch], said


@pytest.mark.parametrize(
    "encoding",
    [
        *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"),
        *("cp949", "euc_kr", "gb18030", "iso2022_kr", "utf-7", "unicode_escape", "cp1140"),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 1000])
@pytest.mark.parametrize("text", ["ab\r\n\n나루\ncd", "\n\r\r\n", "", "가\n"])
def test_bytes_of_lines(
    encoding: str, block: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their texts have no end; their bytes, one after the other, are those of the file."""
    if encoding == "cp1140":
        text = text.translate(dict.fromkeys(map(ord, "나루가"), "x"))
    monkeypatch.setattr("charlstm.text.reading.BLOCK", block)
    data = text.encode(encoding)
    lines, said = lines_of(data, encoding, tmp_path / "t")
    parts = text.split("\n")
    expected = parts[:-1] if parts[-1] == "" else parts
    if encoding == "unicode_escape":  # it writes line ends as escapes
        assert b"".join(line.raw for line in lines) == data + b"\n" * bool(data)
        return
    assert lines == [line.removesuffix("\r") for line in expected]
    assert said == []
    if not text:  # a mark alone is no line
        return
    joined = b"".join(line.raw for line in lines)
    assert joined.startswith(data)
    end = "\n".encode(encoding.replace("utf-16", "utf-16-le")) if encoding == "utf-16" else None
    if text.endswith("cd"):
        assert len(joined) > len(data)
        assert end is None or joined == data + end
    elif text:
        assert joined == data


@pytest.mark.parametrize(
    ("data", "encoding", "bad"),
    [
        (BAD, "utf-8", ["line 2, column 5", 2]),
        (b"ok\n\xef\xbb\xbf\n", "utf-8", None),
        ("가\n가".encode("cp949") + b"\xff\n", "euc_kr", ["line 2, column 2", 1]),
        (b"a\xb0\nb\n", "cp949", ["line 1, column 2", 1]),
        (b"a\0\n\0\0\xd8\n\0b\0\n\0", "utf-16-le", ["line 2, column 1", 1]),
        (b"a\0\n\0b", "utf-16-le", ["line 2, column 1", 1]),
        (b"ok\nna\xefve\n", "ascii", ["line 2, column 3", 1]),
        (b"\xef\xbb\xbfab\xff\n", "utf-8", ["line 1, column 3", 1]),
    ],
)
def test_bytes_that_cannot_be_decoded(
    data: bytes, encoding: str, bad: list[Any] | None, tmp_path: Path
) -> None:
    """They cost no line: one notice has their number and the first place."""
    lines, said = lines_of(data, encoding, tmp_path / "t")
    assert b"".join(line.raw for line in lines).startswith(data)
    if bad is None:
        assert said == []
        return
    assert sum(line.bad > 0 for line in lines) == bad[1]
    (notice,) = said
    assert notice.startswith("1 line of" if bad[1] == 1 else f"{bad[1]} lines of")
    assert f"are not {encoding.upper()}" in notice
    assert str(bad[0]) in notice


# --- filters outlive what comes in -------------------------------------------------------------


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(
    "options", [EVERYTHING, ("--below", "99"), ("--quantile", "0", "--reference", "ok")]
)
def test_a_filter_passes_bad_bytes(
    plain: Path, tmp_path: Path, options: tuple[str, ...], from_file: bool
) -> None:
    (tmp_path / "ok").write_text("the sea was calm" * 3)
    (tmp_path / "log").write_bytes(BAD)
    source = ["log"] if from_file else []
    process = run("evaluate", "-m", plain, *options, *source, cwd=tmp_path, stdin=BAD)
    assert process.returncode == 0, process.stderr
    passed = BAD if "--quantile" not in options else b"".join(BAD.splitlines(True)[1:3])
    assert set(passed.splitlines()) <= set(process.stdout.splitlines())
    assert set(process.stdout.splitlines()) <= set(BAD.splitlines())
    said = process.stderr.decode().splitlines()[-1]
    name = "log" if from_file else "standard input"
    assert said == (
        f"charlstm: 2 lines of {name} had bytes that are not UTF-8, the first at line 2, column 5; "
        "they count as outside the vocabulary"
    )


def test_bad_bytes_in_a_reference(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "ref").write_bytes(BAD)
    options = ("--quantile", "0.5", "--reference", tmp_path / "ref")
    process = run("evaluate", "-m", plain, *options, stdin=b"the\nxkcd \xff\n")
    assert process.stdout == b"the\nxkcd \xff\n"
    assert process.stderr.count(b"not UTF-8") == 2


def test_each_bad_byte_is_a_character_outside(plain: Path) -> None:
    process = run("evaluate", "--lines", "--json", "-m", plain, stdin=BAD)
    rows = [json.loads(row) for row in process.stdout.splitlines()]
    assert [row["unknown"] for row in rows] == [0, 2, 2, 0]
    assert rows[2]["nats"] > 2 * UNKNOWN_NATS
    assert rows[1]["line"] == "the \ufffd\ufffd boat"
    table = run("evaluate", "--lines", "-m", plain, stdin=BAD).stdout.splitlines()
    assert [row.split(b"\t", 2)[2] for row in table] == BAD.splitlines()


@pytest.mark.parametrize("options", [("--lines", "--chars"), ("--lines", "--chars", "--json")])
def test_tables_of_bad_lines(plain: Path, options: tuple[str, ...]) -> None:
    process = run("evaluate", *options, "-m", plain, stdin=BAD)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.decode().splitlines()) == 17 + 12 + 3 + 13
    coloured = run("evaluate", "--lines", "--chars", "--color", "-m", plain, stdin=BAD)
    assert coloured.returncode == 0, coloured.stderr
    coloured.stdout.decode()


def test_bad_lines_of_several_models(plain: Path, crlf: Path, folder: Path) -> None:
    of_bytes = trained(folder / "bytes.npz", TEXT.encode(), **{"text.unit": "byte"})
    for other in (crlf, of_bytes):
        process = run("evaluate", "--lines", "-m", plain, "-m", other, stdin=BAD)
        assert process.returncode == 0, process.stderr
        rows = process.stdout.splitlines()
        assert [row.split(b"\t", 2)[2] for row in rows] == BAD.splitlines()


@pytest.mark.whole
def test_good_lines_come_at_once(plain: Path) -> None:
    """Those before a bad one, and that one, too, before the next comes."""
    with subprocess.Popen(
        [sys.executable, "-m", "charlstm", "evaluate", "-m", str(plain), *EVERYTHING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        for line in BAD.splitlines(keepends=True):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait() == 0
        assert process.stderr.read().count(b"\n") == 1


def test_whole_texts_are_strict(plain: Path, tmp_path: Path) -> None:
    """With byte, line and column, wherever blocks end."""
    (tmp_path / "log").write_bytes(TEXT.encode() + BAD)
    n = len(TEXT.encode())
    place = f"byte {n + 21} (0xff), line 26, column 5, is not valid utf-8"
    for options in ([], ["--chars"]):
        fails(run("evaluate", "-m", plain, *options, tmp_path / "log"), 3, place)
    fails(run("train", tmp_path / "log", "-o", tmp_path / "m.npz"), 3, place)


# --- sample --each -----------------------------------------------------------------------------

SEEDS = b"the\nbo\xffat\nthe Z\nand\r\nthe"


def test_each_outlives_bad_seeds(plain: Path) -> None:
    """A line for each; those that cannot be continued as they are, told once at the end."""
    common = ("sample", "--each", "-m", plain, "-n", "5")
    process = run(*common, "--rng-seed", "1", stdin=SEEDS)
    message = fails(process, 2, "2 lines were not continued: line 2 of standard input")
    assert r"'\xff' at position 2" in message
    rows = process.stdout.splitlines()
    assert (rows[1], rows[2]) == (b"bo\xffat", b"the Z")
    assert [rows[k].startswith(b"the") for k in (0, 4)] == [True, True]
    assert b"\r" not in process.stdout
    assert len(rows) == 5
    good = run(*common, "--rng-seed", "1", stdin=b"the\nthe\nthe\nand\nthe").stdout.splitlines()
    assert [rows[k] for k in (0, 3, 4)] == [good[k] for k in (0, 3, 4)]
    for options in (["--best-of", "2"], ["--beam", "2"], ["--match", "[a-z ]+"]):
        drawn = () if "--beam" in options else ("--rng-seed", "1")
        process = run(*common, *drawn, *options, stdin=SEEDS)
        fails(process, 2, "2 lines were not continued")
        assert process.stdout.splitlines()[1:3] == [b"bo\xffat", b"the Z"]
        assert len(process.stdout.splitlines()) == 5


def test_each_bad_seed_otherwise(plain: Path) -> None:
    common = ("sample", "--each", "-m", plain, "-n", "5", "--rng-seed", "1")
    process = run(*common, "--no-echo", stdin=SEEDS)
    assert process.returncode == 2
    assert [bool(row) for row in process.stdout.split(b"\n")[1:3]] == [False, False]
    assert process.stdout.count(b"\n") == 5
    rows = [json.loads(row) for row in run(*common, "--json", stdin=SEEDS).stdout.splitlines()]
    assert [row["stop"] for row in rows[1:3]] == ["unknown", "unknown"]
    assert (rows[1]["seed"], rows[1]["text"], rows[1]["nats"]) == ("bo\ufffdat", "", None)
    process = run(*common, "--unknown", "skip", stdin=SEEDS)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[1].startswith(b"boat")
    assert b"1 character of line 2" in process.stderr


# --- encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["korean", "wide", "plain"])
def test_what_is_sampled_can_be_evaluated(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Output and standard input are UTF-8, whatever the corpus was."""
    path = request.getfixturevalue(model)
    text = run("sample", "-m", path, "-n", "80", "--rng-seed", "1", "--seed", "나루").stdout
    text.decode()
    result = json.loads(run("evaluate", "--json", "-m", path, "-", stdin=text).stdout)
    assert result["unknown"] == 0
    assert result["characters"] == len(text.decode()) - 1
    assert run("evaluate", *EVERYTHING, "-m", path, stdin=text).stdout == text
    each = run("sample", "--each", "-m", path, "-n", "3", stdin="나루에\n")
    assert each.stdout.decode().startswith("나루에")


@pytest.mark.parametrize(("model", "encoding"), [("korean", "cp949"), ("wide", "utf-16")])
def test_files_are_in_the_encoding_of_the_corpus(
    model: str, encoding: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Standard input is, too, where the command line says so. Lines stay the bytes they are."""
    path = request.getfixturevalue(model)
    data = CRLF.encode(encoding)
    (tmp_path / "t").write_bytes(data)
    result = json.loads(run("evaluate", "--json", "-m", path, tmp_path / "t").stdout)
    assert result["unknown"] == CRLF.count("\r")
    assert run("evaluate", *EVERYTHING, "-m", path, tmp_path / "t").stdout == data
    there = ("-m", path, "--set", f"text.encoding={encoding}")
    assert run("evaluate", *EVERYTHING, *there, "-", stdin=data).stdout == data
    table = run("evaluate", "--lines", *there, stdin=data).stdout
    if encoding == "utf-16":
        assert table.decode().split("\n")[0].endswith("\tthe sea was calm")
    else:
        assert table.splitlines(keepends=True)[2].endswith("나루에 배가\r\n".encode(encoding))
    each = run("sample", "--each", *there, "-n", "3", stdin="나루에\n".encode(encoding))
    assert each.stdout.decode().startswith("나루에")


def test_marks_and_line_ends_stay(plain: Path) -> None:
    data = "\ufeffthe sea\r\nwas calm\n\r\nand".encode()
    assert run("evaluate", *EVERYTHING, "-m", plain, stdin=data).stdout == data + b"\n"
    table = run("evaluate", "--lines", "-m", plain, stdin=data).stdout
    assert b"".join(row.split(b"\t", 2)[2] for row in table.splitlines(True)) == data + b"\n"
    assert table.startswith(
        run("evaluate", "--lines", "-m", plain, stdin=b"the sea").stdout[:-9].rpartition(b"\t")[0]
    )
    first = json.loads(
        run("evaluate", "--lines", "--json", "-m", plain, stdin=data).stdout.splitlines()[0]
    )
    assert first["line"] == "the sea"


# --- line ends ---------------------------------------------------------------------------------


def test_line_break(plain: Path, crlf: Path) -> None:
    for path, expected in ((plain, "\n"), (crlf, "\r\n")):
        assert charlstm.load(path).vocabulary.line_break == expected


@pytest.mark.parametrize("model", ["plain", "crlf"])
def test_line_ends_change_no_score(model: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    scores = [
        [
            row.split(b"\t")[:2]
            for row in run("evaluate", "--lines", "-m", path, stdin=text).stdout.splitlines()
        ]
        for text in (TEXT, CRLF)
    ]
    assert scores[0] == scores[1]
    end = "\n" if model == "plain" else "\r\n"
    whole = json.loads(
        run("evaluate", "--json", "-m", path, stdin=f"\nthe sea was calm{end}").stdout
    )
    assert float(scores[0][0][0]) == pytest.approx(whole["bits_per_char"], abs=1e-4)
    assert whole["unknown"] == 0
    rows = run("evaluate", "--lines", "--chars", "-m", path, stdin="the sea was calm\r\n").stdout
    assert float(rows.split()[-1]) == pytest.approx(whole["nats"] / 0.6931472, abs=1e-3)


def test_line_ends_choose_no_model(plain: Path, crlf: Path) -> None:
    """The same lines go to the same models, whichever ends they have."""
    models = ("-m", plain, "-m", crlf)
    text = "the sea was calm\nand the boat\nqqq\n배가\n"
    rows = [
        [
            row.split(b"\t")[:2]
            for row in run("evaluate", "--lines", *models, stdin=t).stdout.splitlines()
        ]
        for t in (text, text.replace("\n", "\r\n"))
    ]
    assert rows[0] == rows[1]
    assert all(float(margin) < 20 for _, margin in rows[0])


@pytest.mark.parametrize("list_end", ["\n", "\r\n", " \t\n", "  \r\n"])
@pytest.mark.parametrize("model", ["plain", "crlf"])
def test_copies_are_found(
    model: str, list_end: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever ends the lines of the list and of the corpus; no CR is shown."""
    path = request.getfixturevalue(model)
    options = ("sample", "-m", path, "--count", "30", "--rng-seed", "1", "-n", "30", "-t", "0.6")
    (tmp_path / "none").write_text("")
    found = run(*options, "--novel", tmp_path / "none").stdout
    assert b"\r" not in found
    lines = set(found.decode().splitlines())
    (tmp_path / "list").write_text("".join(f"{line}{list_end}" for line in lines), newline="")
    others = run(*options, "--novel", tmp_path / "list").stdout.decode().splitlines()
    assert others
    assert not lines & set(others)


def test_length_cuts_no_line_end(crlf: Path) -> None:
    """A sample whose last character is the first of CRLF does not show it."""
    options = ("sample", "--each", "-m", crlf, "--rng-seed", "1")
    for n in ("3", "9", "17"):
        out = run(*options, "-n", n, "-t", "1", stdin="the sea was\nand\n" * 100).stdout
        assert b"\r" not in out
        assert out.count(b"\n") == 200
