"""Settings of the whole test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import Window

    from charlstm.api import LanguageModel
    from charlstm.text.corpus import Corpus

# as the command line does: with small products, several threads are slower than one
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


# --- what several files of tests read, and none changes ------------------------------------------


@pytest.fixture(scope="session")
def small() -> bytes:
    """The bytes of the smallest kind of checkpoint."""
    from checkpoints import make, written

    checkpoint = make("rnn", average=0.0, optimizer="sgd", **{"train.eval_every": 3})
    return written(checkpoint)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """A corner of the English story: an epoch of 4 x 10 characters has 67 steps."""
    from support import STORY

    from charlstm.text.corpus import Corpus

    text = STORY.read_text(encoding="utf-8")[:3000]
    return Corpus.from_text(text, 0.1)


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the word hello."""
    from support import run

    path = tmp_path_factory.mktemp("models") / "h.npz"
    process = run("train", "-", "-o", path, stdin="hello")
    assert process.returncode == 0, process.stderr
    assert process.stdout == b""
    return path


@pytest.fixture(scope="session")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the Korean story, a few steps old."""
    from support import CORPORA, run

    path = tmp_path_factory.mktemp("models") / "ko.npz"
    process = run("train", CORPORA / "ferry.txt", "-o", path, "--steps", "150", "-q")
    assert process.returncode == 0, process.stderr
    assert process.stderr == b""
    return path


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A small model of the English story's beginning, loaded."""
    from reported import TEXT
    from support import trained

    import charlstm

    path = tmp_path_factory.mktemp("models") / "m.npz"
    return charlstm.load(trained(path, TEXT, steps=60, **{"model.hidden": 8}))


# --- a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """A headless browser, for all tests."""
    from browser import windows

    with windows(tmp_path_factory.mktemp("pages")) as window:
        yield window


@pytest.fixture
def window(browser: Window) -> Iterator[Window]:
    """What opens pages in the browser, and fails where one logs, errs or asks the network."""
    yield browser
    browser.check()
