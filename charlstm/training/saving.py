"""When a run is saved on the way, and the file that it is saved to."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from charlstm.config.fields import seconds
from charlstm.errors import OutputError, UsageError
from charlstm.storage.checkpoint import Checkpoint, rescued, write_checkpoint
from charlstm.storage.files import claim
from charlstm.storage.lock import Lock, Path_
from charlstm.training.ranks import Votes

SAVING = 0.02
"""Share of a run's time that saves at new bests may take, where they go by time: one that comes
sooner after the last save waits."""


class SavePolicy:
    """When a run is saved on the way: after so many steps or seconds, and at a new best."""

    def __init__(self, every: int | str, now: float) -> None:
        """Times are in seconds of one clock."""
        self.steps = every if isinstance(every, int) else 0
        self.seconds = seconds(str(every)) if not self.steps else math.inf
        self.saved_at, self.pause = now, 0.0
        self.unsaved_best = False

    def votes(self, now: float, end: bool, rank: int) -> Votes:
        """What this rank wants after the next step. Rank 0 alone decides about new bests."""
        since = now - self.saved_at
        return Votes(end, since >= self.seconds, rank == 0 and since >= self.pause)

    def due(self, step: int, votes: Votes) -> bool:
        """Whether to save after this step."""
        by_steps = self.steps > 0 and step % self.steps == 0
        return votes.save or by_steps or (self.unsaved_best and votes.save_best)

    def tried(self, began: float, now: float) -> None:
        """A save has been made, or has failed: the next interval tries again."""
        self.saved_at, self.unsaved_best = now, False
        if not self.steps:
            self.pause = (now - began) / SAVING


class Output:
    """The file of a run, which is this run's alone while its lock is held."""

    def __init__(self, path: Path_, lock: Lock | None = None) -> None:
        """Takes the lock unless it is given."""
        self.path = path
        self.lock = claim(path) if lock is None else lock

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have the file locked meanwhile; where it is already, it stays so afterwards."""
        held = self.lock.held
        if not held:
            self.lock = claim(self.path)
        try:
            yield
        finally:
            if not held:
                self.lock.release()

    def write(self, checkpoint: Checkpoint, last: bool) -> None:
        """Write the file; if that fails the `last` time, to another place, which the `OutputError`
        names."""
        with self.locked():
            try:
                write_checkpoint(self.path, checkpoint)
            except OutputError as e:
                if last:
                    raise rescued(self.path, checkpoint, e) from e
                raise


@contextlib.contextmanager
def writing(path: Path_, *, force: bool = False) -> Iterator[Output]:
    """Hold a file for the block, which writes it. Raises `UsageError` where it exists, unless it is
    to be replaced (`force`)."""
    output = Output(path)
    try:
        if Path(path).exists() and not force:
            other = "replace it (--force) or write to another file"
            raise UsageError(f"{path} exists; {other}")
        yield output
    finally:
        output.lock.release()
