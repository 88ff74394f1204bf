"""Every command with its streams broken, under odd locales, on a full disk, and stopped by signals.

Each trial is a process of its own, as a shell would start it: what the interpreter does at its end
counts, too.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from charlstm.storage.checkpoint import read_checkpoint

Outcome = tuple[int, list[str]]
ROOT = Path(__file__).parents[2]
STEPS = 8
PATIENCE = 120.0
"""Seconds after which a process hangs."""

TRAIN = ["train", "text", "-o", "new.npz", "--force", "--steps", str(STEPS)]
TRAIN += ["--set", "model.hidden=4", "--set", "train.workers=1"]
COMMANDS = {
    "train": TRAIN,
    "sample": ["sample", "-m", "m.npz", "--seed", "배 ", "-n", "4000", "--rng-seed", "1"],
    "evaluate": ["evaluate", "-m", "m.npz", "--chars", "text"],
    "info": ["info", "m.npz"],
    "export": ["export", "m.npz", "--to", "json", "-o", "-"],
    "import": ["import", "m.st", "-o", "-"],
}
"""Each says more than a pipe's buffer holds, or than one write does, but for the last three, and
the first, which writes a file instead."""

WRONG = {
    "train": ["train", "gone", "-o", "new.npz"],
    "sample": ["sample", "-m", "m.npz", "--seed", "Ж"],
    "evaluate": ["evaluate", "-m", "gone.npz", "text"],
    "info": ["info", "--nonsense"],
    "export": ["export", "m.npz", "--to", "json"],
    "import": ["import", "gone.st", "-o", "-"],
}
"""Each is an error of usage: exit code 2."""

LOCALES = [
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "ascii:strict", "LANG": "ko_KR.EUC-KR"},
]


def _environment(**more: str) -> dict[str, str]:
    # coverage would itself write to the full disk, and say that it cannot
    odd = ("LC_", "LANG", "CHARLSTM_", "PYTHON", "COVERAGE_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(odd)}
    return {**env, "PYTHONPATH": str(ROOT), **more}


def _start(folder: Path, arguments: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A command in a folder, which heeds signals and writes files as from a shell."""
    command = [sys.executable, "-m", "charlstm", *arguments]
    return subprocess.Popen(command, cwd=folder, **{"env": _environment(), **more})


def _prepare(folder: Path) -> None:
    """A text, the model of it that `m.npz` is, and an export."""
    text = "".join(random.Random(0).choices("배가 나루에 닿았다.\n", k=1500))
    (folder / "text").write_text(text, encoding="utf-8")
    made = [name.replace("new.npz", "m.npz") for name in TRAIN]
    assert _start(folder, [*made, "-q"]).wait(PATIENCE) == 0
    export = ["export", "m.npz", "--to", "safetensors", "-o", "m.st"]
    assert _start(folder, export, stderr=subprocess.DEVNULL).wait(PATIENCE) == 0


def _wrong(told: bytes, lines: int) -> str | None:
    """What is wrong with what standard error got: a traceback, or not so many errors."""
    if b"Traceback" in told or b"Exception ignored" in told:
        return f"a traceback: {told[-300:]!r}"
    errors = [line for line in told.splitlines() if line.startswith(b"charlstm: error: ")]
    if len(errors) != lines:
        return f"{len(errors)} lines of errors: {told[-300:]!r}"
    return None


# --- streams, locales, disks -------------------------------------------------------------------


def _check(failures: list[str], what: str, good: bool, seen: Any) -> None:
    """Note what is not good, and what was seen instead."""
    if not good:
        failures.append(f"{what}: {seen!r:.400}")


@contextmanager
def _nobody_reads() -> Iterator[int]:
    """The end of a pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def _device() -> Iterator[int]:
    """A device that is always full."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def _full_disk() -> Iterator[int]:
    """A file that may not grow (with `_no_room`)."""
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def _no_room() -> None:
    """As a full disk: no file may grow beyond 100 bytes, so that a lock's can be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


BROKEN: dict[str, Callable[[], Any] | None] = {
    "nobody reads": _nobody_reads,
    "full": _device,
    "closed": None,
}


def streams(n: int | None, seed: int) -> Outcome:
    """Standard output without a reader, on a full device, closed, or on a full disk: the exit codes
    that docs/commands.md has, one line or none. Standard error likewise: nothing changes but that
    nobody is told. Locales: not a byte changes."""
    failures: list[str] = []
    trials, check = 0, partial(_check, failures)

    def run(
        arguments: list[str],
        output: int | None = subprocess.PIPE,
        errors: int | None = subprocess.PIPE,
        closed: int = 0,
        **more: Any,
    ) -> tuple[int, bytes, bytes]:
        nonlocal trials
        trials += 1
        before = more.pop("preexec_fn", None)

        def prepared() -> None:
            if closed:
                os.close(closed)
            if before is not None:
                before()

        process = _start(
            folder, arguments, stdout=output, stderr=errors, preexec_fn=prepared, **more
        )
        out, told = process.communicate(timeout=PATIENCE)
        return process.returncode, out or b"", told or b""

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        made = (folder / "m.npz").read_bytes()

        def trained(what: str) -> None:
            same = (folder / "new.npz").exists() and (folder / "new.npz").read_bytes() == made
            check(f"{what}: the file", same, os.listdir(folder))

        for command, arguments in COMMANDS.items():
            expected = (0, *run(arguments)[1:2])
            for how, opened in BROKEN.items():
                where = f"{command}, standard output: {how}"
                if opened is None:
                    code, _, told = run(arguments, None, closed=1)
                else:
                    with opened() as descriptor:
                        code, _, told = run(arguments, descriptor)
                meant = 0 if command == "train" else 141 if how == "nobody reads" else 6
                check(where, code == meant, (code, told))
                wrong = _wrong(told, int(meant == 6))
                check(where, wrong is None, wrong)
                if command != "train":
                    check(where, told.count(b"\n") == (meant == 6), told)
                where = f"{command}, standard error: {how}"
                for lines, code in ((arguments, 0), (WRONG[command], 2)):
                    if opened is None:
                        seen = run(lines, errors=None, closed=2)
                    else:
                        with opened() as descriptor:
                            seen = run(lines, errors=descriptor)
                    meant_out = expected[1] if code == 0 else b""
                    check(where, seen[:2] == (code, meant_out), seen)
                if command == "train":
                    trained(where)
            for locale in LOCALES:
                seen = run(arguments, env=_environment(**locale))
                check(f"{command}, {locale}", seen[:2] == expected, seen)
                wrong = _wrong(seen[2], 0)
                check(f"{command}, {locale}", wrong is None, wrong)
                if command == "train":
                    trained(f"{command}, {locale}")
            for unbuffered in ("", "1"):
                with _full_disk() as descriptor:
                    where = f"{command}, a full disk, PYTHONUNBUFFERED={unbuffered}"
                    env = _environment(PYTHONUNBUFFERED=unbuffered)
                    code, _, told = run(arguments, descriptor, preexec_fn=_no_room, env=env)
                    check(where, code == 6, (code, told))
                    wrong = _wrong(told, 1)
                    check(where, wrong is None, wrong)
                    if command == "train":
                        trained(where)  # the old one
        trials += 1
        check("a terminal that goes away", *_terminal_goes(folder))
        trained("a terminal that goes away")
        check(
            "what is left",
            sorted(os.listdir(folder)) == ["m.npz", "m.st", "new.npz", "text"],
            folder,
        )
    return trials, failures


def _terminal_goes(folder: Path) -> tuple[bool, Any]:
    """Training draws its bar on a terminal that is closed meanwhile, and goes on to its end."""
    ours, theirs = pty.openpty()
    longer = [part if part != str(STEPS) else "2000" for part in TRAIN]
    limits = ["--set", "train.patience=null", "--set", "train.epochs=null"]
    process = _start(folder, [*longer, *limits], stderr=theirs)
    os.close(theirs)
    drawn = os.read(ours, 100)
    os.close(ours)
    code = process.wait(PATIENCE)
    there = folder / "new.npz"
    steps = read_checkpoint(there).progress.step
    good = bool(drawn) and code == 0 and steps == 2000
    there.write_bytes((folder / "m.npz").read_bytes())  # as all others leave it
    return good, (code, drawn, steps)


# --- signals -----------------------------------------------------------------------------------

NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

SLOW = """
import sys, time
from charlstm.cli import main
from charlstm.training.run import Training

save = Training.save

def slowly(self, last=False):
    save(self, last)
    if self.step > 1:
        print("saving", flush=True)
        time.sleep(100)

Training.save = slowly
sys.exit(main(sys.argv[1:]))
"""
"""`charlstm` whose last save takes long."""

ENDLESS = ["--set", "train.patience=null", "--set", "train.epochs=null", "--save-every", "1h"]


def _heeding(*ignored: int) -> Callable[[], None]:
    """Signals as a shell hands them to a command, but for those that it ignores (nohup)."""

    def prepared() -> None:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    return prepared


def _drained(pipe: Any) -> None:
    """Wait until a process has read what was written to it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        answer = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
        if struct.unpack("i", answer) == (0,):
            return
        time.sleep(0.005)


def _reading(folder: Path, arguments: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A command that waits for more of its standard input."""
    process = _start(folder, arguments, stdin=subprocess.PIPE, **more)
    assert process.stdin is not None
    process.stdin.write("배가 ".encode() * 20)
    process.stdin.flush()
    _drained(process.stdin)
    return process


def _sampling(folder: Path, arguments: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A command that has begun to write."""
    process = _start(folder, arguments, **more)
    assert process.stdout is not None
    process.stdout.read(1)
    return process


def _training(folder: Path, arguments: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A training that has saved for the first time."""
    (folder / "new.npz").unlink(missing_ok=True)
    process = _start(folder, arguments, **more)
    until = time.monotonic() + PATIENCE
    while not (folder / "new.npz").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return process


AT_WORK: dict[str, tuple[Callable[..., subprocess.Popen[bytes]], list[str]]] = {
    "train": (_training, [*TRAIN[:5], *TRAIN[7:], *ENDLESS]),
    "train, reading": (_reading, ["train", "-", "-o", "new.npz", "--force"]),
    "sample": (_sampling, ["sample", "-m", "m.npz", "-n", "1000000000"]),
    "evaluate, reading": (_reading, ["evaluate", "-m", "m.npz", "-"]),
    "info, reading": (_reading, ["info", "m.npz", "--verify", "--corpus", "-"]),
}


def stopped(n: int | None, seed: int) -> Outcome:
    """Every command at work, and every signal to stop: the exit code that docs/commands.md has, no
    traceback, and of training a whole file; one that is ignored (nohup) stays so; and a second
    one ends at once what the first would only end after the save."""
    failures: list[str] = []
    trials, check = 0, partial(_check, failures)
    piped: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        for number, code in NUMBERS.items():
            for what, (begin, arguments) in AT_WORK.items():
                trials += 1
                where = f"{what}, signal {number}"
                process = begin(folder, arguments, preexec_fn=_heeding(), **piped)
                process.send_signal(number)
                _, told = process.communicate(timeout=PATIENCE)
                # all but training leave the two others to the system, which a shell tells as 128 +
                meant = code if what == "train" or number == signal.SIGINT else -number
                check(where, process.returncode == meant, (process.returncode, told))
                wrong = _wrong(told, 0)
                check(where, wrong is None, wrong)
                if what == "train":
                    step = read_checkpoint(folder / "new.npz").progress.step
                    check(where, f"after {step:,} steps".encode() in told, told)
            trials += 1
            where = f"signal {number}, ignored"
            limit = ["--max-time", "0.3s"]
            process = _training(
                folder, [*AT_WORK["train"][1], *limit], preexec_fn=_heeding(number), **piped
            )
            process.send_signal(number)
            _, told = process.communicate(timeout=PATIENCE)
            check(where, process.returncode == 0, (process.returncode, told))
            trials += 1
            where = f"signal {number}, twice"
            (folder / "new.npz").unlink(missing_ok=True)
            process = subprocess.Popen(
                [sys.executable, "-c", SLOW, *TRAIN],
                cwd=folder,
                env=_environment(),
                preexec_fn=_heeding(),
                **piped,
            )
            assert process.stdout is not None
            process.stdout.readline()
            whole = (folder / "new.npz").read_bytes()
            process.send_signal(number)
            time.sleep(0.05)
            process.send_signal(number)
            began = time.monotonic()
            _, told = process.communicate(timeout=PATIENCE)
            late = time.monotonic() - began
            check(where, process.returncode == -number and late < 50, (process.returncode, late))
            wrong = _wrong(told, 0)
            check(where, wrong is None, wrong)
            check(where, (folder / "new.npz").read_bytes() == whole, "another file")
    return trials, failures


# --- memory ------------------------------------------------------------------------------------

PEAK = """
import sys
from charlstm.cli import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])  # KiB
sys.exit(code)
"""
LARGE, ALLOWED = 4 << 30, 200 << 20


def large_corpus(n: int | None, seed: int) -> Outcome:
    """Training on a corpus of 4 GiB has at most 200 MiB more memory than on one of 1 MiB. Most of
    the text is a hole in a file: zeros, which are characters like any other."""
    failures = []
    story = (ROOT / "corpora" / "lighthouse.txt").read_bytes()
    with tempfile.TemporaryDirectory() as name:
        text, peaks = Path(name, "text"), []
        for size in (1 << 20, LARGE):
            with text.open("wb") as file:
                file.write(story)
                file.truncate(size - 1)
                file.seek(0, os.SEEK_END)
                file.write(b"\x01")  # a character that is new at the very end
            arguments = ["train", "text", "-o", "m.npz", "--force", "--steps", "3", "-q"]
            arguments += ["--set", "train.workers=1", "--set", "text.valid=0"]
            process = subprocess.run(
                [sys.executable, "-c", PEAK, *arguments],
                cwd=name,
                env=_environment(),
                capture_output=True,
                text=True,
            )
            if process.returncode:
                return 1, [process.stderr[-300:]]
            peaks.append(int(process.stdout) << 10)
            units = size + 1  # with the line break that closes the ring
            if read_checkpoint(Path(name, "m.npz")).progress.corpus.train != units:
                failures.append(f"not trained on {size:,} characters")
    if peaks[1] - peaks[0] > ALLOWED:
        failures.append(f"{peaks[0]:,} bytes of memory became {peaks[1]:,}")
    return 1, failures
