"""What a run shows of how far it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, STORY

import charlstm
from charlstm.cli.train import Display
from charlstm.training.run import Training


def begun(**keys: Any) -> Training:
    return charlstm.train(
        STORY, settings={f"train.{k}": v for k, v in keys.items()} | {"model.hidden": 4}
    )


def test_the_end_by_the_first_limit() -> None:
    """By steps where that comes first, else by time at the speed so far. What was spent before the
    first step, to read the text, counts as time."""
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"max_time": "60s"}, True),
        ({"max_time": "60s", "steps": 10}, False),
        ({"max_time": "1s", "steps": 1_000_000, "epochs": None}, True),
        ({"steps": 10}, False),
    ]
    for keys, by_time in cases:
        training = begun(**keys)
        training.spent = 0.25
        progress = Display(training, quiet=True)
        record = next(iter(training))
        object.__setattr__(record, "seconds", 0.5)
        seconds = 60 if keys.get("max_time") == "60s" else 1
        end = record.chars * 2 * (seconds - 0.25) if by_time else 10 * record.chars
        assert progress._end(record) == end
        assert (f": 1 s of {seconds} s, " in progress._plain(record)) is ("max_time" in keys)


@pytest.mark.whole
@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_the_bar_counts_towards_the_time(tmp_path: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 160, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "charlstm", "train", STORY, "--max-time", "3s"],
        stderr=theirs,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(theirs)
    shown = b""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:
            break
    assert process.wait() == 0
    os.close(ours)
    shares = [int(share) for share in re.findall(rb"(\d+)%\|", shown)]
    assert len(shares) > 5
    assert max(shares) > 90
    assert any(30 < share < 70 for share in shares)


def test_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.cli.train.PLAIN_SECONDS", 0.0)
    cases: dict[str, dict[str, Any]] = {
        " s of 60 s, step 1": {"max_time": "60s"},
        " s, step 1": {"steps": 5},
    }
    for line, keys in cases.items():
        training = begun(**keys)
        progress = Display(training, quiet=False)
        progress.bar = None
        progress.show(next(iter(training)))
        assert line in capsys.readouterr().err
