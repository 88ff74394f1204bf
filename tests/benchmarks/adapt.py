"""What `evaluate --adapt` costs, as a multiple of `evaluate` on the same text, by whole commands,
and what it gains. The models are trained for a moment: their speed is that of better ones.

    python tests/benchmarks/adapt.py --require 4 [TEXT]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import common  # first: one thread each, before NumPy is loaded
from common import Row

STORY = Path(common.ROOT) / "corpora" / "lighthouse.txt"
SIZES: dict[str, list[str]] = {"lstm 100": [], "two tied layers of 384": ["-c", "shakespeare"]}
"""Options of training, by what the model is called."""


def charlstm(*arguments: str | Path) -> tuple[str, float]:
    """What a command prints, and the seconds of processor time that it took: others at work on the
    machine change that less than they do the time on the clock."""
    command = [sys.executable, "-m", "charlstm", *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**common.USER_ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path, default=STORY)
    parser.add_argument("--characters", type=int, default=110_000, help="of the end, at most")
    parser.add_argument("--steps", type=int, default=20, help="of training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--require", type=float, default=4.0, help="most that it may cost")
    common.add_json_option(parser)
    o = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        model, held_out = Path(name) / "m.npz", Path(name) / "text"
        text = o.text.read_text(encoding="utf-8")
        held_out.write_text(text[-o.characters :], encoding="utf-8")
        for size, options in SIZES.items():
            keys = (f"train.steps={o.steps}", "train.workers=1", "text.valid=0")
            sets = [part for key in keys for part in ("--set", key)]
            charlstm("train", o.text, "-o", model, "--force", "-q", *options, *sets)
            times: dict[bool, list[float]] = {False: [], True: []}
            nats = {}
            for _ in range(o.rounds):
                for adapt in times:
                    option = ["--adapt"] if adapt else []
                    out, spent = charlstm("evaluate", held_out, "-m", model, "--json", *option)
                    nats[adapt] = json.loads(out)["nats_per_char"]
                    times[adapt].append(spent)
            best = {adapt: min(spent) for adapt, spent in times.items()}
            middle = {adapt: median(spent) for adapt, spent in times.items()}
            rows.append(
                Row(
                    f"evaluate --adapt, {size}",
                    f"{best[True]:.1f} s, {nats[True]:.3f} nats",
                    "evaluate",
                    f"{best[False]:.1f} s, {nats[False]:.3f} nats",
                    best[True] / best[False],
                    middle[True] / middle[False],
                    o.require,
                    at_most=True,
                )
            )
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
