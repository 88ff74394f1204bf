"""Checkpoints that are damaged or made to deceive, and configurations that are no good."""

from __future__ import annotations

import encodings
import hashlib
import io
import os
import random
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

Members = dict[str, bytes]

CODECS = Path(encodings.__file__).parent
"""Where those are that come with Python."""

FORBIDDEN = (
    *("pickle.find_class", "exec", "compile", "subprocess.Popen", "os.system"),
    *("socket.connect", "socket.bind", "os.exec", "os.fork", "ctypes.dlopen"),
)


def unpack(data: bytes) -> Members:
    """The `.npy` members of a file, without the digest."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n: archive.read(n) for n in archive.namelist() if n != "sha256.npy"}


def npy(array: Any, pickle: bool = False) -> bytes:
    """An array as `.npy` bytes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickle)
    return file.getvalue()


def pack(members: Members, digest: bytes | None = None, compression: int = 0) -> bytes:
    """A file of these members, with a digest that is right unless another is given."""
    if digest is None:
        sha = hashlib.sha256()
        for name, contents in members.items():
            sha.update(name.removesuffix(".npy").encode() + b"\0" + contents)
        digest = npy(np.frombuffer(sha.digest(), np.uint8))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, contents in [*members.items(), ("sha256.npy", digest)]:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, contents)
    return file.getvalue()


def _bomb(good: np.ndarray[Any, Any]) -> bytes:
    """A header that promises 2^40 numbers."""
    text = f"{{'descr': '{good.dtype.str}', 'fortran_order': False, 'shape': ({2**40},), }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _poisoned(good: np.ndarray[Any, Any]) -> bytes:
    bad = good.copy()
    bad.reshape(-1)[-1] = np.nan
    return npy(bad)


REPLACEMENTS: dict[str, Callable[[np.ndarray[Any, Any], bytes], bytes]] = {
    "emptied": lambda good, raw: b"",
    "a byte short": lambda good, raw: raw[:-1],
    "a byte long": lambda good, raw: raw + b"\0",
    "no magic": lambda good, raw: raw[6:],
    "version 2": lambda good, raw: b"\x93NUMPY\x02\x00" + raw[8:],
    "header of brackets": lambda good, raw: b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    "header of code": lambda good, raw: raw.replace(b"False", b"print", 1),
    "promises": lambda good, raw: _bomb(good),
    "other byte order": lambda good, raw: npy(good.astype(good.dtype.newbyteorder(">"))),
    "doubles": lambda good, raw: npy(good.astype(np.float64)),
    "one dimension more": lambda good, raw: npy(good[None]),
    "twice as long": lambda good, raw: npy(np.concatenate([good, good])),
    "nothing": lambda good, raw: npy(good[:0]),
    "a pickle": lambda good, raw: npy(np.array([os.system], object), pickle=True),
}


def table(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Files made from a good checkpoint, each wrong in one way, most with digests that are right,
    and what each is called."""
    members = unpack(good)
    for name, raw in members.items():
        array = np.load(io.BytesIO(raw))
        if name not in ("metadata.npy", "vocabulary.npy", "counts.npy"):
            yield f"{name}: not finite", pack({**members, name: _poisoned(array)})
        for what, made in REPLACEMENTS.items():
            changed = made(array, raw)
            if changed != raw:
                yield f"{name}: {what}", pack({**members, name: changed})
        yield f"{name}: missing", pack({n: c for n, c in members.items() if n != name})
        bare = {n.removesuffix(".npy") if n == name else n: c for n, c in members.items()}
        yield f"{name}: without .npy", pack(bare)
        file = io.BytesIO(good)
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
            warnings.simplefilter("ignore")  # it knows that the name is there
            archive.writestr(name, raw)
        yield f"{name}: twice", file.getvalue()
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"compressed by {compression}", pack(members, compression=compression)
    bomb = {**members, "best/Wy.npy": bytes(64 << 20)}
    yield "a bomb", pack(bomb, compression=zipfile.ZIP_DEFLATED)
    yield "reversed", pack(dict(reversed(members.items())))
    yield "another digest", pack(members, npy(np.zeros(32, np.uint8)))
    yield "no digest", pack(members, b"")
    yield "empty", b""
    yield "an empty archive", b"PK\x05\x06" + bytes(18)
    for tail in (b"\0", b"\n", good, bytes(22)):
        yield f"{len(tail)} bytes behind it", good + tail
        yield f"{len(tail)} bytes before it", tail + good
    yield "a comment", good[:-2] + b"\x05\0hello"
    at = good.index(b"PK\x01\x02")
    yield "encrypted", good[: at + 8] + b"\x01" + good[at + 9 :]
    yield "a wrong CRC", good[: at + 16] + bytes([good[at + 16] ^ 1]) + good[at + 17 :]


def mutant(good: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, cut out, put in, or two stretches exchanged."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice((1, 1, 4, 30, 300)))
        how = rng.randrange(5)
        if how == 0:
            data[start] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[start:end] = rng.randbytes(end - start)
        elif how == 2:
            del data[start:end]
        elif how == 3:
            data[start:start] = data[start:end]
        else:
            other = rng.randrange(len(data) - (end - start) + 1)
            data[start:end], data[other : other + end - start] = (
                data[other : other + end - start],
                data[start:end],
            )
    return bytes(data)


def mutant_text(good: str, rng: random.Random) -> str:
    """A configuration with some stretches changed by what YAML finds interesting."""
    pieces = ["\n", " ", ":", ": ", "- ", "&a ", "*a", "!!python/object:os.system ", "{", "}"]
    pieces += ["[", "]", "#", "'", '"', "|", ">", "%", "@", "\t", "\0", "\ufeff", "null", "~"]
    pieces += ["yes", "1e999", "-1", ".nan", "0x10", "1_000", "<<: ", "? ", "---\n", "...\n", "한"]
    text = good
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 0, 1, 3, 20)))
        text = text[:start] + rng.choice([*pieces, text[start:end] * 2, ""]) + text[end:]
    return text


_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or event not in FORBIDDEN:
        return
    code = arguments[0] if event == "exec" else None
    if (
        isinstance(code, CodeType)
        and Path(code.co_filename).parent == Path(encodings.__file__).parent
    ):
        return  # the import of a codec of Python's own, which a name in a file may ask for
    _watching[-1].append(f"{event} {arguments!r:.200}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """The list of what Python does meanwhile that reading a file must not: run, unpickle, connect
    (of the hooks, which stay for ever, there is one)."""
    if not hasattr(sys, "_charlstm_hook"):
        sys._charlstm_hook = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()
