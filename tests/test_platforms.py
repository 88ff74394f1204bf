"""What not every system has is not needed: a system without it is made by hiding it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import ROOT, STORY

from charlstm.errors import OutputError
from charlstm.storage import files
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.storage.files import replacing
from charlstm.storage.lock import Lock
from charlstm.text.ids import IN_MEMORY, as_array, release

WITHOUT = """
import os, signal, sys

for name in ("fcntl", "mmap", "readline", "resource", "pwd", "grp", "termios", "mpi4py"):
    sys.modules[name] = None
for name in ("memfd_create", "sched_getaffinity", "fchown", "fchmod", "chown", "fork", "forkpty",
             "O_DIRECTORY", "O_NOFOLLOW", "O_TMPFILE", "O_CLOEXEC", "O_NONBLOCK", "getuid",
             "geteuid", "mkfifo", "killpg", "setsid", "pwrite", "pread"):
    vars(os).pop(name, None)
for name in ("SIGHUP", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM", "pthread_sigmask"):
    vars(signal).pop(name, None)

from charlstm.__main__ import run

run()
"""
"""The command line on a system that has neither these modules nor these functions and signals."""


def without(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`charlstm ARGUMENTS` there."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def here(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same on this system."""
    return subprocess.run(
        [sys.executable, "-m", "charlstm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_one_process_without_what_a_system_may_lack(tmp_path: Path) -> None:
    """It trains, resumes, samples and evaluates, and gets the same model to the bit; what it
    cannot lock, it says."""
    text = str(STORY)
    train = ["train", text, "--set", "model.hidden=8", "--set", "train.shards=2"]
    begun = without(tmp_path, *train, "--steps", "30", "-o", "m.npz")
    assert begun.returncode == 0, begun.stderr
    assert "m.npz: this file system has no locks" in begun.stderr
    resumed = without(tmp_path, *train, "--steps", "60", "-o", "m.npz", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(os.listdir(tmp_path)) == ["m.npz"]

    one = ["--set", "train.workers=1", "-q"]
    here(tmp_path, *train, "--steps", "30", "-o", "same.npz", *one)
    here(tmp_path, *train, "--steps", "60", "-o", "same.npz", "--resume", *one)
    ours, same = (read_checkpoint(tmp_path / name) for name in ("m.npz", "same.npz"))
    assert ours.progress.step == 60
    for array, other in zip([ours.best, *ours.arrays()], [same.best, *same.arrays()], strict=True):
        np.testing.assert_array_equal(array, other)
    for command in (["sample", "--rng-seed", "1", "--seed", "The "], ["evaluate", text]):
        done = without(tmp_path, *command, "-m", "m.npz")
        assert done.returncode == 0, done.stderr
        assert done.stdout == here(tmp_path, *command, "-m", "same.npz").stdout
    assert without(tmp_path, "info", "m.npz", "--verify").stdout.startswith("m.npz: whole")
    assert without(tmp_path, "config", "gru").stdout == here(tmp_path, "config", "gru").stdout


def test_a_reader_that_leaves_where_there_is_no_sigpipe(hello: Path) -> None:
    """The exit code is that of other systems."""
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT, "sample", "-m", str(hello), "-n", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_lock_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte behind the end of the file; the lock's file itself is signed."""
    taken: list[tuple[int, int]] = []

    def locking(descriptor: int, mode: int, length: int) -> None:
        taken.append((os.lseek(descriptor, 0, os.SEEK_CUR), length))
        if len(taken) > 1:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    lock = Lock(tmp_path / "m.npz")
    assert lock.notice is None
    assert taken == [(1 << 30, 1)]
    assert (tmp_path / ".m.npz.lock").read_text().startswith(f"{os.getpid()} ")
    with pytest.raises(Exception, match=f"being written by process {os.getpid()}"):
        Lock(tmp_path / "m.npz")
    lock.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("times", [0, 2, 99])
def test_a_file_that_somebody_has_open_on_windows(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing it is tried again for a moment; then it is an error, and the old file stands."""
    path, replace = tmp_path / "m", os.replace
    refused: list[Any] = []

    def busy(source: Any, target: Any) -> None:
        if len(refused) < times:
            refused.append(target)
            raise PermissionError(13, "The process cannot access the file")
        replace(source, target)

    path.write_text("old")
    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(files, "RENAME_AGAIN", (0.0, 0.0, 0.0))
    monkeypatch.setattr(files, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    if times == 99:
        with pytest.raises(OutputError, match="cannot access the file"), replacing(path) as file:
            file.write(b"new")
        assert len(refused) == 4
    else:
        with replacing(path) as file:
            file.write(b"new")
    assert path.read_text() == ("old" if times == 99 else "new")
    assert os.listdir(tmp_path) == ["m"]


def test_ids_where_files_cannot_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read."""
    monkeypatch.setattr("charlstm.text.ids.IN_MEMORY", 8)
    monkeypatch.setattr("charlstm.text.ids.mmap", None)
    assert IN_MEMORY > 8
    with open(tmp_path / "ids", "w+b") as file:
        file.write(bytes(range(100)))
        ids = as_array(file, "u1")
        release(ids)
        assert ids.tolist() == list(range(100))
