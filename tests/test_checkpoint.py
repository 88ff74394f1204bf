"""What is written is read again, and equal contents are equal bytes."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    assert_same,
    document,
    make,
    read,
    refused,
    with_array,
    with_text,
    with_value,
    written,
)
from faults.hostile import pack, unpack

from charlstm.config.schema import Config, Setting
from charlstm.nn.cells import CELLS
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.nn.shape import Shape
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training


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
