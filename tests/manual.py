"""The manual pages, charlstm(1) and one for each command, from the commands themselves.

`python tests/docs.py` writes them into `docs/man/`, from where the wheel installs them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import click

import charlstm
from charlstm.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "man"

ENVIRONMENT = {
    "CHARLSTM_MODEL": "The model of a command to which none is given. Without it, that is "
    "charlstm.npz in the working directory."
}

ROFF = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
"""What roff would read as something else."""


def escaped(text: str) -> str:
    """A text as roff prints it."""
    text = "".join(ROFF.get(c, c) for c in text)
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def filled(text: str) -> str:
    """A paragraph."""
    return escaped(textwrap.fill(" ".join(text.split()), 72, break_on_hyphens=False))


def paragraphs(text: str) -> str:
    """The help of a command: paragraphs, and, after a mark of click's, lines that stay apart."""
    blocks = []
    for block in text.split("\n\n"):
        mark, _, lines = block.partition("\n")
        kept = f".nf\n{escaped(textwrap.dedent(lines))}\n.fi"
        blocks.append(kept if mark.strip(" ") == "\b" else filled(block))
    return "\n.PP\n".join(blocks)


def section(title: str, body: str) -> str:
    return f".SH {title}\n{body}\n" if body else ""


def entries(pairs: Iterable[tuple[str, str]]) -> str:
    """What is explained, as roff has it, each with its explanation."""
    return "\n".join(f".TP\n{head}\n{filled(text)}" for head, text in pairs)


def head(option: click.Option) -> str:
    """All names of an option, the short ones first, and what stands for its value."""
    names = sorted(option.opts + option.secondary_opts, key=lambda name: name.startswith("--"))
    value = "" if option.is_flag else f" \\fI{escaped(option.metavar or option.type.name)}\\fR"
    return ", ".join(f"\\fB{escaped(name)}\\fR" for name in names) + value


def options(command: click.Command, context: click.Context) -> str:
    """The options of a command, in the order of its --help."""
    found = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    defaults = [f" Default: {o.default}." if o.show_default else "" for o in found]
    return entries(
        (head(o), (o.help or "") + default) for o, default in zip(found, defaults, strict=True)
    )


def exit_codes() -> str:
    """The table of the exit codes, from the page about what commands have in common."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", text, re.M)
    return entries((f"\\fB{codes}\\fR", meaning.replace("`", "")) for codes, meaning in rows)


def released() -> str:
    """The day of this version."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(charlstm.__version__)}, (\S+)$", changes, re.M)
    assert match is not None
    return match[1]


def page(name: str) -> str:
    """The manual page of a command, or, for the empty name, of charlstm."""
    top = click.Context(cli, info_name="charlstm", **cli.context_settings)
    command = cli.get_command(top, name) if name else cli
    assert command is not None
    context = click.Context(command, top, name) if name else top
    title = f"charlstm-{name}" if name else "charlstm"
    short = COMMANDS[name] if name else "Train, sample and evaluate a character-level LSTM."
    usage = " ".join(command.collect_usage_pieces(context))
    others = [f"charlstm-{other}" for other in COMMANDS] if not name else ["charlstm"]
    commands = entries((f"\\fBcharlstm\\-{n}\\fR(1)", text) for n, text in COMMANDS.items())
    return "".join(
        [
            f'.TH {title.upper()} 1 {released()} "charlstm {charlstm.__version__}" charlstm\n',
            section("NAME", f"{escaped(title)} \\- {escaped(short.rstrip('.'))}"),
            section("SYNOPSIS", f"\\fB{context.command_path}\\fR {escaped(usage)}"),
            section("DESCRIPTION", paragraphs(command.help or "")),
            section("OPTIONS", options(command, context)),
            section("COMMANDS", "" if name else commands),
            section("ENVIRONMENT", "" if name else entries(ENVIRONMENT.items())),
            section("EXIT STATUS", "" if name else exit_codes()),
            section("SEE ALSO", ",\n".join(f"\\fB{escaped(other)}\\fR(1)" for other in others)),
        ]
    )


def pages() -> dict[Path, str]:
    """Every manual page with its text."""
    names = {"charlstm": "", **{f"charlstm-{name}": name for name in COMMANDS}}
    return {FOLDER / f"{title}.1": page(name) for title, name in names.items()}
