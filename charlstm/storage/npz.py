"""Arrays as the members of an archive: one `.npy` each, and a digest over all of them at the end.

The headers are made here, so that they are the same whatever NumPy is installed, and reading one
is comparing it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import DTypeLike

from charlstm.nn.arrays import Array
from charlstm.storage.archive import BadArchive, pack, unpack

Put = Callable[[bytes | memoryview], object]

Shape = tuple[int, ...]


def header(dtype: DTypeLike, shape: Shape) -> bytes:
    """The `.npy` header, version 1.0, of a C-ordered array."""
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    space = -(10 + len(text) + 1) % 64
    length = len(text) + space + 1
    return (
        b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + (text + " " * space).encode() + b"\n"
    )


def write_arrays(put: Put, arrays: Iterable[tuple[str, Array]]) -> tuple[str, int]:
    """Hand the bytes of an archive to `put`, from the first to the last: named arrays, contiguous
    and little-endian, and behind them `sha256`, their digest. Returns the digest in hexadecimal
    and the number of bytes."""
    sha, size = hashlib.sha256(), 0

    def members() -> Iterator[tuple[str, list[bytes | memoryview]]]:
        for name, array in arrays:
            head, contents = header(array.dtype, array.shape), array.reshape(-1).view(np.uint8).data
            sha.update(name.encode() + b"\0" + head)
            sha.update(contents)
            yield f"{name}.npy", [head, contents]
        yield "sha256.npy", [header("|u1", (32,)), sha.digest()]

    def counted(part: bytes | memoryview) -> None:
        nonlocal size
        size += len(part)
        put(part)

    pack(members(), counted)
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

    def array(self, name: str, dtype: DTypeLike, shape: Shape) -> Array:
        """The array of this name, a view. Raises `BadArchive` unless it has this type and shape."""
        if name not in self.contents:
            raise BadArchive(f"a damaged checkpoint: {name} is missing")
        member, head = self.contents[name], header(dtype, shape)
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if len(member) != len(head) + size or member[: len(head)] != head:
            raise BadArchive(
                f"a damaged checkpoint: {name} is not an array {shape} of {np.dtype(dtype)}"
            )
        return np.frombuffer(member, dtype, offset=len(head)).reshape(shape)

    def text(self, name: str) -> bytes:
        """The array of this name, of bytes and of any length, as bytes."""
        return self.array(name, "|u1", (self.length(name),)).tobytes()

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
            raise BadArchive("a damaged checkpoint: its digest does not match its contents")
        return sha.hexdigest()
