"""Several ranks: together they are one run, and none is left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, STORY, run, wait_for

import charlstm.training.ranks
import charlstm.training.run
import charlstm.training.saving
import charlstm.training.start
from charlstm.config.schema import Config, Setting
from charlstm.errors import OutputError, UsageError
from charlstm.nn.arrays import Array
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.storage.lock import Lock
from charlstm.text.corpus import Corpus
from charlstm.training.ranks import ALONE, LAUNCHED, Alone, Votes, ranks
from charlstm.training.run import Training

TEXT = STORY.read_text(encoding="utf-8")[:6000]


class Threads(Alone):
    """Ranks that are threads of this process: what MPI does, done with a barrier."""

    def __init__(self, rank: int, size: int, shared: dict[str, Any]) -> None:
        self.rank, self.size, self.shared = rank, size, shared

    def _all(self, array: Array) -> list[Array]:
        self.shared[f"at {self.rank}"] = array.copy()
        self.shared["barrier"].wait(20)
        every = [self.shared[f"at {r}"] for r in range(self.size)]
        self.shared["barrier"].wait(20)
        return every

    def add_(self, array: Array) -> None:
        array[...] = sum(self._all(array)[1:], self._all(array)[0])

    def gather(self, array: Array) -> Array:
        return np.concatenate(self._all(array))


def settings(**keys: Any) -> Config:
    keys = {"model_hidden": 10, "train_batch": 6, "train_length": 8, "train_workers": 1, **keys}
    changes = [Setting(k.replace("_", ".", 1), v, "test") for k, v in keys.items()]
    return Config().updated(changes)


def together(
    monkeypatch: pytest.MonkeyPatch, size: int, path: Path, resume: bool = False, **keys: Any
) -> list[Training]:
    """Train on `size` ranks, each in a thread."""
    here = threading.local()
    shared: dict[str, Any] = {"barrier": threading.Barrier(size)}
    monkeypatch.setattr(charlstm.training.run, "ranks", lambda: here.ranks)
    made: list[Any] = [None] * size

    def run(rank: int) -> None:
        here.ranks = Threads(rank, size, shared)
        corpus = Corpus.from_text(TEXT)
        if resume:
            checkpoint = read_checkpoint(path)
            changes = [Setting("train.steps", keys["train_steps"], "test")]
            checkpoint.config = checkpoint.config.updated(changes)
            made[rank] = Training.resume(corpus, checkpoint, path)
        else:
            made[rank] = Training.start(corpus, settings(**keys), path)
        for _ in made[rank]:
            pass

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert all(isinstance(training, Training) for training in made)
    return made


LIMITS: dict[str, Any] = {"train_steps": 80, "train_eval_every": 20, "train_epochs": None}


DROPS = {"model_dropout": 0.2, "model_weight_drop": 0.2, "model_input_drop": 0.1}


@pytest.mark.parametrize("drops", [{}, DROPS], ids=["nothing", "dropped"])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_are_one_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, drops: dict[str, Any]
) -> None:
    """As many streams on one rank, in as many shards, give the same course but for rounding; and
    all ranks hold the same weights, to the bit. What is dropped is the streams', not the rank's."""
    limits = {**LIMITS, **drops}
    alone = Training.start(
        Corpus.from_text(TEXT), settings(**limits, train_shards=size), tmp_path / "one.npz"
    )
    for _ in alone:
        pass
    parts = together(
        monkeypatch, size, tmp_path / "all.npz", **{**limits, "train_batch": 6 // size}
    )
    for part in parts:
        assert (
            part.learner.model.weights.flat.tobytes()
            == parts[0].learner.model.weights.flat.tobytes()
        )
        assert part.progress == parts[0].progress
    np.testing.assert_allclose(
        parts[0].learner.model.weights.flat, alone.learner.model.weights.flat, atol=2e-4
    )
    assert parts[0].best_valid == pytest.approx(alone.best_valid, abs=1e-4)
    assert (parts[0].chars, parts[0].epoch) == (alone.chars, alone.epoch)
    one, both = read_checkpoint(tmp_path / "one.npz"), read_checkpoint(tmp_path / "all.npz")
    for s, t in zip(one.state, both.state, strict=True):
        np.testing.assert_allclose(s, t, atol=2e-3)
    assert both.progress.ranks == size


def test_resume_is_bit_for_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    together(monkeypatch, 2, whole, **LIMITS)
    document = json.loads(run("info", whole, "--json").stdout)
    t = document["config"]["train"]
    assert document["trained"]["characters"] == 80 * 2 * t["batch"] * t["length"]
    together(monkeypatch, 2, parts, **{**LIMITS, "train_steps": 33})
    together(monkeypatch, 2, parts, resume=True, **LIMITS)
    assert whole.read_bytes() == parts.read_bytes()


def test_another_number_of_ranks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "m.npz"
    together(monkeypatch, 2, path, **{**LIMITS, "train_steps": 3})
    monkeypatch.setattr(charlstm.training.run, "ranks", lambda: ALONE)
    with pytest.raises(UsageError, match="trained on 2 ranks, this is a run on 1"):
        Training.resume(Corpus.from_text(TEXT), read_checkpoint(path), path)


def test_another_number_of_ranks_can_be_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The streams are shared out anew, and go on where they stand; where they cannot be, it is
    refused."""
    path = tmp_path / "m.npz"
    together(monkeypatch, 2, path, **{**LIMITS, "train_steps": 23})
    before = read_checkpoint(path)
    monkeypatch.setattr(charlstm.training.run, "ranks", lambda: ALONE)
    training = Training.resume(
        Corpus.from_text(TEXT), read_checkpoint(path), path, accept_changes=True
    )
    assert any("this is a run on 1" in notice for notice in training.notices)
    assert training.config.train.batch == 12
    for s, t in zip(training.learner.state, before.state, strict=True):
        assert np.array_equal(s, t)
    config = training.config.updated([Setting("train.steps", 30, "test")])
    training.plan = replace(training.plan, config=config)
    assert len(list(training)) == 7
    after = read_checkpoint(path)
    assert (after.progress.ranks, after.config.train.batch) == (1, 12)
    monkeypatch.setattr(charlstm.training.run, "ranks", lambda: Threads(1, 5, {}))
    with pytest.raises(UsageError, match="cannot share its 12 streams"):
        Training.resume(Corpus.from_text(TEXT), after, path, accept_changes=True)


def test_settings_given_again_are_fitted_to_the_ranks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each of two ranks has half of a small corpus, so its streams shrink to fewer than one
    rank's would; the same command line with --resume is no change."""
    path, text = tmp_path / "m.npz", tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    together(monkeypatch, 2, path, train_batch=60, train_steps=2)
    fitted = read_checkpoint(path).config
    assert fitted.train.batch == 5400 // 2 // 8 // 50
    for module in (charlstm.training.start, charlstm.training.run):
        monkeypatch.setattr(module, "ranks", lambda: Threads(0, 2, {}))
    resumed = charlstm.train(text, path, resume=True, settings={"train.batch": 60})
    assert resumed.config == fitted


@pytest.mark.parametrize(("when", "steps"), [("before the exchange", 10), ("after it", 11)])
def test_one_rank_that_ends_ends_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str, steps: int
) -> None:
    """A signal that reaches one rank in its tenth step: all end after that one, or, where it came
    too late to be told, after the next."""
    do = Training._do_step

    def step(self: Training, votes: Votes) -> Any:
        signalled = self.ranks.rank == 1 and self.step == 9
        if signalled and when == "before the exchange":
            votes = votes._replace(end=True)
        done = do(self, votes)
        if signalled:
            self.stop()
        return done

    monkeypatch.setattr(Training, "_do_step", step)
    made = together(monkeypatch, 2, tmp_path / "m.npz", **LIMITS)
    assert [training.step for training in made] == [steps, steps]
    assert read_checkpoint(tmp_path / "m.npz").progress.step == steps


def test_a_save_that_fails_on_rank_0_stops_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only rank 0 knows of it; the others must not wait for it, nor it for them."""
    failed: list[bool] = []

    def once_full(path: Any, checkpoint: Any) -> None:
        if not failed:
            failed.append(True)
            raise OutputError("the disk is full")
        write_checkpoint(path, checkpoint)

    monkeypatch.setattr(charlstm.training.saving, "write_checkpoint", once_full)
    together(
        monkeypatch, 2, tmp_path / "m.npz", **{**LIMITS, "train_steps": 20, "train_save_every": 7}
    )
    assert failed
    assert read_checkpoint(tmp_path / "m.npz").progress.step == 20


def test_without_a_launcher_nothing_is_imported() -> None:
    code = "import sys, charlstm.training.run as t; print(t.ranks().size, 'mpi4py' in sys.modules)"
    env = {k: v for k, v in os.environ.items() if k not in LAUNCHED} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_a_launcher_without_mpi4py_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # as if it were not installed
    with pytest.raises(UsageError, match=r"pip install 'charlstm\[mpi\]'"):
        ranks.__wrapped__()


def test_all_ranks_go_back_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the state of one of them is no longer finite, and again where only a look at all
    arrays finds that; then they are as one, and their file is that of a run that was resumed."""
    do = Training._do_step

    def step(self: Training, votes: Votes) -> Any:
        rollbacks = len(self.progress.rollbacks)
        if self.step == 33 and not rollbacks and self.ranks.rank == 1:
            self.learner.state[1][0, 0] = np.nan
        if self.step == 46 and rollbacks == 1:
            self.learner.optimizer.state["squares"][-1] = np.inf
        return do(self, votes)

    monkeypatch.setattr(Training, "_do_step", step)
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    limits = {**LIMITS, "train_eval_every": 15}
    made = together(monkeypatch, 2, whole, **limits)
    for part in made:
        assert (
            part.learner.model.weights.flat.tobytes()
            == made[0].learner.model.weights.flat.tobytes()
        )
        assert part.progress == made[0].progress
    first, second = made[0].progress.rollbacks
    assert (first[0], first[1][:9], first[2]) == (33, "the state", 30)
    assert second == (60, "the squares of by", 45)
    for stop in (32, 38, 80):
        together(monkeypatch, 2, parts, **{**limits, "train_steps": stop})
        together(monkeypatch, 2, parts, resume=True, **limits)
        assert whole.read_bytes() == parts.read_bytes()
        parts.unlink()


# --- the real thing ----------------------------------------------------------------------------

MPIEXEC = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")
mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="mpi4py and mpiexec are not installed",
)

FAULTY = """
import os, sys
from charlstm.cli import main
from charlstm.training.run import Training

do = Training._do_step

def step(self, *a):
    if self.step == 30 and self.ranks.rank == int(os.environ["RANK"]):
        if os.environ["FAULT"] == "killed":
            os.kill(os.getpid(), 9)
        raise RuntimeError("made to fail")
    return do(self, *a)

Training._do_step = step
sys.exit(main(sys.argv[1:]))
"""


def mpiexec(n: int, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    assert MPIEXEC is not None
    return subprocess.run(
        [MPIEXEC, "-n", str(n), sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.whole
@mpi
def test_mpi_resumes_bit_for_bit(text: Path, tmp_path: Path) -> None:
    small = [f"--set={k}" for k in ("model.hidden=10", "train.batch=4", "train.length=10")]
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    run = ["-m", "charlstm", "train", str(text), "--epochs", "null", *small]
    done = mpiexec(2, *run, "-o", str(whole), "--steps", "60")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote") == 1  # one rank does the talking
    assert mpiexec(2, *run, "-o", str(parts), "--steps", "25").returncode == 0
    assert mpiexec(2, *run, "-o", str(parts), "--steps", "60", "--resume").returncode == 0
    assert whole.read_bytes() == parts.read_bytes()
    assert read_checkpoint(whole).progress.ranks == 2


@pytest.mark.whole
@mpi
@pytest.mark.parametrize("fault", ["killed", "raising"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failing_rank_ends_all(text: Path, tmp_path: Path, fault: str, rank: int) -> None:
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY)
    start = time.monotonic()
    output = str(tmp_path / "m.npz")
    train = ["train", str(text), "-o", output, "--epochs", "100000"]
    done = mpiexec(2, str(script), *train, RANK=str(rank), FAULT=fault)
    assert time.monotonic() - start < 12  # 10 from the fault on, and the time until it
    assert done.returncode != 0
    if fault == "raising":
        assert f"charlstm: error: rank {rank}: made to fail" in done.stderr


@pytest.mark.whole
@mpi
def test_a_signal_saves_and_ends_all(text: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.npz"
    train = ["-m", "charlstm", "train", str(text), "-o", str(output), "--epochs", "100000", "-q"]
    assert MPIEXEC is not None
    process = subprocess.Popen(
        [MPIEXEC, "-n", "2", sys.executable, *train],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(output)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert read_checkpoint(output).progress.step > 0


@pytest.mark.whole
@mpi
def test_standard_input_is_refused() -> None:
    done = mpiexec(2, "-m", "charlstm", "train", "-")
    assert done.returncode == 2
    assert "standard input reaches one rank only" in done.stderr


@pytest.mark.whole
@mpi
def test_an_output_that_is_being_written_ends_all(text: Path, tmp_path: Path) -> None:
    """Rank 0 alone has the lock, and says who has it instead."""
    path = tmp_path / "m.npz"
    lock = Lock(path)
    done = mpiexec(2, "-m", "charlstm", "train", str(text), "-o", str(path), "--steps", "5")
    assert done.returncode == 5
    assert f"charlstm: error: rank 0: {path} is being written by process {os.getpid()} on " in (
        done.stderr
    )
    lock.release()
    done = mpiexec(2, "-m", "charlstm", "train", str(text), "-o", str(path), "--steps", "5", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.npz", "text.txt"]
