"""The command line completes in real shells: a line is typed, TAB pressed, the line read back."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support import ROOT, fails, posix, run, run_process

from charlstm.cli import COMMANDS, cli
from charlstm.cli.completion import SHELLS
from charlstm.cli.offers import words
from charlstm.config.bundle import AUTO, bundled
from charlstm.config.schema import KEYS

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

SHOW, CLEAR = "\x14", "\x15"
"""Ctrl-T, which the set-up below binds to writing the line into a file, and Ctrl-U."""

SETUP = {
    "bash": [
        'show() { printf %s "$READLINE_LINE" > line.new; mv line.new line; }',
        "bind -x '\"\\C-t\": show'",
        'eval "$(charlstm completion bash)"',
    ],
    "zsh": [
        "LISTMAX=9999; setopt no_list_beep no_always_last_prompt",
        "autoload -Uz compinit; compinit -u -D",
        'show() { print -rn -- "$BUFFER" > line.new; mv line.new line; }',
        "zle -N show; bindkey '^T' show; bindkey '^U' kill-whole-line",
        'eval "$(charlstm completion zsh)"',
    ],
    "fish": [
        "function show; commandline > line.new; mv line.new line; end",
        "bind \\ct show; bind \\cu 'commandline \"\"'",
        "charlstm completion fish | source",
    ],
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "-i"],
}


class Terminal:
    """A shell at a terminal, in a folder of its own."""

    def __init__(self, shell: str, folder: Path, environment: dict[str, str]) -> None:
        self.line = folder / "line"
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            START[shell],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.printed = b""
        for command in [*SETUP[shell], "touch line"]:
            self.type(command + "\n")
        self._wait()

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def complete(self, begun: str) -> str:
        """The line after a TAB."""
        self.type(f"{begun}\t")
        self.type(SHOW)
        return self._wait()

    def _wait(self) -> str:
        """What the line is, once the shell has said so."""
        os.set_blocking(self.master, False)
        deadline = time.monotonic() + 10
        while not self.line.exists():
            assert time.monotonic() < deadline, self.printed
            with contextlib.suppress(OSError):
                self.printed += os.read(self.master, 1 << 16)
            time.sleep(0.01)
        text = self.line.read_text(encoding="utf-8").rstrip("\n")
        self.line.unlink()
        time.sleep(0.05)
        self.type(CLEAR)
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a command `charlstm`, models, and files."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("corpus.txt", "mine.yaml", "my.npz", "two words.npz", "folder/deep.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "folder" / "empty").mkdir()
    (folder / "bin").mkdir()
    command = folder / "bin" / "charlstm"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m charlstm "$@"\n')
    command.chmod(0o755)
    return folder


def environment(place: Path) -> dict[str, str]:
    """What a shell is given, which finds `charlstm` in the folder."""
    # without this folder fish reads all manual pages of the system when it starts
    (place / ".local/share/fish/generated_completions").mkdir(parents=True, exist_ok=True)
    return {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(place),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="module", params=list(SHELLS))
def terminal(request: pytest.FixtureRequest, place: Path) -> Iterator[Terminal]:
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal = Terminal(shell, place, environment(place))
    yield terminal
    terminal.close()


LINES = [
    ("tr", "train "),
    ("com", "completion "),
    ("completion z", "completion zsh "),
    ("train --acc", "train --accept-changes "),
    ("evaluate --qua", "evaluate --quantile "),
    ("info --grad", "info --gradient-flow "),
    ("--vers", "--version "),
    ("train cor", "train corpus.txt "),
    ("evaluate -m my.npz cor", "evaluate -m my.npz corpus.txt "),
    ("train corpus.txt -c min-", "train corpus.txt -c min-char-rnn "),
    ("train -c mine", "train -c mine.yaml "),
    ("train --config aut", "train --config auto "),
    ("sample -c reb", "sample -c reber-"),
    ("config reber-l", "config reber-lstm "),
    ("train --set model.ce", "train --set model.cell="),
    ("train --set model.cell=l", "train --set model.cell=lstm "),
    ("train --set=train.optimizer=rm", "train --set=train.optimizer=rmsprop "),
    ("train --set train.clip_norm=n", "train --set train.clip_norm=null "),
    ("sample --set sample.echo=f", "sample --set sample.echo=false "),
    ("sample --unknown s", "sample --unknown skip "),
    ("sample --unknown=s", "sample --unknown=skip "),
    ("sample -m my", "sample -m my.npz "),
    ("sample -m fol", "sample -m folder/"),
    ("sample -m folder/d", "sample -m folder/deep.npz "),
    ("sample -m tw", "sample -m two\\ words.npz "),
    ("sample -m two\\ ", "sample -m two\\ words.npz "),
    ("sample -m 'two ", "sample -m 'two words.npz' "),
    ("info my", "info my.npz "),
    ("train -o my", "train -o my.npz "),
    ("sample --seed zz", "sample --seed zz"),
    ("nothing", "nothing"),
]


@posix
@pytest.mark.parametrize(("begun", "expected"), LINES)
def test_a_line(terminal: Terminal, begun: str, expected: str) -> None:
    """One TAB adds what is common to all that can follow, and a blank where that is a whole."""
    assert terminal.complete(f"charlstm {begun}") == f"charlstm {expected}"


@posix
@pytest.mark.parametrize("before", ["true && ", "FOO=1 ", "cat corpus.txt | "])
def test_a_line_with_something_before(terminal: Terminal, before: str) -> None:
    assert terminal.complete(f"{before}charlstm tr") == f"{before}charlstm train "


# --- all that is offered -----------------------------------------------------------------------


def options_of(name: str) -> list[str]:
    """All names of options of a command."""
    context = click.Context(cli, **cli.context_settings)
    command = cli.get_command(context, name)
    assert command is not None
    options = [
        param
        for param in command.get_params(click.Context(command, context))
        if isinstance(param, click.Option)
    ]
    return [name for option in options for name in option.opts + option.secondary_opts]


def offers() -> dict[str, list[str]]:
    """Everything that stands on a line of its own with what is offered behind it; files aside."""
    points = {"": list(COMMANDS), "completion ": list(SHELLS), "config ": list(bundled())}
    for name in COMMANDS:
        points[f"{name} --"] = [option for option in options_of(name) if option[:2] == "--"]
    points["train --config "] = [*bundled(), AUTO]
    points["train --set "] = [f"{key}=" for key in KEYS]
    for key, field in KEYS.items():
        values = list(words(field.metadata["schema"]))
        if values:
            points[f"train --set {key}="] = [f"{key}={value}" for value in values]
    points["sample --unknown "] = ["error", "skip"]
    return points


POINTS = offers()

LISTING = {
    "bash": r"""
compopt() { :; }
eval "$(charlstm completion bash)"
for line; do
    COMP_LINE=$line COMP_POINT=${#line}
    _charlstm_completion charlstm
    printf '%s\n' "${COMPREPLY[@]}" --end
done
""",
    "zsh": r"""
compdef() { :; }
_path_files() { :; }
_describe() { print -rl -- ${${(P)3}%%:*} }
compadd() { print -rl -- ${(P)@[-1]} }
eval "$(charlstm completion zsh)"
for line; do
    words=("${(@s: :)line}") CURRENT=${#words}
    _charlstm_completion
    print -r -- --end
done
""",
    "fish": r"""
charlstm completion fish | source
for line in $argv
    complete -C $line | string split -f 1 \t
    echo -- --end
end
""",
}
"""For each shell a script that prints what its completion offers on each line of its arguments.
That of zsh, which completes at a terminal only, has the functions in it that take the offers."""


@posix
@pytest.mark.whole
@pytest.mark.parametrize("shell", SHELLS)
def test_all_that_is_offered(shell: str, place: Path) -> None:
    """Every command, every option of every command, every configuration, every key and every word
    that a key may have."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    lines = [f"charlstm {point}" for point in POINTS]
    process = subprocess.run(
        [*START[shell][:-1], "-c", LISTING[shell], *([] if shell == "fish" else ["-"]), *lines],
        env=environment(place),
        cwd=place / "folder" / "empty",
        capture_output=True,
        text=True,
        check=True,
    )
    printed = process.stdout.split("--end\n")
    assert process.stderr == ""
    for (point, expected), offered in zip(POINTS.items(), printed, strict=False):
        replaced = len(point.split(" ")[-1]) if shell == "bash" and point[-1:] == "=" else 0
        assert sorted(offered.split()) == sorted(e[replaced:] for e in expected), point


def test_every_value_that_is_a_file_is_offered_one() -> None:
    """Of an option or an argument; and so it is with configurations and keys."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for param in command.params:
            shown = str(param.metavar)
            named = re.search("FILE|CORPUS|TEXT]|MODEL|NAME|KEY", shown)
            if named and not isinstance(param.type, click.Choice):
                context = click.Context(command)
                assert param.shell_complete(context, "")[0].type in ("file", "dir", "plain"), param


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script(shell: str) -> None:
    """The command prints it, and so does click's own way."""
    process = run("completion", shell)
    assert process.returncode == 0
    assert process.stdout.decode() == SHELLS[shell].source_template
    own = run_process(env={"_CHARLSTM_COMPLETE": f"{shell}_source"})
    assert own.stdout.rstrip() == process.stdout.rstrip()  # click 8.1 adds an empty line


def test_no_such_shell() -> None:
    fails(run("completion", "tcsh"), 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'")


@pytest.mark.parametrize("line", ["charlstm train --set model.ce", "charlstm config r"])
def test_completing_is_light(line: str) -> None:
    """It loads none of what the work needs."""
    script = """
import sys
before = set(sys.modules)  # what measures coverage is there already
from charlstm.cli import main
try:
    main([])
finally:
    heavy = {"numpy", "yaml", "tqdm", "pathlib", "charlstm.config.schema", "charlstm.api"}
    print(sorted(heavy & set(sys.modules) - before), file=sys.stderr)
"""
    variables = {"_CHARLSTM_COMPLETE": "bash_complete", "COMP_WORDS": line}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "[]\n"
    assert done.stdout.startswith("plain\t")
