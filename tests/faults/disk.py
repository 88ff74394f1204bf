"""Disks that fail, and disks that lose power.

Both stand in for what `charlstm.storage.files` calls of the operating system: `open`, the file it
gives, `os.fsync`, `os.replace`, and the opening and syncing of a directory.
"""

from __future__ import annotations

import builtins
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import charlstm.storage.files


class Disk:
    """Passes everything on, and calls `before` with the kind of each operation first."""

    def __init__(self) -> None:
        self.real = {name: getattr(os, name) for name in ("fsync", "replace", "open")}
        self.files: dict[int, File] = {}

    def before(self, kind: str) -> None:
        """Something is about to happen. May raise."""

    def wrote(self, file: File, at: int, data: bytes) -> None: ...
    def synced(self, descriptor: int) -> None: ...
    def replaced(self, source: Path, target: Path) -> None: ...

    def _open(self, path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if "x" not in mode:
            return builtins.open(path, mode, *rest, **more)
        self.before("create")
        file = File(self, builtins.open(path, mode, *rest, **more))  # noqa: SIM115
        self.files[file.fileno()] = file
        return file

    def _fsync(self, descriptor: int) -> None:
        self.before("fsync")
        self.real["fsync"](descriptor)
        self.synced(descriptor)

    def _replace(self, source: Any, target: Any) -> None:
        self.before("replace")
        self.real["replace"](source, target)
        self.replaced(Path(source), Path(target))

    def _open_directory(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & getattr(os, "O_DIRECTORY", 0):
            self.before("open directory")
        descriptor: int = self.real["open"](path, flags, *rest, **more)
        return descriptor

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """All checkpoints are written to this disk meanwhile."""
        with (
            patch.object(charlstm.storage.files, "open", self._open, create=True),
            patch.object(os, "fsync", self._fsync),
            patch.object(os, "replace", self._replace),
            patch.object(os, "open", self._open_directory),
        ):
            yield


class File:
    """A file on such a disk."""

    def __init__(self, disk: Disk, file: Any) -> None:
        self.disk, self.file = disk, file

    def write(self, data: Any) -> int:
        self.disk.before("write")
        at = self.file.tell()
        n = int(self.file.write(data))
        self.disk.wrote(self, at, bytes(data))
        return n

    def flush(self) -> None:
        self.disk.before("flush")
        self.file.flush()

    def __enter__(self) -> File:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class FailingDisk(Disk):
    """Raises an error at the n-th operation, counted from 0, and then no more, or for ever."""

    def __init__(self, at: int = -1, error: int = 0, for_ever: bool = False) -> None:
        super().__init__()
        self.at, self.error, self.for_ever = at, error, for_ever
        self.kinds: list[str] = []

    def before(self, kind: str) -> None:
        n = len(self.kinds)
        self.kinds.append(kind)
        if n == self.at or (self.for_ever and 0 <= self.at < n):
            raise OSError(self.error, os.strerror(self.error))


@dataclass
class Inode:
    """A file's contents: what was synced, and what was written since."""

    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def after_power_loss(self, rng: random.Random) -> bytes:
        """What may be there: each write since the last sync is there, is missing, or has left
        rubbish."""
        data = bytearray(self.durable)
        for at, new in self.pending:
            fate = rng.choice(("there", "missing", "zeros", "rubbish", "torn"))
            if fate == "missing":
                continue
            if fate == "torn":
                new = new[: rng.randrange(len(new) + 1)]
            data.extend(bytes(max(0, at + len(new) - len(data))))
            if fate == "zeros":
                new = bytes(len(new))
            elif fate == "rubbish":
                new = rng.randbytes(len(new))
            data[at : at + len(new)] = new
        return bytes(data)

    def copy(self) -> Inode:
        return Inode(self.durable, list(self.pending))


@dataclass
class Moment:
    """What a disk knew at one moment: what the path is for sure, and what it may be instead."""

    names: list[Inode | None]

    def after_power_loss(self, rng: random.Random) -> bytes | None:
        """What stands at the path when power comes back; None: nothing."""
        inode = rng.choice(self.names)
        return None if inode is None else inode.after_power_loss(rng)


class RecordingDisk(Disk):
    """Keeps, after each operation, the states in which a loss of power could leave `path`.

    A name points to where a replacement that was synced made it point, or to where any later one
    did; a file holds what was synced and any part of what was written since.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.inodes: dict[str, Inode] = {}
        self.names: list[Inode | None] = [None]  # the first is durable
        self.moments: list[Moment] = []

    def _note(self) -> None:
        self.moments.append(Moment([n and n.copy() for n in self.names]))

    def wrote(self, file: File, at: int, data: bytes) -> None:
        self.inodes.setdefault(file.name, Inode()).pending.append((at, data))
        self._note()

    def synced(self, descriptor: int) -> None:
        if descriptor in self.files and not self.files[descriptor].closed:
            name = self.files[descriptor].name
            self.inodes[name] = Inode(Path(name).read_bytes())
        else:  # the directory
            self.names = self.names[-1:]
        self._note()

    def replaced(self, source: Path, target: Path) -> None:
        assert target == self.path
        self.names.append(self.inodes.pop(str(source)))
        self._note()
