"""Unicode's normal forms of texts, also of those that come in blocks."""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import cache


def normalised(text: str, form: str) -> str:
    """A text in one of Unicode's normal forms, "nfc", "nfd" or "nfkc"; "none" leaves it alone."""
    return text if form == "none" else unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]


@cache
def _seconds() -> frozenset[str]:
    """Characters that compose with one before them: vowels and final consonants of Hangul, which
    compose by rule, and the second halves of all pairs in Unicode's data."""
    seconds = {chr(p) for p in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for p in range(sys.maxunicode + 1):
        pair = unicodedata.decomposition(chr(p)).split()
        if len(pair) == 2 and not pair[0].startswith("<"):
            seconds.add(chr(int(pair[1], 16)))
    return frozenset(seconds)


def begins_anew(character: str) -> bool:
    """Whether a text may be cut before a character: in no normal form does the character change
    with the text before it, or that text with the character."""
    if character.isascii():
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    return not unicodedata.combining(first) and first not in _seconds()


def recut(texts: Iterable[str], may_cut: Callable[[str, int], bool]) -> Iterator[str]:
    """A text that comes in blocks, in blocks that end at the last place of each where `may_cut`
    allows it."""
    waiting: list[str] = []
    for text in texts:
        at = next((at for at in range(len(text), -1, -1) if may_cut(text, at)), None)
        if at is not None:
            yield "".join([*waiting, text[:at]])
            waiting = []
        waiting.append(text[at:])
    yield "".join(waiting)


def normalised_blocks(texts: Iterable[str], form: str) -> Iterable[str]:
    """Normalise a text that comes in blocks; the blocks of the result may end elsewhere."""
    if form == "none":
        return texts
    blocks = recut(texts, lambda text, at: at < len(text) and begins_anew(text[at]))
    return (normalised(block, form) for block in blocks)
