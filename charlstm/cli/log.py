"""The log of a run: one JSON object a line, for every evaluation, every sample, and now and then
between."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from charlstm.cli.streams import ReaderGone, to_json, write
from charlstm.errors import OutputError, UsageError
from charlstm.training.events import Event, Rollback

if TYPE_CHECKING:
    from charlstm.storage.progress import Progress
    from charlstm.training.run import Training

LOG_EVERY = 100
"""Steps between two lines without an evaluation."""

BEGINNING = b'{"step": '
"""The first bytes of every line."""


def check_log(path: str, resume: bool, force: bool) -> None:
    """Refuse a log that would replace a file without --force, before anything is written."""
    if path == "-":
        if sys.stdout is None:
            raise OutputError("standard output is closed")
        return
    if not path:
        raise UsageError("an empty name is not that of a log; name a file")
    if os.path.isdir(path):
        raise UsageError(f"{path}: is a directory; name a file for the log")
    if os.path.isfile(path) and not (resume or force):
        raise UsageError(
            f"{path} exists; replace it (--force), or write the log to another file (--log FILE); "
            "a run that is resumed (--resume) continues its log"
        )


class Log:
    """Writes the records of a run. A full disk ends the log, not the training. A standard output
    that nobody reads ends the training, and `__exit__` raises the reason."""

    def __init__(self, path: str, training: Training, resume: bool) -> None:
        """Open a new log, replace one, or on `resume` continue the one of this run. Raises
        `OutputError`, and `UsageError` where the file is not the log of this run."""
        self.training, self.unit = training, training.config.text.unit
        self.broken: Exception | None = None
        self.nats, self.steps = 0.0, 0
        self.file: IO[str] | None = None
        if path == "-":
            return
        try:
            mode = "w" if os.path.lexists(path) else "x"
            if resume and os.path.isfile(path):
                mode = "a"
                with open(path, "r+b") as file:
                    _cut(path, file, training.progress)
            self.file = open(path, mode, encoding="utf-8")  # noqa: SIM115
        except OSError as e:
            raise OutputError(f"{path}: cannot be written: {e.strerror}") from e

    def __enter__(self) -> Log:
        return self

    def write(self, record: Event) -> None:
        """Write the line of an event that has one."""
        if isinstance(record, Rollback):
            self.nats, self.steps = 0.0, 0  # of steps that are taken back
            step, what, finite = record.diverged
            how = "far_above_guessing" if finite else "not_finite"
            self._line({"step": record.step, "diverged_at": step, how: what})
            return
        if math.isfinite(record.train):
            self.nats, self.steps = self.nats + record.train, self.steps + 1
        between = not self.steps or record.step % LOG_EVERY
        if record.valid is None and record.sample is None and between:
            return
        line: dict[str, Any] = {
            "step": record.step,
            "epoch": round(record.epoch, 6),
            f"{self.unit}s": record.chars,
            "seconds": round(record.seconds, 3),
            "train": self.nats / self.steps if self.steps else None,
            "valid": record.valid,
            "best": record.best,
            "lr": record.lr,
            "gradient_norm": record.gradient_norm if self.steps else None,
        }
        if record.sample is not None:
            line["sample"] = record.sample
        self.nats, self.steps = 0.0, 0
        self._line(line)

    def _line(self, line: dict[str, Any]) -> None:
        text = to_json(line)
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.write(text)
                self.file.flush()
        elif self.broken is None:
            try:
                write(text)
            except (ReaderGone, OSError) as e:
                self.broken = e
                self.training.stop()

    def __exit__(self, kind: object, *exc: object) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()
        if self.broken is not None and kind is None:
            raise self.broken


def _cut(path: str, file: BinaryIO, progress: Progress) -> None:
    """Cut a run's log to the lines written before the run reached `progress`.

    A run that was killed may have logged more than it saved. After a divergence it has logged some
    steps twice. The checkpoint knows the first of the log's rollbacks; the lines after the last one
    that it knows belong to the run that is resumed.
    """
    lines: list[dict[str, Any]] = []
    ends = [0]  # bytes before the first line, and up to the end of each
    for number, raw in enumerate(file, 1):
        line = _parsed(raw)
        if line is None:
            torn = raw.startswith(BEGINNING) or BEGINNING.startswith(raw)
            if torn and not raw.endswith(b"\n"):
                break
            raise UsageError(
                f"{path}: line {number} is not of a log that --resume could continue; name another "
                "file (--log FILE)"
            )
        lines.append(line)
        ends.append(ends[-1] + len(raw))
    returns = [k for k, line in enumerate(lines) if "diverged_at" in line]
    logged = [(lines[k]["diverged_at"], lines[k]["step"]) for k in returns]
    saved = [(at, to) for at, _, to in progress.rollbacks]
    most = min(len(logged), len(saved))  # the log may have begun later than the run
    known = max(n for n in range(most + 1) if logged[:n] == saved[len(saved) - n :])
    kept = returns[known - 1] + 1 if known else 0
    losses = {step: valid for step, _, valid in progress.history}
    for line in lines[kept:]:
        step, valid = line["step"], line.get("valid")
        if "diverged_at" in line or step > progress.step:
            break
        if valid is not None and losses.get(step, valid) != valid:
            raise UsageError(
                f"{path}: is the log of another run, as its step {step:,} shows; name another file "
                "(--log FILE)"
            )
        kept += 1
    file.truncate(ends[kept])
    if kept:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    if "diverged_at" in line:
        return line if type(line["diverged_at"]) is int else None
    return line if {"train", "valid"} <= {*line} else None
