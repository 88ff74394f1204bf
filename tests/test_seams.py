"""Where files meet, where the text begins again and where it is split, nothing false is learnt."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import CORPORA, ROOT

import charlstm
from charlstm.cli import main
from charlstm.config.schema import Config, Setting, TextConfig
from charlstm.errors import ConfigError, CorpusError, UsageError
from charlstm.storage.checkpoint import read_checkpoint, write_checkpoint
from charlstm.text.corpus import Corpus, Streams
from charlstm.training.run import Training

NAMES = (CORPORA / "names.txt").read_text(encoding="utf-8")
SMALL = {"model.hidden": 4, "train.steps": 2, "train.workers": 1}


def read(*parts: str, folder: Path, **text: Any) -> tuple[Corpus, str]:
    """The corpus of files with these texts, and its training text."""
    names = [folder / f"{k}.txt" for k in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        name.write_bytes(part.encode())
    corpus = Corpus.from_files(names, TextConfig(**{"valid": 0.0, **text}))
    return corpus, trained_on(corpus)


def trained_on(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.train.tolist())


def lines_of(ring: str) -> set[str]:
    """The lines that a stream meets that reads a text again and again."""
    return set((ring * 3).split("\n")[1:-1])


# --- between files -----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["anna\nbert", "carl\ndora\n"], "anna\nbert\ncarl\ndora\n"),
        (["bert", "carl\ndora\n"], "bert\ncarl\ndora\n"),
        (["anna", "bert", "carl\n"], "anna\nbert\ncarl\n"),
        (["anna\n", "bert", "", "carl"], "anna\nbert\ncarl\n"),
        (["anna\n", "bert\n"], "anna\nbert\n"),
        (["anna", "\nbert"], "anna\nbert\n"),
    ],
)
def test_lines_stay_apart(tmp_path: Path, parts: list[str], expected: str, unit: str) -> None:
    """A break that a file lacks at its end is put in, wherever else the corpus has one."""
    _, text = read(*parts, folder=tmp_path, unit=unit)
    assert text == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["anna\r\nbert", "carl\r\ndora"], "anna\r\nbert\r\ncarl\r\ndora\r\n"),
        (["anna\rbert", "carl\rdora"], "anna\rbert\rcarl\rdora\r"),
        (["anna\r\nbert\r\n", "carl"], "anna\r\nbert\r\ncarl\r\n"),
        (["a\nanna\r", "bert\r"], "a\nanna\rbert\r"),
    ],
)
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_the_line_break_is_that_of_the_corpus(
    tmp_path: Path, parts: list[str], expected: str, unit: str
) -> None:
    assert read(*parts, folder=tmp_path, unit=unit)[1] == expected


def test_no_lines_no_breaks(tmp_path: Path) -> None:
    """A text without line breaks is joined as it is; but words never grow together."""
    assert read("hel", "lo", folder=tmp_path)[1] == "hello"
    assert read("hel", "lo", folder=tmp_path, unit="byte")[1] == "hello"
    assert read("the lamp", "light out", folder=tmp_path, unit="word")[1] == "the lamp light out"


def test_binary_files_are_joined_as_they_are(tmp_path: Path) -> None:
    """A NUL says that bytes are no lines of text."""
    parts = (b"a\0b\n" * 3 + b"x", b"y\n\0z")
    for k, part in enumerate(parts):
        (tmp_path / str(k)).write_bytes(part)
    names = [tmp_path / "0", tmp_path / "1"]
    corpus = Corpus.from_files(names, TextConfig(unit="byte", valid=0.0))
    assert bytes(corpus.train) == b"".join(parts)


def test_the_seam_is_told(tmp_path: Path) -> None:
    """In one line, with the first of the files; not where nothing was put in."""
    corpus, _ = read(*["a\nb"] * 6, folder=tmp_path)
    notice = corpus.notices[0]
    assert notice.startswith(f"{tmp_path / '0.txt'}, {tmp_path / '1.txt'}, {tmp_path / '2.txt'}")
    assert "and 2 more: no line break at the end" in notice
    assert read("a\n", "b\n", folder=tmp_path)[0].notices == []


def test_the_same_file_twice(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("anna\nbert")
    corpus = Corpus.from_files([tmp_path / "a"] * 2, TextConfig(valid=0.0))
    assert trained_on(corpus) == "anna\nbert\nanna\nbert\n"


def test_a_seam_makes_another_corpus(tmp_path: Path) -> None:
    """The digest is of the text that is trained on."""
    one, _ = read("anna\nbert", "carl\n", folder=tmp_path)
    two, _ = read("anna\nbertcarl\n", folder=tmp_path)
    three, _ = read("anna\nbert\ncarl\n", folder=tmp_path)
    assert one.sha256 == three.sha256 != two.sha256


# --- where the text begins again ---------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=9), min_size=2, max_size=400),
    st.sampled_from(["char", "byte", "word"]),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.4]),
)
def test_the_ring_has_no_line_that_the_text_has_not(
    names: list[str], unit: str, ended: bool, valid: float
) -> None:
    """Whether the text ends with a line break or not, and wherever it is split."""
    corpus = Corpus.from_text("\n".join(names) + "\n" * ended, valid, unit=unit)
    assert lines_of(trained_on(corpus)) <= set(names)
    if not len(corpus.valid):
        assert lines_of(trained_on(corpus)) == set(names)


def test_what_the_streams_read() -> None:
    """The list of the issue, read around its end: `emil`, a line end, `anna`."""
    corpus = Corpus.from_text("anna\nbert\nemil")
    segment = Streams(corpus.train, 1, 20).next()[:, 0]
    assert corpus.vocabulary.decode(segment.tolist()) == "anna\nbert\nemil\nanna\nb"


def test_the_held_out_tail_stays_what_it_is() -> None:
    """To a unit the last tenth; the training text loses less than a line."""
    for unit in ("char", "byte", "word"):
        corpus = Corpus.from_text(NAMES, unit=unit)
        whole = corpus.vocabulary.encode(NAMES)
        cut = int(len(whole) * 0.9)
        assert corpus.valid.tolist() == whole[cut:].tolist()
        assert corpus.train.tolist() == whole[: len(corpus.train)].tolist()
        assert cut - 20 < len(corpus.train) <= cut
        assert corpus.train[-1] == corpus.vocabulary.line_end
        assert corpus.split_at == cut


def test_a_long_line_is_not_left_out() -> None:
    """Where the cut line is a great part of the text, it stays."""
    text = "short\n" + "one long line " * 200
    corpus = Corpus.from_text(text)
    assert trained_on(corpus) == text[: int(len(text) * 0.9)]


def test_a_held_out_text_of_its_own_closes_the_ring() -> None:
    corpus = Corpus.from_text("anna\nbert", valid_text="dora\nemil")
    assert trained_on(corpus) == "anna\nbert\n"
    assert corpus.vocabulary.counts.sum() == len("anna\nbert")


def test_a_mapped_text_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.text.ids.IN_MEMORY", 100)
    monkeypatch.setattr("charlstm.text.ids.CHUNK", 64)
    assert trained_on(Corpus.from_text(NAMES[:-1], 0.0)) == NAMES


def test_a_checkpoint_of_an_earlier_version(tmp_path: Path) -> None:
    """It was trained on the cut line too. It is resumed and verified, with a notice, and then is
    like any other; another split is still refused."""
    text, path = tmp_path / "names.txt", tmp_path / "m.npz"
    text.write_text(NAMES)
    for _ in charlstm.train(text, path, settings=SMALL):
        pass
    checkpoint = read_checkpoint(path)
    now = checkpoint.progress.corpus.train
    cut = int(len(NAMES) * 0.9)
    assert now < cut
    older = checkpoint.progress.corpus
    checkpoint.progress.corpus = older._replace(train=cut)
    write_checkpoint(path, checkpoint)
    training = charlstm.train(text, path, settings={"train.steps": 4}, resume=True)
    assert any(f"on {cut:,} units before and on {now:,} now" in n for n in training.notices)
    assert [record.step for record in training] == [3, 4]
    assert read_checkpoint(path).progress.corpus.train == now
    again = charlstm.train(text, path, settings={"train.steps": 5}, resume=True)
    assert not any("before and on" in n for n in again.notices)
    list(again)
    checkpoint.progress.corpus = older._replace(train=cut - 1)
    write_checkpoint(path, checkpoint)
    with pytest.raises(UsageError, match="not the one"):
        charlstm.train(text, path, resume=True)


# --- lines held out ----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
@pytest.mark.parametrize("valid", [0.1, 0.5])
@pytest.mark.parametrize("block", [7, 1 << 19])
def test_lines_are_drawn(
    monkeypatch: pytest.MonkeyPatch, unit: str, valid: float, block: int
) -> None:
    """Whole lines, each in one of the parts, in random order; about the share; however it is
    read."""
    text = NAMES[:6000].rpartition("\n")[0] + "\n"
    whole = Corpus.from_text(text, valid, unit=unit, split="lines")
    monkeypatch.setattr("charlstm.text.reading.BLOCK", block)
    monkeypatch.setattr("charlstm.text.ids.CHUNK", block)
    monkeypatch.setattr("charlstm.text.ids.IN_MEMORY", 500)
    corpus = Corpus.from_text(text, valid, unit=unit, split="lines")
    assert corpus.train.tolist() == whole.train.tolist()
    assert corpus.valid.tolist() == whole.valid.tolist()
    decoded = [corpus.vocabulary.decode(ids.tolist()) for ids in (corpus.train, corpus.valid)]
    kept, held_out = (part.splitlines() for part in decoded)
    assert all(part.endswith("\n") for part in decoded)
    place = {name: n for n, name in enumerate(text.splitlines())}
    for part in (kept, held_out):
        places = [place[name] for name in part]
        assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.25
    assert Counter(kept) + Counter(held_out) == Counter(text.splitlines())
    n = len(kept) + len(held_out)
    assert abs(len(held_out) / n - valid) < 4 * (valid * (1 - valid) / n) ** 0.5


def test_the_seed_draws_them() -> None:
    """Another seed, another share or the tail is another corpus."""
    corpora = [
        Corpus.from_text(NAMES, split="lines"),
        Corpus.from_text(NAMES, split="lines", rng_seed=1),
        Corpus.from_text(NAMES, 0.2, split="lines"),
        Corpus.from_text(NAMES),
    ]
    assert len({corpus.sha256 for corpus in corpora}) == 4
    assert Corpus.from_text(NAMES, split="lines").sha256 == corpora[0].sha256


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_lines_are_shuffled_some_at_a_time(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """Of a large text; no line is cut or lost where the parts meet, be it longer than a part."""
    monkeypatch.setattr("charlstm.text.split.SHUFFLED", 50)
    monkeypatch.setattr("charlstm.text.ids.CHUNK", 64)
    text = NAMES[:2000].rpartition("\n")[0] + "\n" + "a long line " * 20 + "\n" + "emil"
    corpus = Corpus.from_text(text, 0.3, unit=unit, split="lines")
    parts = [corpus.vocabulary.decode(ids.tolist()) for ids in (corpus.train, corpus.valid)]
    expected = [line.rstrip() if unit == "word" else line for line in text.split("\n")]
    assert sorted("".join(parts).splitlines()) == sorted(expected)


def test_a_last_line_without_an_end() -> None:
    """Wherever it goes, the ring has no line that the text has not."""
    for seed in range(30):
        corpus = Corpus.from_text(NAMES[:3000], 0.3, split="lines", rng_seed=seed)
        text = trained_on(corpus)
        assert lines_of(text) <= set(NAMES[:3000].split("\n"))


def test_nothing_to_draw() -> None:
    """A text without lines cannot be split so; one that is too small is trained on as a whole."""
    with pytest.raises(CorpusError, match=r"no lines to hold out; use text\.split=tail"):
        Corpus.from_text("abc" * 1000, split="lines")
    corpus = Corpus.from_text("hello\nworld", split="lines")
    assert trained_on(corpus) == "hello\nworld\n"
    assert "too few" in corpus.notices[0]
    few = Corpus.from_text(("a long line " * 200 + "\n") * 3, 0.01, split="lines")
    assert len(few.valid) == 0
    assert "too few" in few.notices[0]
    with pytest.raises(ConfigError, match="one of tail, lines"):
        Config().updated([Setting("text.split", "head", "here")])


def test_drawn_lines_are_resumed_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run in two parts is the run in one, and the file knows its corpus again."""
    text = tmp_path / "names.txt"
    text.write_text("\n".join(sorted(NAMES.split())) + "\n")
    keys = {**SMALL, "text.split": "lines", "train.rng_seed": 3}
    one, two = tmp_path / "1.npz", tmp_path / "2.npz"
    list(charlstm.train(text, one, settings={**keys, "train.steps": 6}))
    list(charlstm.train(text, two, settings={**keys, "train.steps": 3}))
    list(charlstm.train(text, two, settings={"train.steps": 6}, resume=True))
    assert one.read_bytes() == two.read_bytes()
    assert main(["info", str(two), "--verify", "--corpus", str(text)]) == 0
    capsys.readouterr()
    with pytest.raises(UsageError, match=r"train\.rng_seed is 3"):
        charlstm.train(text, two, settings={"train.rng_seed": 4}, resume=True)
    with pytest.raises(UsageError, match=r"text\.split is 'lines'"):
        charlstm.train(text, two, settings={"text.split": "tail"}, resume=True)


def test_a_fair_sample_of_a_sorted_list() -> None:
    """The lines that are held out begin with the letters of the whole list."""
    names = sorted(NAMES.split())
    drawn = Corpus.from_text("\n".join(names) + "\n", split="lines")
    held_out = drawn.vocabulary.decode(drawn.valid.tolist()).split()
    share = {c: n / len(names) for c, n in Counter(name[0] for name in names).items()}
    found = Counter(name[0] for name in held_out)
    assert sum(abs(found[c] / len(held_out) - share[c]) for c in share) / 2 < 0.15


# --- a tail unlike the rest --------------------------------------------------------------------


def unlike(text: str, **keys: Any) -> bool:
    return any("--set text.split=lines" in n for n in Corpus.from_text(text, **keys).notices)


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_a_sorted_list_is_told(unit: str) -> None:
    names = sorted(NAMES.split())
    for ordered in (names, names[::-1], [name.upper() for name in names]):
        assert unlike("\n".join(ordered), unit=unit)
        assert not unlike("\n".join(ordered), unit=unit, split="lines")
        assert not unlike("\n".join(ordered), unit=unit, valid_text="anna\nbert\n")
    assert not unlike(NAMES, unit=unit)


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_a_sorted_list_of_syllables_is_told(unit: str) -> None:
    """Though few syllables stand in both parts, a list in no order is not."""
    rng = random.Random(0)
    words = ["".join(chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(3)) for _ in range(1500)]
    assert unlike("\n".join(sorted(words)), unit=unit)
    assert not unlike("\n".join(words), unit=unit)


def test_a_sorted_list_that_is_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large text some windows are looked at."""
    monkeypatch.setattr("charlstm.text.split.WINDOW", 500)
    monkeypatch.setattr("charlstm.text.ids.IN_MEMORY", 1000)
    assert unlike("\n".join(sorted(NAMES.split())))
    assert not unlike(NAMES)


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_ordinary_texts_are_alike(unit: str) -> None:
    """Prose, code, documents and logs have tails like the rest."""
    texts = [
        (CORPORA / name).read_text(encoding="utf-8")
        for name in ("lighthouse.txt", "ferry.txt", "names.txt", "reber.txt")
    ]
    texts.append("".join(p.read_text(encoding="utf-8") for p in (ROOT / "charlstm").glob("*.py")))
    texts += [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CHANGELOG.md")]
    rng = random.Random(0)
    minutes = [(h, m) for h in range(24) for m in range(60)]
    texts.append("".join(f"{h:02}:{m:02} GET /{rng.randrange(99)}\n" for h, m in minutes))
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    log = "host sshd: failed password for root from 10.0.0."
    texts.append(
        "".join(f"{mo} {d:02} {log}{rng.randrange(99)}\n" for mo in months for d in range(28))
    )
    for text in texts:
        assert not unlike(text, unit=unit), text[:60]


# --- a held-out text with other characters -----------------------------------------------------


def test_characters_that_the_corpus_lacks() -> None:
    """How many, and of how many; words that are `<unk>` in the text itself do not count."""
    corpus = Corpus.from_text("abc" * 100, valid_text="abxyzc")
    assert corpus.notices == [
        "3 of the 6 characters of the held-out text are outside the vocabulary"
    ]
    words = Corpus.from_text("a b c\n" * 9, valid_text="a <unk> zebra\nb", unit="word")
    assert words.notices == ["1 of the 5 words of the held-out text are outside the vocabulary"]
    assert Corpus.from_text("abc" * 9, valid_text="cab").notices == []
    assert Corpus.from_text("abc" * 9, valid_text="xyz", unit="byte").notices == []


# --- time --------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """Lines without an end, as `yes` writes them."""

    at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        text, n = "억수는 배를 저었다\n".encode(), len(buffer)
        buffer[:] = (text * (n // len(text) + 2))[self.at : self.at + n]
        self.at = (self.at + n) % len(text)
        return n


def test_time_counts_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A corpus without an end gives a model in time; a character that the end cuts is left out,
    and so is the line."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(Endless())))
    monkeypatch.setattr("charlstm.text.reading.BLOCK", 10007)
    began = time.monotonic()
    model = tmp_path / "m.npz"
    limits = ["--max-time", "1s", "--set", "model.hidden=4", "--set", "text.valid=0"]
    assert main(["train", "-", "-o", str(model), *limits]) == 0
    assert time.monotonic() - began < 5
    said = capsys.readouterr().err
    assert "standard input: stopped reading after " in said
    assert "another run may read more or less" in said
    checkpoint = read_checkpoint(model)
    assert checkpoint.progress.step > 0
    assert checkpoint.progress.corpus.train % len("억수는 배를 저었다\n") == 0


@pytest.mark.skipif(os.name != "posix", reason="pipes cannot be waited for here")
def test_a_pipe_that_stays_silent(tmp_path: Path) -> None:
    """What came so far is the corpus, though the pipe is not closed."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"anna\nbert\nem")
    command = [sys.executable, "-m", "charlstm", "train", "-", "-o", str(tmp_path / "m.npz")]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--max-time", "2s"], stdin=read_end, capture_output=True, timeout=60, check=True
    )
    os.close(read_end)
    os.close(write_end)
    assert time.monotonic() - began < 30
    assert b"stopped reading after 12 bytes" in done.stderr
    assert charlstm.load(tmp_path / "m.npz").checkpoint.progress.corpus.train == 10


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names here")
def test_the_files_after_it_are_not_read(tmp_path: Path) -> None:
    """Time is over for all of them; with time enough all are read to their ends."""
    pipe, other = tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(pipe)
    other.write_text("dora\n")
    held = threading.Event()

    def write() -> None:
        with open(pipe, "wb") as file:
            file.write(b"anna\nbert\n")
            file.flush()
            held.wait(20)

    writer = threading.Thread(target=write)
    writer.start()
    said: list[str] = []
    corpus = Corpus.from_files([pipe, other], TextConfig(), None, said.append, seconds=1.0)
    held.set()
    writer.join()
    assert trained_on(corpus) == "anna\nbert\n"
    assert len(said) == 1
    both = Corpus.from_files([other, other], TextConfig(), None, said.append, seconds=60.0)
    assert trained_on(both) == "dora\ndora\n"
    assert len(said) == 1


def test_what_reading_took_is_not_left_for_training(tmp_path: Path) -> None:
    """The limit is on both together."""
    (tmp_path / "c").write_text(NAMES)
    training = charlstm.train(
        tmp_path / "c", settings={**SMALL, "train.steps": None, "train.max_time": "1h"}
    )
    assert 0 < training.spent < 60
    training.spent = 3600.0
    assert list(training) == []


def test_long_reading_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then, not for every block."""
    monkeypatch.setattr("charlstm.text.reading.NOTICE_AFTER", 0.0)
    monkeypatch.setattr("charlstm.text.reading.NOTICE_EVERY", 1000.0)
    monkeypatch.setattr("charlstm.text.reading.BLOCK", 1000)
    (tmp_path / "c").write_text(NAMES)
    said: list[str] = []
    Corpus.from_files([tmp_path / "c"], notice=said.append)
    assert said == [f"{tmp_path / 'c'}: reading, 0 MB so far"]


def test_a_corpus_that_time_cut_is_another(tmp_path: Path) -> None:
    """So a run on it is not resumed by mistake."""
    whole = Corpus.from_text(NAMES)
    cut = Corpus.from_text(NAMES[:20000])
    config = Config().updated(Setting(k, v, "test") for k, v in SMALL.items())
    training = Training.start(cut, config, tmp_path / "m.npz")
    list(training)
    with pytest.raises(UsageError, match="not the one"):
        Training.resume(whole, read_checkpoint(tmp_path / "m.npz"))
    assert dataclasses.asdict(training.config)["text"]["split"] == "tail"
    assert np.array_equal(cut.train, whole.train[: len(cut.train)])
