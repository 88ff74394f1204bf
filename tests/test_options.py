"""Options that go together, and options that do not: one table a command."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from charlstm.cli import COMMANDS, in_python, main
from charlstm.cli.options import Rule

MODULES = {name: import_module(f"charlstm.cli.{in_python(name)}") for name in COMMANDS}
TABLES = {name: getattr(module, "RULES", ()) for name, module in MODULES.items()}


def long_names(command: str) -> set[str]:
    """The first long name of each option of a command."""
    params = getattr(MODULES[command], in_python(command)).params
    options = [p.opts for p in params if isinstance(p, click.Option)]
    return {next(name for name in opts if name.startswith("--")) for opts in options}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_tables_name_options_as_they_are_looked_up(command: str) -> None:
    for rule in TABLES[command]:
        assert {rule.option, *rule.others} <= long_names(command)


EVALUATE = [
    (["--above", "1", "--quantile", "0.5", "--reference", "r"], "are two thresholds"),
    (["--quantile", "0.5"], "give it with --reference"),
    (["--reference", "r"], "give it with --reference"),
    (["--above", "2", "--below", "1"], "nothing is above 2 and below 1"),
    (["--chars", "--below", "1", "--above", "0"], "--above passes lines, --chars"),
    (["--chars", "--quantile", "1", "--reference", "r"], "--quantile passes lines, --chars"),
    (["--color"], "--color goes with --chars"),
    (["--chars", "--color", "--json"], "--color is for reading, --json for programs"),
    (["-m", "a", "-m", "a"], "the same model is given twice"),
    (["-m", "a", "-m", "b", "--chars"], "--chars takes one model"),
    (["-m", "a", "-m", "b", "--below", "1"], "--below takes one model"),
]
TRAIN = [
    (["--resume", "--force"], "--resume continues the output, --force replaces it"),
    (["--accept-changes"], "--accept-changes says how to --resume"),
    (["--accept-changes", "--force"], "--accept-changes says how to --resume"),
]
INFO = [
    (["--corpus", "c"], "say what to --verify"),
    (["--valid", "c"], "say what to --verify"),
    (["--verify", "--valid", "c"], "--valid goes with --corpus"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (command, *case)
        for command, cases in [("evaluate", EVALUATE), ("train", TRAIN), ("info", INFO)]
        for case in cases
    ],
)
def test_options_that_do_not_go_together(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read: there is no such file."""
    files = ["nowhere"]
    assert main([command, *files, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("charlstm: error: ")
    assert message in line
    # an error of click's names the help of the command
    assert line.endswith("; see charlstm evaluate --help") == (command == "evaluate")


def test_what_the_environment_says_is_not_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model by CHARLSTM_MODEL excludes nothing, and one rule may list the options it forbids."""
    from charlstm.cli.options import check_options, given

    @click.command()
    @click.option("-m", "--model", envvar="CHARLSTM_MODEL")
    @click.option("-n", "--length", default=3)
    @click.option("--each", is_flag=True)
    def command(model: str, length: int, each: bool) -> None:
        click.echo(" ".join(sorted(given())))
        others = ["--length", "--model"]
        check_options([Rule("--each", others, "{first} is first of {others}")])

    monkeypatch.setenv("CHARLSTM_MODEL", "m.npz")
    for arguments, message in [
        (["--each"], None),
        (["--each", "-m", "m.npz"], "--model is first of --model"),
        (["--each", "-m", "m.npz", "-n", "3"], "--length is first of --length, --model"),
    ]:
        if message is None:
            command(arguments, standalone_mode=False)
            assert capsys.readouterr().out == "--each\n"
        else:
            with pytest.raises(click.UsageError, match=message):
                command(arguments, standalone_mode=False)
