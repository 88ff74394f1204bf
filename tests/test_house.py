"""The tree keeps its own rules: floors, documentation, what it imports, what it ships."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import charlstm
from charlstm.cli import COMMANDS, cli, main
from charlstm.config.schema import bundled
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.storage.progress import Progress
from charlstm.text.corpus import MIN_HELD_OUT

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "charlstm"
README = (ROOT / "README.md").read_text(encoding="utf-8")

HOUSE = {
    "": ["_version", "errors"],
    "nn": ["arrays", "cells", "parameters", "optimizers", "recurrent", "layers", "model"],
    "config": ["schema"],
    "text": ["visible", "vocabulary", "sniff", "corpus"],
    "storage": ["lock", "files", "archive", "progress", "checkpoint"],
    "scoring": ["evaluation", "flow"],
    "generation": ["patterns", "sampling"],
    "training": [
        *("events", "plan", "ranks", "shards", "resume", "saving", "recovery", "learner"),
        *("evaluations", "run"),
    ],
    "api": [],
    "cli": ["streams", "options", "log", "dialogue", "train", "sample", "evaluate", "info"],
}
"""The folders of the package and the files in each, from the ground up."""

FLOORS = [
    ".".join(filter(None, [folder, name]))
    for folder, names in HOUSE.items()
    for name in names or [""]
]
"""Every file of the package, from the ground up; a file imports only from lower floors."""

AROUND = {"__init__", "__main__", *(f"{folder}.__init__" for folder in HOUSE if folder != "api")}
"""Files without a floor: they name what stands in the house."""

RUNTIME = {"numpy", "click", "tqdm", "yaml"}
OPTIONAL = {"mpi4py": "ranks.py"}
"""What only one file imports, for those who have installed it."""


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it; those of type checkers aside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found.add(node.module or "")
            if node.module == "charlstm":
                found |= {f"charlstm.{alias.name}" for alias in node.names}
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name of a file inside the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def test_every_file_has_its_floor() -> None:
    assert {module(path) for path in files()} - AROUND == set(FLOORS)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_below(path: Path) -> None:
    own = {name.removeprefix("charlstm.") for name in imports(path) if name.startswith("charlstm.")}
    if (here := module(path)) in AROUND:
        return
    for name in own & set(FLOORS):
        assert FLOORS.index(name) < FLOORS.index(here), f"{here} imports {name}"
    assert own - set(FLOORS) <= set(HOUSE), f"{here} imports {own}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "nn").glob("*.py")), ids=lambda p: p.stem)
def test_the_network_imports_numpy_alone(path: Path) -> None:
    names = {name for name in imports(path) if not name.startswith("charlstm.nn")}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) <= {"numpy"}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_runtime_packages_are_imported(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    allowed = RUNTIME | {package for package, only in OPTIONAL.items() if only == path.name}
    assert tops - set(sys.stdlib_module_names) - {"charlstm", "__future__"} <= allowed
    if path.relative_to(PACKAGE).parts[0] != "cli":
        assert not tops & {"click", "tqdm"}


def test_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[><=~ ]", d)[0] for d in project["dependencies"]}
    assert names == {"numpy", "click", "tqdm", "pyyaml"}


def command_of(name: str) -> click.Command:
    """A command as click finds it."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_readme(command: str) -> None:
    assert f"charlstm {command}" in README
    for parameter in command_of(command).params:
        if isinstance(parameter, click.Option):
            for name in parameter.opts + parameter.secondary_opts:
                assert re.search(rf"{name}\b", README), f"{command} {name}"


def test_every_command_is_listed() -> None:
    """The table that --help is made of has all modules with a command, and nothing else."""
    assert {p.stem for p in (PACKAGE / "cli").glob("*.py")} == {
        *COMMANDS,
        *("__init__", "dialogue", "log", "options", "streams"),
    }
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)
    assert cli.get_command(click.Context(cli), "trian") is None
    for name, text in COMMANDS.items():
        assert command_of(name).name == name
        assert command_of(name).get_short_help_str(limit=60) == text


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_is_light(arguments: list[str]) -> None:
    """What only tells about the program loads none of what the work needs."""
    script = f"""
import sys
from charlstm.cli import main
assert main({arguments}) == 0
loaded = {{"numpy", "yaml", "tqdm", "charlstm.config.schema", "charlstm.api"}} & set(sys.modules)
commands = {{name for name in {list(COMMANDS)} if f"charlstm.cli.{{name}}" in sys.modules}}
assert not loaded, loaded
assert commands <= {{{arguments[0]!r}}}, commands
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [([], "Missing command"), (["trian"], "No such command 'trian'. Did you mean 'train'?")],
)
def test_a_command_that_is_missing(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so, and, where click knows how to, which one may have been meant."""
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("charlstm: error: ")
    assert what.split(".")[0] in line
    if hasattr(click.exceptions, "NoSuchCommand"):
        assert what in line


def test_every_configuration_is_in_the_readme() -> None:
    """And what it reached in the one beside it."""
    reached = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert len(bundled()) >= 4
    for name in bundled():
        assert f"| `{name}` |" in README
        assert f"| `{name}` |" in reached


def test_the_version_is_in_the_changelog() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {charlstm.__version__}" in changes


def block(marker: str, text: str) -> str:
    """The code block of a text that follows <!-- marker -->."""
    match = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"model.embedding": 12},
        {"model.embedding": 30, "model.hidden": 30, "model.tie": True},
        {"model.embedding": 12, "model.tie": True},
    ],
    ids=["one-hot", "embedded", "tied", "projected"],
)
def test_the_reader_of_checkpoints_in_the_docs_agrees_with_evaluate(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    """A script of NumPy alone gets the figure that evaluate gets."""
    text = (ROOT / "corpora" / "lighthouse.txt").read_text(encoding="utf-8")
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    (tmp_path / "other.txt").write_text(text[-700:], encoding="utf-8")
    training = charlstm.train(
        tmp_path / "corpus.txt", tmp_path / "m.npz", settings={"train.steps": 20, **keys}
    )
    for _ in training:
        pass
    docs = (ROOT / "docs" / "checkpoint-format.md").read_text(encoding="utf-8")
    (tmp_path / "plain.py").write_text(block("plain", docs), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "plain.py", "m.npz", "other.txt"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    evaluation = charlstm.load(tmp_path / "m.npz").evaluate(text[-700:])
    assert float(process.stdout) == pytest.approx(evaluation.nats_per_char, abs=1e-5)


def test_the_format_is_documented() -> None:
    """Every key that a checkpoint has in its metadata, and every group of its members."""
    docs = (ROOT / "docs" / "checkpoint-format.md").read_text(encoding="utf-8")
    for key in [
        *Progress.__dataclass_fields__,
        "format",
        "version",
        "vocabulary",
        "streams",
        "config",
        "good",
    ]:
        assert f"`{key}`" in docs, key
    for name in {sums for optimizer in OPTIMIZERS.values() for sums in optimizer.sums}:
        assert f"`optimizer/{name}/…`" in docs
    for name in ("metadata", "counts", "best/…", "last/…", "average/…", "good/last/…", "sha256"):
        assert f"`{name}`" in docs


def test_the_readmes_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the library runs as it stands."""
    match = re.search(r"```python\n(import charlstm.*?)```", README, re.DOTALL)
    assert match is not None
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "hello.txt").write_text("hello")
    process = subprocess.run(
        [sys.executable, "-c", match[1]],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    lines = process.stdout.split()
    assert lines[0] == "hello"
    assert 0.0 < float(lines[1]) < 1.0


class TestCorpora:
    """The texts that ship are what they are said to be."""

    def test_hello(self) -> None:
        assert (ROOT / "corpora" / "hello.txt").read_bytes() == b"hello"

    def test_english(self) -> None:
        text = (ROOT / "corpora" / "lighthouse.txt").read_text(encoding="utf-8")
        assert len(text) >= 40_000
        assert text.isascii()

    def test_korean(self) -> None:
        text = (ROOT / "corpora" / "ferry.txt").read_text(encoding="utf-8")
        assert len(text) >= 20_000
        assert len(re.findall(r"\([一-鿿]+\)", text)) >= 30
        assert text.count("“") == text.count("”") > 100
        assert len(text) * 0.1 > MIN_HELD_OUT
