"""Peak memory of training: whole processes of charlstm and of PyTorch, each doing a few steps of
one configuration of `train_speed.py`; on all cores.

    python tests/benchmarks/memory.py

Where a contestant has worker processes, theirs is added; what they share counts in each.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import common  # first: one thread each, before NumPy is loaded
from common import Row
from peers import Task, torch_step
from train_speed import CONTESTS, Contest, T, charlstm_step

STEPS, STREAMS = 20, 64


def peaks(pid: str = "self") -> Iterator[int]:
    """Most bytes of memory that this process has had, and those of its children that live."""
    status = Path("/proc", pid, "status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1 << 10
        yield resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return
    # not ru_maxrss: that begins with the parent's
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    yield int(line.split()[1]) << 10
    for children in Path("/proc", pid, "task").glob("*/children"):
        for child in children.read_text().split():
            yield from peaks(child)


def train(name: str, k: int, workers: int) -> int:
    """Do the steps of contest k in this process; the most bytes it took."""
    contest = CONTESTS[k]
    shape = Task(contest.cell, contest.V, contest.H, contest.layers, T, STREAMS)
    if name == "charlstm":
        step = charlstm_step(*shape, workers)
    else:
        step = torch_step(common.torch_or_none(workers), *shape, contest.embedding)
    for _ in range(STEPS):
        step()
    return sum(peaks())


def measured(name: str, k: int, workers: int) -> int:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--of", name, str(k), "--workers", str(workers)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def compare(k: int, contest: Contest, workers: int) -> Row:
    """The comparison for one configuration; a ratio below 1 is less memory than PyTorch's."""
    ours = measured("charlstm", k, workers)
    what = f"{contest}, B {STREAMS}, {workers} core{'s' * (workers > 1)}"
    shown = f"{ours / 1e6:.0f} MB"
    if not common.installed("torch"):
        return Row(what, shown, "PyTorch", "not installed")
    theirs = measured("PyTorch", k, workers)
    return Row(what, shown, "PyTorch", f"{theirs / 1e6:.0f} MB", ours / theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=0, help="cores (0: all)")
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    common.add_json_option(parser)
    o = parser.parse_args()
    workers = o.workers or common.cores()
    if o.of:
        print(train(o.of[0], int(o.of[1]), workers))
        return 0
    return common.report([compare(k, c, workers) for k, c in enumerate(CONTESTS)], o.json)


if __name__ == "__main__":
    raise SystemExit(main())
