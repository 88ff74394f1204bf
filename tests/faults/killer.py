"""A run of `charlstm train` that is killed, or gets signals, again and again, and is resumed; and
eight that race for one file.

    python tests/faults/killer.py kill|signal|race N SEED

The runs are forked from this process, which has loaded all that they need, so that most of what
the blow can hit is training and saving. Whatever was hit, the file is whole, and in the end it is
the file of a run that nobody disturbed, byte for byte. Prints a JSON object: how often there was a
blow, how many of them hit a run that had begun to train, and what went wrong.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.path.insert(0, str(Path(__file__).parents[2]))

from charlstm.cli import main
from charlstm.storage.checkpoint import read_checkpoint

SETTINGS: dict[str, object] = {"model.hidden": 16, "model.dropout": 0.2, "train.batch": 4}
SETTINGS |= {"train.length": 10, "train.workers": 1, "train.shards": 2, "train.lr": 0.3}
SETTINGS |= {"train.schedule": "plateau", "train.eval_every": 10, "train.patience": 4}
SETTINGS |= {"train.epochs": "null"}
TEXT = Path(__file__).parents[2] / "corpora" / "lighthouse.txt"
UNITS = ("char", "word")
"""Of the texts that runs are trained on in turn."""
STEPS = 200
"""More than a run lasts, which ends because its held-out loss does not fall any more."""
BLOWS_A_RUN = 8
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
RACERS = 8


def fork(
    arguments: list[str], gate: tuple[int, int] | None = None, told: Path | None = None
) -> int:
    """A process with this command line, as from a shell; its number. It waits until nobody can
    write to the pipe `gate` any more; what it says on standard error goes to the file `told`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number in SIGNALS:  # whatever we were started with
                signal.signal(number, signal.SIG_DFL)
            if told is not None:
                os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
            if gate is not None:
                os.close(gate[1])
                os.read(gate[0], 1)
            code = main(arguments)
        finally:
            os._exit(code)
    return child


def begin(folder: Path, unit: str, save_every: str) -> int:
    """Start the run, or resume it; its process."""
    path = folder / "m.npz"
    arguments = ["train", str(folder / "text"), "-o", str(path), "-q", "--steps", str(STEPS)]
    arguments += ["--save-every", save_every, *(["--resume"] if path.exists() else [])]
    for key, value in {**SETTINGS, "text.unit": unit}.items():
        arguments += ["--set", f"{key}={value}"]
    return fork(arguments)


def end(child: int) -> int:
    """Its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def step_of(path: Path) -> int:
    """Steps done in the file that is there; -1 where there is none. Raises where it is damaged."""
    return int(read_checkpoint(path).progress.step) if path.exists() else -1


def campaign(kind: str, blows: int, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    failures: list[str] = []
    done = hits = 0
    every = "1" if kind == "kill" else "1h"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "m.npz"
        letters = random.Random(0).choices("etaoin shrdlu\n", k=6000)  # stops early, surely
        (folder / "text").write_text("".join(letters))
        lasts, undisturbed = {}, {}
        for unit in UNITS:
            began = time.monotonic()
            code = end(begin(folder, unit, every))
            lasts[unit] = time.monotonic() - began
            undisturbed[unit] = path.read_bytes()
            steps = step_of(path)
            path.unlink()
            if code or not 20 < steps < STEPS:
                failures.append(f"undisturbed, the run of {unit}s ended after {steps} steps")
        for unit in itertools.cycle(UNITS):
            if done == blows:
                break
            for _ in range(min(BLOWS_A_RUN, blows - done)):
                before = step_of(path)
                child = begin(folder, unit, every)
                time.sleep(rng.uniform(0.0, 0.8 * lasts[unit]))
                number = signal.SIGKILL if kind == "kill" else rng.choice(list(SIGNALS))
                os.kill(child, number)
                code = end(child)
                done += 1
                if code == 0:  # it was quicker
                    break
                try:
                    after = step_of(path)
                except Exception as e:
                    failures.append(f"blow {done}: {e}")
                    path.unlink()
                    break
                hits += after > before
                if after < before:
                    failures.append(f"blow {done}: from step {before} back to {after}")
                # a signal before training has begun ends the process at once
                if code not in ((-9,) if kind == "kill" else (SIGNALS[number], -number)):
                    failures.append(f"blow {done}: exit code {code} after signal {number}")
                if kind == "signal" and code > 0 and after <= before and number != signal.SIGINT:
                    failures.append(f"blow {done}: exit code {code}, but nothing was saved")
            code = end(begin(folder, unit, every))
            if code != 0 or path.read_bytes() != undisturbed[unit]:
                failures.append(f"after blow {done}: exit code {code}, another file in the end")
            if sorted(p.name for p in folder.iterdir()) != ["m.npz", "text"]:
                failures.append(f"after blow {done}: something is left in the folder")
            path.unlink()
    return {"blows": done, "hits": hits, "failures": failures}


def race(races: int) -> dict[str, object]:
    """Eight start on one path at the same moment: one wins, and the others name it."""
    failures: list[str] = []
    arguments = ["--epochs", "100000", "--set", "train.patience=null", "--save-every", "1h", "-q"]
    for k in range(races):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "runs")
            folder.mkdir()
            path = folder / "m.npz"
            command = ["train", str(TEXT), "-o", str(path), *arguments]
            gate = os.pipe()
            told = [Path(name, f"told {i}") for i in range(RACERS)]
            racers = [fork(command, gate, file) for file in told]
            for descriptor in gate:  # which opens it
                os.close(descriptor)
            codes: dict[int, int] = {}
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (len(codes) < RACERS - 1 or not path.exists()):
                time.sleep(0.005)  # until its first look: it trains
                for child in set(racers) - set(codes):
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        codes[child] = os.waitstatus_to_exitcode(status)
            running = [child for child in racers if child not in codes]
            if len(running) != 1:
                failures.append(f"race {k}: {len(running)} are running")
            for child in running:
                os.kill(child, signal.SIGTERM)
                codes[child] = end(child)
            for child, file in zip(racers, told, strict=True):
                text, code = file.read_text(), codes[child]
                if child in running:
                    good = code == 143 and not text
                else:
                    named = f" is being written by process {(running or [0])[0]} on "
                    good = code == 5 and named in text and text.count("\n") == 1
                if not good:
                    failures.append(f"race {k}: exit code {code}: {text[-200:]}")
            if os.listdir(folder) != ["m.npz"] or step_of(path) < 1:
                failures.append(f"race {k}: {os.listdir(folder)}")
    return {"blows": races, "hits": races, "failures": failures}


if __name__ == "__main__":
    kind, n, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(race(n) if kind == "race" else campaign(kind, n, seed)))
