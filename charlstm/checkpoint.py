"""One file that holds a model and everything needed to go on training it.

The file is an `.npz`: a ZIP archive, nothing compressed, of one `.npy` a member, which
`numpy.load` opens without pickle. It is written whole or not at all, and read by a reader of our
own that takes nothing on trust: `numpy.load` accepts files whose checksums are wrong, and raises
a dozen kinds of exceptions on others.

Members, in order (V vocabulary, H hidden, G gates, P number of weights, B streams):

    metadata           (n,) uint8        JSON text in UTF-8
    vocabulary         (V,) uint32       code points, ascending
    counts             (V,) int64        how often each stood in the corpus
    best/NAME          float32           weights that did best on held-out text
    last/NAME          float32           weights after the last step
    average/NAME       float32           their running average, where train.average is not 0
    optimizer/S/NAME   float32           the optimizer's sums S for each weight
    state/layer0.h …   (B, H) float32    recurrent state of the training streams
    sha256             (32,) uint8       digest of all the members before it

where NAME runs over layer0.Wx (G, V, H), layer0.Wh (G, H, H), layer0.b (G, 1, H), layer1.Wx
(G, H, H), …, Wy (V, H), by (V,).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from charlstm.arrays import Array
from charlstm.cells import CELLS
from charlstm.config import Config, from_dict
from charlstm.corpus import Vocabulary
from charlstm.errors import CharLSTMError, CheckpointError, OutputError, UsageError
from charlstm.model import Model, State, state_names, weight_shapes
from charlstm.optimizers import OPTIMIZERS

FORMAT = "charlstm checkpoint"
VERSION = 1

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same contents are the same bytes


@dataclass
class Checkpoint:
    """What a checkpoint file holds."""

    config: Config
    vocabulary: Vocabulary
    best: Array
    """(P,) flat weights that did best on held-out text."""
    last: Array
    """(P,) flat weights after the last step."""
    average: Array | None
    """(P,) flat running average of the weights, where the configuration asks for one."""
    optimizer: dict[str, Array]
    """Flat vectors (P,) by name."""
    state: State
    progress: dict[str, Any] = field(default_factory=dict)
    """Where training stands: step, position, losses, random state. Plain JSON values."""
    digest: str = ""
    """SHA-256 of the file's contents, in hexadecimal; known once written or read."""

    def model(self, flat: Array | None = None) -> Model:
        """The network over the best weights, or over others."""
        m = self.config.model
        weights = self.best if flat is None else flat
        return Model(m.cell, len(self.vocabulary), m.hidden, m.layers, np.float32, weights)


def _layout(config: Config, V: int, B: int) -> Iterator[tuple[str, DTypeLike, tuple[int, ...]]]:
    """Name, type and shape of each array that a checkpoint of this configuration has, after the
    metadata and before the digest."""
    m = config.model
    shapes = weight_shapes(CELLS[m.cell], V, m.hidden, m.layers)
    yield "vocabulary", "<u4", (V,)
    yield "counts", "<i8", (V,)
    groups = ["best", "last", *(["average"] if config.train.average else [])]
    groups += [f"optimizer/{name}" for name in OPTIMIZERS[config.train.optimizer].sums]
    for group in groups:
        for name, shape in shapes.items():
            yield f"{group}/{name}", "<f4", shape
    for name in state_names(CELLS[m.cell], m.layers):
        yield f"state/{name}", "<f4", (B, m.hidden)


def _header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """The `.npy` header, version 1.0, of a C-ordered array. Made here, so that it is the same
    whatever NumPy wrote it, and reading is comparing."""
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    space = -(10 + len(text) + 1) % 64
    length = len(text) + space + 1
    return (
        b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + (text + " " * space).encode() + b"\n"
    )


# --- writing -----------------------------------------------------------------------------------


def _members(checkpoint: Checkpoint) -> Iterator[tuple[str, bytes, memoryview]]:
    """Name, header and contents of each member but the digest."""
    config, vocabulary = checkpoint.config, checkpoint.vocabulary
    V, B = len(vocabulary), len(checkpoint.state[0])
    document = {
        "format": FORMAT,
        "version": VERSION,
        "vocabulary": V,
        "streams": B,
        "config": config.to_dict(),
        "progress": checkpoint.progress,
    }
    metadata = json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    arrays: dict[str, Array] = {"vocabulary": vocabulary.points, "counts": vocabulary.counts}
    flats = {"best": checkpoint.best, "last": checkpoint.last}
    if checkpoint.average is not None:
        flats["average"] = checkpoint.average
    flats |= {f"optimizer/{name}": flat for name, flat in checkpoint.optimizer.items()}
    for group, flat in flats.items():
        if not np.isfinite(flat).all():
            raise CharLSTMError(f"{group} holds numbers that are not finite; not saved")
        for name, array in checkpoint.model(flat).weights.items():
            arrays[f"{group}/{name}"] = array
    names = state_names(CELLS[config.model.cell], config.model.layers)
    for name, array in zip(names, checkpoint.state, strict=True):
        arrays[f"state/{name}"] = array
    yield "metadata", _header("|u1", (len(metadata),)), memoryview(metadata)
    for name, dtype, shape in _layout(config, V, B):
        array = np.ascontiguousarray(arrays[name], dtype)
        assert array.shape == shape, (name, array.shape, shape)
        yield name, _header(dtype, shape), memoryview(array.reshape(-1).view(np.uint8))


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the file so that, whatever happens, `path` holds the old or the new one, whole.

    A temporary file in the same directory is written, synced and renamed. Raises `OutputError`.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    digest = hashlib.sha256()
    temporary = None
    try:
        with _temporary(target) as file:
            temporary = file.name
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

                def add(name: str, header: bytes, contents: memoryview) -> None:
                    info = zipfile.ZipInfo(name + ".npy", _EPOCH)
                    info.create_system, info.external_attr = 3, 0o644 << 16
                    info.file_size = len(header) + len(contents)
                    with archive.open(info, "w") as member:
                        member.write(header)
                        member.write(contents)

                for name, header, contents in _members(checkpoint):
                    digest.update(name.encode() + b"\0" + header)
                    digest.update(contents)
                    add(name, header, contents)
                add("sha256", _header("|u1", (32,)), memoryview(digest.digest()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
        _sync_directory(target.parent)
    except OSError as e:
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}") from e
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    checkpoint.digest = digest.hexdigest()


def _temporary(target: Path) -> Any:
    """An open temporary file beside `target`, with the permissions that `open` would give."""
    file = tempfile.NamedTemporaryFile(
        "wb", prefix=f".{target.name}.", suffix=".tmp", dir=target.parent, delete=False
    )
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(file.name, 0o666 & ~umask)
    return file


def _sync_directory(directory: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # not possible, nor needed, on Windows
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise at once the error that writing `path` would end in."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path}: is a directory; name a file")
    try:
        with _temporary(target) as file:
            pass
        os.unlink(file.name)
    except OSError as e:
        raise OutputError(f"{path}: cannot be written: {e.strerror or e}") from e


# --- reading -----------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint strictly: exactly the members, types and shapes that its configuration
    implies, checksums and digest right, weights finite.

    Raises `UsageError` where there is no file and `CheckpointError` for anything else.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such checkpoint; train one with: charlstm train CORPUS, or name one with -m"
        ) from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a directory, not a checkpoint") from None
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read: {e.strerror}") from None
    except ValueError:
        raise UsageError(f"{path!r}: not a file name") from None
    try:
        return _decode(data)
    except _Bad as e:
        raise CheckpointError(f"{path}: {e}") from None


class _Bad(Exception):
    """What is wrong with the bytes of a checkpoint."""


def _decode(data: bytes) -> Checkpoint:
    members = _unzip(data)
    document = _metadata(members)
    V, B = document["vocabulary"], document["streams"]
    try:
        config = from_dict(document["config"], "its configuration")
    except CharLSTMError as e:
        raise _Bad(f"a damaged checkpoint: {e}") from None
    expected = {"metadata", "sha256"}
    arrays: dict[str, Array] = {}
    for name, dtype, shape in _layout(config, V, B):
        if name not in members:
            raise _Bad(f"a damaged checkpoint: {name} is missing")
        arrays[name] = _array(name, members[name], dtype, shape)
        expected.add(name)
        if len(expected) > len(members):  # before a configuration of a million layers is walked
            raise _Bad("a damaged checkpoint: arrays are missing")
    if expected != members.keys():
        extra = sorted(members.keys() - expected)
        raise _Bad(f"a damaged checkpoint: unexpected member {extra[0]!r}")
    digest = _digest(members)
    vocabulary = _vocabulary(arrays["vocabulary"], arrays["counts"])
    m = config.model

    def flat(group: str) -> Array:
        weights = Model(m.cell, V, m.hidden, m.layers, np.float32).weights
        for name in weights:
            weights[name][...] = arrays[f"{group}/{name}"]
        if not np.isfinite(weights.flat).all():
            raise _Bad(f"a damaged checkpoint: {group} holds numbers that are not finite")
        return weights.flat

    sums = OPTIMIZERS[config.train.optimizer].sums
    state = [
        arrays[f"state/{name}"].astype(np.float32) for name in state_names(CELLS[m.cell], m.layers)
    ]
    if not all(np.isfinite(s).all() for s in state):
        raise _Bad("a damaged checkpoint: state holds numbers that are not finite")
    return Checkpoint(
        config,
        vocabulary,
        flat("best"),
        flat("last"),
        flat("average") if config.train.average else None,
        {name: flat(f"optimizer/{name}") for name in sums},
        state,
        document["progress"],
        digest,
    )


def _unzip(data: bytes) -> dict[str, memoryview]:
    """The members of the archive, by name without `.npy`."""
    if data[:4] != b"PK\x03\x04":
        raise _Bad("not a checkpoint" if data else "an empty file, not a checkpoint")
    if data[-22:-18] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise _Bad("a truncated or damaged checkpoint: the archive does not end where it should")
    members: dict[str, memoryview] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
                    raise _Bad(f"not a checkpoint: {name!r} is compressed or encrypted")
                if name in members or name == info.filename:
                    raise _Bad(f"not a checkpoint: unexpected member {info.filename!r}")
                if info.file_size != info.compress_size or info.file_size > len(data):
                    raise _Bad(f"a damaged checkpoint: {name} has a wrong size")
                members[name] = memoryview(archive.read(info))  # checks the CRC
    except _Bad:
        raise
    except Exception as e:  # zipfile raises many kinds on hostile bytes, all with one meaning
        raise _Bad(f"a damaged checkpoint: {type(e).__name__}: {e}") from None
    if "metadata" not in members or "sha256" not in members:
        raise _Bad("not a checkpoint: an archive of something else")
    return members


def _array(name: str, member: memoryview, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    header = _header(dtype, shape)
    size = int(np.dtype(dtype).itemsize)
    for n in shape:
        size *= n
    if len(member) != len(header) + size or bytes(member[: len(header)]) != header:
        raise _Bad(f"a damaged checkpoint: {name} is not an array {shape} of {np.dtype(dtype)}")
    return np.frombuffer(member, dtype, offset=len(header)).reshape(shape)


def _metadata(members: dict[str, memoryview]) -> dict[str, Any]:
    member = members["metadata"]
    start = 10 + int.from_bytes(member[8:10], "little")
    text = _array("metadata", member, "|u1", (max(0, len(member) - start),)).tobytes()
    try:
        document = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _Bad("a damaged checkpoint: its metadata cannot be read") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _Bad("not a checkpoint: an archive of something else")
    version = document.get("version")
    if version != VERSION:
        raise _Bad(f"a checkpoint of version {version}; this program reads version {VERSION}")
    for name in ("vocabulary", "streams"):
        value = document.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
            raise _Bad(f"a damaged checkpoint: {name} is {value!r}")
    if not isinstance(document.get("progress"), dict):
        raise _Bad("a damaged checkpoint: progress is missing")
    return document


def _digest(members: dict[str, memoryview]) -> str:
    digest = hashlib.sha256()
    for name, member in members.items():
        if name != "sha256":
            digest.update(name.encode() + b"\0")
            digest.update(member)
    if _array("sha256", members["sha256"], "|u1", (32,)).tobytes() != digest.digest():
        raise _Bad("a damaged checkpoint: its digest does not match its contents")
    return digest.hexdigest()


def _vocabulary(points: Array, counts: Array) -> Vocabulary:
    wide = points.astype(np.int64)
    if (np.diff(wide) <= 0).any() or wide[-1] > 0x10FFFF or (counts < 0).any():
        raise _Bad("a damaged checkpoint: its vocabulary is not in order")
    if ((wide >= 0xD800) & (wide <= 0xDFFF)).any():
        raise _Bad("a damaged checkpoint: its vocabulary is not text")
    return Vocabulary(points, counts)
