"""The lock on a path: one holder, whose end is its end, and nothing left behind.

Eight that race for it are in `tests/faults`."""

from __future__ import annotations

import errno
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, STORY, posix, wait_for

import charlstm
import charlstm.storage.lock
from charlstm.errors import BusyError, OutputError, UsageError
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.storage.lock import Lock
from charlstm.training.run import Training

ENDLESS = ("--epochs", "100000", "--set", "train.patience=null", "--save-every", "1h", "-q")

HOLD = """
import sys
from charlstm.storage.lock import Lock
lock = Lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock on a path until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate()


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """A `charlstm train` on its way."""
    return subprocess.Popen(
        [sys.executable, "-m", "charlstm", "train", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


class TestLock:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        """Also within one process, and through any link; another path is free."""
        path, link = tmp_path / "m.npz", tmp_path / "link"
        link.symlink_to(path)
        (tmp_path / "folder").symlink_to(tmp_path)
        lock = Lock(path)
        assert lock.held
        for same in (path, link, tmp_path / "folder" / "m.npz"):
            with pytest.raises(BusyError, match=f"process {os.getpid()} on ") as caught:
                Lock(same)
            assert str(caught.value).startswith(f"{same} is being written by process ")
            assert caught.value.exit_code == 5
        Lock(tmp_path / "other.npz").release()
        lock.release()
        lock.release()
        assert not lock.held
        again = Lock(link)
        assert sorted(os.listdir(tmp_path)) == [".m.npz.lock", "folder", "link"]
        again.release()
        assert sorted(os.listdir(tmp_path)) == ["folder", "link"]

    def test_a_lock_that_is_forgotten_is_free(self, tmp_path: Path) -> None:
        lock = Lock(tmp_path / "m.npz")
        del lock
        gc.collect()
        assert os.listdir(tmp_path) == []

    def test_it_outlives_the_file_that_it_guards(self, tmp_path: Path) -> None:
        """A save replaces the file, and the lock stays."""
        path, new = tmp_path / "m.npz", tmp_path / "new"
        path.write_bytes(b"old")
        lock = Lock(path)
        new.write_bytes(b"new")
        os.replace(new, path)
        with pytest.raises(BusyError):
            Lock(path)
        lock.release()
        assert os.listdir(tmp_path) == ["m.npz"]

    def test_the_holder_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        with holder(path) as process, pytest.raises(BusyError) as caught:
            Lock(path)
        assert f"by process {process.pid} on {socket.gethostname()};" in str(caught.value)
        assert os.listdir(tmp_path) == []
        Lock(path).release()

    @posix
    def test_kill_frees_it(self, tmp_path: Path) -> None:
        """kill -9 leaves a lock's file that nobody holds; the next one takes it and removes it."""
        path = tmp_path / "m.npz"
        for _ in range(3):
            with holder(path) as process:
                process.kill()
            assert os.listdir(tmp_path) == [".m.npz.lock"]
        lock = Lock(path)
        assert (tmp_path / ".m.npz.lock").read_text().startswith(f"{os.getpid()} ")
        lock.release()
        assert os.listdir(tmp_path) == []

    @posix
    def test_a_child_does_not_end_it(self, tmp_path: Path) -> None:
        """A forked child that ends leaves the lock to its parent."""
        script = (
            "import os, sys; from charlstm.storage.lock import Lock; lock = Lock(sys.argv[1])\n"
            "child = os.fork()\n"
            "if child == 0: sys.exit()\n"
            "os.waitpid(child, 0)\n"
            "try: Lock(sys.argv[1])\n"
            "except Exception as e: print(type(e).__name__, os.listdir('.'))\n"
        )
        process = subprocess.run(
            [sys.executable, "-c", script, "m.npz"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert process.stdout == "BusyError ['.m.npz.lock']\n", process.stderr
        assert os.listdir(tmp_path) == []

    def test_what_stands_in_its_place_is_left_alone(self, tmp_path: Path) -> None:
        path, place = tmp_path / "m.npz", tmp_path / ".m.npz.lock"
        victim = tmp_path / "victim"
        victim.write_text("precious")
        place.symlink_to(victim)
        with pytest.raises(OutputError, match="cannot be written"):
            Lock(path)
        assert victim.read_text() == "precious"
        place.unlink()
        place.write_bytes(bytes(10_000))
        with pytest.raises(OutputError, match=r"\.m\.npz\.lock beside it"):
            Lock(path)
        assert place.stat().st_size == 10_000
        place.write_text("a diary\n")
        with pytest.raises(OutputError, match=r"\.m\.npz\.lock beside it"):
            Lock(path)
        assert place.read_text() == "a diary\n"
        place.write_bytes(bytes(30))  # as power loss leaves one
        Lock(path).release()
        assert not place.exists()
        place.mkdir()
        with pytest.raises(OutputError, match="cannot be written"):
            Lock(path)

    def test_where_no_file_can_be(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a directory"):
            Lock(tmp_path)
        with pytest.raises(OutputError, match="cannot be written: No such file"):
            Lock(tmp_path / "no" / "m.npz")
        with pytest.raises(UsageError, match="not a file name"):
            Lock("a\0b")

    @posix
    def test_a_file_system_without_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Training is possible there, and the user is told; another error is one."""

        def says(code: int) -> None:
            def refuse(*_: Any) -> None:
                raise OSError(code, os.strerror(code))

            monkeypatch.setattr("fcntl.flock", refuse)

        says(errno.ENOSYS)
        settings = {"train.steps": 2}
        training = charlstm.train(STORY, tmp_path / "m.npz", settings=settings)
        assert "no locks (Function not implemented)" in "".join(training.notices)
        assert len(list(training)) == 2
        assert os.listdir(tmp_path) == ["m.npz"]
        says(errno.EIO)
        with pytest.raises(OutputError, match="Input/output error"):
            Lock(tmp_path / "m.npz")

    def test_a_lock_removed_while_waiting_for_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between opening the file and locking it, its holder removes it: what is locked then is
        no lock, and the one that stands at the path is taken instead."""
        path = tmp_path / "m.npz"
        first = [Lock(path)]
        real, seen = charlstm.storage.lock._lock, []

        def late(descriptor: int) -> None:
            seen.append(os.fstat(descriptor).st_ino)
            if first:
                first.pop().release()
            real(descriptor)

        monkeypatch.setattr(charlstm.storage.lock, "_lock", late)
        lock = Lock(path)
        assert len(seen) == 2
        assert os.stat(lock.path).st_ino == seen[1]
        monkeypatch.undo()
        with pytest.raises(BusyError):
            Lock(path)
        lock.release()


class TestRuns:
    """Runs of training on one path."""

    def test_within_a_process(self, tmp_path: Path) -> None:
        """A run has its path from its making to its end, and again for a save."""
        path = tmp_path / "m.npz"
        settings = {"train.steps": 4}
        training = charlstm.train(STORY, path, settings=settings)
        cases: list[dict[str, Any]] = [{}, {"force": True}, {"resume": True}]
        for options in cases:
            with pytest.raises(BusyError):
                charlstm.train(STORY, path, settings=settings, **options)
        steps = iter(training)
        next(steps)
        training.save()
        with pytest.raises(BusyError):
            charlstm.train(STORY, path, resume=True)
        assert len(list(steps)) == 3
        training.save()
        assert os.listdir(tmp_path) == ["m.npz"]
        resumed = charlstm.train(STORY, path, settings={"train.steps": 6}, resume=True)
        with pytest.raises(BusyError):
            training.save()
        assert len(list(resumed)) == 2
        assert read_checkpoint(path).progress.step == 6

    def test_an_error_lets_go(self, tmp_path: Path) -> None:
        path = tmp_path / "m.npz"
        with pytest.raises(UsageError, match="no such file"):
            charlstm.train(tmp_path / "gone", path)
        with pytest.raises(UsageError, match="no such checkpoint"):
            charlstm.train(STORY, path, resume=True)
        assert os.listdir(tmp_path) == []
        training = charlstm.train(STORY, path)
        for _ in training:
            break  # the iteration ends here
        assert os.listdir(tmp_path) == []
        assert isinstance(training, Training)

    @pytest.mark.whole
    @posix
    def test_the_command_line(self, tmp_path: Path) -> None:
        """The second run ends at once, with one line; kill -9 of the first makes room for it."""
        path = tmp_path / "m.npz"
        first = start(STORY, "-o", path, *ENDLESS)
        wait_for(path)  # saved after the first look
        try:
            for option in ("--resume", "--force", "-q"):
                second = start(STORY, "-o", path, *ENDLESS, option)
                _, stderr = second.communicate(timeout=60)
                assert second.returncode == 5
                (line,) = stderr.splitlines()
                assert line.startswith(f"charlstm: error: {path} is being written by process ")
                assert f"process {first.pid} on {socket.gethostname()};" in line
            (tmp_path / ".m.npz.deadbeef.tmp").write_bytes(b"PK\x03\x04")
        finally:
            first.kill()
            first.communicate()
        third = start(STORY, "-o", path, "--resume", "--max-time", "0.2s", "-q")
        _, stderr = third.communicate(timeout=60)
        assert (third.returncode, stderr) == (0, "")
        assert os.listdir(tmp_path) == ["m.npz"]
