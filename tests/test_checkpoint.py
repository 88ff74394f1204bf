"""A checkpoint is read back bit for bit, or refused in one line; writing leaves old or new.

Damage of every byte, mutants, failing disks and loss of power are in `tests/faults`."""

from __future__ import annotations

import copy
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import stat
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.hostile import npy, pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st

import charlstm.storage.files
from charlstm.config.schema import Config, Setting
from charlstm.errors import BusyError, CheckpointError, DivergedError, OutputError, UsageError
from charlstm.nn.cells import CELLS
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.nn.shape import Shape
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from charlstm.storage.files import claim
from charlstm.storage.lock import Lock
from charlstm.storage.progress import LATER, Evaluated
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training

TEXT = "a small ferry, 배, 🛶\n" * 60


def make(
    cell: str = "lstm",
    layers: int = 1,
    average: float = 0.9,
    optimizer: str = "adagrad",
    **more: Any,
) -> Checkpoint:
    """A checkpoint from a few steps of training, with a look at the held-out text."""
    keys = {
        "model.cell": cell,
        "model.hidden": 3,
        "model.layers": layers,
        "train.average": average,
        "train.optimizer": optimizer,
        "train.batch": 2,
        "train.length": 7,
        "train.steps": 3,
        "train.eval_every": 2,
        **more,
    }
    config = Config().updated(Setting(k, v, "test") for k, v in keys.items())
    training = Training.start(Corpus.from_text(TEXT), config)
    assert sum(1 for _ in training) == 3
    return copy.deepcopy(training.checkpoint())


@pytest.fixture(scope="module")
def small() -> bytes:
    """The bytes of the smallest kind of checkpoint."""
    checkpoint = make("rnn", average=0.0, optimizer="sgd", **{"train.eval_every": 3})
    return written(checkpoint)


def written(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        write_checkpoint(path, checkpoint)
        return path.read_bytes()


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    """Two checkpoints that are equal bit for bit."""
    assert a.config == b.config
    assert a.progress == b.progress
    assert a.vocabulary.units == b.vocabulary.units
    pairs = [(a.vocabulary.counts, b.vocabulary.counts), (a.best, b.best), (a.last, b.last)]
    assert (a.average is None) == (b.average is None)
    if a.average is not None and b.average is not None:
        pairs.append((a.average, b.average))
    assert a.optimizer.keys() == b.optimizer.keys()
    pairs += [(a.optimizer[name], b.optimizer[name]) for name in a.optimizer]
    pairs += list(zip(a.state, b.state, strict=True))
    assert (a.good is None) == (b.good is None)
    if a.good is not None and b.good is not None:
        assert a.good.progress == b.good.progress
        pairs += list(zip(a.good.arrays(), b.good.arrays(), strict=True))
    for x, y in pairs:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def read(tmp_path: Path, data: bytes) -> Checkpoint:
    """Read bytes as a checkpoint file."""
    path = tmp_path / "read.npz"
    path.write_bytes(data)
    return read_checkpoint(path)


def refused(tmp_path: Path, data: bytes, rest: str = ".") -> None:
    """The bytes are refused, as they must be: a `CheckpointError` of one line."""
    with pytest.raises(CheckpointError, match=rest) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "read.npz"))
    assert len(message.splitlines()) == 1, message
    assert message.isprintable(), message
    assert len(message) - len(str(tmp_path)) < 700, message


# --- making files by hand ----------------------------------------------------------------------


def document(data: bytes) -> dict[str, Any]:
    """The metadata of a file."""
    text = np.load(io.BytesIO(unpack(data)["metadata.npy"])).tobytes()
    return dict(json.loads(text))


def with_text(data: bytes, metadata: bytes) -> bytes:
    """A file with other metadata and a right digest."""
    return pack({**unpack(data), "metadata.npy": npy(np.frombuffer(metadata, np.uint8))})


def with_value(data: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    """A file with one value of its metadata changed and a right digest."""
    whole = document(data)
    at: Any = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return with_text(data, json.dumps(whole).encode())


def with_array(data: bytes, name: str, array: Any) -> bytes:
    """A file with one array changed and a right digest."""
    members = unpack(data)
    assert name + ".npy" in members
    return pack({**members, name + ".npy": npy(array)})


def test_helpers_make_good_files(tmp_path: Path, small: bytes) -> None:
    """What the tests below change is the only thing that is wrong with their files."""
    expected = read(tmp_path, small)
    for same in (
        pack(unpack(small)),
        with_text(small, json.dumps(document(small)).encode()),
        with_value(small, ("progress", "looks"), expected.progress.looks),
        with_array(small, "counts", expected.vocabulary.counts),
    ):
        assert_same(read(tmp_path, same), expected)


# --- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", list(CELLS))
def test_round_trip(tmp_path: Path, cell: str, layers: int, average: float, optimizer: str) -> None:
    """Everything comes back bit for bit, and numpy.load sees what the module says is there."""
    checkpoint = make(cell, layers, average, optimizer)
    path = tmp_path / "model"
    write_checkpoint(path, checkpoint)
    assert os.listdir(tmp_path) == ["model"]  # no suffix is added to the name
    back = read_checkpoint(path)
    assert_same(back, checkpoint)
    assert back.digest == checkpoint.digest
    assert len(back.digest) == 64
    assert back.model().weights.flat.tobytes() == checkpoint.best.tobytes()

    V, B, H = len(checkpoint.vocabulary), 2, 3
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "vocabulary": ("uint32", (V,)),
        "counts": ("int64", (V,)),
    }
    assert checkpoint.looked is not None  # the end did better
    groups = ["best", "looked", "last", *(["average"] if average else [])]
    groups += ["optimizer/means"] if optimizer in ("adam", "adamw") else []
    groups += ["optimizer/squares"] if optimizer != "sgd" else []
    for prefix in ("", "good/"):  # the look was not after the last step
        for group in groups[2:] if prefix else groups:
            for name, shape in Shape(cell, V, H, layers).weights.items():
                expected[f"{prefix}{group}/{name}"] = ("float32", shape)
        for name, width in Shape(cell, V, H, layers).states.items():
            expected[f"{prefix}state/{name}"] = ("float32", (B, width))
    with np.load(path, allow_pickle=False) as archive:
        assert archive.files == ["metadata", *expected, "sha256"]
        for name, (dtype, shape) in expected.items():
            array = archive[name]
            assert (array.dtype.name, array.shape) == (dtype, shape)
        assert archive["sha256"].tobytes().hex() == back.digest
        metadata = json.loads(archive["metadata"].tobytes())
        assert metadata["config"] == checkpoint.config.to_dict()
        first = "layer0.Wx"
        assert archive[f"best/{first}"].tobytes() == back.model().weights[first].tobytes()


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("hidden", [[5, 3], [3, 4]])
def test_round_trip_of_the_family(tmp_path: Path, hidden: list[int], tie: bool) -> None:
    """Embedding, projection and layers of different widths are stored in their own shapes, and
    another shape is refused."""
    keys: Any = {
        "model.hidden": hidden,
        "model.embedding": 4,
        "model.tie": tie,
        "model.dropout": 0.5,
    }
    checkpoint = make("gru", 2, **keys)
    data = written(checkpoint)
    assert_same(read(tmp_path, data), checkpoint)
    V, (low, top) = len(checkpoint.vocabulary), hidden
    with np.load(io.BytesIO(data)) as archive:
        shapes = {name: archive[name].shape for name in archive.files}
    assert shapes["best/E"] == shapes["optimizer/squares/E"] == (V, 4)
    assert shapes["last/layer0.Wx"] == (3, 4, low)
    assert shapes["average/layer1.Wx"] == (3, low, top)
    assert (shapes["state/layer0.h"], shapes["state/layer1.h"]) == ((2, low), (2, top))
    assert ("best/Wy" in shapes) == (not tie)
    assert ("best/Wp" in shapes) == (tie and top != 4)
    if "best/Wp" in shapes:
        assert shapes["best/Wp"] == (top, 4)
    refused(tmp_path, with_value(data, ("config", "model", "embedding"), 5), "E is not an array")
    refused(tmp_path, with_value(data, ("config", "model", "tie"), not tie))
    refused(tmp_path, with_value(data, ("config", "model", "hidden"), 4))
    refused(tmp_path, with_value(data, ("config", "model", "hidden"), [4]), "1 width for 2 layers")


def test_a_file_of_before_the_family(tmp_path: Path, small: bytes) -> None:
    """Configurations without the newer keys have their defaults."""
    whole = document(small)
    newer = ("embedding", "tie", "dropout", "variational", "weight_drop", "input_drop")
    for name in newer:
        del whole["config"]["model"][name]
    old = with_text(small, json.dumps(whole).encode())
    assert_same(read(tmp_path, old), read(tmp_path, small))


def test_a_file_of_before_setbacks_were_kept(tmp_path: Path, small: bytes) -> None:
    """They are counted: looks that brought no new best."""
    whole = document(small)
    whole["progress"]["history"] = [[k, 1.0, v] for k, v in enumerate((3.0, 2.0, 2.5, 1.5, 1.5))]
    del whole["progress"]["setbacks"]
    old = with_text(small, json.dumps(whole).encode())
    assert read(tmp_path, old).progress.setbacks == 2
    whole["progress"]["history"] = 5
    refused(tmp_path, with_text(small, json.dumps(whole).encode()), "history is 5")


def test_losses_of_any_size(tmp_path: Path, small: bytes) -> None:
    """A loss that training takes for finite can be read again."""
    data = with_value(small, ("progress", "history"), [[80, 2.3e16, 1e300]])
    assert read(tmp_path, data).progress.history == [(80, 2.3e16, 1e300)]
    refused(tmp_path, with_value(small, ("progress", "history"), [[80, 2**53, 1.0]]), "history")


def test_same_contents_same_bytes() -> None:
    """Neither the clock nor the name gets into the file; one weight changes it."""
    checkpoint = make()
    first = written(checkpoint)
    assert written(copy.deepcopy(checkpoint)) == first
    checkpoint.last[0] += 1
    assert written(checkpoint) != first


def test_digest_is_of_the_contents(tmp_path: Path, small: bytes) -> None:
    """The digest is SHA-256 over name, NUL and bytes of each member before it."""
    sha = hashlib.sha256()
    for name, contents in unpack(small).items():
        sha.update(name.removesuffix(".npy").encode() + b"\0" + contents)
    assert read(tmp_path, small).digest == sha.hexdigest()


def test_strange_strings_in_the_configuration(tmp_path: Path) -> None:
    """Texts in the configuration come back, whatever they hold."""
    stops = ("\n", "한😀", "\u2028", '"\\', "\ud800")
    keys: Any = {"sample.stop": stops}
    checkpoint = make(**keys)
    assert read(tmp_path, written(checkpoint)).config.sample.stop == stops


def test_memory_of_reading(tmp_path: Path) -> None:
    """Reading takes at most twice the file, beyond the little that any reading takes."""
    wide: Any = {"model.hidden": 300}
    checkpoint = make("lstm", **wide)
    path = tmp_path / "model.npz"
    write_checkpoint(path, checkpoint)
    size = path.stat().st_size
    assert size > 1 << 22
    tracemalloc.start()
    try:
        back = read_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * size + (1 << 20)
    assert_same(back, checkpoint)


# --- writing -----------------------------------------------------------------------------------


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


# --- reading: damage ---------------------------------------------------------------------------


def test_no_file(tmp_path: Path) -> None:
    """A missing file is a mistake in the command (exit 2) that says how to make one."""
    for name in ("gone.npz", "a\0b"):
        with pytest.raises(UsageError) as caught:
            read_checkpoint(tmp_path / name)
        assert caught.value.exit_code == 2
        assert str(caught.value).isprintable()
    with pytest.raises(UsageError, match="charlstm train"):
        read_checkpoint(tmp_path / "gone.npz")
    with pytest.raises(CheckpointError, match="is a directory") as refusal:
        read_checkpoint(tmp_path)
    assert refusal.value.exit_code == 3


def other_files() -> dict[str, bytes]:
    """Files that are something else."""
    npz, empty, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, weights=np.zeros(3))
    np.savez_compressed(packed, metadata=np.zeros(3), sha256=np.zeros(3))
    with zipfile.ZipFile(empty, "w"):
        pass
    return {
        "empty": b"",
        "text": b"Once upon a time there was no checkpoint.\n" * 100,
        "zeros": bytes(10_000),
        "magic": b"PK\x03\x04",
        "magic-and-zeros": b"PK\x03\x04" + bytes(10_000),
        "both-magics": b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + bytes(18),
        "end-only": b"PK\x05\x06" + bytes(18),
        "npy": npy(np.zeros(3)),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00K\x01K\x02K\x03\x87\x94.",
        "npz": npz.getvalue(),
        "npz-compressed": packed.getvalue(),
        "empty-archive": empty.getvalue(),
        "names-only": pack({"metadata.npy": b""}),
        "metadata-not-npy": pack({"metadata.npy": b"{}"}),
        "metadata-number": pack({"metadata.npy": npy(5)}),
        "metadata-floats": pack({"metadata.npy": npy(np.zeros(3))}),
        "metadata-pickled": pack({"metadata.npy": npy(np.array([{}], object), pickle=True)}),
    }


@pytest.mark.parametrize("name", list(other_files()))
def test_other_files(tmp_path: Path, name: str) -> None:
    """Anything that is no checkpoint is refused, whatever it is."""
    refused(tmp_path, other_files()[name])


def test_truncated(tmp_path: Path, small: bytes) -> None:
    """A file that ends too soon, anywhere, is refused."""
    whole = written(make())
    for end in [*range(0, len(whole), 997), len(whole) - 1]:
        refused(tmp_path, whole[:end])
    for end in range(len(small) - 400, len(small)):
        refused(tmp_path, small[:end])


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"PK", bytes(22), b"x" * 1000])
def test_bytes_around(tmp_path: Path, small: bytes, tail: bytes) -> None:
    """Nothing may stand behind the archive, nor in front of it, nor twice."""
    refused(tmp_path, small + tail)
    refused(tmp_path, tail + small)
    refused(tmp_path, small + small)


def test_archive_comment(tmp_path: Path, small: bytes) -> None:
    """Nor may a comment of the archive, which would be a place to hide something."""
    refused(tmp_path, small[:-2] + b"\x05\0" + b"hello")


def test_flipped_headers(tmp_path: Path, small: bytes) -> None:
    """The bytes of the archive's own records, each replaced by other values: timestamps, flags,
    attributes and copies of sizes too."""
    records = [0, small.rindex(b"PK\x01\x02"), small.rindex(b"PK\x05\x06")]
    for at in [p for start in records for p in range(start, min(start + 60, len(small)))]:
        for value in {0, 255, small[at] ^ 0x80, (small[at] + 1) % 256} - {small[at]}:
            refused(tmp_path, small[:at] + bytes([value]) + small[at + 1 :])


def test_wrong_checksum(tmp_path: Path, small: bytes) -> None:
    """The archive's own checksums must be right too: other readers go by them."""
    at = small.index(b"PK\x01\x02") + 16
    refused(tmp_path, small[:at] + bytes([small[at] ^ 1]) + small[at + 1 :], "not what was written")


# --- reading: files made to deceive ------------------------------------------------------------


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed(tmp_path: Path, small: bytes, compression: int) -> None:
    """Nothing is unpacked, so nothing can unpack to more than there is."""
    refused(tmp_path, pack(unpack(small), compression=compression), "compressed or encrypted")


def test_encrypted(tmp_path: Path, small: bytes) -> None:
    """A member that says it is encrypted."""
    at = 6
    refused(tmp_path, small[:at] + b"\x01" + small[at + 1 :], "compressed or encrypted")


def test_members(tmp_path: Path, small: bytes) -> None:
    """Exactly the members there should be, in their order, each once."""
    members = unpack(small)
    extra = npy(np.zeros(1))
    for name in members:
        refused(tmp_path, pack({n: c for n, c in members.items() if n != name}))
    for name in ("extra.npy", "zzz.npy", "best/layer1.Wx.npy", "a\nb.npy", "\x1b[2J.npy", ".npy"):
        refused(tmp_path, pack({**members, name: extra}))
        refused(tmp_path, pack({name: extra, **members}))
    for name in ("extra", "best/Wy", "metadata", "sha256"):
        refused(tmp_path, pack({**members, name: extra}), "unexpected member")
    refused(tmp_path, pack(dict(reversed(members.items()))), "members")
    refused(tmp_path, pack({}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["metadata.npy", "best/Wy.npy", "sha256.npy"])
def test_duplicates(tmp_path: Path, small: bytes, name: str) -> None:
    """A member that stands there twice, of which readers take the first or the last."""
    file = io.BytesIO(small)
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.create_system, info.external_attr = 3, 0o644 << 16
        archive.writestr(info, archive.read(name))
    refused(tmp_path, file.getvalue(), "unexpected member")


def test_hidden_between(tmp_path: Path, small: bytes) -> None:
    """A member that the archive's directory does not list, at either end of the others."""
    members = unpack(small)
    more = pack({"metadata.npy": members["metadata.npy"]})
    hidden = more[: more.index(b"sha256.npy") - 30]
    end = bytearray(small[-22:])
    size = int.from_bytes(end[12:16], "little")
    at = int.from_bytes(end[16:20], "little")
    end[16:20] = (at + len(hidden)).to_bytes(4, "little")
    central = small[at : at + size]
    refused(tmp_path, small[:at] + hidden + central + bytes(end))
    refused(tmp_path, hidden + small)
    with zipfile.ZipFile(io.BytesIO(small[:at] + hidden + central + bytes(end))) as archive:
        assert archive.testzip() is None  # which is why it must be looked for


def test_wrong_digest(tmp_path: Path, small: bytes) -> None:
    """Contents and digest that do not belong together, all checksums of the archive right."""
    members = unpack(small)
    refused(tmp_path, pack(members, npy(np.zeros(32, np.uint8))), "digest")
    refused(tmp_path, pack(members, npy(np.zeros(31, np.uint8))), "sha256")
    refused(tmp_path, pack(members, npy(np.zeros(32, np.int8))), "sha256")
    refused(tmp_path, pack(members, b""), "sha256")
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        digest = archive.read("sha256.npy")
    by = np.load(io.BytesIO(members["best/by.npy"])) + 1
    refused(tmp_path, pack({**members, "best/by.npy": npy(by)}, digest), "digest")


@pytest.mark.parametrize(
    "name", ["vocabulary", "counts", "best/layer0.Wx", "last/Wy", "last/by", "state/layer0.h"]
)
def test_wrong_arrays(tmp_path: Path, small: bytes, name: str) -> None:
    """Another type, byte order, memory order, shape or length, or a pickled object."""
    members = unpack(small)
    good = np.load(io.BytesIO(members[name + ".npy"]))
    wrong = [
        good.astype(np.float64),
        good.astype(np.int32),
        good.astype(good.dtype.newbyteorder(">")),
        good[None],
        good[..., None],
        good[..., :-1],
        np.concatenate([good, good]),
        good.reshape(-1)[0],
        good[:0],
        np.array(["x"]),
    ]
    if good.ndim > 1:
        wrong += [np.asfortranarray(good), good.reshape(-1)]
        wrong += [good.swapaxes(0, -1).copy()] if good.shape[0] != good.shape[-1] else []
    for array in wrong:
        refused(tmp_path, with_array(small, name, array), "is not an array")
    raw = members[name + ".npy"]
    for contents in [
        b"",
        raw[:5],
        raw[:-1],
        raw + b"\0",
        raw[10:],
        b"\x93NUMPY\x02\x00" + raw[8:],
        raw.replace(b"'descr'", b" descr "),
        npy(np.array([print], object), pickle=True),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    ]:
        refused(tmp_path, pack({**members, name + ".npy": contents}), "is not an array")


@pytest.mark.parametrize("name", ["best/Wy", "last/layer0.Wh", "average/by", "state/layer0.c"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    """Weights, averages and states must be numbers."""
    data = written(make())
    array = np.load(io.BytesIO(unpack(data)[name + ".npy"]))
    array.reshape(-1)[-1] = value
    refused(tmp_path, with_array(data, name, array), "not finite")


def test_wrong_vocabulary(tmp_path: Path, small: bytes) -> None:
    """Code points in ascending order, each once, each a character, each counted."""
    points = np.load(io.BytesIO(unpack(small)["vocabulary.npy"]))
    counts = np.load(io.BytesIO(unpack(small)["counts.npy"]))

    def changed(array: Any, at: int, value: int) -> Any:
        array = array.copy()
        array[at] = value
        return array

    for wrong in (
        points[::-1].copy(),
        changed(points, 1, points[0]),
        changed(points, 0, points[2]),
        changed(points, -1, 0xD800),
        changed(points, -1, 0xDFFF),
        changed(points, -1, 0x110000),
        changed(points, -1, 0xFFFFFFFF),
    ):
        refused(tmp_path, with_array(small, "vocabulary", wrong), "vocabulary")
    for wrong in (
        changed(counts, 0, -1),
        changed(counts, 0, 0),
        counts * 0,
        np.full_like(counts, 2**62),
        changed(counts, -1, -(2**63)),
    ):
        refused(tmp_path, with_array(small, "counts", wrong), "counted")


HOSTILE: list[Any] = [
    None,
    True,
    False,
    -1,
    0.5,
    2**53,
    10**400,
    math.nan,
    math.inf,
    "",
    "1",
    "a\nb\x1b[2J",
    [],
    [None],
    [1, 2],
    [[1, 2, 3]],
    {},
    {"a": {"b": []}},
]

PLACES: list[tuple[Any, ...]] = [
    ("format",),
    ("version",),
    ("vocabulary",),
    ("streams",),
    ("config",),
    ("config", "model"),
    ("config", "model", "hidden"),
    ("config", "model", "layers"),
    ("config", "model", "cell"),
    ("config", "train", "batch"),
    ("config", "train", "optimizer"),
    ("config", "train", "average"),
    ("progress",),
    ("progress", "corpus"),
    ("progress", "corpus", "sha256"),
    ("progress", "corpus", "train"),
    ("progress", "corpus", "valid"),
    ("progress", "step"),
    ("progress", "position"),
    ("progress", "random"),
    ("progress", "random", "bit_generator"),
    ("progress", "random", "state"),
    ("progress", "random", "state", "state"),
    ("progress", "random", "state", "inc"),
    ("progress", "random", "has_uint32"),
    ("progress", "random", "uinteger"),
    ("progress", "since"),
    ("progress", "since", 0),
    ("progress", "since", 1),
    ("progress", "best"),
    ("progress", "best", 0),
    ("progress", "best", 1),
    ("progress", "looks"),
    ("progress", "history"),
    ("progress", "history", 0),
    ("progress", "history", 0, 0),
    ("progress", "history", 0, 1),
    ("progress", "history", 0, 2),
    ("progress", "rollbacks"),
    ("progress", "environment"),
    ("progress", "environment", "numpy"),
    ("good",),
]

ALLOWED: dict[tuple[Any, ...], list[Any]] = {
    ("config",): [{}],  # all defaults: refused for what follows from them
    ("config", "model"): [{}],
    ("config", "train", "average"): [0.5],
    ("progress", "random", "state", "state"): [2**53],
    ("progress", "random", "state", "inc"): [2**53],
    ("progress", "since"): [[1, 2]],
    ("progress", "best"): [None, [1, 2]],
    ("progress", "history"): [[], [[1, 2, 3]]],
    ("progress", "rollbacks"): [[]],
    ("progress", "environment"): [{}],
    ("progress", "environment", "numpy"): ["", "1", "a\nb\x1b[2J"],
    ("good",): [None],
    ("progress", "since", 0): [-1, 0.5],
    ("progress", "best", 1): [-1, 0.5],
    ("progress", "history", 0, 1): [-1, 0.5],
    ("progress", "history", 0, 2): [-1, 0.5],
}


@pytest.mark.parametrize("place", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_hostile_metadata(tmp_path: Path, small: bytes, place: tuple[Any, ...]) -> None:
    """Each value of the metadata, of the wrong type or size, is refused by whoever reads it."""
    for value in HOSTILE:
        data = with_value(small, place, value)
        if any(value == a and type(value) is type(a) for a in ALLOWED.get(place, [])):
            if place[0] in ("progress", "good"):
                read(tmp_path, data)
            else:
                refused(tmp_path, data)
        else:
            refused(tmp_path, data)


def test_missing_and_surplus_metadata(tmp_path: Path, small: bytes) -> None:
    """No key of the metadata, of progress or of a random state may be missing."""
    whole = document(small)
    for path in [(), ("progress",), ("progress", "corpus"), ("progress", "random")]:
        part = whole
        for key in path:
            part = part[key]
        for key in part.keys() - LATER:
            less = {k: v for k, v in part.items() if k != key}
            if path:
                refused(tmp_path, with_value(small, path, less))
            else:
                refused(tmp_path, with_text(small, json.dumps(less).encode()))
        if path:
            refused(tmp_path, with_value(small, path, {**part, "more": 1}))


def test_a_good_state_of_its_own(tmp_path: Path) -> None:
    """Between two looks the state to go back to is in the file too: read back bit for bit, and
    its arrays and its progress as strictly as the others."""
    checkpoint = make()
    assert checkpoint.good is not None
    assert checkpoint.good.progress.step == 2
    data = written(checkpoint)
    back = read(tmp_path, data)
    assert_same(back, checkpoint)
    names = [name for name in unpack(data) if name.startswith("good/")]
    assert len(names) == 3 * 5 + 2
    poisoned = np.load(io.BytesIO(unpack(data)["good/last/Wy.npy"]))
    poisoned[0, 0] = math.nan
    refused(tmp_path, with_array(data, "good/last/Wy", poisoned), "good/last holds .* not finite")
    state = np.full((2, 3), math.inf, np.float32)
    refused(tmp_path, with_array(data, "good/state/layer0.c", state), "good/state holds")
    refused(tmp_path, with_value(data, ("good",), None), "its members are not")
    refused(tmp_path, with_value(data, ("good", "step"), -1), "step is -1")
    refused(tmp_path, with_value(data, ("good", "ranks"), 2), "of another run")
    less = {n: c for n, c in unpack(data).items() if n != "good/state/layer0.h.npy"}
    refused(tmp_path, pack(less), "good/state/layer0.h is missing")


def test_a_file_of_before_the_rollbacks(tmp_path: Path, small: bytes) -> None:
    """Files that do not have them, nor say with what they were made, are read as before."""
    progress = document(small)["progress"]
    assert progress["rollbacks"] == []
    for name in LATER:
        del progress[name]
    back, expected = (
        read(tmp_path, with_value(small, ("progress",), progress)),
        read(tmp_path, small),
    )
    assert back.progress.environment == {}
    back.progress.environment = expected.progress.environment
    assert_same(back, expected)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b"{",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"a":' * 50_000,
        b"{}" + bytes(3),
        b'{"format": "charlstm checkpoint"}',
        "{}".encode("utf-16"),
    ],
    ids=lambda t: repr(t[:12]),
)
def test_metadata_that_is_none(tmp_path: Path, small: bytes, text: bytes) -> None:
    """Metadata that is no JSON, or JSON of something else."""
    refused(tmp_path, with_text(small, text))


@pytest.mark.parametrize("version", [0, 2, 10**30, 1.0, True, "1"])
def test_version(tmp_path: Path, small: bytes, version: Any) -> None:
    """A file of another version says so."""
    refused(tmp_path, with_value(small, ("version",), version), "version")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "hidden", 65536),
        ("model", "layers", 64),
        ("model", "cell", "lstm"),
        ("train", "optimizer", "adagrad"),
        ("train", "average", 0.5),
        ("train", "batch", 65536),
        ("model", "hiden", 5),
        ("evil", "x", 1),
    ],
)
def test_configuration_of_another_model(
    tmp_path: Path, small: bytes, section: str, key: str, value: Any
) -> None:
    """A configuration that the arrays do not fit, before anything is made in its size."""
    whole = document(small)
    whole["config"].setdefault(section, {})[key] = value
    data = with_text(small, json.dumps(whole).encode())
    tracemalloc.start()
    try:
        refused(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_huge_sizes(tmp_path: Path, small: bytes) -> None:
    """A vocabulary of billions is refused before it is made room for."""
    for key in ("vocabulary", "streams"):
        for value in (1, 2**20, 2**31, 2**52):
            refused(tmp_path, with_value(small, (key,), value))


def test_random_state_out_of_range(tmp_path: Path, small: bytes) -> None:
    """Integers that the generator does not hold, or holds but never has."""
    for place, value in [
        (("state", "state"), 2**128),
        (("state", "inc"), 2**128),
        (("uinteger",), 2**32),
        (("has_uint32",), 2),
        (("has_uint32",), 2**40),
        (("bit_generator",), "MT19937"),
    ]:
        refused(tmp_path, with_value(small, ("progress", "random", *place), value), "random")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([p for p in PLACES if p[0] == "progress"]), values)
def test_what_is_accepted_can_be_trained_on(
    tmp_path_factory: pytest.TempPathFactory, small: bytes, place: tuple[Any, ...], value: Any
) -> None:
    """Any JSON value in progress is refused when read, or else training goes on from it."""
    path = tmp_path_factory.getbasetemp() / "hostile.npz"
    path.write_bytes(with_value(small, place, value))
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError:
        return
    checkpoint.progress.step = min(checkpoint.progress.step, 3)
    training = Training(Corpus.from_text(TEXT), checkpoint, None)
    config = checkpoint.config.updated(
        Setting(key, value, "test") for key, value in [("train.steps", 5), ("train.patience", None)]
    )
    training.plan = dataclasses.replace(training.plan, config=config)
    assert len(list(training)) > 0


def test_nothing_is_run(tmp_path: Path, small: bytes) -> None:
    """Hostile members are not unpickled, compiled, executed or imported."""
    seen: list[str] = []
    watched = ("pickle.find_class", "exec", "compile", "subprocess.Popen", "socket.connect")
    active = [True]

    def hook(event: str, _: Any) -> None:
        if active[0] and event in watched:
            seen.append(event)

    members = unpack(small)
    payload = npy(np.array([os.system], object), pickle=True)
    files = [pack({**members, name: payload}) for name in members]
    path = tmp_path / "hostile.npz"
    path.write_bytes(small)
    read_checkpoint(path)
    sys.addaudithook(hook)
    try:
        for data in files:
            path.write_bytes(data)
            with pytest.raises(CheckpointError):
                read_checkpoint(path)
    finally:
        active[0] = False
    assert seen == []


# --- vocabularies of other units -----------------------------------------------------------------

LINES = "the sea, 배\nand the ferry <unk> came\n" * 40 + "once"


def of_unit(unit: str, **more: Any) -> Checkpoint:
    """A small checkpoint over units of this kind, one of which is left out."""
    keys = {"text.unit": unit, "text.min_count": 2, "text.normalize": "nfc", **more}
    keys |= {"model.cell": "rnn", "model.hidden": 2, "train.average": 0.0}
    keys |= {"train.optimizer": "sgd", "train.batch": 2, "train.length": 5, "train.steps": 3}
    config = Config().updated(Setting(k, v, "test") for k, v in keys.items())
    text = config.text
    others = {k: getattr(text, k) for k in ("unit", "normalize", "min_count", "max_vocabulary")}
    training = Training.start(Corpus.from_text(LINES, **others), config)
    assert sum(1 for _ in training) == 3
    return copy.deepcopy(training.checkpoint())


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_round_trip_of_units(tmp_path: Path, unit: str) -> None:
    """The vocabulary comes back as the unit that it is of, with what is outside."""
    checkpoint = of_unit(unit)
    back = read(tmp_path, written(checkpoint))
    assert_same(back, checkpoint)
    one, two = checkpoint.vocabulary, back.vocabulary
    assert type(one) is type(two)
    assert (one.unknown, one.charged, one.line_end) == (two.unknown, two.charged, two.line_end)
    assert two.normalize == "nfc"
    text = "the sea, 배 came twice\n"
    assert one.encode(text).tolist() == two.encode(text).tolist()
    assert ("<unk>" in one.units) == (unit != "byte")


def test_words_that_are_none(tmp_path: Path) -> None:
    """Words stand in their order, each once, without white space, as many as are counted."""
    data = written(of_unit("word"))
    words = [*read(tmp_path, data).vocabulary.units]
    counts = np.load(io.BytesIO(unpack(data)["counts.npy"]))
    assert words[:4] == ["<unk>", "<eos>", "the", "and"]

    def stored(words: list[str], end: str = "\n") -> bytes:
        text = "\n".join(words) + end
        return with_array(data, "vocabulary", np.frombuffer(text.encode(), np.uint8))

    assert_same(read(tmp_path, stored(words)), read(tmp_path, data))
    for wrong in (
        words[1:],
        [*words, "more"],
        ["<eos>", "<unk>", *words[2:]],
        [*words[:2], "a b", *words[3:]],
        [*words[:2], "\u3000", *words[3:]],
        [*words[:2], "", *words[3:]],
        [*words[:2], "<unk>", *words[3:]],
        [*words[:3], words[4], words[3], *words[5:]],
        [*words[:2], words[3], *words[3:]],
        [],
    ):
        refused(tmp_path, stored(wrong), "vocabulary")
    refused(tmp_path, stored(words, ""), "vocabulary")
    invalid = np.frombuffer("\n".join(words).encode() + b"\xff", np.uint8)
    refused(tmp_path, with_array(data, "vocabulary", invalid), "not text")
    refused(tmp_path, with_array(data, "vocabulary", np.zeros(len(words), np.uint32)), "vocabulary")
    for at, value in ((2, 0), (0, -1), (2, 1)):
        changed = counts.copy()
        changed[at] = value
        refused(tmp_path, with_array(data, "counts", changed), "counted|order")
    refused(tmp_path, with_value(data, ("config", "text", "max_vocabulary"), 3), "over its limit")
    for unit in ("char", "byte"):
        refused(tmp_path, with_value(data, ("config", "text", "unit"), unit), "vocabulary")


def test_bytes_are_all_bytes(tmp_path: Path) -> None:
    """256 of them, in order."""
    data = written(of_unit("byte"))
    all_bytes = np.arange(256, dtype=np.uint32)
    assert_same(read(tmp_path, with_array(data, "vocabulary", all_bytes)), read(tmp_path, data))
    refused(tmp_path, with_array(data, "vocabulary", all_bytes[::-1].copy()), "not all bytes")
    refused(tmp_path, with_array(data, "counts", np.zeros(256, np.int64)), "counted")
    other = written(of_unit("char"))
    refused(tmp_path, with_value(other, ("config", "text", "unit"), "byte"), "not all bytes")


def test_the_entry_for_rare_characters(tmp_path: Path) -> None:
    """It is there only where something can have been left out, and not alone."""
    data = written(of_unit("char"))
    points = np.load(io.BytesIO(unpack(data)["vocabulary.npy"]))
    assert points[-1] == 0x110000
    refused(tmp_path, with_value(data, ("config", "text", "min_count"), 1), "not in order")
    over = points.copy()
    over[-1] += 1
    refused(tmp_path, with_array(data, "vocabulary", over), "not in order")


def test_files_of_before_are_read(tmp_path: Path, small: bytes) -> None:
    """Without the keys that came later a file is what it was: of characters, as they are."""
    text = document(small)["config"]["text"]
    old = {k: text[k] for k in ("encoding", "valid")}
    back = read(tmp_path, with_value(small, ("config", "text"), old))
    assert_same(back, read(tmp_path, small))
    assert back.vocabulary.unit == "char"
