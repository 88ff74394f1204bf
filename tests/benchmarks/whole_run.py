"""How fast whole commands train: `charlstm train` as typed beside a PyTorch script that does the
same job (`torch_train.py`): the same recipe, held-out evaluation, saving and log.

    python tests/benchmarks/whole_run.py TEXT [--korean TEXT] [--only WORD]...

The contestants of a contest run in turns, some seconds each, on all cores where nothing else is
said. A rate is the characters between two lines of a log over the time between them, evaluation
and saving included; the first third of a log, while processes start, does not count. The
medians and the bests are over all rounds. Exit code 1: a median misses its target.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import common
from common import Row

SCRIPT = str(Path(__file__).with_name("torch_train.py"))


class Contest(NamedTuple):
    """One command of ours beside some of PyTorch's, of which the quickest counts."""

    name: str
    ours: tuple[str, ...]
    theirs: tuple[tuple[str, ...], ...]
    target: float
    korean: bool = False
    """Whether the text is the one of a large vocabulary."""
    own: bool = False
    """Whether what runs beside it is charlstm as well."""


ONE = ("--set", "train.workers=1", "--set", "train.shards=1")
"""On one core: one process, one shard."""


def streams(n: int) -> tuple[str, ...]:
    return ("--set", f"train.batch={n}")


PEERS = (("--streams", "32"), ("--streams", "64"), ("--streams", "128"))
CONTESTS = (
    Contest("default", (), PEERS[:1], 1.5),
    Contest("default / the best of PyTorch", (), PEERS, 1.35),
    Contest("64 streams / the best of PyTorch", streams(64), PEERS, 1.5),
    Contest("128 streams / the best of PyTorch", streams(128), PEERS, 1.5),
    Contest("GRU", ("--set", "model.cell=gru"), (("--cell", "gru"),), 1.5),
    Contest("V 1,679", (), PEERS[:1], 1.5, korean=True),
    Contest(
        "2 x 384, as configs/shakespeare.yaml",
        ("-c", "shakespeare"),
        (("--recipe", "shakespeare"),),
        1.25,
    ),
    Contest("one core", ONE, (("--streams", "32", "--threads", "1"),), 1.4),
    Contest("default on two cores / on one", (), (ONE,), 1.6, own=True),
)


class Rates(NamedTuple):
    """Characters a second between two lines of a log."""

    all: list[float]

    @property
    def text(self) -> str:
        return f"{median(self.all) / 1e3:,.0f}k, {max(self.all) / 1e3:,.0f}k"


def run(command: Sequence[str], log: Path) -> list[float]:
    """The rates of a command that ends by itself."""
    subprocess.run(command, env=common.USER_ENVIRONMENT, check=True, stdin=subprocess.DEVNULL)
    return rates_of([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()])


def rates_of(lines: Sequence[dict[str, float]]) -> list[float]:
    """Between the lines of a log but the first third."""
    settled = lines[len(lines) // 3 :]
    return [
        (b["chars"] - a["chars"]) / (b["seconds"] - a["seconds"])
        for a, b in pairwise(settled)
        if b["step"] > a["step"]
    ]


def commands(contest: Contest, text: str, seconds: float, every: int) -> dict[str, list[str]]:
    """What is run; log and model are added."""
    train = [sys.executable, "-m", "charlstm", "train", text, "-q", "--max-time", f"{seconds:g}s"]
    train += ["--set", f"train.eval_every={every}", "--set", "train.patience=null"]
    train += ["--set", "train.epochs=null"]
    found = {"charlstm": [*train, *contest.ours]}
    if contest.own:
        found |= {" ".join(arguments): [*train, *arguments] for arguments in contest.theirs}
    elif common.installed("torch"):
        for arguments in contest.theirs:
            peer = [sys.executable, SCRIPT, text, "--seconds", f"{seconds:g}"]
            found[" ".join(arguments)] = [*peer, *arguments, "--every", str(every)]
    return found


def settle(contest: Contest, text: str, o: argparse.Namespace) -> Row:
    """A contest in turns; ratios of rates."""
    rates: dict[str, Rates] = {}
    order = commands(contest, text, o.seconds, o.every)
    with tempfile.TemporaryDirectory() as folder:
        for k in range(o.rounds):
            for name, command in order.items():
                log, model = Path(folder, f"{len(rates)}.{k}.log"), Path(folder, f"{k}.model")
                full = [*command, "--log", str(log), "--model", str(model)]
                rates.setdefault(name, Rates([])).all.extend(run(full, log))
                log.unlink()
                model.unlink(missing_ok=True)
            order = dict(reversed(order.items()))
    if not all(found.all for found in rates.values()):
        raise SystemExit("no run logged two lines: more --seconds, or a smaller --every")
    ours = rates.pop("charlstm")
    what = f"{contest.name}, characters/s: median, best"
    if not rates:
        return Row(what, ours.text, "PyTorch", "not installed", target=contest.target)
    best = max(rates, key=lambda name: median(rates[name].all))
    return Row(
        what,
        ours.text,
        best if contest.own else f"PyTorch {best}",
        rates[best].text,
        max(ours.all) / max(max(r.all) for r in rates.values()),
        median(ours.all) / median(rates[best].all),
        contest.target,
        of_medians=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--korean", help="a text with a large vocabulary")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a run")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--every", type=int, default=300, help="steps between two evaluations")
    parser.add_argument("--only", action="append", help="contests whose name has this in it")
    common.add_json_option(parser)
    o = parser.parse_args()
    rows = []
    for contest in CONTESTS:
        text = o.korean if contest.korean else o.text
        if text and (not o.only or any(word in contest.name for word in o.only)):
            rows.append(settle(contest, text, o))
            print(common.markdown(rows[-1:]), f"load {os.getloadavg()[0]:.1f}", flush=True)
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
