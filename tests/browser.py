"""A real browser for tests: Debian's Chromium, headless, driven by Playwright.

What a page must never do fails the test that opened it: a message on the console, an error, a
request.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")

TIMEOUT = 180_000
"""Milliseconds that anything may take: a busy machine is slow."""

JS = Path(__file__).parent / "js"
"""What npm installs for tests: `npm install` there."""


class Window:
    """Opens pages as a double click does: from a file, without a network. It keeps a tab for all
    pages of the same options."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.faults: list[str] = []
        """What pages said on the console, and asked the network for."""
        self.tabs: dict[str, Any] = {}
        self.opened = 0

    def open(self, html: str, width: int = 800, **options: Any) -> Any:
        """A page with this content. Options are those of a browser context of Playwright, such
        as `color_scheme`."""
        key = repr(options)
        if key not in self.tabs:
            self.tabs[key] = self._watched(self.browser.new_context(**options).new_page())
        tab = self.tabs[key]
        self.opened += 1
        path = self.folder / f"page-{self.opened}.html"
        path.write_text(html, encoding="utf-8")
        tab.set_viewport_size({"width": width, "height": 900})
        tab.goto(path.as_uri())
        path.unlink()
        return tab

    def check(self) -> None:
        """Fail where a page did what it must not."""
        faults, self.faults[:] = self.faults.copy(), []
        assert faults == []

    def _watched(self, page: Any) -> Any:
        page.set_default_timeout(TIMEOUT)
        note = self.faults.append
        page.on("console", lambda message: note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on("dialog", self._refuse)
        page.on("request", lambda request: self._request(request.url))
        return page

    def _refuse(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, url: str) -> None:
        own = (self.folder / f"page-{self.opened}.html").as_uri()
        if url.partition("#")[0] != own and not url.startswith("data:"):
            self.faults.append(f"request: {url}")


@contextlib.contextmanager
def windows(folder: Path) -> Iterator[Window]:
    """What opens pages in a headless Chromium. Skips the test where there is none, or no
    Playwright to drive it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs a browser: {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        # root has no sandbox, and a test no need of a graphics card
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield Window(browser, folder)
        browser.close()


def wait_until(page: Any, condition: str) -> None:
    """Wait for a condition in JavaScript, and for what the page then draws. Playwright's own way
    is refused by the policy of our pages."""
    page.evaluate(
        f"""() => new Promise((done) => {{
            const draw = () => requestAnimationFrame(() => requestAnimationFrame(done));
            const look = () => ({condition}) ? draw() : setTimeout(look, 10);
            look();
        }})"""
    )


def computed(page: Any, function: str, argument: Any) -> Any:
    """What a function in JavaScript makes of an argument. Both go as JSON: Playwright's own way
    takes seconds for ten thousand numbers."""
    script = f"(argument) => JSON.stringify(({function})(JSON.parse(argument)))"
    return json.loads(page.evaluate(script, json.dumps(argument)))


def violations(page: Any) -> list[str]:
    """What axe-core calls serious or critical about the accessibility of a page. Skips where it is
    not installed."""
    path = JS / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        pytest.skip("needs axe-core: npm install in tests/js")
    page.evaluate(path.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [
        f"{each['id']}: {each['help']}: {json.dumps([node['html'] for node in each['nodes']])}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
