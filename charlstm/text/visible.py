"""Escapes, as Python writes them, for what a reader cannot see in a text.

An entry of a table stands alone, so everything invisible or ambiguous in it is escaped. In running
text invisible characters have a function, as the joiners of Persian words and of emoji do. So they
stay there, and only what a terminal would obey is escaped.
"""

import unicodedata

IGNORABLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(
    map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
"""Letters and marks that show nothing: those of Unicode's Default_Ignorable_Code_Point that are
not of the category Cf, and the Braille pattern without dots."""

OBEYED = frozenset(map(chr, (*range(0x2028, 0x202F), *range(0x2066, 0x206A))))
"""What a terminal obeys beside control characters: line and paragraph separators, and controls of
direction that hold until another one. Marks of direction (U+200E, U+200F) are harmless."""

JOINER = "\u200d"


def escaped(text: str) -> str:
    """An entry of a table. Escapes replace what breaks it, hides in it or is ambiguous: controls,
    format characters, blanks other than the space, marks without a base, and backslashes."""
    parts, alone = [], True
    for c in text:
        mark = unicodedata.category(c)[0] == "M"
        hidden = c == "\\" or not c.isprintable() or c in IGNORABLE or (alone and mark)
        parts.append(ascii(c)[1:-1] if hidden else c)
        alone = hidden or c.isspace()
    return "".join(parts)


def harmless(text: str) -> str:
    """Running text for a terminal, with escapes for what it would obey but line ends and tabs.
    U+FFFD replaces bytes that are not UTF-8."""

    def shown(c: str) -> str:
        kind = unicodedata.category(c)
        obeyed = c in OBEYED or (kind == "Cc" and c not in "\n\t")
        return "\ufffd" if kind == "Cs" else ascii(c)[1:-1] if obeyed else c

    return "".join(map(shown, text))


def joins(before: str, text: str) -> bool:
    """Whether the first character of a text joins the shape of the text before it: a mark, a joiner
    and what follows one, a skin tone, an invisible letter."""
    if not before or not text or before[-1].isspace():
        return False
    c, kind = text[0], unicodedata.category(text[0])
    shapes = kind[0] == "M" or (kind == "Cf" and c not in OBEYED) or c in IGNORABLE
    return shapes or before.endswith(JOINER) or "\U0001f3fb" <= c <= "\U0001f3ff"
