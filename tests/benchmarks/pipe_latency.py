"""How soon a line that comes through a pipe is answered, once the model is loaded: from its line
feed to the end of the answer, by `evaluate --lines` and by `sample --each`.

Lines come one at a time, each after the answer to the one before; the first is not counted, since
it waits for the model. The median is to be within the limit. The slowest is told beside: where
other programs want the same cores, it is their time.

    python tests/benchmarks/pipe_latency.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import common
from common import Row

COMMANDS = ("evaluate --lines", "sample --each -n 60")


def latencies(command: str, model: Path, lines: list[str]) -> list[float]:
    """Seconds to the answer of each line but the first."""
    times = []
    with subprocess.Popen(
        [sys.executable, "-m", "charlstm", *command.split(), "-m", str(model)],
        env=common.USER_ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in lines:
            start = time.perf_counter()
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            answer = process.stdout.readline()
            times.append(time.perf_counter() - start)
            if line not in answer.decode():
                raise SystemExit(f"charlstm {command}: {line!r} was not answered")
        process.stdin.close()
    return times[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=200, help="lines for each command")
    parser.add_argument("--steps", type=int, default=300, help="of training the model")
    parser.add_argument("--require", type=float, default=50.0, help="most milliseconds")
    common.add_json_option(parser)
    o = parser.parse_args()
    import charlstm

    text = Path(common.ROOT) / "corpora" / "lighthouse.txt"
    words = text.read_text(encoding="utf-8").split()
    lines = [" ".join(words[k * 7 : k * 7 + 7]) for k in range(o.lines + 1)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "m.npz"
        for _ in charlstm.train(text, model, settings={"train.steps": o.steps}):
            pass
        for command in COMMANDS:
            times = [1e3 * seconds for seconds in latencies(command, model, lines)]
            for which, found in (("median", median(times)), ("slowest", max(times))):
                rows.append(
                    Row(
                        f"{command}, the {which} of {o.lines:,} lines",
                        f"{found:.1f} ms",
                        "the limit",
                        f"{o.require:g} ms",
                        found / o.require,
                        target=1.0 if which == "median" else None,
                        at_most=True,
                    )
                )
    return common.report(rows, o.json)


if __name__ == "__main__":
    raise SystemExit(main())
