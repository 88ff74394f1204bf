"""Shards: added up they are the whole, and who works on them changes no bit."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, STORY, posix

import charlstm.training.run
import charlstm.training.shards
from charlstm.config.schema import Config, Setting
from charlstm.nn.arrays import Array
from charlstm.nn.dropout import KEEP_ALL, Drops
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.unrolled import Unrolled
from charlstm.scoring.held_out import HeldOut
from charlstm.storage.checkpoint import read_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.plan import fitted
from charlstm.training.run import Training
from charlstm.training.shards import Job, Shards

V, H, T, B = 11, 9, 6, 7


FAMILY: dict[str, tuple[dict[str, Any], Drops]] = {
    "plain": ({}, KEEP_ALL),
    "dropout": ({}, Drops(0.3)),
    "embedded": ({"embedding": 5}, Drops(0.3, True, 0.2)),
    "tied": ({"embedding": 5, "tie": True, "hidden": (6, H)}, Drops(0.3, False, 0.2, 0.1)),
}
"""What the shape of the network has besides, and what is left out."""
every_relative = pytest.mark.parametrize("relative", FAMILY)


def weights(job: Job) -> Array:
    model = Model(job.shape)
    model.initialise(np.random.default_rng(0))
    return model.weights.flat


def ids(*shape: int) -> Array:
    return np.random.default_rng(5).integers(0, V, shape)


def made(cell: str, shards: int, workers: int = 1, relative: str = "plain") -> Shards:
    held_out = HeldOut.of(ids(200), B)
    rows: dict[str, Any] = {"held_out": len(held_out.ids), "warm_up": held_out.warm_up}
    sizes, drops = FAMILY[relative]
    shape = replace(Shape(cell, V, H, 2), **sizes)
    job = Job(shape, T, B, shards, **rows, drops=drops, seed=8)
    made = Shards(job, workers, held_out)
    made.weights[...] = weights(job)
    return made


def with_workers(cell: str, shards: int, workers: int, relative: str = "plain") -> Shards:
    """Shards whose workers are all there."""
    s = made(cell, shards, workers, relative)
    s.start_workers()
    while not all(worker.waits() for worker in s.workers):
        time.sleep(0.01)
    return s


def course(shards: Shards, between: Callable[[int], None] = lambda step: None) -> list[bytes]:
    """Gradients, states, nats and measures of five steps, as bytes."""
    seen = []
    for step in range(5):
        nats = shards.train(ids(T + 1, B), 0.01, step)
        shards.weights[...] -= 0.5 * shards.gradient
        measure = shards.measure(shards.weights)
        arrays = (shards.gradient, *shards.state, np.float64(nats), np.float64(measure))
        seen += [np.asarray(a).tobytes() for a in arrays]
        between(step)
    return seen


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_the_sum_is_the_whole(cell: str, shards: int) -> None:
    """Gradient, states, nats and measure of shards are those of all streams at once."""
    s = made(cell, shards)
    model = Model(Shape(cell, V, H, 2), np.float32, weights(s.job))
    whole, gradient = Unrolled(model, T, B), model.weights.like()
    segment = ids(T + 1, B)
    state = whole.forward(segment[:-1], model.zero_state(B))
    nats, _ = whole.loss_and_gradient(segment[1:], gradient, 0.01)
    assert s.train(segment, 0.01) == pytest.approx(float(nats.sum()), rel=1e-6)
    np.testing.assert_allclose(s.gradient, gradient.flat, atol=1e-6)
    for ours, theirs in zip(s.state, state, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    expected = s.bench.held_out.nats(whole)
    assert s.measure(model.weights.flat) == pytest.approx(expected, rel=1e-6)


@posix
@every_relative
@pytest.mark.parametrize("workers", [2, 3, 9])
def test_any_number_of_processes_gives_the_same_bits(workers: int, relative: str) -> None:
    alone = course(made("lstm", 3, relative=relative))
    crew = with_workers("lstm", 3, workers, relative)
    try:
        assert len(crew.workers) == min(workers, 3) - 1
        assert course(crew) == alone
        assert all(worker.ready for worker in crew.workers)
        assert not crew.lost
    finally:
        crew.close()


@posix
@every_relative
@pytest.mark.parametrize("when", ["before it is ready", "between two steps"])
def test_a_lost_worker_costs_nothing(when: str, relative: str) -> None:
    """A killed worker's part is done here; every bit stays, and the loss is known."""
    alone = course(made("gru", 3, relative=relative))
    crew = with_workers("gru", 3, 3, relative)
    victim = crew.workers[0].process

    def kill(step: int) -> None:
        if step == 1:
            victim.kill()
            victim.wait()

    try:
        if when == "before it is ready":
            kill(1)
        assert course(crew, kill) == alone
        assert crew.lost == 1
        assert len(crew.workers) == 1
    finally:
        crew.close()
    assert crew.workers == []


@posix
def test_a_worker_ends_with_its_leader(tmp_path: Path) -> None:
    """Also when that is killed and can say nothing."""
    script = tmp_path / "leader.py"
    script.write_text(
        "import sys, time\n"
        "from charlstm.nn.shape import Shape\n"
        "from charlstm.training.shards import Job, Shards\n"
        "s = Shards(Job(Shape('rnn', 3, 4), 5, 2, 2), 2)\n"
        "s.start_workers()\n"
        "print(s.workers[0].process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    leader = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env)
    assert leader.stdout is not None
    worker = int(leader.stdout.readline())
    os.kill(worker, 0)  # it lives
    leader.send_signal(signal.SIGKILL)
    leader.wait()
    leader.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and running(worker):
        time.sleep(0.02)
    assert not running(worker)


@posix
def test_a_worker_runs_no_module_of_the_users_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as a json.py where the command is typed."""
    for name in ("json", "select", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    crew = with_workers("rnn", 2, 2)
    try:
        course(crew)
        assert len(crew.workers) == 1
        assert not crew.lost
    finally:
        crew.close()
    assert not (tmp_path / "ran").exists()


@posix
def test_pipes_with_large_numbers() -> None:
    """`select` knows no descriptor from 1024 on."""
    resource, fcntl = pytest.importorskip("resource"), pytest.importorskip("fcntl")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= 1100:
        pytest.skip("no more than 1024 files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    read_end, write_end = os.pipe()
    large = fcntl.fcntl(read_end, fcntl.F_DUPFD, 1100)
    try:
        os.set_blocking(large, False)
        assert not charlstm.training.shards._readable(large, 0)
        os.write(write_end, b"r")
        assert charlstm.training.shards._readable(large, None)
        assert charlstm.training.shards._read(large, 1) == b"r"
    finally:
        for pipe in (read_end, write_end, large):
            os.close(pipe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@posix
def test_no_memory_or_descriptor_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that the system refuses is no broken output; without a descriptor there are no
    other processes."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError):
        made("rnn", 2)
    monkeypatch.undo()
    alone = course(made("rnn", 2))
    monkeypatch.setattr(charlstm.training.shards, "_shared_memory", refuse)
    crew = made("rnn", 2, 2)
    crew.start_workers()
    assert crew.workers == []
    assert course(crew) == alone


def test_shards_and_steps_drop_other_things() -> None:
    """With the same streams twice, each half in a shard of its own, only dropout tells them
    apart; a step does so too, and the same step again does not."""

    def nats(step: int, drops: Drops) -> list[float]:
        shards = Shards(Job(Shape("rnn", V, H), T, 4, 2, drops=drops), 1)
        shards.weights[...] = weights(shards.job)
        shards.train(np.tile(ids(T + 1, 2), 2), 0.1, step)
        return list(shards.arrays["nats"].tolist())

    for drops in (Drops(dropout=0.5), Drops(weight_drop=0.5), Drops(input_drop=0.5)):
        assert len({*nats(0, drops), *nats(1, drops)}) == 4
        assert nats(1, drops) == nats(1, drops)
    nothing = Drops(variational=True)
    assert len({*nats(0, nothing), *nats(1, nothing)}) == 1


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # one that has ended may wait to be collected
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def trained(monkeypatch: pytest.MonkeyPatch, path: Path, **train: Any) -> Training:
    monkeypatch.setattr(charlstm.training.run, "WORKERS_AFTER", 0.0)
    settings = {"model.hidden": 8, "train.batch": 32, "train.length": 10, "train.eval_every": 40}
    settings |= {f"train.{key}": value for key, value in train.items()}
    text = STORY.read_text(encoding="utf-8")[:20_000]
    config = Config().updated(Setting(key, value, "test") for key, value in settings.items())
    return Training.start(Corpus.from_text(text), config, path)


def awaited(training: Training) -> None:
    """Let the workers that have not joined come up, however busy the machine is."""
    starting = [worker.back for worker in training.learner.shards.workers if not worker.ready]
    assert not starting or select.select(starting, [], [], 60)[0]


@posix
def test_training_with_workers_writes_the_same_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two processes take turns in doing 600 steps, one joining on the way; only the setting
    itself tells the files apart."""
    files = []
    for workers in (1, 2):
        training = trained(monkeypatch, tmp_path / f"{workers}.npz", steps=600, workers=workers)
        joined = False
        for record in training:
            if record.step == 100:
                awaited(training)
            joined |= any(worker.ready for worker in training.learner.shards.workers)
        assert joined == (workers == 2)
        assert not training.learner.shards.workers
        with np.load(tmp_path / f"{workers}.npz") as z:
            files.append({k: z[k].tobytes() for k in z.files if k not in ("metadata", "sha256")})
    assert files[0] == files[1]


@posix
def test_what_is_dropped_may_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the way, with a worker that knew another share: the file is that of a run which was
    stopped there and resumed with the change."""
    more = [Setting("model.weight_drop", 0.5, "test")]
    changed, stopped = (
        trained(monkeypatch, tmp_path / name, steps=300, workers=2) for name in ("a.npz", "b.npz")
    )
    changed.replan = lambda step, spent: (more, "more") if step == 150 else ([], None)
    for record in changed:
        assert record.notice == ("more" if record.step == 150 else None)
        if record.step in (100, 200):
            awaited(changed)
    for record in stopped:
        if record.step == 150:
            stopped.stop()
    resumed = Training.resume(
        stopped.corpus,
        read_checkpoint(tmp_path / "b.npz"),
        tmp_path / "b.npz",
        settings=more,
        accept_changes=True,
    )
    list(resumed)
    assert changed.learner.shards.job.drops.weight_drop == 0.5
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@posix
def test_a_lost_worker_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = trained(monkeypatch, tmp_path / "m.npz", steps=3000, workers=2, epochs=None)
    notices = []
    for record in training:
        if record.step == 100:
            awaited(training)
        if record.notice:
            notices.append(record.notice)
            training.stop()
        for worker in training.learner.shards.workers:
            if worker.ready:
                worker.process.kill()
    assert len(notices) == 1
    assert "worker" in notices[0]


def test_workers_end_when_the_iteration_is_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = trained(monkeypatch, tmp_path / "m.npz", steps=3000, workers=2)
    records = iter(training)
    next(records)
    next(records)
    started = [worker.process for worker in training.learner.shards.workers]
    assert len(started) == (os.name == "posix")
    records.close()  # type: ignore[attr-defined]
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(
    ("batch", "asked", "shards"),
    [
        *((1, "auto", 1), (31, "auto", 1), (32, "auto", 2), (128, "auto", 2), (129, "auto", 3)),
        *((1024, "auto", 16), (4, 9, 4), (64, 1, 1), (64, 5, 5)),
    ],
)
def test_number_of_shards(batch: int, asked: str | int, shards: int) -> None:
    """By the streams alone, and never more than there are."""
    config = Config().updated(
        [Setting("train.batch", batch, "test"), Setting("train.shards", asked, "test")]
    )
    assert fitted(config, 10**9)[0].train.shards == shards
