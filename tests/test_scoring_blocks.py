"""A text is scored in blocks, in little memory, with the result of the whole."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import CORPORA, STORY, UNITS

import charlstm
import charlstm.api
import charlstm.scoring.evaluation
from charlstm.api import LanguageModel
from charlstm.cli import main

TEXT = STORY.read_text(encoding="utf-8")
OTHER = (
    TEXT[:900]
    + "한강 zebra é\n\n<unk> of\tit\n"
    + (CORPORA / "ferry.txt").read_text(encoding="utf-8")[:300]
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model of each unit; characters and words are normalised, and rare ones left out."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "c.txt").write_text(TEXT[:8000], encoding="utf-8")
    for unit in UNITS:
        keys = {"model.hidden": 5, "train.steps": 20, "train.workers": 1, "text.unit": unit}
        keys |= {"text.min_count": 2, "text.normalize": "nfd"}
        list(charlstm.train(folder / "c.txt", folder / f"{unit}.npz", settings=keys))
    return {unit: folder / f"{unit}.npz" for unit in UNITS}


@pytest.fixture(scope="module")
def languages(models: dict[str, Path]) -> dict[str, LanguageModel]:
    return {unit: charlstm.load(path) for unit, path in models.items()}


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("unit", UNITS)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(OTHER)), max_size=8), size=st.integers(1, 40))
def test_blocks_do_not_show(
    languages: dict[str, LanguageModel], unit: str, cuts: list[int], size: int
) -> None:
    """Wherever they end, in words and between a letter and its accent: not in a bit."""
    language = languages[unit]
    ids = language.vocabulary.encode(OTHER)
    whole = charlstm.scoring.evaluation.evaluate(language.scorer, ids, language.vocabulary)
    assert language.evaluate(OTHER) == whole
    nats = language.surprisals(OTHER)
    assert whole.nats == pytest.approx(nats.sum(), rel=1e-12)
    even = [OTHER[at : at + size] for at in range(0, len(OTHER), size)]
    for blocks in (pieces(OTHER, cuts), even, [OTHER]):
        assert language.score(iter(blocks)) == whole
        scored = list(language.units(iter(blocks)))
        assert [n for _, some in scored for n in some][1:] == nats.tolist()
        v = language.vocabulary
        assert [u for some, _ in scored for u in some] == list(v.split(v.normalised(OTHER)))


@pytest.mark.parametrize("unit", UNITS)
def test_short_texts(languages: dict[str, LanguageModel], unit: str) -> None:
    """A first unit is given; without one there is nothing."""
    language = languages[unit]
    assert list(language.units([])) == list(language.units(["", ""])) == []
    ((units, nats),) = language.units(["", "a"])
    assert len(units) == 1
    assert math.isnan(nats[0])
    assert language.score(["a"]).units == language.score([]).units == 0


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1024, 1025, 1400])
def test_at_the_edges_of_segments(languages: dict[str, LanguageModel], length: int) -> None:
    language = languages["char"]
    text = (TEXT * 2)[:length]
    for size in (1, 511, 512, 513):
        blocks = [text[at : at + size] for at in range(0, length, size)]
        assert language.score(blocks) == language.evaluate(text)


@pytest.mark.parametrize("unit", UNITS)
def test_long_lines(
    monkeypatch: pytest.MonkeyPatch, languages: dict[str, LanguageModel], unit: str
) -> None:
    """They are scored alone, in blocks, and among short ones keep their place and their score."""
    language = languages[unit]
    lines = ["a short one", OTHER.replace("\n", " "), "", "é" * 300, "another"]
    expected = language.evaluate_lines(lines)
    units = [list(scored) for scored in language.units_of_lines(lines)]
    monkeypatch.setattr(charlstm.scoring.evaluation, "LONG", 100)
    monkeypatch.setattr(charlstm.api, "LONG", 100)
    for got, want in zip(language.evaluate_lines(lines), expected, strict=True):
        assert (got.units, got.unknown, got.unit) == (want.units, want.unknown, want.unit)
        assert got.nats == pytest.approx(want.nats, rel=1e-6)
    for scored, whole in zip(language.units_of_lines(lines), units, strict=True):
        pairs = [pair for some in scored for pair in zip(*some, strict=True)]
        texts, nats = zip(*pairs, strict=True)
        (want_texts, want_nats), *rest = whole
        assert not rest
        assert list(texts) == list(want_texts)
        np.testing.assert_allclose(nats, want_nats, rtol=0, atol=1e-4)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "options",
    [
        ["--json"],
        ["--chars"],
        ["--chars", "--json"],
        ["--chars", "--color"],
        ["--chars", "--lines"],
        ["--chars", "--lines", "--color"],
        ["--lines"],
    ],
)
def test_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    models: dict[str, Path],
    unit: str,
    options: list[str],
) -> None:
    """Byte for byte what it is in one block, running totals, colours and all."""
    (tmp_path / "1").write_text(OTHER, encoding="utf-8")
    (tmp_path / "2").write_text("the end of it", encoding="utf-8")
    arguments = ["evaluate", str(tmp_path / "1"), str(tmp_path / "2"), "-m", str(models[unit])]
    assert main([*arguments, *options]) == 0
    whole = capsysbinary.readouterr().out
    assert whole
    monkeypatch.setattr("charlstm.text.reading.BLOCK", 37)
    assert main([*arguments, *options]) == 0
    blocks = capsysbinary.readouterr().out
    if "--lines" in options:  # which stand beside other lines: roundings, in the last digit shown
        assert len(blocks.splitlines()) == len(whole.splitlines())
    else:
        assert blocks == whole


def test_a_gradient_is_followed_in_the_beginning(languages: dict[str, LanguageModel]) -> None:
    """A text that comes in blocks is read as far as it counts, by the unit of the model."""

    def blocks() -> Iterator[str]:
        yield TEXT[:5000]
        yield TEXT[5000:20000]
        raise AssertionError("read too far")

    for unit in ("char", "byte"):
        language = languages[unit]
        got = charlstm.gradient_flow(language, blocks(), lags=10)
        assert got.to_dict() == charlstm.gradient_flow(language, TEXT, lags=10).to_dict()


@pytest.mark.whole
@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes there")
@pytest.mark.parametrize("options", [["--json"], ["--lines"], ["--chars"], ["--chars", "--lines"]])
def test_memory_is_flat(tmp_path: Path, models: dict[str, Path], options: list[str]) -> None:
    """A megabyte, in one line, takes little more than a page does. Each character took thirty
    bytes."""
    script = (
        "import resource, sys; from charlstm.cli import main; main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for n in (1000, 1_200_000):
        path = tmp_path / str(n)
        path.write_text(("a line of text, and no end of it. " * (n // 34 + 1))[:n] + "\n")
        done = subprocess.run(
            [sys.executable, "-c", script, "evaluate", path, "-m", models["char"], *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        peaks.append(int(done.stderr))
    assert peaks[1] - peaks[0] < 24_000
