"""What it costs that samples match: `Sampler` with an expression beside the same without one, as
many samples of the same length, in seconds a character.

For each of 20 expressions as many samples are made as its share of all; each is looked at with
Python's `re`, which has to match it as a whole. Without an expression the samples of its share
are as long as the matches were on the mean. The times are those of all expressions together.

    python tests/benchmarks/match_cost.py
"""

from __future__ import annotations

import argparse
import re
import string

import common  # first: one thread each, before NumPy is loaded
import numpy as np
from common import Row, Run
from peers import initial

from charlstm.generation.ending import Sampling, Seed
from charlstm.generation.matcher import Matcher
from charlstm.generation.sampler import Sampler
from charlstm.text.units import Characters

H = 100
UNITS = sorted(f"\n {string.ascii_letters}{string.digits},.:;-_!?'\"()+/")

EXPRESSIONS = [
    *(r"[A-Z][a-z]+", r"[a-z]{3,9}( [a-z]{3,9}){2,5}", r"\d{4}-\d{2}-\d{2}", r"(\w+, )*\w+"),
    *(r"[^aeiou]{10,40}", r".{20}", r".*", r"(ha)+!", r"[a-m]*[n-z]{5}", r"\d+(\.\d+)?"),
    *(r"(yes|no|perhaps)( (yes|no|perhaps))*", r"\"[^\"]*\"", r"\(\w+( \w+)*\)", r"[A-Z ]{30}"),
    *(r"key_\d+: \w+;", r"(\d{1,3}\.){3}\d{1,3}", r"\S+( \S+){7}", r"(a|b|ab)*c", r"\w{2,60}"),
    r"[A-Z]\w*(, [a-z]+)* \d{2}:\d{2}",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000, help="in all")
    parser.add_argument("--length", type=int, default=60, help="of a match at most, in characters")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--require", type=float, default=1.5, help="largest ratio of the times")
    common.add_json_option(parser)
    o = parser.parse_args()
    V = len(UNITS)
    model = initial("lstm", V, H, 1)
    vocabulary = Characters(np.array([ord(unit) for unit in UNITS]), np.ones(V, np.int64))
    each = o.samples // len(EXPRESSIONS)
    seed = vocabulary.encode("The ")
    seeds = [Seed(seed[-1:], "The ")] * each
    characters, wrong = 0, 0
    matching, free = [], []
    for expression in EXPRESSIONS:
        matched = Sampling(length=o.length, match=Matcher(expression, vocabulary))
        sampler = Sampler(model, vocabulary, 0, matched, prefix=seed[:-1])
        found = list(sampler(seeds))
        wrong += sum(re.fullmatch(expression, c.text) is None for c in found)
        made = sum(c.units for c in found)
        characters += made
        matching.append(sampler)
        mean = max(1, round(made / each))
        free.append(Sampler(model, vocabulary, 0, Sampling(length=mean), prefix=seed[:-1]))
    of_free = each * sum(sampler.sampling.length for sampler in free)

    def run(samplers: list[Sampler]) -> Run:
        return lambda: [list(sampler(seeds)) for sampler in samplers]

    def together() -> None:
        """As `sample --count` does: piece by piece."""
        for sampler in free:
            for _ in sampler.pieces(seeds):
                pass

    runs = {"match": run(matching), "free": run(free), "together": together}
    work = {"match": float(characters), "free": float(of_free), "together": float(of_free)}
    rates = common.interleave(runs, work, rounds=o.rounds)
    ours = rates["match"]
    total = each * len(EXPRESSIONS)
    what = f"{total:,} samples over {len(EXPRESSIONS)} expressions, lstm {H}"
    rows = [
        Row(
            f"{what}: those that match",
            f"{total - wrong:,}",
            "all",
            f"{total:,}",
            (total - wrong) / total,
            target=1.0,
        ),
    ]
    peers = {"free": "without an expression", "together": "without, by sample --count"}
    for name, peer in peers.items():
        theirs = rates[name]
        rows.append(
            Row(
                f"{what}: time a character",
                f"{1e6 / ours.best:.2f} us",
                peer,
                f"{1e6 / theirs.best:.2f} us",
                theirs.best / ours.best,
                theirs.median / ours.median,
                o.require if name == "free" else None,
                at_most=True,
            )
        )
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
