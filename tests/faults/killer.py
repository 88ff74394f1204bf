"""A run of `charlstm train` that is killed, or gets signals, again and again, and is resumed.

    python tests/faults/killer.py kill|signal N SEED

The runs are forked from this process, which has loaded all that they need, so that most of what
the blow can hit is training and saving. Whatever was hit, the file is whole, and in the end it is
the file of a run that nobody disturbed, byte for byte. Prints a JSON object: how often there was a
blow, how many of them hit a run that had begun to train, and what went wrong.
"""

from __future__ import annotations

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

from charlstm.checkpoint import read_checkpoint
from charlstm.cli import main

SETTINGS = {"model.hidden": 16, "model.dropout": 0.2, "train.batch": 4, "train.length": 10}
SETTINGS |= {"train.workers": 1, "train.eval_every": 20, "train.epochs": "null"}
SETTINGS |= {"train.lr": 0.3, "train.schedule": "plateau", "train.patience": "null"}
STEPS = 120
BLOWS_A_RUN = 8
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def begin(folder: Path, save_every: str) -> int:
    """Start the run, or resume it; its process."""
    path = folder / "m.npz"
    arguments = ["train", str(folder / "text"), "-o", str(path), "-q", "--steps", str(STEPS)]
    arguments += ["--save-every", save_every, *(["--resume"] if path.exists() else [])]
    for key, value in SETTINGS.items():
        arguments += ["--set", f"{key}={value}"]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number in SIGNALS:  # as from a shell, whatever we were started with
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = main(arguments)
        finally:
            os._exit(code)
    return child


def end(child: int) -> int:
    """Its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def step_of(path: Path) -> int:
    """Steps done in the file that is there; -1 where there is none. Raises where it is damaged."""
    return int(read_checkpoint(path).progress["step"]) if path.exists() else -1


def campaign(kind: str, blows: int, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    failures: list[str] = []
    done = hits = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "m.npz"
        letters = rng.choices("etaoin shrdlu\n", k=3000)
        (folder / "text").write_text("".join(letters))
        every = "1" if kind == "kill" else "1h"
        began = time.monotonic()
        if end(begin(folder, every)) != 0:
            return {"blows": 0, "hits": 0, "failures": ["the undisturbed run failed"]}
        lasts = time.monotonic() - began
        undisturbed = path.read_bytes()
        while done < blows:
            path.unlink(missing_ok=True)
            for _ in range(min(BLOWS_A_RUN, blows - done)):
                before = step_of(path)
                child = begin(folder, every)
                time.sleep(rng.uniform(0.0, 0.8 * lasts))
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
            code = end(begin(folder, every))
            if code != 0 or path.read_bytes() != undisturbed:
                failures.append(f"after blow {done}: exit code {code}, another file in the end")
            if sorted(p.name for p in folder.iterdir()) != ["m.npz", "text"]:
                failures.append(f"after blow {done}: something is left in the folder")
    return {"blows": done, "hits": hits, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(campaign(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
