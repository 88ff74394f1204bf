"""Characters a second in training as the classic teaching script does it: one stream, 25 steps of
time, gradients cut at ±5, Adagrad; charlstm and plain NumPy (`peers.NaiveRNN`) in turns.

This package runs whole, with its bundled configuration `min-char-rnn`: text, loop, bookkeeping
and all. The script's arrays are float64, since it says nothing of them; it also runs with float32.

    python tests/benchmarks/classic.py --require 3
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row, Run
from peers import naive_step

import charlstm

H, T = 100, 25
TEXT = Path(common.ROOT, "corpora", "lighthouse.txt")
"""What is learnt, by all; without end."""
NAIVE = {"naive NumPy, float32": np.float32, "naive NumPy, float64": np.float64}


def charlstm_step(cell: str) -> Run:
    """Training steps of this package as a user gets them, nothing held out; nothing is written."""
    settings = {
        "model.cell": cell,
        "model.hidden": H,
        "text.valid": 0,
        "train.epochs": None,
        "train.sample_every": None,
    }
    training = charlstm.train(TEXT, config="min-char-rnn", settings=settings)
    t = training.config.train
    assert (t.batch, t.length, t.clip_value, t.optimizer) == (1, T, 5.0, "adagrad")
    return partial(next, iter(training))


def race(cell: str, rounds: int, require: float | None) -> list[Row]:
    """The comparisons for one cell."""
    text = TEXT.read_text(encoding="utf-8")
    runs: dict[str, Run] = {"charlstm": charlstm_step(cell)}
    for name, dtype in NAIVE.items():
        runs[name] = naive_step(cell, text, H, T, dtype)
    rates = common.interleave(runs, dict.fromkeys(runs, float(T)), rounds=rounds)
    ours = rates["charlstm"]
    return [
        Row(
            f"training as the classic script does: {cell}, 1 stream of {T} steps",
            f"{ours.best:,.0f} characters/s",
            name,
            f"{rates[name].best:,.0f} characters/s",
            ours.best / rates[name].best,
            ours.median / rates[name].median,
            require,
        )
        for name in NAIVE
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", nargs="+", default=["rnn", "lstm"], choices=["lstm", "rnn"])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--require", type=float, default=3.0, help="least ratio of the bests")
    common.add_json_option(parser)
    o = parser.parse_args()
    return common.report(
        [row for cell in o.cell for row in race(cell, o.rounds, o.require)], o.json
    )


if __name__ == "__main__":
    raise SystemExit(main())
