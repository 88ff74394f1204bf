"""Unicode's normal forms, of texts and of texts that come in blocks."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache


def normalised(text: str, form: str) -> str:
    """A text in one of Unicode's normal forms, "nfc", "nfd" or "nfkc"; "none" leaves it alone."""
    return text if form == "none" else unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]


@cache
def _seconds() -> frozenset[str]:
    """Characters that are composed with one before them: vowels and final consonants of Hangul,
    which are composed by rule, and the second halves of all pairs that Unicode's data lists."""
    found = {chr(p) for p in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for p in range(sys.maxunicode + 1):
        pair = unicodedata.decomposition(chr(p)).split()
        if len(pair) == 2 and not pair[0].startswith("<"):
            found.add(chr(int(pair[1], 16)))
    return frozenset(found)


def begins_anew(character: str) -> bool:
    """Whether, in every normal form, what stands before a character has no part in what becomes
    of it, nor the character in what becomes of that: then a text may be cut before it."""
    if character.isascii():
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    return not unicodedata.combining(first) and first not in _seconds()


def normalised_blocks(texts: Iterable[str], form: str) -> Iterator[str]:
    """A text that comes in blocks, in a normal form: together what `normalised` gives."""
    if form == "none":
        yield from texts
        return
    waiting: list[str] = []  # what the text goes on with may still change the end of it
    for text in texts:
        at = len(text) - 1
        while at >= 0 and not begins_anew(text[at]):
            at -= 1
        if at >= 0:
            yield normalised("".join([*waiting, text[:at]]), form)
            waiting = []
        waiting.append(text[max(at, 0) :])
    yield normalised("".join(waiting), form)
