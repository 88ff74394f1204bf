"""The page: one HTML file that needs nothing beside it.

Data are data. The sections go in as one block of JSON, which no browser runs; the script reads
them from there and writes text, never markup. The policy in the page's head allows the script and
the style sheet by their hashes, images as `data:`, and nothing else: no request leaves the page.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from charlstm._version import __version__
from charlstm.errors import UsageError
from charlstm.storage.lock import Path_
from charlstm.text.visible import harmless

ASSETS = Path(__file__).parent / "assets"

SECTIONS = (
    "overview",
    "learning",
    "surprise",
    "cells",
    "gates",
    "reach",
    "alive",
    "memory",
    "summary",
)
"""Names of the sections in the order of the page. Each has labels, a script and, where it needs
one, a style sheet of its name."""

PARTS = {"alive": ("vocabulary", "model", "reading", "strips")}
"""Files that stand before that of a section."""

LANGUAGES = ("en", "ko")

Labels = Mapping[str, Mapping[str, Mapping[str, str]]]

MARKER = "<!doctype html>\n<!-- A page made by charlstm. -->\n"
"""What each page begins with: by this one is known again."""


def page(sections: Mapping[str, Any], *, lang: str, title: str) -> str:
    """The page of some sections, whose data are what JSON can hold, by their names in `SECTIONS`.
    It opens in the language `lang` and can be switched to the other. Raises `UsageError` where
    Jinja2 is missing."""
    environment = _environment()
    names = [name for name in SECTIONS if name in sections]
    labels = {part: texts for part, texts in _labels().items() if part in ("page", *names)}
    script, style = assets(names, "js"), assets(names, "css")
    unit = unit_of(sections)
    shown = {name: sections[name] for name in names}
    data = {"labels": labels, "unit": unit, "sections": shown}
    body: str = environment.get_template("page.html.jinja").render(
        lang=lang,
        title=harmless(title).replace("\n", " "),
        names=names,
        label=lambda key: _label(labels, key, lang, unit),
        script=script,
        script_hash=digest(script),
        style=style,
        style_hash=digest(style),
        data=json_block(data),
        version=__version__,
    )
    return MARKER + body


def unit_of(sections: Mapping[str, Any]) -> str:
    """What the model of some sections reads one by one: `char`, `byte` or `word`."""
    for section in sections.values():
        unit = section.get("unit") or section.get("vocabulary", {}).get("unit")
        if unit:
            return str(unit)
    return "char"


def is_page(path: Path_) -> bool:
    """Whether a file begins as each page does."""
    with open(path, "rb") as file:
        return file.read(len(MARKER)) == MARKER.encode()


def json_block(data: Any) -> str:
    """JSON for a script element: ASCII, without a character that could end the element or begin a
    comment in it. Raises `ValueError` for a number that is not finite."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def assets(names: Iterable[str], kind: str) -> str:
    """The scripts (`js`) or style sheets (`css`) of the page and of some sections as one text."""
    files = ["base", "text", *(part for name in names for part in (*PARTS.get(name, ()), name))]
    paths = [ASSETS / f"{name}.{kind}" for name in files]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.exists())


def digest(text: str) -> str:
    """The hash by which a policy allows a script or a style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise missing("Jinja2") from None
    loader = jinja2.FileSystemLoader(ASSETS)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def missing(package: str) -> UsageError:
    """The error where a package of the extra is not installed."""
    return UsageError(f"a page takes {package}; install it with: pip install 'charlstm[report]'")


@cache
def _labels() -> Labels:
    """The texts of the page by section, name and language."""
    labels: Labels = json.loads((ASSETS / "labels.json").read_text(encoding="utf-8"))
    return labels


def _label(labels: Labels, key: str, lang: str, unit: str) -> str:
    """A label in a language, with {character} and {characters} for what the model reads."""
    part, _, name = key.partition(".")
    text = labels[part][name][lang]
    for blank, number in (("{character}", "unit"), ("{characters}", "units")):
        text = text.replace(blank, labels["page"][f"{number}_{unit}"][lang])
    return text
