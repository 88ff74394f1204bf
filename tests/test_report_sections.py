"""What the sections of a report compute is what they say, each against a slow reference."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from reported import TEXT, Array, every_family, make, naive, read_as
from support import POLYGLOT, trained

import charlstm
from charlstm.api import LanguageModel
from charlstm.errors import CorpusError, UsageError
from charlstm.nn.model import Model
from charlstm.report.memory import dependence, memory
from charlstm.report.overview import counting, overview
from charlstm.report.passage import GIVEN, HELD_OUT, OWN, WINDOW, Passage, name_of
from charlstm.report.reach import reach
from charlstm.report.surprise import surprise

# --- the text ------------------------------------------------------------------------------------


def test_the_excerpt_of_the_corpus_is_what_was_held_out(language: LanguageModel) -> None:
    passage = Passage.of(language, TEXT)
    assert passage.source == HELD_OUT
    assert "".join(passage.shown(language.vocabulary)) == TEXT[5400:]
    assert passage.window == slice(0, 6000)


def test_lines_that_were_held_out(tmp_path: Path) -> None:
    lines = "".join(f"line {n} of many\n" for n in range(200))
    path = trained(tmp_path / "m.npz", lines, steps=3, **{"text.split": "lines"})
    passage = Passage.of(charlstm.load(path), lines)
    shown = "".join(passage.shown(charlstm.load(path).vocabulary))
    assert passage.source == HELD_OUT
    assert 200 < len(shown) < len(lines) / 5
    assert {*shown.splitlines()} <= {*lines.splitlines()}


def test_the_excerpt_of_another_text(language: LanguageModel) -> None:
    other = TEXT[1:]
    passage = Passage.of(language, other)
    assert (passage.source, passage.excerpt) == (GIVEN, slice(0, 2000))
    passage = Passage.of(language, other * 30, start=100_000, length=50)
    assert passage.window == slice(99_500, 99_500 + WINDOW)
    assert "".join(passage.shown(language.vocabulary)) == (other * 30)[100_000:100_050]
    passage = Passage.of(language, other * 30, start=179_900, length=50)
    assert passage.window.stop == len(other * 30)
    assert passage.window.stop - passage.window.start == WINDOW
    assert "".join(passage.shown(language.vocabulary)) == (other * 30)[179_900:179_950]


@pytest.mark.parametrize(("start", "most"), [(0, 1200), (300, 1200), (4000, 1200), (5900, 1200)])
def test_a_narrower_window_has_the_excerpt(language: LanguageModel, start: int, most: int) -> None:
    whole = Passage.of(language, TEXT, start=start, length=400)
    narrow = whole.narrowed(most)
    assert narrow.window.stop - narrow.window.start == most
    shown = narrow.shown(language.vocabulary)
    assert shown == whole.shown(language.vocabulary)[: len(shown)]
    assert len(shown) == min(400, 6000 - start)
    assert whole.narrowed(6000) == whole


def test_a_text_that_is_too_short(language: LanguageModel) -> None:
    with pytest.raises(CorpusError, match="fewer than two characters"):
        Passage.of(language, "x")
    with pytest.raises(UsageError, match=r"the text has 20 characters; begin before"):
        Passage.of(language, TEXT[:20], start=19)


def test_a_text_of_its_own_is_the_same_each_time(language: LanguageModel) -> None:
    one, other = Passage.generated(language), Passage.generated(language)
    assert one == other
    assert one.source == OWN
    assert len(one.ids(language.vocabulary)) == 10_000


@pytest.mark.parametrize("unit", ["char", "byte", "word"])
def test_units_spell_the_text(tmp_path: Path, unit: str) -> None:
    path = trained(tmp_path / "m.npz", POLYGLOT, steps=2, **{"text.unit": unit})
    language = charlstm.load(path)
    passage = Passage.of(language, POLYGLOT, start=0)
    assert len(passage.units(language.vocabulary)) == len(passage.ids(language.vocabulary))
    spelt = "".join(passage.units(language.vocabulary))
    assert spelt.split() == POLYGLOT.split()
    for i in range(len(language.vocabulary)):
        assert name_of(language.vocabulary, i).isprintable()


# --- surprise, reach, memory ---------------------------------------------------------------------


def test_surprise_is_what_evaluate_says(language: LanguageModel) -> None:
    text = TEXT[:300] + "\u2603" + TEXT[300:400]
    passage = Passage.of(language, text, start=0)
    data = surprise(language, passage)
    nats = language.surprisals(text)
    assert data["bits"][0] is None
    np.testing.assert_allclose(data["bits"][1:], nats / math.log(2), atol=2e-3)
    assert data["outside"] == [300]
    assert data["ranks"][0] == data["ranks"][300] == -1
    ids, v = language.vocabulary.encode(text), language.vocabulary
    for t in (1, 2, 57, 399):
        p = 2 ** -np.array([language.surprisals(text[:t] + c)[-1] / math.log(2) for c in v.units])
        best = np.argsort(-p, kind="stable")[:5].tolist()
        got = [(data["names"][n], share) for n, share in data["guesses"][t]]
        assert [name for name, _ in got] == [name_of(v, i) for i in best]
        np.testing.assert_allclose([share for _, share in got], p[best], rtol=0.01)
        assert data["ranks"][t] == (best.index(ids[t]) if ids[t] in best else -1)


def test_an_excerpt_is_read_after_what_stands_before_it(language: LanguageModel) -> None:
    data = surprise(language, Passage.of(language, TEXT, start=300, length=50))
    expected = language.surprisals(TEXT[:350])[-50:] / math.log(2)
    np.testing.assert_allclose(data["bits"], expected, atol=2e-3)


@every_family
def test_dependence_against_central_differences(family: dict[str, Any]) -> None:
    """The norm of d loss_t / d x_(t-k), x being what the lowest layer of a naive model reads."""
    model = make(**family)
    ids = np.array([3, 1, -1, 0, 6, 6, 2, 5, -1, 4])
    norms = dependence(model, ids, 6, 5)
    x, epsilon = read_as(model, ids[:-1]), 1e-5

    def loss(inputs: Array, t: int) -> float:
        _, logits = naive(model, inputs[:t])
        return float(reference.cross_entropy(logits[-1:], ids[t : t + 1])[0])

    for row, t in enumerate(range(4, 10)):
        for k in range(1, 6):
            if t - k < 0 or ids[t] < 0:
                assert norms[row, k - 1] == 0
                continue
            gradient = []
            for n in range(x.shape[1]):
                nudged = [x.copy(), x.copy()]
                nudged[0][t - k, n] += epsilon
                nudged[1][t - k, n] -= epsilon
                high, low = (loss(inputs, t) for inputs in nudged)
                gradient.append((high - low) / (2 * epsilon))
            assert norms[row, k - 1] == pytest.approx(np.linalg.norm(gradient), rel=1e-5, abs=1e-9)


def test_the_section_of_memory(language: LanguageModel) -> None:
    passage = Passage.of(language, TEXT, start=1000, length=80)
    data = memory({"a": language, "b": language}, passage)
    assert data["models"][0]["strength"] == data["models"][1]["strength"]
    codes = np.frombuffer(base64.b64decode(data["models"][0]["strength"]), np.uint8)
    codes = codes.reshape(80, data["lags"])
    assert (codes.max(axis=1) == 255).all()
    half, most = data["models"][0]["halves"]
    assert 1 <= half <= most <= data["lags"]
    ids = language.vocabulary.encode(TEXT)[500:1080]
    assert isinstance(language.model, Model)
    norms = dependence(language.model, ids, 80, data["lags"])
    np.testing.assert_array_equal(codes, np.rint(255 * norms / norms.max(axis=1, keepdims=True)))


def test_the_section_of_reach(language: LanguageModel) -> None:
    pytest.importorskip("matplotlib")
    data = reach({"m": language}, Passage.of(language, TEXT, start=0))
    (row,) = data["models"]
    assert [*row["states"]] == ["layer0.c", "layer0.h"]
    norms = charlstm.gradient_flow(language, TEXT).norms
    for name, values in row["states"].items():
        np.testing.assert_allclose(values, norms[name] / norms[name][0], rtol=6e-3)
    short = reach({"m": language}, Passage.of(language, TEXT[:20], start=0))
    assert len(short["models"][0]["states"]["layer0.c"]) == 19
    assert reach({"m": language}, Passage.of(language, TEXT[:2], start=0)) == {
        "models": [],
        "svg": None,
    }


# --- facts ---------------------------------------------------------------------------------------


def test_overview(language: LanguageModel) -> None:
    data = overview({"m": language, "n": language})
    v = language.vocabulary
    assert data["costs"]["guessing"] == pytest.approx(math.log2(len(v)))
    p = [TEXT.count(c) / len(TEXT) for c in set(TEXT)]
    assert counting(v) == pytest.approx(-sum(x * math.log2(x) for x in p))
    assert data["costs"]["others"] == [
        {
            "name": "n",
            "cell": "lstm",
            "bits": data["costs"]["model"],
            "weights": data["network"]["weights"],
            "steps": 60,
        }
    ]
    assert data["network"]["weights"] == len(language.checkpoint.best)
    assert "--set model.hidden=8" in data["command"]
    assert "--set train.steps=60" in data["command"]
    assert data["command"].endswith("-o m.npz")
