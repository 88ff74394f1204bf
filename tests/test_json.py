"""JSON that other programs can read: no Infinity and no NaN, whatever the numbers are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support import POLYGLOT, run, trained

from charlstm.cli.streams import to_json
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def read(data: bytes) -> list[Any]:
    return [json.loads(line, parse_constant=refuse) for line in data.decode().splitlines()]


def test_null_stands_for_what_is_not_finite() -> None:
    document = {"a": [1.5, math.nan, {"b": -math.inf}], "c": math.inf, "d": "Infinity", "e": 3}
    expected = {"a": [1.5, None, {"b": None}], "c": None, "d": "Infinity", "e": 3}
    assert read(to_json(document).encode()) == [expected]


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose perplexity is more than a number holds."""
    path = trained(tmp_path_factory.mktemp("hopeless") / "m.npz", POLYGLOT, 3)
    checkpoint = read_checkpoint(path)
    checkpoint.model().weights["by"][0] = 1e6
    write_checkpoint(path, checkpoint)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "-"],
        ["evaluate", "--lines", "-"],
        ["evaluate", "--chars", "-"],
        ["evaluate", "--above", "0", "-"],
        ["sample", "-n", "5", "-t", "1e9"],
        ["info"],
    ],
)
def test_every_command(hopeless: Path, arguments: list[str]) -> None:
    process = run(*arguments, "-m", hopeless, "--json", stdin="the sea\n")
    assert process.returncode == 0, process.stderr
    (first, *_) = read(process.stdout)
    if arguments[0] == "evaluate" and "--chars" not in arguments:
        assert first["perplexity"] is None
        assert first["nats"] > 1e5
