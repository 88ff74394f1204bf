"""What the benchmarks share: one thread each, interleaved timing, verdicts and tables.

Importing this module, which must come before NumPy, sets the linear algebra libraries to one
thread and puts the package of this checkout first on the path.

A benchmark describes what it found as `Row`s and hands them to `report`, which prints them as a
Markdown table, or with `--json` as a JSON object a line, and returns the exit code.
"""

from __future__ import annotations

import os
import sys

USER_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
for _library in ("OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM", "NUMEXPR"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The checkout."""
sys.path.insert(0, ROOT)
USER_ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(
    filter(None, [ROOT, os.environ.get("PYTHONPATH", "")])
)
"""What a process is given that measures whole commands: this checkout, and as many threads as its
libraries like."""

import argparse  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Hashable, Mapping, Sequence  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any, NamedTuple, TypeVar  # noqa: E402

from charlstm.training.shards import cores as cores  # noqa: E402

Key = TypeVar("Key", bound=Hashable)
Run = Callable[[], object]


# --- what the machine has ------------------------------------------------------------------------


def torch_or_none(threads: int = 1) -> Any:
    """PyTorch on so many threads, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def installed(module: str) -> bool:
    """Whether a peer can be asked at all; it is not loaded."""
    return find_spec(module) is not None


# --- timing --------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """How much was done a second."""

    best: float
    median: float


def interleave(
    contestants: Mapping[Key, Run],
    work: Mapping[Key, float],
    turn: float = 0.04,
    rounds: int = 15,
    prepare: Mapping[Key, Run] | None = None,
    warm: float = 0.0,
) -> dict[Key, Rates]:
    """Run the contestants in turn, some hundredths of a second each, round after round.

    What disturbs the machine so disturbs all of them alike. `work` is what one call does
    (characters, operations); every other round goes the other way round. A turn gives one rate;
    of these the best and the median are returned. `prepare` is called before a contestant's
    turn; then come calls that are not timed, at least one, for `warm` seconds: threads of the one
    before may still be awake, waiting for work, and one's own processes have to wake up.
    """
    prepare = prepare or {}

    def nothing() -> None:
        pass

    calls, untimed = {}, {}
    for key, run in contestants.items():
        prepare.get(key, nothing)()
        run()
        run()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        calls[key], untimed[key] = (max(1, round(t / seconds)) for t in (turn, warm))
    rates: dict[Key, list[float]] = {key: [] for key in contestants}
    order = list(contestants)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for key in order:
                run, n = contestants[key], calls[key]
                prepare.get(key, nothing)()
                for _ in range(untimed[key]):
                    run()
                start = time.perf_counter()
                for _ in range(n):
                    run()
                rates[key].append(n * work[key] / (time.perf_counter() - start))
            order.reverse()
    finally:
        gc.enable()
    return {key: Rates(max(r), median(r)) for key, r in rates.items()}


# --- what was found ------------------------------------------------------------------------------


class Row(NamedTuple):
    """One comparison: this package beside one peer, and what is asked of it."""

    what: str
    ours: str
    """What was measured here, with its unit."""
    peer: str
    theirs: str
    """The same of the peer; or why there is nothing."""
    best: float | None = None
    """The ratio of the best measurements."""
    median: float | None = None
    """The ratio of the medians."""
    target: float | None = None
    """What the ratio of the bests should be; None where it is only told."""
    at_most: bool = False
    """The target is the largest ratio that will do, not the least."""
    of_medians: bool = False
    """The target is one of the medians."""

    @property
    def met(self) -> bool | None:
        """None where nothing was measured or nothing is asked."""
        ratio = self.median if self.of_medians else self.best
        if ratio is None or self.target is None:
            return None
        return ratio <= self.target if self.at_most else ratio >= self.target


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of comparisons."""

    def number(x: float | None) -> str:
        return "–" if x is None else f"{x:.2f}"

    verdict = {True: "yes", False: "**no**", None: "–"}
    lines = [
        [
            *(row.what, row.ours, row.peer, row.theirs, number(row.best), number(row.median)),
            "–" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:.2f}",
            verdict[row.met],
        ]
        for row in rows
    ]
    head = ["what", "charlstm", "peer", "peer's", "ratio of bests", "of medians", "target", "met"]
    return table(head, lines)


def code(rows: Sequence[Row]) -> int:
    """The exit code: 1 where a target is missed."""
    return int(any(row.met is False for row in rows))


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`, as `report` and `rows_of` know it."""
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")


def report(rows: Sequence[Row], as_json: bool) -> int:
    """Print what was found; return the exit code."""
    if as_json:
        for row in rows:
            print(json.dumps(row._asdict()), flush=True)
    else:
        print(markdown(rows))
    return code(rows)


def rows_of(printed: str) -> list[Row]:
    """The rows that another process has printed with `--json`."""
    return [Row(**json.loads(line)) for line in printed.splitlines() if line.startswith("{")]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers stand at the right."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(head))]

    def written(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(written(line) for line in (lines[0], rule, *lines[1:]))


def judge(ratio: float, required: float) -> int:
    """The exit code: 0 where the ratio is what is required, 1 where it is less."""
    if ratio >= required:
        return 0
    print(f"\ntoo slow: the ratio is {ratio:.2f}, {required:g} is required")
    return 1
