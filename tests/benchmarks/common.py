"""What the benchmarks share: one thread each, interleaved timing, and tables.

Importing this module, which must come before NumPy, sets the linear algebra libraries to one
thread and puts the package of this checkout first on the path.
"""

from __future__ import annotations

import os
import sys

for _library in ("OPENBLAS", "MKL", "OMP", "VECLIB_MAXIMUM", "NUMEXPR"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import gc  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Hashable, Mapping, Sequence  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any, NamedTuple, TypeVar  # noqa: E402

Key = TypeVar("Key", bound=Hashable)


class Rates(NamedTuple):
    """How much was done a second."""

    best: float
    median: float


def torch_or_none() -> Any:
    """PyTorch on one thread, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def interleave(
    contestants: Mapping[Key, Callable[[], object]],
    work: Mapping[Key, float],
    turn: float = 0.04,
    rounds: int = 15,
) -> dict[Key, Rates]:
    """Run the contestants in turn, some hundredths of a second each, round after round.

    What disturbs the machine so disturbs all of them alike. `work` is what one call does
    (characters, operations); every other round goes the other way round. A turn gives one rate;
    of these the best and the median are returned.
    """
    calls = {}
    for key, run in contestants.items():
        run()
        run()
        start = time.perf_counter()
        run()
        calls[key] = max(1, round(turn / (time.perf_counter() - start)))
    rates: dict[Key, list[float]] = {key: [] for key in contestants}
    order = list(contestants)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for key in order:
                run, n = contestants[key], calls[key]
                start = time.perf_counter()
                for _ in range(n):
                    run()
                rates[key].append(n * work[key] / (time.perf_counter() - start))
            order.reverse()
    finally:
        gc.enable()
    return {key: Rates(max(r), median(r)) for key, r in rates.items()}


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
