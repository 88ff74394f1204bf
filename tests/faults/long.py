"""All campaigns at length, as a table.

    python tests/faults/long.py [PART OF A NAME]... [--share 0.01]

Where n trials brought no failure, its probability is below 3/n with 95 % confidence.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.path[:0] = [str(Path(__file__).parents[n]) for n in (2, 1)]

from faults.campaigns import CAMPAIGNS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only campaigns with one of these in their name")
    parser.add_argument("--share", type=float, default=1.0, help="of the long counts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    print("| campaign | trials | failures | bound 3/n | seconds |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for name, campaign in CAMPAIGNS.items():
        if options.names and not any(part.lower() in name.lower() for part in options.names):
            continue
        n = None if campaign.long is None else max(1, round(campaign.long * options.share))
        began = time.monotonic()
        trials, failures = campaign.run(n, options.seed)
        seconds = time.monotonic() - began
        bound = "" if failures or not trials else f"{3 / trials:.1e}"
        print(f"| {name} | {trials:,} | {len(failures)} | {bound} | {seconds:.0f} |", flush=True)
        for failure in failures[:10]:
            print(f"    {failure}", file=sys.stderr)
        failed += bool(failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
