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
from support import ROOT, STORY, block

import charlstm
import docs
from charlstm.cli import COMMANDS, cli, in_python, main
from charlstm.config.bundle import bundled
from charlstm.config.schema import KEYS
from charlstm.nn.optimizers import OPTIMIZERS
from charlstm.storage.progress import Progress
from charlstm.text.corpus import MIN_HELD_OUT

PACKAGE = ROOT / "charlstm"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(path for path in ROOT.glob("*.md")),
    *(path for path in (ROOT / "docs").rglob("*.md")),
    ROOT / "configs" / "README.md",
]

HOUSE = {
    "": ["_version", "errors"],
    "nn": [
        *("arrays", "products", "cells", "shape", "recurrent", "dropout", "input", "output"),
        *("model", "unrolled", "stepper", "mixture", "optimizers"),
    ],
    "config": ["bundle", "fields", "yaml_subset", "schema", "sources"],
    "text": [
        *("visible", "normal_forms", "vocabulary", "units", "census", "encodings"),
        *("reading", "seams", "ids", "split", "corpus"),
    ],
    "storage": ["lock", "files", "archive", "progress", "checkpoint"],
    "scoring": ["scorers", "adaptive", "mixed", "evaluation", "held_out", "trace", "flow"],
    "generation": [
        *("regex", "nfa", "matcher"),
        *("numbers", "choose", "ending", "source", "scores", "batch", "sampler", "beam"),
    ],
    "training": [
        *("events", "plan", "ranks", "shards", "resume", "saving", "learner"),
        *("evaluations", "run", "rules", "auto", "start"),
    ],
    "api": [],
    "mixing": [],
    "report": [
        *("page", "passage", "recording", "features", "tracking", "figures"),
        *("overview", "learning", "surprise", "cells", "gates", "reach", "alive", "memory"),
        "build",
    ],
    "exchange": [
        *("safetensors", "description", "pytorch", "recognise", "graph", "exports", "imports"),
    ],
    "llm_plugin": [],
    "cli": [
        *("streams", "options", "offers", "models", "log", "seeds", "dialogue"),
        *("train", "sample", "evaluate", "info", "report", "export", "import_"),
        *("config", "completion"),
    ],
}
"""The folders of the package and the files in each, from the ground up."""

FLOORS = [
    ".".join(filter(None, [folder, name]))
    for folder, names in HOUSE.items()
    for name in names or [""]
]
"""Every file of the package, from the ground up; a file imports only from lower floors."""

AROUND = {
    "__init__",
    "__main__",
    *(f"{folder}.__init__" for folder, names in HOUSE.items() if names),
}
"""Files without a floor: they name what stands in the house."""

RUNTIME = {"numpy", "click", "tqdm", "yaml"}
OPTIONAL = {
    "mpi4py": "ranks.py",
    "jinja2": "page.py",
    "matplotlib": "figures.py",
    "onnx": "graph.py",
    "llm": "llm_plugin.py",
    "pydantic": "llm_plugin.py",
}
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


def anchor(title: str) -> str:
    """The name by which a link finds a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


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
def test_every_option_is_on_the_page_of_its_command(command: str) -> None:
    assert f"charlstm {command}" in README
    page = (ROOT / "docs" / f"{command}.md").read_text(encoding="utf-8")
    assert f"charlstm {command}" in page
    for parameter in command_of(command).params:
        if isinstance(parameter, click.Option):
            for name in parameter.opts + parameter.secondary_opts:
                assert re.search(rf"^\| `[^`]*(?<![\w-]){name}\b", page, re.M), f"{command} {name}"


def test_every_key_is_in_the_reference() -> None:
    """Each section of the configuration has a table with all its keys, none without a meaning."""
    reference = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key in KEYS:
        section, _, name = key.partition(".")
        table = reference.partition(f"<!-- keys: {section} -->")[2].partition("<!-- end -->")[0]
        assert re.search(rf"^\| `{name}` \| `[^`]+` \| [^|]+ \| \w[^|]+ \|$", table, re.M), key


def test_generated_tables_are_current() -> None:
    """If not, run `python tests/docs.py`."""
    assert [path.name for path in docs.outdated()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    """Links lead to files and headings, and paths in backticks to files; the network aside."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        name, _, heading = target.partition("#")
        if name.startswith("https://"):
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.M)
            assert heading in [anchor(title) for title in titles], target
    for code in re.findall(r"`([^`\n]+)`", text):
        for name in re.findall(r"\b(?:charlstm|configs|corpora|docs|tests)/[\w./-]*\w", code):
            assert (ROOT / name).exists(), name


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_architecture_names_every_file_once() -> None:
    """In its table; of the files of the package, those with nothing but a docstring aside."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+\.py)` \| \d+ \| \S", text, re.M)
    code = [path for path in files() if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1]
    assert sorted(rows) == sorted(str(path.relative_to(PACKAGE)) for path in code)


def test_pages_quote_the_cells() -> None:
    """The lines of code of cells.py on the page of letters and in the book stand there."""
    cells = " ".join((PACKAGE / "nn" / "cells.py").read_text(encoding="utf-8").split())
    pages = [ROOT / "docs" / "notation.md", *(ROOT / "docs" / "learn").glob("*/0*.md")]
    quoted = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"`(yield np\.[^`]*)`", text) + re.findall(
            r"^    (yield np\..*)", text, re.M
        )
        if page.name == "notation.md":
            lines += re.findall(r"^    (np\..*)", text, re.M)
        for line in lines:
            assert re.sub(r"\s+#.*", "", " ".join(line.split())) in cells, (page, line)
        quoted += len(lines)
    assert quoted > 30


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180
    assert len(re.findall(r"^```console$", README, re.M)) == 5


def test_the_figures_of_the_readme_stand_in_the_docs() -> None:
    """Its table is a summary: the page that a row links to has every figure of the row."""
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|([^|]*)\| \[\w+\]\((\S+)\) \|$", README, re.M)
    assert len(rows) >= 5
    for reached, beside, target in rows:
        page = (ROOT / target).read_text(encoding="utf-8")
        for figure in re.findall(r"\d[\d.,]*k?", f"{reached} {beside.partition(':')[2]}"):
            assert re.search(rf"\b{re.escape(figure)}\b", page), figure


def test_every_command_is_listed() -> None:
    """The table that --help is made of has all modules with a command, and nothing else."""
    assert set(map(in_python, COMMANDS)) <= set(HOUSE["cli"])
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
names = {list(map(in_python, COMMANDS))}
commands = {{name for name in names if f"charlstm.cli.{{name}}" in sys.modules}}
assert not loaded, loaded
assert commands <= {{{in_python(arguments[0])!r}}}, commands
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


def test_every_configuration_is_listed() -> None:
    """What it is, and what it reached."""
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    what, _, reached = text.partition("## What they reached")
    assert len(bundled()) >= 4
    for name in bundled():
        assert f"| `{name}` |" in what
        assert f"| `{name}` |" in reached


def test_the_version_is_in_the_changelog() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {charlstm.__version__}, 20" in changes
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {charlstm.__version__}\n" in citation


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
    text = STORY.read_text(encoding="utf-8")
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    (tmp_path / "other.txt").write_text(text[-700:], encoding="utf-8")
    training = charlstm.train(
        tmp_path / "corpus.txt", tmp_path / "m.npz", settings={"train.steps": 20, **keys}
    )
    for _ in training:
        pass
    (tmp_path / "plain.py").write_text(block("plain", "checkpoint-format.md"), encoding="utf-8")
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
        text = STORY.read_text(encoding="utf-8")
        assert len(text) >= 40_000
        assert text.isascii()

    def test_korean(self) -> None:
        text = (ROOT / "corpora" / "ferry.txt").read_text(encoding="utf-8")
        assert len(text) >= 20_000
        assert len(re.findall(r"\([一-鿿]+\)", text)) >= 30
        assert text.count("“") == text.count("”") > 100
        assert len(text) * 0.1 > MIN_HELD_OUT
