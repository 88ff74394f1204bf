"""One file that holds a model and everything needed to continue training it.

The file is an `.npz`: a ZIP archive, nothing compressed, of one `.npy` a member, which
`numpy.load` opens without pickle. It is written whole or not at all, and read by a reader of our
own that takes nothing on trust: `numpy.load` accepts files whose checksums are wrong, and raises
a dozen kinds of exceptions on others.

`docs/checkpoint-format.md` has the members with their shapes, and the metadata.
"""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike

from charlstm.config.schema import Config, from_dict
from charlstm.errors import CheckpointError, ConfigError, DivergedError, OutputError, UsageError
from charlstm.nn.arrays import Array
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.nn.shape import Shape, State
from charlstm.storage.archive import BadArchive, Members, Put, damaged, write_arrays
from charlstm.storage.files import replacing, spare_places
from charlstm.storage.lock import Path_
from charlstm.storage.progress import Progress, is_count
from charlstm.text.units import VOCABULARIES
from charlstm.text.vocabulary import Vocabulary

FORMAT = "charlstm checkpoint"
VERSION = 1


@dataclass
class Snapshot:
    """Where a run stood after a step: everything but the weights that did best."""

    vectors: dict[str, Array]  # flat vectors (P,) by the names of `snapshot_groups`
    state: State  # of the training streams, each (B, H)
    progress: Progress

    @property
    def last(self) -> Array:
        """(P,) flat weights after the last step."""
        return self.vectors["last"]

    @property
    def average(self) -> Array | None:
        """(P,) flat running average of the weights, if any."""
        return self.vectors.get("average")

    @property
    def optimizer(self) -> dict[str, Array]:
        """The optimizer's sums, flat vectors (P,) by name."""
        kind = "optimizer/"
        return {k.removeprefix(kind): v for k, v in self.vectors.items() if k.startswith(kind)}

    def arrays(self) -> list[Array]:
        """All arrays, in an order that only the configuration decides."""
        return [*self.vectors.values(), *self.state]

    def copy_(self, other: "Snapshot") -> None:
        """Put a copy of another snapshot of the same run into these arrays."""
        for array, before in zip(self.arrays(), other.arrays(), strict=True):
            np.copyto(array, before)
        self.progress = other.progress.copy()


@dataclass(kw_only=True)
class Checkpoint(Snapshot):
    """What a checkpoint file holds."""

    config: Config
    vocabulary: Vocabulary
    best: Array  # (P,) flat weights that did best on held-out text: the ones to use
    good: Snapshot | None = None
    """The state to go back to should training diverge; None where it is this one."""
    looked: Array | None = None
    """(P,) flat weights that did best at the evaluations on the way, where `best` are those of the
    end. Training resumes with them: its end may lie elsewhere then."""
    digest: str = ""
    """SHA-256 of the file's contents, in hexadecimal; known once written or read, …"""
    size: int = 0  # … and so is its length in bytes

    def model(self, flat: Array | None = None) -> Model:
        """The network over the best weights, or over others."""
        shape = network_shape(self.config, len(self.vocabulary))
        return Model(shape, flat=self.best if flat is None else flat)

    def adapted(self, flat: Array, units: int) -> Self:
        """This checkpoint with other weights in use, which have learnt from so many units since.
        They have no held-out loss. Training resumes from the last step, as if they were not."""
        p = self.progress
        progress = dataclasses.replace(p, best=None, final=None, adapted=p.adapted + units)
        return dataclasses.replace(self, best=flat, progress=progress, looked=None)


def network_shape(config: Config, V: int) -> Shape:
    """The sizes of the network that a configuration describes, over V units."""
    m = config.model
    return Shape(m.cell, V, m.hidden, m.layers, m.embedding, m.tie)


def snapshot_groups(config: Config) -> list[str]:
    """Names of the groups of weights that a snapshot has, in the order of the file."""
    average = ["average"] if config.train.average else []
    sums = OPTIMIZERS[config.train.optimizer].sums
    return ["last", *average, *(f"optimizer/{name}" for name in sums)]


class Contents(NamedTuple):
    """What the metadata say is in a file: by this all its arrays are known."""

    config: Config
    V: int
    B: int
    progress: Progress
    good: Progress | None

    def to_json(self) -> bytes:
        """The metadata. Raises `DivergedError` where a loss is not finite."""
        document = {"format": FORMAT, "version": VERSION, "vocabulary": self.V, "streams": self.B}
        document |= {"config": self.config.to_dict(), "progress": self.progress.to_dict()}
        if self.good is not None:
            document["good"] = self.good.to_dict()
        try:
            return json.dumps(document, allow_nan=False).encode()
        except ValueError:
            raise DivergedError("a loss is not a finite number; not saved") from None

    @classmethod
    def of_json(cls, text: bytes) -> Self:
        """Read metadata strictly. Raises `BadArchive`."""
        try:
            document = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError):
            raise damaged("its metadata cannot be read") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise BadArchive("not a checkpoint: an archive of something else")
        version = document.get("version")
        if type(version) is not int or version != VERSION:
            what = f"a checkpoint of version {version!r:.40}"
            raise BadArchive(f"{what}; this program reads {VERSION}")
        for name in ("vocabulary", "streams"):
            if not is_count(document.get(name), 1):
                raise damaged(f"{name} is {document.get(name)!r:.40}")
        V, B = document["vocabulary"], document["streams"]
        if not isinstance(document.get("config"), dict):
            raise damaged("its configuration is missing")
        progress, good = Progress.read(document.get("progress")), document.get("good")
        good = None if good is None else Progress.read(good)
        if good is not None and good.ranks != progress.ranks:
            raise damaged("its good state is of another run")
        try:
            config = from_dict(document["config"], "its configuration")
        except ConfigError as e:
            raise damaged(f"{e}") from None
        configured = config.train.batch * progress.ranks
        if configured != B:
            raise damaged(f"{B} streams, but {configured} configured")
        return cls(config, V, B, progress, good)

    @property
    def looked(self) -> bool:
        """Whether the weights of the best evaluation on the way are not those in use."""
        return self.progress.final is not None and self.progress.best is not None

    def groups(self) -> list[str]:
        """Names of the groups of members, in the order of the file."""
        snapshot = [*snapshot_groups(self.config), "state"]
        before = ["best", *(["looked"] if self.looked else [])]
        return [*before, *snapshot, *(f"good/{group}" for group in snapshot if self.good)]

    def layout(self, letters: int) -> Iterator[tuple[str, DTypeLike, tuple[int, ...]]]:
        """Name, type and shape of each array but the metadata and the digest. `letters` is the
        length of a vocabulary of words in bytes."""
        shape = network_shape(self.config, self.V)
        weights: Mapping[str, tuple[int, ...]] = shape.weights
        state = {name: (self.B, H) for name, H in shape.states.items()}
        yield ("vocabulary", *VOCABULARIES[self.config.text.unit].stored_as(self.V, letters))
        yield "counts", "<i8", (self.V,)
        for group in self.groups():
            for name, size in (state if group.endswith("state") else weights).items():
                yield f"{group}/{name}", "<f4", size


def _arrays(checkpoint: Checkpoint) -> Iterator[tuple[str, Array]]:
    """Name and array of each member but the digest, in the order of the file."""
    vocabulary, good = checkpoint.vocabulary, checkpoint.good
    contents = Contents(
        *(checkpoint.config, len(vocabulary), len(checkpoint.state[0])),
        *(checkpoint.progress, None if good is None else good.progress),
    )
    yield "metadata", np.frombuffer(contents.to_json(), np.uint8)
    vectors = {"best": checkpoint.best, "looked": checkpoint.looked, **checkpoint.vectors}
    states = {"state": checkpoint.state}
    if good is not None:
        vectors |= {f"good/{group}": flat for group, flat in good.vectors.items()}
        states["good/state"] = good.state
    arrays = [vocabulary.stored(), vocabulary.counts]
    for group in contents.groups():
        arrays += states.get(group) or checkpoint.model(vectors[group]).weights.values()
    layout = contents.layout(letters=len(arrays[0]))
    for (name, dtype, shape), array in zip(layout, arrays, strict=True):
        array = np.ascontiguousarray(array, dtype)
        assert array.shape == shape, (name, array.shape, shape)
        if not np.isfinite(array).all():
            raise DivergedError(f"{name} holds numbers that are not finite; not saved")
        yield name, array


def write_checkpoint(path: Path_, checkpoint: Checkpoint, like: Path_ | None = None) -> None:
    """Write the file so that, whatever happens, `path` holds the old or the new one, whole; see
    `charlstm.storage.files.replacing`. Raises `OutputError`."""
    with replacing(path, like) as file:
        stream_checkpoint(file.write, checkpoint)


def rescued(path: Path_ | None, checkpoint: Checkpoint, why: object) -> OutputError:
    """Write a checkpoint that `path`, None for a stream, did not take to another place, as private
    as it was to be. Returns the error that names the place; it begins with `why`."""
    for place in spare_places(path):
        with contextlib.suppress(OutputError):
            write_checkpoint(place, checkpoint, place if path is None else path)
            return OutputError(f"{why}; the model is saved as {place}; move it where you want it")
    return OutputError(f"{why}; the model could not be saved anywhere else either")


def stream_checkpoint(put: Put, checkpoint: Checkpoint) -> None:
    """Hand the bytes of the file to `put`, from the first to the last."""
    checkpoint.digest, checkpoint.size = write_arrays(put, _arrays(checkpoint))


def read_checkpoint(path: Path_) -> Checkpoint:
    """Read a checkpoint strictly: exactly the members, types and shapes that its configuration
    implies, around them the bytes that writing them makes, digest right, weights finite. The path
    "-" is standard input.

    Raises `UsageError` where there is no file and `CheckpointError` for anything else.
    """
    name = "standard input" if os.fspath(path) == "-" else path
    try:
        data = _read_bytes(path)
    except FileNotFoundError:
        train = "train one with: charlstm train CORPUS, or name one with -m"
        raise UsageError(f"{path}: no such checkpoint; {train}") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a directory, not a checkpoint") from None
    except OSError as e:
        raise CheckpointError(f"{name}: cannot be read: {e.strerror}") from None
    except ValueError:
        raise UsageError(f"{os.fspath(path)!r}: not a file name") from None
    try:
        return _decode(data)
    except BadArchive as e:
        raise CheckpointError(f"{name}: {e}") from None


def _read_bytes(path: Path_) -> bytes:
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
    members = Members(data)
    metadata = members.array("metadata", "|u1", (members.length("metadata"),))
    contents = Contents.of_json(metadata.tobytes())
    config, layout = contents.config, contents.layout(members.length("vocabulary"))
    arrays = {name: members.array(name, dtype, shape) for name, dtype, shape in layout}
    if ["metadata", *arrays, "sha256"] != list(members.contents):
        raise damaged("its members are not those of its configuration")
    digest = members.digest()
    restored, units = VOCABULARIES[config.text.unit].restored, arrays["vocabulary"]
    try:
        vocabulary = restored(units, arrays["counts"], config.text)
    except ValueError as e:
        raise damaged(f"{e}") from None

    def flat(group: str) -> Array:
        weights = Model(network_shape(config, contents.V)).weights
        for name in weights:
            weights[name][...] = arrays[f"{group}/{name}"]
        if not np.isfinite(weights.flat).all():
            raise damaged(f"{group} holds numbers that are not finite")
        return weights.flat

    def snapshot(prefix: str, progress: Progress) -> Snapshot:
        vectors = {group: flat(prefix + group) for group in snapshot_groups(config)}
        group = f"{prefix}state"
        state = [a.astype(np.float32) for k, a in arrays.items() if k.startswith(f"{group}/")]
        if not all(np.isfinite(s).all() for s in state):
            raise damaged(f"{group} holds numbers that are not finite")
        return Snapshot(vectors, state, progress)

    return Checkpoint(
        **vars(snapshot("", contents.progress)),
        config=config,
        vocabulary=vocabulary,
        best=flat("best"),
        good=None if contents.good is None else snapshot("good/", contents.good),
        looked=flat("looked") if contents.looked else None,
        digest=digest,
        size=len(data),
    )
