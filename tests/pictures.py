"""The pictures of docs/report.md, drawn by a browser from reports, and the curves of the book.

    python tests/pictures.py FOLDER
    python tests/pictures.py --book FOLDER

FOLDER has models and texts: rnn.npz, gru.npz and lstm.npz, three of one size, of
corpora/lighthouse.txt; shakespeare.npz and shakespeare.txt; mujeong.npz and mujeong.txt. Writes
docs/pictures/*.png. Needs Chromium, Playwright and the extra `report`.

With --book, FOLDER is where the commands of chapter 10 of docs/learn ran. Writes
docs/learn/pictures/*.svg. Needs the extra `report` alone.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import charlstm
from charlstm.report.build import report_page
from charlstm.report.learning import learning, parsed

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
OF_THE_BOOK = ROOT / "docs" / "learn" / "pictures"
HIGHEST = 470  # pixels
TIMEOUT = 300_000  # milliseconds; a busy machine is slow


class Picture(NamedTuple):
    """Which part of which report is drawn, after a click."""

    name: str
    models: tuple[str, ...]
    text: str  # a file in the folder, or in the repository
    lang: str
    width: int
    click: str | None  # what a button says
    first: str  # selectors of the first and the last element that are drawn
    last: str


DRAWN = (
    Picture(
        *("vanishing-gradient", ("lstm", "gru", "rnn"), "corpora/lighthouse.txt", "en", 720, None),
        *("#reach .axis", "#reach .key + .note"),
    ),
    Picture(
        *("surprise", ("shakespeare",), "shakespeare.txt", "en", 1000, None),
        *("#surprise .key", "#surprise .beside"),
    ),
    Picture(
        *("unit-shakespeare", ("shakespeare",), "shakespeare.txt", "en", 720),
        *("how far into the line", "#cells .found", "#cells .found"),
    ),
    Picture(
        *("unit-mujeong", ("mujeong",), "mujeong.txt", "ko", 720, "따옴표 안"),
        *("#cells .found", "#cells .found"),
    ),
)


def draw(tab: Any, picture: Picture) -> None:
    """Draw a picture of the page that is open."""
    if picture.click is not None:
        tab.locator("button", has_text=re.compile(f"^{picture.click} ")).click()
    boxes = [tab.locator(name).first.bounding_box() for name in (picture.first, picture.last)]
    scrolled = tab.evaluate("scrollY")
    top = boxes[0]["y"] + scrolled - 8
    bottom = boxes[1]["y"] + scrolled + boxes[1]["height"] + 8
    clip = {"x": 0, "y": top, "width": picture.width, "height": min(bottom - top, HIGHEST)}
    path = PICTURES / f"{picture.name}.png"
    tab.screenshot(path=path, clip=clip, full_page=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def main(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    pages: dict[tuple[tuple[str, ...], str], str] = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as work:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for picture in DRAWN:
            key = picture.models, picture.lang
            if key not in pages:
                languages = {name: charlstm.load(folder / f"{name}.npz") for name in picture.models}
                text = next(p for p in (folder / picture.text, ROOT / picture.text) if p.exists())
                pages[key] = report_page(
                    languages, text.read_text(encoding="utf-8"), lang=picture.lang, length=700
                )
            path = Path(work, "page.html")
            path.write_text(pages[key], encoding="utf-8")
            tab = browser.new_page(viewport={"width": picture.width, "height": 900})
            tab.set_default_timeout(TIMEOUT)
            tab.goto(path.as_uri())
            draw(tab, picture)
            tab.close()
        browser.close()


def book(folder: Path) -> None:
    """Draw the curves of the book: how the model of chapter 10 learned."""
    log = parsed((folder / "log.jsonl").read_bytes().splitlines(), "log.jsonl")
    svg = learning(charlstm.load(folder / "ferry.npz"), log)["svg"]
    path = OF_THE_BOOK / "learning.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(base64.b64decode(svg))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--book", folder]:
            book(Path(folder))
        case [folder]:
            main(Path(folder))
        case _:
            sys.exit(__doc__)
