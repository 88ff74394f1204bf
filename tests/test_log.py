"""The log of a run that is resumed has each step once."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support import STORY, TINY, fails, run

from charlstm.cli.log import _cut
from charlstm.errors import UsageError
from charlstm.storage.progress import Progress, Return, TextIdentity

RUN = ("train", STORY, *TINY, "--set", "train.eval_every=20", "-q", "--log", "log")


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log but for their time."""
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in document.items() if k != "seconds"} for document in documents]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder as kill -9 leaves it: the checkpoint is of step 40, the log of step 70, with the
    beginning of a line."""
    assert run(*RUN, "--steps", "40", cwd=tmp_path).returncode == 0
    checkpoint = (tmp_path / "charlstm.npz").read_bytes()
    assert run(*RUN, "--resume", "--steps", "70", cwd=tmp_path).returncode == 0
    (tmp_path / "charlstm.npz").write_bytes(checkpoint)
    assert [line["step"] for line in lines(tmp_path / "log")] == [20, 40, 60, 70]
    with open(tmp_path / "log", "a") as file:
        file.write('{"step": 80, "epo')
    return tmp_path


def test_it_goes_on_where_the_checkpoint_stands(killed: Path) -> None:
    (killed / "whole").mkdir()
    assert run(*RUN, "--steps", "100", cwd=killed / "whole").returncode == 0
    (killed / "log").chmod(0o600)
    assert run(*RUN, "--resume", "--steps", "100", cwd=killed).returncode == 0
    assert lines(killed / "log") == lines(killed / "whole" / "log")
    if os.name == "posix":
        assert (killed / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_of_another_run(killed: Path) -> None:
    other = killed / "other"
    other.mkdir()
    assert run(*RUN, "--steps", "60", "--rng-seed", "7", cwd=other).returncode == 0
    before = (other / "log").read_bytes()
    process = run(*RUN[:-1], "other/log", "--resume", "--steps", "50", cwd=killed)
    fails(process, 2, "other/log: is the log of another run", "step 20", "--log FILE")
    assert (other / "log").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["a diary", "a diary\n", '{"step": 5}\n', "[1]\n", '{"step": "x"\n', '{"a": 1}\n', "\0\n"],
)
def test_what_is_no_log_is_not_touched(killed: Path, text: str) -> None:
    for contents in (text, (killed / "log").read_text().splitlines()[0] + "\n" + text):
        (killed / "diary").write_text(contents)
        process = run(*RUN[:-1], "diary", "--resume", "--steps", "50", cwd=killed)
        fails(process, 2, "diary: line", "--log FILE")
        assert (killed / "diary").read_text() == contents


def test_a_new_log_for_a_resumed_run(killed: Path) -> None:
    process = run(*RUN[:-1], "new", "--resume", "--steps", "70", cwd=killed)
    assert process.returncode == 0
    assert [line["step"] for line in lines(killed / "new")] == [60, 70]


def progress(step: int, rollbacks: Iterable[Return] = ()) -> Progress:
    """Of a run that stands after a step."""
    corpus = TextIdentity("", 1, 1)
    return Progress(corpus=corpus, ranks=1, random={}, step=step, rollbacks=[*rollbacks])


def cut(log: list[tuple[int, ...]], step: int, rollbacks: list[tuple[int, int]]) -> list[int]:
    """The places of the lines that are kept; (step,) or (step returned to, diverged at)."""
    text = b"".join(
        json.dumps(
            {"step": line[0], "diverged_at": line[1]}
            if len(line) > 1
            else {"step": line[0], "train": 1.0, "valid": None}
        ).encode()
        + b"\n"
        for line in log
    )
    file = io.BytesIO(text)
    _cut("log", file, progress(step, [Return(at, "the loss", to) for at, to in rollbacks]))
    kept = file.getvalue()
    assert text.startswith(kept)
    return list(range(len(kept.splitlines())))


A_RETURN = [(50,), (100,), (50, 120), (100,), (150,)]


@pytest.mark.parametrize(
    ("log", "step", "rollbacks", "kept"),
    [
        ([(50,), (100,), (150,)], 110, [], 2),
        ([(50,), (100,)], 20, [], 0),
        ([], 20, [], 0),
        (A_RETURN, 110, [], 2),  # saved before it diverged
        (A_RETURN, 110, [(120, 50)], 4),  # and after
        (A_RETURN, 60, [(120, 50)], 3),
        (A_RETURN, 110, [(30, 0), (120, 50)], 4),  # a log that was begun after the first return
        (A_RETURN, 30, [(30, 0)], 0),
        ([(0, 51), (0, 51), (20,)], 10, [(51, 0)], 1),  # the same return twice
        ([(0, 51), (0, 51), (20,)], 10, [(51, 0), (51, 0)], 2),
        ([(0, 51), (0, 51), (20,)], 20, [(51, 0), (51, 0)], 3),
    ],
)
def test_returns_to_a_good_state(
    log: list[tuple[int, ...]], step: int, rollbacks: list[tuple[int, int]], kept: int
) -> None:
    assert cut(log, step, rollbacks) == list(range(kept))


def test_a_last_line_without_its_end() -> None:
    """A whole one gets it, the beginning of one goes."""
    whole = b'{"step": 5, "train": 1.0, "valid": null}'
    for text, kept in [
        (whole, whole + b"\n"),
        (whole + b"\n{", whole + b"\n"),
        (whole[:-1], b""),
        (b"", b""),
    ]:
        file = io.BytesIO(text)
        _cut("log", file, progress(9))
        assert file.getvalue() == kept
    with pytest.raises(UsageError, match="line 1"):
        _cut("log", io.BytesIO(b"x"), progress(9))
