"""How files are written: whole or not at all, and only where that is wanted.

An output is never an input or another output of the same command, and only a regular file is
replaced. What replaces a file has its permissions.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from charlstm.errors import OutputError, UsageError
from charlstm.storage.lock import Lock, Path_

RENAME_AGAIN = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Seconds between attempts to replace a file on Windows."""


def _identity(path: Path_) -> tuple[object, ...] | None:
    """A value that all names of one file share, through links of both kinds, and before it exists.
    None for what is no regular file, and for no name at all."""
    try:
        info = os.fstat(sys.stdin.fileno()) if os.fspath(path) == "-" else os.stat(path)
    except FileNotFoundError:
        folder, name = os.path.split(os.path.realpath(path))
        with contextlib.suppress(OSError):
            info = os.stat(folder)
            return info.st_dev, info.st_ino, name
        return folder, name
    except (OSError, ValueError, AttributeError):
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISREG(info.st_mode) else None


def check_apart(what: str, output: Path_, others: Iterable[tuple[str, Path_]]) -> None:
    """Raise `UsageError` where an output, which messages call `what`, is another file of the same
    command; `others` has what those are, and their names."""
    here = _identity(output)
    for other, path in others:
        if here is not None and here == _identity(path):
            raise UsageError(f"{what} {output} is {other} too; name another file")


def check_kind(path: Path_) -> None:
    """Raise `UsageError` where something is at a path that cannot be replaced by a file."""
    try:
        if not os.fspath(path):
            raise UsageError("an empty name is not that of a file; name one")
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path}: is a directory; name a file")
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        other = "name a file, or - for standard output"
        raise UsageError(f"{path}: is {kind}, and only a file can be replaced; {other}")


def claim(path: Path_) -> Lock:
    """Take the lock on a path that is going to be written, and remove what runs that were killed
    have left there. Raises at once the error that writing would end in, and `BusyError` where
    another process is at it."""
    check_kind(path)
    lock = Lock(path)
    try:
        _check_rename(path, lock.target)
        _sweep(lock.target)
    except BaseException:
        lock.release()
        raise
    return lock


def _check_rename(path: Path_, target: Path) -> None:
    """Raise `OutputError` where another file could not be renamed to a file that exists."""
    if os.name != "posix" or not target.is_file():
        return
    try:
        if os.fsencode(target) in _mount_points() or os.path.ismount(target):
            raise OSError(errno.EBUSY, "it is a mount of its own")
        # This never removes a file. Before the kernel says that it is no directory, it tells
        # whether its name can be taken away: a sticky folder, an immutable file.
        os.rmdir(target)
    except NotADirectoryError:
        pass
    except OSError as e:
        why = f"{e.strerror}; write to another file (-o FILE)"
        raise OutputError(f"{path}: cannot be replaced: {why}") from None


def _mount_points() -> set[bytes]:
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        octal = re.compile(rb"\\([0-7]{3})")  # a space or the like in a name
        return {octal.sub(lambda m: bytes([int(m[1], 8)]), line.split()[4]) for line in lines}
    return set()


def _sweep(target: Path) -> None:
    """Remove temporary files of `target`, which are nobody's: the caller holds its lock."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp")
    for path in target.parent.iterdir():
        with contextlib.suppress(OSError):  # another user's; it is in nobody's way
            if ours.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                with open(path, "rb") as file:
                    beginning = file.read(4)
                # of an archive or a page; what lost power may be empty, or zeros
                if beginning in (b"PK\x03\x04", b"<!do", b"", bytes(4)):
                    path.unlink()


@contextlib.contextmanager
def replacing(path: Path_, like: Path_ | None = None) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of `path` at the end of the block, so that, whatever
    happens, there is the old or the new one, whole.

    It is a temporary file in the same directory, synced and renamed; it has the owner, group and
    mode of the file `like`, by default the one that it replaces. Raises `OutputError`, also for an
    `OSError` of the block. Who writes a path more than once, or over a time, holds its lock
    meanwhile (`claim`).
    """
    check_kind(path)
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    try:
        with _temporary(target, target if like is None else like) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            _rename(file.name, target)
        _sync_directory(target.parent)
    except OSError as e:
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}") from e


@contextlib.contextmanager
def _temporary(target: Path, like: Path_) -> Iterator[BinaryIO]:
    """A new file beside `target`, gone at the end unless it has been renamed. It is never open to
    more people than the file `like`."""
    kept = None
    with contextlib.suppress(OSError):
        kept = os.stat(like)
    mode = 0o666 if kept is None else kept.st_mode & 0o600
    path = target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            if kept is not None:
                _keep_permissions(file.fileno(), kept)
            yield file
    finally:
        path.unlink(missing_ok=True)


def _rename(source: str, target: Path) -> None:
    """Let a file take the place of another. Windows refuses that while somebody has the old one
    open, as a virus scanner has for a moment; so it is tried again."""
    for seconds in RENAME_AGAIN if os.name == "nt" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, target)


def _keep_permissions(descriptor: int, kept: os.stat_result) -> None:
    """Give a file the owner, group and mode of another, as far as this process may."""
    if sys.platform == "win32" or not hasattr(os, "fchown"):  # access is no matter of modes
        return
    mode, now = stat.S_IMODE(kept.st_mode) & 0o777, os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (kept.st_uid, kept.st_gid):
        for owner in (kept.st_uid, -1):  # -1: the group alone
            with contextlib.suppress(OSError):
                os.fchown(descriptor, owner, kept.st_gid)
                break
        else:  # another group gets no more than everybody has
            mode &= 0o707 | (mode & 0o007) << 3
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, mode)


def spare_places(path: Path_ | None) -> Iterator[Path]:
    """Yield names that are free for what `path`, None for a stream, has not taken: beside it, then
    in a new folder among the temporary files, which goes again if it stays empty."""
    target = Path("model.npz" if path is None else os.path.realpath(path))
    if path is not None:
        ends = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
        names = (target.with_name(f"{target.stem}.rescued{end}{target.suffix}") for end in ends)
        yield next(name for name in names if not os.path.lexists(name))
    with contextlib.suppress(OSError):
        folder = Path(tempfile.mkdtemp(prefix="charlstm-"))
        try:
            yield folder / target.name
        finally:
            folder.rmdir()


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # not possible, nor needed, on Windows
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
