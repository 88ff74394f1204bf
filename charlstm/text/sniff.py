"""What a file seems to be, by its first bytes, where that is not text in the stated encoding.

A wrong guess costs a user's trust, so every rule asks for what ordinary text of any script, source
code and logs do not have.
"""

from __future__ import annotations

import codecs
import re
import sys
import unicodedata

MAGIC = {
    b"\x1f\x8b\x08": ("gzip-compressed data", "unpack it first: gzip -d"),
    b"PK\x03\x04": ("a zip archive", "unpack it first: unzip (a .docx or .odt: save it as text)"),
    b"BZh": ("bzip2-compressed data", "unpack it first: bzip2 -d"),
    b"\xfd7zXZ\x00": ("xz-compressed data", "unpack it first: xz -d"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed data", "unpack it first: zstd -d"),
    b"\x04\x22\x4d\x18": ("lz4-compressed data", "unpack it first: lz4 -d"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it first: 7z x"),
    b"%PDF-": ("a PDF document", "make text of it first: pdftotext"),
    b"\x89PNG\r\n": ("a PNG picture", "give a text"),
    b"\xff\xd8\xff": ("a JPEG picture", "give a text"),
}
"""First bytes of files whose contents are compressed: what such a file is, and what to do."""

MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and the encodings that read them."""

WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be", "utf-16", "utf-32")
"""Encodings of two or four bytes a character."""

BLANKS = " \n\r\t"

CONTROLS = frozenset(map(chr, (*range(32), *range(0x7F, 0xA0)))) - set("\t\n\v\f\r\b\x1b\x85")
"""Characters that text seldom has: control characters but those that lay text out or colour it."""

SHARE, KINDS = 0.05, 8
"""Binary data: at least so large a share of control characters, and so many different ones. Text
whose fields a control character separates has many of one or two kinds."""

CERTAIN = 8
"""Bytes outside ASCII, or of what is no ASCII in a wide encoding, that make it certain that what
can be UTF-8 is UTF-8."""


def likely_cause(beginning: bytes, encoding: str | None) -> str | None:
    """What a file that begins so seems to be, and what to do; None where nothing speaks against
    text in that encoding. Without an encoding the file is one of bytes, and only compressed data,
    which no model can learn, is named."""
    for magic, (what, remedy) in MAGIC.items():
        if beginning.startswith(magic) and (magic != b"BZh" or beginning[4:10] == b"1AY&SY"):
            return f"seems to be {what}, which cannot be learnt; {remedy}"
    if encoding is None:
        return None
    encoding = codecs.lookup(encoding).name
    other = _wide(beginning, encoding)
    if other is None and not encoding.startswith("utf-8") and _utf8(beginning, encoding):
        other = "utf-8"
    if other is not None:
        return (
            f"seems to be {other.upper()} and is read as {encoding}; "
            f"if so, --set text.encoding={other}"
        )
    try:
        text = beginning.decode(encoding, "replace")
    except UnicodeError:  # some encodings have no such handler
        return None
    controls = [c for c in text if c in CONTROLS]
    if len(controls) >= SHARE * len(text) and len(set(controls)) >= KINDS:
        return (
            f"seems to be no text but binary data: {len(controls) / len(text):.0%} control "
            "characters; give a text, or train on its bytes with --set text.unit=byte"
        )
    return None


def _wide(beginning: bytes, encoding: str) -> str | None:
    """The encoding of two or four bytes a character that a file is in, where it is not read so."""
    for mark, name in MARKS.items():
        if beginning.startswith(mark):
            return None if encoding.startswith(name) else name
    if b"\0" not in beginning:
        return None
    native = "le" if sys.byteorder == "little" else "be"
    read_as = f"{encoding}-{native}" if encoding in ("utf-16", "utf-32") else encoding
    if encoding in WIDE and _reads_well(beginning, read_as):
        return None
    found = (name for name in WIDE if name not in ("utf-16", "utf-32") and name != read_as)
    return next((name for name in found if _reads_well(beginning, name)), None)


def _reads_well(beginning: bytes, encoding: str) -> bool:
    """Whether bytes make text in an encoding: assigned characters, a blank or line end among a
    hundred."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(beginning)
    except UnicodeDecodeError:
        return False
    kinds = [unicodedata.category(c) for c in text if c not in BLANKS]
    strange = sum(kind in ("Cc", "Cn", "Co") for kind in kinds)
    blanks = len(text) - len(kinds)
    return len(text) >= 4 and strange <= 0.01 * len(text) and blanks >= 0.01 * len(text)


def _utf8(beginning: bytes, encoding: str) -> bool:
    """Whether bytes are UTF-8, not by chance, and not ASCII in an encoding that has ASCII."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    if encoding in WIDE:
        return b"\0" not in beginning and len(beginning) > CERTAIN
    return sum(byte >= 0x80 for byte in beginning) >= CERTAIN


LEGACY = {
    "utf-8": ("", 0.0),
    "cp949": ("\uac00-\ud7a3", 0.5),
    "euc_jp": ("\u3041-\u30fe", 0.3),
    "cp932": ("\u3041-\u30fe", 0.3),
    "gb18030": ("\u4e00-\u9fff\u3000-\u303f\uff01-\uff5e", 0.9),
    "cp1252": ("\u00c0-\u00ff\u2013-\u2026\u20ac", 0.9),
}
"""Encodings that files are often in, in the order that they are tried in: characters that text in
them has, and the least share that these are of what is not ASCII."""

FEW = 0.35
"""The most that is not ASCII in a text of Latin letters."""


def likely_encoding(data: bytes, encoding: str) -> str | None:
    """The encoding that bytes, which are not in the stated one, seem to be in."""
    if encoding in WIDE or b"\0" in data:
        return None
    for name, (usual, share) in LEGACY.items():
        try:
            text = codecs.getincrementaldecoder(name)().decode(data)
        except UnicodeDecodeError:
            continue
        strange = [c for c in text if not c.isascii()]
        if name == "utf-8":
            plausible = len(strange) * 3 >= CERTAIN
        else:
            found = len(re.findall(f"[{usual}]", "".join(strange)))
            plausible = found > 0 and found >= share * len(strange)
        if name == "cp1252":
            plausible = plausible and len(strange) <= FEW * len(text)
        if plausible and name != encoding:
            return name
    return None
