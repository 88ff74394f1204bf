"""The annotated cells show every line of the cells, and no other."""

from __future__ import annotations

import re

import annotated
import pytest

from charlstm.nn.cells import CELLS, LSTM

METHODS = ["forward", "derivatives", "backward"]


@pytest.mark.parametrize("language", annotated.PAGES)
def test_every_line_of_every_cell_is_there_once_and_in_order(language: str) -> None:
    page = annotated.page(language)
    at = 0
    for name in annotated.SAID["titles"]:
        for method in METHODS:
            for line in annotated.body(CELLS[name], method):
                code = line.partition("# ")[0].strip()
                if code and len(code) <= annotated.RIGHT:
                    at = page.index(f" {code}\n", at)
    assert set(annotated.SAID["titles"]) == set(CELLS)
    assert len(page.splitlines()) <= 400


def test_every_passage_is_explained_in_both_languages() -> None:
    for methods in annotated.SAID["notes"].values():
        assert list(methods) == METHODS
        for note in (note for notes in methods.values() for note in notes):
            assert set(note) == {"start", "en", "ko"}
            assert re.search("[가-힣]", note["ko"])
            assert not re.search("[가-힣]", note["en"])


def test_a_cell_that_the_notes_do_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = annotated.body(CELLS["lstm"], "forward")
    assert len(annotated.passages(LSTM(), "forward")) == 4
    monkeypatch.setattr(annotated, "body", lambda cell, method: lines[:-2])
    with pytest.raises(ValueError, match=r"lstm.forward has 0 lines 'np.tanh\(c_next"):
        annotated.passages(LSTM(), "forward")
    monkeypatch.setattr(annotated, "body", lambda cell, method: lines[::-1])
    with pytest.raises(ValueError, match="order of its lines"):
        annotated.passages(LSTM(), "forward")
    monkeypatch.setattr(annotated, "body", lambda cell, method: ["a = b", *lines])
    with pytest.raises(ValueError, match="order of its lines"):
        annotated.passages(LSTM(), "forward")


def test_columns() -> None:
    lines = ["np.multiply(f, c, out=fc)", "np.add(fc, ig, out=c_next)  # c' = f c + i g"]
    first, second = annotated.columns(lines).splitlines()
    assert first.split("  ", 1)[0] == "c' = f c + i g"
    assert first.endswith(lines[0])
    assert second.strip() == "np.add(fc, ig, out=c_next)"
    assert annotated.wrapped("a = b, c = d", 6) == ["a = b,", "  c", "  = d"]
