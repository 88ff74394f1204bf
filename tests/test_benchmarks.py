"""The benchmarks' contestants do the same work: from the same weights and text they compute the
same losses, step after step, so their gradients, clipping and Adagrad are the same too."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from support import STORY

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import checkpoint_speed
import common
import peers
import train_speed
from support import records

import charlstm
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.unrolled import Unrolled

Array = NDArray[Any]

V, H, T, B, STEPS = 9, 6, 8, 4, 12
CLIP = 0.15
"""A limit that some of the steps reach and others do not."""
RATE = 0.1

every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
every_depth = pytest.mark.parametrize("layers", [1, 2])


def losses(step: Any) -> list[float]:
    return [step() for _ in range(STEPS)]


@every_depth
@every_cell
def test_pytorch_does_the_same_steps(cell: str, layers: int) -> None:
    torch = pytest.importorskip("torch")
    shape = peers.Task(cell, V, H, layers, T, B)
    theirs = losses(peers.torch_step(torch, *shape, clip=CLIP, rate=RATE))
    ours = losses(train_speed.charlstm_step(*shape, clip=CLIP, rate=RATE))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    unclipped = losses(train_speed.charlstm_step(*shape, rate=RATE))
    assert not np.allclose(ours, unclipped, rtol=1e-3)


@every_cell
def test_two_processes_do_the_same_steps(cell: str) -> None:
    shape = peers.Task(cell, V, H, 1, T, B)
    one = losses(train_speed.charlstm_step(*shape, clip=CLIP, rate=RATE))
    two = losses(train_speed.charlstm_step(*shape, workers=2, clip=CLIP, rate=RATE))
    np.testing.assert_allclose(one, two, rtol=1e-4)


@every_cell
def test_pytorch_with_an_embedding_computes_the_same_loss(cell: str) -> None:
    """One-hot input with the product of the embedding and the input weights."""
    torch = pytest.importorskip("torch")
    model = peers.initial(cell, V, H, 1)
    network = peers.torch_network(torch, model, embedding=True)
    with torch.no_grad():
        table = (network.shown.weight @ network.recurrent.weight_ih_l0.T).numpy()  # (V, G * H)
    theirs_first = table.reshape(V, -1, H).transpose(1, 0, 2)
    order = [peers.TORCH_GATES[cell].index(gate) for gate in model.cell.gates]
    model.weights["layer0.Wx"][...] = theirs_first[order]
    ids = peers.texts(V, T, B)[0]
    unrolled = Unrolled(model, T, B)
    unrolled.forward(ids[:-1], model.zero_state(B))
    theirs = peers.torch_step(torch, cell, V, H, 1, T, B, embedding=True)()
    assert unrolled.loss(ids[1:]).mean() == pytest.approx(theirs, rel=1e-5)


@every_depth
@every_cell
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jax_does_the_same_steps(cell: str, layers: int) -> None:
    pytest.importorskip("jax")
    shape = peers.Task(cell, V, H, layers, T, B)
    theirs = losses(peers.jax_step(*shape, clip=CLIP, rate=RATE))
    ours = losses(train_speed.charlstm_step(*shape, clip=CLIP, rate=RATE))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def as_ours(cell: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """Weights or gradients of the naive networks under the names and in the shapes of ours."""
    if cell == "rnn":
        Wx, Wh, b = (arrays[name].T[None] for name in ("Wxh", "Whh", "bh"))
    else:
        W = arrays["W"].reshape(4, H, H + V).transpose(0, 2, 1)  # (4, H + V, H)
        Wh, Wx, b = W[:, :H], W[:, H:], arrays["b"].reshape(4, 1, H)
    found = {"layer0.Wx": Wx, "layer0.Wh": Wh, "layer0.b": b}
    return {**found, "Wy": arrays["Why"], "by": arrays["by"][:, 0]}


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_the_naive_network_is_right(cell: str) -> None:
    """Its loss is that of the reference, its gradient that of the model."""
    network = peers.NAIVE[cell](V, H, np.float64)
    rng = np.random.default_rng(3)
    for w in network.weights.values():
        w[...] = rng.normal(0.0, 0.5, w.shape)
    ids = rng.integers(0, V, (T + 1, 1))
    state = [rng.normal(0.0, 0.5, (H, 1)) for _ in network.zero_state()]
    text = ids[:, 0].tolist()
    nats, gradient, after = network.loss(text[:-1], text[1:], tuple(state))

    weights = as_ours(cell, network.weights)
    logits, expected_after = reference.forward(cell, 1, weights, ids[:-1], [s.T for s in state])
    assert nats == pytest.approx(reference.cross_entropy(logits, ids[1:]).sum(), rel=1e-12)
    for got, expected in zip(after, expected_after, strict=True):
        np.testing.assert_allclose(got.T, expected, atol=1e-12)

    model = Model(Shape(cell, V, H), np.float64)
    for name, w in weights.items():
        model.weights[name][...] = w
    unrolled, expected_gradient = Unrolled(model, T, 1), model.weights.like()
    unrolled.forward(ids[:-1], [np.ascontiguousarray(s.T) for s in state])
    unrolled.loss_and_gradient(ids[1:], expected_gradient)
    for name, g in as_ours(cell, gradient).items():
        np.testing.assert_allclose(g, expected_gradient[name], atol=1e-12)


def test_verdicts() -> None:
    rows = [
        common.Row("a", "3", "x", "2", 1.5, 1.4, 1.5),
        common.Row("b", "3", "x", "2", 1.4, 1.4, 1.5),
        common.Row("c", "3", "x", "5", 0.6, 0.7, 0.6, at_most=True),
        common.Row("d", "3", "x", "not installed", target=2.0),
        common.Row("e", "3", "x", "2", 1.5, 1.4),
    ]
    assert [row.met for row in rows] == [True, False, True, None, None]
    assert common.code(rows) == 1
    assert common.code(rows[2:]) == 0
    assert common.markdown(rows).count("**no**") == 1


def test_rows_pass_from_process_to_process(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [common.Row("a", "3", "x", "2", 1.5, None, 1.5), common.Row("b", "1", "y", "nothing")]
    assert common.report(rows, as_json=True) == 0
    assert common.rows_of("a notice\n" + capsys.readouterr().out) == rows


def test_the_benchmark_of_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In little: four rows, each judged, and nothing left behind."""
    options = ["--folder", str(tmp_path), "--parameters", "20000", "--rounds", "1", "--steps", "1"]
    code = checkpoint_speed.main([*options, "--seconds", "0.2", "--json"])
    rows = common.rows_of(capsys.readouterr().out)
    assert [row.what.split()[0] for row in rows[:3]] == ["writing:", "reading:", "saves"]
    assert [row.target for row in rows] == [2.0] * 4
    assert code == common.code(rows)
    assert "parameters" in rows[0].what
    assert rows[0].best is not None
    assert 0.05 < rows[0].best < 50
    assert list(tmp_path.iterdir()) == []


def test_the_script_of_pytorch_learns_as_charlstm_train_does() -> None:
    """The same held-out losses, look after look: the same weights, streams, resets and average."""
    pytest.importorskip("torch")
    torch_train = importlib.import_module("torch_train")
    settings = {"model.hidden": 16, "train.batch": 8, "train.length": 20, "train.eval_every": 20}
    settings["train.steps"] = 100
    training = charlstm.train(STORY, settings=settings)
    ours = [r.valid for r in records(training) if r.valid is not None]
    recipe = torch_train.Recipe(H=16, B=8, T=20)
    looks = torch_train.train(STORY.read_text(encoding="utf-8"), recipe, every=20)
    theirs = [valid for _, _, valid, _ in itertools.islice(looks, 5)]
    assert len(ours) == 5
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def printed(
    name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> list[common.Row]:
    """What a benchmark finds when it is run for a moment."""
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--json"])
    code = importlib.import_module(name).main()
    rows = common.rows_of(capsys.readouterr().out)
    assert code == common.code(rows)
    assert all(row.best is not None for row in rows)
    return rows


def test_telling_lines_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two languages, and what does not belong, by models that are hardly trained."""
    quickly = ["--models", str(tmp_path), "--steps", "40", "--workers", "1"]
    (languages,) = printed("languages", quickly, monkeypatch, capsys)
    assert languages.met
    strange = printed("surprise", quickly, monkeypatch, capsys)
    assert [row.what.rpartition(": ")[2] for row in strange][:5] == [
        *("all kinds", "shuffled characters", "hands on a keyboard", "another language", "base64")
    ]
    assert strange[0].what.startswith("200 lines among 20 of lighthouse")
    assert all(row.best > 0.8 for row in strange[:5] if row.best is not None)


def test_the_area_under_the_curve() -> None:
    """As all pairs say, one by one."""
    area = importlib.import_module("surprise").area
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 30).astype(float), rng.integers(-3, 7, 50).astype(float)
    pairs = [(x > y) + (x == y) / 2 for x in a for y in b]
    assert area(a, b) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert area(np.array([2.0]), np.array([1.0, 2.0])) == 0.75


def test_romanised_korean() -> None:
    romanised = importlib.import_module("surprise").romanised
    assert romanised("“은여울 나루에 배가, 힣") == "eunyeoul narue baega, hit"


def test_what_matching_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All samples match; the time is measured."""
    short = ["--samples", "100", "--length", "50", "--rounds", "1"]
    matched, cost, _ = printed("match_cost", short, monkeypatch, capsys)
    assert matched.met
    assert matched.ours == "100"
    assert cost.target == 1.5


@pytest.mark.whole
def test_how_soon_lines_are_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = printed("pipe_latency", ["--lines", "3", "--steps", "5"], monkeypatch, capsys)
    assert [row.what for row in rows] == [
        f"{command}, the {which} of 3 lines"
        for command in ("evaluate --lines", "sample --each -n 60")
        for which in ("median", "slowest")
    ]


@pytest.mark.whole
def test_one_stream_in_other_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = printed("one_stream", ["--length", "300", "--rounds", "1"], monkeypatch, capsys)
    assert [row.target for row in rows] == [1.3] * 3
    assert all(row.median is not None for row in rows)


@pytest.mark.whole
def test_whole_commands_race(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With more time where the machine is too busy for two evaluations."""
    short = [str(STORY), "--rounds", "1", "--every", "5", "--only", "one core", "--seconds"]
    for seconds in ("6", "60"):
        try:
            (row,) = printed("whole_run", [*short, seconds], monkeypatch, capsys)
            break
        except SystemExit as e:
            late = e
    else:
        raise late
    assert row.what.startswith("one core")
    assert row.target == 1.4


def test_the_rate_of_a_log() -> None:
    """However slow the machine was: two lines give a rate, fewer none."""
    whole_run = importlib.import_module("whole_run")
    lines = [{"step": k, "chars": 100.0 * k * k, "seconds": float(k)} for k in range(1, 7)]
    assert whole_run.rate(lines) == 900
    assert whole_run.rate(lines[:2]) == 300
    for few in ([], lines[:1], [lines[0], lines[0]]):
        assert whole_run.rate(few) is None
