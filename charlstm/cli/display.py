"""What a training run shows of its progress on standard error."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from charlstm.cli.streams import terminal
from charlstm.training.events import Event, Record

if TYPE_CHECKING:
    from charlstm.training.run import Training

PLAIN_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal for a bar."""


class Display:
    """Shows a bar on a terminal, a line every `PLAIN_SECONDS` elsewhere, nothing when quiet."""

    def __init__(self, training: Training, quiet: bool) -> None:
        from charlstm.config.fields import seconds

        self.quiet, self.text = quiet, training.config.text
        self.bar: Any = None
        self.shown_at = time.monotonic()
        self.chars_before = training.chars
        self.mean: float | None = None
        self.valid = training.best_valid
        t, steps = training.config.train, training.plan.total_steps
        self.max_seconds = None if t.max_time is None else seconds(t.max_time)
        self.end = None if steps is None else training.plan.chars(steps)
        if not quiet and terminal(sys.stderr):
            from tqdm import tqdm

            look: dict[str, Any] = {"unit_scale": True, "dynamic_ncols": True, "smoothing": 0.1}
            begin, unit = training.chars, self.text.unit
            self.bar = tqdm(total=self.end, initial=begin, unit=unit, file=sys.stderr, **look)

    def __enter__(self) -> Display:
        return self

    def show(self, record: Event) -> None:
        if self.quiet:
            return
        if isinstance(record, Record):
            if math.isfinite(record.train):
                mean = record.train if self.mean is None else self.mean
                self.mean = mean + 0.02 * (record.train - mean)
            if record.valid is not None:
                self.valid = record.valid
        try:
            if isinstance(record, Record) and record.sample is not None:
                self._line(f"--- sample at step {record.step:,}\n{record.sample}\n---")
            if record.notice is not None:
                self._line(f"charlstm: {record.notice}")
            if self.bar is not None:
                self.bar.set_description_str(f"epoch {record.epoch:.1f}", refresh=False)
                self.bar.set_postfix_str(self._losses(), refresh=False)
                self.bar.total = self._end(record)
                self.bar.update(record.chars - self.bar.n)
            elif time.monotonic() - self.shown_at >= PLAIN_SECONDS:
                self.shown_at = time.monotonic()
                self._line(self._plain(record))
        except (OSError, ValueError, AttributeError):  # stderr is gone: train on without it
            self.quiet, self.bar = True, None

    def _plain(self, record: Event) -> str:
        limit = "" if self.max_seconds is None else f" of {self.max_seconds:.0f} s"
        speed = (record.chars - self.chars_before) / max(record.seconds, 1e-9)
        return (
            f"charlstm: {record.seconds:.0f} s{limit}, step {record.step:,}, epoch "
            f"{record.epoch:.1f}, {speed / 1000:.0f}k {self.text.name}s/s, {self._losses()}"
        )

    def _end(self, record: Event) -> int | None:
        """Units trained on when the first limit is reached: that of steps and epochs, or that of
        time if the speed stays as it has been."""
        if self.max_seconds is None:
            return self.end
        left = self.max_seconds / max(record.seconds, 1e-9) - 1  # for each second so far
        by_time = record.chars + max(0, round((record.chars - self.chars_before) * left))
        return by_time if self.end is None else min(self.end, by_time)

    def _losses(self) -> str:
        bits = "" if self.mean is None else f"train {self.mean / math.log(2):.3f}"
        if self.valid is not None:
            bits += f", held-out {self.valid / math.log(2):.3f}"
        return f"{bits} bits/{self.text.unit}"

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.close()
