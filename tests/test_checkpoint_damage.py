"""A damaged file, or one that is made to deceive, is refused in one line."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    TEXT,
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
from faults.hostile import npy, pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.config.schema import Setting
from charlstm.errors import CheckpointError, UsageError
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.storage.progress import LATER
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training


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
