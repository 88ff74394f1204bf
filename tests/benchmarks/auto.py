"""What `-c auto` makes of a time, beside every bundled configuration that is given the same time.

    python tests/benchmarks/auto.py TEXT [TEXT...] --time 60s

Every run is a whole command, `charlstm train TEXT -c NAME --max-time TIME`, one after the other on
all cores. The figures are the held-out losses in nats per unit of the models that they leave, and
for auto also how long its command took. Exit code 1: a bundled configuration did better somewhere,
or auto did not end within a tenth of its time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common  # first: one thread each, before NumPy is loaded

import charlstm
from charlstm.config.bundle import bundled
from charlstm.config.fields import seconds

OTHERS = ("better-rnnlm", "better-rnnlm-small", "rnnlm", "reber-gru", "reber-lstm", "reber-rnn")
"""Configurations for words, and for a grammar of which the loss is known."""


def reached(text: str, config: str, limit: str, settings: list[str]) -> tuple[float, float]:
    """Held-out loss of a command, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.npz"
        command = [sys.executable, "-m", "charlstm", "train", text, "-c", config, "-q"]
        command += ["--max-time", limit, "-o", str(model)]
        command += [part for setting in settings for part in ("--set", setting)]
        began = time.monotonic()
        subprocess.run(command, env=common.USER_ENVIRONMENT, check=True)
        spent = time.monotonic() - began
        used = charlstm.load(model).checkpoint.progress.in_use
        return (used.nats if used else float("nan")), spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--config", action="append", help="instead of all that are bundled")
    parser.add_argument("--set", action="append", default=[], help="a setting for all")
    o = parser.parse_args()
    names = o.config or [name for name in bundled() if name not in OTHERS]
    print(f"| text, {o.time} | auto | its seconds | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    failed = False
    for text in o.texts:
        auto, spent = reached(text, "auto", o.time, o.set)
        losses = [reached(text, name, o.time, o.set)[0] for name in names]
        shown = " | ".join(f"{loss:.4f}" for loss in losses)
        print(f"| {Path(text).stem} | {auto:.4f} | {spent:.1f} | {shown} |", flush=True)
        failed |= not auto <= min(losses) or abs(spent / seconds(o.time) - 1) > 0.1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
