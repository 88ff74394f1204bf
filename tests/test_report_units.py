"""What a report says of the units of a network is what they do."""

from __future__ import annotations

import base64
import statistics
from typing import Any

import numpy as np
import pytest
from reported import TEXT, Array, every_family, make, naive, read_as

from charlstm.api import LanguageModel
from charlstm.nn.model import Model
from charlstm.report.build import sections
from charlstm.report.cells import arranged, cells, heat_map, judged
from charlstm.report.features import features
from charlstm.report.gates import gates
from charlstm.report.passage import Passage
from charlstm.report.recording import Place, Recording, record
from charlstm.report.tracking import Tracking, best_threshold, correlations, f1, track
from charlstm.scoring.trace import quantities

# --- inside the cells ----------------------------------------------------------------------------


@every_family
def test_a_recording_is_of_the_naive_cells(family: dict[str, Any]) -> None:
    model, ids = make(**family), np.array([3, 1, -1, 0, 6, 6, 2])
    recording = record(model, ids)
    after, _ = naive(model, read_as(model, ids))
    for (k, name), values in recording.values.items():
        assert values.shape == (7, 5)
        if name in model.cell.states:
            states = [step[k][model.cell.states.index(name)][0] for step in after]
            np.testing.assert_allclose(values, states, atol=2e-3)
    assert {name for _, name in recording.values} == {*quantities(model.cell)}


def test_the_gates_of_a_recording_make_its_states() -> None:
    """c' = f c + i g, h' = o tanh(c'); h' = (1 - q) n + q h."""
    ids = np.random.default_rng(0).integers(0, 7, 30)
    v = {q: a.astype(np.float64) for (_, q), a in record(make(), ids).values.items()}
    before = np.concatenate([np.zeros((1, 5)), v["c"][:-1]])
    np.testing.assert_allclose(v["c"], v["f"] * before + v["i"] * v["g"], atol=5e-3)
    np.testing.assert_allclose(v["h"], v["o"] * np.tanh(v["c"]), atol=5e-3)
    v = {q: a.astype(np.float64) for (_, q), a in record(make(cell="gru"), ids).values.items()}
    before = np.concatenate([np.zeros((1, 5)), v["h"][:-1]])
    np.testing.assert_allclose(v["h"], (1 - v["q"]) * v["n"] + v["q"] * before, atol=5e-3)


def test_gates_at_rest() -> None:
    recording = record(make(layers=2), np.random.default_rng(0).integers(0, 7, 200))
    data = gates(recording)
    assert [[*layer] for layer in data["layers"]] == [["i", "f", "o"]] * 2
    for k, layer in enumerate(data["layers"]):
        for gate, shares in layer.items():
            values = recording.values[Place(k, gate)]
            for unit in range(5):
                column = values[:, unit].tolist()
                assert shares["open"][unit] == round(sum(x > 0.9 for x in column) / 200, 3)
                assert shares["closed"][unit] == round(sum(x < 0.1 for x in column) / 200, 3)
                assert shares["mean"][unit] == pytest.approx(statistics.mean(column), abs=6e-4)
                deviation = statistics.pstdev(column)
                assert shares["deviation"][unit] == pytest.approx(deviation, abs=6e-4)
    assert sum(map(sum, (s["open"] + s["closed"] for s in data["layers"][0].values()))) > 0


def test_a_heat_map_holds_the_values() -> None:
    recording = record(make(H=9), np.random.default_rng(0).integers(0, 7, 60))
    for place, values in recording.values.items():
        data = heat_map(recording, place, values)
        codes = np.frombuffer(base64.b64decode(data["codes"]), np.uint8).reshape(9, 60) / 255
        shown = codes if data["gate"] else (2 * codes - 1) * data["scale"]
        expected = np.clip(
            values.astype(np.float64)[:, data["order"]].T, -data["scale"], data["scale"]
        )
        np.testing.assert_allclose(shown, expected, atol=0.005 * data["scale"])
        assert sorted(data["order"]) == list(range(9))


def test_like_columns_stand_together() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.normal(size=(300, 3))
    columns = kinds[:, np.tile([0, 1, 2], 6)] + 0.1 * rng.normal(size=(300, 18))
    order = arranged(columns) % 3
    assert np.count_nonzero(np.diff(order)) == 2
    assert arranged(np.zeros((5, 4))).tolist() != []


# --- features and the units that follow them -----------------------------------------------------


def marked(name: str, text: str) -> str:
    """The characters of a text that have a feature; a dot for the others."""
    values = features(list(text), [name])[name]
    return "".join(c if v else "." for c, v in zip(text, values, strict=True))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("quoted", 'a "bc" d', '.."bc...'),
        ("quoted", "“가 ‘나’ 다” 라", "“가 ‘나’ 다..."),
        ("quoted", 'one " open\n\nnext "x"', '................."x.'),
        ("bracketed", "a (b [c] d) e", "..(b [c] d..."),
        ("bracketed", "a ) b ( c", "........."),
        ("speaker", "KING:\nto be: so\nSecond Lord:\n", "KING:...........Second Lord:."),
        ("line_start", "ab\n\ncd", "....c."),
        ("line_end", "a\nb", ".\n."),
        ("blank", "a b", ". ."),
        ("after_blank", "a b\n c", "..b..c"),
        ("first_letter", "ab c-d 3e", "a..c.d..e"),
        ("capital", "aBÉd", ".BÉ."),
        ("vowel", "Abe y", "A.e.."),
        ("digit", "a1²", ".1²"),
        ("punctuation", "a, b!", ".,..!"),
        ("final", "가각 a힣", ".각..힣"),
        ("hanja", "김金a", ".金."),
    ],
)
def test_features(name: str, text: str, expected: str) -> None:
    assert marked(name, text) == expected


def test_features_that_count() -> None:
    names = ("line_position", "sentence_position", "word_position")
    values = features(list("ab c.\nd"), names)
    assert values["line_position"].tolist() == [1, 2, 3, 4, 5, 0, 1]
    assert values["sentence_position"].tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert values["word_position"].tolist() == [1, 2, 0, 1, 0, 0, 1]


def test_features_of_words_and_bytes() -> None:
    words = ["He", " said", ' "no', ' way"', "\n", "x"]
    assert features(words, ["capital", "quoted"])["capital"].tolist() == [1, 0, 0, 0, 0, 0]
    assert features(words, ["quoted"])["quoted"].tolist() == [0, 0, 1, 0, 0, 0]
    bytes_ = ["a", "", "", "각", "b"]
    assert features(bytes_, ["final"])["final"].tolist() == [0, 0, 0, 1, 0]


def test_correlations() -> None:
    rng = np.random.default_rng(0)
    values, rows = rng.normal(size=(50, 4)), rng.normal(size=(3, 50))
    values[:, 2] = 1.0
    got = correlations(values.astype(np.float32), rows)
    for k, row in enumerate(rows):
        for h in (0, 1, 3):
            expected = np.corrcoef(values[:, h], row)[0, 1]
            assert got[k, h] == pytest.approx(expected, abs=1e-6)
        assert got[k, 2] == 0


def test_the_best_threshold() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, true = rng.integers(0, 9, 40) / 4, rng.random(40) < 0.3
        true[0] = True
        threshold, score = best_threshold(values, true)
        scores = [f1(values > t, true) for t in np.arange(-1, 9) / 4 + 0.1]
        assert score == pytest.approx(max(scores))
        assert f1(values > threshold, true) == pytest.approx(score)


def planted(N: int = 4000) -> tuple[Recording, Array]:
    """A recording in which unit 3 of the first layer's c says a feature, unit 1 of h counts one,
    backwards, and the rest is noise."""
    rng = np.random.default_rng(0)
    model = make(H=6)
    values = {Place(0, q): rng.normal(0, 0.5, (N, 6)) for q in quantities(model.cell)}
    said = np.repeat(rng.random(N // 20) < 0.3, 20)
    count = np.arange(N) % 37.0
    values[Place(0, "c")][:, 3] = said + rng.normal(0, 0.1, N)
    values[Place(0, "h")][:, 1] = -count / 20 + rng.normal(0, 0.1, N)
    half = {place: array.astype(np.float16) for place, array in values.items()}
    return Recording(model.cell, half), np.array([said, count, np.zeros(N), rng.random(N) < 0.3])


def test_the_unit_that_follows_is_found() -> None:
    recording, rows = planted()
    said, count, never, noise = track(recording, rows, [False, True, False, False])
    assert said is not None and count is not None and noise is not None
    assert (said.place, said.unit, said.rising, said.follows) == (Place(0, "c"), 3, True, True)
    assert said.value > 0.99
    assert said.threshold == pytest.approx(0.5, abs=0.2)
    share = rows[0][2000:].mean()
    assert said.chance == pytest.approx(2 * share / (1 + share))
    assert (count.place, count.unit, count.rising, count.follows) == (Place(0, "h"), 1, False, True)
    assert count.value > 0.98
    assert never is None
    assert not noise.follows


def test_what_counts_begins_anew() -> None:
    """Where no line ends, a place in the line says nothing but the place in the text."""
    recording, _ = planted()
    count = np.arange(4000.0)
    seldom = count % 200  # begins anew ten times in a half
    assert track(recording, np.array([count, seldom]), [True, True]) == [None, None]


def test_what_is_measured_is_not_what_was_chosen_by() -> None:
    """A unit that follows a feature in the first half alone has no score in the second."""
    recording, rows = planted()
    values = recording.values[Place(0, "c")]
    values[2000:, 3] = values[2000:, 3][::-1].copy()
    (found,) = track(recording, rows[:1], [False])
    assert found is not None
    assert found.unit == 3
    assert found.value < 0.6
    assert not found.follows


def test_what_a_unit_says() -> None:
    tracking = Tracking(Place(0, "c"), 0, 0.9, 0.1, rising=False, threshold=0.5)
    assert judged(np.array([0.5, 1.5, -0.5]), tracking).tolist() == [0, -1, 1]
    gate = Tracking(Place(0, "i"), 0, 0.9, 0.1, rising=True, threshold=0.9)
    said = judged(np.array([0.0, 0.45, 0.9, 0.95, 1.0]), gate)
    np.testing.assert_allclose(said, [-1, -0.5, 0, 0.5, 1], atol=1e-12)
    assert judged(np.array([0.9, 0.9]), gate).tolist() == [0, 0]
    counting_up = Tracking(Place(0, "c"), 0, 0.9, 0.0, rising=True, threshold=None)
    assert judged(np.array([1.0, 3.0, 2.0]), counting_up).tolist() == [-1, 1, 0]


def test_a_wide_network_is_recorded_where_the_excerpt_is(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("charlstm.report.recording.VALUES", 1100 * 6 * 8)
    data = dict(sections({"m": language}, TEXT, length=300))
    assert "".join(data["cells"]["units"]) == TEXT[5400:5700]
    assert data["cells"]["measured"] == 550


def test_the_section_of_cells(language: LanguageModel) -> None:
    passage = Passage.of(language, TEXT)
    assert isinstance(language.model, Model)
    recording = record(language.model, passage.ids(language.vocabulary))
    data = cells(language, passage, recording)
    assert "".join(data["units"]) == TEXT[5400:]
    assert [[*layer] for layer in data["layers"]] == [["i", "f", "o", "g", "c", "h"]]
    assert {"first_letter", "blank", "vowel"} <= {row["feature"] for row in data["named"]}
    for row in data["named"]:
        assert 0 <= row["value"] <= 1
        at = TEXT.rindex("".join(row["units"]))
        assert at >= 3000  # of the half that is measured
        column = recording.values[Place(row["layer"], row["quantity"])][:, row["index"]]
        np.testing.assert_allclose(row["values"], column[at : at + len(row["units"])], atol=0.006)
