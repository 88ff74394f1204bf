"""One writer at a time: a lock on a path, which the operating system frees when the process that
holds it ends, however it ends.

What is locked is a file beside the one that is written, `.NAME.lock`. That one itself cannot be:
it is not there before the first save, and after every save it is another file. Symbolic links are
followed first, so that all of them to one file have one lock. Who holds the lock removes its file
before letting go; what a killed process leaves is a file that nobody has locked, which the next
one takes over and removes in its turn.
"""

import contextlib
import errno
import os
import re
import socket
import stat
import time
import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

from charlstm.errors import BusyError, OutputError, UsageError

Path_ = str | os.PathLike[str]

LONGEST = 512
"""Bytes. A longer file is no lock of ours, whatever its name is."""

SIGNED = re.compile(r"(\d+) (\S+)\n")
"""What the holder of a lock writes into it: its process and the machine."""

SIGNING = 1.0
"""Seconds that the holder of a lock may need to write its name into it."""

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What file systems say that have no locks: some that are shared over a network."""


class Lock:
    """The right to write one path, held from now on until `release`, or until this object or its
    process is gone. A child that is forked meanwhile shares it."""

    def __init__(self, path: Path_) -> None:
        """Raises `BusyError`, which names the process, where it is held already; `UsageError`
        where no file can be at this path; and `OutputError` where none can be written."""
        self.notice: str | None = None  # what to tell the user: that this file system has no locks
        try:
            self.target = Path(os.path.realpath(path))
            if self.target.is_dir():
                raise UsageError(f"{path}: is a directory; name a file")
            self.path = self.target.with_name(f".{self.target.name}.lock")
            descriptor = self._take(path)
        except OSError as e:
            raise OutputError(f"{path}: cannot be written: {e.strerror or e}") from e
        except ValueError:
            raise UsageError(f"{os.fspath(path)!r}: not a file name") from None
        self.release = weakref.finalize(self, _free, descriptor, self.path, os.getpid())
        """Let go. Twice is once."""

    @property
    def held(self) -> bool:
        return bool(self.release.alive)

    def _take(self, path: Path_) -> int:
        """The descriptor of the lock's file, locked and signed."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        while True:
            descriptor = os.open(self.path, flags, 0o666)
            try:
                info = os.fstat(descriptor)
                if not (stat.S_ISREG(info.st_mode) and _is_lock(descriptor)):
                    what = "which should be its lock, is something else; move that away"
                    beside = f"{self.path.name} beside it, {what}"
                    raise OutputError(f"{path}: cannot be written: {beside}")
                try:
                    _lock(descriptor)
                except (BlockingIOError, PermissionError):
                    other = "wait until that has ended, or write to another file (-o FILE)"
                    holder = _holder(descriptor)
                    raise BusyError(f"{path} is being written by {holder}; {other}") from None
                except OSError as e:
                    if e.errno not in UNSUPPORTED:
                        raise
                    what = f"this file system has no locks ({e.strerror})"
                    self.notice = f"{path}: {what}; see to it that no other run writes there"
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(info, os.stat(self.path, follow_symlinks=False)):
                        os.lseek(descriptor, 0, os.SEEK_SET)
                        os.ftruncate(descriptor, 0)
                        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder has removed it in between


def _lock(descriptor: int) -> None:
    """Lock a file by what the system has: Unix, Windows, or, as in a browser, nothing."""
    for lock in (_lock_on_unix, _lock_on_windows):
        with contextlib.suppress(ImportError):
            lock(descriptor)
            return
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _lock_on_unix(descriptor: int) -> None:
    fcntl: Any = import_module("fcntl")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_on_windows(descriptor: int) -> None:
    msvcrt: Any = import_module("msvcrt")
    # one byte, so far behind the end that everybody can read what stands there
    os.lseek(descriptor, 1 << 30, os.SEEK_SET)
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    os.lseek(descriptor, 0, os.SEEK_SET)


def _text(descriptor: int) -> str:
    """The beginning of a file; one that is too long for a lock is recognised by it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, LONGEST + 1).decode("utf-8", "replace")


def _is_lock(descriptor: int) -> bool:
    """Whether a file is a lock: signed, or empty, or zeros since power failed."""
    text = _text(descriptor)
    return len(text) <= LONGEST and (not text.strip("\0") or SIGNED.fullmatch(text) is not None)


def _holder(descriptor: int) -> str:
    until = time.monotonic() + SIGNING
    while time.monotonic() < until:
        if signed := SIGNED.fullmatch(_text(descriptor)):
            return f"process {signed[1]} on {signed[2]}"
        time.sleep(0.01)
    return "another process"


def _free(descriptor: int, path: Path, holder: int) -> None:
    """Remove the lock's file, then let go of it, so that nobody locks a file without a name for
    more than a moment. A forked child, which is not the holder, only closes what it was given."""
    with contextlib.suppress(OSError):
        if os.getpid() != holder:
            os.close(descriptor)
        elif os.name == "nt":  # where an open file cannot be removed
            os.close(descriptor)
            path.unlink()
        else:
            try:
                path.unlink()
            finally:
                os.close(descriptor)
