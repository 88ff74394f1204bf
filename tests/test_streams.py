"""A model, and a log, as a stream: `-` is standard input or output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, STORY, TINY, fails, run

from charlstm.storage.checkpoint import read_checkpoint

SHORT = ("--steps", "20", *TINY, "--set", "train.eval_every=5")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.npz"
    assert run("train", STORY, *SHORT, "-o", path, "-q").returncode == 0
    return path


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A script of bash; `charlstm` is this one."""
    return subprocess.run(
        ["bash", "-c", f'charlstm() {{ "{sys.executable}" -m charlstm "$@"; }}\n{script}'],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )


bash = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


class TestModel:
    def test_the_same_bytes(self, model: Path, tmp_path: Path) -> None:
        process = run("train", STORY, *SHORT, "-o", "-", cwd=tmp_path)
        assert process.returncode == 0
        assert process.stdout == model.read_bytes()
        assert process.stderr.count(b"nothing is saved before") == 1
        assert b"wrote standard output after 20 steps" in process.stderr
        assert b"try: " not in process.stderr
        assert os.listdir(tmp_path) == []

    def test_read(self, model: Path) -> None:
        data = model.read_bytes()
        for command in (["sample", "--rng-seed", "1"], ["evaluate", STORY], ["info", "--json"]):
            piped = run(*command, "-m", "-", stdin=data)
            assert piped.returncode == 0, piped.stderr
            named = run(*command, "-m", model)
            assert piped.stdout == named.stdout.replace(json.dumps(str(model)).encode(), b'"-"')
        shown = run("info", "-", stdin=data).stdout.decode().splitlines()[0]
        assert shown.split(None, 1)[1] == f"standard input ({len(data):,} bytes, format 1)"
        assert run("info", "-", "--verify", stdin=data).stdout.startswith(b"standard input: whole")
        fails(run("info", "-m", "-", stdin=data[:-1]), 3, "standard input: a truncated")
        fails(run("sample", "-m", "-", stdin=b""), 3, "standard input: an empty file")

    @pytest.mark.whole
    @bash
    def test_pipelines(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "m.npz").write_bytes(model.read_bytes())
        settings = " ".join(SHORT)
        process = shell(
            f"charlstm train '{STORY}' {settings} -o - -q | charlstm sample -m - -n 9 | sed -n 1p\n"
            "echo ${PIPESTATUS[@]}; charlstm info <(cat m.npz)\n"
            f"charlstm train '{STORY}' {settings} -o - -q | true; echo ${{PIPESTATUS[@]}}",
            tmp_path,
        )
        assert process.stderr == b""
        lines = process.stdout.decode().splitlines()
        assert lines[1] == "0 0 0"
        assert f"({len(model.read_bytes()):,} bytes, format 1)" in lines[2]
        assert lines[-1] == "141 0"
        process = shell(f"charlstm train '{STORY}' {settings} -o /dev/stdout | cat", tmp_path)
        assert b"/dev/stdout: is a pipe" in process.stderr
        assert process.stdout == b""

    @pytest.mark.whole
    @bash
    def test_standard_output_that_is_another_file(self, tmp_path: Path) -> None:
        """What is appended to is not what is read or written by name."""
        (tmp_path / "c.txt").write_text("a small ferry\n" * 100)
        before = (tmp_path / "c.txt").read_bytes()
        for how, told in {
            "-o - >> c.txt": "the output /dev/stdout is the corpus too",
            "--log - >> c.txt": "the log /dev/stdout is the corpus too",
            "--log - >> m.npz": "the log /dev/stdout is the output too",
            "-o - --log log --force >> log": "the log log is the output too",
        }.items():
            fails(
                shell(f"charlstm train c.txt -m m.npz {' '.join(SHORT)} {how}", tmp_path), 2, told
            )
        assert (tmp_path / "c.txt").read_bytes() == before

    @pytest.mark.whole
    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_output_loses_nothing(self, tmp_path: Path) -> None:
        process = shell(f"charlstm train '{STORY}' {' '.join(SHORT)} -o - >/dev/full", tmp_path)
        message = fails(process, 6, "standard output cannot be written: No space left on device")
        (place,) = tmp_path.glob("charlstm-*/model.npz")
        assert str(place) in message
        assert read_checkpoint(place).progress.step == 20

    @pytest.mark.whole
    @bash
    def test_not_to_a_terminal(self, tmp_path: Path) -> None:
        import pty

        ours, theirs = pty.openpty()
        process = subprocess.run(
            [sys.executable, "-m", "charlstm", "train", str(STORY), "-o", "-"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        fails(process, 2, "a terminal", "-o")
        process = subprocess.run(
            [sys.executable, "-m", "charlstm", "sample", "-m", "-"],
            stdin=theirs,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        fails(process, 2, "standard input is a terminal")
        os.close(ours)
        os.close(theirs)

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["sample", "-m", "-", "--seed-file", "-"], ["-m", "--seed-file", "input"]),
            (["sample", "-m", "-", "--each"], ["-m", "--each"]),
            (["sample", "-m", "-", "--interactive"], ["-m", "--interactive"]),
            (["sample", "-m", "-", "--novel", "-"], ["-m", "--novel"]),
            (["evaluate", "-m", "-", "-"], ["-m", "TEXT"]),
            (["evaluate", "-m", "-"], ["-m", "TEXT"]),
            (
                ["evaluate", "-m", "-", "x", "--quantile", "0.9", "--reference", "-"],
                ["-m", "--reference"],
            ),
            (["info", "-", "--gradient-flow", "-"], ["-m", "--gradient-flow"]),
            (["info", "-m", "-", "--verify", "--corpus", "-"], ["-m", "--corpus"]),
            (["train", "x", "-o", "-", "--log", "-"], ["-o", "--log", "output"]),
            (["train", "-", "--valid", "-"], ["CORPUS", "--valid"]),
            (["train", "x", "-o", "-", "--resume"], ["--resume", "-o"]),
        ],
    )
    def test_one_stream_for_one_thing(
        self, arguments: list[str], parts: list[str], tmp_path: Path
    ) -> None:
        process = run(*arguments, cwd=tmp_path)
        fails(process, 2, *parts)
        assert process.stdout == b""
        assert os.listdir(tmp_path) == []


class TestLog:
    def test_to_standard_output(self, tmp_path: Path) -> None:
        process = run("train", STORY, *SHORT, "--log", "-", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert [json.loads(line)["step"] for line in process.stdout.splitlines()] == [5, 10, 15, 20]
        assert os.listdir(tmp_path) == ["charlstm.npz"]

    @pytest.mark.whole
    @bash
    def test_the_reader_leaves(self, tmp_path: Path) -> None:
        """Training ends, and the model is saved."""
        process = shell(
            f"charlstm train '{STORY}' {' '.join(SHORT)} --steps 100000 -q --log - | head -1\n"
            "echo ${PIPESTATUS[@]}",
            tmp_path,
        )
        assert process.stderr == b""
        line, codes = process.stdout.decode().splitlines()
        assert json.loads(line)["step"] == 5
        assert codes == "141 0"
        assert read_checkpoint(tmp_path / "charlstm.npz").progress.step < 100_000
