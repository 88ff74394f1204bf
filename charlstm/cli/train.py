"""charlstm train: a model from text."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.display import Display
from charlstm.cli.log import Log, check_log
from charlstm.cli.options import (
    Rule,
    check_options,
    config_options,
    debug_option,
    settings,
    sources_or_stdin,
)
from charlstm.cli.streams import check_one_user, error, loss_at, notice, terminal, write
from charlstm.errors import CharLSTMError, OutputError, UsageError
from charlstm.storage.files import check_apart

if TYPE_CHECKING:
    from charlstm.training.ranks import Alone
    from charlstm.training.run import Training

STDOUT = "/dev/stdout"
"""The name under which standard output is compared with other files, where it has one."""

OTHERS_WAIT = 1.0
"""Seconds that a failing rank waits for rank 0 to fail in the same way."""

OUTPUT = "--resume goes on with the output, --force replaces it; give one"
CHANGES = "--accept-changes says how to --resume; give both"
RULES = (
    Rule("--resume", ["--force"], OUTPUT),
    Rule("--accept-changes", ["--resume"], CHANGES, needs=True),
)


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
    check_options(RULES, UsageError)
    sources = sources_or_stdin(corpus, "CORPUS")
    readers = [*(("CORPUS", source) for source in sources), ("--valid", valid)]
    check_one_user("input", [name for name, source in readers if source == "-"])
    writers = {"-o": output, "--log": log}
    check_one_user("output", [name for name, target in writers.items() if target == "-"])
    to_file = None if output == "-" else output
    if to_file is None:
        _check_stdout(resume)
    options = {f"--{k.replace('_', '-')}": (f"train.{k}", value) for k, value in values.items()}
    gathered = settings(configs, sets, options)
    from charlstm import api
    from charlstm.training.ranks import ranks

    together = ranks()
    with _together(together):
        if together.rank:  # rank 0 speaks for all
            quiet, log = True, None
        read = api.inputs(sources, valid, configs)
        target = STDOUT if to_file is None else to_file
        check_apart("the output", target, read)
        if log is not None:
            check_apart("the log", STDOUT if log == "-" else log, [*read, ("the output", target)])
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
        return _run(training, to_file, log, resume=resume, quiet=quiet, say=say)


def _run(
    training: Training,
    output: str | None,
    log: str | None,
    *,
    resume: bool,
    quiet: bool,
    say: Callable[[str], None],
) -> int:
    """Train until it ends or a signal comes, write the model, and return the exit code."""
    if output is None:
        say("the model goes to standard output when training has ended; nothing is saved before")
    if training.finished:
        say(
            f"nothing to do: {training.finished}; "
            "raise --epochs, --steps or train.patience to go on"
        )
        return 0
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(_Signals(training))
        log_file = None if log is None else stack.enter_context(Log(log, training, resume))
        display = stack.enter_context(Display(training, quiet))
        for record in training:
            display.show(record)
            if log_file is not None:
                log_file.write(record)
    if output is None:
        _write_to_stdout(training)
    say(_summary(training, output))
    guessing, used = math.log(len(training.corpus.vocabulary)), training.in_use
    if used is not None and used[1] > guessing:
        say(
            f"that is worse than guessing, which costs {guessing / math.log(2):.4f} bits; "
            "train longer, or with a smaller --set train.lr"
        )
    return 0 if signals.received is None else 128 + signals.received


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
    best, name = training.in_use, training.config.text.name
    held_out = "nothing held out" if best is None else f"held-out {loss_at(*best, name)}"
    wrote = (
        f"wrote {output or 'standard output'} after {training.step:,} steps, "
        f"{training.epoch:.2f} epochs: {held_out}"
    )
    if output is None:
        return wrote
    model = "" if output == "charlstm.npz" else f" -m {shlex.quote(output)}"
    return f"{wrote}; try: charlstm sample{model}"


class _Signals:
    """Inside its context a signal ends training after the step in progress; a second one ends the
    process at once. A signal that is ignored (nohup) stays ignored."""

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
