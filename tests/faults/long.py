"""All campaigns at length, as a table.

    python tests/faults/long.py [PART OF A NAME]... [--share 0.01 | --minutes 15]

With `--share`, so many of the trials of the long run are made; with `--minutes`, as many as fit,
the time shared out evenly, and each campaign at least once. Where n trials brought no failure, the
probability of one is below 3/n with 95 % confidence.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.path[:0] = [str(Path(__file__).parents[n]) for n in (2, 1)]

from faults.campaigns import CAMPAIGNS, Campaign

ROUND = 0.4
"""Of the trials of an ordinary run, made at once where there is a limit of time."""


def run(campaign: Campaign, trials: int | None, until: float, seed: int) -> tuple[int, list[str]]:
    """Make so many trials (None: all that there are, once), or as many as there is time for; how
    many these were, and what went wrong."""
    if trials is None or until == float("inf"):
        return campaign.run(trials, seed)
    done, asked = 0, 0
    failures: list[str] = []
    while asked < trials and (not asked or time.monotonic() < until):
        some = min(trials - asked, max(1, round(ROUND * (campaign.always or 0))))
        more, wrong = campaign.run(some, seed)
        done, failures = done + more, [*failures, *wrong]
        asked, seed = asked + some, seed + 1
    return done, failures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only campaigns with one of these in their name")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--share", type=float, default=1.0, help="of the long counts")
    limit.add_argument("--minutes", type=float, help="time for all of them together")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    chosen = {
        name: campaign
        for name, campaign in CAMPAIGNS.items()
        if not options.names or any(part.lower() in name.lower() for part in options.names)
    }
    failed, left = 0, len(chosen)
    end = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    print("| campaign | trials | failures | bound 3/n | seconds |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for name, campaign in chosen.items():
        n = None if campaign.long is None else max(1, round(campaign.long * options.share))
        began = time.monotonic()
        trials, failures = run(campaign, n, began + (end - began) / left, options.seed)
        left -= 1
        seconds = time.monotonic() - began
        bound = "" if failures or not trials else f"{3 / trials:.1e}"
        print(f"| {name} | {trials:,} | {len(failures)} | {bound} | {seconds:.0f} |", flush=True)
        for failure in failures[:10]:
            print(f"    {failure}", file=sys.stderr)
        failed += bool(failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
