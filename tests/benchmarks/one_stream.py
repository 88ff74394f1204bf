"""One stream at a time: `sample --match` and `--interactive` beside `sample`, whole commands, in
turns.

    python tests/benchmarks/one_stream.py [MODEL]

Without a model, one is trained on a story that ships with the project.

The times are those of a character, without the same command that makes ten, so that the start of
the process does not count. Exit code 1: a command takes more than 1.3 times the
time of `sample`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import common
from common import Row

SEED = "The "
CHARLSTM = [sys.executable, "-m", "charlstm"]


def measured(model: str, n: int, rounds: int) -> list[Row]:
    """The ways to have n characters from a model, each beside `sample`."""
    # both expressions can go on for ever, so that the length ends the sample; a dialogue, which
    # offers three continuations, must not end at a line
    ways = {
        "sample": (["--seed", SEED], 1),
        r"--match '[\s\S]*zqjx'": (["--seed", SEED, "--match", r"[\s\S]*zqjx"], 1),
        "--match, words": (["--seed", SEED, "--match", "([a-z]+[^a-z]+)*QQ"], 1),
        "--interactive": (["--interactive", "--stop", "\1"], 3),
    }
    sample = [*CHARLSTM, "sample", "-m", model, "--rng-seed", "1"]

    def run(options: list[str], length: int) -> float:
        began = time.monotonic()
        subprocess.run(
            [*sample, "-n", str(length), *options],
            env=common.USER_ENVIRONMENT,
            input=f"{SEED}\n".encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        return time.monotonic() - began

    long: dict[str, list[float]] = {way: [] for way in ways}
    short: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (options, _) in ways.items():
            long[way].append(run(options, n))
            short[way].append(run(options, 10))

    def a_character(way: str, which: Callable[[list[float]], float]) -> float:
        """Microseconds."""
        return 1e6 * (which(long[way]) - which(short[way])) / (ways[way][1] * (n - 10))

    rows = []
    plain = [a_character("sample", which) for which in (min, median)]
    for way in list(ways)[1:]:
        taken = [a_character(way, which) for which in (min, median)]
        rows.append(
            Row(
                f"one stream, {way}, a character: least, median",
                f"{taken[0]:.1f}, {taken[1]:.1f} us",
                "sample",
                f"{plain[0]:.1f}, {plain[1]:.1f} us",
                taken[0] / plain[0],
                taken[1] / plain[1],
                1.3,
                at_most=True,
                of_medians=True,
            )
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--length", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    common.add_json_option(parser)
    o = parser.parse_args()
    if o.model:
        rows = measured(o.model, o.length, o.rounds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = str(Path(folder) / "m.npz")
            story = str(Path(common.ROOT, "corpora", "lighthouse.txt"))
            train = ["train", story, "--steps", "500", "-q", "-o", model]
            subprocess.run([*CHARLSTM, *train], env=common.USER_ENVIRONMENT, check=True)
            rows = measured(model, o.length, o.rounds)
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
