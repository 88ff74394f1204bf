"""Decoders of the encodings that files are in, or are said to be in."""

from __future__ import annotations

import codecs
import sys

UNSTREAMED = ("idna", "punycode", "unicode-escape")
"""Encodings whose incremental decoders in Python lose their way between two blocks."""

MARKS = {
    "utf-16": {codecs.BOM_UTF16_LE: "-le", codecs.BOM_UTF16_BE: "-be"},
    "utf-32": {codecs.BOM_UTF32_LE: "-le", codecs.BOM_UTF32_BE: "-be"},
}
"""Byte order marks of encodings that have two orders, and the order that each stands for."""

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
"""Encodings whose names are given to files of their larger successors, by which they are decoded;
browsers do the same."""

CODE_PAGES = ("cp1252", "cp1254", "cp874")
"""Of these, encodings of one byte a character. A byte that they leave undefined is the control
character that it was before them, so that any file can be decoded as it could be then."""


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
decoded in any encoding. Unlike `ESCAPED` it does so with bytes below 0x80, too, and the way back
is closed."""


def _escape_bytes(e: UnicodeError) -> tuple[str, int]:
    if not isinstance(e, UnicodeDecodeError):
        raise e
    return "".join(chr(0xDC80 | byte) for byte in e.object[e.start : e.end]), e.end


codecs.register_error(BYTE_ESCAPES, _escape_bytes)


def in_order(encoding: str, beginning: bytes) -> str:
    """An encoding with the byte order of a file that begins so. A file without a mark is in the
    order of this machine, as it is for `bytes.decode`."""
    encoding = codecs.lookup(encoding).name
    for mark, order in MARKS.get(encoding, {}).items():
        if beginning.startswith(mark):
            return encoding + order
    native = "-le" if sys.byteorder == "little" else "-be"
    return encoding + native if encoding in MARKS else encoding


def decoder_of(encoding: str, beginning: bytes) -> codecs.IncrementalDecoder:
    """A decoder for a file, by its encoding and its first bytes."""
    name = codecs.lookup(encoding).name
    if any(beginning.startswith(mark) for mark in MARKS.get(name, {})):
        return incremental(name)  # which drops the mark
    return incremental(in_order(name, beginning))
