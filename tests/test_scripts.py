"""The scripts and style sheets of the report, as a formatter and linter sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from browser import JS

from charlstm.report.page import ASSETS, SECTIONS, assets

BIOME = JS / "node_modules" / ".bin" / "biome"

pytestmark = pytest.mark.skipif(not BIOME.exists(), reason="needs Biome: npm install in tests/js")


def problems(path: Path) -> str:
    """What Biome says of a file, or of those in a folder; nothing where all is well."""
    command = [str(BIOME), "check", f"--config-path={JS}", "--error-on-warnings", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return done.stderr + done.stdout if done.returncode else ""


def test_each_file_is_formatted_and_clean() -> None:
    assert problems(ASSETS) == ""


def test_together_they_declare_all_that_they_use(tmp_path: Path) -> None:
    """As they stand in a page: no name twice, none missing, none for nothing."""
    bundle = tmp_path / "bundle.js"
    bundle.write_text(assets(SECTIONS, "js"), encoding="utf-8")
    assert problems(bundle) == ""


def test_a_missing_name_is_found(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.js"
    bundle.write_text(assets(SECTIONS, "js") + "\nsofmax([1, 2]);\n", encoding="utf-8")
    assert "sofmax" in problems(bundle)
