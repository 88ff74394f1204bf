"""How fast whole commands train: `charlstm train` as typed beside a PyTorch script that does the
same job (`torch_train.py`): the same recipe, held-out evaluation, saving and log.

    python tests/benchmarks/whole_run.py TEXT [--korean TEXT] [--only WORD]...

The contestants of a contest run in turns, some seconds each, on all cores where nothing else is
said. A rate is the characters between two lines of a log over the time between them, with the
evaluations and the saving that fall there; the first third of the lines, while processes start,
does not count. The medians and the bests are over all rounds. Exit code 1: a median misses its
target.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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
    longer: int = 1
    """Runs take so many times the seconds, in half as many rounds, where steps are slow."""
    every: int | None = None
    """Steps between two evaluations, if not as many as for the others."""


ONE = ("--set", "train.workers=1", "--set", "train.shards=1")
"""On one core: one process, one shard."""


def streams(n: int) -> tuple[str, ...]:
    return ("--set", f"train.batch={n}")


PEERS = (("--streams", "32"), ("--streams", "64"), ("--streams", "128"))
CONTESTS = (
    Contest("default", (), PEERS[:1], 1.5),
    Contest("default / the best of PyTorch", (), PEERS, 1.35, longer=3),
    Contest("64 streams / the best of PyTorch", streams(64), PEERS, 1.5, longer=3),
    Contest("128 streams / the best of PyTorch", streams(128), PEERS, 1.5, longer=3),
    Contest("GRU", ("--set", "model.cell=gru"), (("--cell", "gru"),), 1.5),
    Contest("V 1,679", (), PEERS[:1], 1.5, korean=True, longer=6),
    Contest(
        "2 x 384, as configs/shakespeare.yaml",
        ("-c", "shakespeare", "--steps", "7000"),
        (("--recipe", "shakespeare"),),
        1.25,
        longer=16,
        every=40,
    ),
    Contest("one core", ONE, (("--streams", "32", "--threads", "1"),), 1.4),
    Contest("default on two cores / on one", (), (ONE,), 1.6, own=True),
)


def run(command: Sequence[str], log: Path) -> float | None:
    """The rate of a command that ends by itself."""
    subprocess.run(command, env=common.USER_ENVIRONMENT, check=True, stdin=subprocess.DEVNULL)
    return rate([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()])


def rate(lines: Sequence[dict[str, float]]) -> float | None:
    """Characters a second between the first and the last of a log's lines but the first third;
    None where there are no two."""
    settled = lines[len(lines) // 3 :]
    if not settled or settled[-1]["step"] == settled[0]["step"]:
        return None
    first, last = settled[0], settled[-1]
    return (last["chars"] - first["chars"]) / (last["seconds"] - first["seconds"])


def shown(rates: Sequence[float]) -> str:
    return f"{median(rates) / 1e3:,.0f}k, {max(rates) / 1e3:,.0f}k"


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
    every = contest.every or o.every
    order = commands(contest, text, o.seconds * contest.longer, every)
    rates: dict[str, list[float]] = {name: [] for name in order}
    with tempfile.TemporaryDirectory() as folder:
        log, model = Path(folder, "log"), Path(folder, "model")
        for _ in range(-(-o.rounds // min(2, contest.longer))):
            for name, command in order.items():
                found = run([*command, "--log", str(log), "--model", str(model)], log)
                if found is not None:
                    rates[name].append(found)
                log.unlink()
                model.unlink(missing_ok=True)
            order = dict(reversed(order.items()))
    for name in rates:
        if not rates[name]:
            raise SystemExit(f"{contest.name}: {name} logged no two lines; give more --seconds")
    ours = rates.pop("charlstm")
    what = f"{contest.name}, characters/s: median, best"
    if not rates:
        return Row(what, shown(ours), "PyTorch", "not installed", target=contest.target)
    best = max(rates, key=lambda name: median(rates[name]))
    return Row(
        what,
        shown(ours),
        best if contest.own else f"PyTorch {best}",
        shown(rates[best]),
        max(ours) / max(map(max, rates.values())),
        median(ours) / median(rates[best]),
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
            load = f"load {os.getloadavg()[0]:.1f}"
            print(common.markdown(rows[-1:]), load, file=sys.stderr, flush=True)
    if not rows:
        parser.error("no contest has such a name")
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
