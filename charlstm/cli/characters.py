"""`evaluate --chars`: a text unit by unit, as a table or in colours."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from charlstm.cli.streams import to_json, valid_utf8, write
from charlstm.text.visible import escaped, harmless, joins

if TYPE_CHECKING:
    from charlstm.api import Scored
    from charlstm.text.vocabulary import Vocabulary

ROWS = 1024
"""Rows of a table that are written at a time."""

LIMITS = (1.0, 2.0, 4.0, 7.0)
"""Bits of a unit up to which it has the colour of the same place in `COLOURS`."""

COLOURS = ("", "0;32", "0;33", "0;31", "0;1;37;41")
"""Terminal colours (SGR, from 0, the reset): none, green, yellow, red, and, beyond all limits,
white on red."""


def write_table(texts: Iterable[Iterator[Scored]], as_json: bool) -> None:
    """Write a row for each unit that is scored, with the bits of its text so far."""
    for scored in texts:
        rows, total = [], 0.0
        for unit, nats in _units(scored):
            if math.isnan(nats):  # given, not scored
                continue
            total += nats
            bits, so_far = nats / math.log(2), total / math.log(2)
            if as_json:
                rows.append(to_json({"text": valid_utf8(unit), "bits": bits, "total": so_far}))
            else:
                rows.append(f"{escaped(unit)}\t{bits:.4f}\t{so_far:.4f}\n")
            if len(rows) == ROWS:
                write("".join(rows))
                rows.clear()
        write("".join(rows))


def write_coloured(texts: Iterable[Iterator[Scored]], vocabulary: Vocabulary) -> None:
    """Write the texts with each unit in the colour of its bits; a unit that makes one shape with
    the unit before it has the colour of that."""
    for scored in texts:
        parts: list[str] = []
        current, before, readable = "", "", vocabulary.reader()
        for unit, nats in _units(scored):
            text = readable(unit)
            if not text:
                continue
            if joins(before, text):
                colour = current
            else:
                colour = _colour(text, nats)
                if len(parts) > ROWS:
                    _write_parts(parts, current)
                    current = ""
            before = text
            if colour != current:
                parts.append(f"\x1b[{colour}m")
                current = colour
            parts.append(harmless(text))
            if "\n" in text:
                _write_parts(parts, current)
                current = ""
        write("".join([*parts, "\x1b[m" if current else "", "\n" if parts else ""]))


def _write_parts(parts: list[str], colour: str) -> None:
    """Write parts of a text and forget them, its colour included."""
    write("".join([*parts, "\x1b[m" if colour else ""]))
    parts.clear()


def _colour(text: str, nats: float) -> str:
    """The colour of a unit; one that is given, of nan nats, has none."""
    place = 0 if math.isnan(nats) else bisect_left(LIMITS, nats / math.log(2))
    return "" if text.isspace() and place == 0 else COLOURS[place]


def _units(scored: Iterator[Scored]) -> Iterator[tuple[str, float]]:
    for texts, nats in scored:
        yield from zip(texts, nats, strict=True)
