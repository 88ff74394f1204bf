"""The manual pages are whole, and formatters have nothing against them."""

from __future__ import annotations

import os
import shutil
import subprocess

import click
import manual
import pytest

from charlstm.cli import COMMANDS, cli

PAGES = manual.pages()
"""That the files of these names say the same, `test_house.py` checks."""

READERS = {
    "mandoc": ["mandoc", "-T", "lint"],
    "man": ["man", "--warnings", "-E", "UTF-8", "-l"],
    "groff": ["groff", "-ww", "-man", "-T", "utf8"],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_warnings(page: object, reader: str) -> None:
    if shutil.which(reader) is None:
        pytest.skip(f"{reader} is not installed")
    done = subprocess.run(
        [*READERS[reader], str(page)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    lines = done.stderr.splitlines() + (done.stdout.splitlines() if reader == "mandoc" else [])
    assert (done.returncode, lines) == (0, [])


def test_every_command_has_a_page() -> None:
    names = {"charlstm.1", *(f"charlstm-{name}.1" for name in COMMANDS)}
    assert {path.name for path in manual.FOLDER.iterdir()} == names


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_says_what_help_says(name: str) -> None:
    """Every option, and every sentence about one, once."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    page = " ".join(manual.page(name).split())
    for option in command.params:
        if isinstance(option, click.Option):
            for text in option.opts + option.secondary_opts:
                assert page.count(f"\\fB{manual.escaped(text)}\\fR") == 1, text
            assert " ".join(manual.escaped(option.help or "").split()) in page
    assert f"charlstm\\-{name}" in manual.page("")


def test_roff_reads_nothing_else_into_a_text() -> None:
    assert manual.escaped(".x\n'y' -- \\n") == "\\&.x\n\\(aqy\\(aq \\-\\- \\en"
    assert manual.paragraphs("one\ntwo\n\n\b\n  a  b\n  c") == "one two\n.PP\n.nf\na  b\nc\n.fi"
