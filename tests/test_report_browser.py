"""The sections of a report in a real browser: what they show, and that nothing else happens."""

from __future__ import annotations

import base64
import copy
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from browser import Window, violations
from reported import TEXT
from support import trained

import charlstm
from charlstm.report.build import sections
from charlstm.report.learning import parsed
from charlstm.report.page import ASSETS, page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

LABELS = json.loads((ASSETS / "labels.json").read_text(encoding="utf-8"))

Data = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The sections of three small models of one text, with a log."""
    folder = tmp_path_factory.mktemp("report")
    languages = {
        cell: charlstm.load(
            trained(folder / f"{cell}.npz", TEXT, 60, **{"model.hidden": 8, "model.cell": cell})
        )
        for cell in ("lstm", "gru", "rnn")
    }
    lines = [
        {"step": n, "train": 4 / n, "valid": 4 / n, "lr": 0.1, "sample": "a b"} for n in (1, 2)
    ]
    lines.append({"step": 1, "diverged_at": 2})
    log = parsed(map(json.dumps, lines), "log")
    return dict(sections(languages, TEXT, log, length=400))


@pytest.fixture(scope="module")
def html(data: Data) -> str:
    return page(data, lang="en", title="A model")


def chosen(tab: Any, section: str) -> list[int]:
    """The numbers of the units that are chosen in the texts of a section."""
    script = "(spans) => spans.map((span) => Number(span.dataset.k))"
    found: list[int] = tab.eval_on_selector_all(f"#{section} .unit.chosen", script)
    return found


def shares(tab: Any, selector: str) -> list[float]:
    """How strongly the units of a text are coloured; cold ones are negative."""
    script = """(spans) => spans.map((span) =>
        (span.classList.contains("cold") ? -1 : 1) * span.style.getPropertyValue("--share"))"""
    found: list[float] = tab.eval_on_selector_all(f"{selector} .unit", script)
    return found


# --- what a page must be -------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_accessibility(window: Window, data: Data, lang: str, theme: str) -> None:
    tab = window.open(page(data, lang=lang, title="A model"), color_scheme=theme)
    assert tab.evaluate("document.documentElement.dataset.theme") == theme
    for summary in tab.locator("summary").all():
        summary.click()
    assert violations(tab) == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_no_sideways_scrolling(window: Window, html: str, width: int) -> None:
    tab = window.open(html, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_both_languages_are_complete(window: Window, html: str) -> None:
    """Each label of the page is the Korean one after the switch, and no name of a screen reader
    stays in English."""
    tab = window.open(html)
    still = tab.locator("section:not(#alive)")  # there, the model may be reading yet
    before = still.all_inner_texts()
    tab.click("#language")
    assert tab.evaluate("document.documentElement.lang") == "ko"
    for key, shown in tab.eval_on_selector_all(
        "[data-label]", "(nodes) => nodes.map((node) => [node.dataset.label, node.textContent])"
    ):
        part, _, name = key.partition(".")
        pattern = re.escape(LABELS[part][name]["ko"])
        assert re.fullmatch(re.sub(r"\\\{\w+\\\}", r"[\\s\\S]*", pattern), shown), key
    for name in tab.eval_on_selector_all(
        "[aria-label], img", "(nodes) => nodes.map((n) => n.getAttribute('aria-label') ?? n.alt)"
    ):
        assert re.search("[가-힣]", name), name
    tab.click("#language")
    assert still.all_inner_texts() == before


@pytest.mark.parametrize(("unit", "what"), [("byte", "byte"), ("word", "word")])
def test_units_are_called_what_they_are(window: Window, data: Data, unit: str, what: str) -> None:
    """A page of a model of words says words where others say characters."""
    made = copy.deepcopy(data)
    made["overview"]["unit"] = unit
    for lang, name in (("en", what), ("ko", {"byte": "바이트", "word": "단어"}[unit])):
        html = page(made, lang=lang, title="A model")
        tab = window.open(html)
        for section in ("surprise", "memory"):
            assert name in tab.inner_text(f"#{section} .intro")
        assert name in tab.inner_text("#overview .own")
        assert "{" not in tab.inner_text("main")
        intros = " ".join(tab.locator(".intro, #cells .note, #memory .note").all_inner_texts())
        assert ("character" if lang == "en" else "글자") not in intros
        assert tab.inner_text("#surprise .intro") in html


def test_the_theme_is_switched(window: Window, html: str) -> None:
    tab = window.open(html, color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    pixel = "document.querySelector('.map').toDataURL()"
    light = tab.evaluate(colour), tab.evaluate(pixel)
    tab.click("#theme")
    dark = tab.evaluate(colour), tab.evaluate(pixel)
    assert light[0] != dark[0] and light[1] != dark[1]
    tab.click("#theme")
    assert (tab.evaluate(colour), tab.evaluate(pixel)) == light


def test_every_control_is_reached_by_the_keyboard(window: Window, html: str) -> None:
    tab = window.open(html)
    script = """() => {
        const wanted = "a[href], button, input, textarea, select, summary, .text";
        const all = [...document.querySelectorAll(wanted)].filter((node) => node.checkVisibility());
        all.forEach((node, k) => { node.dataset.place = k; });
        return all.length;
    }"""
    count, reached = tab.evaluate(script), set()
    for _ in range(3 * count):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.dataset.place"))
    composite = tab.eval_on_selector_all(
        "#alive [tabindex='-1']", "(nodes) => nodes.map((node) => node.dataset.place)"
    )
    assert {str(k) for k in range(count)} - reached <= set(composite)


def test_it_prints(window: Window, html: str) -> None:
    tab = window.open(html)
    tab.emulate_media(media="print")
    assert not tab.is_visible("#theme")
    assert tab.is_visible("#surprise .text")
    tab.emulate_media(media="screen")


# --- the sections --------------------------------------------------------------------------------


def test_what_it_is(window: Window, html: str, data: Data) -> None:
    tab = window.open(html)
    costs = data["overview"]["costs"]
    rows = tab.locator("#overview .measures li").all_inner_texts()
    values = [costs["guessing"], costs["counting"], *(o["bits"] for o in costs["others"])]
    assert len(rows) == 5
    ordered = sorted([*values, costs["model"]], reverse=True)
    for row, bits in zip(rows, ordered, strict=True):
        assert f"{bits:.2f} bits per character" in row
    assert tab.inner_text("#overview pre") == data["overview"]["command"]


def test_a_command_is_broken_before_its_options(window: Window, html: str) -> None:
    tab = window.open(html, width=360)
    parts = tab.locator("#overview pre .part")
    texts = parts.all_inner_texts()
    assert len(texts) > 3
    assert all(text.startswith("-") for text in texts[1:])
    height = parts.first.bounding_box()["height"]
    for k, text in enumerate(texts):
        assert len(text) > 30 or parts.nth(k).bounding_box()["height"] == height


def test_the_numbers_of_pictures_can_be_read_on_a_phone(window: Window, html: str) -> None:
    """Ten points in the picture are 9 pixels or more on the screen."""
    tab = window.open(html, width=360)
    script = "(images) => images.map((image) => image.clientWidth / image.naturalWidth)"
    scales = tab.eval_on_selector_all("img", script)
    assert len(scales) == 2
    assert min(scales) * 10 * 96 / 72 >= 9


def test_how_it_learned(window: Window, html: str) -> None:
    tab = window.open(html)
    assert tab.locator("#learning .sample").count() == 2
    assert tab.inner_text("#learning .notice").startswith("At step 2 the training had gone astray")
    script = "(image) => image.naturalWidth > 100 && image.alt.includes('bits at step')"
    assert tab.eval_on_selector("#learning img", script)
    assert tab.locator("#learning .key li").count() == 3
    assert tab.locator("#learning pre").count() == 2


def test_how_it_learned_without_a_log(window: Window, data: Data) -> None:
    """The page says how to have more; a curve that is not there has no colour."""
    learning = {**data["learning"], "samples": [], "logged": False, "rate": False, "table": []}
    tab = window.open(page({"learning": learning}, lang="en", title="A model"))
    assert tab.locator("#learning .key li").all_inner_texts() == ["on the text it learns from"]
    commands = tab.locator("#learning pre").all_inner_texts()
    assert [command.split()[:2] for command in commands] == [
        ["charlstm", "train"],
        ["charlstm", "report"],
    ]


def test_surprise_by_pointer_and_keys(window: Window, html: str, data: Data) -> None:
    tab = window.open(html, width=1200)
    expected = data["surprise"]
    units = tab.locator("#surprise .unit[data-k]")
    got = shares(tab, "#surprise .text")
    bits = expected["bits"]
    assert got == pytest.approx([min(1, (b or 0) / 10) for b in bits], abs=2e-3)

    def check(k: int) -> None:
        assert chosen(tab, "surprise") == [k]
        panel = tab.inner_text("#surprise .panel")
        assert f"{bits[k]:.1f} bits of surprise" in panel
        names = tab.locator("#surprise .bars .name").all_inner_texts()
        assert names == [expected["names"][n] for n, _ in expected["guesses"][k]]
        marked = tab.locator("#surprise .bars .marked").count()
        assert marked == (expected["ranks"][k] >= 0)

    check(max(range(len(bits)), key=lambda k: bits[k] or 0))
    units.nth(30).hover()
    check(30)
    units.nth(41).click()
    check(41)
    tab.focus("#surprise .text")
    for key, k in [("ArrowRight", 42), ("ArrowLeft", 41), ("End", 399), ("ArrowRight", 399)]:
        tab.keyboard.press(key)
        check(k)
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowDown")
    (below,) = chosen(tab, "surprise")
    assert units.nth(below).bounding_box()["y"] > units.nth(0).bounding_box()["y"]
    tab.keyboard.press("ArrowUp")
    assert chosen(tab, "surprise") == [0]


def test_surprise_by_tap(window: Window, html: str) -> None:
    tab = window.open(html, width=360, has_touch=True, is_mobile=True)
    tab.locator("#surprise .unit[data-k]").nth(7).tap()
    assert chosen(tab, "surprise") == [7]
    panel = tab.locator("#surprise .panel").bounding_box()
    assert 0 <= panel["y"] <= 900 - panel["height"]  # in sight
    places = """() => {
        const boxes = [".beside", ".panel", ".text"].map((name) =>
            document.querySelector(`#surprise ${name}`).getBoundingClientRect());
        return [boxes[2].top - boxes[1].bottom, boxes[2].top - boxes[0].top];
    }"""
    tab.eval_on_selector("#surprise h2", "(head) => head.scrollIntoView({behavior: 'instant'})")
    between, below = tab.evaluate(places)
    assert between >= 0  # above the text, of which it hides nothing
    for k in (0, 12):
        tab.locator("#surprise .unit[data-k]").nth(k).tap()
        assert tab.evaluate(places)[1] == below  # nor moves it


def test_units_that_follow_something(window: Window, html: str, data: Data) -> None:
    tab = window.open(html)
    rows = data["cells"]["named"]
    assert len(rows) >= 3
    assert tab.locator("#cells .feature").count() == len(rows)
    for row in rows:
        name = LABELS["cells"][f"feature_{row['feature']}"]["en"]
        button = tab.locator("#cells .feature", has_text=re.compile(rf"^{re.escape(name)} "))
        button.focus()
        tab.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        value = float(button.inner_text().rpartition(" ")[2])
        assert value == pytest.approx(row["value"], abs=0.006)
        strengths = [s / 100 for s in row["strength"]]
        assert shares(tab, "#cells .found .text") == pytest.approx(strengths, abs=1e-3)
        true = tab.locator("#cells .found .text .true").count()
        assert true == (0 if row["numeric"] else sum(row["truth"]))


def test_the_heat_map(window: Window, html: str, data: Data) -> None:
    tab = window.open(html, color_scheme="light")
    for name, what in (("f", "forget gate"), ("c", "cell state"), ("h", "hidden state")):
        tab.locator("#cells .choices button", has_text=what).click()
        heat = data["cells"]["layers"][0][name]
        label = LABELS["cells"][f"what_lstm_{name}"]["en"].replace("{character}", "character")
        assert label in tab.inner_text("#cells")
        codes = list(base64.b64decode(heat["codes"]))
        N = len(data["cells"]["units"])
        for row in (0, 5):
            tab.focus("#cells-unit")
            tab.keyboard.press("Home")
            for _ in range(row):
                tab.keyboard.press("ArrowRight")
            own = [code / 255 for code in codes[row * N : (row + 1) * N]]
            own = own if heat["gate"] else [(2 * x - 1) * heat["scale"] for x in own]
            expected = [math.tanh(x) for x in own] if name == "c" else own
            found = shares(tab, "#cells > .work > .text")
            assert found == pytest.approx(expected, abs=1e-3)
            unit, value = heat["order"][row] + 1, f"{own[0]:.2f}".replace("-", "−")
            tab.focus("#cells > .work > .text")
            tab.keyboard.press("Home")
            assert f"unit {unit}: {value} after" in tab.inner_text("#cells .reading")
        key = tab.inner_text("#cells .frame + .key").split()
        assert key == (["0,", "closed", "1,", "open"] if heat["gate"] else ["negative", "positive"])
    tab.locator("#cells .map").click(position={"x": 3, "y": 1})
    assert tab.input_value("#cells-unit") == "0"


def test_gates(window: Window, html: str, data: Data) -> None:
    tab = window.open(html)
    (gates,) = data["gates"]["layers"]
    script = "(dots) => dots.map((dot) => [dot.getAttribute('cx'), dot.getAttribute('cy')])"
    for n, shares_ in enumerate(gates.values()):
        dots = tab.eval_on_selector_all(f"#gates .scatter:nth-child({n + 1}) circle", script)
        expected = zip(shares_["open"], shares_["closed"], strict=True)
        assert [(float(x) - 42) / 240 for x, _ in dots] == pytest.approx(shares_["open"])
        assert [1 - (float(y) - 12) / 240 for _, y in dots] == pytest.approx(shares_["closed"])
        assert all(left + right <= 1 for left, right in expected)
        still = [deviation < 0.1 for deviation in shares_["deviation"]]
        kinds = "(dots) => dots.map((dot) => dot.classList.contains('still'))"
        assert still == tab.eval_on_selector_all(
            f"#gates .scatter:nth-child({n + 1}) circle", kinds
        )
        ends = [a + b for a, b in zip(shares_["open"], shares_["closed"], strict=True)]
        half = sum(s and share < 0.1 for s, share in zip(still, ends, strict=True))
        summary = tab.locator(f"#gates .scatter:nth-child({n + 1}) > .note").last.inner_text()
        assert summary.endswith(f"resting half open: {half}.")
        title = tab.locator(f"#gates .scatter:nth-child({n + 1}) circle title").first
        assert title.evaluate("(node) => node.textContent").startswith("Unit 1: open")


def test_a_unit_has_one_number_in_all_sections(window: Window, html: str, data: Data) -> None:
    """They are counted from 1, as layers are."""
    tab = window.open(html)
    row = max(data["cells"]["named"], key=lambda row: (row["follows"], row["value"]))
    name = LABELS["cells"][f"feature_{row['feature']}"]["en"]
    tab.locator("#cells .feature", has_text=re.compile(rf"^{re.escape(name)} ")).click()
    assert re.search(rf"\b[Uu]nit {row['index'] + 1} of", tab.inner_text("#cells .found"))


def test_reach(window: Window, html: str, data: Data) -> None:
    tab = window.open(html)
    text = tab.inner_text("#reach")
    for cell in ("rnn", "gru", "lstm"):
        assert LABELS["reach"][f"why_{cell}"]["en"] in text
        assert f"{cell.upper()}: 50 characters back" in text
    kept = {}
    for model in data["reach"]["models"]:
        curve = next(iter(model["states"].values()))
        lag = max(k for k, left in enumerate(curve) if left >= 1e-9)
        kept[model["cell"]] = curve[lag] ** (1 / lag)
        assert curve[50] >= 1e-9 or "50 characters back, <0.0000001% of" in text
        (shown,) = re.findall(rf"^{model['cell'].upper()}: .* keeps ([\d.]+)% of it", text, re.M)
        assert float(shown) == pytest.approx(100 * kept[model["cell"]], abs=0.51)
    costs = data["overview"]["costs"]
    bits = {"lstm": costs["model"], **{other["name"]: other["bits"] for other in costs["others"]}}
    far, best = max(kept, key=kept.__getitem__), min(bits, key=bits.__getitem__)
    assert f"furthest in {far.upper()}; the best at guessing is {best.upper()}" in text
    keys = tab.locator("#reach .key li").all_inner_texts()
    assert keys[0] == "LSTM: cell state c"
    assert keys[2] == "RNN: hidden state h"
    tab.click("#reach summary")
    assert tab.locator("#reach tbody tr").count() == 4
    assert len(data["reach"]["models"]) == 3


def test_memory(window: Window, html: str, data: Data) -> None:
    """All models show the same place, each with its own strengths."""
    tab = window.open(html)
    lags, models = data["memory"]["lags"], data["memory"]["models"]
    strengths = [
        np.frombuffer(base64.b64decode(model["strength"]), np.uint8).reshape(-1, lags)
        for model in models
    ]
    coloured = [np.count_nonzero(s >= 26, axis=1) for s in strengths]
    more = coloured[0] - np.minimum(coloured[1], coloured[2])
    begun = chosen(tab, "memory")
    assert begun == [lags + int(np.argmax(more[lags:]))] * 3
    bars = tab.locator("#memory .bar")
    longest = max(model["halves"][1] for model in models)
    for k, model in enumerate(models):
        share = float(bars.nth(k).evaluate("(bar) => bar.style.getPropertyValue('--share')"))
        assert share == pytest.approx(model["halves"][1] / longest, abs=1e-4)
    tab.locator("#memory .text").nth(1).locator(".unit").nth(100).click()
    assert chosen(tab, "memory") == [100] * 3
    for n, model in enumerate(models):
        codes = base64.b64decode(model["strength"])
        row = [code / 255 for code in codes[100 * lags : 101 * lags]]
        expected = [0.0] * (100 - lags) + row[::-1] + [0.0] * 300
        found = shares(tab, f"#memory .text >> nth={n} >>")[:400]
        assert found == pytest.approx(expected, abs=1e-3)


def test_the_summary_is_of_the_data(window: Window, html: str, data: Data) -> None:
    text = window.open(html).inner_text("#summary")
    named = data["cells"]["named"]
    assert f"among {2 ** data['overview']['costs']['model']:.1f} equally likely" in text
    assert f"Of {len(named)} things" in text
    assert f"{sum(row['follows'] for row in named)} have a unit" in text
    assert f"the last {data['memory']['models'][0]['halves'][1]} characters" in text
    assert re.search(r"50 characters back, [<\d.]+% of the gradient", text)


# --- hostile data --------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</SCRIPT\t><script>alert(3)</script>",
    "<!--<script>",
    "--><script>alert(4)</script>",
    "<img src=x onerror=alert(5)>",
    "<svg onload=alert(6)>",
    "<svg><style><img src=x onerror=alert(7)>",
    "<iframe src=javascript:alert(8)>",
    "<body onload=alert(9)>",
    "<meta http-equiv=refresh content=0;url=http://a.example>",
    "<link rel=stylesheet href=http://a.example/a.css>",
    "<base href=http://a.example/>",
    "<object data=http://a.example></object>",
    "<a href=javascript:alert(10)>a</a>",
    "<template><script>alert(11)</script></template>",
    "<math><mtext><style><img src=x onerror=alert(12)>",
    "' onmouseover=alert(13) x='",
    '" autofocus onfocus=alert(14) x="',
    "`${alert(15)}`",
    "{{ self.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{label}",
    "{name}{bits}",
    "&lt;script&gt;alert(16)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(17)&#62;",
    "]]><script>alert(18)</script>",
    "\\u003cscript\\u003ealert(19)",
    "url(http://a.example)",
    "</style><style>*{display:none}",
    "</title><script>alert(20)</script>",
    "\u2028alert(21)\u2029//",
    "a\0b\x1b[2J\x07",
    "\ud800 \udfff \udc80",
    "\u202egnp.exe\u2066\u200f",
    "__proto__",
    "constructor",
    "🚢\u200d\ufe0f é̸̸̸ שלום",
    "<plaintext>",
    "<details open ontoggle=alert(22)>",
    "<video><source onerror=alert(23)></video>",
    "<style>@import url(http://a.example/a.css);</style>",
    "<script type=module>import('http://a.example/a.js')</script>",
    "<form action=http://a.example><button autofocus formaction=javascript:alert(24)>a",
    '"}]}};alert(25);//\\',
    "$& $1 $$ $` $'",
    "javascript&colon;alert(26) %3Cscript%3Ealert(27)%3C/script%3E",
    "\x7f\x80\x9f\ufffe\U000e0001\U000e0041\u2067",
    "a" * 3000,
    "e" + "\u0301" * 300,
]


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """A copy of data in which every text that comes from a model, a corpus, a log or a name is
    `text`, its characters one after the other where single units stand."""
    if isinstance(value, dict):
        return {name: poisoned(each, text, name) for name, each in value.items()}
    if key == "units" and isinstance(value, list):
        return [text, *(text[k % len(text)] for k in range(1, len(value)))]
    if key in ("names", "samples") and isinstance(value, list):
        return [text if key == "names" else [*row[:2], text] for row in value]
    if key == "states":
        return value
    if isinstance(value, list):
        return [poisoned(each, text) for each in value]
    return text if key in ("name", "command", "sha256", "numpy", "blas", "processor") else value


def legible(text: str) -> str:
    """A text with one sign for all that is no character."""
    return re.sub("[\ud800-\udfff\ufffd]", "?", text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_text(window: Window, data: Data, text: str) -> None:
    """In every section where text shows: nothing runs, nothing is asked for, all is there."""
    made = {name: poisoned(copy.deepcopy(of), text) for name, of in data.items()}
    made["alive"]["seed"] = text.encode("utf-8", "replace").decode()
    tab = window.open(page(made, lang="en", title=text))
    count = "document.querySelectorAll('*').length - document.querySelectorAll('.unit, br').length"
    foreign = "main script, iframe, object, base, body > svg, main link, main style, main b, main a"
    assert tab.locator(foreign).count() == 0
    assert tab.locator("section").count() == len(data)
    assert tab.locator("img").count() == 2
    for selector in ("#surprise .text", "#memory .text >> nth=0", "#cells .found .text"):
        first = tab.locator(f"{selector} >> .unit >> nth=0").evaluate("(node) => node.textContent")
        assert legible(first) == legible(text).replace("\n", "↵")
    for selector in ("#overview .own .name", "#reach .key li", "#learning pre", "#surprise .name"):
        shown = tab.locator(f"{selector} >> nth=0").evaluate("(node) => node.textContent")
        assert legible(text) in legible(shown)
    tab.click("#language")
    tab.locator("#surprise .unit").nth(6).hover()
    assert tab.evaluate(count) > 300
    assert tab.evaluate("document.documentElement.scrollWidth") <= 800
