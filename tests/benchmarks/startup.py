"""How long whole commands take, from start to end, beside nothing but importing a library.

A model is trained into a temporary directory first; then the commands run in turn, each a new
process in the environment that a user has.

    python tests/benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import common
from common import Row

SET = "train --set model.ce"
TAB = f"charlstm {SET}, completed"
HELP, SAMPLE, IMPORT = "charlstm --help", "charlstm sample -n 200", "python -c 'import {}'"


def run(command: list[str]) -> float:
    """Seconds that a process takes; what it prints is dropped unless it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        env=common.USER_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.stderr.buffer.write(done.stderr)
        raise SystemExit(f"exit code {done.returncode}: {' '.join(command)}")
    return seconds


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each process, by its name."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        text, model = os.path.join(folder, "hello.txt"), os.path.join(folder, "hello.npz")
        Path(text).write_text("hello, hello, hello!\n" * 100, encoding="utf-8")
        charlstm = [python, "-m", "charlstm"]
        run([*charlstm, "train", text, "-o", model, "--steps", "20", "-q"])
        commands = {HELP: [*charlstm, "--help"], SAMPLE: [*charlstm, *SAMPLE.split()[1:]]}
        commands[SAMPLE] += ["-m", model]
        for name in ("sample --help", "train --help"):
            commands[f"charlstm {name}"] = [*charlstm, *name.split()]
        completion = {"_CHARLSTM_COMPLETE": "bash_complete", "COMP_WORDS": f"charlstm {SET}"}
        commands[TAB] = ["env", *(f"{k}={v}" for k, v in completion.items()), *charlstm]
        for module in ("click", "numpy", "torch"):
            if common.installed(module):
                commands[IMPORT.format(module)] = [python, "-c", f"import {module}"]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for k in range(-1, rounds):
            for name, command in commands.items():
                seconds = run(command)
                if k >= 0:  # the first round only warms the file system's cache
                    times[name].append(seconds)
    return times


def row(times: dict[str, list[float]], what: str, module: str, target: float | None = None) -> Row:
    """A command beside an import."""

    def shown(seconds: list[float]) -> str:
        return f"{1e3 * min(seconds):.0f} ms"

    ours, peer = times[what], IMPORT.format(module)
    theirs = times.get(peer)
    if theirs is None:
        return Row(what, shown(ours), peer, "not installed", target=target, at_most=True)
    ratios = min(ours) / min(theirs), median(ours) / median(theirs)
    return Row(what, shown(ours), peer, shown(theirs), *ratios, target=target, at_most=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--require", type=float, default=0.35, help="largest ratio of sample to importing PyTorch"
    )
    parser.add_argument(
        "--require-help",
        type=float,
        default=1.6,
        help="largest ratio of --help, and of a completion, to importing click",
    )
    common.add_json_option(parser)
    o = parser.parse_args()
    times = measure(o.rounds)
    rows = [
        row(times, HELP, "click", o.require_help),
        row(times, TAB, "click", o.require_help),
        row(times, "charlstm sample --help", "click"),
        row(times, "charlstm train --help", "click"),
        row(times, SAMPLE, "torch", o.require),
        row(times, SAMPLE, "numpy"),
    ]
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
