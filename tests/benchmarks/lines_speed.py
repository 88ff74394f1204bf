"""Lines scored, and seeds continued, side by side against one after the other: what
`evaluate --lines` and `sample --each` make of a file and of a pipe.

    python tests/benchmarks/lines_speed.py --require 4
"""

from __future__ import annotations

import argparse

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row, Run
from peers import initial

from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.sampler import Sampler
from charlstm.scoring.evaluation import LineScorer
from charlstm.scoring.scorers import StaticScorer
from charlstm.text.units import Characters

V, H, LENGTH = 65, 100, 60
"""Characters, hidden size, and characters of a line and of a continuation."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1000, help="lines, and seeds, in all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--require", type=float, default=4.0, help="least ratio of the bests")
    common.add_json_option(parser)
    o = parser.parse_args()
    model = initial("lstm", V, H, 1)
    vocabulary = Characters(np.array([10, *range(32, 32 + V - 1)]), np.ones(V, np.int64))
    rng = np.random.default_rng(1)
    lines = ["".join(map(chr, row)) for row in rng.integers(32, 32 + V - 1, (o.lines, LENGTH))]
    scorer = LineScorer(StaticScorer(model, vocabulary.charged), vocabulary)
    complete = Sampler(model, vocabulary, 0, Sampling(length=LENGTH))
    seeds = [Seed(vocabulary.encode(line[:10]), line[:10]) for line in lines]
    runs: dict[str, Run] = {
        "lines": lambda: scorer(lines),
        "lines, one at a time": lambda: [scorer([line]) for line in lines],
        "seeds": lambda: list(complete(seeds)),
        "seeds, one at a time": lambda: [list(complete([seed])) for seed in seeds],
    }
    rates = common.interleave(runs, dict.fromkeys(runs, float(o.lines)), rounds=o.rounds)
    rows = []
    for what in ("lines", "seeds"):
        ours, theirs = rates[what], rates[f"{what}, one at a time"]
        rows.append(
            Row(
                f"{o.lines:,} {what} of {LENGTH} characters, lstm {H}, side by side",
                f"{ours.best:,.0f} a second",
                "one at a time",
                f"{theirs.best:,.0f} a second",
                ours.best / theirs.best,
                ours.median / theirs.median,
                o.require,
            )
        )
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
