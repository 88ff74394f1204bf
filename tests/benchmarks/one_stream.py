"""One stream at a time: `sample --match` and `--interactive` beside `sample`, whole commands, in
turns.

    python tests/benchmarks/one_stream.py [MODEL]

Without a model, one is trained on a story that ships with the project.

The times are seconds a character, without those of the same command that makes ten, so
that the start of the process does not count. Exit code 1: a command takes more than 1.3 times the
time of `sample`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
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

    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (options, count) in ways.items():
            seconds[way].append((run(options, n) - run(options, 10)) / (count * (n - 10)))
    plain = seconds.pop("sample")
    rows = []
    for way, taken in seconds.items():
        rows.append(
            Row(
                f"one stream, {way}, a character: least, median",
                f"{1e6 * min(taken):.1f}, {1e6 * median(taken):.1f} us",
                "sample",
                f"{1e6 * min(plain):.1f}, {1e6 * median(plain):.1f} us",
                min(taken) / min(plain),
                median(taken) / median(plain),
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
