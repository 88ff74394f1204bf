"""The LSTM of one page, docs/learn/minimal.py: the same losses as the package's."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import CORPORA, ROOT, STORY, records

import charlstm
from charlstm.config.schema import Config
from charlstm.config.sources import read_config
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS, clip_value_
from charlstm.nn.unrolled import Unrolled
from charlstm.storage.checkpoint import network_shape
from charlstm.text.corpus import Corpus, Streams

Array = NDArray[Any]

PAGE = ROOT / "docs" / "learn" / "minimal.py"
STEPS = 100


def ids_of(text: str) -> tuple[Array, int]:
    """The ids of a text, and the size of its vocabulary."""
    characters = sorted(set(text))
    return np.array([characters.index(c) for c in text]), len(characters)


def minimal_losses(page: Path, text: str, steps: int) -> Array:
    """Nats per character of each step of the page."""
    names = runpy.run_path(str(page))
    ids, V = ids_of(text)
    weights = names["start"](V, np.random.default_rng(0))
    return np.array([loss for loss, _, _ in names["train"](weights, ids, steps)])


def float64_losses(text: str, steps: int) -> Iterator[float]:
    """Nats per character of each step of the package's network and optimizer, in float64, with the
    configuration `mujeong`."""
    config = Config().updated(read_config("mujeong"))
    t, m = config.train, config.model
    corpus = Corpus.from_text(text, valid=0.0)
    model = Model(network_shape(config, len(corpus.vocabulary)), np.float64)
    model.initialise(np.random.default_rng(0), m.forget_bias, m.start)
    unrolled = Unrolled(model, t.length, t.batch)
    streams = Streams(corpus.train, t.batch, t.length)
    optimizer = OPTIMIZERS[t.optimizer](model.weights.flat)
    gradient, state = model.weights.like(), model.zero_state(t.batch)
    assert (t.loss, t.clip_norm, t.reset) == ("sum", None, 0.0)
    assert t.clip_value is not None
    for _ in range(steps):
        segment = streams.next()
        state = unrolled.forward(segment[:-1], state)
        nats, _ = unrolled.loss_and_gradient(segment[1:], gradient)
        clip_value_(gradient.flat, t.clip_value)
        optimizer.step_(model.weights.flat, gradient.flat, t.lr)
        yield float(nats.sum()) / t.length


@pytest.mark.parametrize("name", ["lighthouse.txt", "ferry.txt"])
def test_the_losses_are_those_of_the_package(name: str) -> None:
    text = (CORPORA / name).read_text(encoding="utf-8")
    expected = np.array([*float64_losses(text, STEPS)])
    losses = minimal_losses(PAGE, text, STEPS)
    assert len(losses) == len(expected) == STEPS
    assert np.abs(losses - expected).max() < 1e-6
    assert losses[-20:].mean() < losses[:20].mean()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(1.0 - g**2)", "(1.0 - np.tanh(g) ** 2)"),
        ("dc = dc * f", "dc = 0.0 * dc"),
        ("dh = dh + dy", "dh = dy"),
        ('w["b"][1] = 1.0', 'w["b"][1] = 0.0'),
        ("dc * c * f * (1.0 - f)", "dc * c_next * f * (1.0 - f)"),
    ],
)
def test_a_fault_shows_in_the_losses(tmp_path: Path, right: str, wrong: str) -> None:
    """So the comparison above would find it."""
    code = PAGE.read_text(encoding="utf-8")
    assert code.count(right) == 1
    (tmp_path / "wrong.py").write_text(code.replace(right, wrong), encoding="utf-8")
    text = STORY.read_text(encoding="utf-8")
    expected = np.array([*float64_losses(text, 10)])
    assert np.abs(minimal_losses(tmp_path / "wrong.py", text, 10) - expected).max() > 1e-4


def test_the_command_begins_with_the_same_losses() -> None:
    """In float32, from the same first weights. Adagrad's first steps are as long for a gradient
    that is all rounding as for any other, so the losses drift apart."""
    settings = {"text.valid": 0, "train.steps": 10, "train.sample_at": [], "train.workers": 1}
    run = records(charlstm.train(STORY, config="mujeong", settings=settings))
    losses = minimal_losses(PAGE, STORY.read_text(encoding="utf-8"), 10)
    assert [record.train for record in run] == pytest.approx(losses.tolist(), abs=0.02)


def test_it_trains_and_samples(tmp_path: Path) -> None:
    """As a script, with NumPy alone."""
    (tmp_path / "hello.txt").write_text("hello", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(PAGE), "hello.txt", "300"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        encoding="utf-8",
        env={"PATH": ""},
    )
    lines = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines[:3]] == ["step 100", "step 200", "step 300"]
    assert float(lines[2].split()[-1]) < 0.01
    assert "hellohellohello" in lines[3]
    assert len(lines[3]) == 200


def test_it_is_short_and_takes_numpy_alone() -> None:
    code = PAGE.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 120
    imports = re.findall(r"^ *(?:import|from) (\w+)", code, re.M)
    assert imports == ["sys", "pathlib", "numpy"]
