"""The packages hold what they should, and are the same bytes wherever they are made, and when."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

import charlstm
from charlstm.config.bundle import bundled

pytest.importorskip("hatchling", reason="hatchling, which builds the packages, is not installed")

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INCLUDED = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]

BUILD = """
import os, sys
os.umask(int(sys.argv[2], 8))
from hatchling.build import build_sdist, build_wheel
build_wheel(sys.argv[1])
build_sdist(sys.argv[1])
"""


def built(source: Path, umask: str) -> dict[str, Path]:
    """The wheel and the source package of a tree, by their endings."""
    folder = source.parent / f"{source.name}-built"
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    command = [sys.executable, "-c", BUILD, str(folder), umask]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env=environment)
    return {path.suffix: path for path in folder.iterdir()}


def copied(folder: Path, mode: int, seconds: float) -> Path:
    """A copy of this tree, with all its files of a mode and a time."""
    folder.mkdir(parents=True)
    for pattern in [*INCLUDED, "pyproject.toml"]:
        for path in ROOT.glob(pattern):
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.npz")
                shutil.copytree(path, folder / path.name, ignore=ignored)
            else:
                shutil.copy(path, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            os.utime(path, (seconds, seconds))
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("one")
    return built(copied(folder / "tree", 0o644, 1.7e9), "022")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_bytes(packages: dict[str, Path], tmp_path: Path) -> None:
    """From a copy elsewhere, of another age and with other permissions; and the wheel also from
    the source package."""
    other = built(copied(tmp_path / "a" / "longer name", 0o600, 1.2e9), "077")
    assert sorted(other) == sorted(packages) == [".gz", ".whl"]
    for ending, path in packages.items():
        assert path.name == other[ending].name
        assert digest(path) == digest(other[ending])
    with tarfile.open(packages[".gz"]) as archive:
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4
        archive.extractall(tmp_path / "unpacked", **safely)
    (source,) = (tmp_path / "unpacked").iterdir()
    again = built(source, "022")
    assert digest(again[".whl"]) == digest(packages[".whl"])
    assert digest(again[".gz"]) == digest(packages[".gz"])


def test_what_the_wheel_holds(packages: dict[str, Path]) -> None:
    """The package, its configurations, the manual pages, and nothing of the tests."""
    version = charlstm.__version__
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"charlstm-{version}.dist-info/METADATA").decode()
        entries = wheel.read(f"charlstm-{version}.dist-info/entry_points.txt").decode()
    sources = [*ROOT.glob("charlstm/**/*.py"), *ROOT.glob("charlstm/report/assets/*")]
    code = {f"charlstm/{p.relative_to(ROOT / 'charlstm')}" for p in sources}
    ships = {f"charlstm/configs/{name}.yaml" for name in bundled()}
    pages = {path.name for path in (ROOT / "docs" / "man").iterdir()}
    manual = {f"charlstm-{version}.data/data/share/man/man1/{name}" for name in pages}
    files = {"charlstm/py.typed", "charlstm/configs/schema.json", "charlstm/configs/README.md"}
    rest = names - code - ships - manual - files
    assert names - rest == code | ships | manual | files
    information = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert rest == {f"charlstm-{version}.dist-info/{name}" for name in information}
    assert f"\nVersion: {version}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "charlstm = charlstm.__main__:run" in entries


def test_what_the_source_package_holds(packages: dict[str, Path]) -> None:
    """All that the tests need."""
    with tarfile.open(packages[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "CITATION.cff", "LICENSE", "CHANGELOG.md"):
        assert name in names
    for folder in ("charlstm", "configs", "corpora", "docs", "tests"):
        present = (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".npz")
        expected = {str(p.relative_to(ROOT)) for p in present if "__pycache__" not in p.parts}
        assert {name for name in names if name.startswith(f"{folder}/")} == expected


def test_the_citation() -> None:
    """It has what the Citation File Format 1.2.0 asks for, and says what the package says."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == project["name"]
    assert citation["version"] == charlstm.__version__
    assert citation["license"] == project["license"]
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in project["authors"]]


def test_extras_are_named_alike() -> None:
    """Documents and messages name an extra as pip knows it wherever charlstm is installed: from a
    copy of the repository, from a wheel or from an index."""
    extras = set(PROJECT["project"]["optional-dependencies"])
    places = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charlstm/**/*.py")]
    named = [
        (path.name, *names)
        for path in places
        for names in re.findall(r"pip install '(.*?)\[(\w+)\]'", path.read_text(encoding="utf-8"))
    ]
    assert {name for name, *_ in named} >= {"README.md", "README.ko.md", "page.py", "graph.py"}
    for name, package, extra in named:
        assert (package, extra in extras) == ("charlstm", True), name
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`charlstm\[(\w+)\]`", table)) == extras


def test_the_classifiers_agree() -> None:
    """The oldest Python that is named is the oldest that is required."""
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    assert f">={named[0]}" == PROJECT["project"]["requires-python"]
    assert named == sorted(named, key=lambda version: int(version.partition(".")[2]))
