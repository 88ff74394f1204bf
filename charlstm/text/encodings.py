"""Encodings: decoders, and guesses about files that are in another one than is stated."""

import codecs
import re
import sys
import unicodedata

UNSTREAMED = ("idna", "punycode", "unicode-escape")
"""Encodings whose incremental decoders in Python fail between two blocks."""

MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order marks, and the encodings of the text after them."""

TWO_ORDERS = ("utf-16", "utf-32")
"""Encodings whose byte order a mark gives. Without one it is the machine's."""

SUPERSETS = {
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
}
"""Encodings and their larger successors, whose files often carry the smaller one's name. The
successor decodes both, as in browsers."""

CODE_PAGES = ("cp1252", "cp1254", "cp874")
"""The successors of one byte a character. A byte that they leave undefined is the control character
that it was in the smaller encoding, so that every file of that can be decoded."""


class _CodePage(codecs.IncrementalDecoder):
    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__(errors)
        self.table = "".join(  # U+FFFE: undefined, for charmap_decode
            c if c != "\ufffd" else chr(byte) if byte < 0xA0 else "\ufffe"
            for byte, c in enumerate(bytes(range(256)).decode(encoding, "replace"))
        )

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]
        return codecs.charmap_decode(data, self.errors, self.table)[0]


def incremental(encoding: str, errors: str = "strict") -> codecs.IncrementalDecoder:
    """A decoder for an encoding, by the name that `codecs.lookup` has for it."""
    larger = SUPERSETS.get(encoding, encoding)
    if encoding in SUPERSETS and larger in CODE_PAGES:
        return _CodePage(larger, errors)
    return codecs.getincrementaldecoder(larger)(errors)


BYTE_ESCAPES = "charlstm-byte-escapes"
"""The error handler that makes a lone surrogate, U+DC80 to U+DCFF, of each byte that cannot be
decoded. Unlike "surrogateescape" it takes bytes below 0x80, too, and has no way back."""


def _escape_bytes(e: UnicodeError) -> tuple[str, int]:
    if not isinstance(e, UnicodeDecodeError):
        raise e
    return "".join(chr(0xDC80 | byte) for byte in e.object[e.start : e.end]), e.end


codecs.register_error(BYTE_ESCAPES, _escape_bytes)


def _marked(name: str, beginning: bytes) -> str | None:
    """The encoding with the byte order that a mark gives to a file; None where there is none."""
    marked = (MARKS[mark] for mark in MARKS if beginning.startswith(mark))
    return next((encoding for encoding in marked if encoding[:-3] == name), None)


def in_order(encoding: str, beginning: bytes) -> str:
    """An encoding with the byte order of a file that begins so."""
    name = codecs.lookup(encoding).name
    native = "-le" if sys.byteorder == "little" else "-be"
    return _marked(name, beginning) or (name + native if name in TWO_ORDERS else name)


def decoder_of(encoding: str, beginning: bytes) -> codecs.IncrementalDecoder:
    """A decoder for a file, by its encoding and its first bytes. It drops the mark of an encoding
    that has two orders."""
    name = codecs.lookup(encoding).name
    return incremental(name if _marked(name, beginning) else in_order(name, beginning))


# Guesses about files that are no text in the stated encoding. A wrong one costs a user's trust. So
# every rule asks for what no ordinary text of any script, no source code and no log has.

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

WIDE = (*MARKS.values(), *TWO_ORDERS)
"""Encodings of two or four bytes a character."""

BLANKS = " \n\r\t"

CONTROLS = frozenset(map(chr, (*range(32), *range(0x7F, 0xA0)))) - set("\t\n\v\f\r\b\x1b\x85")
"""Control characters that text seldom has: all but those that lay text out or colour it."""

SHARE, KINDS = 0.05, 8
"""The least share of control characters, and the fewest kinds of them, that make data binary. Text
whose fields a control character separates has many, but of one or two kinds."""

CERTAIN = 8
"""Bytes outside ASCII that make it certain that data which can be UTF-8 is UTF-8; of a file that
is read in a wide encoding, bytes of any kind."""


def likely_cause(beginning: bytes, encoding: str | None) -> str | None:
    """What a file that begins so seems to be, and what to do; None where it may be text in that
    encoding. Without an encoding every byte is data, and only compressed data, which no model can
    learn, has a cause."""
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
        remedy = f"if so, --set text.encoding={other}"
        return f"seems to be {other.upper()} and is read as {encoding}; {remedy}"
    try:
        text = beginning.decode(encoding, "replace")
    except UnicodeError:  # some encodings have no such handler
        return None
    controls = [c for c in text if c in CONTROLS]
    if len(controls) < SHARE * len(text) or len(set(controls)) < KINDS:
        return None
    return (
        f"seems to be no text but binary data: {len(controls) / len(text):.0%} control "
        "characters; give a text, or train on its bytes with --set text.unit=byte"
    )


def _decoded(data: bytes, encoding: str) -> str | None:
    """The text of bytes that may end within a character; None where they aren't in the encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return None


def _wide(beginning: bytes, encoding: str) -> str | None:
    """The encoding of two or four bytes a character that a file is in, unless it is the stated
    one."""
    for mark, marked in MARKS.items():
        if beginning.startswith(mark):
            name = marked[:-3]  # without the order, which the mark gives
            return None if encoding.startswith(name) else name
    if b"\0" not in beginning:
        return None
    stated = in_order(encoding, beginning)
    if encoding in WIDE and _reads_well(beginning, stated):
        return None
    others = (name for name in MARKS.values() if name != stated)
    return next((name for name in others if _reads_well(beginning, name)), None)


def _reads_well(beginning: bytes, encoding: str) -> bool:
    """Whether bytes are text in an encoding: nearly all are assigned characters, and one in a
    hundred is a blank or a line end."""
    if (text := _decoded(beginning, encoding)) is None:
        return False
    kinds = [unicodedata.category(c) for c in text if c not in BLANKS]
    strange = sum(kind in ("Cc", "Cn", "Co") for kind in kinds)
    blanks = len(text) - len(kinds)
    return len(text) >= 4 and strange <= 0.01 * len(text) and blanks >= 0.01 * len(text)


def _utf8(beginning: bytes, encoding: str) -> bool:
    """Whether bytes are UTF-8, not by chance, and not ASCII in an encoding that has ASCII."""
    if _decoded(beginning, "utf-8") is None:
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
"""Frequent encodings in the order of the trials: characters that text in them has, and the least
share of these among all that are not ASCII."""

MOST_ACCENTED = 0.35
"""The largest share of characters outside ASCII in a text of Latin letters."""


def likely_encoding(data: bytes, encoding: str) -> str | None:
    """The encoding of bytes that are not in the stated one; None where no guess is good."""
    if encoding in WIDE or b"\0" in data:
        return None
    for name, (usual, share) in LEGACY.items():
        if name == encoding or (text := _decoded(data, name)) is None:
            continue
        strange = "".join(c for c in text if not c.isascii())
        if name == "utf-8":
            plausible = len(strange) * 3 >= CERTAIN
        else:
            expected = len(re.findall(f"[{usual}]", strange))
            plausible = expected > 0 and expected >= share * len(strange)
        if plausible and (name != "cp1252" or len(strange) <= MOST_ACCENTED * len(text)):
            return name
    return None
