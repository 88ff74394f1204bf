"""How long whole commands take, from start to end, beside nothing but importing PyTorch.

A model is trained into a temporary directory first; then the commands run in turn, each a new
process, and the median of each is shown with its ratio to `import torch`.

    python tests/benchmarks/startup.py --require 2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import common

ROOT = Path(__file__).resolve().parent.parent.parent


def run(command: list[str]) -> float:
    """Seconds that a process takes, in the environment that a user has, with as many threads as
    it likes; what it prints is dropped unless it fails."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.stderr.buffer.write(done.stderr)
        raise SystemExit(f"exit code {done.returncode}: {' '.join(command)}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--require", type=float, default=1.0, help="least ratio of import torch to sample"
    )
    o = parser.parse_args()
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        text, model = os.path.join(folder, "hello.txt"), os.path.join(folder, "hello.npz")
        Path(text).write_text("hello, hello, hello!\n" * 100, encoding="utf-8")
        charlstm = [python, "-m", "charlstm"]
        run([*charlstm, "train", text, "-o", model, "--steps", "20", "-q"])
        commands = {
            "charlstm --help": [*charlstm, "--help"],
            "charlstm sample -n 100": [*charlstm, "sample", "-n", "100", "-m", model],
            "import numpy": [python, "-c", "import numpy"],
        }
        if find_spec("torch"):
            commands["import torch"] = [python, "-c", "import torch"]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for k in range(-1, o.rounds):
            for name, command in commands.items():
                seconds = run(command)
                if k >= 0:  # the first round only warms the file system's cache
                    times[name].append(seconds)
    middle = {name: median(t) for name, t in times.items()}
    torch = middle.get("import torch")
    rows = [
        [name, f"{1e3 * seconds:.0f}", f"{torch / seconds:.1f}" if torch else "-"]
        for name, seconds in middle.items()
    ]
    print(common.table(["process", "median ms", "import torch / it"], rows))
    if torch is None:
        print("\nPyTorch is not installed: no ratio")
        return 0
    return common.judge(torch / middle["charlstm sample -n 100"], o.require)


if __name__ == "__main__":
    raise SystemExit(main())
