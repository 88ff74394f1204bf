"""A text ends where it should, and nothing of it is lost."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from generating import generate
from hypothesis import given, settings
from hypothesis import strategies as st
from sampled import Array, cycle, make, texts, vocabulary

import charlstm.generation.source
from charlstm.cli.seeds import unescape
from charlstm.generation.choose import Chooser
from charlstm.generation.sampler import Piece


def stopped(letters: str, seed: str, length: int, *stop: str) -> tuple[str, str | None]:
    """Text and reason of a sample from the model that goes through its letters."""
    v = vocabulary(letters)
    pieces = list(
        generate(
            cycle(letters),
            v,
            v.encode(seed),
            0,
            length=length,
            temperature=0.0,
            stop=stop,
        )
    )
    return texts(pieces)[0], pieces[-1].stop


@pytest.mark.parametrize(
    ("stops", "text", "reason"),
    [
        ([], "bcdefabcde", "length"),
        (["e"], "bcd", "stop"),
        (["b"], "", "stop"),
        (["cde"], "b", "stop"),
        (["ab"], "bcdef", "stop"),  # not the a of the seed
        (["abcdefa"], "bcdefabcde", "length"),  # begun, but not complete at the end
        (["de", "cx", "efab"], "bc", "stop"),  # x is in no text
        (["cda", "cdf", "cdefab"], "b", "stop"),
        (["defx", "fa"], "bcde", "stop"),
        (["efg", "dd", "z"], "bcdefabcde", "length"),
        (["de", "cde"], "b", "stop"),
        (["cde", "de"], "b", "stop"),
        (["bcdefabcde"], "", "stop"),  # complete with the very last character
        (["bcdefabcdef"], "bcdefabcde", "length"),
    ],
)
def test_stop(stops: list[str], text: str, reason: str) -> None:
    """A sample ends before the stop text, which is never shown, and loses nothing else."""
    assert stopped("abcdef", "a", 10, *stops) == (text, reason)


def script(rows: list[str], stops: list[str], **options: Any) -> list[Piece]:
    """What is generated when these texts of equal length are drawn, side by side."""
    v = vocabulary("ab")
    steps = iter(np.array([v.encode(row) for row in rows]).T)
    if len(rows) > 1:  # many draw while they read the seed, too
        steps = itertools.chain([np.zeros(len(rows), int)], steps)

    class Script(Chooser):
        def weigh_(self, p: Array, logits: Array, allowed: Array | None = None) -> None:
            p[...] = 0.0
            columns = p.reshape(len(p), -1)
            columns[0, len(rows) :] = 1.0  # streams without a sample
            for k, i in enumerate(next(steps)):
                columns[i, k] = 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charlstm.generation.source, "Chooser", Script)
        patch.setattr(charlstm.generation.sampler, "FEW", 1)
        return list(
            generate(
                make(letters="ab"),
                v,
                v.encode("a"),
                0,
                count=len(rows),
                length=len(rows[0]),
                stop=stops,
                **options,
            )
        )


AB = st.text("ab", min_size=10, max_size=10)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(AB, min_size=1, max_size=4),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
)
def test_any_stops(rows: list[str], stops: list[str]) -> None:
    """Overlapping stop texts: what comes is each text up to the first that is complete."""
    pieces = script(rows, stops)
    assert [p.sample for p in pieces] == sorted(p.sample for p in pieces)
    for k, (row, got) in enumerate(zip(rows, texts(pieces, len(rows)), strict=True)):
        check_stop(row, stops, got, [p.stop for p in pieces if p.sample == k][-1])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1000), st.lists(st.text("ab", min_size=1, max_size=5), max_size=3))
def test_any_stops_of_one_stream(rng_seed: int, stops: list[str]) -> None:
    """The same for a single stream in its own quick way."""
    model, v = make(letters="ab", scale=0.1), vocabulary("ab")

    def run(stop: list[str]) -> list[Piece]:
        key = rng_seed
        return list(generate(model, v, v.encode("a"), key, length=14, stop=stop))

    pieces = run(stops)
    check_stop(texts(run([]))[0], stops, texts(pieces)[0], pieces[-1].stop)


def check_stop(text: str, stops: list[str], got: str, reason: str | None) -> None:
    """Assert that `got` is what should come where the text would."""
    ends = [text.find(s) + len(s) for s in stops if s in text]
    if not ends:
        assert (got, reason) == (text, "length")
        return
    end = min(ends)
    assert reason == "stop"
    complete = [s for s in stops if text[:end].endswith(s)]
    assert got in {text[: end - len(s)] for s in complete}
    assert got == text[: end - max(map(len, complete))]
    assert not any(s in got for s in stops)


def test_what_cannot_be_a_stop_is_not_held_back() -> None:
    """Only the beginning of a stop text waits, and no longer than it can be one."""
    v = vocabulary("abcdef")
    pieces = list(
        generate(
            cycle("abcdef"),
            v,
            v.encode("a"),
            0,
            length=6,
            temperature=0.0,
            stop=["cdx"],
        )
    )
    assert [p.text for p in pieces] == ["b", "cde", "f", "a"]


def test_samples_stop_by_themselves() -> None:
    """One sample's end is not another's, and each ends once."""
    model, v = make(scale=0.2), vocabulary()
    pieces = list(generate(model, v, v.encode("a"), 4, count=8, length=12, stop=["b", "cd"]))
    ended = [p.sample for p in pieces if p.stop]
    assert sorted(ended) == list(range(8))
    for k, text in enumerate(texts(pieces, 8)):
        mine = [p for p in pieces if p.sample == k]
        assert mine[-1].stop is not None
        assert all(p.stop is None for p in mine[:-1])
        assert "b" not in text
        assert "cd" not in text
        assert len(text) == 12 or mine[-1].stop == "stop"
    assert len({len(t) for t in texts(pieces, 8)}) > 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\nb", "a\nb"),
        (r"\t\r", "\t\r"),
        (r"\\n", r"\n"),
        (r"\\\n", "\\\n"),
        (r"\x41\q", r"\x41\q"),
        (r"a\0b", "a\0b"),
        ("한\\n", "한\n"),
        ("\\", "\\"),
        ("plain\n", "plain\n"),
        ("", ""),
    ],
)
def test_unescape(text: str, expected: str) -> None:
    """Five escapes are understood; anything else stays as it was typed."""
    assert unescape(text) == expected
