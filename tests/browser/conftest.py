"""Pages in a real browser, from disk: whatever it complains of or asks for fails the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsing import CSP, DRAWN, WIDE, Makes, Opens, Pictures, program
from pages import Made, make


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium: what RCA_CHROMIUM names, the system's, or playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        path = program(playwright)
        if not path.exists():
            pytest.skip(
                "no Chromium: install Debian's package, run `playwright install chromium`, or name one in RCA_CHROMIUM"
            )
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Makes:
    """Make the page of a pair of captures, once per process; pairs that are not beside this checkout are skipped."""
    folder = tmp_path_factory.mktemp("pages")
    known: dict[str, Made] = {}

    def page_of(name: str) -> Made:
        if name not in known:
            known[name] = make(name, folder)
        return known[name]

    return page_of


@pytest.fixture
def opens(chromium: Any) -> Opens:
    """Open a page from disk; when the block ends, nothing may have been complained of, and nothing asked for."""

    @contextmanager
    def opened(
        path: Path, size: tuple[int, int] = WIDE, scheme: str = "light", drawn: bool = True, **more: Any
    ) -> Iterator[Any]:
        viewport = {"width": size[0], "height": size[1]}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, offline=True, **more)
        context.add_init_script(CSP)
        context.set_default_timeout(20_000)
        page = context.new_page()
        complaints: list[str] = []
        own = path.as_uri()

        def asked(request: Any) -> None:
            if request.url.split("#")[0] != own:
                complaints.append(f"asked for {request.url[:200]}")

        def said(message: Any) -> None:
            if message.type in ("error", "warning", "assert"):
                complaints.append(f"{message.type}: {message.text}")

        page.on("request", asked)
        page.on("websocket", lambda socket: complaints.append(f"asked for {socket.url}"))
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: complaints.append(f"opened {popup.url}"))
        page.on("crash", lambda _: complaints.append("crashed"))
        try:
            page.goto(own)
            if drawn:
                page.wait_for_function(DRAWN)
            yield page
            if drawn:
                page.evaluate("() => new Promise((then) => requestAnimationFrame(() => setTimeout(then)))")
            assert complaints == []
        finally:
            context.close()

    return opened


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Take a picture of a page: all of it into the folder that RCA_SCREENSHOTS names, or only to see that it can be done."""
    folder = os.environ.get("RCA_SCREENSHOTS")

    def take(page: Any, name: str) -> None:
        path = Path(folder or tmp_path) / f"{name}.png"
        page.screenshot(path=path, full_page=bool(folder))
        assert path.stat().st_size > 5_000, "a blank page"

    return take
