"""The page of a report, and the command that makes it."""

from __future__ import annotations

import builtins
import json
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
from reported import TEXT
from support import fails, posix, run, trained

import charlstm
from charlstm.api import LanguageModel
from charlstm.errors import UsageError
from charlstm.report.build import report_page, sections
from charlstm.report.learning import learning, parsed, thinned
from charlstm.report.page import ASSETS, LANGUAGES, MARKER, SECTIONS, digest, json_block, page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

LABELS: dict[str, dict[str, dict[str, str]]]
LABELS = json.loads((ASSETS / "labels.json").read_text(encoding="utf-8"))

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "\u2028\u2029\0\x1b[31m",
    "\ud800 \udfff \udc80",
    "\u202eevil\u2066",
    "'\"`&amp;&lt;",
    "]]>--></style>",
)


def data_of(text: str) -> Any:
    """What the block of JSON of a page holds."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(block)


def inlined(text: str, kind: str) -> str:
    """The script or style sheet of a page."""
    (found,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.S)
    return str(found)


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_data(text: str) -> None:
    plain = page({"gates": {"x": "a"}}, lang="en", title="a")
    made = page({"gates": {"x": text, text: [text]}}, lang="en", title=text)
    assert data_of(made)["sections"]["gates"] == {"x": text, text: [text]}
    for mark in ("<", "<script", "<!--", "<style", "<img"):
        assert made.count(mark) == plain.count(mark)
    made.encode("utf-8")
    for character in "\0\x1b\u2028\u2029\u202e\u2066\ud800":
        assert character not in made
    assert "{{" not in re.sub(r"<script.*?</script>", "", made, flags=re.S) or "{{" in text


def test_the_block_is_ascii_and_strict() -> None:
    block = json_block({"<a>": "&é\u2028\ud800"})
    assert block.isascii()
    assert not set("<>&") & set(block)
    with pytest.raises(ValueError, match="JSON"):
        json_block(float("nan"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_policy_allows_what_is_there_and_nothing_else(lang: str) -> None:
    made = page({"gates": {}, "reach": {}}, lang=lang, title="t")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', made)
    assert policy is not None
    expected = {
        "default-src": "'none'",
        "script-src": f"'{digest(inlined(made, 'script'))}'",
        "style-src": f"'{digest(inlined(made, 'style'))}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules == expected
    assert made.index("Content-Security-Policy") < made.index("<script>")
    assert f'<html lang="{lang}">' in made
    assert LABELS["gates"]["title"][lang] in made
    outside = re.sub(r"<(script|style).*?</\1>", "", made, flags=re.S)
    assert not re.search(r" on\w+=| style=|https?:|//", outside)


def test_a_page_has_what_its_sections_need_and_no_more() -> None:
    made = page({"memory": {}, "overview": {}}, lang="en", title="t")
    assert re.findall(r'<section id="(\w+)"', made) == ["overview", "memory"]
    assert {*data_of(made)["labels"]} == {"page", "overview", "memory"}
    assert 'section("memory"' in made
    assert 'section("gates"' not in made
    assert made.startswith(MARKER)


def test_assets_cannot_end_their_element() -> None:
    for path in ASSETS.iterdir():
        text = path.read_text(encoding="utf-8").lower()
        if path.suffix in (".js", ".css"):
            assert not re.search(r"</(script|style)|<!--|\]\]>", text), path.name
        if path.suffix == ".js":
            assert not re.search(r"innerhtml|outerhtml|insertadjacent|document\.write|eval\(", text)
            text = text.replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"new function|fetch\(|xmlhttp|websocket|https?:", text), path.name


def test_no_two_scripts_declare_one_name() -> None:
    """They are parts of one script."""
    declared = [
        name
        for path in sorted(ASSETS.glob("*.js"))
        for name in re.findall(
            r"^(?:const|let|class|function) (\w+)", path.read_text(encoding="utf-8"), re.M
        )
    ]
    assert len(declared) > 50
    assert len(set(declared)) == len(declared)


def test_labels_are_complete() -> None:
    """Each is there in both languages, with the same blanks; each that a script names is there, and
    each is named."""
    for part, texts in LABELS.items():
        for name, label in texts.items():
            assert {*label} == {*LANGUAGES}, f"{part}.{name}"
            blanks = [
                {f for _, f, *_ in string.Formatter().parse(label[x]) if f} for x in LANGUAGES
            ]
            assert blanks[0] == blanks[1], f"{part}.{name}"
    scripts = "".join(path.read_text(encoding="utf-8") for path in ASSETS.glob("*.j*"))
    for part, name in re.findall(r'"(\w+)\.(\w+)"', scripts):
        assert name in LABELS.get(part, {}), f"{part}.{name}"
    keys = [f"{part}.{name}" for part, texts in LABELS.items() for name in texts]
    patterns = [re.escape(p).replace(r"\$\{", "${") for p in re.findall(r"`(\w+\.[^`]*)`", scripts)]
    made = [re.compile(re.sub(r"\$\{.*?\}+", r"\\w+", p)) for p in patterns]
    for key in keys:
        named = f'"{key}"' in scripts or any(p.fullmatch(key) for p in made)
        assert named or key.endswith((".title", ".intro")), key


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra(
    package: str, tmp_path: Path, language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what to install, before anything else is done."""
    find = charlstm.report.build.find_spec
    monkeypatch.setattr(
        "charlstm.report.build.find_spec", lambda name: None if name == package else find(name)
    )
    fails(run("report", "missing.npz", cwd=tmp_path), 2, "pip install 'charlstm[report]'")
    real = builtins.__import__

    def missing(name: str, *others: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match="a page takes"):
        report_page({"m": language}, TEXT)


# --- how it learned ------------------------------------------------------------------------------


def log_lines(*more: dict[str, Any]) -> list[str]:
    line = {"step": 10, "train": 2.0, "valid": None, "lr": 0.1}
    return [json.dumps({**line, **change}) for change in more]


def test_the_samples_of_a_log(tmp_path: Path) -> None:
    trained(tmp_path / "m.npz", TEXT, steps=2)
    command = ("train", tmp_path / "corpus", "-o", "n.npz", "--steps", "40", "--sample-every", "20")
    run(*command, "--set", "train.sample_at=[0]", "--log", "log", "-q", cwd=tmp_path)
    lines = parsed((tmp_path / "log").read_text().splitlines(), "log")
    assert [line["step"] for line in lines if "sample" in line] == [0, 20, 40]
    data = learning(charlstm.load(tmp_path / "n.npz"), lines)
    assert [(step, bits is None) for step, bits, _ in data["samples"]] == [
        (0, True),
        (20, False),
        (40, False),
    ]
    assert all(text for _, _, text in data["samples"])
    assert data["rate"]
    assert data["svg"]


def test_a_log_that_diverged(language: LanguageModel) -> None:
    lines = log_lines({}, {"step": 20}, {"step": 10, "diverged_at": 25}, {"step": 20})
    data = learning(language, parsed(lines, "log"))
    assert data["returns"] == [[25, 10]]


def test_a_torn_line_may_be_the_last() -> None:
    assert len(parsed([*log_lines({}, {}), '{"step": 3'], "log")) == 2


@pytest.mark.parametrize(
    "lines",
    [
        ["a diary"],
        ["[1]", "{}"],
        [*log_lines({}), "x", *log_lines({})],
        log_lines({"step": 1.5}, {}),
        log_lines({"train": "2"}, {}),
        log_lines({"lr": float("nan")}, {}),
        log_lines({"sample": 3}, {}),
        log_lines({"diverged_at": None}, {}),
    ],
)
def test_what_is_no_log(lines: list[str]) -> None:
    with pytest.raises(UsageError, match=r"log: line \d is not of a log"):
        parsed(lines, "log")


def test_thinned() -> None:
    assert thinned([1, 2], 3) == [1, 2]
    few = thinned([*range(100)], 7)
    assert (len(few), few[0], few[-1]) == (7, 0, 99)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, language: LanguageModel, hello: Path) -> Path:
    """A folder with a model and its corpus."""
    path = trained(tmp_path / "charlstm.npz", TEXT, steps=3, **{"model.hidden": 4})
    assert path.exists()
    return tmp_path


def test_the_same_input_gives_the_same_bytes(folder: Path) -> None:
    first = run("report", "--text", "corpus", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert b"wrote charlstm.html (" in first.stderr
    made = (folder / "charlstm.html").read_bytes()
    again = run("report", "--text", "corpus", "-o", "-", cwd=folder)
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout == made
    names = [*data_of(made.decode())["sections"]]
    assert sorted(names) == sorted(SECTIONS)
    assert len(made) < 1_500_000
    assert sorted(os.listdir(folder)) == ["charlstm.html", "charlstm.npz", "corpus"]


def test_a_report_replaces_a_report_and_nothing_else(folder: Path) -> None:
    target = folder / "charlstm.html"
    target.write_bytes(MARKER.encode() + b"an older one")
    target.chmod(0o600)
    process = run("report", "-q", "--length", "50", cwd=folder)
    assert (process.returncode, process.stderr) == (0, b"")
    assert data_of(target.read_text())["sections"]["overview"]["text"] == "own"
    if os.name == "posix":
        assert target.stat().st_mode & 0o777 == 0o600
    target.write_text("my notes")
    fails(run("report", cwd=folder), 2, "charlstm.html exists and is not a page", "(-o)")
    assert target.read_text() == "my notes"


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["-o", "charlstm.npz"], 2, "is the model too"),
        (["--text", "corpus", "-o", "corpus"], 2, "is the file of --text too"),
        (["-o", "no/such/folder.html"], 6, "cannot be written"),
        (["-o", "."], 2, "is a directory"),
        (["--from", "3"], 2, "--from is a place in --text"),
        (["--text", "corpus", "--from", "99999"], 2, "begin before the last two"),
        (["--text", "-", "--log", "-"], 2, "both want standard input"),
        (["charlstm.npz", "-m", "charlstm.npz"], 2, "given twice"),
        (["-m", "-"], 2, "name the page with -o"),
        (["--log", "corpus"], 2, "line 1 is not of a log"),
        (["--text", "missing"], 2, "missing: no such file"),
        (["--text", "/dev/null"], 3, "fewer than two characters"),
        (["missing.npz"], 2, "missing.npz"),
        (["corpus"], 3, "corpus"),
        (["--lang", "fr"], 2, "fr"),
        (["--length", "1"], 2, "--length"),
    ],
)
def test_errors(folder: Path, arguments: list[str], code: int, part: str) -> None:
    before = sorted(os.listdir(folder))
    fails(run("report", *arguments, cwd=folder), code, part)
    assert sorted(os.listdir(folder)) == before


def test_models_beside_it(folder: Path, hello: Path) -> None:
    trained(folder / "rnn.npz", TEXT, steps=3, **{"model.hidden": 4, "model.cell": "rnn"})
    process = run("report", "charlstm.npz", "rnn.npz", "--text", "corpus", cwd=folder)
    assert process.returncode == 0, process.stderr
    data = data_of((folder / "charlstm.html").read_text())["sections"]
    for name in ("reach", "memory"):
        assert [m["name"] for m in data[name]["models"]] == ["charlstm", "rnn"]
    assert [m["name"] for m in data["overview"]["costs"]["others"]] == ["rnn"]
    trained(folder / "words.npz", TEXT, steps=1, **{"text.unit": "word"})
    fails(
        run("report", "charlstm.npz", "words.npz", cwd=folder),
        2,
        "models are compared on one text",
        "words",
    )


def test_an_rnn_has_no_gates(folder: Path) -> None:
    path = trained(folder / "rnn.npz", TEXT, steps=3, **{"model.hidden": 4, "model.cell": "rnn"})
    assert "gates" not in dict(sections({"rnn": charlstm.load(path)}, TEXT))


def test_the_smallest_model(hello: Path, tmp_path: Path) -> None:
    """Of five characters: what cannot be said is left out."""
    process = run("report", hello, "--text", "-", "-o", "h.html", stdin="hello", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    data = data_of((tmp_path / "h.html").read_text())["sections"]
    assert data["cells"]["named"] == []
    assert data["overview"]["costs"]["model"] is None
    assert len(data["surprise"]["units"]) == 5


@posix
def test_a_model_with_a_hostile_name(folder: Path) -> None:
    name = "<b>&amp;\udcff.npz"
    os.rename(folder / "charlstm.npz", os.path.join(folder, name))
    process = run("report", name, "-o", "h.html", "--length", "30", cwd=folder)
    assert process.returncode == 0, process.stderr
    made = (folder / "h.html").read_bytes().decode()
    assert '<h1 dir="auto">&lt;b&gt;&amp;amp;\\xff</h1>' in made
    assert data_of(made)["sections"]["overview"]["name"] == "<b>&amp;\\xff"


def test_from_python(language: LanguageModel) -> None:
    made = report_page({"m": language}, TEXT, lang="ko", title="제목", length=20)
    assert "<title>제목</title>" in made
    assert "".join(data_of(made)["sections"]["surprise"]["units"]) == TEXT[5400:5420]
