"""One file that holds a model and everything needed to go on training it.

The file is an `.npz`: a ZIP archive, nothing compressed, of one `.npy` a member, which
`numpy.load` opens without pickle. It is written whole or not at all, and read by a reader of our
own that takes nothing on trust: `numpy.load` accepts files whose checksums are wrong, and raises
a dozen kinds of exceptions on others.

Members, in order (V vocabulary, H hidden, G gates, P number of weights, B streams):

    metadata           (n,) uint8        JSON text in UTF-8
    vocabulary         (V,) uint32       characters: code points, ascending; bytes: 0 to 255
                       (n,) uint8        words: in UTF-8, a line break after each
    counts             (V,) int64        how often each stood in the corpus
    best/NAME          float32           weights that did best on held-out text
    looked/NAME        float32           those of the looks, where the end of a run did better
    last/NAME          float32           weights after the last step
    average/NAME       float32           their running average, where train.average is not 0
    optimizer/S/NAME   float32           the optimizer's sums S for each weight
    state/layer0.h …   (B, H) float32    recurrent state of the training streams
    good/…             as above          of last/, average/, optimizer/ and state/: the state to go
                                         back to should training diverge, where it is another one
    sha256             (32,) uint8       digest of all the members before it

where NAME runs over layer0.Wx (G, V, H), layer0.Wh (G, H, H), layer0.b (G, 1, H), layer1.Wx
(G, H, H), …, Wy (V, H), by (V,); with an embedding, over E (V, D) before them, and what
`charlstm.nn.model.Model` says.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from charlstm.config.schema import Config, from_dict
from charlstm.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    OutputError,
    UsageError,
)
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.nn.shape import Shape, State
from charlstm.storage.archive import BadArchive as _Bad
from charlstm.storage.archive import pack, unpack
from charlstm.storage.files import replacing, spare_places
from charlstm.text.units import VOCABULARIES
from charlstm.text.vocabulary import Vocabulary

FORMAT = "charlstm checkpoint"
VERSION = 1


@dataclass
class Standing:
    """Where a run stood once: all of it but the weights that did best."""

    last: Array
    """(P,) flat weights."""
    average: Array | None
    optimizer: dict[str, Array]
    state: State
    progress: dict[str, Any]

    def arrays(self) -> list[Array]:
        """All of them, in an order that only the configuration decides."""
        average = [] if self.average is None else [self.average]
        return [self.last, *average, *self.optimizer.values(), *self.state]


@dataclass
class Checkpoint:
    """What a checkpoint file holds."""

    config: Config
    vocabulary: Vocabulary
    best: Array
    """(P,) flat weights that did best on held-out text: the ones to use."""
    last: Array
    """(P,) flat weights after the last step."""
    average: Array | None
    """(P,) flat running average of the weights, where the configuration asks for one."""
    optimizer: dict[str, Array]
    """Flat vectors (P,) by name."""
    state: State
    progress: dict[str, Any]
    """Where training stands: the values that `_PROGRESS` names, plain JSON."""
    good: Standing | None = None
    """The state to go back to should training diverge; None where it is this one."""
    looked: Array | None = None
    """(P,) flat weights that did best at the looks of the run, where `best` are those of its end.
    With them training goes on: its end may lie elsewhere then."""
    digest: str = ""
    """SHA-256 of the file's contents, in hexadecimal; known once written or read, …"""
    size: int = 0
    """… and so is its length in bytes."""

    @property
    def in_use(self) -> tuple[int, float] | None:
        """The step that `best` are the weights of, and their held-out loss in nats per unit; None
        where none was measured."""
        return in_use(self.progress)

    def model(self, flat: Array | None = None) -> Model:
        """The network over the best weights, or over others."""
        return network(self.config, len(self.vocabulary), self.best if flat is None else flat)


def in_use(progress: dict[str, Any]) -> tuple[int, float] | None:
    """The step whose weights are in use, and their held-out loss in nats per unit; None before the
    first evaluation."""
    best = progress["final"] or progress["best"]
    return None if best is None else (int(best[0]), float(best[1]))


def network_shape(config: Config, V: int) -> Shape:
    """The sizes of the network that a configuration describes, over V characters."""
    m = config.model
    return Shape(m.cell, V, m.hidden, m.layers, m.embedding, m.tie)


def network(config: Config, V: int, flat: Array | None = None) -> Model:
    """The network that a configuration describes, over V characters (weights zero, or `flat`)."""
    return Model(network_shape(config, V), flat=flat)


def _layout(
    config: Config, V: int, B: int, letters: int, looked: bool, good: bool
) -> Iterator[tuple[str, DTypeLike, tuple[int, ...]]]:
    """Name, type and shape of each array that a checkpoint of this configuration has, after the
    metadata and before the digest. `letters` is the length of a vocabulary of words in bytes;
    `looked` and `good` say whether there is that."""
    network = network_shape(config, V)
    yield ("vocabulary", *VOCABULARIES[config.text.unit].stored_as(V, letters))
    yield "counts", "<i8", (V,)
    standing = ["last", *(["average"] if config.train.average else [])]
    standing += [f"optimizer/{name}" for name in OPTIMIZERS[config.train.optimizer].sums]
    for prefix in ["", *(["good/"] if good else [])]:
        before = [] if prefix else ["best", *(["looked"] if looked else [])]
        for group in before + standing:
            for name, shape in network.weights.items():
                yield f"{prefix}{group}/{name}", "<f4", shape
        for name, H in network.states.items():
            yield f"{prefix}state/{name}", "<f4", (B, H)


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
    good = checkpoint.good
    if good is not None:
        document["good"] = good.progress
    try:
        metadata = json.dumps(document, allow_nan=False).encode()
    except ValueError:
        raise DivergedError("a loss is not a finite number; not saved") from None
    arrays: dict[str, Array] = {"vocabulary": vocabulary.stored(), "counts": vocabulary.counts}
    flats = {"best": checkpoint.best}
    if checkpoint.looked is not None:
        flats["looked"] = checkpoint.looked
    for prefix, at in {"": checkpoint, "good/": good}.items():
        if at is None:
            continue
        flats[f"{prefix}last"] = at.last
        if at.average is not None:
            flats[f"{prefix}average"] = at.average
        flats |= {f"{prefix}optimizer/{name}": flat for name, flat in at.optimizer.items()}
        for name, array in zip(checkpoint.model().shape.states, at.state, strict=True):
            arrays[f"{prefix}state/{name}"] = array
    for group, flat in flats.items():
        for name, array in checkpoint.model(flat).weights.items():
            arrays[f"{group}/{name}"] = array
    yield "metadata", _header("|u1", (len(metadata),)), memoryview(metadata)
    has = (checkpoint.looked is not None, good is not None)
    for name, dtype, shape in _layout(config, V, B, len(arrays["vocabulary"]), *has):
        array = np.ascontiguousarray(arrays[name], dtype)
        assert array.shape == shape, (name, array.shape, shape)
        if not np.isfinite(array).all():
            raise DivergedError(f"{name} holds numbers that are not finite; not saved")
        yield name, _header(dtype, shape), array.reshape(-1).view(np.uint8).data


def write_checkpoint(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Write the file so that, whatever happens, `path` holds the old or the new one, whole; see
    `charlstm.storage.files.replacing`. Raises `OutputError`."""
    with replacing(path, like) as file:
        stream_checkpoint(file.write, checkpoint)


def rescued(
    path: str | os.PathLike[str] | None, checkpoint: Checkpoint, why: object
) -> OutputError:
    """Write a checkpoint that `path`, None for a stream, did not take to another place, as private
    as it was to be. Returns the error that names the place; it begins with `why`."""
    for place in spare_places(path):
        with contextlib.suppress(OutputError):
            write_checkpoint(place, checkpoint, place if path is None else path)
            return OutputError(f"{why}; the model is saved as {place}; move it where you want it")
    return OutputError(f"{why}; the model could not be saved anywhere else either")


def stream_checkpoint(put: Callable[[bytes | memoryview], object], checkpoint: Checkpoint) -> None:
    """Hand the bytes of the file to `put`, from the first to the last."""
    digest = hashlib.sha256()
    size = 0

    def members() -> Iterator[tuple[str, list[bytes | memoryview]]]:
        for name, header, contents in _members(checkpoint):
            digest.update(name.encode() + b"\0" + header)
            digest.update(contents)
            yield name + ".npy", [header, contents]
        yield "sha256.npy", [_header("|u1", (32,)), digest.digest()]

    def counted(part: bytes | memoryview) -> None:
        nonlocal size
        size += len(part)
        put(part)

    pack(members(), counted)
    checkpoint.digest, checkpoint.size = digest.hexdigest(), size


# --- reading -----------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint strictly: exactly the members, types and shapes that its configuration
    implies, around them the bytes that writing them makes, digest right, weights finite. The path
    "-" is standard input.

    Raises `UsageError` where there is no file and `CheckpointError` for anything else.
    """
    name = "standard input" if os.fspath(path) == "-" else path
    try:
        data = _read_bytes(path)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such checkpoint; "
            "train one with: charlstm train CORPUS, or name one with -m"
        ) from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a directory, not a checkpoint") from None
    except OSError as e:
        raise CheckpointError(f"{name}: cannot be read: {e.strerror}") from None
    except ValueError:
        raise UsageError(f"{os.fspath(path)!r}: not a file name") from None
    try:
        return _decode(data)
    except _Bad as e:
        raise CheckpointError(f"{name}: {e}") from None


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    """What is in a file, or on standard input."""
    if not os.fspath(path):
        raise UsageError("an empty name is not that of a checkpoint; name one with -m")
    if os.fspath(path) != "-":
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise CheckpointError("standard input cannot be read")
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a checkpoint in, or name a file")
    return sys.stdin.buffer.read()


def _decode(data: bytes) -> Checkpoint:
    members = _unzip(data)
    document = _metadata(members)
    V, B = document["vocabulary"], document["streams"]
    try:
        config = from_dict(document["config"], "its configuration")
    except ConfigError as e:
        raise _Bad(f"a damaged checkpoint: {e}") from None
    configured = config.train.batch * document["progress"]["ranks"]
    if configured != B:
        raise _Bad(f"a damaged checkpoint: {B} streams, but {configured} configured")
    good = document.get("good")
    expected = ["metadata"]
    arrays: dict[str, Array] = {}
    letters = _length(members.get("vocabulary", memoryview(b"")))
    progress = document["progress"]
    looked = progress["final"] is not None and progress["best"] is not None
    for name, dtype, shape in _layout(config, V, B, letters, looked, good is not None):
        if name not in members:
            raise _Bad(f"a damaged checkpoint: {name} is missing")
        arrays[name] = _array(name, members[name], dtype, shape)
        expected.append(name)
    if [*expected, "sha256"] != list(members):
        raise _Bad("a damaged checkpoint: its members are not those of its configuration")
    digest = _digest(members)
    try:
        vocabulary = VOCABULARIES[config.text.unit].restored(
            arrays["vocabulary"], arrays["counts"], config.text
        )
    except ValueError as e:
        raise _Bad(f"a damaged checkpoint: {e}") from None

    def flat(group: str) -> Array:
        weights = network(config, V).weights
        for name in weights:
            weights[name][...] = arrays[f"{group}/{name}"]
        if not np.isfinite(weights.flat).all():
            raise _Bad(f"a damaged checkpoint: {group} holds numbers that are not finite")
        return weights.flat

    def state(prefix: str) -> State:
        arrays_ = [a.astype(np.float32) for name, a in arrays.items() if name.startswith(prefix)]
        if not all(np.isfinite(s).all() for s in arrays_):
            raise _Bad(f"a damaged checkpoint: {prefix[:-1]} holds numbers that are not finite")
        return arrays_

    def standing(prefix: str, progress: dict[str, Any]) -> Standing:
        return Standing(
            flat(f"{prefix}last"),
            flat(f"{prefix}average") if config.train.average else None,
            {
                name: flat(f"{prefix}optimizer/{name}")
                for name in OPTIMIZERS[config.train.optimizer].sums
            },
            state(f"{prefix}state/"),
            progress,
        )

    now = standing("", progress)
    return Checkpoint(
        config,
        vocabulary,
        flat("best"),
        now.last,
        now.average,
        now.optimizer,
        now.state,
        now.progress,
        None if good is None else standing("good/", good),
        flat("looked") if looked else None,
        digest,
        len(data),
    )


def _unzip(data: bytes) -> dict[str, memoryview]:
    """The members of the archive, by name without `.npy`."""
    members: dict[str, memoryview] = {}
    for file, contents in unpack(data):
        name = file.removesuffix(".npy")
        if name in members or name == file:
            raise _Bad(f"not a checkpoint: unexpected member {file!r:.80}")
        members[name] = contents
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


def _length(member: memoryview) -> int:
    """How many bytes follow the header of a member."""
    return max(0, len(member) - 10 - int.from_bytes(member[8:10], "little"))


def _metadata(members: dict[str, memoryview]) -> dict[str, Any]:
    member = members["metadata"]
    text = _array("metadata", member, "|u1", (_length(member),)).tobytes()
    try:
        document = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _Bad("a damaged checkpoint: its metadata cannot be read") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _Bad("not a checkpoint: an archive of something else")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise _Bad(f"a checkpoint of version {version!r:.40}; this program reads {VERSION}")
    for name in ("vocabulary", "streams"):
        if not _count(document.get(name), 1):
            raise _Bad(f"a damaged checkpoint: {name} is {document.get(name)!r:.40}")
    if not isinstance(document.get("config"), dict):
        raise _Bad("a damaged checkpoint: its configuration is missing")
    _check_progress(document.get("progress"))
    if document.get("good") is not None:
        _check_progress(document["good"])
        if document["good"]["ranks"] != document["progress"]["ranks"]:
            raise _Bad("a damaged checkpoint: its good state is of another run")
    return document


def _count(value: Any, low: int = 0) -> bool:
    return type(value) is int and low <= value < 2**53


def _loss(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1000


def _row(value: Any, *checks: Callable[[Any], bool]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(checks)
        and all(check(v) for check, v in zip(checks, value, strict=True))
    )


def _random_state(value: Any) -> bool:
    """Whether a generator takes the state, and has no other one than it then."""
    bits = np.random.default_rng().bit_generator
    try:
        bits.state = value
    except Exception:  # of many kinds, all with one meaning
        return False
    known = json.dumps(bits.state, sort_keys=True) == json.dumps(value, sort_keys=True)
    return known and value["has_uint32"] in (0, 1)


_PROGRESS: dict[str, Callable[[Any], bool]] = {
    "corpus": lambda v: (
        isinstance(v, dict)
        and v.keys() == {"sha256", "train", "valid"}
        and isinstance(v["sha256"], str)
        and re.fullmatch("[0-9a-f]{64}", v["sha256"]) is not None
        and _count(v["train"], 1)
        and _count(v["valid"])
    ),
    "ranks": lambda v: _count(v, 1),
    "step": _count,
    "position": _count,
    "random": _random_state,
    "since": lambda v: _row(v, _loss, _count),
    "best": lambda v: v is None or _row(v, _count, _loss),
    "looks": _count,
    "setbacks": lambda v: v is None or _count(v),
    "history": lambda v: isinstance(v, list) and all(_row(r, _count, _loss, _loss) for r in v),
    "final": lambda v: v is None or _row(v, _count, _loss),
    "rollbacks": lambda v: isinstance(v, list) and all(_row(r, _count, _text, _count) for r in v),
    "environment": lambda v: (
        isinstance(v, dict) and all(name.isidentifier() and _text(v[name]) for name in v)
    ),
}
"""What stands in a checkpoint's progress (see `Training.start`), and whether a value can."""

_ADDED: dict[str, Any] = {"rollbacks": [], "environment": {}, "setbacks": None, "final": None}
"""What older files do not have in their progress, as it is then; setbacks are counted anew."""


def _check_progress(progress: Any) -> None:
    if isinstance(progress, dict):
        for name, value in _ADDED.items():
            progress.setdefault(name, copy.copy(value))
    if not isinstance(progress, dict) or progress.keys() != _PROGRESS.keys():
        raise _Bad("a damaged checkpoint: progress is missing")
    for name, holds in _PROGRESS.items():
        if not holds(progress[name]):
            raise _Bad(f"a damaged checkpoint: {name} is {progress[name]!r:.40}")
    if progress["setbacks"] is None:
        progress["setbacks"] = _setbacks(progress["history"])


def _setbacks(history: list[Any]) -> int:
    """Looks at one held-out text that brought no new best."""
    losses = [valid for _, _, valid in history]
    lowest = itertools.accumulate(losses, min)
    return sum(valid >= best for valid, best in zip(losses[1:], lowest, strict=False))


def _digest(members: dict[str, memoryview]) -> str:
    digest = hashlib.sha256()
    for name, member in members.items():
        if name != "sha256":
            digest.update(name.encode() + b"\0")
            digest.update(member)
    if _array("sha256", members["sha256"], "|u1", (32,)).tobytes() != digest.digest():
        raise _Bad("a damaged checkpoint: its digest does not match its contents")
    return digest.hexdigest()
