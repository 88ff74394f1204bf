"""Pipes, and bad input: one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import CORPORA, ROOT, fails, run, run_process


@pytest.mark.whole
class TestPipes:
    """Nothing but results on stdout, no traceback when a reader leaves."""

    def test_the_reader_leaves(self, korean: Path) -> None:
        command = f"{sys.executable} -m charlstm sample -m {korean} -n 100000 | head -c 10"
        process = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
        assert len(process.stdout) == 10
        assert process.stderr == b""
        assert process.returncode == 141

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    @pytest.mark.parametrize("arguments", [["sample"], ["info"], ["--help"], ["evaluate", "-"]])
    def test_a_full_output(self, hello: Path, arguments: list[str]) -> None:
        with Path("/dev/full").open("w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "charlstm", *arguments],
                input=b"hello",
                stdout=full,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "CHARLSTM_MODEL": str(hello)},
                timeout=60,
            )
        assert process.returncode == 6, process.stderr
        assert process.stderr.count(b"\n") == 1
        assert b"Traceback" not in process.stderr

    @pytest.mark.parametrize("redirect", [">&-", "2>&-", "2>/dev/full"])
    def test_closed_streams(self, hello: Path, tmp_path: Path, redirect: str) -> None:
        """A closed stdout is an error of the command that writes there; stderr can go missing."""
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        base = f"{sys.executable} -m charlstm"
        train = f"printf hello | {base} train - -o {tmp_path}/m.npz --steps 2 {redirect}"
        assert subprocess.run(["bash", "-c", train], env=env, timeout=60).returncode == 0
        sample = f"{base} sample -m {hello} --seed hell -t 0 -n 1 {redirect}"
        process = subprocess.run(["bash", "-c", sample], env=env, capture_output=True, timeout=60)
        if redirect == ">&-":
            assert process.returncode == 6
            assert process.stderr.count(b"\n") == 1
        else:
            assert (process.returncode, process.stdout) == (0, b"hello\n")

    @pytest.mark.parametrize(
        "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}]
    )
    def test_utf8_whatever_the_locale(self, korean: Path, locale: dict[str, str]) -> None:
        process = run_process("sample", "-m", korean, "--seed", "억수", "-n", "20", env=locale)
        assert process.returncode == 0, process.stderr
        text = process.stdout.decode("utf-8")
        assert text.startswith("억수")
        assert len(text) == 23
        evaluated = run_process("evaluate", "-", "-m", korean, stdin="나루터에서", env=locale)
        assert evaluated.returncode == 0


class TestBadInput:
    """One clear line and the right exit code."""

    def test_a_missing_file(self, tmp_path: Path) -> None:
        fails(run("train", "missing.txt", cwd=tmp_path), 2, "missing.txt", "no such file")
        fails(run("sample", cwd=tmp_path), 2, "charlstm.npz", "charlstm train")
        fails(run("evaluate", "-", cwd=tmp_path), 2, "charlstm.npz")
        fails(run("info", "x.npz", cwd=tmp_path), 2, "x.npz")

    def test_a_directory(self, tmp_path: Path, hello: Path) -> None:
        fails(run("train", tmp_path, cwd=tmp_path), 3, "is a directory")
        fails(run("evaluate", tmp_path, "-m", hello), 3, "is a directory")
        fails(run("sample", "-m", tmp_path), 3, "is a directory")
        fails(run("train", CORPORA / "hello.txt", "-o", tmp_path, "--force"), 2, "is a directory")

    def test_an_output_that_cannot_be_written(self, tmp_path: Path) -> None:
        output = tmp_path / "no" / "m.npz"
        fails(run("train", CORPORA / "hello.txt", "-o", output), 6, "cannot be written")
        log = tmp_path / "no" / "log"
        fails(run("train", CORPORA / "hello.txt", "-o", tmp_path / "m.npz", "--log", log), 6, "log")

    def test_an_empty_corpus(self, tmp_path: Path, hello: Path) -> None:
        fails(run("train", "-", cwd=tmp_path), 3, "empty")
        fails(run("train", "-", cwd=tmp_path, stdin="x"), 3, "one character")
        fails(run("evaluate", "-", "-m", hello), 3, "at least two")

    def test_invalid_utf8_names_the_byte(self, tmp_path: Path) -> None:
        fails(run("train", "-", cwd=tmp_path, stdin=b"abc\xff"), 3, "byte 3", "utf-8")
        process = run(
            *("train", "-", "--set", "text.encoding=latin-1", "--steps", "2"),
            cwd=tmp_path,
            stdin=b"abc\xff" * 20,
        )
        assert process.returncode == 0

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--set", "model.hiden=5"], ["model.hiden", "model.hidden"]),
            (["--set", "model.hidden=-5"], ["model.hidden", "from 1", "-5"]),
            (["--set", "train.lr=no"], ["train.lr", "number"]),
            (["--set", "hidden=5"], ["model.hidden"]),
            (["--set", "nonsense"], ["KEY=VALUE"]),
            (["-c", "mujon"], ["mujeong"]),
            (["--steps", "0"], ["--steps", "from 1"]),
            (["--max-time", "60"], ["--max-time", "90s"]),
            (["--nonsense"], ["--nonsense"]),
        ],
    )
    def test_wrong_settings(self, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
        fails(run("train", CORPORA / "hello.txt", *arguments, cwd=tmp_path), 2, *parts)
        assert not list(tmp_path.iterdir())

    def test_a_wrong_configuration_file_names_the_line(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("model:\n  cell: lstm\n  hidden: many\n")
        fails(
            run("train", CORPORA / "hello.txt", "-c", "c.yaml", cwd=tmp_path),
            2,
            "c.yaml:3",
            "model.hidden",
            "many",
        )

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["-t", "-1"], ["--temperature", "from 0", "-1"]),
            (["-t", "nan"], ["--temperature"]),
            (["--top-p", "0"], ["--top-p"]),
            (["-n", "-1"], ["--length"]),
            (["--seed", "hexl"], ["'x'", "position 2", "--unknown skip"]),
            (["--seed", "h", "--seed-file", "f"], ["give one"]),
        ],
    )
    def test_wrong_sampling(self, hello: Path, arguments: list[str], parts: list[str]) -> None:
        process = run("sample", "-m", hello, *arguments)
        fails(process, 2, *parts)
        assert process.stdout == b""

    def test_not_a_checkpoint(self, tmp_path: Path, hello: Path) -> None:
        (tmp_path / "text").write_text("hello")
        (tmp_path / "cut").write_bytes(hello.read_bytes()[:-100])
        (tmp_path / "empty").write_bytes(b"")
        for name in ("text", "cut", "empty"):
            for command in (["sample", "-m"], ["info"], ["evaluate", "-", "-m"]):
                fails(run(*command, name, cwd=tmp_path), 3, name, "checkpoint")

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        process = run_process("info", "x.npz", "--debug", cwd=tmp_path)
        assert process.returncode == 1
        assert b"Traceback" in process.stderr
