"""charlstm train: a model from text."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.log import Log, check_log
from charlstm.cli.options import (
    Rule,
    check_options,
    configurable,
    offer,
    option,
    or_stdin,
    settings,
)
from charlstm.cli.streams import (
    check_one_user,
    check_stdout,
    error,
    loss_at,
    notice,
    terminal,
    write,
)
from charlstm.errors import CharLSTMError, UsageError
from charlstm.training.events import Event, Record

if TYPE_CHECKING:
    from charlstm.training.ranks import Alone
    from charlstm.training.run import Training

STDOUT = "/dev/stdout"
"""The name under which standard output is compared with other files, where it has one."""

OTHERS_WAIT = 1.0
"""Seconds that a failing rank waits for rank 0 to fail in the same way."""

OUTPUT = "--resume continues the output, --force replaces it; give one"
CHANGES = "--accept-changes says how to --resume; give both"
RULES = (
    Rule("--resume", ["--force"], OUTPUT),
    Rule("--accept-changes", ["--resume"], CHANGES, needs=True),
)

SETTINGS = ("epochs", "steps", "max_time", "save_every", "sample_every", "rng_seed")
"""Options that are keys of the configuration's section `train`."""


@click.command()
@click.argument("corpus", metavar="[CORPUS]...", nargs=-1, shell_complete=offer("files"))
@option(
    "-o --output -m --model FILE",
    "Where the model goes (environment: CHARLSTM_MODEL); -: to standard output, at the end.",
    default="charlstm.npz",
    envvar="CHARLSTM_MODEL",
    show_default=True,
)
@option("--resume", "Go on with the output, from where it stands.")
@option("--force", "Replace the output.")
@option(
    "--accept-changes", "Resume although the corpus, a setting or the number of ranks has changed."
)
@option("--valid FILE", "Held-out text, instead of the last tenth of the corpus.")
@option("--epochs N", "End after N passes over the text (default 20).")
@option("--steps N", "End after N steps.")
@option("--max-time TIME", "End after so long, reading included, such as 90s, 10m or 2h.")
@option(
    "--save-every N|TIME",
    "Write the output every N steps or so often (default 60s), besides at "
    "new bests and at the end.",
)
@option("--sample-every N", "Show a sample every N steps.")
@option("--rng-seed N", "Another number gives another run (default 0).")
@option("--log FILE", "Write progress to FILE, or standard output (-), one JSON object a line.")
@option("-q --quiet", "No progress, errors only.")
@configurable
def train(**params: Any) -> int:
    """Train a model on text files, read in order, or on standard input (-).

    The last tenth of the text is held out (with --set text.split=lines, lines drawn at random);
    the weights that do best on it are kept, and training ends when that has not improved for a
    while, or at the first limit that is reached.

    With -c auto the network, its regularisation and the number of steps are chosen for the text,
    this machine and the time of --max-time (default 10m), in which training ends.
    """
    asked = SimpleNamespace(**params)
    check_options(RULES, UsageError)
    sources = or_stdin(asked.corpus, "CORPUS")
    check_one_user("input", [*(("CORPUS", file) for file in sources), ("--valid", asked.valid)])
    check_one_user("output", [("-o", asked.output), ("--log", asked.log)])
    if asked.output == "-":
        if asked.resume:
            raise UsageError("--resume continues a file, not a stream; name it with -o")
        check_stdout("a model")
        asked.output = None
    from charlstm.config.bundle import AUTO

    auto = [name for name in asked.config if name == AUTO]
    asked.config = [name for name in asked.config if name != AUTO]
    gathered = settings(asked, "train", SETTINGS)
    from charlstm.storage.files import check_apart
    from charlstm.training import start
    from charlstm.training.ranks import ranks

    together = ranks()
    with _together(together):
        if together.rank:  # rank 0 speaks for all
            asked.quiet, asked.log = True, None
        read = start.inputs(sources, asked.valid, asked.config)
        target = STDOUT if asked.output is None else asked.output
        check_apart("the output", target, read)
        if asked.log is not None:
            log = STDOUT if asked.log == "-" else asked.log
            check_apart("the log", log, [*read, ("the output", target)])
            check_log(asked.log, asked.resume, asked.force)
        if together.size > 1 and "-" in sources:
            raise UsageError("standard input reaches one rank only; name files that all can read")
        say = (lambda message: None) if asked.quiet else notice
        how = {name: params[name] for name in ("valid", "resume", "force", "accept_changes")}
        training = start.train(
            sources, asked.output, config=auto, settings=gathered, notice=say, **how
        )
        debug = click.get_current_context().ensure_object(dict).get("debug")
        for message in [*(training.reasons if debug else []), *training.notices]:
            say(message)
        return _run(training, asked, say)


def _run(training: Training, asked: SimpleNamespace, say: Callable[[str], None]) -> int:
    """Train until it ends or a signal comes, write the model, and return the exit code."""
    if asked.output is None:
        say("the model goes to standard output when training has ended; nothing is saved before")
    if training.finished:
        say(
            f"nothing to do: {training.finished}; "
            "raise --epochs, --steps or train.patience to continue"
        )
        return 0
    with contextlib.ExitStack() as stack:
        received = stack.enter_context(_stopped_by_signals(training))
        log = None if asked.log is None else Log(asked.log, training, asked.resume)
        if log is not None:
            stack.enter_context(log)
        display = stack.enter_context(Display(training, asked.quiet))
        for record in training:
            display.show(record)
            if log is not None:
                log.write(record)
    if asked.output is None:
        _write_to_stdout(training)
    say(_summary(training, asked.output))
    guessing, used = math.log(len(training.corpus.vocabulary)), training.in_use
    if used is not None and used[1] > guessing:
        say(
            f"that is worse than guessing, which costs {guessing / math.log(2):.4f} bits; "
            "train longer, or with a smaller --set train.lr"
        )
    return 128 + received[-1] if received else 0


@contextlib.contextmanager
def _stopped_by_signals(training: Training) -> Iterator[list[int]]:
    """Inside its context a signal ends training after the step in progress; a second one ends the
    process at once. A signal that is ignored (nohup) stays ignored. Yields those received."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        training.stop()
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _together(ranks: Alone) -> Iterator[None]:
    """Report an error on one of several ranks and end them all, which would wait for it."""
    try:
        yield
    except BaseException as e:
        if ranks.size == 1:
            raise
        code = e.exit_code if isinstance(e, CharLSTMError) else 1
        if ranks.rank:
            time.sleep(OTHERS_WAIT)  # rank 0 reports what is wrong on all, and ends this rank
        error(f"rank {ranks.rank}: {e if str(e) else type(e).__name__}")
        ranks.abort(code)
        raise


def _write_to_stdout(training: Training) -> None:
    from charlstm.storage.checkpoint import rescued, stream_checkpoint

    checkpoint = training.checkpoint()
    if training.ranks.rank:
        return
    try:
        stream_checkpoint(write, checkpoint)
    except OSError as e:
        why = f"standard output cannot be written: {e.strerror or e}"
        raise rescued(None, checkpoint, why) from None


def _summary(training: Training, output: str | None) -> str:
    best, name = training.in_use, training.config.text.name
    held_out = "nothing held out" if best is None else f"held-out {loss_at(*best, name)}"
    done = f"{training.step:,} steps, {training.epoch:.2f} epochs"
    wrote = f"wrote {output or 'standard output'} after {done}: {held_out}"
    if output is None:
        return wrote
    model = "" if output == "charlstm.npz" else f" -m {shlex.quote(output)}"
    return f"{wrote}; try: charlstm sample{model}"


# --- what it shows on the way ------------------------------------------------------------------

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
        limit, self.training = training.config.train.max_time, training
        self.max_seconds = None if limit is None else seconds(limit)
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

    @property
    def end(self) -> int | None:
        """Units trained on after the steps or epochs that are planned now."""
        plan = self.training.plan
        return None if plan.total_steps is None else plan.chars(plan.total_steps)

    def _plain(self, record: Event) -> str:
        so_far, limit = record.seconds, ""
        if self.max_seconds is not None:  # of the time, what was spent beforehand counts as well
            so_far, limit = so_far + self.training.spent, f" of {self.max_seconds:.0f} s"
        speed = (record.chars - self.chars_before) / max(record.seconds, 1e-9)
        return (
            f"charlstm: {so_far:.0f} s{limit}, step {record.step:,}, epoch "
            f"{record.epoch:.1f}, {speed / 1000:.0f}k {self.text.name}s/s, {self._losses()}"
        )

    def _end(self, record: Event) -> int | None:
        """Units trained on when the first limit is reached: that of steps and epochs, or that of
        time if the speed stays as it has been."""
        if self.max_seconds is None:
            return self.end
        seconds = self.max_seconds - self.training.spent
        left = seconds / max(record.seconds, 1e-9) - 1  # for each second so far
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
