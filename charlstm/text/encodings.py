"""Decoders of the encodings that files are in, or are said to be in."""

from __future__ import annotations

import codecs
import sys

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
"""Encodings whose byte order a mark gives. Without one it is the machine's, as for
`bytes.decode`."""

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
    """Decodes one of `CODE_PAGES`."""

    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__(errors)
        undefined = "\ufffe"  # for charmap_decode
        self.table = "".join(
            c if c != "\ufffd" else chr(byte) if byte < 0xA0 else undefined
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
    marks = (mark for mark in MARKS if name in TWO_ORDERS and MARKS[mark].startswith(name))
    return next((MARKS[mark] for mark in marks if beginning.startswith(mark)), None)


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
