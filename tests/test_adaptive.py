"""Dynamic evaluation: nothing is learnt from before it is scored, and what is learnt is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from models import NAMES, make_model
from numpy.typing import NDArray
from support import STORY

import charlstm
import charlstm.scoring.adaptive
import charlstm.scoring.evaluation
from charlstm.cli import main
from charlstm.config.schema import Setting
from charlstm.nn.model import Model
from charlstm.nn.optimizers import OPTIMIZERS, STRIDE
from charlstm.nn.shape import Shape
from charlstm.scoring.adaptive import AdaptiveScorer, Dynamics
from charlstm.scoring.evaluation import LineScorer, surprisals
from charlstm.scoring.scorers import UNKNOWN_NATS, StaticScorer
from charlstm.storage.checkpoint import read_checkpoint

Array = NDArray[Any]
RATE, PULL = 0.02, 0.1
TEXT = STORY.read_text(encoding="utf-8")


def some_ids(N: int, V: int = 7, seed: int = 3) -> Array:
    return np.random.default_rng(seed).integers(0, V, N)


# --- the mathematics ---------------------------------------------------------------------------


def test_steps_are_those_of_the_reference() -> None:
    """An outlier, more steps than all count for the squares, and several blocks of weights."""
    rng = np.random.default_rng(1)
    w = rng.normal(0, 1, STRIDE + 50)
    scales = np.exp(rng.normal(0, 2, w.size))
    gradients = [rng.normal(0, scales) for _ in range(45)]
    gradients[20] = gradients[20] * 1000.0
    gradients[40][7] = 0.0
    expected = reference.dynamic_steps(w, gradients, RATE, PULL)
    got = w.copy()
    dynamics = Dynamics(got, RATE, PULL)
    for g, (weights, squares) in zip(gradients, expected, strict=True):
        dynamics.step_(g.copy())
        np.testing.assert_allclose(got, weights, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(dynamics.squares, squares, rtol=1e-10)


def nats_of(
    cell: str, layers: int, weights: dict[str, Array], ids: Array, state: list[Array]
) -> Any:
    """Nats of ids (n + 1,) but the first, those outside aside, and the state, by the reference."""
    logits, after = reference.forward(cell, layers, weights, ids[:-1, None], state)
    targets = ids[1:, None]
    nats = reference.cross_entropy(logits, np.where(targets < 0, 0, targets))
    return np.where(targets < 0, 0.0, nats)[:, 0], after


def plain(model: Any, ids: Array, length: int) -> Array:
    """Dynamic evaluation with gradients by the definition of a derivative."""
    cell, layers, state = model.cell.name, model.shape.layers, model.zero_state(1)
    w, nats, gradients = model.weights.flat.copy(), [], []
    trained = w.copy()
    for at in range(0, len(ids) - 1, length):
        part = ids[at : at + length + 1]

        def loss(flat: Array, part: Array = part, state: Any = state) -> float:
            weights = dict(model.with_weights(flat).weights)
            return float(np.sum(nats_of(cell, layers, weights, part, state)[0]))

        g, h = np.empty_like(w), 1e-5
        for k in range(len(w)):
            up, down = w.copy(), w.copy()
            up[k] += h
            down[k] -= h
            g[k] = (loss(up) - loss(down)) / (2 * h)
        weights = dict(model.with_weights(w).weights)
        some, state = nats_of(cell, layers, weights, part, state)
        nats.append(np.where(part[1:] < 0, UNKNOWN_NATS, some))
        gradients.append(g)
        w = reference.dynamic_steps(trained, gradients, RATE, PULL)[-1][0]
    return np.concatenate(nats)


@pytest.mark.parametrize("cell", NAMES)
@pytest.mark.parametrize("layers", [1, 2])
def test_scores_are_those_of_the_reference(
    cell: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With units outside the vocabulary, which are read and charged, and not learnt from."""
    monkeypatch.setattr(charlstm.scoring.adaptive, "LENGTH", 6)
    model = make_model(cell, layers, V=5, H=3)
    ids = some_ids(22, V=5)
    ids[[4, 12, 13]] = -1
    got = surprisals(AdaptiveScorer(model, RATE, PULL), ids)
    np.testing.assert_allclose(got, plain(model, ids, 6), rtol=0, atol=1e-6)
    assert abs(got - surprisals(StaticScorer(model), ids)).max() > 0.01


@pytest.mark.parametrize("embedding", [0, 4])
def test_rows_without_a_gradient_are_not_read(
    embedding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large vocabulary, in streams and in lines, with units outside it: to the bit."""
    model, ids = Model(Shape("lstm", 500, 5, embedding=embedding)), some_ids(3000, V=500)
    model.weights.flat[...] = np.random.default_rng(0).normal(0, 0.6, model.weights.flat.shape)
    ids[::50] = -1
    lines = [ids[at : at + 60] for at in range(0, 2400, 60)]
    scores, steps = [], []
    step = Dynamics.step_

    def counted(self: Dynamics, g: Array, rows: Any = None) -> None:
        steps.append(None if rows is None else len(rows))
        step(self, g, rows)

    monkeypatch.setattr(Dynamics, "step_", counted)
    for sparse in (6, 100):
        monkeypatch.setattr(charlstm.scoring.adaptive, "SPARSE", sparse)
        scores.append(surprisals(AdaptiveScorer(model, RATE, PULL), ids))
        scores.append(np.concatenate(list(AdaptiveScorer(model, RATE, PULL).lines(lines))))
    assert steps[: len(steps) // 2].count(None) == 0
    assert steps[len(steps) // 2 :].count(None) == len(steps) // 2 > 70
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_array_equal(scores[1], scores[3])


def test_the_first_segment_has_its_static_score() -> None:
    """And the next ones have not: something was learnt."""
    model, ids = make_model("lstm"), some_ids(300)
    static, adaptive = (
        surprisals(scorer, ids)
        for scorer in (StaticScorer(model), AdaptiveScorer(model, RATE, 0.0))
    )
    first = charlstm.scoring.adaptive.LENGTH
    np.testing.assert_allclose(adaptive[:first], static[:first], rtol=0, atol=1e-12)
    assert (abs(adaptive - static)[first:] > 1e-6).mean() > 0.9


def test_without_a_rate_nothing_is_learnt() -> None:
    model, ids = make_model("gru", 2), some_ids(300)
    scorer = AdaptiveScorer(model, 0.0, PULL)
    np.testing.assert_allclose(
        surprisals(scorer, ids), surprisals(StaticScorer(model), ids), rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(scorer.model.weights.flat, model.weights.flat)


def test_a_gradient_that_is_not_finite_draws_back() -> None:
    w = np.ones(5)
    dynamics = Dynamics(w, RATE, PULL)
    dynamics.step_(np.arange(5.0))
    assert (w != 1.0).any()
    dynamics.step_(np.array([1.0, np.inf, 0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(w, np.ones(5))
    dynamics.step_(np.zeros(5))
    np.testing.assert_array_equal(w, np.ones(5))


# --- texts and lines ---------------------------------------------------------------------------


def test_blocks_do_not_show_and_the_trained_model_stays() -> None:
    model, ids = make_model("lstm", dtype=np.float32), some_ids(1300)
    before = model.weights.flat.copy()
    whole = surprisals(AdaptiveScorer(model, RATE, PULL), ids)
    for size in (1, 63, 64, 512, 513, 700):
        blocks = [ids[at : at + size] for at in range(0, len(ids), size)]
        parts = [nats for _, nats in AdaptiveScorer(model, RATE, PULL).stream(blocks)]
        assert np.concatenate(parts).tolist() == whole.tolist()
    np.testing.assert_array_equal(model.weights.flat, before)


def test_lines_are_learnt_from_in_order() -> None:
    """Each after its score: the same line again and again costs less and less, and how the lines
    come in batches changes nothing."""
    model = make_model("lstm", V=7)
    lines = [some_ids(20 + k % 3 * 70, seed=k % 3) for k in range(12)]
    static = list(StaticScorer(model).lines(lines))
    whole = list(AdaptiveScorer(model, RATE, PULL).lines(lines))
    np.testing.assert_allclose(whole[0], static[0], rtol=0, atol=1e-12)
    assert abs(whole[1] - static[1]).max() > 1e-6
    for k in range(3):
        sums = [float(nats.sum()) for nats in whole[k::3]]
        assert sums == sorted(sums, reverse=True)
    scorer = AdaptiveScorer(model, RATE, PULL)
    parts = [nats for at in (0, 1, 5) for nats in scorer.lines(lines[at : {0: 1, 1: 5}.get(at)])]
    for got, want in zip(parts, whole, strict=True):
        assert got.tolist() == want.tolist()


def test_a_long_line_teaches_no_more_than_its_beginning() -> None:
    model, beginning = make_model("lstm"), charlstm.scoring.adaptive.TAUGHT + 1
    long = some_ids(1000)
    one, other = AdaptiveScorer(model, RATE, PULL), AdaptiveScorer(model, RATE, PULL)
    (nats,) = one.lines([long])
    list(other.lines([long[:beginning]]))
    np.testing.assert_allclose(nats, surprisals(StaticScorer(model), long), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(one.model.weights.flat, other.model.weights.flat)
    assert one.learnt == beginning - 1


def test_an_empty_text_and_one_of_what_is_outside_teach_nothing() -> None:
    model = make_model("lstm")
    scorer = AdaptiveScorer(model, RATE, PULL)
    assert list(scorer.stream([])) == []
    assert [len(nats) for nats in scorer.lines([np.array([1])])] == [0]
    assert set(surprisals(scorer, np.full(200, -1))) == {UNKNOWN_NATS}
    np.testing.assert_array_equal(scorer.model.weights.flat, model.weights.flat)
    assert scorer.learnt == 0


# --- models that were trained ------------------------------------------------------------------


def train(path: Path, **sets: Any) -> Path:
    corpus = path.with_suffix(".txt")
    corpus.write_text(TEXT[:20000], encoding="utf-8")
    keys = {"train.steps": 150, "train.workers": 1, "model.hidden": 16, **sets}
    for _ in charlstm.train(corpus, path, settings=keys):
        pass
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adaptive")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return train(folder / "m.npz")


SETTINGS: dict[str, dict[str, Any]] = {
    "adagrad": {},
    "sgd": {"train.lr": 2.0},
    "rmsprop": {"train.lr": 0.005},
    "adam": {"train.lr": 0.01},
    "adamw": {"train.lr": 0.01, "model.dropout": 0.2, "model.embedding": 16, "model.tie": True},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_default_suits_all_optimizers(optimizer: str, folder: Path) -> None:
    keys = {"train.optimizer": optimizer, **SETTINGS[optimizer]}
    model = charlstm.load(train(folder / f"{optimizer}.npz", **keys))
    other = TEXT[30000:45000]
    static, adaptive = model.evaluate(other), model.adapting().evaluate(other)
    assert adaptive.units == static.units
    assert adaptive.nats_per_char < static.nats_per_char - 0.004


def test_garbage_does_not_destroy_a_model(trained: Path) -> None:
    """Noise from the vocabulary, a letter ten thousand times, then the text as it should be."""
    model = charlstm.load(trained)
    rng = np.random.default_rng(5)
    noise = "".join(rng.choice(list(model.vocabulary.units), 10000))
    static = model.evaluate(TEXT[30000:40000]).nats_per_char
    for garbage in (noise, "e" * 10000):
        adapted = model.adapting()
        learnt = adapted.evaluate(garbage)
        assert learnt.nats_per_char < model.evaluate(garbage).nats_per_char
        assert adapted.evaluate(TEXT[30000:40000]).nats_per_char < static + 0.25
        assert np.isfinite(adapted.adaptive.model.weights.flat).all()


def test_from_python(trained: Path, tmp_path: Path) -> None:
    model = charlstm.load(trained)
    lines = TEXT[20000:24000].splitlines()
    adapted = model.adapting(adapt_rate=0.002)
    first = adapted.evaluate_lines(lines)
    again = adapted.evaluate_lines(lines)
    assert sum(score.nats for score in again) < sum(score.nats for score in first)
    assert "".join(adapted.sample("The ", length=20, rng_seed=1))
    with pytest.raises(charlstm.ConfigError, match="adapt_rate"):
        model.adapting(adapt_rate=-1)
    adapted.save(tmp_path / "a.npz")
    with pytest.raises(charlstm.UsageError, match="exists"):
        adapted.save(tmp_path / "a.npz")
    adapted.save(tmp_path / "a.npz", force=True)
    saved = charlstm.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(saved.checkpoint.best, adapted.adaptive.model.weights.flat)
    assert saved.evaluate("\n".join(lines)) == charlstm.load(tmp_path / "a.npz").evaluate(
        "\n".join(lines)
    )


def test_lines_of_more_characters_than_a_block_are_not_learnt_from(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charlstm.scoring.evaluation, "LONG", 100)
    adapted = charlstm.load(trained).adapting()
    long = TEXT[:400].replace("\n", " ")
    one, _, other = adapted.evaluate_lines([long, "a short one", long])
    assert one.nats != other.nats  # the short one was learnt from, in its place
    assert adapted.adaptive.learnt == len("a short one\n")
    assert isinstance(adapted.line_scorer, LineScorer)


# --- the command -------------------------------------------------------------------------------


def test_a_saved_model(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has the adapted weights, says so, and resumes as the model that it was."""
    text, out = tmp_path / "t", tmp_path / "a.npz"
    text.write_text(TEXT[20000:25000], encoding="utf-8")
    assert main(["evaluate", str(text), "-m", str(trained), "--adapt", "--save", str(out)]) == 0
    before, after = read_checkpoint(trained), read_checkpoint(out)
    assert after.digest != before.digest
    assert (after.best != before.best).any()
    np.testing.assert_array_equal(after.last, before.last)
    assert after.progress.in_use is None
    assert after.progress.adapted == 4994  # five are outside the vocabulary
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "learnt from 4,994 characters" in shown
    assert "held-out loss" in shown
    assert f"sha256         {after.digest}" in shown
    corpus = trained.with_suffix(".txt")
    ends: list[Any] = []
    for source in (trained, out):
        path = tmp_path / f"r{len(ends)}.npz"
        path.write_bytes(source.read_bytes())
        more = [Setting("train.steps", 160, "test")]
        training = charlstm.train(corpus, path, resume=True, settings=more)
        said = any("leaves the adapted weights" in notice for notice in training.notices)
        assert said == (source == out)
        for _ in training:
            pass
        ends.append(read_checkpoint(path))
    np.testing.assert_array_equal(ends[0].last, ends[1].last)
    assert ends[1].progress.adapted == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--save", "a.npz"], 2, "--save writes what a model has become by --adapt; add that"),
        (["--adapt", "--save", "m.npz", "--force"], 2, "is the model too"),
        (["--adapt", "--save", "t.txt", "--force"], 2, "is the text too"),
        (["--adapt", "--save", "there"], 2, "exists; replace it (--force)"),
        (["--adapt", "--save", "-"], 2, "standard output has the scores"),
        (["--adapt", "--force"], 2, "--force replaces the file of --save"),
        (["--adapt", "--save", "."], 2, "is a directory"),
        (["--adapt", "--save", "none/a.npz"], 6, "none"),
        (["--adapt", "--lines", "--save", "a.npz", "-m", "n.npz"], 2, "--save takes one model"),
        (["--adapt", "--set", "evaluate.adapt_pull=2"], 2, "evaluate.adapt_pull"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    code: int,
    message: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.npz", "n.npz"):
        Path(name).write_bytes(trained.read_bytes())
    Path("t.txt").write_text("a text")
    Path("there").write_text("kept")
    assert main(["evaluate", "t.txt", "-m", "m.npz", *arguments]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert Path("there").read_text() == "kept"
    assert not Path("a.npz").exists()


def test_a_line_through_a_pipe_is_answered_at_once(trained: Path) -> None:
    """What comes again costs less; nobody waits for more lines, or for the end."""
    command = [
        sys.executable,
        "-m",
        "charlstm",
        "evaluate",
        "--lines",
        "--adapt",
        "-m",
        str(trained),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    bits = []
    for _ in range(30):
        process.stdin.write(b"ERROR 42: xyzzy!\n")
        process.stdin.flush()
        bits.append(float(process.stdout.readline().split(b"\t")[0]))
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()
    assert bits[-1] < bits[0] - 0.4


def test_a_filter_learns_what_has_become_normal(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a line that comes sixty times, across two files, the first ones pass and the last do
    not; a static model passes them all."""
    for name in ("1", "2"):
        (tmp_path / name).write_text("a queer quay, quite\n" * 30)
    arguments = ["evaluate", str(tmp_path / "1"), str(tmp_path / "2"), "-m", str(trained)]
    assert main([*arguments, "--lines"]) == 0
    bits = float(capsys.readouterr().out.split("\t")[0])
    arguments += ["--above", str(bits - 0.3)]
    assert main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 60
    assert main([*arguments, "--adapt"]) == 0
    assert 1 <= len(capsys.readouterr().out.splitlines()) < 30
