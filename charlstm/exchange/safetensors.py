"""Arrays in a safetensors file, which other programs read without running code.

The file (github.com/huggingface/safetensors, README) is the length of a header, eight bytes,
little-endian; the header, a JSON object that has type, shape and place of each array by its name
and texts by theirs in `__metadata__`; and the numbers of all arrays, one directly behind the other.

Such a file may come from anywhere. The reader takes nothing on trust, and needs little more memory
than the file. Equal contents are equal bytes. Under the name `sha256` the metadata may have a
digest: that of the whole file with zeros in the digest's place.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from charlstm.nn.arrays import Array

MOST_HEADER = 4 << 20
"""Bytes of a header: room for hundreds of thousands of words. As text, it may take four times as
much memory."""

MOST_TOKENS = 10_000
"""Of the JSON of a header or a configuration, each of which may become an object: several times as
many as 64 layers take."""

TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[\]{},:]', re.DOTALL)

NO_DIGEST = "0" * 64


class Refused(Exception):
    """Why a file is not imported."""


def plain_json(text: str, most: int, what: str) -> Any:
    """A JSON document of at most so many tokens: strings and punctuation. Raises `Refused`, which
    calls the document `what`, for anything else, and where a key comes twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            raise Refused(f"{what} has a key twice")
        return document

    if any(n >= most for n, _ in enumerate(TOKEN.finditer(text))):
        raise Refused(f"{what} has more than {most:,} parts")
    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Refused(f"{what} is not JSON") from None


class File(NamedTuple):
    """What a file holds."""

    arrays: dict[str, Array]
    metadata: dict[str, str]


def pack(file: File, digest: bool = False) -> Iterator[bytes | memoryview]:
    """The parts of a file of float32 arrays, in their order; on request with a digest in its
    metadata. Raises `Refused` where the metadata are longer than a reader takes."""
    metadata = {**file.metadata, **({"sha256": NO_DIGEST} if digest else {})}
    document: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, array in file.arrays.items():
        place = {"dtype": "F32", "shape": array.shape, "data_offsets": (at, at + array.nbytes)}
        document[name], at = place, at + array.nbytes
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers begin at a multiple of eight
    if len(text) > MOST_HEADER:
        raise Refused(f"its vocabulary takes more than {MOST_HEADER:,} bytes")
    header = len(text).to_bytes(8, "little") + text
    numbers = [_bytes(array) for array in file.arrays.values()]
    if digest:
        sha = hashlib.sha256(header)
        for part in numbers:
            sha.update(part)
        header = header.replace(_quoted(NO_DIGEST), _quoted(sha.hexdigest()), 1)
    yield header
    yield from numbers


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data


def _quoted(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def unpack(data: bytes) -> File:
    """Read a file of float32 arrays; they are views of its bytes. Raises `Refused` for anything
    that the format forbids, for other types, and for numbers that are not finite."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{":
        raise Refused("not a safetensors file" if data else "an empty file")
    if length > min(len(data) - 8, MOST_HEADER):
        over = "is longer than the file" if length > len(data) - 8 else "is too long"
        raise Refused(f"its header of {length:,} bytes {over}")
    try:
        text = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("its header is not UTF-8") from None
    document = plain_json(text, MOST_TOKENS, "its header")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Refused("its metadata are not texts")
    if "sha256" in metadata:
        _check_digest(data, 8 + length, metadata["sha256"])
    numbers = memoryview(data)[8 + length :]
    arrays = {name: _array(name, place, numbers) for name, place in document.items()}
    ends = sorted(tuple(place["data_offsets"]) for place in document.values())
    if [0, *(end for _, end in ends)] != [*(begin for begin, _ in ends), len(numbers)]:
        raise Refused("its arrays do not lie one behind the other, or not to its end")
    return File(arrays, metadata)


def _check_digest(data: bytes, start: int, digest: str) -> None:
    """Raise `Refused` where the digest is not that of a file whose numbers begin at `start`."""
    sha = hashlib.sha256(data[:start].replace(_quoted(digest), _quoted(NO_DIGEST), 1))
    sha.update(memoryview(data)[start:])
    if sha.hexdigest() != digest:
        raise Refused("its digest does not match its contents")


def _array(name: str, place: Any, numbers: memoryview) -> Array:
    """The array at a place, as a header describes it."""
    if not isinstance(place, dict) or place.keys() != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"{shown(name)} has no type, shape and place")
    shape, places = place["shape"], place["data_offsets"]
    if not (_are_counts(shape, 1) and _are_counts(places, 0) and len(places) == 2):
        raise Refused(f"the shape or the place of {shown(name)} is not one of whole numbers")
    if place["dtype"] != "F32":
        raise Refused(f"{shown(name)} is of type {shown(place['dtype'])}; save it as float32 (F32)")
    begin, end = places
    if not 0 <= begin <= end <= len(numbers) or end - begin != 4 * math.prod(shape):
        where = "is outside the file, or not as long as its shape says"
        raise Refused(f"{shown(name)} {where}")
    if not shape:
        raise Refused(f"{shown(name)} is a single number, not an array")
    array = np.frombuffer(numbers[begin:end], "<f4").reshape(shape)
    if not np.isfinite(array).all():
        raise Refused(f"{shown(name)} holds numbers that are not finite")
    return array


def _are_counts(values: Any, low: int) -> bool:
    """Whether a value of JSON is a list of a few whole numbers from `low` up."""
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and low <= value < 2**53 for value in values)
    )


def shown(name: Any) -> str:
    """A name from a file, as a message shows it."""
    return f"{name!r:.80}" if isinstance(name, str) else "something else"
