"""The gradient flow is the derivative that it is said to be, and shows what it is known for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from support import STORY, fails, run

import charlstm
from charlstm.config.schema import Config, Setting
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.scoring.flow import POSITIONS, gradient_flow
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training

Array = NDArray[Any]
V, K, EPSILON = 6, 4, 1e-5

every_cell = pytest.mark.parametrize("cell", list(CELLS))


def make(cell: str, layers: int = 1, spread: float = 0.6, **family: Any) -> Model:
    model = Model(Shape(cell, V, tuple(range(2, 2 + layers)), layers, **family), np.float64)
    model.weights.flat[...] = np.random.default_rng(5).normal(0, spread, model.weights.flat.shape)
    return model


class Nudged:
    """The reference's step of a cell, in which one number of one state is another one: c before
    h is made of it, h after c."""

    def __init__(self, cell: str, state: int, at: int, by: float) -> None:
        self.step, self.state, self.at, self.by = reference.CELLS[cell], state, at, by

    def __call__(self, x: Array, before: Any, Wx: Array, Wh: Array, b: Array) -> Any:
        after = [s.copy() for s in self.step(x, before, Wx, Wh, b)]
        if self.state:  # of an LSTM, whose h is o tanh(c)
            h, c = after
            o = reference.sigmoid(x @ Wx[2] + before[0] @ Wh[2] + b[2])
            np.testing.assert_allclose(h, o * np.tanh(c))
            c[0, self.at] += self.by
            return o * np.tanh(c), c
        after[0][0, self.at] += self.by
        return tuple(after)


def loss(model: Model, ids: Array, state: Any, when: int, layer: int, cell: Any) -> float:
    """Nats of the last of ids, where in step `when` the `layer` is stepped by `cell`."""
    n = reference.STATES[model.cell.name]
    states = [tuple(state[k * n : (k + 1) * n]) for k in range(model.shape.layers)]
    w: Any = model.weights
    for t, x in enumerate(reference.one_hot(ids[:-1, None], V)):
        x = x @ w["E"] if model.shape.embedding else x
        for k in range(model.shape.layers):
            step = cell if (t, k) == (when, layer) else reference.CELLS[model.cell.name]
            states[k] = step(x, states[k], *(w[f"layer{k}.{m}"] for m in ("Wx", "Wh", "b")))
            x = states[k][0]
    return float(reference.cross_entropy(x @ model.Wy.T + w["by"], ids[-1:])[0])


@pytest.mark.parametrize("family", [{}, {"embedding": 3, "tie": True}], ids=["one-hot", "tied"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@every_cell
def test_against_central_differences(cell: str, layers: int, family: dict[str, Any]) -> None:
    """Every norm, at every lag, of every state and layer, over three pieces, is that of the
    difference quotients of a naive model in which one number is nudged in one step."""
    model = make(cell, layers, **family)
    ids = np.random.default_rng(1).integers(0, V, 3 * (K + 1) + 1)
    ids[2] = -1  # read as unknown
    flow = gradient_flow(model, ids, K)
    assert flow.positions == 3
    assert list(flow.norms) == list(model.shape.states)
    state: Any = model.zero_state(1)
    norms = np.zeros((len(state), K + 1))
    n = len(model.cell.states)
    for start in range(0, 3 * (K + 1), K + 1):
        piece = ids[start : start + K + 2]
        for s in range(len(state)):
            for lag in range(K + 1):
                quotients = []
                for at in range(model.shape.widths[s // n]):
                    ends = [
                        loss(model, piece, state, K - lag, s // n, Nudged(cell, s % n, at, by))
                        for by in (EPSILON, -EPSILON)
                    ]
                    quotients.append((ends[0] - ends[1]) / (2 * EPSILON))
                norms[s, lag] += np.linalg.norm(quotients) / 3
        _, state = reference.forward(cell, layers, model.weights, piece[:-1, None], state)
    for got, expected in zip(flow.norms.values(), norms, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_known_by_hand() -> None:
    """One unit, one layer: an RNN's dh falls by Wh (1 - h^2) at every step, and an LSTM whose
    gates do not look at anything else passes dc on by its forget gate."""
    rnn = Model(Shape("rnn", 2, 1), np.float64)
    rnn.weights["layer0.Wh"][...], rnn.weights["Wy"][0] = 0.5, 1.0
    norms = gradient_flow(rnn, np.zeros(8, int), 6).norms["layer0.h"]
    np.testing.assert_allclose(norms, 0.5 * 0.5 ** np.arange(7))
    lstm = Model(Shape("lstm", 2, 1), np.float64)
    lstm.weights["layer0.b"][1], lstm.weights["Wy"][0] = 3.0, 1.0
    norms = gradient_flow(lstm, np.zeros(8, int), 6).norms["layer0.c"]
    np.testing.assert_allclose(norms, 0.25 / (1 + np.exp(-3.0)) ** np.arange(7))


def test_what_counts() -> None:
    """At most so many pieces; pieces that end before an unknown character do not count; float32
    is as good; a text too short is refused."""
    model = make("lstm")
    ids = np.random.default_rng(2).integers(0, V, 3000)
    whole = gradient_flow(model, ids, 9)
    assert whole.positions == POSITIONS
    again = gradient_flow(model, ids[: POSITIONS * 10 + 1], 9)
    assert again.to_dict() == whole.to_dict()
    single = model.with_weights(model.weights.flat.astype(np.float32))
    for a, b in zip(
        gradient_flow(single, ids, 9).norms.values(), whole.norms.values(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    ids[20] = -1
    assert gradient_flow(model, ids[:41], 9).positions == 3
    assert gradient_flow(model, ids[:11], 9).positions == 1
    for short in (ids[:10], ids[:0], np.full(11, -1)):
        with pytest.raises(charlstm.CorpusError, match="9 steps back it takes 11"):
            gradient_flow(model, short, 9)


def test_what_is_outside_for_good_does_not_count() -> None:
    """Of characters that is also what `<unk>` stands for; a word outside is scored as `<unk>`."""
    model, ids = make("lstm"), np.arange(41) % V
    assert gradient_flow(model, ids, 9).positions == 4
    assert gradient_flow(model, ids, 9, charged=int(ids[20])).positions == 3
    with pytest.raises(charlstm.CorpusError, match="the text has 5 words"):
        gradient_flow(model, ids[:5], 9, unit="word")


@pytest.mark.parametrize(("unit", "positions"), [("char", 0), ("word", 3)])
def test_unknown_targets(unit: str, positions: int) -> None:
    settings = {"text.unit": unit, "text.min_count": 2, "model.hidden": 4, "train.steps": 1}
    config = Config().updated(Setting(*s, "test") for s in settings.items())
    text = Corpus.from_text("a b " * 50 + "c", 0.0, unit=unit, min_count=2)
    training = Training.start(text, config)
    language = charlstm.LanguageModel(training.checkpoint())
    foreign = "z " * 200 if unit == "word" else "z" * 200
    if positions:
        assert charlstm.gradient_flow(language, foreign).positions == positions
    else:
        with pytest.raises(charlstm.CorpusError, match="the last of them in the vocabulary"):
            charlstm.gradient_flow(language, foreign)


def test_from_the_command_line(tmp_path: Path) -> None:
    """A table with a line for each lag, or JSON, of what the library gives."""
    text = STORY.read_text("utf-8")[:2000]
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    settings = {"train.steps": 20, "model.hidden": [9, 7], "model.layers": 2}
    for _ in charlstm.train(tmp_path / "corpus.txt", tmp_path / "m.npz", settings=settings):
        pass
    flow = charlstm.gradient_flow(charlstm.load(tmp_path / "m.npz"), text)
    assert isinstance(flow, charlstm.GradientFlow)
    assert flow.positions == (len(text) - 1) // 51

    def info(*more: str) -> subprocess.CompletedProcess[bytes]:
        return run("info", "m.npz", "--gradient-flow", *more, cwd=tmp_path)

    lines = info("corpus.txt").stdout.decode().splitlines()
    names = ["layer0.h", "layer0.c", "layer1.h", "layer1.c"]
    assert lines[0].replace("of lag 0", "").split() == ["lag", *names]
    assert len(lines) == 52
    for lag, line in enumerate(lines[1:]):
        row = [float(x) for x in line.split()]
        assert row[0] == lag
        np.testing.assert_allclose(row[1::2], [flow.norms[n][lag] for n in names], rtol=1e-3)
        np.testing.assert_allclose(
            row[2::2], [flow.norms[n][lag] / flow.norms[n][0] for n in names], rtol=1e-3
        )
    assert json.loads(info("corpus.txt", "--json").stdout) == flow.to_dict()
    (tmp_path / "short.txt").write_text("short")
    fails(info("short.txt"), 3, "has 5 characters")
    fails(info("gone.txt"), 2)


def test_a_file_of_bytes(tmp_path: Path) -> None:
    """It is read as bytes, and not decoded."""
    data = b"caf\xe9 \xff and on\n" * 20
    (tmp_path / "t").write_bytes(data)
    settings = {"train.steps": 2, "model.hidden": 5, "text.unit": "byte"}
    for _ in charlstm.train(tmp_path / "t", tmp_path / "m.npz", settings=settings):
        pass
    process = run("info", "m.npz", "--gradient-flow", "t", "--json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    text = data.decode("utf-8", "surrogateescape")
    flow = charlstm.gradient_flow(charlstm.load(tmp_path / "m.npz"), text)
    assert json.loads(process.stdout) == flow.to_dict()
