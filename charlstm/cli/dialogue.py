"""`sample --interactive`: a beginning is typed, continuations are shown, and one goes on."""

import contextlib
import sys

from charlstm.cli.seeds import Request, unescape
from charlstm.cli.streams import notice, terminal, valid_utf8, write
from charlstm.errors import CharLSTMError, UsageError
from charlstm.text.visible import harmless

CONTINUATIONS = 3
"""How many are shown where no count is given."""

TAIL = 24
"""Characters of what stands before a continuation that are shown with it, at most."""

HELP = """\
TEXT     a beginning; \\n, \\t and \\\\ are understood
         (nothing) other continuations of the same text
2        continue from continuation 2
:s TEXT  a beginning that looks like a number or a command
:t 0.7   temperature
:l 80    length
:c 5     continuations
:p       print the text so far
:h       this help
:q       end (or Ctrl-D); Ctrl-C empties the line
"""

SETTINGS = {":t": "sample.temperature", ":l": "sample.length", ":c": "sample.count"}


class Dialogue:
    """Reads lines from standard input, at a terminal with a prompt and a history in memory, until
    they end. A bad line gets a one-line error, and the next one is read."""

    def __init__(self, request: Request) -> None:
        self.request, self.language = request, request.language
        self.text = ""
        self.shown: list[str] = []  # the continuations to choose from
        self.made = 0  # continuations so far: each has random numbers of its own

    def run(self, text: str | None) -> None:
        """Continue a text, if there is one, and then what is typed."""
        asks, talks = terminal(sys.stdin), terminal(sys.stdin) and terminal(sys.stdout)
        if sys.stdin is None:
            raise UsageError("standard input is closed; there is nothing to read a beginning from")
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        if talks:
            with contextlib.suppress(ImportError):  # then a line is edited as the terminal does
                import readline  # noqa: F401
        if asks:
            notice("type a beginning; :h helps, :q or Ctrl-D ends")
        going = True
        while going:
            try:
                if text is not None:
                    self._continue(text)
                elif (line := self._line(talks, asks)) is None or not self._obey(line):
                    going = False
            except KeyboardInterrupt:
                if not asks:
                    raise
                write("\n")
            except CharLSTMError as e:
                notice(str(e))
            text = None

    def _line(self, talks: bool, asks: bool) -> str | None:
        """The next line, or None where there are no more."""
        prompt = f"1-{len(self.shown)}, TEXT or :h> " if self.shown else "TEXT or :h> "
        if asks and not talks:  # standard output is for results, not for prompts
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(prompt)
                sys.stderr.flush()
        try:
            return input(prompt if talks else "")
        except EOFError:
            if asks:
                write("\n")
            return None

    def _obey(self, line: str) -> bool:
        """Do what a line says; return whether to continue."""
        from charlstm.config.sources import setting_from_option

        command, _, value = line.strip().partition(" ")
        if command == ":q" and not value:
            return False
        if command == ":h" and not value:
            write(HELP)
        elif command == ":p" and not value:
            write(harmless(valid_utf8(self.text)) + "\n")
        elif command == ":s":
            self._continue(unescape(line.lstrip()[3:]))
        elif command in SETTINGS:
            setting = setting_from_option(SETTINGS[command], value.strip(), command)
            self.language.config = self.language.config.updated([setting])
        elif line.startswith(":"):
            raise UsageError(f"{command} is no command; :h tells which are, :s TEXT begins so")
        elif command.isascii() and command.isdigit() and not value:
            numbers = [str(n) for n in range(1, len(self.shown) + 1)]
            if command not in numbers:
                there = f"1 to {numbers[-1]}" if numbers else "none yet"
                raise UsageError(
                    f"no continuation {command}: there are {there}; :s {command} begins so"
                )
            self._continue(self.text + self.shown[numbers.index(command)])
        else:
            self._continue(unescape(line) or self.text)
        return True

    def _continue(self, text: str) -> None:
        """Show continuations of a text, which from here on is the one to go on from."""
        text = self.request.known(text, "the text")
        seed = self.language.seed(text, "the beginning")
        count = self.language.config.sample.count
        last = seed._replace(ids=seed.ids[-1:])
        completions = self.request.sampler(seed.ids[:-1])([last] * count, self.made)
        self.made += count
        self.shown, self.text = [completion.text for completion in completions], text
        line = text.rpartition("\n")[2]
        tail = line if len(line) <= TAIL else f"…{line[1 - TAIL :]}"
        width = len(str(count))
        for number, continuation in enumerate(self.shown, 1):
            shown = harmless(valid_utf8(tail + continuation))  # for a terminal, which may obey it
            shown = shown.replace("\n", "\n" + " " * (width + 2))
            write(f"{number:>{width}}  {shown}\n")
