"""What is tried, and how often: in every run of the tests, and in the long one.

A campaign is a function of how many trials are wanted and a seed; it gives how many it made and
what went wrong. Where the number of trials is fixed (all that there are), it is None.
"""

from __future__ import annotations

import copy
import errno
import functools
import gc
import io
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import traceback
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from charlstm.cli import main
from charlstm.config.bundle import bundled
from charlstm.config.schema import Config, Setting
from charlstm.errors import CheckpointError, DivergedError, OutputError
from charlstm.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus
from charlstm.training.events import Record
from charlstm.training.run import Training
from faults import commands
from faults.disk import FailingDisk, RecordingDisk
from faults.hostile import mutant, mutant_text, table, watched

Outcome = tuple[int, list[str]]
ROOT = Path(__file__).parents[2]
STORY = (ROOT / "corpora" / "lighthouse.txt").read_text(encoding="utf-8")


def configured(**keys: Any) -> Config:
    return Config().updated(Setting(k.replace("_", ".", 1), v, "test") for k, v in keys.items())


@functools.cache
def corpus() -> Corpus:
    return Corpus.from_text(STORY[:3000], 0.1)


SMALL: dict[str, Any] = {
    "model_hidden": 8,
    "train_batch": 4,
    "train_length": 10,
    "train_workers": 1,
    "train_epochs": None,
    "train_patience": None,
}


@functools.cache
def made(steps: int) -> Checkpoint:
    """A checkpoint of a small run, between two looks, so that it has all there can be in one."""
    config = configured(
        **{**SMALL, "model_cell": "rnn", "model_hidden": 3, "train_length": 5, "train_batch": 2},
        train_steps=steps,
        train_eval_every=2,
    )
    training = Training.start(Corpus.from_text("a small ferry, 배, 🛶\n" * 30), config)
    list(training)
    return copy.deepcopy(training.checkpoint())


@functools.cache
def small() -> bytes:
    """The bytes of one."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder, "m.npz"), made(3))
        return Path(folder, "m.npz").read_bytes()


# --- runs that are disturbed -------------------------------------------------------------------


def _blows(kind: str, n: int | None, seed: int) -> Outcome:
    script = Path(__file__).with_name("killer.py")
    process = subprocess.run(
        [sys.executable, str(script), kind, str(n), str(seed)], capture_output=True, text=True
    )
    if process.returncode:
        return 0, [process.stderr[-500:]]
    told = json.loads(process.stdout)
    failures = list(told["failures"])
    if 2 * told["hits"] < told["blows"] // 3:
        failures.append(f"of {told['blows']} blows only {told['hits']} hit a run at work")
    return told["blows"], failures


def kills(n: int | None, seed: int) -> Outcome:
    """kill -9 at random moments: the file is whole, and in the end that of an undisturbed run."""
    return _blows("kill", n, seed)


def signals(n: int | None, seed: int) -> Outcome:
    """SIGINT, SIGTERM and SIGHUP at random moments: saved, the exit code right, and the same."""
    return _blows("signal", n, seed)


RUNS: list[dict[str, Any]] = [
    {"model_dropout": 0.2, "train_lr": 0.5, "train_schedule": "plateau", "train_shards": 2},
    {"text_unit": "word", "text_max_vocabulary": 60, "model_cell": "gru", "model_embedding": 5,
     "model_tie": True, "train_optimizer": "adam", "train_lr": 0.02, "train_shards": 2,
     "train_average": 0.0, "train_warm_up": 7},
]  # fmt: skip


def _any_run(rng: random.Random) -> dict[str, Any]:
    """Settings of a run, drawn from all that change what it does."""
    return {
        "text_unit": rng.choice(("char", "word")),
        "model_cell": rng.choice(("lstm", "gru", "rnn")),
        "model_layers": rng.choice((1, 2)),
        "model_embedding": (embedding := rng.choice((0, 5))),
        "model_tie": embedding > 0 and rng.random() < 0.5,
        "model_dropout": rng.choice((0.0, 0.3)),
        "model_variational": rng.random() < 0.5,
        "model_weight_drop": rng.choice((0.0, 0.3)),
        "model_input_drop": rng.choice((0.0, 0.1)),
        "train_optimizer": rng.choice(("adagrad", "sgd", "rmsprop", "adam", "adamw")),
        "train_schedule": rng.choice(("constant", "exponential", "cosine", "plateau")),
        "train_lr": rng.choice((0.01, 0.1)),
        "train_average": rng.choice((0.0, 0.9)),
        "train_shards": rng.choice((1, 2, 3)),
        "train_reset": rng.choice((0.0, 0.1)),
        "train_warm_up": rng.choice((0, 20)),
        "train_loss": rng.choice(("mean", "sum")),
        "train_rng_seed": rng.randrange(1000),
    }


def stops(n: int | None, seed: int) -> Outcome:
    """Stopped after each of 60 steps, across an epoch's edge and looks, and resumed: the file of
    the run that never stopped. Each trial is a configuration."""
    assert n is not None
    rng, failures, trials = random.Random(seed), [], 0
    for k in range(n):
        # a later round of a long run has other ones
        keys = RUNS[k] if k < len(RUNS) and seed < 2 else _any_run(rng)
        config = configured(**SMALL, **keys, train_steps=60, train_eval_every=17)
        t = config.text
        text = STORY[: 12_000 if t.unit == "word" else 2400]  # an epoch is 54 steps
        corpus = Corpus.from_text(text, 0.1, unit=t.unit, max_vocabulary=t.max_vocabulary)
        with tempfile.TemporaryDirectory() as name:
            whole, parts = Path(name, "whole.npz"), Path(name, "parts.npz")
            list(Training.start(corpus, config, whole))
            for stop in range(1, 61):
                trials += 1
                training = Training.start(corpus, config, parts)
                for record in training:
                    if record.step == stop:
                        training.stop()
                list(Training.resume(corpus, read_checkpoint(parts), parts))
                if parts.read_bytes() != whole.read_bytes():
                    failures.append(f"{keys}: stopped after step {stop}, another file")
    return trials, failures


EVERY = 3
"""Steps between two saves of a run that is poisoned."""


def poison(n: int | None, seed: int) -> Outcome:
    """NaN or Inf put into a random array at a random step: never in a file, and the run ends as it
    should."""
    assert n is not None
    rng, failures = random.Random(seed), []
    do = Training._do_step
    for k in range(n):
        at, times = rng.randrange(1, 60), rng.choice((1, 1, 2, 9))
        value = rng.choice((math.nan, math.inf, -math.inf))
        place = rng.choice(("weights", "average", "squares", "state", "best"))

        def step(self: Training, *rest: Any, at: int = at, times: int = times,
                 value: float = value, place: str = place) -> Any:  # fmt: skip
            if self.step == at and len(self.progress.rollbacks) < times:
                arrays = {
                    "weights": self.learner.model.weights.flat,
                    "average": self.learner.average,
                    "squares": self.learner.optimizer.state["squares"],
                    "state": self.learner.state[-1].reshape(-1),
                    "best": self.learner.gradient,
                }
                array = arrays[place]
                assert array is not None
                array[at * 7919 % len(array)] = value
            return do(self, *rest)

        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "m.npz")
            config = configured(
                **SMALL, train_steps=60, train_eval_every=20, train_save_every=EVERY
            )
            Training._do_step = step  # type: ignore[assignment, method-assign]
            try:
                for record in Training.start(corpus(), config, path):
                    if isinstance(record, Record) and record.saved and not _finite(path):
                        failures.append(f"injection {k}: {value} in {place} was saved")
            except DivergedError as e:
                if times < 4 or "after 3 returns" not in str(e):
                    failures.append(f"injection {k}: {e}")
            finally:
                Training._do_step = do  # type: ignore[method-assign]
            lost = times > 3 and at < EVERY  # before the first save there is nothing to keep
            if not _finite(path) if path.exists() else not lost:
                failures.append(f"injection {k}: no good file in the end")
    return n, failures


def _finite(path: Path) -> bool:
    with np.load(path) as archive:
        floats = [archive[name] for name in archive.files if archive[name].dtype.kind == "f"]
    return bool(floats) and all(np.isfinite(array).all() for array in floats)


def race(n: int | None, seed: int) -> Outcome:
    """Eight start on one path at once: one wins, the others end with exit code 5 and name it; once
    it is stopped nothing is left but its file."""
    return _blows("race", n, seed)


def soak(n: int | None, seed: int) -> Outcome:
    """Steps of training with looks, saves and samples: memory and descriptors stay as they are."""
    assert n is not None
    failures = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "m.npz")
        often = {"train_save_every": 20, "train_sample_every": 100, "train_eval_every": 50}
        config = configured(**SMALL, **often, train_steps=n + 500, train_rng_seed=seed)
        before = (0, 0)
        for record in Training.start(corpus(), config, path):
            if record.step in (500, n + 500):
                gc.collect()
                now = _resident(), len(os.listdir("/proc/self/fd"))
                if record.step == 500:
                    before = now
        if now[0] - before[0] > (1 << 20):
            failures.append(f"memory grew by {now[0] - before[0]:,} bytes in {n:,} steps")
        if now[1] != before[1]:
            failures.append(f"{before[1]} descriptors became {now[1]}")
    return n, failures


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- disks -------------------------------------------------------------------------------------

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS]


def full_disk(n: int | None, seed: int) -> Outcome:
    """Every operation of a save x five errors x once and for ever: the old file or the new one,
    and nothing beside it."""
    old, new, trials, failures = made(2), made(3), 0, []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "m.npz")
        write_checkpoint(path, new)
        after = path.read_bytes()
        watch = FailingDisk()
        with watch.mounted():
            write_checkpoint(path, old)
        before, kinds = path.read_bytes(), watch.kinds
        assert {"create", "write", "flush", "fsync", "replace", "open directory"} == set(kinds)
        for at, kind in enumerate(kinds):
            for code in ERRORS:
                for for_ever in (False, True):
                    trials += 1
                    path.write_bytes(before)
                    where = f"{errno.errorcode[code]} at operation {at}, {kind}"
                    try:
                        with FailingDisk(at, code, for_ever).mounted():
                            write_checkpoint(path, new)
                        failures.append(f"{where}: nobody was told")
                    except OutputError as e:
                        if e.exit_code != 6 or os.strerror(code) not in str(e):
                            failures.append(f"{where}: {e}")
                    if path.read_bytes() not in (before, after):
                        failures.append(f"{where}: neither the old file nor the new one")
                    if os.listdir(name) != ["m.npz"]:
                        failures.append(f"{where}: {os.listdir(name)}")
    return trials, failures


SAVE = """
import sys
from charlstm.errors import OutputError
from charlstm.storage import checkpoint, files
files.secrets.token_hex = lambda n: "deadbeef"  # so that strace knows the file
try:
    checkpoint.write_checkpoint(sys.argv[2], checkpoint.read_checkpoint(sys.argv[1]))
except OutputError as e:
    print(e, file=sys.stderr)
    sys.exit(e.exit_code)
"""
CALLS = ("write", "fsync", "rename", "fsync of the directory")


def failing_calls(n: int | None, seed: int) -> Outcome:
    """The kernel's own calls, under strace: first that a save makes them in the right order, then
    each of them made to fail as in `full_disk`. Of the combinations n are tried."""
    assert n is not None
    failures, tries = [], [(c, e, f) for c in CALLS for e in ERRORS for f in (False, True)]
    random.Random(seed).shuffle(tries)
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(os.path.realpath(name), "there"), Path(name, "source.npz")
        folder.mkdir()
        path, temporary = folder / "m.npz", folder / ".m.npz.deadbeef.tmp"
        write_checkpoint(source, made(3))
        write_checkpoint(path, made(2))
        old, new = path.read_bytes(), source.read_bytes()

        def save(*options: str) -> tuple[int, str, str]:
            log = Path(name, "log")
            command = ["strace", "-f", "-y", "-o", str(log), *options]
            command += [sys.executable, "-c", SAVE, str(source), str(path)]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            return done.returncode, done.stderr, log.read_text()

        files = [option for file in (temporary, path, folder) for option in ("-P", str(file))]
        traced = "trace=openat,write,fsync,/^rename,unlink"
        code, told, log = save("-e", traced, *files)
        order = [
            rf'openat\(.*"{re.escape(str(temporary))}", [^)]*O_CREAT\|O_EXCL',
            rf"write\(\d+<{re.escape(str(temporary))}>",
            rf"fsync\(\d+<{re.escape(str(temporary))}>\) += 0",
            rf'rename\w*\(.*"{re.escape(str(temporary))}", .*"{re.escape(str(path))}".*= 0',
            rf'openat\(.*"{re.escape(str(folder))}", [^)]*O_DIRECTORY',
            rf"fsync\(\d+<{re.escape(str(folder))}>\) += 0",
        ]
        places = [[m.start() for m in re.finditer(f"(?m)^\\d+ +{part}", log)] for part in order]
        ordered = all(places) and all(a[-1] < b[0] for a, b in itertools.pairwise(places))
        if code or path.read_bytes() != new or not ordered:
            failures.append(f"exit code {code}: {told[-300:]}: {log[-1500:]}")
        for call, error, for_ever in tries[:n]:
            path.write_bytes(old)
            which = folder if "directory" in call else temporary
            kernel = {"rename": "/^rename"}.get(call, call.split()[0])
            inject = f"inject={kernel}:error={errno.errorcode[error]}:when=1{'+' * for_ever}"
            code, told, _ = save("-e", "trace=" + kernel, "-e", inject, "-P", str(which))
            where = f"{errno.errorcode[error]} in {call}{', for ever' * for_ever}"
            if code != 6 or os.strerror(error) not in told or told.count("\n") != 1:
                failures.append(f"{where}: exit code {code}: {told[-300:]}")
            if path.read_bytes() != (new if which == folder else old):
                failures.append(f"{where}: another file than meant")
            if os.listdir(folder) != ["m.npz"]:
                failures.append(f"{where}: {os.listdir(folder)}")
    return min(n, len(tries)), failures


def power_loss(n: int | None, seed: int) -> Outcome:
    """Power fails at random moments of three saves, and what was not synced is there, missing,
    torn or rubbish: the path holds one of the files that were to be there, or, before the first
    save was over, nothing."""
    assert n is not None
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        path = Path(os.path.realpath(name), "m.npz")
        disk = RecordingDisk(path)
        files: list[bytes | None] = [None]
        saved = []
        with disk.mounted():
            for steps in (2, 3, 4):
                write_checkpoint(path, made(steps))
                files.append(path.read_bytes())
                saved.append(len(disk.moments))
    for k in range(n):
        moment = rng.randrange(len(disk.moments))
        state = disk.moments[moment].after_power_loss(rng)
        turn = sum(moment >= end for end in saved)  # saves that were over
        if state not in files[turn : turn + 2]:
            failures.append(f"state {k}, after operation {moment}: neither old nor new")
        if moment + 1 in saved and state != files[saved.index(moment + 1) + 1]:
            failures.append(f"state {k}: the save was over, and its file is not there")
    return n, failures


# --- what is read ------------------------------------------------------------------------------


def command_line(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, run in this process, and what it says on standard error; an
    exception that comes out of it is said there, too, as Python would."""
    told = io.StringIO()
    with redirect_stderr(told), redirect_stdout(io.StringIO()):
        try:
            code = main(arguments)
        except BaseException:
            code = 1
            traceback.print_exc(file=told)
    return code, told.getvalue()


def not_one_line(told: str) -> bool:
    """Whether an error was told as anything but one line."""
    lines = told.splitlines()
    return len(lines) != 1 or not told.startswith("charlstm: error: ") or "Traceback" in told


class _Reader:
    """Reads bytes as a checkpoint, and says what is wrong with how that went. What is refused is
    refused by the command line in one line, too, which is tried once for each kind of refusal."""

    def __init__(self, folder: str) -> None:
        self.kinds: set[str] = set()
        self.path = Path(folder, "read.npz")
        self.path.write_bytes(small())
        command_line("info", str(self.path))  # now all is imported that reading needs

    def __call__(self, data: bytes, what: str) -> list[str]:
        self.path.unlink()  # or a disk would be made to wait for what it replaces
        self.path.write_bytes(data)
        try:
            read_checkpoint(self.path)
        except CheckpointError as e:
            message = str(e)
            kind = re.sub(r"[\d'].*", "", message.removeprefix(str(self.path)))
            if kind not in self.kinds:
                self.kinds.add(kind)
                return self.told(what)
            good = message.isprintable() and len(message) < 700
            return [] if good else [f"{what}: {message!r:.200}"]
        except BaseException as e:
            return [f"{what}: {type(e).__name__}: {e!s:.200}"]
        return [] if data == small() else [f"{what}: accepted though bytes changed"]

    def told(self, what: str) -> list[str]:
        """What is wrong with what the command line says of the file that was read last."""
        code, told = command_line("info", str(self.path))
        good = code == 3 and not not_one_line(told) and told[:-1].isprintable() and len(told) < 800
        return [] if good else [f"{what}: exit code {code}: {told[-300:]!r}"]


def hostile_table(n: int | None, seed: int) -> Outcome:
    """Files made to deceive: refused, without more memory than twice the file and 32 MiB, and
    without running, unpickling or connecting anything."""
    failures, trials, files = [], 0, list(table(small()))
    with tempfile.TemporaryDirectory() as name:
        reader = _Reader(name)
        with watched() as seen:
            for what, data in files:
                trials += 1
                tracemalloc.start()
                failures += reader(data, what)
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                if peak > 2 * len(data) + (32 << 20):
                    failures.append(f"{what}: took {peak:,} bytes of memory")
                failures += reader.told(what)
        failures += [f"Python did this: {event}" for event in seen]
    if trials < 118:
        failures.append(f"only {trials} files")
    return trials, failures


def damage(n: int | None, seed: int) -> Outcome:
    """Every byte of a small checkpoint changed, and every truncation: all refused."""
    failures, good = [], small()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        reader = _Reader(name)
        for at in range(len(good)):
            changed = good[:at] + bytes([good[at] ^ rng.randrange(1, 256)]) + good[at + 1 :]
            failures += reader(changed, f"byte {at}")
            failures += reader(good[:at], f"truncated to {at}")
    return 2 * len(good), failures


def mutants(n: int | None, seed: int) -> Outcome:
    """Random damage of several kinds: refused, unless it changed nothing."""
    assert n is not None
    failures, rng = [], random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        reader = _Reader(name)
        with watched() as seen:
            for k in range(n):
                failures += reader(mutant(small(), rng), f"mutant {k}")
        failures += [f"Python did this: {event}" for event in seen]
    return n, failures


def configurations(n: int | None, seed: int) -> Outcome:
    """Mutants of the bundled configurations, most of some lines of a section: read as one, or
    refused by the command line in one line that names the file."""
    assert n is not None
    failures, rng, refused = [], random.Random(seed), 0
    texts = [Path(file).read_text(encoding="utf-8") for file in bundled().values()]
    sections = [part.splitlines() for text in texts for part in text.split("\n\n")]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "mutant.yaml")
        for k in range(n):
            text = rng.choice(texts)
            if k % 20:
                head, *lines = rng.choice(sections)
                start = rng.randrange(len(lines) + 1)
                text = "\n".join([head, *lines[start : start + 10], ""])
            text = mutant_text(text, rng)
            path.unlink(missing_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
            # where the configuration is none, there is no model either
            code, told = command_line("evaluate", "-c", str(path), "-m", "gone.npz", "gone.txt")
            refused += str(path) in told
            read = told.startswith("charlstm: error: gone.npz: no such checkpoint")
            if code != 2 or not_one_line(told) or not (read or str(path) in told):
                failures.append(f"mutant {k}: exit code {code}: {told[-300:]}")
            if not told[:-1].isprintable():
                failures.append(f"mutant {k}: {told!r:.300}")
    if not n / 10 < refused < n:
        failures.append(f"{refused:,} of {n:,} were refused")
    return n, failures


@dataclass(frozen=True)
class Campaign:
    """What is tried, and how often."""

    run: Callable[[int | None, int], Outcome]
    always: int | None
    """Trials in every run of the tests; None: all that there are; 0: none, it is for the long run
    and for those that are asked for (`--slow`)."""
    long: int | None
    """Trials in the long run."""
    least: int = 0
    """Where all there are are tried: how many these are at least."""


CAMPAIGNS = {
    "G1 kill -9": Campaign(kills, 40, 1000),
    "G2 failing disk": Campaign(full_disk, None, None, 800),
    "G2 failing calls": Campaign(failing_calls, 6, 32),
    "G3 power loss": Campaign(power_loss, 2000, 50_000),
    "G4 hostile files": Campaign(hostile_table, None, None, 118),
    "G4 damaged files": Campaign(damage, None, None, 20_000),
    "G4 mutants": Campaign(mutants, 20_000, 2_000_000),
    "G5 configurations": Campaign(configurations, 20_000, 500_000),
    "G6 stop at every step": Campaign(stops, 2, 50),
    "G7 signals": Campaign(signals, 30, 300),
    "G7 every command": Campaign(commands.stopped, None, None, 21),
    "G8 streams": Campaign(commands.streams, None, None, 36),
    "G9 injections": Campaign(poison, 20, 200),
    "G10 race": Campaign(race, 10, 50),
    "G12 large corpus": Campaign(commands.large_corpus, 0, 1),
    "G13 soak": Campaign(soak, 2000, 100_000),
}
"""By the goal that each is for. G14, that nothing is run, is watched in G4."""
