"""Section "Try it" in a real browser: the model in JavaScript, and the page around it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Window, computed, violations, wait_until
from support import (
    CORPORA,
    POLYGLOT,
    every_unit,
    language_of,
    random_model,
    sampled,
    trained,
)

import charlstm
from charlstm.nn.cells import CELLS
from charlstm.nn.model import Model
from charlstm.nn.shape import Shape
from charlstm.nn.stepper import Stepper
from charlstm.report.alive import alive, alive_page, vocabulary_data
from charlstm.report.page import page as page_of
from charlstm.text.corpus import Corpus

pytest.importorskip("jinja2")

FAMILIES: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedded": {"embedding": 5},
    "tied": {"embedding": 6, "tie": True},
    "projected": {"embedding": 4, "tie": True},
}

VOCABULARY = "const v = new VOCABULARIES[data.unit](data);"

READ = """([data, ids]) => {
    const network = new Network(data);
    return ids.map((id) => { network.step(id); return [...softmax(network.logits)]; });
}"""
"""The probabilities that a model of some data gives after each of some ids."""

ODD = [
    *("a", "e", "\u0301", "é", "한", "\u1112", "\u1161", "\u11ab", "글", "ﬁ", "\U0001f6a2", "-"),
    *(" ", " ", "\n", "\t", "\u00a0", "\u0085", "\u001c", "\u2028", "\ufeff", "\u3000", "\u200d"),
    *("<unk>", "<eos>", "\u202e", "\0", "the", "boat"),
]
"""Pieces of texts that are easily read in two ways."""


def probabilities(model: Model, ids: list[int]) -> np.ndarray[Any, Any]:
    """What NumPy makes of ids (N,): (N, V)."""
    stepper = Stepper(model, 1)
    logits = np.array([stepper.step([i])[0].astype(np.float64) for i in ids])
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray[Any, Any] = p / p.sum(axis=1, keepdims=True)
    return result


@pytest.fixture
def workbench(browser: Window) -> Any:
    """A page whose scripts tests can call. It is loaded once."""
    if "workbench" not in browser.tabs:
        html = page_of({"alive": {"left_out": {"weights": 0, "most": 0}}}, lang="en", title="")
        browser.tabs["workbench"] = browser.open(html, locale="en-GB")
    return browser.tabs["workbench"]


def settle(page: Any) -> None:
    """Wait until a page has written what it was asked for, and shown it."""
    wait_until(page, "!document.getElementById('alive-text').readOnly")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the English story, a few steps old, of the default size."""
    text = (CORPORA / "lighthouse.txt").read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("story")
    return trained(folder / "m.npz", text, 150, **{"model.hidden": 100})


# --- the model -----------------------------------------------------------------------------------


@every_unit
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", list(CELLS))
def test_the_probabilities_are_those_of_numpy(
    workbench: Any, cell: str, layers: int, family: str, unit: str
) -> None:
    """At each of 200 units, some of them outside the vocabulary."""
    model, v = random_model(unit, cell, np.float32, layers=layers, **FAMILIES[family])
    ids = np.random.default_rng(5).integers(-1, len(v), 200).tolist()
    found = computed(workbench, READ, [alive(language_of(model, v)), ids])
    np.testing.assert_allclose(found, probabilities(model, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", list(CELLS))
def test_layers_of_several_widths(workbench: Any, cell: str) -> None:
    _, v = random_model()
    model = Model(Shape(cell, len(v), (3, 8, 5), 3, embedding=4), np.float32)
    model.weights.flat[...] = np.random.default_rng(1).normal(0, 0.7, model.weights.flat.shape)
    ids = np.random.default_rng(5).integers(-1, len(v), 50).tolist()
    found = computed(workbench, READ, [alive(language_of(model, v)), ids])
    np.testing.assert_allclose(found, probabilities(model, ids), rtol=0, atol=1e-5)


def test_weights_of_16_bits(workbench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page reads all numbers that 16 bits can be, and computes with the rounded weights."""
    model, v = random_model(dtype=np.float32)
    whole = 4 * -(-4 * len(model.weights.flat) // 3)
    monkeypatch.setattr("charlstm.report.alive.LARGEST", whole - 1)
    every = np.arange(1 << 16, dtype=np.uint16)
    finite = every[np.isfinite(every.view(np.float16))]
    found = computed(workbench, "(bits) => bits.map(half)", finite.tolist())
    assert (np.array(found) == finite.view(np.float16)).all()
    rounded = model.with_weights(model.weights.flat.astype(np.float16).astype(np.float32))
    ids = np.random.default_rng(5).integers(-1, len(v), 100).tolist()
    found = computed(workbench, READ, [alive(language_of(model, v)), ids])
    np.testing.assert_allclose(found, probabilities(rounded, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_temperature_and_the_draw(workbench: Any, temperature: float) -> None:
    """Weights and draws as in `charlstm.generation.choose`, of which the page draws none that is
    unknown."""
    from charlstm.generation.choose import Chooser

    rng = np.random.default_rng(3)
    y, numbers = rng.normal(0, 3, 9), np.append(rng.random(50), [0.0, 1 - 2**-53])
    y[4] = y[6] = y.max() + 1  # equals
    y[2] = 50.0  # unknown
    removed = np.where(np.arange(9) == 2, -np.inf, y)
    p = np.empty(9)
    Chooser(1, 9, temperature=temperature).weigh_(p, removed)
    chooser = Chooser(len(numbers), 9, temperature=temperature)
    got_p, got = computed(
        workbench,
        """([y, temperature, numbers]) => {
            const p = softmax(y, temperature, 2);
            return [[...p], numbers.map((number) => draw(p, number))];
        }""",
        [y.tolist(), temperature, numbers.tolist()],
    )
    np.testing.assert_allclose(got_p, p / p.sum(), rtol=1e-12)
    assert got == chooser(np.tile(removed, (len(numbers), 1)), numbers).tolist()


# --- text to units and back ----------------------------------------------------------------------


@pytest.mark.parametrize("normalize", ["none", "nfc", "nfd", "nfkc"])
@every_unit
def test_texts_become_the_same_ids(workbench: Any, unit: str, normalize: str) -> None:
    generator = random.Random(unit + normalize)
    texts = ["".join(generator.choices(ODD, k=12)) for _ in range(200)]
    texts += ["", "\n", "a", " a ", POLYGLOT, "\ud83d", "\udc41\ud83d"]
    corpus = "".join(ODD[:15]) + POLYGLOT
    v = Corpus.from_text(corpus, 0.0, unit=unit, normalize=normalize).vocabulary
    if unit == "byte":  # what cannot be encoded is replaced in the browser, as typed text is
        texts = texts[:-2]
    encode = f"([data, texts]) => {{ {VOCABULARY} return texts.map((text) => v.encode(text)); }}"
    found = computed(workbench, encode, [vocabulary_data(v), texts])
    assert found == [v.encode(text).tolist() for text in texts]


@every_unit
def test_units_become_the_same_text(workbench: Any, unit: str) -> None:
    """Also bytes that are no UTF-8, and with what stands before."""
    v = Corpus.from_text("\ufeffa é 한\n" + POLYGLOT, 0.0, unit=unit).vocabulary
    rng = np.random.default_rng(4)
    ids = [rng.integers(0, len(v), 60).tolist() for _ in range(50)]
    befores = ["", "a", "a ", "a\n", "\u3000", "한"]
    cases = [[before, each] for before in befores for each in ids]
    write = "cases.map(([before, ids]) => ids.map(v.writer(before)).join(''))"
    script = f"([data, cases]) => {{ {VOCABULARY} return {write}; }}"
    found = computed(workbench, script, [vocabulary_data(v), cases])
    for (before, each), text in zip(cases, found, strict=True):
        writer = v.writer(before)
        expected = "".join(map(writer.write, each)) + writer.end()
        # the two decoders wait for different bytes before they give a character up
        assert text.rstrip("\ufffd") == expected.rstrip("\ufffd")


@every_unit
def test_greedy_continuations_are_those_of_sample(
    window: Window, tmp_path: Path, unit: str
) -> None:
    text = (CORPORA / "ferry.txt").read_text(encoding="utf-8")[:4000]
    path = trained(tmp_path / "m.npz", text, 60, **{"text.unit": unit, "model.layers": 2})
    seed = text[200:230].strip() if unit == "word" else text[200:230]
    language = charlstm.load(path)
    page = window.open(alive_page(language, lang="ko", title="나루"))
    page.fill("#alive-temperature", "0")
    page.fill("#alive-pace", "6")
    for before in (seed, ""):
        page.fill("#alive-text", before)
        page.click(".go")
        settle(page)
        printed = sampled(path, "-t", "0", "--seed", before).removesuffix("\n")
        expected = printed.rstrip("\ufffd")  # a character whose last bytes are not yet written
        assert page.input_value("#alive-text").rstrip("\ufffd") == expected
        assert len(printed) > len(before) + 60


# --- the page ------------------------------------------------------------------------------------


def test_the_guesses_are_what_may_come(window: Window, story: Path) -> None:
    """At the end of the text and, with the caret further back, there, where what came is marked."""
    language = charlstm.load(story)
    v, model = language.vocabulary, language.model
    assert isinstance(model, Model)
    page = window.open(alive_page(language, lang="en", title="story"))
    page.fill("#alive-temperature", "1")
    page.fill("#alive-text", "The lamp ")
    settle(page)
    p = probabilities(model, v.encode("The lamp ").tolist())

    def shown() -> list[str]:
        names: list[str] = page.locator(".guesses .name").all_inner_texts()
        return [name.replace("␣", " ").replace("↵", "\n") for name in names]

    def likeliest(k: int) -> list[str]:
        return [v.units[i] for i in np.argsort(-p[k], kind="stable")[:10]]

    assert shown() == likeliest(-1)
    assert page.locator(".guesses .marked").count() == 0
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    settle(page)
    assert shown() == likeliest(1)
    came = page.locator(".guesses .marked .name").all_inner_texts()
    assert came == (["e"] if "e" in likeliest(1) else [])
    page.locator(".guesses button").first.click(force=True)  # does nothing here
    assert page.input_value("#alive-text") == "The lamp "


def test_a_guess_is_written(window: Window, story: Path) -> None:
    page = window.open(alive_page(charlstm.load(story), lang="en", title="story"))
    page.fill("#alive-text", "The lam")
    settle(page)
    guess = page.locator(".guesses button").nth(1)
    name = guess.locator(".name").inner_text()
    guess.focus()
    page.keyboard.press("Enter")
    settle(page)
    assert page.input_value("#alive-text") == "The lam" + name.replace("␣", " ")


def test_the_numbers_of_a_unit_are_those_of_the_network(window: Window, story: Path) -> None:
    """The chosen unit's gates, after what was typed."""
    language = charlstm.load(story)
    v, model = language.vocabulary, language.model
    assert isinstance(model, Model)
    stepper = Stepper(model, 1)
    stepper.read(v.encode("The lamp"))
    h, c = (s[0, 41] for s in stepper.state)
    page = window.open(alive_page(language, lang="en", title="story"))
    page.fill("#alive-text", "The lamp")
    page.fill("#alive-unit", "42")
    settle(page)
    numbers = page.locator(".quantity .number").all_inner_texts()
    assert page.locator(".quantity .letter").all_inner_texts() == list("ifogch")
    values = [float(number.replace("−", "-")) for number in numbers]
    np.testing.assert_allclose(values[4:], [c, h], atol=0.0051)
    assert "Unit 42 along your text" in page.inner_text("#alive")
    assert page.get_attribute("#alive-unit", "aria-valuetext").startswith("42: i ")


def test_what_the_model_does_not_know_is_named(window: Window, story: Path) -> None:
    page = window.open(alive_page(charlstm.load(story), lang="en", title="story"))
    page.fill("#alive-text", "The 등대\u202e lamp")
    settle(page)
    status = page.inner_text(".status")
    assert "등 대 U+202E" in status
    assert page.input_value("#alive-text") == "The 등대\u202e lamp"
    page.click("#language")
    assert "본 적 없는" in page.inner_text(".status")
    page.fill("#alive-text", "The lamp")
    settle(page)
    assert page.inner_text(".status") == ""


def test_hangul_is_composed(window: Window, korean: Path) -> None:
    """Keystrokes of an input method make a syllable, which is read as it grows."""
    page = window.open(alive_page(charlstm.load(korean), lang="ko", title="나루"))
    page.focus("#alive-text")
    session = page.context.new_cdp_session(page)
    for text in ("ㅎ", "하", "한"):
        composition = {"text": text, "selectionStart": 1, "selectionEnd": 1}
        session.send("Input.imeSetComposition", composition)
        settle(page)
        assert page.input_value("#alive-text") == text
        assert page.inner_text(".status") == ""
        assert page.inner_text(".before") == text
    session.send("Input.insertText", {"text": "한"})
    session.send("Input.imeSetComposition", {"text": "ㄱ", "selectionStart": 1, "selectionEnd": 1})
    session.send("Input.insertText", {"text": "강"})
    settle(page)
    assert page.input_value("#alive-text") == "한강"
    assert page.inner_text(".before") == "한강"


def test_the_keyboard_alone(window: Window, story: Path) -> None:
    """Every control is reached by Tab, and does what it is for."""
    page = window.open(alive_page(charlstm.load(story), lang="en", title="story"))
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    for name in ("language", "theme", "alive-text", "go", "alive-temperature", "alive-pace"):
        assert name in reached
    assert "alive-unit" in reached
    page.focus("#alive-text")
    page.keyboard.type("The ")
    page.keyboard.press("Control+Enter")
    wait_until(page, "document.getElementById('alive-text').value.length > 8")
    assert page.inner_text(".go") == "Stop"
    page.keyboard.press("Escape")
    settle(page)
    text = page.input_value("#alive-text")
    assert text.startswith("The ")
    assert len(text) < 200
    assert page.inner_text(".go") == "Let it write"
    page.focus("#alive-temperature")
    page.keyboard.press("Home")
    assert page.locator("#alive-temperature + output").inner_text() == "0.00"
    page.focus("#alive-unit")
    page.keyboard.press("ArrowRight")
    assert "Unit 2 along" in page.inner_text("#alive")


def test_writing_ends_by_itself(window: Window, story: Path) -> None:
    """After as many units as the settings say, and where the page holds no more."""
    page = window.open(alive_page(charlstm.load(story), lang="en", title="story"))
    page.fill("#alive-pace", "6")
    page.click(".go")
    settle(page)
    assert len(page.input_value("#alive-text")) == 200
    most = int(page.get_attribute("#alive-text", "maxlength"))
    page.fill("#alive-text", "The lamp " * (most // 9) + "a" * (most % 9 - 2))
    page.click(".go")
    settle(page)
    assert len(page.input_value("#alive-text")) == most
    assert "as long as this page can hold" in page.inner_text(".status")


def test_without_motion(window: Window, story: Path) -> None:
    """Who wants no motion sees what was written when it is complete."""
    count = """() => {
        window.drawn = 0;
        const original = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (...kind) {
            window.drawn++;
            return original.apply(this, kind);
        };
    }"""
    drawn = {}
    for motion in ("reduce", "no-preference"):
        html = alive_page(charlstm.load(story), lang="en", title="story")
        page = window.open(html, reduced_motion=motion)
        page.evaluate(count)
        page.fill("#alive-pace", "5")
        page.click(".go")
        settle(page)
        assert len(page.input_value("#alive-text")) == 200
        drawn[motion] = page.evaluate("window.drawn")
    assert drawn["reduce"] < drawn["no-preference"] / 2, drawn


def test_what_is_left_out_says_why(window: Window) -> None:
    data = {"left_out": {"weights": 9_999_999, "most": 3_750_000}}
    page = window.open(page_of({"alive": data}, lang="en", title="large"))
    assert "9,999,999 weights" in page.inner_text("#alive")
    page.click("#language")
    assert "9,999,999개" in page.inner_text("#alive")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_accessibility(window: Window, story: Path, lang: str, theme: str) -> None:
    html = alive_page(charlstm.load(story), lang=lang, title="story")
    page = window.open(html, color_scheme=theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    page.fill("#alive-text", "The lamp was 등대")
    settle(page)
    assert violations(page) == []


def test_no_sideways_scrolling(window: Window, story: Path) -> None:
    for width in (320, 360, 800, 1600):
        page = window.open(alive_page(charlstm.load(story), lang="ko", title="등대"), width)
        page.fill("#alive-text", "The lamp was not")
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- what must not run ---------------------------------------------------------------------------


def test_the_policy_blocks_what_was_not_written_here(window: Window, story: Path) -> None:
    """A script, a handler or a picture that got into the page all the same would do nothing."""
    page = window.open(alive_page(charlstm.load(story), lang="en", title="story"))
    failures: list[str] = []
    page.on("requestfailed", lambda request: failures.append(request.failure))
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend",
                "<img src='data:,' onerror='window.ran = true'>" +
                "<img src='https://example.org/'><p style='color: red' id='styled'>x</p>");
        }"""
    )
    settle(page)
    assert page.evaluate("window.ran") is None
    assert failures == ["csp"]
    window.faults.remove("request: https://example.org/")
    blocked = [fault for fault in window.faults if "Content Security Policy" in fault]
    assert len(blocked) == 4
    assert blocked == window.faults
    window.faults.clear()


RUN = "window.ran=true"
HOSTILE = [
    "</script>",
    f"</script><script>{RUN}</script>",
    f"<script>{RUN}</script>",
    f"</SCRIPT ><svg/onload={RUN}>",
    f"<img src=x onerror={RUN}>",
    f'"><img src=x onerror={RUN}>',
    f"'><svg onload={RUN}>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<a href='javascript:{RUN}'>x</a>",
    f"javascript:{RUN}",
    "<style>*{display:none}</style>",
    "</style><style>body{display:none}",
    "</title><h1>no</h1>",
    "</textarea><b>no</b>",
    "<!--",
    "--><b>",
    "<!--<script>",
    "]]>",
    "<![CDATA[",
    "{{7*7}}",
    "{% include 'x' %}{{ config }}",
    "${7*7}`",
    f"\\u003cscript>{RUN}",
    "&lt;&amp;&#x3c;b&#62;",
    "a\u2028b\u2029c",
    "a\0b",
    "a\ud800b\udfff",
    "\u202eabc\u2066\u202d",
    "\u200d\ufeff\u061c\u00ad",
    "e\u0301\u0301\u0301\u0301 \u0301x",
    "\\\"'\\",
    "\x1b[2J\x07\r\b",
    "__proto__ constructor toString",
    "🚢" * 20 + "\U000e0001",
]
"""Texts that would harm a page that took them for anything else than text."""


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_are_text(window: Window, number: int) -> None:
    """As a title, as characters and words of the vocabulary, as a seed, and typed."""
    text = HOSTILE[number]
    clean = text.encode("utf-8", "replace").decode()  # no vocabulary has lone surrogates
    for unit in ("char", "word"):
        v = Corpus.from_text(f"{clean} a {clean}\n" * 2, 0.0, unit=unit).vocabulary
        model = Model(Shape("gru", len(v), 3), np.float32)
        model.weights.flat[...] = np.random.default_rng(0).normal(0, 1, model.weights.flat.shape)
        data = {**alive(language_of(model, v)), "seed": text}
        page = window.open(page_of({"alive": data}, lang="en", title=text))
        elements = page.evaluate("[...document.querySelectorAll('*')].map((e) => e.localName)")
        page.fill("#alive-text", text + " a")
        page.fill("#alive-pace", "6")
        page.keyboard.press("Tab")
        page.click(".go")
        settle(page)
        page.click("#language")
        settle(page)
        assert page.evaluate("window.ran") is None
        after = page.evaluate("[...document.querySelectorAll('*')].map((e) => e.localName)")
        assert sorted(set(after) - {"dt", "dd"}) == sorted(set(elements) - {"dt", "dd"})
        assert elements.count("script") == 2
        assert "b" not in elements
        assert page.locator("footer").is_visible()
        assert page.locator("h1").count() == 1
        shown = page.input_value("#alive-text")
        typed = text.encode("utf-8", "replace").decode() if "\ud800" in text else text
        assert shown.startswith(typed.replace("\r", "\n")[:3]) or "\ud800" in text
