"""The plugin for `llm`: a prompt is a seed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, STORY, trained

import charlstm

llm: Any = pytest.importorskip("llm", reason="llm is not installed; pip install 'charlstm[llm]'")

from charlstm.llm_plugin import CharLSTM  # noqa: E402


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a corner of the story."""
    text = STORY.read_text(encoding="utf-8")[:3000]
    return trained(tmp_path_factory.mktemp("story") / "m.npz", text, 60)


def test_it_says_what_sample_says(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the options it has; in pieces as they are made."""
    monkeypatch.setenv("CHARLSTM_MODEL", str(story))
    tried: list[dict[str, Any]] = [
        {"length": 30, "rng_seed": 3},
        {"length": 5, "temperature": 0.0},
        {"rng_seed": 1},
    ]
    for options in tried:
        pieces = list(CharLSTM().prompt("The ", **options))
        assert pieces == list(charlstm.load(story).sample("The ", **options))
        assert len(pieces) == options.get("length", 200)
    assert CharLSTM().prompt("The ", stream=False, length=5, temperature=0).text() == "".join(
        charlstm.load(story).sample("The ", length=5, temperature=0)
    )


@pytest.mark.parametrize(
    ("prompt", "options", "part"),
    [
        ("The ", {"temperature": -1}, "expected a number from 0 up"),
        ("The ", {"length": -1}, "expected a whole number from 0"),
        ("The ", {"rng_seed": -1}, "rng_seed"),
        ("\N{SAILBOAT}", {}, "the seed"),
    ],
)
def test_what_is_wrong_is_one_line(
    prompt: str, options: dict[str, Any], part: str, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLSTM_MODEL", str(story))
    with pytest.raises(llm.ModelError, match=part) as caught:
        CharLSTM().prompt(prompt, **options).text()
    assert len(str(caught.value).splitlines()) == 1


def test_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARLSTM_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(llm.ModelError, match=r"charlstm\.npz"):
        CharLSTM().prompt("a").text()


def test_the_command(hello: Path, tmp_path: Path) -> None:
    """As a user runs it."""
    if "charlstm" not in {entry.name for entry in entry_points(group="llm")}:
        pytest.skip("the installed charlstm is older than its plugin")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "llm", "-m", "charlstm", "hell", "--no-log"),
            *("-o", "temperature", "0", "-o", "length", "1"),
        ],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "CHARLSTM_MODEL": str(hello),
            "LLM_USER_PATH": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
    )
    assert (done.returncode, done.stdout) == (0, "o\n"), done.stderr
