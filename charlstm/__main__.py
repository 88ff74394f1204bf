"""The `charlstm` command, also as `python -m charlstm`."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # while what it needs is still being loaded, Ctrl-C ends the command without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from charlstm.cli import main


def run() -> None:
    """Run the command line and end with its exit code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
