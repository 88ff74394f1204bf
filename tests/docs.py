"""Writes what comes from the program itself: tables and pages of the docs, the JSON Schema.

    python tests/docs.py [--check]

An option table comes from its click command, the table of a configuration section from the
dataclass that declares it, the list of the configurations from their files. Each stands between
two comments, `<!-- options: train -->` or `<!-- keys: model -->` and `<!-- end -->`; what stands
outside is written by hand. The annotated cells and the manual pages come as a whole, and the
schema from the same dataclasses. `--check` changes nothing and ends with exit code 1 where a file
is out of date, as a test does.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import annotated
import click
import manual
import yaml

from charlstm.cli import cli
from charlstm.config.bundle import SCHEMA, folder, summaries
from charlstm.config.schema import SECTIONS, Config

ROOT = Path(__file__).parents[1]

PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "ko").glob("*.md")),
    ROOT / "configs" / "README.md",
]

KOREAN: dict[str, str] = {
    english: korean
    for texts in yaml.safe_load((ROOT / "tests" / "korean.yaml").read_text("utf-8")).values()
    for english, korean in texts.items()
}
"""The help of every option in Korean, by its English text."""

TABLE = re.compile(r"(<!-- (options|keys|list): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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


def meaning(option: click.Option, korean: bool = False) -> str:
    """An option's help, with the default where that is to be shown."""
    text, default = option.help or "", "Default"
    if korean:
        text, default = KOREAN[text], "기본값"
    text = text.replace("\\", r"\\").replace("<", r"\<")
    return f"{text} {default}: `{option.default}`." if option.show_default else text


def options(command: str, korean: bool = False) -> str:
    """The options of a command, in the order of its --help."""
    context = click.Context(cli, **cli.context_settings)
    found = cli.get_command(context, command)
    assert found is not None, command
    rows = [
        (f"`{names(option)}{value_name(option)}`", meaning(option, korean))
        for option in found.get_params(click.Context(found, context, command))
        if isinstance(option, click.Option)
    ]
    return table("옵션 | 뜻" if korean else "option | meaning", rows)


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


def configurations(_: str) -> str:
    """The configurations that ship, and what each is."""
    return table("name | what it is", [(f"`{n}`", text) for n, text in summaries().items()])


def page(text: str, korean: bool = False) -> str:
    """The text of a page with its tables as the program is now."""
    tables: dict[str, Callable[[str], str]] = {
        "options": partial(options, korean=korean),
        "keys": keys,
        "list": configurations,
    }
    return TABLE.sub(lambda m: m[1] + tables[m[2]](m[3]) + m[4], text)


def closed(description: str | None, properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping that has no other keys, or nothing in it."""
    return {
        "description": " ".join((description or "").split()),
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


def section_schema(section: str) -> dict[str, Any]:
    """The schema of a section of the configuration: its keys, as they are declared."""
    values, defaults = getattr(Config(), section), Config().to_dict()[section]
    texts = descriptions(type(values))
    properties = {
        field.name: {
            "description": f"{texts[field.name]} Expected: {field.metadata['expected']}.",
            "default": defaults[field.name],
            **field.metadata["schema"],
        }
        for field in dataclasses.fields(values)
    }
    return closed(type(values).__doc__, properties)


def schema() -> str:
    """The JSON Schema of a configuration."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A configuration of charlstm",
        **closed(Config.__doc__, {section: section_schema(section) for section in SECTIONS}),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def generated() -> dict[Path, str]:
    """Every file that this script writes, or writes tables into, with the text it should have."""
    pages = {path: page(path.read_text("utf-8"), path.parent.name == "ko") for path in PAGES}
    return pages | annotated.pages() | manual.pages() | {Path(folder(), SCHEMA): schema()}


def outdated() -> dict[Path, str]:
    """Those of them that differ."""
    return {
        path: text
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str]) -> int:
    """Write what is out of date, or only say so."""
    changed = outdated()
    for path, text in changed.items():
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
