"""charlstm train: a model from text."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.log import Log, check_log
from charlstm.cli.options import config_options, debug_option, settings
from charlstm.cli.streams import check_one_user, error, notice, terminal, write
from charlstm.errors import CharLSTMError, OutputError, UsageError
from charlstm.storage.files import check_apart
from charlstm.training.events import Event, Record

if TYPE_CHECKING:
    from charlstm.training.ranks import Alone
    from charlstm.training.run import Training

STDOUT = "/dev/stdout"
"""A name by which standard output is compared with other files, where there is such a name."""

OTHERS_WAIT = 1.0
"""Seconds that a failing rank other than 0 gives that one to fail in the same way."""

PLAIN_SECONDS = 10.0
"""Time between two lines of progress where there is no terminal to draw a bar on."""


def sources_or_stdin(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The files that are named; with none, standard input where something is piped into it."""
    if names:
        return names
    if sys.stdin is None or terminal(sys.stdin):
        raise click.UsageError(f"no {what} is given; name a text file, or pipe one in")
    return ("-",)


@click.command()
@click.argument("corpus", metavar="[CORPUS]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    "-m",
    "--model",
    "output",
    metavar="FILE",
    default="charlstm.npz",
    envvar="CHARLSTM_MODEL",
    show_default=True,
    help="Where the model goes (environment: CHARLSTM_MODEL); -: to standard output, at the end.",
)
@click.option("--resume", is_flag=True, help="Go on with the output, from where it stands.")
@click.option("--force", is_flag=True, help="Replace the output.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume although the corpus, a setting or the number of ranks has changed.",
)
@click.option(
    "--valid", metavar="FILE", help="Held-out text, instead of the last tenth of the corpus."
)
@click.option("--epochs", metavar="N", help="End after N passes over the text (default 20).")
@click.option("--steps", metavar="N", help="End after N steps.")
@click.option(
    "--max-time",
    metavar="TIME",
    help="End after so long, reading included, such as 90s, 10m or 2h.",
)
@click.option(
    "--save-every",
    metavar="N|TIME",
    help="Write the output every N steps or so often (default 60s), besides at "
    "new bests and at the end.",
)
@click.option("--sample-every", metavar="N", help="Show a sample every N steps.")
@click.option("--rng-seed", metavar="N", help="Another number gives another run (default 0).")
@click.option(
    "--log",
    metavar="FILE",
    help="Write progress to FILE, or standard output (-), one JSON object a line.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress, errors only.")
@config_options
@debug_option
def train(
    corpus: tuple[str, ...],
    output: str,
    resume: bool,
    force: bool,
    accept_changes: bool,
    valid: str | None,
    log: str | None,
    quiet: bool,
    configs: tuple[str, ...],
    sets: tuple[str, ...],
    **values: str | None,
) -> int:
    """Train a model on text files, read in order, or on standard input (-).

    The last tenth of the text is held out (with --set text.split=lines, lines drawn at random);
    the weights that do best on it are kept, and training ends when that has not improved for a
    while, or at the first limit that is reached.
    """
    if resume and force:
        raise UsageError("--resume goes on with the output, --force replaces it; give one")
    if accept_changes and not resume:
        raise UsageError("--accept-changes says how to --resume; give both")
    sources = sources_or_stdin(corpus, "CORPUS")
    readers = [*(("CORPUS", source) for source in sources), ("--valid", valid)]
    check_one_user("input", [name for name, source in readers if source == "-"])
    writers = {"-o": output, "--log": log}
    check_one_user("output", [name for name, target in writers.items() if target == "-"])
    to_file: str | None = None if output == "-" else output
    if to_file is None:
        _check_stdout(resume)
    gathered = settings(
        configs,
        sets,
        {f"--{name.replace('_', '-')}": (f"train.{name}", value) for name, value in values.items()},
    )
    from charlstm import api
    from charlstm.training.ranks import ranks

    together = ranks()
    with _together(together):
        if together.rank:  # one of them does the talking
            quiet, log = True, None
        read = api.inputs(sources, valid, configs)
        target = STDOUT if to_file is None else to_file
        check_apart("the output", target, read)
        read.append(("the output", target))
        if log is not None:
            check_apart("the log", STDOUT if log == "-" else log, read)
            check_log(log, resume, force)
        if together.size > 1 and "-" in sources:
            raise UsageError("standard input reaches one rank only; name files that all can read")
        say = (lambda message: None) if quiet else notice
        training = api.train(
            sources,
            to_file,
            settings=gathered,
            valid=valid,
            resume=resume,
            force=force,
            accept_changes=accept_changes,
            notice=say,
        )
        for message in training.notices:
            say(message)
        if to_file is None:
            say(
                "the model goes to standard output when training has ended; nothing is saved before"
            )
        if training.finished:
            say(
                f"nothing to do: {training.finished}; "
                "raise --epochs, --steps or train.patience to go on"
            )
            return 0
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(_Signals(training))
            log_file = None if log is None else stack.enter_context(Log(log, training, resume))
            progress = stack.enter_context(_Progress(training, quiet))
            for record in training:
                progress.show(record)
                if log_file is not None:
                    log_file.write(record)
        if to_file is None:
            _write_to_stdout(training)
        say(_summary(training, to_file))
        guessing, used = math.log(len(training.corpus.vocabulary)), training.in_use
        if used is not None and used[1] > guessing:
            say(
                f"that is worse than guessing, which costs {guessing / math.log(2):.4f} bits; "
                "train longer, or with a smaller --set train.lr"
            )
    if signals.received is not None:
        return 128 + signals.received
    return 0


@contextlib.contextmanager
def _together(ranks: Alone) -> Iterator[None]:
    """An error on one of several ranks is told and ends them all: the others would wait for it."""
    try:
        yield
    except BaseException as e:
        if ranks.size == 1:
            raise
        code = e.exit_code if isinstance(e, CharLSTMError) else 1
        if ranks.rank:
            time.sleep(OTHERS_WAIT)  # what is wrong for all, rank 0 says, and ends this
        error(f"rank {ranks.rank}: {e if str(e) else type(e).__name__}")
        ranks.abort(code)
        raise


def _check_stdout(resume: bool) -> None:
    """Refuse to write the model to standard output where it cannot go there."""
    if resume:
        raise UsageError("--resume continues a file, not a stream; name it with -o")
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    if terminal(sys.stdout):
        raise UsageError(
            "a model is nothing to show on a terminal; pipe it on, or name a file with -o"
        )


def _write_to_stdout(training: Training) -> None:
    """Write the model to standard output; of several ranks the first does."""
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
    kept, name = training.in_use, training.config.text.name
    held_out = (
        "nothing held out"
        if kept is None
        else f"held-out {kept[1] / math.log(2):.4f} bits per {name} ({kept[1]:.4f} nats) "
        f"at step {kept[0]:,}"
    )
    wrote = (
        f"wrote {output or 'standard output'} after {training.step:,} steps, "
        f"{training.epoch:.2f} epochs: {held_out}"
    )
    if output is None:
        return wrote
    model = "" if output == "charlstm.npz" else f" -m {shlex.quote(output)}"
    return f"{wrote}; try: charlstm sample{model}"


class _Signals:
    """While it is entered, a signal to stop ends training after the step that is being done;
    a second one ends the process at once. A signal that is ignored (nohup) stays so."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # not in the main thread
                    self.before[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.training.stop()
        for each in self.before:
            signal.signal(each, signal.SIG_DFL)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere, nothing when quiet."""

    def __init__(self, training: Training, quiet: bool) -> None:
        from charlstm.config.schema import seconds

        self.training, self.quiet, self.text = training, quiet, training.config.text
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

            self.bar = tqdm(
                total=self.end,
                initial=training.chars,
                unit=self.text.unit,
                unit_scale=True,
                dynamic_ncols=True,
                smoothing=0.1,
                file=sys.stderr,
            )

    def __enter__(self) -> _Progress:
        return self

    def show(self, record: Event) -> None:
        if self.quiet:
            return
        sample = None
        if isinstance(record, Record):
            sample = record.sample
            if math.isfinite(record.train):
                mean = record.train if self.mean is None else self.mean
                self.mean = mean + 0.02 * (record.train - mean)
            if record.valid is not None:
                self.valid = record.valid
        try:
            if sample is not None:
                self._line(f"--- sample at step {record.step:,}\n{sample}\n---")
            if record.notice is not None:
                self._line(f"charlstm: {record.notice}")
            if self.bar is not None:
                self.bar.set_description_str(f"epoch {record.epoch:.1f}", refresh=False)
                self.bar.set_postfix_str(self._losses(), refresh=False)
                self.bar.total = self._end(record)
                self.bar.update(record.chars - self.bar.n)
            elif time.monotonic() - self.shown_at >= PLAIN_SECONDS:
                self.shown_at = time.monotonic()
                limit = "" if self.max_seconds is None else f" of {self.max_seconds:.0f} s"
                speed = (record.chars - self.chars_before) / max(record.seconds, 1e-9)
                self._line(
                    f"charlstm: {record.seconds:.0f} s{limit}, step {record.step:,}, epoch "
                    f"{record.epoch:.1f}, {speed / 1000:.0f}k {self.text.name}s/s, {self._losses()}"
                )
        except (OSError, ValueError, AttributeError):  # stderr is gone: train on without it
            self.quiet, self.bar = True, None

    def _end(self, record: Event) -> int | None:
        """Units trained on when the first limit is reached: that of steps and epochs, or that of
        time if the speed stays as it has been."""
        if self.max_seconds is None:
            return self.end
        done = record.chars - self.chars_before
        rest = done * (self.max_seconds / max(record.seconds, 1e-9) - 1)
        by_time = record.chars + max(0, round(rest))
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
