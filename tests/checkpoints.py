"""Checkpoints to write, to damage and to read, for the tests of files."""

from __future__ import annotations

import copy
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.hostile import npy, pack, unpack

from charlstm.config.schema import Config, Setting
from charlstm.errors import CheckpointError
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
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
