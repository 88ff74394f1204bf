"""How long the package's files, classes and functions are.

    python tests/figures.py            the figures, and what is longer than a reader wants
    python tests/figures.py COMMIT     the same beside those of another commit

Counts the files that git knows. Exits with 1 where something is too long and not excused below.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

LIMITS = {"file": 400, "class": 250, "function": 60}
"""Lines at most."""

EXCUSED: dict[str, str] = {}
"""What may be longer, as FILE or FILE:NAME, and why."""


class Part(NamedTuple):
    """A file, class or function."""

    kind: str
    name: str
    lines: int


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def sources(commit: str | None) -> Iterator[tuple[str, str]]:
    """The names and texts of the package's files, in the working tree or in a commit."""
    if commit is None:
        for name in git("ls-files", "charlstm/*.py").split():
            yield name, (ROOT / name).read_text(encoding="utf-8")
        return
    for name in git("ls-tree", "-r", "--name-only", commit, "charlstm/").split():
        if name.endswith(".py"):
            yield name, git("show", f"{commit}:{name}")


def parts(commit: str | None = None) -> list[Part]:
    """All files of the package, with their classes and functions."""
    found = []
    for name, text in sources(commit):
        found.append(Part("file", name, len(text.splitlines())))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                lines = node.end_lineno - node.lineno + 1
                found.append(Part(kind, f"{name}:{node.name}", lines))
    return found


def too_long(found: list[Part]) -> list[Part]:
    """The parts that are beyond the limit of their kind."""
    return [part for part in found if part.lines > LIMITS[part.kind]]


def show(title: str, found: list[Part]) -> None:
    """Print the figures of a commit."""
    lines = sum(part.lines for part in found if part.kind == "file")
    print(f"{title}: {lines:,} lines")
    for kind, limit in LIMITS.items():
        of_kind = [part.lines for part in found if part.kind == kind]
        longer = sum(length > limit for length in of_kind)
        number = f"{len(of_kind):,} {'classes' if kind == 'class' else f'{kind}s'}"
        print(f"  {number}, the longest {max(of_kind)}; {longer} of more than {limit}")


def main() -> int:
    for commit in sys.argv[1:]:
        show(commit, parts(commit))
    found = parts()
    show("working tree", found)
    for part in too_long(found):
        print(f"  {part.name}: {part.lines} ({EXCUSED.get(part.name, 'no reason given')})")
    return any(part.name not in EXCUSED for part in too_long(found))


if __name__ == "__main__":
    sys.exit(main())
