"""The annotated cells: docs/cells.md and docs/ko/cells.md, from charlstm/nn/cells.py.

`python tests/docs.py` writes them. The body of each method is cut into passages. On the left
stand the comments of a passage, which are its equations, on the right its lines of code. Above
stands what `annotated.yaml` says of it. A passage begins at the line that its note names, so
cells that the notes do not fit are an error.
"""

from __future__ import annotations

import inspect
import itertools
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from charlstm.nn.cells import CELLS, Cell

ROOT = Path(__file__).parents[1]

PAGES = {"en": ROOT / "docs" / "cells.md", "ko": ROOT / "docs" / "ko" / "cells.md"}

WIDTHS = {"en": 108, "ko": 64}
"""Characters of a line of text."""

LEFT, RIGHT = 48, 60
"""Characters of the columns of equations and of code."""


SAID: dict[str, Any] = yaml.safe_load(
    (ROOT / "tests" / "annotated.yaml").read_text(encoding="utf-8")
)
"""What the pages say: their heads, titles, and notes, in both languages."""


def body(cell: Cell, method: str) -> list[str]:
    """The lines of a method below its signature, those that a bracket continues joined."""
    source = textwrap.dedent(inspect.getsource(getattr(type(cell), method)))
    lines = [line.strip() for line in source.splitlines()]
    return lines[1 + next(k for k, line in enumerate(lines) if line.endswith(":")) :]


def passages(cell: Cell, method: str) -> list[tuple[dict[str, str], list[str]]]:
    """The notes of a method, each with its lines. Raises `ValueError` where they do not fit."""
    lines, notes = body(cell, method), SAID["notes"][cell.name][method]
    places = []
    for note in notes:
        found = [k for k, line in enumerate(lines) if line.startswith(note["start"])]
        if len(found) != 1:
            raise ValueError(f"{cell.name}.{method} has {len(found)} lines {note['start']!r}")
        places += found
    if places != sorted(places) or places[0] != 0:
        raise ValueError(
            f"the notes of {cell.name}.{method} do not stand in the order of its lines"
        )
    cuts = itertools.pairwise([*places, len(lines)])
    return [(note, lines[a:b]) for note, (a, b) in zip(notes, cuts, strict=True)]


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines, broken behind commas and before equals signs, the later ones indented."""
    lines: list[str] = []
    for part in re.split(r"(?<=,) | (?== )", text):
        joined = f"{lines[-1]} {part}" if lines else part
        if lines and len(joined) > width:
            lines.append(f"  {part}")
        else:
            lines[-1:] = [joined]
    return lines


def columns(lines: list[str]) -> str:
    """The comments of some lines on the left, their code on the right."""
    left, right = [], []
    for line in lines:
        code, _, comment = line.partition("# ")
        left += wrapped(comment, LEFT - 2) if comment else []
        right += wrapped(code.strip(), RIGHT) if code.strip() else []
    rows = itertools.zip_longest(left, right, fillvalue="")
    return "".join(f"{f'{a:{LEFT}}{b}'.rstrip()}\n" for a, b in rows)


def docstring(cell: Cell) -> str:
    """What a cell says of itself."""
    return re.sub(r" +$", "", f"{inspect.getdoc(type(cell))}\n", flags=re.M)


def page(language: str) -> str:
    """The annotated cells in a language."""
    parts, width = [SAID["head"][language]], WIDTHS[language]
    for name, titles in SAID["titles"].items():
        cell, title = CELLS[name], titles[language]
        parts.append(f"## {title}\n\n```\n{docstring(cell)}```\n")
        for method, of_method in SAID["methods"].items():
            parts.append(f"### {title}: {of_method[language]}\n")
            for note, lines in passages(cell, method):
                text = textwrap.fill(note[language], width, break_on_hyphens=False)
                parts.append(f"{text}\n\n```\n{columns(lines)}```\n")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Both pages, with the text they should have."""
    return {path: page(language) for language, path in PAGES.items()}
