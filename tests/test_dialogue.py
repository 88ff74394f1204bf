"""`sample --interactive`: what is typed is continued, piped in or at a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import CORPORA, POLYGLOT, ROOT, every_unit, fails, run, trained

import charlstm
from charlstm.cli.streams import valid_utf8
from charlstm.text.visible import harmless


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = (CORPORA / "ferry.txt").read_text(encoding="utf-8")
    return trained(tmp_path_factory.mktemp("ko") / "m.npz", corpus, 25)


def talk(model: Path, typed: str, *options: str | Path) -> tuple[list[str], list[str]]:
    """What a dialogue prints on standard output and on standard error."""
    process = run("sample", "--interactive", "-m", model, *options, stdin=typed)
    assert process.returncode == 0, process.stderr
    return process.stdout.decode().splitlines(), process.stderr.decode().splitlines()


def test_going_on_from_a_number(korean: Path) -> None:
    """The text grows by the continuation that is chosen; the greedy one is that of `sample`."""
    out, err = talk(korean, "나루\n1\n2\n:p\n", "-t", "0", "-n", "5", "--stop", r"\n")
    assert err == []
    text, expected = "나루", []
    for _ in range(3):
        text += "".join(charlstm.load(korean).sample(text, temperature=0, length=5, stop=["\n"]))
        expected += [f"{n}  {text}" for n in (1, 2, 3)]
    assert out == [*expected, expected[5][3:]]


def test_chance(korean: Path) -> None:
    """The same number gives the same dialogue, in which no continuations are those before."""
    typed = "억수는\n\n1\n"
    options = ("-n", "20", "--rng-seed", "3", "--count", "4")
    out, _ = talk(korean, typed, *options)
    assert out == talk(korean, typed, *options)[0]
    assert out != talk(korean, typed, *options[:3], "4", *options[4:])[0]
    numbered = [line for line in out if re.match(r"\d  ", line)]
    assert [line[0] for line in numbered] == [*"1234"] * 3
    assert len({line[1:] for line in numbered}) == 12


def test_settings(korean: Path) -> None:
    """They are changed on the way; what is wrong is told in one line, and the dialogue goes on."""
    typed = ":l 4\n:t 0\n:c 2\n나\n:t -1\n:t\n:l much\n:x\n9\n나q한\n\n:s :q\n:h\n"
    out, err = talk(korean, typed)
    assert [len(line) for line in out[:4]] == [8] * 4
    assert out[0][3:] == out[1][3:] == out[2][3:]
    parts = [":t: sample.temperature", ":t: sample.temp", ":l: sample.length", ":x is no command"]
    parts += ["no continuation 9: there are 1 to 2", "'q' at position 1", "':' at position 0"]
    assert len(err) == len(parts)
    for line, part in zip(err, parts, strict=True):
        assert line.startswith("charlstm: ")
        assert part in line
    assert out[4].startswith("TEXT ")
    assert talk(korean, ":q\n나\n")[0] == []
    assert "none yet" in talk(korean, "1\n")[1][0]


def test_a_beginning_from_the_options(korean: Path, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("억수는\n그는", encoding="utf-8")
    out, _ = talk(korean, "", "--seed-file", tmp_path / "t", "-n", "3", "--stop", r"\n")
    assert [line[:5] for line in out] == ["1  그는", "2  그는", "3  그는"]
    out, err = talk(korean, ":p\n", "--seed", "q나", "--unknown", "skip", "-n", "1")
    assert out[-1] == "나"
    assert "skipped 1 character of the text" in err[0]
    assert talk(korean, "", "--set", "sample.count=2", "--seed", "나", "-n", "0")[0] == [
        *("1  나", "2  나")
    ]


@every_unit
def test_of_every_unit(unit: str, tmp_path: Path) -> None:
    """Hangul, an emoji and Hebrew, gone on from, byte by byte too; nothing typed as well."""
    sets = {"text.unit": unit, "text.valid": 0.0}
    model = trained(tmp_path / "m.npz", POLYGLOT, 40, **sets)
    typed = ":s\n1\n:p\n배가 🚢\n1\n2\n:p\nשלום\n3\n:p\n"
    out, err = talk(model, typed, "-n", "7", "--stop", r"\n", "--rng-seed", "1")
    assert err == []
    assert [len(out), out[14][3:].startswith("배가 🚢")] == [24, True]
    assert out[16].startswith("배가 🚢")
    assert out[23].startswith("שלום")


def test_a_long_line_is_shown_by_its_end(korean: Path) -> None:
    out, _ = talk(korean, "나루" * 30 + "\n나\\n억수\n", "-n", "0", "--count", "1")
    assert out == ["1  …" + ("나루" * 30)[-23:], "1  억수"]


def test_what_a_terminal_would_obey() -> None:
    assert (
        harmless(valid_utf8("a\x1b[31m\t\n\x9b가\u200d🚢\udcff"))
        == "a\\x1b[31m\t\n\\x9b가\u200d🚢�"
    )


@pytest.mark.parametrize(
    "options",
    [
        *(["--each"], ["--beam", "2"], ["--best-of", "2"], ["--unique"], ["--novel", "x"]),
        *(["--match", "a"], ["--json"], ["--no-echo"], ["--separator", "x"]),
        ["--seed-file", "-"],
    ],
)
def test_options_that_do_not_go_together(options: list[str]) -> None:
    fails(run("sample", "--interactive", *options), 2, "--interactive")


@pytest.mark.whole
def test_no_standard_input(korean: Path) -> None:
    command = f"{sys.executable} -m charlstm sample --interactive -m {korean} 0<&-"
    process = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=60)
    fails(process, 2, "standard input is closed")


class Terminal:
    """The command at a pseudo-terminal, whose Ctrl-C and Ctrl-D are its signals and its end."""

    def __init__(self, *arguments: str | Path) -> None:
        pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
        fcntl = pytest.importorskip("fcntl")
        self.master, slave = pty.openpty()
        self.seen = b""

        def begin() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever we inherited
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "charlstm", "sample", "--interactive", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**os.environ, "TERM": "tmux-256color", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            preexec_fn=begin,
        )
        os.close(slave)

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, part: str, again: str = "") -> str:
        """What appears up to a text, which is to come, and that text. While nothing comes, a key
        may be pressed `again`."""
        deadline = time.monotonic() + 30
        while part.encode() not in self.seen:
            left = max(0.0, deadline - time.monotonic())
            if again and not select.select([self.master], [], [], 1.0)[0]:
                self.send(again)
            assert select.select([self.master], [], [], left)[0], self.seen
            block = b""
            with contextlib.suppress(OSError):  # how Linux says that the other end is closed
                block = os.read(self.master, 4096)
            assert block, self.seen
            self.seen += block
        before, found, self.seen = self.seen.partition(part.encode())
        return (before + found).decode("utf-8", "replace")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.mark.whole
def test_at_a_terminal(korean: Path) -> None:
    """A prompt; a line that is edited and come back to; Ctrl-C empties it; Ctrl-D ends, with 0."""
    with Terminal("-m", korean, "-n", "4", "--stop", r"\n", "-t", "0") as terminal:
        terminal.until("TEXT or :h> ")
        terminal.send("나루\r")
        shown = terminal.until("1-3, TEXT or :h> ")
        assert re.search("3  나루.{0,4}\r\n", shown)
        terminal.send("never to be")
        terminal.until("never to be")
        # the interpreter loses a Ctrl-C that comes just before it waits for a key
        terminal.send("\x03")
        terminal.until("1-3, TEXT or :h> ", again="\x03")
        terminal.send("한q\r")
        assert "'q' at position" in terminal.until("1-3, TEXT or :h> ")
        terminal.send(":p\r")
        assert "never" not in terminal.until("1-3, TEXT or :h> ")
        try:
            import readline  # noqa: F401
        except ImportError:
            pass
        else:
            terminal.send("\x1b[A\x1b[A\x1b[A\r")  # three lines back, to the beginning
            terminal.until("\r\n3  나루")
            terminal.until("> ")
        terminal.send("\x04")
        assert terminal.process.wait(timeout=60) == 0


@pytest.mark.whole
def test_ctrl_c_where_nothing_is_asked(korean: Path) -> None:
    """Without a terminal to ask again, it ends the program."""
    with subprocess.Popen(
        [sys.executable, "-m", "charlstm", "sample", "--interactive", "-m", str(korean)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whatever we inherited
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("나\n".encode())
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"1  ")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
