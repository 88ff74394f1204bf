"""The runs that `-c auto` rests on: a network, a training, a text, and what it reached.

    python tests/benchmarks/auto_table.py TEXT units=7.1e6 model.hidden=192 train.lr=0.02 ...

adds a row to `auto_table.csv`. Every run is on a single core, its rate falls along a cosine, and
dropout is by the segment; what a row does not name is as in `BASE`. `units` is how many are trained
on. The held-out loss, in nats per unit of the text's last tenth, is that of the last weights. A
number behind a text's name is how much of it was taken, from the beginning.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import common  # noqa: F401  # first: one thread each, before NumPy is loaded

import charlstm
from charlstm.config.sources import parse_setting
from charlstm.training.rules import operations

TABLE = Path(__file__).with_suffix(".csv")

BASE = {
    "model.hidden": 192,
    "model.layers": 1,
    "model.embedding": 0,
    "model.tie": False,
    "model.embedding_start": 2.0,
    "model.dropout": 0.0,
    "model.weight_drop": 0.0,
    "model.input_drop": 0.0,
    "train.lr": 0.02,
    "train.weight_decay": 0.01,
    "train.beta2": 0.999,
    "train.batch": 32,
    "train.length": 64,
    "train.average": 0.99,
    "text.unit": "char",
    "train.optimizer": "adamw",
    "train.clip_norm": 1.0,
}
"""Keys that are columns of the table, with what they are where a row leaves them out."""

FIXED = {
    "model.variational": True,
    "train.schedule": "cosine",
    "train.warm_up": 100,
    "train.workers": 1,
    "train.shards": 1,
    "train.epochs": None,
    "train.patience": None,
}


def run(text: str, units: float, keys: dict[str, object]) -> dict[str, object]:
    """A row of the table."""
    keys = {**BASE, **keys}
    a_step = int(str(keys["train.batch"])) * int(str(keys["train.length"]))
    steps = max(1, round(units / a_step))
    ends = {"train.steps": steps, "train.eval_every": steps}
    training = charlstm.train(text, settings={**FIXED, **keys, **ends})
    began = time.process_time()
    for _ in training:
        pass
    seconds = time.process_time() - began
    V = len(training.corpus.vocabulary)
    return {
        "text": Path(text).stem,
        "units": len(training.corpus.train),
        "vocabulary": V,
        "trained": training.chars,
        "epochs": round(training.epoch, 2),
        "tflop": round(operations(training.config, V) * training.chars / 1e12, 2),
        **keys,
        "core_seconds": round(seconds),
        "held_out": round(training.held_out_loss() or float("nan"), 4),
    }


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    text, *settings = sys.argv[1:]
    keys, units = {}, 1e6
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "units":
            units = float(value)
        else:
            keys[name] = parse_setting(setting).value
    row = run(text, units, keys)
    new = not TABLE.exists()
    with TABLE.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
