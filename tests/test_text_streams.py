"""The streams of training, other units, and normal forms."""

from __future__ import annotations

import itertools
import mmap
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from texts import closed, digest_of, joined, mapped, sizes, sizes_of, texts

from charlstm.config.schema import TextConfig
from charlstm.errors import CorpusError, VocabularyError
from charlstm.text.corpus import Corpus, Streams
from charlstm.text.normal_forms import begins_anew, normalised, normalised_blocks
from charlstm.text.reading import read_text
from charlstm.text.vocabulary import UNKNOWN


@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(0, 200))
def test_streams(size: tuple[int, int, int], position: int) -> None:
    """Stream b reads the ring from b N / B on; inputs and targets are neighbours; segments join."""
    N, B, T = size
    streams = Streams(np.arange(N, dtype=np.uint8), B, T, position)
    last: Any = None
    for k in range(4):
        segment = streams.next()
        assert segment.shape == (T + 1, B)
        assert segment.dtype == np.intp
        expected = [
            [(b * N // B + position + k * T + t) % N for b in range(B)] for t in range(T + 1)
        ]
        assert segment.tolist() == expected
        if last is not None:
            assert segment[0].tolist() == last.tolist()
        last = segment[-1]
        assert streams.position == position + (k + 1) * T


@settings(max_examples=100, deadline=None)
@given(sizes)
def test_every_character_is_used(size: tuple[int, int, int]) -> None:
    """After N / B characters of each stream, each character has been an input and a target."""
    N, B, T = size
    streams = Streams(np.arange(N, dtype=np.uint8), B, T)
    inputs: set[int] = set()
    targets: set[int] = set()
    while streams.position < -(-N // B):
        segment = streams.next()
        inputs.update(segment[:-1].reshape(-1).tolist())
        targets.update(segment[1:].reshape(-1).tolist())
    assert inputs == targets == set(range(N))


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(0, 10), st.integers(1, 5))
def test_position_resumes(size: tuple[int, int, int], before: int, after: int) -> None:
    """From its position alone a reader goes on exactly, across the end of the ring too."""
    N, B, T = size
    ids = np.random.default_rng(0).integers(0, 200, N).astype(np.uint8)
    straight = Streams(ids, B, T)
    for _ in range(before):
        straight.next()
    resumed = Streams(ids, B, T, straight.position)
    for _ in range(after):
        assert resumed.next().tolist() == straight.next().tolist()
    assert resumed.position == straight.position


def test_position_beyond_the_integers_of_the_machine() -> None:
    """A run that has read more than 2^63 characters still reads."""
    N, position = 7, 2**70
    segment = Streams(np.arange(N, dtype=np.uint8), 1, 3, position).next()
    assert segment[:, 0].tolist() == [(position + t) % N for t in range(4)]


def test_a_mapped_text_is_read_alike() -> None:
    """From a mapped file come the same segments, whose pages are let go on the way."""
    text = "".join(map(chr, range(97, 110))) * 500
    with sizes_of(IN_MEMORY=100, RESIDENT=50):
        on_disk = Corpus.from_text(text).train
        in_memory = np.array(on_disk)
        assert mapped(on_disk)
        assert not on_disk.flags.writeable
        some, others = Streams(on_disk, 3, 7, 5000), Streams(in_memory, 3, 7, 5000)
        for _ in range(1000):
            assert np.array_equal(some.next(), others.next())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_are_let_go() -> None:
    """Reading all of a mapped text keeps little of it resident."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    N = 1 << 26
    with sizes_of(IN_MEMORY=1 << 20, RESIDENT=1 << 20):
        ids = Corpus.from_text("ab" * (N // 2), 0.0).train
        assert mapped(ids)
        streams = Streams(ids, 8, 1 << 16)
        before = resident()
        most = 0
        while streams.position < N // 8:
            streams.next()
            most = max(most, resident() - before)
        assert most < N // 2


def test_places_beyond_32_bits() -> None:
    """Places in a text of more than 2^32 characters are exact."""
    N, B, T, position = 5 * 2**30 + 3, 7, 4, 3 * 2**33

    class Places:
        """A text whose id at a place is the place."""

        def __len__(self) -> int:
            return N

        def __getitem__(self, places: Any) -> Any:
            return places

    ids: Any = Places()
    segment = Streams(ids, B, T, position).next()
    expected = [[(b * N // B + position + t) % N for b in range(B)] for t in range(T + 1)]
    assert segment.tolist() == expected


FORMS = ["none", "nfc", "nfd", "nfkc"]


MIXED = (
    *("a", " ", "\n", "\r\n", "\u00a0", "\u3000", "b", "é", "e\u0301", "\u0301", "\u0323"),
    *("가", "각", "\u1100", "\u1161", "\u11a8", "\u314f", "ｶ", "\uff9e", "ﬁ", "¨", "\u1e9b"),
    *("\u0dd9", "\u0dcf", "\u0dca", "😀", "\U000110ba", "\U0001d15e", "<unk>", "<eos>"),
)
"""What composes, decomposes, is reordered, or becomes or is white space."""


mixed = st.one_of(st.lists(st.sampled_from(MIXED), max_size=30).map("".join), texts)


def test_where_a_text_may_be_cut() -> None:
    """Before every character that is said to begin anew: what each of some others, one or two of
    them, becomes before it is the same with it and without. Those that do not are few."""
    before = [*"aeｶ\u05d0\u1100\u1161가\u0301\u0dd9\u0b47", "\u1100\u1161", "a\u0323", "\u1025"]
    joined = 0
    for p in (*range(0x3200), *range(0xA640, 0xD800), *range(0xF900, 0x1F000)):
        character = chr(p)
        if not begins_anew(character):
            joined += 1
            continue
        for form in ("NFC", "NFD", "NFKC"):
            own = unicodedata.normalize(form, character)
            for text in before:
                whole = unicodedata.normalize(form, text + character)
                assert whole == unicodedata.normalize(form, text) + own
    assert 500 < joined < 3000
    for character in "\u0301\u1161\u11a8\u314f\uff9e\u0dcf\u09be\u3099":
        assert not begins_anew(character)


@settings(max_examples=400, deadline=None)
@given(mixed, st.sampled_from(FORMS), st.lists(st.integers(0, 40), max_size=6))
def test_normalising_blocks_is_normalising_the_whole(text: str, form: str, cuts: list[int]) -> None:
    """Wherever a text is cut, before what composes too, its blocks together are in the form."""
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    blocks = [text[a:b] for a, b in itertools.pairwise(edges)]
    for each in (blocks, list(text)):
        assert "".join(normalised_blocks(each, form)) == normalised(text, form)


def test_a_long_text_waits_for_little() -> None:
    """A block is let go but for its last character, with and without ASCII in it."""
    for text in ("abc" * 100, "무정한강" * 100, "漢字" * 100):
        parts = iter(normalised_blocks(iter([text, "x"]), "nfc"))
        assert len(next(parts)) == len(text) - 1


def split_of(text: str, unit: str) -> list[str]:
    """The units of a text by the plain definition."""
    if unit == "byte":
        return [f"0x{b:02x}" for b in text.encode("utf-8", "surrogateescape")]
    return text.replace("\n", " <eos> ").split() if unit == "word" else list(text)


def limited(counts: dict[str, int], least: int, most: int | None, special: int) -> set[str]:
    """Units that stay, by the plain definition."""
    kept = sorted((unit for unit in counts if counts[unit] >= least), key=lambda u: (-counts[u], u))
    if special == 0 and (len(kept) < len(counts) or (most is not None and len(kept) > most)):
        special = 1  # <unk>
    return set(kept if most is None else kept[: most - special])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(mixed, min_size=1, max_size=3),
    st.none() | mixed,
    st.sampled_from(["char", "byte", "word"]),
    st.sampled_from(FORMS),
    st.integers(1, 3),
    st.none() | st.integers(2, 6),
    st.integers(1, 60),
    st.sampled_from([0, 50, 1 << 20]),
)
def test_every_unit_in_blocks_as_in_one(
    parts: list[str],
    held_out: str | None,
    unit: str,
    form: str,
    least: int,
    most: int | None,
    block: int,
    in_memory: int,
) -> None:
    """Vocabulary and ids are those of the plain definition, however the files are cut."""
    config = TextConfig(unit, "utf-8", form, least, most, 0.0)
    parts = [part.removeprefix("\ufeff") for part in parts]
    assume(not (unit == "byte" and "\0" in "".join(parts)))
    text = normalised(joined(parts, unit), form)
    units, ring = split_of(text, unit), split_of(closed(text, unit), unit)
    if unit == "word":
        ring = units + ["<eos>"] * ("\n" in text and units[-1:] != ["<eos>"])
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block, IN_MEMORY=in_memory):
        names = [Path(folder, str(k)) for k in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            name.write_bytes(part.encode())
        valid = None
        if held_out is not None:
            held_out = held_out.removeprefix("\ufeff")
            valid = Path(folder, "held out")
            valid.write_bytes(held_out.encode())
            held_out = normalised(held_out, form)
        try:
            corpus = Corpus.from_files(names, config, valid)
        except CorpusError as e:
            counts = Counter(units)
            if unit == "word":
                del counts["<unk>"], counts["<eos>"]
            few = len(units) < 2 or (held_out is not None and len(split_of(held_out, unit)) < 2)
            none = counts and not limited(counts, least, most, 2 if unit == "word" else 0)
            assert few or none, e
            return
    v, seen = corpus.vocabulary, Counter(units)
    if unit == "byte":
        assert v.units == [f"0x{b:02x}" for b in range(256)]
    elif unit == "char":
        kept = sorted(limited(seen, least, most, 0))
        assert v.units == kept + ["<unk>"] * (len(kept) < len(seen))
    else:
        words = {u: n for u, n in seen.items() if u not in ("<unk>", "<eos>")}
        kept = sorted(limited(words, least, most, 2), key=lambda u: (-words[u], u))
        assert v.units == ["<unk>", "<eos>", *kept]
    outside = v.units.index("<unk>") if "<unk>" in v.units else UNKNOWN
    assert (v.unknown, v.charged) == (outside, UNKNOWN if unit == "word" else outside)
    assert most is None or unit == "byte" or len(v) <= most
    number = {u: i for i, u in enumerate(v.units)}
    if (least, most) == (1, None):  # else the line break itself may be left out
        assert corpus.train.tolist() == [number.get(u, outside) for u in ring]
    assert corpus.train[: len(units)].tolist() == [number.get(u, outside) for u in units]
    assert corpus.train.dtype == np.min_scalar_type(len(v) - 1)
    occurrences = np.bincount(corpus.train[: len(units)], minlength=len(v))
    assert v.counts.tolist() == occurrences.tolist()
    expected = (
        [] if held_out is None else [number.get(u, outside) for u in split_of(held_out, unit)]
    )
    assert corpus.valid.tolist() == expected
    assert v.encode(text).tolist() == corpus.train[: len(units)].tolist()
    assert corpus.sha256 == digest_of(text, held_out)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=2, max_size=60), st.integers(1, 20), st.sampled_from(FORMS))
def test_any_bytes(data: bytes, block: int, form: str) -> None:
    """A corpus of bytes may be anything: nothing is dropped, and nothing is wrong."""
    with tempfile.TemporaryDirectory() as folder, sizes_of(BLOCK=block):
        path = Path(folder, "data")
        path.write_bytes(data)
        corpus = Corpus.from_files([path], TextConfig(unit="byte", encoding="ascii", valid=0.0))
        ring = closed(data.decode("latin-1"), "byte").encode("latin-1")
        assert bytes(corpus.train) == ring
        assert corpus.vocabulary.encode(read_text(path, None)).tolist() == list(data)
        formed = Corpus.from_files([path], TextConfig(unit="byte", normalize=form, valid=0.0))
        text = normalised(data.decode("utf-8", "surrogateescape"), form)
        assert bytes(formed.train) == closed(text, "byte").encode("utf-8", "surrogateescape")
    write, end = corpus.vocabulary.writer(errors="surrogateescape")
    text = "".join(map(write, data)) + end()
    assert text.encode("utf-8", "surrogateescape") == data
    assert corpus.vocabulary.decode(data) == data.decode("utf-8", "replace")


@settings(max_examples=200, deadline=None)
@given(mixed)
def test_words_are_joined_as_they_were_told_apart(text: str) -> None:
    """One space between words and none around a line end; read again, they are the same words."""
    if len(split_of(text, "word")) < 2:
        return
    corpus = Corpus.from_text(text, 0.0, unit="word")
    read = corpus.vocabulary.decode(corpus.train.tolist())
    units = split_of(text, "word")
    assert split_of(read, "word") == units + ["<eos>"] * ("\n" in text and units[-1] != "<eos>")
    assert "  " not in read
    assert " \n" not in read
    assert "\n " not in read


def test_composed_and_decomposed_are_one_corpus() -> None:
    """In a normal form they have the same ids and the same digest; without, neither."""
    text = "은여울 나루의 억수 é\n" * 9
    decomposed = unicodedata.normalize("NFD", text)
    for unit in ("char", "byte", "word"):
        one, two = (
            Corpus.from_text(t, 0.0, unit=unit, normalize="nfc") for t in (text, decomposed)
        )
        assert one.train.tolist() == two.train.tolist()
        assert one.sha256 == two.sha256
        assert one.vocabulary.encode(decomposed).tolist() == one.train.tolist()
        assert Corpus.from_text(decomposed, unit=unit).sha256 != one.sha256


def test_ties_stay_in_the_order_of_code_points() -> None:
    """Of equally frequent units those of the lower code points stay."""
    assert Corpus.from_text("dcba" * 9, max_vocabulary=3).vocabulary.units == ["a", "b", "<unk>"]
    words = Corpus.from_text("d c b a " * 9, unit="word", max_vocabulary=4).vocabulary
    assert words.units == ["<unk>", "<eos>", "a", "b"]
    assert words.counts.tolist() == [18, 0, 9, 9]
    all_four = Corpus.from_text("dcba" * 9, max_vocabulary=4).vocabulary
    assert all_four.units == ["a", "b", "c", "d"]


def test_what_is_left_out_is_told() -> None:
    """How many units, and how much of the text."""
    corpus = Corpus.from_text("the sea the the <unk> ferry\n" * 3 + "oar", unit="word", min_count=3)
    assert corpus.notices[0] == (
        "1 of 5 words are left out of the vocabulary: <unk> is 18.18% of the text"
    )
    assert corpus.vocabulary.units == ["<unk>", "<eos>", "the", "ferry", "sea"]
    assert "1 of 3 characters" in Corpus.from_text("abbcc", min_count=2).notices[0]
    assert Corpus.from_text("abbcc" * 300, unit="byte", min_count=999).notices == []


@pytest.mark.parametrize("unit", ["char", "word"])
def test_no_unit_is_left(unit: str) -> None:
    """A vocabulary without a single unit is refused, with what to do."""
    with pytest.raises(CorpusError, match=r"lower text\.min_count"):
        Corpus.from_text("a b c d", unit=unit, min_count=5)


def test_seeds_of_words() -> None:
    """`<unk>` and `<eos>` may be given; other words outside are named, with their places."""
    v = Corpus.from_text("the sea was calm\n" * 3, unit="word").vocabulary
    assert v.encode_strictly("the <unk> sea\n", "it").tolist() == [
        v.units.index(u) for u in ("the", "<unk>", "sea", "<eos>")
    ]
    with pytest.raises(VocabularyError, match=r"has words outside .*'oar' at position 1;"):
        v.encode_strictly("the oar was", "the seed")
    assert v.without_unknown("the oar  was <unk>\n oh calm") == ("the was <unk>\ncalm", 2)
    assert v.without_unknown("the  sea ") == ("the  sea ", 0)
    assert "sea" in v
    assert "oar" not in v


def test_rare_characters_are_outside() -> None:
    """A character that was left out is no seed, though there is an entry for it."""
    v = Corpus.from_text("abab" * 9 + "x", min_count=2).vocabulary
    assert v.units == ["a", "b", "<unk>"]
    assert v.encode("axb\U0010ffff").tolist() == [0, 2, 1, 2]
    with pytest.raises(VocabularyError, match=r"'x' at position 1"):
        v.encode_strictly("ax", "the seed")
    assert v.without_unknown("axb") == ("ab", 1)


def test_bytes_that_are_none() -> None:
    """A lone surrogate that stands for no byte is an error of one line."""
    v = Corpus.from_text("abc", unit="byte").vocabulary
    assert v.encode_strictly("한", "it").tolist() == [0xED, 0x95, 0x9C]
    with pytest.raises(VocabularyError, match=r"\\ud800"):
        v.encode("a\ud800")


def test_many_words() -> None:
    """Numbers that outgrow two bytes become ids of one where the limit lets them, in memory and on
    disk."""
    text = " ".join([*(f"w{k}" for k in range(70_000)), *["w5"] * 4, *["w7"] * 3])
    for in_memory in (0, 100_000, 1 << 26):
        with sizes_of(BLOCK=5000, IN_MEMORY=in_memory):
            corpus = Corpus.from_text(text, 0.0, unit="word", max_vocabulary=4)
        assert corpus.train.dtype == np.uint8
        assert len(corpus.train) == 70_007
        assert np.flatnonzero(corpus.train).tolist() == [5, 7, *range(70_000, 70_007)]
        assert corpus.train[[5, 7, 70_000, 70_006]].tolist() == [2, 3, 2, 3]
        assert mapped(corpus.train) == (in_memory < 70_007)
