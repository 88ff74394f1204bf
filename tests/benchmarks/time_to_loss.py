"""How long it takes to learn a text to a given held-out loss: whole processes, from their start
until their log says it, charlstm and the same recipe in PyTorch (`torch_train.py`) in turns.

Both train with the recipe of `charlstm train` (LSTM, hidden 100, Adagrad at 0.1, norm clipped at
5, 32 streams of 50 steps, the last tenth held out), from the same weights, look at the held-out
text equally often and write the model at each new best; each on all cores, or on `--workers`.

Training is chaotic: other roundings make another course, and the step at which the loss is reached
moves by a tenth and more. So several runs are made, each of a seed of its own, whose times are
added up; and the time of a step, start and looks included, is told beside.

    python tests/benchmarks/time_to_loss.py --text TEXT --nats 1.7
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import common
from common import Row

EVERY = 200
"""Steps between two looks at the held-out text."""
LONGEST = 600.0
"""Seconds after which a process is given up."""


class Reached(NamedTuple):
    """When a process had learnt enough."""

    seconds: float
    step: int


def looks(log: Path) -> list[dict[str, float]]:
    """What a log says by now of the held-out loss; a line that is being written does not count."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
    return [line for line in lines if line["valid"] is not None]


def run(command: list[str], log: Path, nats: float) -> Reached:
    """Start a process and wait until it has reached the loss; then end it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=common.USER_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        while (seconds := time.perf_counter() - start) < LONGEST:
            for look in looks(log):
                if look["valid"] <= nats:
                    return Reached(seconds, int(look["step"]))
            if process.poll() is not None:
                raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
            time.sleep(0.01)
    finally:
        process.terminate()
        process.wait()
    raise SystemExit(f"{LONGEST:g} s were not enough for {nats} nats: {' '.join(command)}")


def commands(text: str, workers: int | None, every: int) -> dict[str, list[str]]:
    """What is run; to each, log and model are added as in `race`."""
    # by default this package takes all cores
    settings: dict[str, object] = {"eval_every": every, "patience": "null", "epochs": "null"}
    if workers:
        settings["workers"] = workers
    chosen = [part for k, v in settings.items() for part in ("--set", f"train.{k}={v}")]
    found = {"charlstm": [sys.executable, "-m", "charlstm", "train", text, "-q", *chosen]}
    if common.installed("torch"):
        peer = [sys.executable, str(Path(__file__).with_name("torch_train.py")), text]
        threads = ["--threads", str(workers)] if workers else []
        found["PyTorch"] = [*peer, "--every", str(every), *threads]
    return found


def race(
    text: str, nats: float, workers: int | None, rounds: int, require: float | None
) -> list[Row]:
    """The comparisons; ratios of times, so the smaller the better. Of the times to the loss, the
    ratio of the sums stands in place of that of the bests."""
    found: dict[str, list[Reached]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(rounds):
            for name, command in commands(text, workers, EVERY).items():
                log = Path(folder, f"{name}{seed}.log")
                model = log.with_suffix(".npz" if name == "charlstm" else ".pt")
                command += ["--log", str(log), "--model", str(model), "--rng-seed", str(seed)]
                found.setdefault(name, []).append(run(command, log, nats))

    def reached(name: str) -> str:
        return ", ".join(f"{r.seconds:.1f} s ({r.step:,} steps)" for r in found[name])

    def a_step(name: str) -> list[float]:
        return [r.seconds / r.step for r in found[name]]

    on = f"{workers} core{'s' * (workers > 1)}" if workers else "all cores"
    what = f"time to {nats:.2f} nats held-out, lstm, H 100, {Path(text).stem}, {on}"
    ours, peer = "charlstm", "PyTorch"
    if peer not in found:
        return [Row(what, reached(ours), peer, "not installed", target=require, at_most=True)]
    sums, middles = (
        f([r.seconds for r in found[ours]]) / f([r.seconds for r in found[peer]])
        for f in (sum, median)
    )
    steps = {name: a_step(name) for name in found}
    return [
        Row(what, reached(ours), peer, reached(peer), sums, middles, require, True),
        Row(
            f"{what}: a step",
            f"{min(steps[ours]) * 1e3:.1f} ms",
            peer,
            f"{min(steps[peer]) * 1e3:.1f} ms",
            min(steps[ours]) / min(steps[peer]),
            median(steps[ours]) / median(steps[peer]),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="a file of text")
    parser.add_argument("--nats", type=float, default=1.7, help="per character, to be reached")
    parser.add_argument("--workers", type=int, help="cores to be used (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--require", type=float, default=0.6, help="largest ratio of the times")
    common.add_json_option(parser)
    o = parser.parse_args()
    return common.report(race(o.text, o.nats, o.workers, o.rounds, o.require), o.json)


if __name__ == "__main__":
    raise SystemExit(main())
