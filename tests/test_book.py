"""The book in docs/learn runs as it stands, in both languages, and prints what its pages show.

A chapter has one namespace for Python and one folder for files, which looks like the root of this
repository. Its blocks run in order:

    ```python     runs; what it prints stands in the ```text block that follows it
    ```console    lines with `$ ` run in bash; what they print, on both streams, follows each
    ```text       only behind a ```python block; other examples are indented or in a bare fence

In an output, a line of nothing but `...` stands for any lines (with `nearly`, numbers beside it
are not compared). A comment in the line above a block,
or above its ```text block, loosens the comparison:

    <!-- nearly -->    numbers may differ by 5 percent or 0.02, words may not
    <!-- varies -->    the text depends on the processor; only its length is compared, roughly

The Korean chapters have the blocks of the English ones, comments and docstrings of Python aside,
so that what runs in one language runs in both.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import ROOT

BOOK = ROOT / "docs" / "learn"
CHAPTERS = sorted(path.name for path in (BOOK / "en").glob("[0-9]*.md"))
PAGES = [*sorted(path.name for path in (BOOK / "en").glob("*.md")), "posts.md"]
SECONDS = 600
"""How long a command may take, at most, on a busy machine."""

FENCE = re.compile(r"(?:^<!-- (nearly|varies) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]\d+)?")

every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
every_page = pytest.mark.parametrize("page", PAGES)
every_page_that_runs = pytest.mark.parametrize("chapter", [*CHAPTERS, "posts.md"])


class Block(NamedTuple):
    """A fenced block: its marker, its language, what is in it, and its line on the page."""

    marker: str
    language: str
    text: str
    line: int


def read(language: str, name: str) -> str:
    """A page of the book; the one on the posts stands beside the two languages' folders."""
    path = BOOK / language / name
    if name == "posts.md":
        path = BOOK / ("posts.md" if language == "en" else "posts.ko.md")
    return path.read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    return [Block(m[1], m[2], m[3], page.count("\n", 0, m.start(3))) for m in FENCE.finditer(page)]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page)


# --- running -------------------------------------------------------------------------------------


def near(printed: str, shown: str) -> bool:
    """Whether two texts have the same words, and nearly the same numbers."""
    if NUMBER.sub("0", printed).split() != NUMBER.sub("0", shown).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(
        math.isclose(
            float(one.replace(",", "")), float(other.replace(",", "")), rel_tol=0.05, abs_tol=0.02
        )
        for one, other in pairs
    )


def agrees(printed: str, shown: str, marker: str) -> bool:
    """Whether what was printed is what the page shows, spaces at the ends of lines aside."""
    printed, shown = (re.sub(r" +$", "", text, flags=re.M) for text in (printed, shown))
    if marker == "varies":
        return len(printed) <= 2 * len(shown) and len(shown) <= 2 * len(printed)
    parts = re.split(r"^\.\.\.\n", shown, flags=re.M)
    if marker == "nearly":
        if len(parts) == 1:
            return near(printed, shown)
        printed, *parts = (NUMBER.sub("0", text) for text in (printed, *parts))
    return re.fullmatch("(?:.*\n)*".join(map(re.escape, parts)), printed) is not None


def folder(path: Path) -> dict[str, str]:
    """Make a folder that looks like the root of the repository; the environment of its commands."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (path / entry.name).symlink_to(entry)
    programs = path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, module in (("charlstm", "-m charlstm "), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        program.chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {
        **plain,  # no options of the tests around it
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
    }


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a block, each with what the page shows below it."""
    found = []
    for step in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        lines = step.split("\n")
        n = next(k for k, line in enumerate(lines) if not line.endswith("\\")) + 1
        found.append(("\n".join(lines[:n]), "\n".join(lines[n:])))
    return found


def written(page: str) -> set[str]:
    """The files that the commands of a page write, those of a loop each by its name."""
    names = set()
    for command, _ in (
        pair for b in blocks(page) if b.language == "console" for pair in commands(b)
    ):
        loops = {
            name: words.split() for name, words in re.findall(r"for (\w+) in ([^;]+);", command)
        }
        for name in re.findall(r"(?:-o|--log|>) (\S+\.\w+)", command):
            parts = re.split(r"\$(\w+)", name)
            choices = [loops[part] if k % 2 else [part] for k, part in enumerate(parts)]
            names |= {"".join(choice) for choice in itertools.product(*choices)}
    return names


def test_a_folder_holds_the_whole_book() -> None:
    """No chapter writes a file of another: a reader needs neither --force nor a second folder."""
    assert written("```console\n$ for n in 1 2; do train -o a-$n.npz; done > b.txt\n```\n") == {
        "a-1.npz",
        "a-2.npz",
        "b.txt",
    }
    owner: dict[str, str] = {}
    for chapter in CHAPTERS:
        for name in written(read("en", chapter)):
            assert owner.setdefault(name, chapter) == chapter, (name, chapter)
    assert len(owner) > 40


@pytest.mark.book
@every_page_that_runs
def test_a_chapter_prints_what_it_shows(
    chapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    page = blocks(read("en", chapter))
    with np.printoptions():
        for block, following in zip(page, [*page[1:], None], strict=True):
            where = f"{chapter}:{block.line}"
            if block.language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile("\n" * block.line + block.text, chapter, "exec"), namespace)
                shown, marker = "", block.marker
                if following is not None and following.language == "text":
                    shown, marker = following.text, following.marker or marker
                assert agrees(printed.getvalue(), shown, marker), (where, printed.getvalue())
            elif block.language == "console":
                for command, shown in commands(block):
                    done = subprocess.run(
                        ["bash", "-o", "pipefail", "-c", command],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        timeout=SECONDS,
                    )
                    output = done.stdout.decode("utf-8")
                    assert agrees(output, shown, block.marker), (where, command, output)


# --- two languages, one book ---------------------------------------------------------------------


def test_both_languages_have_the_same_pages() -> None:
    chapters = sorted(path.name for path in (BOOK / "ko").glob("*.md"))
    assert [*chapters, "posts.md"] == PAGES


def runs(code: str) -> str:
    """What of a piece of Python runs: comments and docstrings aside."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.dump(tree)


def same(block: Block) -> tuple[str, str, str]:
    """What of a block both languages share: of Python what runs, of other blocks every letter."""
    text = runs(block.text) if block.language == "python" else block.text
    return block.marker, block.language, text


@every_page
def test_the_blocks_are_the_same_in_both_languages(page: str) -> None:
    english, korean = blocks(read("en", page)), blocks(read("ko", page))
    for one, other in zip(english, korean, strict=False):
        if one.language:  # a bare fence may hold words
            assert same(one) == same(other), (one.line, other.line)
    assert [block.language for block in english] == [block.language for block in korean]


def skeleton(page: str) -> list[str]:
    """Headings by their level, pictures by their file, answers, and the figures between them."""
    parts = []
    figures: list[str] = []
    for line in [*prose(page).splitlines(), "#"]:
        if line.startswith("#"):
            parts += [" ".join(sorted(figures)), line.split()[0]]
            figures = []
        parts += re.findall(r"!\[.*?\]\((.*?)\)|^(?:<details>|\| ?---)", line)
        figures += re.findall(r"(?<![\w.])\d[\d,]*\.\d+(?![\d.]*[a-z])", line)
    return parts


@every_page
def test_the_sections_and_figures_are_the_same_in_both_languages(page: str) -> None:
    assert skeleton(read("en", page)) == skeleton(read("ko", page))


@pytest.mark.parametrize("language", ["en", "ko"])
@every_chapter
def test_a_chapter_ends_with_three_exercises(chapter: str, language: str) -> None:
    """Each with an answer, one of them by a command and one by a line of code."""
    last = re.split(r"^## ", read(language, chapter), flags=re.M)[-1]
    answers = re.findall(r"^<details>$.*?^</details>$", last, re.M | re.S)
    assert len(answers) == 3
    assert {"python", "console"} <= {b.language for answer in answers for b in blocks(answer)}


@pytest.mark.parametrize("language", ["en", "ko"])
@every_page
def test_every_block_has_its_place(page: str, language: str) -> None:
    """Code has a known language, an output stands behind what prints it, and no page is long."""
    text = read(language, page)
    assert len(text.splitlines()) <= 400
    before = ""
    for block in blocks(text):
        assert block.language in ("", "sh", "python", "console", "text"), block.line
        assert block.language != "text" or before == "python", block.line
        before = block.language
    assert text.count("\n```") == 2 * len(blocks(text))


@pytest.mark.parametrize(
    ("printed", "shown", "marker", "good"),
    [
        ("a 1.25\n", "a 1.25\n", "", True),
        ("a 1.25\n", "a 1.26\n", "", False),
        ("a 1.25\n", "a 1.26\n", "nearly", True),
        ("a 1.25\n", "a 1.35\n", "nearly", False),
        ("a 1.25\n", "b 1.25\n", "nearly", False),
        ("a\nb\nc\n", "a\n...\nc\n", "", True),
        ("a\nb\nd\n", "a\n...\nc\n", "", False),
        ("a\nb\nc\nd\ne\n", "a\n...\nc\n...\ne\n", "", True),
        ("some text\n", "other words\n", "varies", True),
        ("", "other words\n", "varies", False),
    ],
)
def test_outputs_are_compared_as_said(printed: str, shown: str, marker: str, good: bool) -> None:
    assert agrees(printed, shown, marker) is good


# --- terms ---------------------------------------------------------------------------------------


def avoided() -> dict[str, str]:
    """Korean words that the glossary rules out, each with the one it chooses."""
    rows = re.findall(
        r"^\| [^|]+ \| ([^|]+) \| ([^|]*) \|$", (BOOK / "glossary.md").read_text("utf-8"), re.M
    )
    return {
        bad: good for good, words in rows for bad in words.split(", ") if re.search("[가-힣]", bad)
    }


def korean_pages() -> list[Path]:
    book = [*sorted((BOOK / "ko").glob("*.md")), *sorted(BOOK.glob("*.ko.md"))]
    return [*book, *sorted((ROOT / "docs" / "ko").glob("*.md")), ROOT / "README.ko.md"]


@pytest.mark.parametrize("path", korean_pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_korean_pages_keep_to_the_glossary(path: Path) -> None:
    text = prose(path.read_text(encoding="utf-8"))
    assert len(avoided()) > 20
    for word, better in avoided().items():
        assert word not in text, f"{better} instead of {word}"
