"""What `-c auto` makes of a time, beside every bundled configuration that is given the same time.

    python tests/benchmarks/auto.py TEXT [TEXT...] --time 60s

Every run is a whole command, `charlstm train TEXT -c NAME --max-time TIME`, one after the other on
all cores. The figures are the held-out losses in nats per unit of the models that they leave, and
for auto also how long its command took. With `--seeds N` each is run with so many seeds of
randomness, in turn, and the medians are shown: on some texts the seed matters more than the
configuration. Exit code 1: a bundled configuration did better somewhere, or auto did not end within
a tenth of its time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import common  # first: one thread each, before NumPy is loaded

import charlstm
from charlstm.config.bundle import bundled
from charlstm.config.fields import seconds

OTHERS = ("better-rnnlm", "better-rnnlm-small", "rnnlm", "reber-gru", "reber-lstm", "reber-rnn")
"""Configurations for words, and for a grammar of which the loss is known."""


class Reached(NamedTuple):
    """What a command reached."""

    nats: float
    seconds: float


def reached(text: str, config: str, limit: str, settings: list[str], rng_seed: int) -> Reached:
    """Run a command and read its held-out loss."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.npz"
        command = [sys.executable, "-m", "charlstm", "train", text, "-c", config, "-q"]
        command += ["--max-time", limit, "--rng-seed", str(rng_seed), "-o", str(model)]
        command += [part for setting in settings for part in ("--set", setting)]
        began = time.monotonic()
        subprocess.run(command, env=common.USER_ENVIRONMENT, check=True)
        spent = time.monotonic() - began
        used = charlstm.load(model).checkpoint.progress.in_use
        return Reached(used.nats if used else float("nan"), spent)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--config", action="append", help="instead of all that are bundled")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="a setting for all")
    o = parser.parse_args()
    names = o.config or [name for name in bundled() if name not in OTHERS]
    print(f"| text, {o.time} | auto | its seconds | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    failed = False
    for text in o.texts:
        found: dict[str, list[Reached]] = {name: [] for name in ("auto", *names)}
        for rng_seed in range(o.seeds):
            for name, runs in found.items():
                runs.append(reached(text, name, o.time, o.set, rng_seed))
        auto, *others = (median(run.nats for run in runs) for runs in found.values())
        spent = median(run.seconds for run in found["auto"])
        shown = " | ".join(f"{loss:.4f}" for loss in others)
        print(f"| {Path(text).stem} | {auto:.4f} | {spent:.1f} | {shown} |", flush=True)
        in_time = all(abs(run.seconds / seconds(o.time) - 1) <= 0.1 for run in found["auto"])
        failed |= not (in_time and auto <= min(others))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
