"""What a large corpus costs: resident memory of `charlstm train`, and the speed of encoding.

Both corpora are the project's own stories, over and over. Memory is the most that the training
process ever has resident, beside that with one mebibyte of the same text; speed is that of
`Corpus.from_files`, from UTF-8 on the disk to ids, digest and counts included.

    python tests/benchmarks/corpus.py --mebibytes 2048 --allow 200 --require 50
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import common  # first: one thread each, before NumPy is loaded

from charlstm.config.schema import UNIT_NAMES, TextConfig
from charlstm.text.corpus import Corpus

ROOT = Path(__file__).resolve().parent.parent.parent
MIB = 1 << 20
TEXTS = {"English": "lighthouse.txt", "Korean": "ferry.txt"}


def write(path: Path, name: str, size: int) -> None:
    """Fill a file with one of the texts until it has `size` bytes or little more."""
    text = (ROOT / "corpora" / name).read_bytes()
    piece = text * max(1, 4 * MIB // len(text))
    with path.open("wb") as file:
        while file.tell() < size:
            left = size - file.tell()
            file.write(piece if left > len(piece) else text * -(-left // len(text)))
        # a character that comes last and has not the last id, so that ids are not known before
        file.write(b"\0")


def peak(path: Path, seconds: int, config: TextConfig) -> float:
    """Most resident memory, in MiB, of `charlstm train` on a file for so many seconds."""
    output = str(path.with_suffix(".npz"))
    arguments = ["train", str(path), "-o", output, "--force", "--max-time", f"{seconds}s", "-q"]
    arguments += [
        "--set",
        f"text.unit={config.unit}",
        "--set",
        f"text.normalize={config.normalize}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "charlstm", *arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: charlstm {' '.join(arguments)}")
    return usage.ru_maxrss / (MIB if sys.platform == "darwin" else 1024)  # bytes there, KiB here


def encode(path: Path, rounds: int, config: TextConfig) -> common.Rates:
    """Megabytes of a file that are encoded in a second."""
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        Corpus.from_files([path], config)
        rates.append(path.stat().st_size / 1e6 / (time.perf_counter() - start))
    return common.Rates(max(rates), median(rates))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=2048, help="of the large corpus")
    parser.add_argument("--text", default="English", choices=TEXTS, help="that is trained on")
    parser.add_argument("--unit", default="char", choices=UNIT_NAMES)
    parser.add_argument("--normalize", default="none", choices=["none", "nfc", "nfd", "nfkc"])
    parser.add_argument("--seconds", type=int, default=20, help="of training on it")
    parser.add_argument("--allow", type=float, default=200.0, help="MiB more than with 1 MiB")
    parser.add_argument("--encode", type=int, default=256, help="MiB of text to encode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--require", type=float, default=50.0, help="least MB/s")
    o = parser.parse_args()
    config, missed = TextConfig(unit=o.unit, normalize=o.normalize), []
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free // MIB
        needed = 3 * max(o.mebibytes, o.encode) + 256  # the text, and up to two bytes for each
        if free < needed:
            raise SystemExit(f"{folder}: {free:,} MiB are free, {needed:,} are needed; set TMPDIR")
        path = Path(folder, "corpus.txt")

        # before anything else, since a new process begins with the peak of the one it comes from
        if hasattr(os, "wait4"):
            peaks = []
            for mebibytes in (1, o.mebibytes):
                write(path, TEXTS[o.text], mebibytes * MIB)
                peaks.append(peak(path, o.seconds, config))
            small, large = peaks
            rows = [
                ["1 MiB", f"{small:,.0f}", ""],
                [f"{o.mebibytes:,} MiB", f"{large:,.0f}", f"{large - small:+,.0f}"],
            ]
            print(common.table(["corpus", "peak resident MiB", "more"], rows), end="\n\n")
            if large - small > o.allow:
                missed.append(f"too much memory: {o.allow:g} MiB more are allowed")

        rates = {}
        for language, name in TEXTS.items():
            write(path, name, o.encode * MIB)
            rates[language] = encode(path, o.rounds, config)
    rows = [[language, f"{r.best:.0f}", f"{r.median:.0f}"] for language, r in rates.items()]
    print(common.table(["encoding UTF-8, MB/s", "best", "median"], rows))
    if min(rate.best for rate in rates.values()) < o.require:
        missed.append(f"too slow: {o.require:g} MB/s are required")
    for line in missed:
        print(f"\n{line}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
