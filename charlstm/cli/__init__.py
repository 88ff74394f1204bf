"""The command line: a thin layer over `charlstm.api` that knows click, streams and exit codes."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any, TextIO

import click

from charlstm._version import __version__
from charlstm.cli.options import debug_option
from charlstm.cli.streams import ReaderGone, error
from charlstm.errors import CharLSTMError

COMPLETE = "_CHARLSTM_COMPLETE"
"""The environment variable by which the script of a shell asks what can follow on a line."""

READER_GONE = 141
"""The exit code where nobody reads standard output: 128 + SIGPIPE, which Windows does not have."""

THREAD_SETTINGS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

COMMANDS = {
    "train": "Train a model on text files or standard input.",
    "sample": "Generate text, or continue a seed.",
    "evaluate": "Tell how well a model predicts a text.",
    "info": "Show what is in a checkpoint.",
    "report": "Make a page that shows what a model is and how it works.",
    "export": "Write a model for other programs.",
    "import": "Make a checkpoint of another program's model.",
    "config": "List the configurations that ship, or print one.",
    "completion": "Print the script by which a shell completes commands.",
}
"""Each is a function in a module, both of the name that `in_python` gives."""


def in_python(command: str) -> str:
    """The name of a command as Python has it: `import` is a keyword there."""
    return command + "_" * iskeyword(command)


class Commands(click.Group):
    """The commands, each imported when it is called, so that --help waits for none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = in_python(cmd_name)
        command: click.Command = getattr(import_module(f"charlstm.cli.{name}"), name)
        command.short_help = COMMANDS[cmd_name]
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        begun = {name: text for name, text in COMMANDS.items() if name.startswith(incomplete)}
        commands = [CompletionItem(name, help=text) for name, text in begun.items()]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    no_args_is_help=False,  # a one-line error instead
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="charlstm", message="%(prog)s %(version)s")
@debug_option
def cli() -> None:
    """Train a character-level LSTM on any text, generate from it, score text with it.

    \b
      charlstm train corpus.txt             writes charlstm.npz
      charlstm sample --seed "hell"         reads charlstm.npz
      charlstm evaluate other.txt           how well does it predict this text?
    """


# from these click suggests one for a mistyped name
cli.commands = {name: click.Command(name) for name in COMMANDS}


def _prepare() -> None:
    """Set what holds for the whole process: threads of the BLAS, and the standard streams."""
    # The products here are small: a BLAS that spreads them over threads loses half its speed.
    # NumPy reads the settings when the commands load it.
    for name in THREAD_SETTINGS:
        os.environ.setdefault(name, "1")
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # PYTHONUNBUFFERED: what a full disk does not take would be dropped without an error
        sys.stdout = open(sys.stdout.fileno(), "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    _prepare()
    context: dict[str, bool] = {}
    ends_at_once = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    try:
        if ends_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if COMPLETE in os.environ:
            import_module("charlstm.cli.completion")  # which knows the shells
        result = cli.main(
            arguments,
            prog_name="charlstm",
            complete_var=COMPLETE,
            standalone_mode=False,
            obj=context,
        )
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CharLSTMError as e:
        if context.get("debug"):
            raise
        error(str(e))
        return e.exit_code
    except click.ClickException as e:
        ctx = getattr(e, "ctx", None)
        where = ctx.command_path if ctx is not None else "charlstm"
        what = e.format_message().replace("\n\t", " ").rstrip(".")  # choices stand in lines
        error(f"{what}; see {where} --help")
        return 2
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except (ReaderGone, BrokenPipeError):
        _silence(sys.stdout)
        return READER_GONE
    except OSError as e:
        if context.get("debug"):
            raise
        _silence(sys.stdout)
        where = "standard output cannot be written" if e.filename is None else e.filename
        error(f"{where}: {e.strerror or e}")
        return 6
    except MemoryError:
        error("out of memory; try a smaller model.hidden, train.batch or train.length")
        return 6
    finally:
        if ends_at_once:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                _silence(stream)


def _silence(stream: TextIO | None) -> None:
    """Point a broken standard stream to the null device: a flush that fails when the interpreter
    ends would change the exit code."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)
