"""Safetensors files that are damaged or made to deceive: one line, exit 3, little memory."""

from __future__ import annotations

import io
import json
import pickle
import random
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchanged import language, network
from faults.hostile import mutant, watched
from support import fails, run

import charlstm
from charlstm.exchange.exports import parts
from charlstm.exchange.safetensors import MOST_HEADER, File, pack, unpack

Header = dict[str, Any]

MUTANTS = 300

for name in ("cli.import_", "exchange.imports"):  # before a hook watches what is run
    import_module(f"charlstm.{name}")

OWN = b"".join(parts(language(widths=(3,)), "safetensors"))
TORCH = b"".join(parts(language("gru", widths=(3,)), "torch"))

FIRST = "rnn.weight_ih_l0"
"""The first array of `TORCH`."""


def split(file: bytes) -> tuple[Header, bytes]:
    """Header and numbers of a file."""
    end = 8 + int.from_bytes(file[:8], "little")
    return json.loads(file[8:end]), file[end:]


def joined(header: Header | bytes, numbers: bytes) -> bytes:
    """A file of a header, which is written as JSON or as it is, and numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def with_place(**changes: Any) -> bytes:
    """`TORCH` with other values in the place of its first array."""
    header, numbers = split(TORCH)
    header[FIRST] |= changes
    return joined(header, numbers)


def with_texts(changes: Mapping[str, str | None], file: bytes = TORCH) -> bytes:
    """A file with other metadata; None: without."""
    header, numbers = split(file)
    texts = {**header["__metadata__"], **changes}
    header["__metadata__"] = {name: text for name, text in texts.items() if text is not None}
    return joined(header, numbers)


def with_config(**changes: Any) -> bytes:
    """`TORCH` with other values of keys of the section `model`."""
    config = json.loads(split(TORCH)[0]["__metadata__"]["config"])
    config["model"] |= changes
    return with_texts({"config": json.dumps(config)})


def packed(arrays: dict[str, Any], texts: dict[str, str], digest: bool = False) -> bytes:
    return b"".join(pack(File(arrays, texts), digest))


def poisoned(value: float) -> bytes:
    return TORCH[:-4] + np.float32(value).tobytes()


Case = tuple[str, bytes, str]
"""What a file is called, its bytes, and a part of what is said of it."""

HEADER, NUMBERS = split(TORCH)
TEXTS = HEADER["__metadata__"]
PLACES = {name: place for name, place in HEADER.items() if name != "__metadata__"}
OWN_TEXTS = split(OWN)[0]["__metadata__"]


def zipped() -> bytes:
    """What `torch.save` writes: an archive with a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(1))
    return file.getvalue()


def bad_headers() -> Iterator[Case]:
    header, numbers = HEADER, NUMBERS
    text = json.dumps(header).encode()
    yield "empty", b"", "an empty file"
    yield "a length alone", TORCH[:8], "not a safetensors file"
    yield "seven bytes", TORCH[:7], "not a safetensors file"
    yield "a text", b"Once upon a time there was a ferry.", "not a safetensors file"
    yield "a pickle", pickle.dumps(network()), "not a safetensors file"
    yield "a file of torch.save", zipped(), "not a safetensors file"
    yield "no header", bytes(8) + numbers, "not a safetensors file"
    yield "a header of nothing", joined({}, b""), "no recurrent layer"
    yield "a header of a list", joined(b"[]", numbers), "not a safetensors file"
    yield "a header behind a space", joined(b" " + text, numbers), "not a safetensors file"
    yield "a header that is cut", joined(text[:-1], numbers), "not JSON"
    yield "a header and more", joined(text + b"}", numbers), "not JSON"
    yield "a header that is not UTF-8", joined(text[:-1] + b"\xff}", numbers), "not UTF-8"
    yield "a header too long", b"\xff" * 7 + b"\x7f" + TORCH[8:], "longer than the file"
    yield "a header as long as all", len(TORCH).to_bytes(8, "little") + TORCH[8:], "longer than"
    yield "a huge header", joined(text + b" " * MOST_HEADER, numbers), "is too long"
    yield "a huge number", joined(b'{"a": ' + b"1" * 100_000 + b"}", numbers), "not JSON"
    yield "deep nesting", joined(b'{"a":' * 2000 + b"1" + b"}" * 2000, b""), "not JSON"
    yield "deeper nesting", joined(b'{"a":' * 300_000, b""), "more than 10,000 parts"
    yield "many names", joined(b"{" + b'"":0,' * 9_000, b""), "more than 10,000 parts"
    yield "an open string", joined(b'{"' + b'\\"' * 1_000_000, b""), "not JSON"
    yield "a name twice", joined(text[:-1] + b', "linear.bias": 1}', numbers), "a key twice"
    doubled = text.replace(b'"dtype": "F32"', b'"dtype": "F32", "dtype": "F32"', 1)
    yield "a key of a place twice", joined(doubled, numbers), "a key twice"


def bad_places() -> Iterator[Case]:
    header, numbers = HEADER, NUMBERS
    begin, end = header[FIRST]["data_offsets"]
    rows, n = header[FIRST]["shape"]
    metadata: Any
    offsets: Any
    shape: Any
    place: Any
    for what, metadata in {"a list": [], "null": None, "a text": "", "a number": {"a": 1}}.items():
        changed = {**PLACES, "__metadata__": metadata}
        yield f"metadata of {what}", joined(changed, numbers), "its metadata are not texts"
    for what in ("dtype", "shape", "data_offsets"):
        bare = {k: v for k, v in header[FIRST].items() if k != what}
        yield f"no {what}", joined({**header, FIRST: bare}, numbers), "no type, shape and place"
    yield "a key more", with_place(stride=1), "no type, shape and place"
    for what, place in {"null": None, "a list": [1, 2, 3], "a number": 7, "a text": "x"}.items():
        yield f"a place of {what}", joined({**header, FIRST: place}, numbers), "no type, shape"
    for dtype in ("F64", "F16", "BF16", "I64", "U8", "F8_E4M3", "f32", "", "X\n\x1b[31m", 4, None):
        yield f"type {dtype!r}", with_place(dtype=dtype), "is of type"
    for shape in ([rows, n, 0], [0], [-rows, -n], [float(rows), n], [True] * 3, [[rows, n]], "ab"):
        yield f"shape {shape}", with_place(shape=shape), "not one of whole numbers"
    for shape in (None, {}, 3, [1] * 9, [2**53, 1]):
        yield f"shape {shape}", with_place(shape=shape), "not one of whole numbers"
    single = with_place(shape=[], data_offsets=[begin, begin + 4])
    yield "a single number", single, "is a single number, not an array"
    for shape in ([rows, n + 1], [rows - 1, n], [], [2**50, 2**50], [2**52] * 8):
        yield f"shape {shape}", with_place(shape=shape), "not as long as its shape"
    for shape in ([n, rows], [rows * n], [1, rows, n], [rows, n, 1]):
        yield f"shape {shape}", with_place(shape=shape), ""
    for offsets in (
        [begin],
        [begin, end, end],
        [-4, end - 4],
        [0.0, end],
        None,
        {},
        "ab",
        [0, "1"],
    ):
        yield f"offsets {offsets}", with_place(data_offsets=offsets), "not one of whole numbers"
    for offsets in ([end, begin], [begin, end + 4], [begin, 2**50], [2**50, 2**50 + 4], [0, 0]):
        yield f"offsets {offsets}", with_place(data_offsets=offsets), "outside the file"
    yield "an overlap", with_place(data_offsets=[begin + 4, end + 4]), "one behind the other"
    yield "one place twice", joined({**header, "x.bias": header[FIRST]}, numbers), "one behind"
    shifted = {
        name: {**place, "data_offsets": [at + 4 for at in place["data_offsets"]]}
        for name, place in PLACES.items()
    }
    with_hole = joined({**shifted, "__metadata__": TEXTS}, bytes(4) + numbers)
    yield "a hole at the beginning", with_hole, "one behind the other"
    yield "a byte more", TORCH + b"\0", "not to its end"
    yield "a file behind it", TORCH + TORCH, "not to its end"
    yield "a byte less", TORCH[:-1], "outside the file"
    yield "no numbers", joined(header, b""), "outside the file"


def bad_weights() -> Iterator[Case]:
    for value in (np.nan, np.inf, -np.inf):
        yield f"the number {value}", poisoned(value), "'linear.bias' holds numbers that are not"

    weights = unpack(TORCH).arrays
    for name in weights:
        less = packed({k: w for k, w in weights.items() if k != name}, TEXTS)
        if "bias" not in name:
            yield f"{name} is missing", less, ""
        yield f"{name} is renamed", packed({**unpack(less).arrays, "x": weights[name]}, TEXTS), ""
    yield "an array more", packed({**weights, "norm.bias": np.ones(3, np.float32)}, TEXTS), ""
    own_arrays = unpack(OWN).arrays
    plain = {name: text for name, text in OWN_TEXTS.items() if name != "sha256"}
    for name in own_arrays:
        less_own = {k: w for k, w in own_arrays.items() if k != name}
        said = "no recurrent layer" if name == "by" else f"{name} is missing"
        yield f"{name} is missing", packed(less_own, plain, True), said
    more = {**own_arrays, "layer1.Wx": own_arrays["layer0.Wx"]}
    yield "a weight more", packed(more, plain, True), "'layer1.Wx' is not a weight"
    turned = {**own_arrays, "Wy": np.ascontiguousarray(own_arrays["Wy"].T)}
    yield "a weight turned", packed(turned, plain, True), "Wy has the shape"
    flat = {**own_arrays, "by": own_arrays["by"][None]}
    yield "a matrix for by", packed(flat, plain, True), "has the shape"
    yield "no digest", packed(own_arrays, plain), "without a digest"


def bad_texts() -> Iterator[Case]:
    own = OWN_TEXTS
    units, counts = json.loads(TEXTS["vocabulary"]), json.loads(TEXTS["counts"])
    for digest in ("0" * 64, own["sha256"].upper(), "", '"', own["sha256"] + "0"):
        yield (
            f"digest {digest[:3]}",
            with_texts({"sha256": digest}, OWN),
            "its digest does not match",
        )
    yield (
        "the digest of another",
        with_texts({"sha256": own["sha256"]}),
        "its digest does not match",
    )
    yield (
        "a later version",
        with_texts({"charlstm": "2"}),
        "are of version '2'; this program reads 1",
    )
    for name in ("unit", "normalize", "vocabulary", "counts", "config"):
        yield f"no {name}", with_texts({name: None}), ""
        yield f"an empty {name}", with_texts({name: ""}), ""
        yield f"a long {name}", with_texts({name: "[" * 100_000}), ""
        yield f"{name} of null", with_texts({name: "null"}), ""
        yield f"{name} of {{}}", with_texts({name: "{}"}), ""
    yield "an unknown key", with_config(color=1), "unknown key"
    yield "another width", with_config(hidden=4), "not as its configuration says"
    yield "a huge width", with_config(embedding=65536), "not as its configuration says"
    yield "another cell", with_config(cell="lstm"), "not as its configuration says"
    yield "64 layers", with_config(layers=64), "not as its configuration says"
    yield "tied", with_config(tie=True), "model.tie"
    yield "no cell at all", with_config(cell="code\n"), "expected one of lstm, gru, rnn"
    for what, wrong in {
        "reversed": [*reversed(units)],
        "short": units[:-1],
        "long": [*units, "\U0001f600"],
        "twice": [*units[:-1], units[0]],
        "of numbers": list(range(len(units))),
        "of words": [*units[:-1], "zz"],
        "with a surrogate": [*units[:-1], "\udfff"],
        "of lists": [[unit] for unit in units],
    }.items():
        yield f"a vocabulary {what}", with_texts({"vocabulary": json.dumps(wrong)}), ""
    for what, numbers_ in {
        "short": counts[:-1],
        "negative": [-1, *counts[1:]],
        "zero": [0, *counts[1:]],
        "fractions": [0.5, *counts[1:]],
        "flags": [True, *counts[1:]],
        "huge": [2**52, *counts[1:-1], 2**52],
        "larger": [2**70, *counts[1:]],
    }.items():
        yield f"counts {what}", with_texts({"counts": json.dumps(numbers_)}), ""
    yield "counts not a number", with_texts({"counts": json.dumps([float("nan"), *counts[1:]])}), ""


CASES = [*bad_headers(), *bad_places(), *bad_weights(), *bad_texts()]
TABLE = {name: (file, said) for name, file, said in CASES}


def test_the_table_has_its_cases() -> None:
    assert len(TABLE) > 150


@pytest.mark.parametrize("name", TABLE)
def test_a_named_case(name: str, tmp_path: Path) -> None:
    """One line, which shows no control characters, exit 3, no output, and nothing is run."""
    file, said = TABLE[name]
    path = tmp_path / "m.st"
    path.write_bytes(file)
    with watched() as seen:
        line = fails(run("import", path, "-o", tmp_path / "m.npz"), 3, f"{path}: ", said)
    assert seen == []
    assert line.isprintable()
    assert len(line) < 700
    assert not (tmp_path / "m.npz").exists()


def test_no_mutant_of_an_export_is_taken(tmp_path: Path) -> None:
    """Its digest finds any change."""
    rng, path = random.Random(7), tmp_path / "m.st"
    for _ in range(MUTANTS):
        data = mutant(OWN, rng)
        while data == OWN:
            data = mutant(OWN, rng)
        path.write_bytes(data)
        with watched() as seen:
            fails(run("import", path, "-o", tmp_path / "m.npz"), 3, f"{path}: ")
        assert seen == []
    assert [each.name for each in tmp_path.iterdir()] == ["m.st"]
    path.write_bytes(OWN)
    assert run("import", path, "-o", tmp_path / "m.npz").returncode == 0


def test_a_mutant_without_a_digest_is_refused_or_a_model(tmp_path: Path) -> None:
    """Other numbers are another model; whatever else has changed is one line."""
    rng, path, output = random.Random(8), tmp_path / "m.st", tmp_path / "m.npz"
    header_end = len(TORCH) - len(split(TORCH)[1])
    taken = 0
    for n in range(MUTANTS):
        data = mutant(TORCH[:header_end], rng) + TORCH[header_end:] if n % 2 else mutant(TORCH, rng)
        path.write_bytes(data)
        process = run("import", path, "-o", output)
        if process.returncode:
            fails(process, 3, f"{path}: ")
        else:
            taken += 1
            assert np.isfinite(charlstm.load(output).checkpoint.best).all()
            output.unlink()
    assert 0 < taken < MUTANTS // 2


# --- memory --------------------------------------------------------------------------------------


def large() -> tuple[dict[str, Any], dict[str, str]]:
    """Weights of 40 MB."""
    V, D, H = 9000, 400, 500
    rng = np.random.default_rng(0)
    shapes = {
        "embedding.weight": (V, D),
        "rnn.weight_ih_l0": (4 * H, D),
        "rnn.weight_hh_l0": (4 * H, H),
        "linear.weight": (V, H),
        "linear.bias": (V,),
    }
    arrays = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    return arrays, {}


def peak(path: Path, vocabulary: Path, output: Path | None = None) -> int:
    """Bytes that an import has at once at most, and whether it succeeds is all the same."""
    tracemalloc.start()
    try:
        charlstm.import_model(path, output, vocabulary=vocabulary)
    except charlstm.CheckpointError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def test_memory_stays_within_twice_the_file(tmp_path: Path) -> None:
    """And a few megabytes, of a file that is refused early, late or not at all."""
    arrays, texts = large()
    good = packed(arrays, texts)
    vocabulary = tmp_path / "units.json"
    units = [chr(point) for point in range(0x4E00, 0x4E00 + 9000)]
    vocabulary.write_text(json.dumps(units), encoding="utf-8")
    numbers = split(good)[1]
    cases = {
        "good": good,
        "cut": good[:-1],
        "poisoned": good[:-4] + np.float32(np.nan).tobytes(),
        "surplus": packed({**arrays, "x.weight": np.ones((3, 3), np.float32)}, texts),
        "gates": packed({**arrays, "rnn.weight_hh_l0": arrays["rnn.weight_hh_l0"][:700]}, texts),
        "long header": joined(b"{" + b" " * (MOST_HEADER - 1), numbers),
        "many tokens": joined(b'{"a":[' + b"{}," * (MOST_HEADER // 4), numbers),
        "wide text": joined(
            json.dumps({"__metadata__": {"a": "x" * (MOST_HEADER - 99) + "\U0001f6a2"}}).encode(),
            b"",
        ),
    }
    path = tmp_path / "m.st"
    for name, data in cases.items():
        path.write_bytes(data)
        most = peak(path, vocabulary, tmp_path / f"{name}.npz")
        assert most < 2 * len(data) + (32 << 20), f"{name}: {most:,} for {len(data):,}"
    assert [each.name for each in tmp_path.glob("*.npz")] == ["good.npz"]
    assert len(charlstm.load(tmp_path / "good.npz").vocabulary) == 9000
