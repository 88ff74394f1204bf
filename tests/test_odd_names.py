"""Names of files that are not UTF-8: printed as escapes wherever text is, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import fails, run

NAME = os.fsdecode(b"y\xff.npz")
SHOWN = r"y\xff.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model and a corpus of such names, and a model of another."""
    folder = tmp_path_factory.mktemp("names")
    (folder / os.fsdecode(b"c\xff")).write_text("the sea was calm\n" * 20)
    options = ("--set", "model.hidden=8", "--steps", "5")
    for name in (NAME, "en.npz"):
        process = run("train", os.fsdecode(b"c\xff"), "-o", name, *options, cwd=folder)
        assert process.returncode == 0, process.stderr
        shown = SHOWN if name == NAME else name
        assert f"wrote {shown} after 5 steps" in process.stderr.decode()
    return folder


def test_several_models(folder: Path) -> None:
    """A table has the bytes of the name, as of the line; JSON is UTF-8."""
    models = ("-m", NAME, "-m", "en.npz")
    process = run("evaluate", "--lines", *models, cwd=folder, stdin="the sea\nxq\n")
    assert process.returncode == 0, process.stderr
    chosen = [row.split(b"\t")[0] for row in process.stdout.splitlines()]
    assert set(chosen) <= {b"y\xff.npz", b"en.npz"}
    process = run("evaluate", "--lines", "--json", *models, cwd=folder, stdin="the sea\nxq\n")
    rows = [json.loads(row) for row in process.stdout.decode().splitlines()]
    assert {key for row in rows for key in row["bits"]} == {SHOWN, "en.npz"}
    assert [os.fsencode(row["model"]) == c for row, c in zip(rows, chosen, strict=True)] == [
        c == b"en.npz" for c in chosen
    ]


def test_info(folder: Path) -> None:
    assert SHOWN in run("info", NAME, cwd=folder).stdout.decode().splitlines()[0]
    assert json.loads(run("info", "--json", NAME, cwd=folder).stdout.decode())["file"] == SHOWN
    assert run("info", "--verify", NAME, cwd=folder).stdout.decode().startswith(f"{SHOWN}: whole")
    verified = run("info", "--verify", "--json", NAME, cwd=folder).stdout.decode()
    assert json.loads(verified)["file"] == SHOWN


@pytest.mark.parametrize(
    "arguments",
    [
        *(["info", NAME], ["sample", "-m", NAME], ["evaluate", "-m", NAME, "-"]),
        *(["train", "-", "-c", NAME, "-o", "x"], ["sample", "--set", f"{NAME}=1"]),
        *(["train", NAME, "-o", "x"], ["evaluate", "-m", "en.npz", NAME]),
        ["evaluate", "-m", "en.npz", "--quantile", "1", "--reference", NAME, "-"],
    ],
)
def test_errors(folder: Path, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "en.npz").write_bytes((folder / "en.npz").read_bytes())
    fails(run(*arguments, cwd=tmp_path), 2, SHOWN)


def test_notices(folder: Path) -> None:
    (folder / os.fsdecode(b"b\xff")).write_bytes(b"the \xff\n")
    process = run("evaluate", "-m", "en.npz", "--lines", os.fsdecode(b"b\xff"), cwd=folder)
    assert r"1 line of b\xff had bytes" in process.stderr.decode()
