"""What several test files share: places, texts, commands as processes, trained models."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import numpy as np
import pytest

import charlstm
from charlstm.api import LanguageModel
from charlstm.cli import main
from charlstm.config.schema import Config
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.events import Record
from charlstm.training.run import Training

ROOT = Path(__file__).parent.parent
CORPORA = ROOT / "corpora"
STORY = CORPORA / "lighthouse.txt"

UNITS = ("char", "byte", "word")
every_unit = pytest.mark.parametrize("unit", UNITS)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

POLYGLOT = "the sea was calm\nand the boat went out\n\n은여울 나루에 배가 🚢\nשלום עולם\n" * 5
"""Lines in three scripts, one of them empty, one with a unit beyond the first plane."""

TINY = ("--set", "model.hidden=4")
"""Options of `charlstm train`, for tests to which the model makes no difference."""


@contextlib.contextmanager
def standard_streams(stdin: bytes) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """In the place of this process's standard streams, down to the descriptors, which processes
    inherit: a pipe that brings `stdin`, and two files, for output and errors."""
    before = [os.dup(descriptor) for descriptor in range(3)]
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        source, feed = os.pipe()

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), open(feed, "wb") as pipe:
                pipe.write(stdin)

        writer = threading.Thread(target=write)
        for descriptor, new in enumerate((source, out.fileno(), err.fileno())):
            os.dup2(new, descriptor)
        os.close(source)
        try:
            for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
                mode = "w" if descriptor else "r"
                stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
                patch.setattr(sys, name, stream)
            writer.start()
            yield out, err
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            for descriptor, old in enumerate(before):
                os.dup2(old, descriptor)
                os.close(old)
            writer.join()


def run(
    *arguments: str | Path,
    stdin: bytes | str = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """`charlstm ARGUMENTS` in this process, with streams, a folder and an environment as in a
    process of its own."""
    strings = list(map(str, arguments))
    with (
        standard_streams(stdin.encode() if isinstance(stdin, str) else stdin) as (out, err),
        contextlib.chdir(cwd or "."),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        try:
            code = main(strings)
        except Exception:  # as the interpreter does at the end of a process
            traceback.print_exc()
            code = 1
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(strings, code, out.read(), err.read())


def run_process(
    *arguments: str | Path,
    stdin: bytes | str = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """`charlstm ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "charlstm", *map(str, arguments)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        timeout=120,
    )


def fails(process: subprocess.CompletedProcess[bytes], code: int, *parts: str) -> str:
    """Assert the exit code and an error of one line that has these parts."""
    text = process.stderr.decode()
    assert process.returncode == code, text
    errors = [line for line in text.splitlines() if line.startswith("charlstm: error: ")]
    assert len(errors) == 1, text
    assert text.splitlines()[-1] == errors[0]
    assert "Traceback" not in text
    for part in parts:
        assert part in errors[0]
    return errors[0]


def block(marker: str, page: str) -> str:
    """The code that follows <!-- marker --> on a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    match = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


def wait_for(path: Path) -> None:
    """Wait until another process has made a file."""
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def trained(path: Path, corpus: str, steps: int = 120, **settings: Any) -> Path:
    """A checkpoint at `path`, trained on a text, which stays beside it."""
    changes = {"train.steps": steps, "train.workers": 1, "model.hidden": 32, **settings}
    (path.parent / "corpus").write_text(corpus, encoding="utf-8")
    for _ in charlstm.train(path.parent / "corpus", path, settings=changes):
        pass
    return path


def records(training: Training) -> Iterator[Record]:
    """The records of a run that never diverges."""
    for event in training:
        assert isinstance(event, Record)
        yield event


def random_model(
    unit: str = "char", cell: str = "lstm", dtype: Any = np.float64, **family: Any
) -> tuple[Model, Vocabulary]:
    """A model of `POLYGLOT` with weights at random, and its vocabulary."""
    v = Corpus.from_text(POLYGLOT, 0.0, unit=unit, **family.pop("text", {})).vocabulary
    model = Model(Shape(cell, len(v), 6, family.pop("layers", 1), **family), dtype)
    model.weights.flat[...] = np.random.default_rng(2).normal(0, 0.7, model.weights.flat.shape)
    return model, v


def language_of(
    model: Model, vocabulary: Vocabulary, config: Config | None = None
) -> LanguageModel:
    """A language model without a checkpoint: its network, vocabulary and configuration."""
    parts = SimpleNamespace(model=model, vocabulary=vocabulary, config=config or Config())
    return cast(LanguageModel, parts)


def sampled(model: Path, *arguments: str | Path) -> str:
    """What `sample` prints."""
    process = run("sample", "-m", model, *arguments)
    assert process.returncode == 0, process.stderr
    return process.stdout.decode("utf-8")
