"""Every benchmark, and a table of what they found beside what is asked of this package.

    pip install torch jax
    python tests/benchmarks/all.py -o figures.md --text tinyshakespeare.txt

Everything is measured beside its peer in turns, so the ratios mean something where the figures
move. A peer that is not installed is told. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import common  # first: one thread each, before NumPy is loaded
import train_speed
from common import Row

HERE = Path(__file__).resolve().parent


class Part(NamedTuple):
    """One benchmark's contribution."""

    rows: list[Row]
    printed: str = ""
    """What it printed, where it does not know rows."""
    failed: bool = False
    disturbed: float = 0.0
    """The share of the cores' time that was not this program's while it measured."""


# --- the parts -----------------------------------------------------------------------------------


def training(o: argparse.Namespace) -> Iterator[Part]:
    """On one core and on all, each configuration."""
    cores = common.cores()
    for contest in train_speed.CONTESTS:
        yield Part(train_speed.settle(contest, 1, False, o.quick))
        if cores > 1:
            yield Part(train_speed.settle(contest, cores, True, o.quick))


def script(name: str, *arguments: str) -> Part:
    """Another benchmark, run as a process; one that does not know `--json` is shown as it prints
    itself."""
    path = HERE / name
    if not path.exists():
        return Part([Row(name, "not measured: no such benchmark", "–", "–")])
    command = [sys.executable, str(path), *arguments]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = common.USER_ENVIRONMENT
        return subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, check=False
        )

    done = run("--json")
    if done.returncode == 2 and "--json" in done.stderr:
        done = run()
        printed = f"{name}: exit code {done.returncode}\n\n{done.stdout}{done.stderr}".rstrip()
        return Part([], printed, done.returncode != 0)
    rows = common.rows_of(done.stdout)
    broken = done.returncode not in (0, 1) or not rows
    printed = f"{name}: exit code {done.returncode}\n\n{done.stderr}".rstrip() if broken else ""
    return Part(rows, printed, done.returncode != 0)


def classic(o: argparse.Namespace) -> Iterator[Part]:
    yield script("classic.py", *(["--rounds", "5"] if o.quick else []))


def sampling(o: argparse.Namespace) -> Iterator[Part]:
    yield script("sample_speed.py")


def lines(o: argparse.Namespace) -> Iterator[Part]:
    yield script("lines_speed.py")


def adapting(o: argparse.Namespace) -> Iterator[Part]:
    text = [o.text] if o.text else []
    yield script("adapt.py", *text, *(["--rounds", "1"] if o.quick else []))


def checkpoints(o: argparse.Namespace) -> Iterator[Part]:
    yield script("checkpoint_speed.py", *(["--rounds", "3"] if o.quick else []))


def pipes(o: argparse.Namespace) -> Iterator[Part]:
    yield script("pipe_latency.py")


def matching(o: argparse.Namespace) -> Iterator[Part]:
    yield script("match_cost.py")
    yield script("one_stream.py", *(["--rounds", "2"] if o.quick else []))


def telling(o: argparse.Namespace) -> Iterator[Part]:
    """Lines of one text among those of another, by models that both benchmarks share."""
    with tempfile.TemporaryDirectory() as models:
        for name in ("languages.py", "surprise.py"):
            yield script(name, "--models", models, *(["--text", o.text] if o.text else []))


def startup(o: argparse.Namespace) -> Iterator[Part]:
    yield script("startup.py")


def learning(o: argparse.Namespace) -> Iterator[Part]:
    if o.text is None:
        yield Part([Row("time to 1.70 nats held-out", "not measured: no --text", "–", "–")])
    else:
        yield script("time_to_loss.py", "--text", o.text, *(["--rounds", "1"] if o.quick else []))


def whole_runs(o: argparse.Namespace) -> Iterator[Part]:
    if o.text is None:
        yield Part([Row("whole commands", "not measured: no --text", "–", "–")])
    else:
        korean = ["--korean", o.korean] if o.korean else []
        yield script("whole_run.py", o.text, *korean, *(["--rounds", "1"] if o.quick else []))


def corpus(o: argparse.Namespace) -> Iterator[Part]:
    if o.large:
        yield script("corpus.py")
    else:
        yield Part([Row("a corpus of 2 GiB", "not measured: no --large", "–", "–")])


def ranks(o: argparse.Namespace) -> Iterator[Part]:
    yield script("scaling.py")


def memory(o: argparse.Namespace) -> Iterator[Part]:
    yield script("memory.py", "--workers", "0")


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Part]]] = {
    part.__name__: part
    for part in (
        *(
            training,
            classic,
            sampling,
            lines,
            adapting,
            checkpoints,
            pipes,
            matching,
            telling,
            startup,
        ),
        *(learning, whole_runs, corpus, ranks, memory),
    )
}


# --- the report ----------------------------------------------------------------------------------


def machine() -> str:
    """What it was measured on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # not on every system
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    versions = [f"Python {platform.python_version()}"]
    for package in ("numpy", "torch", "jax"):
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return f"{name}, {common.cores()} cores; {', '.join(versions)}"


def others() -> float | None:
    """Seconds of all cores that other processes have had, or the host has kept; None where the
    system does not tell."""
    try:
        line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, line.split()[1:])
    everybody = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return everybody - sum(os.times()[:4])  # children count when they have ended


def disturbed(parts: Iterator[Part]) -> Iterator[Part]:
    """The parts as they come, each with how much it was disturbed; told on standard error."""
    while True:
        start, before = time.perf_counter(), others()
        part = next(parts, None)
        if part is None:
            return
        seconds, after = time.perf_counter() - start, others()
        if before is not None and after is not None:
            share = max(0.0, (after - before) / (seconds * (os.cpu_count() or 1)))
            part = part._replace(disturbed=share)
        name = part.rows[0].what if part.rows else part.printed.partition("\n")[0]
        print(
            f"{name}: {seconds:.0f} s, {part.disturbed:.0%} of the cores for others",
            file=sys.stderr,
            flush=True,
        )
        yield part


def written(found: dict[str, list[Part]]) -> str:
    """The whole report."""

    def rows(names: list[str]) -> list[Row]:
        return [row for name in names for part in found.get(name, []) for row in part.rows]

    speed, size = rows([name for name in PARTS if name != "memory"]), rows(["memory"])
    worst = max((part.disturbed for parts in found.values() for part in parts), default=0.0)
    sections = [
        f"Measured on {machine()}. Ratios: charlstm's figure by the peer's. "
        f"Other processes had at most {worst:.0%} of the cores' time while something was measured."
    ]
    if speed:
        sections += ["## Speed", common.markdown(speed)]
    if size:
        sections += ["## Peak memory", common.markdown(size)]
    for parts in found.values():
        sections += [part.printed for part in parts if part.printed]
    return "\n\n".join(sections) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="write the report there, too")
    parser.add_argument(
        "--text", help="a text to learn until 1.70 nats, and to tell from others (tinyshakespeare)"
    )
    parser.add_argument("--korean", help="a text of a large vocabulary, for whole commands")
    parser.add_argument("--large", action="store_true", help="also the corpus of 2 GiB")
    parser.add_argument("--quick", action="store_true", help="few rounds: for a look, not a claim")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    o = parser.parse_args()
    found = {name: list(disturbed(PARTS[name](o))) for name in o.only}
    report = written(found)
    print(report, end="")
    if o.output:
        o.output.write_text(report, encoding="utf-8")
    parts = [part for each in found.values() for part in each]
    return int(any(part.failed or common.code(part.rows) for part in parts))


if __name__ == "__main__":
    raise SystemExit(main())
