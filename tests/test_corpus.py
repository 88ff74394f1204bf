"""Text becomes ids without a character changed, lost or read twice."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import records
from texts import (
    closed,
    digest_of,
    joined,
    line_break_of,
    mapped,
    sizes_of,
    split,
    texts,
    vocabulary_of,
)

from charlstm.cli import main
from charlstm.config.schema import Config, Setting, TextConfig
from charlstm.errors import CorpusError, OutputError, VocabularyError
from charlstm.text.corpus import CUT_PART, MIN_HELD_OUT, Corpus
from charlstm.text.vocabulary import UNKNOWN
from charlstm.training.run import Training


@settings(max_examples=100, deadline=None)
@given(texts)
def test_vocabulary(text: str) -> None:
    """Characters in the order of code points, counted, each with its place as its id."""
    v = vocabulary_of(text)
    assert v.units == sorted(set(text))
    assert v.counts.tolist() == [text.count(c) for c in v.units]
    assert len(v) == len(set(text))
    ids = v.encode(text)
    assert ids.dtype == np.int32
    assert [v.units[i] for i in ids] == list(text)
    assert v.decode(ids) == text
    assert v.encode_strictly(text, "it").tolist() == ids.tolist()


def test_emoji_and_planes() -> None:
    """A character is a code point, also beyond the first plane and up to the very last."""
    text = "a😀\U0010ffff한e\u0301😀"
    v = vocabulary_of(text)
    assert v.units == ["a", "e", "\u0301", "한", "😀", "\U0010ffff"]
    assert v.counts.tolist() == [1, 1, 1, 1, 2, 1]
    assert v.decode(v.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_unknown(known: str, text: str) -> None:
    """Whatever is not in the vocabulary is `UNKNOWN`, nothing else is."""
    v = vocabulary_of(known)
    ids = v.encode(text)
    assert [i == UNKNOWN for i in ids] == [c not in known for c in text]
    assert [c in v for c in text] == [c in known for c in text]


def test_unknown_around_the_edges() -> None:
    """Below, between, just above and far above the known characters."""
    v = vocabulary_of("bd")
    assert v.encode("abcde\U0010ffff\0").tolist() == [-1, 0, -1, 1, -1, -1, -1]
    assert v.encode("").tolist() == []


def test_strict_message() -> None:
    """The message names what is encoded, the characters and their places, five at most."""
    v = vocabulary_of("abc")
    with pytest.raises(VocabularyError) as caught:
        v.encode_strictly("aXb\nc", "the seed")
    message = str(caught.value)
    assert message.startswith("the seed has characters outside")
    assert "'X' at position 1, '\\n' at position 3;" in message
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 2
    with pytest.raises(VocabularyError, match=r"position 4 and 7 more;"):
        v.encode_strictly("zzzzzzzzzzzz", "it")


@pytest.mark.parametrize("N", [1000, 1001, 1003, 1009, 1999, 12345])
def test_split(N: int) -> None:
    """The first int(0.9 N) characters are learnt from, the rest is held out."""
    corpus, text = split(N)
    cut = int(0.9 * N)
    assert corpus.vocabulary.decode(corpus.train) == text[:cut]
    assert corpus.vocabulary.decode(corpus.valid) == text[cut:]
    assert corpus.notices == []


@pytest.mark.parametrize("valid", [0.05, 0.25, 0.5, 0.9])
def test_other_shares(valid: float) -> None:
    """Another share is that share, to a character, and nothing is lost between."""
    corpus, text = split(4000, valid)
    assert abs(len(corpus.valid) - 4000 * valid) <= 1
    assert corpus.vocabulary.decode([*corpus.train, *corpus.valid]) == text


def test_nothing_held_out() -> None:
    """A share of zero holds nothing out, without a notice."""
    corpus, text = split(5000, 0.0)
    assert corpus.vocabulary.decode(corpus.train) == text
    assert len(corpus.valid) == 0
    assert corpus.notices == []


def test_small_corpora() -> None:
    """Too short a tail is not held out but learnt from, and a notice says so."""
    N = 10 * MIN_HELD_OUT
    enough, _ = split(N)
    assert len(enough.valid) == MIN_HELD_OUT
    corpus, text = split(N - 10)
    assert corpus.vocabulary.decode(corpus.train) == text
    assert len(corpus.valid) == 0
    assert len(corpus.notices) == 1
    assert "990 characters" in corpus.notices[0]
    hello = Corpus.from_text("hello")
    assert hello.vocabulary.decode(hello.train) == "hello"
    assert Corpus.from_text("aa").train.tolist() == [0, 0]


@pytest.mark.parametrize("text", ["", "a", "한"])
def test_too_small(text: str) -> None:
    """Nothing, and one character, cannot be learnt from (exit 3)."""
    with pytest.raises(CorpusError, match=r"two") as caught:
        Corpus.from_text(text)
    assert caught.value.exit_code == 3


def test_held_out_text_from_elsewhere(tmp_path: Path) -> None:
    """A held-out text leaves the corpus whole; its strange characters stay unknown."""
    (tmp_path / "a").write_text("abcabc" * 200)
    (tmp_path / "b").write_text("abxba")
    corpus = Corpus.from_files([tmp_path / "a"], valid_source=tmp_path / "b")
    assert len(corpus.train) == 1200
    assert corpus.vocabulary.units == ["a", "b", "c"]
    assert corpus.valid.tolist() == [0, 1, UNKNOWN, 1, 0]
    (tmp_path / "b").write_text("a")
    with pytest.raises(CorpusError, match="held-out"):
        Corpus.from_files([tmp_path / "a"], valid_source=tmp_path / "b")


def test_vocabulary_is_of_the_whole_text() -> None:
    """A character that only the tail has is known."""
    corpus = Corpus.from_text("ab" * 1000 + "z" * 10)
    assert corpus.vocabulary.units == ["a", "b", "z"]
    assert corpus.vocabulary.counts.tolist() == [1000, 1000, 10]
    assert 2 not in corpus.train
    assert 2 in corpus.valid


@pytest.mark.parametrize(
    ("V", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)]
)
def test_smallest_type(V: int, dtype: type[np.generic]) -> None:
    """The training text takes one, two or four bytes a character, as many as it needs."""
    text = "".join(map(chr, range(0x10000, 0x10000 + V)))
    corpus = Corpus.from_text(text, 0.0)
    assert corpus.train.dtype == dtype
    assert corpus.train.tolist() == list(range(V))


def test_digest_tells_corpora_apart() -> None:
    """One character, a held-out text or the order of files makes another corpus."""
    text = "abc" * 500
    digests = [
        Corpus.from_text(text).sha256,
        Corpus.from_text(text[:-1] + "a").sha256,
        Corpus.from_text("c" + text[:-1]).sha256,
        Corpus.from_text(text, valid_text="abc").sha256,
        Corpus.from_text(text, valid_text="abcd").sha256,
    ]
    assert len(set(digests)) == len(digests)
    assert Corpus.from_text(text).sha256 == digests[0]


def test_digest_is_the_one_that_checkpoints_have() -> None:
    """It does not change from version to version: it stands in the files of users."""
    assert Corpus.from_text("abc한😀").sha256 == digest_of("abc한😀")
    assert Corpus.from_text("abc", valid_text="xyz").sha256 == digest_of("abc", "xyz")
    assert digest_of("hello", "hell") == (
        "7af24647a37b76b26449e9369a6a3d175054d25a2aa9f85b51cac05ce874d4d9"
    )


wide = st.one_of(
    texts,
    # so many characters that their numbers outgrow a byte on the way, and seldom at its edge
    st.builds(
        lambda before, low, n, after: before + "".join(map(chr, range(low, low + n))) + after,
        *(texts, st.integers(0xAC00, 0xB000), st.integers(240, 600), texts),
    ),
)
"""Texts with few and with many characters."""


@settings(max_examples=200, deadline=None)
@given(
    st.lists(wide, min_size=1, max_size=4),
    st.none() | wide,
    st.integers(1, 300),
    st.sampled_from([0, 50, 1000, 1 << 20]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_in_blocks_as_in_one(
    parts: list[str], held_out: str | None, block: int, in_memory: int, valid: float
) -> None:
    """Files in blocks of any size, in memory or mapped, give what the plain definition gives."""
    text = joined([part.removeprefix("\ufeff") for part in parts])
    if len(text) < 2 or (held_out is not None and len(held_out.removeprefix("\ufeff")) < 2):
        return
    sizes = sizes_of(BLOCK=block, IN_MEMORY=in_memory)
    with tempfile.TemporaryDirectory() as folder, sizes:
        names = [Path(folder, str(k)) for k in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            name.write_bytes(part.encode())
        held_out_name = None
        if held_out is not None:
            held_out_name = Path(folder, "held out")
            held_out_name.write_bytes(held_out.encode())
            held_out = held_out.removeprefix("\ufeff")
        corpus = Corpus.from_files(names, TextConfig(valid=valid), held_out_name)
        same = Corpus.from_text(text, valid, held_out)
    characters = sorted(set(text))
    ids = [characters.index(c) for c in text]
    cut = len(text) if held_out is not None else int(len(text) * (1.0 - valid))
    trained_on = text[:cut]
    if len(text) - cut < MIN_HELD_OUT:
        cut, trained_on = len(text), closed(text)
    elif line_break := line_break_of(text)[-1:]:
        end = trained_on.rfind(line_break) + 1
        trained_on = trained_on[:end] if cut - end < cut // CUT_PART else trained_on
    expected = ids[cut:]
    if held_out is not None:
        expected = [characters.index(c) if c in characters else UNKNOWN for c in held_out]
    for c in (corpus, same):
        assert c.vocabulary.units == characters
        assert c.vocabulary.counts.tolist() == [text.count(c) for c in characters]
        assert c.train.dtype == (np.uint8 if len(characters) <= 256 else np.uint16)
        assert c.train.tolist() == [characters.index(x) for x in trained_on]
        assert c.valid.tolist() == expected
        assert c.sha256 == digest_of(text, held_out)
        stored = max(len(text), len(trained_on))
        assert mapped(c.train) == (stored * c.train.itemsize > in_memory)


@pytest.mark.parametrize(
    ("V", "dtype"), [(128, np.int8), (129, np.int16), (32768, np.int16), (32769, np.int32)]
)
def test_smallest_type_of_a_held_out_text(V: int, dtype: type[np.generic]) -> None:
    """A held-out text of its own has room for every id and for `UNKNOWN`."""
    text = "".join(map(chr, range(0x10000, 0x10000 + V)))
    corpus = Corpus.from_text(text, valid_text=text + "a")
    assert corpus.valid.dtype == dtype
    assert corpus.valid.tolist() == [*range(V), UNKNOWN]


def test_from_one_to_two_to_four_bytes() -> None:
    """Numbers outgrow their type twice on the way, in memory and on disk."""
    text = "z" * 300 + "".join(map(chr, range(0x20000, 0x20000 + 66000))) + "a" * 300
    for in_memory in (0, 200, 100_000, 1 << 26):
        with sizes_of(BLOCK=97, IN_MEMORY=in_memory):
            corpus = Corpus.from_text(text, 0.0)
        assert corpus.train.dtype == np.uint32
        assert corpus.train.tolist() == [1] * 300 + list(range(2, 66002)) + [0] * 300
        assert mapped(corpus.train) == (in_memory < 1 << 26)


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file has no name, neither while the corpus is read nor while it is used;
    interrupting leaves nothing either."""
    if os.name != "posix":
        pytest.skip("files in use have names here")
    text, folder = tmp_path / "text", tmp_path / "temporary"
    text.write_text("abc" * 1000)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    seen: list[list[str]] = []

    def interrupt(places: Any) -> Any:
        seen.append(os.listdir(folder))
        if len(seen) > 200:
            raise KeyboardInterrupt
        return bincount(places)

    bincount = np.bincount
    monkeypatch.setattr(np, "bincount", interrupt)
    with sizes_of(BLOCK=20, IN_MEMORY=100):
        corpus = Corpus.from_files([text])
        assert mapped(corpus.train)
        assert mapped(corpus.valid)
        assert os.listdir(folder) == []
        with pytest.raises(KeyboardInterrupt):
            Corpus.from_files([text])
    assert os.listdir(folder) == []
    assert not any(seen)


@pytest.mark.skipif(os.name != "posix", reason="a file in use cannot be changed here")
@pytest.mark.parametrize("change", ["cut short", "overwritten", "removed"])
def test_a_file_that_changes_under_a_run(tmp_path: Path, change: str) -> None:
    """What is mapped is a copy of its own: training goes on, to the same bits."""
    text = tmp_path / "text"
    text.write_text("abcd" * 1000)
    keys = [Setting("train.steps", 6, "test"), Setting("train.workers", 1, "test")]
    losses: list[list[float]] = []
    for changed in (False, True):
        with sizes_of(BLOCK=500, IN_MEMORY=100):
            corpus = Corpus.from_files([text])
        assert mapped(corpus.train)
        training = Training.start(corpus, Config().updated(keys))
        losses.append([])
        for record in records(training):
            losses[-1].append(record.train)
            if changed and record.step == 2:
                if change == "removed":
                    text.unlink()
                else:
                    text.write_bytes(b"z" * 4000 if change == "overwritten" else b"")
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names here")
def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    """It is read like a file; a second time, when nobody writes, it would be waited for."""
    pipe, text = tmp_path / "pipe", "a pipe 한글\n" * 3000
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,), kwargs={"encoding": "utf-8"})
    writer.start()
    corpus = Corpus.from_files([pipe])
    writer.join()
    assert corpus.sha256 == Corpus.from_text(text).sha256


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line: that it may have no end, or that it is empty."""
    for name, part in (
        ("/dev/zero", "/dev/zero: is a device, which may have no end"),
        (os.devnull, "empty"),
    ):
        assert main(["train", name, "-o", str(tmp_path / "m.npz")]) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("charlstm: error: ")
        assert part in line
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A temporary file that finds no room is one line that tells what to do, and exit code 6."""
    text = tmp_path / "text"
    text.write_text("abc" * 1000)
    full = lambda **arguments: open("/dev/full", "w+b")  # noqa: E731, SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    for block in (20, 1 << 20):  # found while writing, and only at the end
        with sizes_of(BLOCK=block, IN_MEMORY=100):
            with pytest.raises(OutputError, match=r"temporary file.*No space left.*TMPDIR"):
                Corpus.from_files([text])
            assert main(["train", str(text), "-o", str(tmp_path / "m.npz")]) == 6
        message = capsys.readouterr().err
        assert message.startswith("charlstm: error: ")
        assert message.count("\n") == 1


def test_no_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nowhere to write, a small text needs nothing and a large one says so."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(tempfile, "_sanitize_params", lambda *arguments: nowhere())
    assert len(Corpus.from_text("abc").train) == 3
    with sizes_of(IN_MEMORY=2), pytest.raises(OutputError, match="No usable temporary directory"):
        Corpus.from_text("abc")
