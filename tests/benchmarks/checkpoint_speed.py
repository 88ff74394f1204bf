"""Checkpoints written and read, against NumPy's own `savez` and `load` of the same arrays and one
SHA-256 of their bytes; and how long saving holds up training.

    python tests/benchmarks/checkpoint_speed.py

In every folder that is given: a disk and, where there is one, a file system in memory. On a disk a
checkpoint is synced before it takes the old one's place, so the peer's file is synced there, too.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row, Run

from charlstm.config.fields import seconds
from charlstm.config.schema import Config, Setting
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.run import Training
from charlstm.training.saving import SAVING, Output

MEMORY = Path("/dev/shm")
TEXT = Path(common.ROOT, "corpora", "lighthouse.txt")


def training_of(parameters: int | None, path: Path | None = None) -> Training:
    """A run with the defaults, or of a model of about so many parameters."""
    config = Config()
    if parameters is not None:
        hidden = max(1, round(math.sqrt(parameters / 4)) - 32)  # 4 H H, and V is 60 or so
        config = config.updated([Setting("model.hidden", hidden, "here")])
    corpus = Corpus.from_text(TEXT.read_text(encoding="utf-8"), config.text.valid)
    return Training.start(corpus, config, path)


def contest(folder: Path, training: Training, rounds: int, target: float) -> Iterator[Row]:
    """Writing and reading in one folder."""
    path, theirs = folder / "ours.npz", folder / "theirs.npz"
    in_memory = folder.is_relative_to(MEMORY)
    checkpoint = training.checkpoint()
    write_checkpoint(path, checkpoint)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "sha256"}

    def digest(arrays: dict[str, np.ndarray]) -> bytes:
        sha = hashlib.sha256()
        for array in arrays.values():
            sha.update(array.data)
        return sha.digest()

    def savez() -> None:
        with theirs.open("wb") as file:
            np.savez(file, **arrays, sha256=np.frombuffer(digest(arrays), np.uint8))
            if not in_memory:
                file.flush()
                os.fsync(file.fileno())

    def load() -> None:
        with np.load(theirs) as archive:
            read = {name: archive[name] for name in archive.files}
        if read.pop("sha256").tobytes() != digest(read):
            raise RuntimeError("another digest")

    savez()
    runs: dict[str, Run] = {
        "writing": lambda: write_checkpoint(path, checkpoint),
        "savez": savez,
        "reading": lambda: read_checkpoint(path),
        "load": load,
    }
    megabytes = path.stat().st_size / 1e6
    rates = common.interleave(runs, dict.fromkeys(runs, megabytes), rounds=rounds)
    synced = "" if in_memory else ", synced"
    where = f"{len(checkpoint.best):,} parameters, {megabytes:,.1f} MB, {folder.parent}"
    for ours, peer, label in (
        ("writing", "savez", f"savez{synced}, and SHA-256"),
        ("reading", "load", "load, and SHA-256"),
    ):
        yield Row(
            f"{ours}: {where}",
            f"{1e3 * megabytes / rates[ours].best:,.1f} ms",
            label,
            f"{1e3 * megabytes / rates[peer].best:,.1f} ms",
            rates[peer].best / rates[ours].best,
            rates[peer].median / rates[ours].median,
            target,
            at_most=True,
        )


def held_up(folder: Path, lasts: float) -> Row:
    """The share of its time that a run with the defaults spends on saving."""
    training = training_of(None, folder / "run.npz")
    save, spent = training.save, list[float]()

    def timed(last: bool = False) -> None:
        start = time.perf_counter()
        save(last)
        spent.append(time.perf_counter() - start)

    training.save = timed  # type: ignore[method-assign]
    start = time.perf_counter()
    for record in training:
        if record.seconds >= lasts:
            break
    whole = time.perf_counter() - start
    what = f"{len(spent)} save{'s' * (len(spent) > 1)} of a run with the defaults"
    return share(what, folder, sum(spent) / whole)


def held_up_large(folder: Path, training: Training, steps: int) -> Row:
    """The same of a large model, at most, from the time of a step and of a save: there is one
    after `train.save_every`, 60 seconds, and one at a new best, if every look at the held-out text
    brings one, where that is not too soon after the last."""
    training.writes, training.output = True, Output(folder / "run.npz")
    start = time.perf_counter()
    for record in training:
        if record.step == steps:
            break
    look = training.plan.eval_every * (time.perf_counter() - start) / steps
    saves = []
    for _ in range(3):
        start = time.perf_counter()
        training.save()
        saves.append(time.perf_counter() - start)
    save, every = median(saves), seconds(str(training.config.train.save_every))
    most = min(save / every + save / look, max(save / every, SAVING))
    P = len(training.evaluations.best)
    what = f"saves of {P:,} parameters, {save:.2f} s, a look each {look:.0f} s"
    return share(what, folder, most)


def share(what: str, folder: Path, spent: float) -> Row:
    """The verdict on a share of a run's time."""
    row = Row(f"{what}, {folder.parent}", f"{spent:.2%}", "the run's time", "100%")
    return row._replace(best=100 * spent, target=100 * SAVING, at_most=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, action="append", help="where files go; repeatable")
    parser.add_argument("--parameters", type=int, default=10_000_000, help="of the large model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=15.0, help="of the run with the defaults")
    parser.add_argument("--steps", type=int, default=3, help="of the large model")
    parser.add_argument("--require", type=float, default=2.0, help="largest ratio of the bests")
    common.add_json_option(parser)
    o = parser.parse_args(arguments)
    folders = o.folder or [Path(tempfile.gettempdir()), *([MEMORY] if MEMORY.is_dir() else [])]
    rows: list[Row] = []
    for place in folders:
        with tempfile.TemporaryDirectory(dir=place) as name:
            folder = Path(name)
            training = training_of(o.parameters)
            rows += contest(folder, training, o.rounds, o.require)
            rows += [held_up_large(folder, training, o.steps), held_up(folder, o.seconds)]
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
