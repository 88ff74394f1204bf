"""The Korean pages keep step with the English ones, section by section.

README.ko.md and docs/ko say what README.md and docs say, with the same commands, options, blocks,
links, tables and figures. In README.ko.md, what follows `ONLY` is there in Korean alone, and a
block below `<!-- own -->` shows a Korean text by the same commands.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from functools import cache
from pathlib import Path

import click
import pytest
from support import CORPORA, ROOT, run_process

import docs
from charlstm.cli import COMMANDS, cli

DOCS, KO = ROOT / "docs", ROOT / "docs" / "ko"
COMMON = ("README", "commands", "install", "recipes")
PAIRS = {
    ROOT / "README.ko.md": ROOT / "README.md",
    **{KO / f"{name}.md": DOCS / f"{name}.md" for name in (*COMMON, *COMMANDS)},
}
"""Korean pages, and the English one of each."""

ONLY = "<!-- 한국어판에만 있는 부분 -->"
FENCE = re.compile(r"^((?:<!-- [\w-]+ -->\n)?)^```(\w*)\n(.*?)^```$", re.M | re.S)
GENERATED = re.compile(r"<!-- options: \w+ -->.*?<!-- end -->", re.S)

every_page = pytest.mark.parametrize("page", PAIRS, ids=lambda p: str(p.relative_to(ROOT)))


def prose(path: Path) -> str:
    """A page without its blocks, generated tables and the link to the other language."""
    text = path.read_text(encoding="utf-8").partition(ONLY)[0]
    text = GENERATED.sub("", FENCE.sub("", text))
    return re.sub(r"^\[(English|한국어)\]\(.*\)$", "", text, flags=re.M)


def sections(path: Path) -> list[str]:
    """The prose of a page, cut before each heading."""
    return re.split(r"^(?=#+ )", prose(path), flags=re.M)


@cache
def anchors(path: Path) -> list[str]:
    """The names of the headings of a page, in order."""
    titles = re.findall(r"^#+ (.*)", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def place(page: Path, target: str) -> tuple[str, int]:
    """Where a link leads, for both languages alike: a file, and the number of a heading."""
    name, _, heading = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    number = anchors(path).index(heading) if heading else 0
    english = str(path.relative_to(ROOT)).replace("docs/ko/", "docs/").replace(".ko.md", ".md")
    return english.replace("learn/ko/", "learn/en/"), number


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """Marker, language and text of each block, comments of shells aside."""
    found = []
    for marker, language, text in FENCE.findall(path.read_text("utf-8").partition(ONLY)[0]):
        bare = re.sub(r" +# .*", "", text) if language == "sh" else text
        found.append((marker.strip(), language, bare))
    return found


def called(text: str) -> list[str]:
    """The commands and options in a block."""
    return re.findall(r"charlstm \w+|(?<= )--?[a-z][\w-]*", text)


def codes(text: str) -> set[str]:
    """What stands in backticks."""
    return {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)}


def figures(text: str) -> Counter[str]:
    """Numbers with a point, and those of Korean's 만 in the place of millions."""
    text = re.sub(r"`[^`]+`|\]\([^)]*\)", "", text)
    text = re.sub(r"four\s+million", "4 million", text)
    text = re.sub(r"([\d.]+)\s+million", lambda m: f"{float(m[1]) * 100:,.0f}만", text)
    return Counter(re.findall(r"\d[\d,]*\.\d+(?:e-?\d+)?|\d[\d,]*(?=만)", text))


def test_every_page_is_there() -> None:
    assert {*KO.glob("*.md")} == {*PAIRS, KO / "cells.md"} - {ROOT / "README.ko.md"}


@every_page
def test_the_sections_are_the_same(page: Path) -> None:
    levels = [re.findall(r"^#+(?= )", prose(path), re.M) for path in (page, PAIRS[page])]
    assert levels[0] == levels[1]


@every_page
def test_the_blocks_are_the_same(page: Path) -> None:
    korean, english = blocks(page), blocks(PAIRS[page])
    assert [language for _, language, _ in korean] == [language for _, language, _ in english]
    for one, other in zip(korean, english, strict=True):
        if one[0] == "<!-- own -->":
            assert page.name == "README.ko.md"
            assert called(one[2]) == called(other[2])
        else:
            assert one == other


@every_page
def test_each_section_has_the_same_commands_and_options(page: Path) -> None:
    for korean, english in zip(sections(page), sections(PAIRS[page]), strict=True):
        assert codes(korean) == codes(english), korean.partition("\n")[0]


@every_page
def test_each_section_has_the_same_links_tables_and_figures(page: Path) -> None:
    for korean, english in zip(sections(page), sections(PAIRS[page]), strict=True):
        title = korean.partition("\n")[0]
        one, other = (
            Counter(place(path, target) for target in re.findall(r"\]\(([^)]*)\)", text))
            for path, text in ((page, korean), (PAIRS[page], english))
        )
        assert one == other, title
        for shape in (r"^\|[-:|]+$", r"^\|", r"^(?:-|\d+\.) ", r"^    \S"):
            assert len(re.findall(shape, korean, re.M)) == len(re.findall(shape, english, re.M)), (
                title
            )
        assert figures(korean) == figures(english), title


@every_page
def test_the_option_tables_are_the_same(page: Path) -> None:
    """In names and order; the Korean meanings are generated."""
    names = [
        re.findall(r"^\| (`[^|]*?`) \|", "".join(GENERATED.findall(path.read_text("utf-8"))), re.M)
        for path in (page, PAIRS[page])
    ]
    assert names[0] == names[1]


def test_every_help_has_its_korean_and_nothing_else_has() -> None:
    context = click.Context(cli, **cli.context_settings)
    helps = set()
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for option in command.get_params(click.Context(command, context, name)):
            if isinstance(option, click.Option):
                helps.add(option.help)
    assert set(docs.KOREAN) == helps
    assert all(re.search("[가-힣]", korean) for korean in docs.KOREAN.values())


@pytest.mark.whole
def test_the_first_text_of_the_korean_readme(tmp_path: Path) -> None:
    """Its own commands print what it shows; the last digits depend on the processor."""
    own = [text for marker, _, text in blocks(ROOT / "README.ko.md") if "own" in marker]
    commands, shown = own
    (tmp_path / "corpora").symlink_to(CORPORA)
    for line in re.findall(r"^\.venv/bin/charlstm (.*?)(?: &&)?$", commands, re.M):
        done = run_process(*shlex.split(line), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    printed = done.stdout.decode("utf-8").strip()
    assert printed[:2] == shown[:2]
    assert abs(len(printed) - len(shown.strip())) <= 2


@pytest.mark.parametrize("page", [*PAIRS, KO / "cells.md"], ids=lambda p: p.name)
def test_the_korean_is_in_one_style_and_renders(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    # sentences end in 합니다체
    assert not re.findall(r"\w+(?:한다|이다|된다|는다|있다|없다|했다|어요|아요|예요)\.(?!\w)", text)
    # Markdown does not end an emphasis between a mark and a letter
    assert not re.findall(r"\*\*[^*\n]*[^\w\s*]\*\*(?=\w)", text)
