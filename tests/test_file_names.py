"""Names of files as users type them: none at all, missing ones, ones that a shell would split."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support import CORPORA, STORY, TINY, fails, run

SHORT = ("--steps", "2", *TINY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "-m", ""],
        ["evaluate", "-m", "", "c.txt"],
        ["info", "-m", ""],
        ["info", ""],
        ["train", "c.txt", "-o", ""],
        ["train", "c.txt", "--log", ""],
        ["train", "c.txt", "-o", "n.npz", "--valid", ""],
        ["train", "c.txt", "-c", ""],
        ["train", "", "-o", "n.npz"],
        ["evaluate", ""],
        ["sample", "--seed-file", ""],
        ["sample", "--novel", ""],
        ["info", "--verify", "--corpus", ""],
    ],
)
def test_an_empty_name(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a small ferry\n" * 30)
    assert run("train", "c.txt", *SHORT, "-o", "m.npz", cwd=tmp_path).returncode == 0
    env = {"CHARLSTM_MODEL": "m.npz"}
    fails(run(*arguments, cwd=tmp_path, env=env), 2, "an empty name")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a small ferry\n" * 30)
    for command in (["train", "c.txt", *SHORT], ["sample"], ["evaluate", "c.txt"], ["info"]):
        process = run(*command, cwd=tmp_path, env={"CHARLSTM_MODEL": ""})
        assert process.returncode == 0, process.stderr
    assert (tmp_path / "charlstm.npz").exists()


@pytest.mark.parametrize("name", ["./names.yaml", "names.yaml", "./names", "none/names", "x.yml"])
def test_a_configuration_file_that_is_missing(name: str, tmp_path: Path) -> None:
    message = fails(run("train", CORPORA / "hello.txt", "-c", name, cwd=tmp_path), 2, name)
    assert message.endswith(f"{name}: no such file; check the name")


def test_a_configuration_that_is_not_known(tmp_path: Path) -> None:
    message = fails(run("train", CORPORA / "hello.txt", "-c", "name", cwd=tmp_path), 2)
    assert "unknown configuration 'name'; did you mean names?" in message


@pytest.mark.parametrize("name", ["my model.npz", "it's.npz", "m;ls.npz", "plain.npz"])
def test_a_hint_can_be_typed(name: str, tmp_path: Path) -> None:
    process = run("train", STORY, *SHORT, "-o", name, cwd=tmp_path)
    hint = process.stderr.decode().splitlines()[-1].rpartition("try: ")[2]
    assert shlex.split(hint) == ["charlstm", "sample", "-m", name]
