"""A checkpoint is written whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import assert_same, make, written

import charlstm.storage.files
from charlstm.errors import BusyError, DivergedError, OutputError, UsageError
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from charlstm.storage.files import claim
from charlstm.storage.lock import Lock
from charlstm.storage.progress import Evaluated


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """Writing through a link writes the file it points to, in the folder that one is in."""
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "model.npz", tmp_path / "link.npz"
    link.symlink_to(target)
    for _ in range(2):  # dangling at first, then not
        checkpoint = make()
        write_checkpoint(link, checkpoint)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert_same(read_checkpoint(target), checkpoint)
    assert sorted(os.listdir(tmp_path)) == ["link.npz", "there"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions(tmp_path: Path, mask: int) -> None:
    """The file has the permissions that any new file of this user has."""
    path = tmp_path / "model.npz"
    before = os.umask(mask)
    try:
        write_checkpoint(path, make())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


class Full:
    """A file that takes some bytes and then says that the device is full."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room, self.name = file, room, file.name

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def fail(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = ["fsync", "replace", "open", *range(0, 100, 6)]


@pytest.mark.parametrize("fault", FAULTS)
def test_failing_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | int) -> None:
    """Whatever fails, at some percent of the file too, the old one is untouched, no temporary is
    left, and it is exit 6."""
    path = tmp_path / "model.npz"
    write_checkpoint(path, make())
    old = path.read_bytes()
    new = make("gru")
    with monkeypatch.context() as patch:
        if fault == "open":
            patch.setattr("builtins.open", fail)
        elif isinstance(fault, str):
            patch.setattr(os, fault, fail)
        else:
            real = charlstm.storage.files._temporary
            room = len(written(new)) * int(fault) // 100

            @contextmanager
            def full(*names: Path) -> Iterator[Any]:
                with real(*names) as file:
                    yield Full(file, room)

            patch.setattr(charlstm.storage.files, "_temporary", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            write_checkpoint(path, new)
    assert caught.value.exit_code == 6
    assert str(path) in str(caught.value)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model.npz"]
    write_checkpoint(path, new)
    assert_same(read_checkpoint(path), new)


def test_synced_before_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents are on the disk before the name points to them, the name after that."""
    events: list[str] = []
    path = tmp_path / "model.npz"
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor: int) -> None:
        info = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(info.st_mode)
        events.append("folder" if is_folder else f"file of {info.st_size}")
        real["fsync"](descriptor)

    def replace(source: Any, target: Any) -> None:
        assert Path(source).parent == Path(target).parent
        events.append("replace")
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_checkpoint(path, make())
    folder = ["folder"] if hasattr(os, "O_DIRECTORY") else []
    assert events == [f"file of {path.stat().st_size}", "replace", *folder]


def test_interrupted_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle leaves no temporary either."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "model.npz", make())
    assert os.listdir(tmp_path) == []


POISON: dict[str, Callable[[Checkpoint], Any]] = {
    "best": lambda c: c.best,
    "looked": lambda c: c.looked,
    "last": lambda c: c.last,
    "average": lambda c: c.average,
    "optimizer": lambda c: c.optimizer["squares"],
    "state": lambda c: c.state[1].reshape(-1),
}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", POISON)
def test_not_finite_is_never_saved(tmp_path: Path, where: str, value: float) -> None:
    """A number that is not finite stops the writing, and the old file stays (exit 4)."""
    path = tmp_path / "model.npz"
    checkpoint = make()
    write_checkpoint(path, checkpoint)
    old = path.read_bytes()
    checkpoint.best = checkpoint.best.copy()  # it was the average
    POISON[where](checkpoint)[-1] = value
    with pytest.raises(DivergedError, match=where) as caught:
        write_checkpoint(path, checkpoint)
    assert caught.value.exit_code == 4
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model.npz"]


def test_losses_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """The same for a loss in the history."""
    checkpoint = make()
    checkpoint.progress.history.append(Evaluated(4, 1.0, math.nan))
    with pytest.raises(DivergedError):
        write_checkpoint(tmp_path / "model.npz", checkpoint)
    assert os.listdir(tmp_path) == []


def test_claim(tmp_path: Path) -> None:
    """What would fail later fails at once, and trying leaves nothing behind."""
    claim(tmp_path / "model.npz").release()
    assert os.listdir(tmp_path) == []
    with pytest.raises(UsageError, match="is a directory"):
        claim(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        claim(tmp_path / "no" / "model.npz")
    with pytest.raises(UsageError, match="not a file name"):
        claim("a\0b")
    assert os.listdir(tmp_path) == []


STALE = {
    ".model.npz.0123abcd.tmp": b"PK\x03\x04 and half a checkpoint",
    ".model.npz.ffffffff.tmp": b"",
    ".model.npz.00000000.tmp": bytes(5000),  # the names reached the disk, the contents did not
}


NOT_OURS = {
    ".model.npz.01234567.tmp": b"a letter",
    ".model.npz.0123ABCD.tmp": b"",
    ".model.npz.0123abc.tmp": b"",
    ".model.npz.0123abcd.tmp~": b"",
    "model.npz.0123abcd.tmp": b"",
    ".other.npz.0123abcd.tmp": b"",
    ".modelxnpz.0123abcd.tmp": b"",
    "model.npz": b"",
}


def test_what_killed_runs_left_is_swept(tmp_path: Path) -> None:
    """Temporary files of this path and nothing else: not another's, not a link or a folder of
    such a name. Not while the path is somebody else's."""
    for name, contents in {**STALE, **NOT_OURS}.items():
        (tmp_path / name).write_bytes(contents)
    (tmp_path / ".model.npz.aaaaaaaa.tmp").mkdir()
    (tmp_path / ".model.npz.bbbbbbbb.tmp").symlink_to(tmp_path / "model.npz")
    before = set(os.listdir(tmp_path))
    held = Lock(tmp_path / "model.npz")
    with pytest.raises(BusyError):
        claim(tmp_path / "model.npz")
    held.release()
    assert set(os.listdir(tmp_path)) == before
    (tmp_path / "link.npz").symlink_to(tmp_path / "model.npz")
    claim(tmp_path / "link.npz").release()
    assert set(os.listdir(tmp_path)) == before - set(STALE) | {"link.npz"}
