"""Scoring, filtering and comparing in pipelines: every line by itself, in its place, at once."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    CORPORA,
    POLYGLOT,
    ROOT,
    STORY,
    UNITS,
    every_unit,
    fails,
    random_model,
    run,
    trained,
)

import charlstm
import charlstm.scoring.scorers
from charlstm.api import LanguageModel
from charlstm.cli import COMMANDS, in_python
from charlstm.cli.options import Number
from charlstm.config.schema import KEYS, Setting, check
from charlstm.errors import ConfigError
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.scoring.evaluation import LineScorer, evaluate, surprisals
from charlstm.scoring.scorers import UNKNOWN_NATS, StaticScorer
from charlstm.text.corpus import Corpus
from charlstm.text.reading import read_lines
from charlstm.text.visible import escaped
from charlstm.text.vocabulary import Vocabulary

LINES = [
    "the boat",
    "",
    "went out calm and out " * 20,
    "배가 나루",
    "שלום 🚢 x\u200f",
    "\t\r é",
    "a",
]


def alone(model: Model, v: Vocabulary, line: str) -> Any:
    """The nats of one line, as the rule says."""
    return surprisals(StaticScorer(model, v.charged), v.encode(f"\n{line}\n"))


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = STORY.read_text(encoding="utf-8")
    return trained(tmp_path_factory.mktemp("en") / "en.npz", corpus)


@pytest.fixture(scope="session")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = (CORPORA / "ferry.txt").read_text(encoding="utf-8")
    return trained(tmp_path_factory.mktemp("ko") / "ko.npz", corpus)


@pytest.fixture(scope="session", params=UNITS)
def of_unit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each unit."""
    path = tmp_path_factory.mktemp("unit") / "m.npz"
    return trained(path, POLYGLOT, 60, **{"text.unit": request.param, "text.valid": 0.0})


# --- the score of a line -----------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize(
    "family", [{}, {"layers": 2}, {"embedding": 4}, {"embedding": 4, "tie": True, "layers": 2}]
)
@every_unit
def test_a_line_is_a_text_between_line_ends(unit: str, cell: str, family: dict[str, Any]) -> None:
    """Many lines side by side have the nats that each has alone, unit by unit."""
    model, v = random_model(unit, cell, **family)
    for line, nats in zip(
        LINES, LineScorer(StaticScorer(model, v.charged), v).surprisals(LINES), strict=True
    ):
        np.testing.assert_allclose(nats, alone(model, v, line), rtol=0, atol=1e-11)
    for line, score in zip(
        LINES, LineScorer(StaticScorer(model, v.charged), v)(LINES), strict=True
    ):
        expected = evaluate(StaticScorer(model, v.charged), v.encode(f"\n{line}\n"), v)
        assert (score.units, score.unknown, score.unit) == (expected.units, expected.unknown, unit)
        assert score.bits == pytest.approx(expected.nats / math.log(2), rel=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("width", "steps"), [(1, 1), (2, 3), (4, 64), (128, 7), (256, 100)])
def test_any_batch_and_order(
    dtype: Any, width: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands beside a line changes its score by less than 1e-4 bits."""
    model, v = random_model(dtype=dtype)
    monkeypatch.setattr(charlstm.scoring.scorers, "WIDTH", width)
    monkeypatch.setattr(charlstm.scoring.scorers, "STEPS", steps)
    rng = np.random.default_rng(width)
    lines = [
        "".join(rng.choice(list(POLYGLOT[:60].replace("\n", "")), n))
        for n in rng.integers(0, 90, 70)
    ]
    lines.append("sea " * 300)
    expected = [alone(model, v, line).sum() / math.log(2) for line in lines]
    scorer = LineScorer(StaticScorer(model, v.charged), v)
    for _ in range(3):
        order = rng.permutation(len(lines)).tolist()
        bits = [score.bits for score in scorer([lines[k] for k in order])]
        tolerance = 1e-4 if dtype is np.float32 else 1e-9
        np.testing.assert_allclose(bits, [expected[k] for k in order], rtol=0, atol=tolerance)


def test_no_lines() -> None:
    model, v = random_model()
    assert LineScorer(StaticScorer(model, v.charged), v)([]) == []


def test_a_model_without_line_ends() -> None:
    """It was never shown one: as context it is nothing, and as what comes it costs its price."""
    v = Corpus.from_text("abcd" * 9, 0.0).vocabulary
    model = Model(Shape("lstm", 4, 5), np.float64)
    model.initialise(np.random.default_rng(0))
    (nats,) = LineScorer(StaticScorer(model, v.charged), v).surprisals(["abc"])
    assert nats.shape == (4,)
    assert nats[-1] == UNKNOWN_NATS
    np.testing.assert_allclose(nats, alone(model, v, "abc"), rtol=0, atol=1e-12)
    (score,) = LineScorer(StaticScorer(model, v.charged), v)([""])
    assert (score.units, score.unknown, score.nats) == (1, 1, UNKNOWN_NATS)


def test_left_out_characters_cost_their_price() -> None:
    """With an entry for them in the vocabulary, too."""
    model, v = random_model(text={"min_count": 6})
    assert v.charged >= 0
    (score,) = LineScorer(StaticScorer(model, v.charged), v)(["the 뷁"])
    assert score.unknown >= 1
    assert score.nats == pytest.approx(alone(model, v, "the 뷁").sum(), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_any_lines(lines: list[str]) -> None:
    model, v = random_model()
    for line, nats in zip(
        lines, LineScorer(StaticScorer(model, v.charged), v).surprisals(lines), strict=True
    ):
        np.testing.assert_allclose(nats, alone(model, v, line), rtol=0, atol=1e-11)


# --- reading lines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", ["", "a", "a\n", "\n", "\n\na\r\n", "ab\ncd\n\nef", "é\u2028\x85\n가"]
)
@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_read_lines(data: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line ends at a line feed and nowhere else; the last one need not have one. A carriage
    return before it is no part of the text, but of the bytes."""
    monkeypatch.setattr("charlstm.text.reading.BLOCK", block)
    (tmp_path / "t").write_bytes(data.encode())
    lines = [line for batch in read_lines(tmp_path / "t") for line in batch]
    expected = data.split("\n")[:-1] if data.endswith("\n") or not data else data.split("\n")
    assert lines == [line.removesuffix("\r") for line in expected]
    assert [line.raw.decode() for line in lines] == [f"{line}\n" for line in expected]
    assert not any(line.bad for line in lines)


@pytest.mark.whole
@pytest.mark.parametrize("options", [["--lines"], ["--above", "-1"], ["--lines", "--chars"]])
def test_a_line_is_answered_at_once(english: Path, options: list[str]) -> None:
    """Before the next one comes."""
    with subprocess.Popen(
        [sys.executable, "-m", "charlstm", "evaluate", "-m", str(english), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for k in range(4):
            process.stdin.write(b"%d\n" % k)
            process.stdin.flush()
            assert str(k).encode() in process.stdout.readline()
            if "--chars" in options:
                assert process.stdout.readline().startswith(b"\\n\t")
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait() == 0


# --- evaluate --lines --------------------------------------------------------------------------


def test_lines(of_unit: Path, tmp_path: Path) -> None:
    """Bits, units and the line as it stands, in its order, from a pipe and from files."""
    model = charlstm.load(of_unit)
    text = "\n".join(LINES)
    process = run("evaluate", "--lines", "-m", of_unit, stdin=text)
    assert process.returncode == 0, process.stderr
    rows = process.stdout.decode().split("\n")
    assert rows.pop() == ""
    for row, line, score in zip(rows, LINES, model.evaluate_lines(LINES), strict=True):
        bits, units, rest = row.split("\t", 2)
        assert (bits, int(units), rest) == (f"{score.bits_per_unit:.4f}", score.units, line)
    (tmp_path / "a").write_text(text[:100], encoding="utf-8", newline="")
    (tmp_path / "b").write_text(f"{text}\n", encoding="utf-8", newline="")
    files = run("evaluate", "--lines", "-m", of_unit, tmp_path / "b", tmp_path / "b").stdout
    assert files == process.stdout * 2
    both = run("evaluate", "--lines", "-m", of_unit, tmp_path / "a", tmp_path / "b").stdout
    assert both.endswith(process.stdout)
    configured = run("evaluate", "--set", "evaluate.lines=true", "-m", of_unit, stdin=text).stdout
    assert configured == process.stdout
    documents = run("evaluate", "--lines", "--json", "-m", of_unit, stdin=text).stdout.decode()
    for document, line, score in zip(
        map(json.loads, documents.split("\n")[:-1]), LINES, model.evaluate_lines(LINES), strict=True
    ):
        assert document.pop("line") == line
        assert document == pytest.approx(score.to_dict())


def test_a_line_is_what_evaluate_says_of_it(english: Path) -> None:
    """The rule, as anybody can check it."""
    (row,) = run("evaluate", "--lines", "-m", english, stdin="The lamp").stdout.splitlines()
    whole = json.loads(run("evaluate", "--json", "-m", english, stdin="\nThe lamp\n").stdout)
    assert row.split(b"\t")[:2] == [f"{whole['bits_per_char']:.4f}".encode(), b"9"]


def test_nothing_to_score(english: Path) -> None:
    assert run("evaluate", "--lines", "-m", english).stdout == b""
    assert run("evaluate", "--above", "1", "-m", english).returncode == 1
    assert run("evaluate", "--lines", "--chars", "-m", english).stdout == b""
    assert run("evaluate", "--chars", "-m", english, stdin="a").stdout == b""


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A model of bytes passes any line on as it is."""
    data = b"caf\xe9 \xff\xfe\nplain\n"
    path = trained(tmp_path / "m.npz", POLYGLOT, 20, **{"text.unit": "byte", "text.valid": 0.0})
    assert run("evaluate", "--above", "0", "-m", path, stdin=data).stdout == data
    rows = run("evaluate", "--lines", "-m", path, stdin=data).stdout.splitlines()
    assert [row.split(b"\t", 2)[2] for row in rows] == data.splitlines()
    (first, _) = run("evaluate", "--lines", "--json", "-m", path, stdin=data).stdout.splitlines()
    assert json.loads(first)["line"] == data.splitlines()[0].decode("utf-8", "replace")


# --- filters -----------------------------------------------------------------------------------


def test_filters(of_unit: Path) -> None:
    """Lines on either side of a threshold, unchanged; grep's exit code."""
    text = "\n".join([*LINES, "the sea was calm", "zzzz qqqq", ""])
    lines = text.split("\n")[:-1]
    bits = [s.bits_per_unit for s in charlstm.load(of_unit).evaluate_lines(lines)]
    middle = sorted(bits)[len(bits) // 2] + 1e-6

    def passed(*options: str | float) -> list[str]:
        process = run("evaluate", "-m", of_unit, *map(str, options), stdin=text)
        out = process.stdout.decode().split("\n")
        assert out.pop() == ""
        assert process.returncode == (0 if out else 1), process.stderr
        return out

    above, below = passed("--above", middle), passed("--below", middle)
    assert above == [line for line, b in zip(lines, bits, strict=True) if b > middle]
    assert below == [line for line, b in zip(lines, bits, strict=True) if b < middle]
    assert len(above) + len(below) == len(lines)
    assert passed("--lines", "--above", middle) == above
    assert passed("--above", 0, "--below", middle) == below
    assert passed("--above", 1e6) == []
    assert passed("--below", 0) == []
    documents = [json.loads(line) for line in passed("--above", middle, "--json")]
    assert [document["line"] for document in documents] == above


def test_a_threshold_of_a_reference(english: Path, tmp_path: Path) -> None:
    """At most a share 1 - Q of the reference's own lines passes, and what is stranger than all."""
    story = STORY.read_text(encoding="utf-8").replace("\n", " ")
    reference = [story[n * 100 : n * 101 + 20] for n in range(50)]
    (tmp_path / "r").write_text("\n".join(reference), encoding="utf-8")
    quantile = ("evaluate", "-m", english, "--reference", tmp_path / "r", "--quantile")
    for q in (0.0, 0.5, 0.9, 1.0):
        process = run(*quantile, str(q), stdin="\n".join(reference))
        assert len(process.stdout.splitlines()) <= round(50 * (1 - q))
        assert process.returncode == (1 if q == 1 else 0)
        assert b"50 lines" in process.stderr
    strange = run(*quantile, "1", stdin=f"{reference[3]}\nqxzvk jjq\n")
    assert strange.stdout == b"qxzvk jjq\n"
    (tmp_path / "empty").write_text("")
    empty = ("evaluate", "-m", english, "--quantile", "0.5", "--reference", tmp_path / "empty")
    fails(run(*empty, stdin="a"), 3, "no lines")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--above", "1", "--quantile", "0.5", "--reference", "r"], ["--above", "--quantile"]),
        (["--quantile", "0.5"], ["--reference"]),
        (["--reference", "r"], ["--quantile"]),
        (["--quantile", "1.5", "--reference", "r"], ["1.5"]),
        (["--quantile", "0.5", "--reference", "-"], ["standard input"]),
        (["--above", "3", "--below", "2"], ["above 3", "below 2"]),
        (["--above", "3", "--chars"], ["--above", "--chars"]),
        (["--color"], ["--chars"]),
        (["--chars", "--color", "--json"], ["--color", "--json"]),
        (["-m", "b", "--chars"], ["one model"]),
        (["-m", "b", "--below", "2"], ["one model"]),
        (["--above", "much"], ["--above"]),
        (["--above", "nan"], ["--above", "nan"]),
        (["--below", "-NaN"], ["--below", "-NaN"]),
        (["--quantile", "nan", "--reference", "r"], ["--quantile", "nan"]),
    ],
)
def test_options_that_do_not_go_together(options: list[str], parts: list[str]) -> None:
    fails(run("evaluate", "-m", "a", *options, "-"), 2, *parts)


@pytest.mark.parametrize(
    ("q", "notice", "passed"),
    [
        ("0", "3 of 5 lines of ref have", b"zz\nzzzz qqqq\n"),  # the lowest, and its equals
        ("0.5", "3 of 5 lines of ref have", b"zz\nzzzz qqqq\n"),
        ("0.8", "4 of 5 lines of ref have", b"zzzz qqqq\n"),
        ("1", "5 of 5 lines of ref have", b""),
    ],
)
def test_what_a_threshold_means(
    english: Path, tmp_path: Path, q: str, notice: str, passed: bytes
) -> None:
    """The notice says how many lines are not above it."""
    reference = "The lamp\nThe lamp\nThe lamp\nzz\nzzzz qqqq\n"
    (tmp_path / "ref").write_text(reference)
    options = ("--quantile", q, "--reference", "ref")
    process = run("evaluate", "-m", english, *options, cwd=tmp_path, stdin=reference)
    assert notice in process.stderr.decode()
    assert process.stdout == passed


@pytest.mark.parametrize("command", list(COMMANDS))
def test_no_option_takes_nan(command: str) -> None:
    """Options for numbers are keys, whole numbers or `Number`."""
    name = in_python(command)
    for parameter in getattr(import_module(f"charlstm.cli.{name}"), name).params:
        kind = parameter.type
        assert isinstance(kind, Number) or not isinstance(kind, click.types.FloatParamType)
        assert not isinstance(kind, click.FloatRange) or isinstance(kind, Number)


def test_no_key_takes_nan() -> None:
    numbers = 0
    for key, field in KEYS.items():
        for value in (math.nan, np.float64("nan")):
            with pytest.raises(ConfigError):
                check([Setting(key, value, "a test")])
        numbers += isinstance(field.default, float)
    assert numbers > 5


# --- several models ----------------------------------------------------------------------------


def test_the_model_that_fits_best(english: Path, korean: Path) -> None:
    """The fewest bits for the line, and how many fewer than the other model's."""
    text = "The lamp was out.\n나루터에서 억수는 한참 생각하였다.\n\nשלום 🚢\n"
    lines = text.split("\n")[:-1]
    models = ("-m", english, "-m", korean)
    rows = run("evaluate", "--lines", *models, stdin=text).stdout.decode().split("\n")[:-1]
    bits = {path: charlstm.load(path).evaluate_lines(lines) for path in (english, korean)}
    for k, (row, line) in enumerate(zip(rows, lines, strict=True)):
        name, margin, rest = row.split("\t", 2)
        en, ko = (bits[path][k].bits for path in (english, korean))
        assert rest == line
        assert name == str(english if en < ko else korean)
        assert float(margin) == pytest.approx(abs(en - ko), abs=1e-4)
    assert rows[0].startswith(str(english))
    assert rows[1].startswith(str(korean))
    documents = run("evaluate", "--lines", "--json", *models, stdin=text).stdout.splitlines()
    first = json.loads(documents[0])
    assert first["model"] == str(english)
    assert first["line"] == lines[0]
    assert first["bits"][str(korean)] - first["bits"][str(english)] == pytest.approx(
        first["margin"]
    )


def test_models_that_cannot_be_compared(english: Path, tmp_path: Path) -> None:
    words = trained(tmp_path / "w.npz", POLYGLOT, 10, **{"text.unit": "word"})
    others = trained(tmp_path / "o.npz", POLYGLOT + "other\n", 10, **{"text.unit": "word"})
    bytes_ = trained(tmp_path / "b.npz", POLYGLOT, 10, **{"text.unit": "byte"})
    for other in (english, others):
        fails(run("evaluate", "--lines", "-m", words, "-m", other, stdin="a"), 2, "models of words")
    fails(run("evaluate", "-m", english, "-m", bytes_, stdin="a"), 2, "--lines")
    process = run("evaluate", "--lines", "-m", english, "-m", bytes_, stdin="나루\n")
    assert process.stdout.startswith(str(bytes_).encode())
    fails(run("evaluate", "--lines", "-m", english, "-m", english, stdin="a"), 2, "twice")
    ferry = trained(tmp_path / "same.npz", POLYGLOT, 20, **{"text.unit": "word"})
    assert b"\t" in run("evaluate", "--lines", "-m", words, "-m", ferry, stdin="the boat").stdout


# --- characters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("a", "a"), (" ", " "), ("\n", r"\n"), ("\t", r"\t"), ("\\", r"\\"), ("\x1b", r"\x1b")),
        *(("가", "가"), ("🚢", "🚢"), ("\u2028", r"\u2028"), ("\u200f", r"\u200f")),
        *(
            (c, f"\\u{ord(c):04x}")
            for c in "\ufe0f\u3164\u034f\u200b\u200c\u2060\ufeff\u0301\u3000"
        ),
        *((c, f"\\u{ord(c):04x}") for c in "\u202e\u2066\u2003\u115f\u2800\u0e31\u180e\udcff"),
        *(("\xa0", r"\xa0"), ("\xad", r"\xad"), ("\U000e0041", r"\U000e0041")),
        *(
            ("cafe\u0301", "cafe\u0301"),
            ("\u0301a", r"\u0301a"),
            ("a\u200d\u0301", r"a\u200d\u0301"),
        ),
        *(("é", "é"), ("ア", "ア"), ("ㅏ", "ㅏ"), ("ن", "ن"), ("!", "!")),
    ],
)
def test_escaped(text: str, expected: str) -> None:
    """What would break or hide in a line is written out; all else is itself."""
    assert escaped(text) == expected


def test_characters(of_unit: Path, tmp_path: Path) -> None:
    """A row for each unit but the first, which is given; the total is evaluate's."""
    language: LanguageModel = charlstm.load(of_unit)
    text = "the sea 배\t나루\nשלום 🚢\x1b[31m\u2028 out\n"
    unit = language.vocabulary.unit
    out = run("evaluate", "--chars", "-m", of_unit, stdin=text).stdout.decode()
    (tmp_path / "t").write_text(text, encoding="utf-8", newline="")
    assert run("evaluate", "--chars", "--model", of_unit, tmp_path / "t").stdout.decode() == out
    rows = [row.split("\t") for row in out.split("\n")[:-1]]
    units = language.vocabulary.split(text)[1:]
    assert [row[0] for row in rows] == [escaped(u) for u in units]
    result = language.evaluate(text)
    assert len(rows) == result.units
    assert float(rows[-1][2]) == pytest.approx(result.bits, abs=1e-3)
    bits = np.array([float(row[1]) for row in rows])
    np.testing.assert_allclose(np.cumsum(bits), [float(r[2]) for r in rows], atol=1e-2)
    documents = run("evaluate", "--chars", "--json", "-m", of_unit, stdin=text).stdout
    last = json.loads(documents.splitlines()[-1])
    assert last["total"] == pytest.approx(result.bits, abs=1e-6)
    assert last["text"] == {"char": "\n", "byte": "0x0a", "word": "<eos>"}[unit]


def test_characters_of_lines(of_unit: Path) -> None:
    """Line after line, each with its end; the totals are those of --lines."""
    lines = ["the boat", "", "배가 🚢"]
    out = run("evaluate", "--lines", "--chars", "-m", of_unit, stdin="\n".join(lines)).stdout
    rows = [row.split("\t") for row in out.decode().split("\n")[:-1]]
    ends = [k for k, row in enumerate(rows) if row[0] in (r"\n", "0x0a", "<eos>")]
    scores = charlstm.load(of_unit).evaluate_lines(lines)
    assert np.diff([-1, *ends]).tolist() == [s.units for s in scores]
    assert [float(rows[k][2]) for k in ends] == pytest.approx([s.bits for s in scores], abs=1e-3)


def test_colour(of_unit: Path) -> None:
    """The text stays what it is; what a terminal would obey is escaped."""
    text = "the sea 배가\nשלום 🚢\x1b[31m qq\\\n"
    for lines in ([], ["--lines"]):
        out = run("evaluate", "--chars", "--color", *lines, "-m", of_unit, stdin=text).stdout
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out.decode())
        assert plain == text.replace("\x1b", r"\x1b")
        codes = re.findall(rb"\x1b\[([0-9;]*)m", out)
        assert set(codes) <= {b"", b"0;32", b"0;33", b"0;31", b"0;1;37;41"}
        assert codes[-1] == b""
        assert len(codes) > 3


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",
        "cafe\u0301",
        "👩\u200d💻",
        "❤\ufe0f",
        "ก\u0e31น",
        "👍🏽",
        "הי\u200f!",
        "a\u00adb",
    ],
)
def test_colour_tears_nothing(unit: str, text: str, of_unit: Path) -> None:
    """What makes one shape stays together, and what is invisible there stays."""
    out = run("evaluate", "--chars", "--color", "-m", of_unit, stdin=f"the {text} sea\n").stdout
    assert re.sub(r"\x1b\[[0-9;]*m", "", out.decode()) == f"the {text} sea\n"
    for c in "\u200c\u0301\u200d\ufe0f\u0e31🏽\u200f":
        assert f"m{c}" not in out.decode()
    assert "\u200d\x1b" not in out.decode()


def test_colour_obeys_nothing(english: Path) -> None:
    text = "a\x1b]0;x\x07b\x9bc\u202ed\u2066e\u2028f\n"
    out = run("evaluate", "--chars", "--color", "-m", english, stdin=text).stdout.decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert plain == r"a\x1b]0;x\x07b\x9bc\u202ed\u2066e\u2028f" + "\n"


def test_info_shows_what_is_invisible(tmp_path: Path) -> None:
    """Each unit of the vocabulary by itself."""
    text = 'e\u0301a\u200cb\ufe0f\u3164\u00a0\u202ec\\"\n' * 9
    for unit, expected in (
        ("char", r': "\n\"\\abce\xa0\u0301\u200c\u202e\u3164\ufe0f"'.replace(r"\n", r"\n", 1)),
        ("word", r"e\u0301a"),
    ):
        path = trained(tmp_path / f"{unit}.npz", text, 2, **{"text.unit": unit, "text.valid": 0.0})
        (row,) = [
            line
            for line in run("info", path).stdout.decode().split("\n")
            if line.startswith("vocabulary")
        ]
        if unit == "char":
            assert row.endswith(expected)
        else:
            assert "e\u0301a\\u200cb\\ufe0f\\u3164" in row
            assert row.isascii() or all(c.isprintable() for c in row)


def test_errors_and_settings_show_what_is_invisible(english: Path, tmp_path: Path) -> None:
    fails(run("sample", "-m", english, "--seed", "a\u3164b"), 2, r"'\u3164' at position 1")
    sets = {"text.valid": 0.0, "sample.stop": ["a\u200b\n"]}
    path = trained(tmp_path / "m.npz", POLYGLOT, 2, **sets)
    assert r'stop ["a\u200b\n"]' in run("info", path).stdout.decode()
