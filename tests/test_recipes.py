"""The pipelines of README.md and docs/recipes.md run, and print what stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import CORPORA, ROOT

pytestmark = pytest.mark.whole

PAGES = "".join(
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/recipes.md")
)
BLOCK = re.compile(r"(<!-- varies -->\n)?```console\n(.*?)```", re.DOTALL)
"""A block of commands with their outputs; marked, if the text depends on the processor."""


def steps() -> list[tuple[str, str, bool]]:
    """Commands, in their order, each with what it is to print and whether that may vary."""
    found = []
    for varies, block in BLOCK.findall(PAGES):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            found.append((command, output, bool(varies)))
    return found


def test_recipes(tmp_path: Path) -> None:
    (tmp_path / "corpora").symlink_to(CORPORA)
    command = tmp_path / "bin" / "charlstm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m charlstm "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
    }
    assert len(steps()) >= 20
    for line, output, varies in steps():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=120,
        )
        # grep and a filter that pass nothing exit with 1
        assert done.returncode in ((0, 1) if output == "0\n" else (0,)), (line, done.stderr)
        assert b"Traceback" not in done.stderr
        printed = done.stdout.decode("utf-8")
        if varies:
            assert len(printed.splitlines()) == len(output.splitlines()), line
        else:
            assert printed == output, line
