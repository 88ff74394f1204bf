"""The one form of ZIP archive that a checkpoint has: equal contents are equal bytes.

A file is an archive of members, each an array as `.npy`, the last one a digest over the others.

Members are stored one directly behind the other, with fixed timestamps and attributes, and
nothing is between or around them (PKWARE, .ZIP File Format Specification, 6.3). What is larger
than 2 GiB has its sizes and offsets in ZIP64 fields, as Python's zipfile writes them. Reading is
taking the contents out, and comparing the rest with what would have been written around them.
"""

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from charlstm.nn.arrays import Array

Put = Callable[[bytes | memoryview], object]
"""Takes the next bytes of a file."""

LIMIT = (1 << 31) - 1
"""Bytes. A larger size or offset stands in a ZIP64 field, …"""

MARGIN = 1.05
"""… and in a member's own header already when it is within this factor of that."""

MODE = 0o644 << 16
"""The permissions that unpacking gives a member, where ZIP has them."""

DAY = 1 << 5 | 1
"""The first of January 1980, with which ZIP's time begins."""

ANY = 0xFFFFFFFF
"""What a field of 32 bits says where the number is in a ZIP64 field."""


class BadArchive(Exception):
    """What is wrong with the bytes of an archive."""


def damaged(what: str) -> BadArchive:
    """The error for a checkpoint that is not as it was written."""
    return BadArchive(f"a damaged checkpoint: {what}")


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members."""

    name: str
    size: int
    crc: int
    offset: int

    def local_header(self) -> bytes:
        """What stands before its contents."""
        name, size, version, extra = self.name.encode(), self.size, 20, b""
        if size * MARGIN > LIMIT:
            size, version, extra = ANY, 45, _zip64(size, size)
        fields = (version, 0, 0, 0, DAY, self.crc, size, size, len(name), len(extra))
        return struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name + extra

    def entry(self) -> bytes:
        """Its entry in the central directory."""
        numbers = (self.size, self.size, self.offset)
        name, extra = self.name.encode(), _zip64(*(n for n in numbers if n > LIMIT))
        size, _, offset = (ANY if n > LIMIT else n for n in numbers)
        # a header of its own that has ZIP64 fields needs the later version, too
        version = 45 if extra or self.size * MARGIN > LIMIT else 20
        fields = (version, 3, version, 0, 0, 0, 0, DAY, self.crc, size, size)
        lengths = (len(name), len(extra), 0, 0, 0, MODE, offset)
        return struct.pack("<4s4B4H3L5H2L", b"PK\1\2", *fields, *lengths) + name + extra


def directory(members: list[Member], at: int) -> bytes:
    """The central directory and the end record, behind members that end at byte `at`."""
    entries = b"".join(member.entry() for member in members)
    count, size, large = len(members), len(entries), b""
    if count > 0xFFFF or max(size, at) > LIMIT:
        fields = (44, 45, 45, 0, 0, count, count, size, at)
        large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *fields)
        large += struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
        count, size, at = min(count, 0xFFFF), min(size, ANY), min(at, ANY)
    return entries + large + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, at, 0)


def pack(members: Iterable[tuple[str, list[bytes | memoryview]]], put: Put) -> int:
    """Write an archive, front to back, of members with their contents in parts. Returns how many
    bytes it has."""
    at, done = 0, list[Member]()
    for name, parts in members:
        size, crc = 0, 0
        for part in parts:
            size, crc = size + len(part), zlib.crc32(part, crc)
        done.append(Member(name, size, crc, at))
        header = done[-1].local_header()
        for part in (header, *parts):
            put(part)
        at += len(header) + size
    end = directory(done, at)
    put(end)
    return at + len(end)


def unpack(data: bytes) -> Iterator[tuple[str, memoryview]]:
    """Yield name and contents, which are not copied, of each member. Raises `BadArchive` unless
    `pack` would make the same bytes."""
    if data[:4] != b"PK\3\4":
        raise BadArchive("not a checkpoint" if data else "an empty file, not a checkpoint")
    if data[-22:-18] != b"PK\5\6":
        what = "the archive does not end where it should"
        raise BadArchive(f"a truncated or damaged checkpoint: {what}")
    whole, at, done = memoryview(data), 0, list[Member]()
    while data[at : at + 4] == b"PK\3\4" and len(data) - at >= 30:
        flags, method = struct.unpack_from("<2H", data, at + 6)
        (size,) = struct.unpack_from("<L", data, at + 22)
        of_name, of_extra = struct.unpack_from("<2H", data, at + 26)
        raw = data[at + 30 : at + 30 + of_name]
        start = at + 30 + of_name + of_extra
        if flags & 1 or method:
            raise BadArchive(f"not a checkpoint: {_shown(raw)} is compressed or encrypted")
        if size == ANY and of_extra == 20 and start <= len(data):
            (size,) = struct.unpack_from("<Q", data, start - 16)
        contents = whole[start : start + size]
        try:
            member = Member(raw.decode(), len(contents), zlib.crc32(contents), at)
        except UnicodeDecodeError:
            raise BadArchive(f"not a checkpoint: unexpected member {_shown(raw)}") from None
        if data[at:start] != member.local_header():
            raise damaged(f"{_shown(raw)} is not what was written")
        done.append(member)
        yield member.name, contents
        at = start + size
    if data[at:] != directory(done, at):
        raise damaged("its directory is not what was written")


def _shown(name: bytes) -> str:
    return f"{name.decode('utf-8', 'replace')!r:.80}"


# --- arrays ------------------------------------------------------------------------------------


def header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """The `.npy` header, version 1.0, of a C-ordered array. Made here, so that it is the same
    whatever NumPy is installed, and reading is comparing."""
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    padded = text + " " * (-(10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


def write_arrays(put: Put, arrays: Iterable[tuple[str, Array]]) -> tuple[str, int]:
    """Hand the bytes of an archive to `put`, from the first to the last: named arrays, contiguous
    and little-endian, and behind them `sha256`, their digest. Returns the digest in hexadecimal
    and the number of bytes."""
    sha = hashlib.sha256()

    def members() -> Iterator[tuple[str, list[bytes | memoryview]]]:
        for name, array in arrays:
            head, contents = header(array.dtype, array.shape), array.reshape(-1).view(np.uint8).data
            sha.update(name.encode() + b"\0" + head)
            sha.update(contents)
            yield f"{name}.npy", [head, contents]
        yield "sha256.npy", [header("|u1", (32,)), sha.digest()]

    size = pack(members(), put)
    return sha.hexdigest(), size


class Members:
    """The members of an archive that `write_arrays` has written."""

    def __init__(self, data: bytes) -> None:
        """Raises `BadArchive` where there is anything else."""
        self.contents: dict[str, memoryview] = {}
        """By name without `.npy`, in the order of the file."""
        for file, contents in unpack(data):
            name = file.removesuffix(".npy")
            if name in self.contents or name == file:
                raise BadArchive(f"not a checkpoint: unexpected member {file!r:.80}")
            self.contents[name] = contents
        if "metadata" not in self.contents or "sha256" not in self.contents:
            raise BadArchive("not a checkpoint: an archive of something else")

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
        """The array of this name, a view. Raises `BadArchive` unless it has this type and shape."""
        if name not in self.contents:
            raise damaged(f"{name} is missing")
        member, head = self.contents[name], header(dtype, shape)
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if len(member) != len(head) + size or member[: len(head)] != head:
            raise damaged(f"{name} is not an array {shape} of {np.dtype(dtype)}")
        return np.frombuffer(member, dtype, offset=len(head)).reshape(shape)

    def length(self, name: str) -> int:
        """How many bytes follow the header of a member; 0 where there is none."""
        member = self.contents.get(name, memoryview(b""))
        return max(0, len(member) - 10 - int.from_bytes(member[8:10], "little"))

    def digest(self) -> str:
        """The digest in hexadecimal. Raises `BadArchive` where it is not that of the contents."""
        sha = hashlib.sha256()
        for name, member in self.contents.items():
            if name != "sha256":
                sha.update(name.encode() + b"\0")
                sha.update(member)
        if self.array("sha256", "|u1", (32,)).tobytes() != sha.digest():
            raise damaged("its digest does not match its contents")
        return sha.hexdigest()
