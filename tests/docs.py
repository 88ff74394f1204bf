"""Writes the tables of docs/ that come from the program itself.

    python tests/docs.py [--check]

An option table comes from its click command, the table of a configuration section from the
dataclass that declares it. Each stands between two comments, `<!-- options: train -->` or
`<!-- keys: model -->` and `<!-- end -->`; what stands outside is written by hand. `--check`
changes nothing and ends with exit code 1 where a page is out of date, as a test does.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from charlstm.cli import cli
from charlstm.config.schema import Config

PAGES = Path(__file__).parents[1] / "docs"

TABLE = re.compile(r"(<!-- (options|keys): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A table with its comments: first comment, kind, name, last comment."""


def table(header: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    escaped = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    rule = "|" + "---|" * len(header.split("|"))
    return "\n".join([f"| {header} |", rule, *(f"| {row} |" for row in escaped)]) + "\n"


def names(option: click.Option) -> str:
    """All names of an option, the short ones first."""
    return ", ".join(sorted(option.opts + option.secondary_opts, key=lambda n: n.startswith("--")))


def value_name(option: click.Option) -> str:
    """What stands for an option's value in its help: ` FILE`, or nothing for a flag."""
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + "|".join(map(str, option.type.choices))
    return f" {option.metavar or option.type.name.upper()}"


def meaning(option: click.Option) -> str:
    """An option's help, with the default where that is to be shown."""
    text = (option.help or "").replace("\\", r"\\").replace("<", r"\<")
    return f"{text} Default: `{option.default}`." if option.show_default else text


def options(command: str) -> str:
    """The options of a command, in the order of its --help."""
    context = click.Context(cli, **cli.context_settings)
    found = cli.get_command(context, command)
    assert found is not None, command
    rows = [
        (f"`{names(option)}{value_name(option)}`", meaning(option))
        for option in found.get_params(click.Context(found, context, command))
        if isinstance(option, click.Option)
    ]
    return table("option | meaning", rows)


def descriptions(section: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, on one line."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(declared, ast.ClassDef)
    texts = {}
    for field, below in zip(declared.body, declared.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str() as text)):
                    texts[field.target.id] = " ".join(text.split())
    return texts


def written(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value) if isinstance(value, tuple) else value) or '""'


def keys(section: str) -> str:
    """The keys of a section of the configuration, as they are declared."""
    values = getattr(Config(), section)
    texts = descriptions(type(values))
    rows = [
        (
            f"`{field.name}`",
            f"`{written(getattr(values, field.name))}`",
            field.metadata["expected"],
            texts[field.name],
        )
        for field in dataclasses.fields(values)
    ]
    return table("key | default | may be | meaning", rows)


def page(text: str) -> str:
    """The text of a page with its tables as the program is now."""
    tables = {"options": options, "keys": keys}
    return TABLE.sub(lambda m: m[1] + tables[m[2]](m[3]) + m[4], text)


def outdated() -> dict[Path, str]:
    """The pages that differ from what this script writes, with the text that they should have."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}
    return {path: page(text) for path, text in texts.items() if page(text) != text}


def main(arguments: list[str]) -> int:
    """Write what is out of date, or only say so."""
    changed = outdated()
    for path, text in changed.items():
        print(path.relative_to(PAGES.parent))
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
