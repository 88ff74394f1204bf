"""The archive around a checkpoint's arrays: the bytes that zipfile writes, and no others."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest

from charlstm.storage.archive import ANY, LIMIT, BadArchive, Member, directory, pack, unpack

MEMBERS = {"a.npy": b"some bytes", "b/c.npy": b"", "d.npy": bytes(1000)}


def packed() -> bytes:
    out: list[bytes | memoryview] = []
    pack(((name, [data[:4], data[4:]]) for name, data in MEMBERS.items()), out.append)
    return b"".join(out)


def info(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    made.create_system, made.external_attr = 3, 0o644 << 16
    return made


def test_the_bytes_of_zipfile() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(info(name), data)
    assert packed() == file.getvalue()
    assert {name: bytes(data) for name, data in unpack(packed())} == MEMBERS


SIZES = [0, int(LIMIT / 1.05), int(LIMIT / 1.05) + 1, LIMIT, LIMIT + 1, ANY, ANY + 1, 1 << 40]


@pytest.mark.parametrize("offset", [0, LIMIT, LIMIT + 1, 1 << 40])
@pytest.mark.parametrize("size", SIZES)
def test_the_records_of_large_files(size: int, offset: int) -> None:
    """Those too that no test could write are as zipfile makes them."""
    expected = info("a.npy")
    expected.file_size = expected.compress_size = size
    expected.CRC, expected.header_offset = 77, offset
    member = Member("a.npy", size, 77, offset)
    large = size * 1.05 > zipfile.ZIP64_LIMIT
    if large and size <= LIMIT and sys.version_info < (3, 11, 4):
        pytest.skip("this zipfile gives sizes between the margin and the limit no ZIP64 fields")
    assert member.local_header() == expected.FileHeader(large)

    class Far(io.BytesIO):
        def tell(self) -> int:
            return offset + super().tell()

    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        archive.filelist, archive.start_dir = [expected], offset
        real, archive.fp = archive.fp, Far()
        archive._write_end_record()  # type: ignore[attr-defined]
        written, archive.fp = archive.fp.getvalue(), real
        archive.filelist, archive.start_dir = [], 0
    assert directory([member], offset) == written


def test_every_byte_counts() -> None:
    """Any other value of any byte outside the contents is refused; in them a checksum sees it."""
    data = packed()
    for at in range(len(data)):
        for value in {0, 255, data[at] ^ 1, data[at] ^ 0x80} - {data[at]}:
            with pytest.raises(BadArchive):
                list(unpack(data[:at] + bytes([value]) + data[at + 1 :]))
    for end in range(len(data)):
        with pytest.raises(BadArchive):
            list(unpack(data[:end]))
    for other in (data + b"\0", b"\0" + data, data + data, data[:-2] + b"\1\0x"):
        with pytest.raises(BadArchive):
            list(unpack(other))
