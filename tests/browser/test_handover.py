"""The way to ui.perfetto.dev in a real browser: nothing before the click, and the very bytes after it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from traces import BASE_NS, decode_trace, write_trace

from rca.api import compare
from reports import machine, perfetto
from reports.page.render import page
from reports.serve import handover
from reports.serve.opening import Site
from reports.serve.serving import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
STAND_IN = """<!doctype html><title>Perfetto</title><script>
window.heard = [];
addEventListener("message", async (event) => {
  if (event.source !== opener) return;
  if (event.data === "PING") { if (%s) event.source.postMessage("PONG", event.origin); return; }
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", event.data.perfetto.buffer));
  window.heard.push({
    origin: event.origin, title: event.data.perfetto.title, fileName: event.data.perfetto.fileName,
    size: event.data.perfetto.buffer.byteLength, sha256: [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(""),
  });
});
</script>"""
"""What of ui.perfetto.dev takes part: it answers PING by PONG once it is loaded, and takes a trace from who opened it."""


class Watched:
    """A page, what it asked of ui.perfetto.dev, and what it complained of."""

    def __init__(self, chromium: Any, answer: Any) -> None:
        self.context = chromium.new_context()
        self.asked: list[str] = []
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        self.context.route("**/*", self._route)
        self._answer = answer
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _route(self, route: Any) -> None:
        url = route.request.url
        if url.startswith(handover.UI):
            self.asked.append(url)
            self._answer(route)
        else:
            if not url.startswith("http://127.0.0.1:"):
                self.elsewhere.append(url)
            route.continue_()

    def status(self, text: str) -> None:
        """Wait until the page says so."""
        sync_api.expect(self.page.locator("#status")).to_contain_text(text, timeout=15_000)


def stand_in(route: Any) -> None:
    route.fulfill(content_type="text/html", body=STAND_IN % "true")


def silent(route: Any) -> None:
    """Be a page that is loaded and never says so."""
    route.fulfill(content_type="text/html", body=STAND_IN % "false")


@contextmanager
def watched(chromium: Any, answer: Any = stand_in) -> Iterator[Watched]:
    own = Watched(chromium, answer)
    try:
        yield own
    finally:
        own.context.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("served")
    for side, slow in (("normal", 1.0), ("abnormal", 1.3)):
        for rank in (0, 1):
            write_trace(base / side / f"rank{rank}.json", decode_trace(rank=rank, seed=rank, slow=slow))
    sides: Any = {"normal": base / "normal", "abnormal": base / "abnormal"}
    result = compare(**sides, pictures=True)
    report = base / "report"
    report.mkdir()
    (report / "report.html").write_text(page(result))
    (report / "report.json").write_text(machine.comparison_json(result))
    perfetto.write_traces(result, sides, report / "perfetto")
    return report


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    with Server() as server, Site(folder) as names:
        thread = threading.Thread(target=server.run, args=(names,))
        thread.start()
        yield server.url
        server.stop()
        thread.join()


def hand_over(w: Watched) -> Any:
    with w.context.expect_page() as opened:
        w.page.get_by_role("button", name="Open it in Perfetto").click()
    w.status("Handed over")
    return opened.value


def test_nothing_before_the_click_and_the_very_bytes_after_it(chromium: Any, url: str, folder: Path) -> None:
    path = folder / "perfetto" / "abnormal.json.gz"
    origin = perfetto.header(path)["origin_ns"]
    with watched(chromium) as w:
        w.page.goto(f"{url}perfetto/abnormal?ts={origin + 30_000_000}&dur=4000000")
        sync_api.expect(w.page.get_by_role("button")).to_have_count(1)
        w.page.wait_for_timeout(500)
        assert w.asked == []
        tab = hand_over(w)
        assert w.asked == [f"{handover.UI}/"]
        assert tab.url == f"{handover.UI}/#!/?visStart=29000000&visEnd=35000000&ts=30000000&dur=4000000"
        tab.wait_for_function("heard.length > 0")
        assert tab.evaluate("heard") == [
            {
                "origin": url.rstrip("/"),
                "title": "rca abnormal",
                "fileName": "abnormal.json.gz",
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        ]
        assert (w.elsewhere, w.errors) == ([], [])
        sync_api.expect(w.page.get_by_role("button")).to_be_enabled()
        hand_over(w)
        assert len(w.asked) == 2


def test_the_report_works_as_it_is_served_and_leads_here(chromium: Any, url: str) -> None:
    with watched(chromium) as w:
        w.page.goto(url)
        link = w.page.locator("a.perfetto:visible").first
        side = "abnormal" if "abnormal" in link.get_attribute("href") else "normal"
        link.click()
        sync_api.expect(w.page.get_by_role("heading")).to_have_text(f"Timeline of the {side} side")
        assert "visStart=" in hand_over(w).url
        assert (w.elsewhere, w.errors) == ([], [])


def test_one_of_several_files_is_chosen(chromium: Any, url: str, folder: Path) -> None:
    (folder / "perfetto").rename(folder / "kept")
    try:
        with watched(chromium) as w:
            w.page.goto(f"{url}perfetto/normal?file=rank1.json&ts_us=2000&dur_us=100")
            sync_api.expect(w.page.get_by_role("radio", name="rank1.json")).to_be_checked()
            w.page.get_by_role("radio", name="rank0.json").check()
            tab = hand_over(w)
            tab.wait_for_function("heard.length > 0")
            assert tab.evaluate("heard[0].fileName") == "rank0.json"
            assert tab.evaluate("heard[0].size") == (folder.parent / "normal" / "rank0.json").stat().st_size
            assert w.errors == []
            w.page.goto(f"{url}perfetto/normal?ts={BASE_NS + 2_000_000}&dur=1000")
            assert hand_over(w).url.endswith("/#!/?visStart=2000000&visEnd=2001000")
    finally:
        (folder / "kept").rename(folder / "perfetto")


def test_an_unreachable_perfetto_is_said(chromium: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PATIENCE_MS", (300, 1500))
    with watched(chromium, lambda route: route.abort("internetdisconnected")) as w:
        w.page.goto(f"{url}perfetto/normal")
        w.page.get_by_role("button").click()
        w.status("No answer from ui.perfetto.dev yet")
        w.status("did not answer, so nothing was sent")
        sync_api.expect(w.page.get_by_role("button")).to_be_enabled()


def test_a_page_that_never_answers_gets_nothing(chromium: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PATIENCE_MS", (200, 1000))
    with watched(chromium, silent) as w:
        w.page.goto(f"{url}perfetto/normal")
        with w.context.expect_page() as opened:
            w.page.get_by_role("button").click()
        w.status("did not answer, so nothing was sent")
        assert opened.value.evaluate("heard") == []


def test_answers_of_others_count_for_nothing(chromium: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that Perfetto's tab was led to has another origin; so has this page itself."""
    monkeypatch.setattr(handover, "PATIENCE_MS", (200, 1000))
    elsewhere = "https://elsewhere.example/"
    leads_away = f"<script>location.replace('{elsewhere}')</script>"
    with watched(chromium, lambda route: route.fulfill(content_type="text/html", body=leads_away)) as w:
        w.context.route(f"{elsewhere}**", stand_in)
        w.page.goto(f"{url}perfetto/normal")
        with w.context.expect_page() as opened:
            w.page.get_by_role("button").click()
        w.page.evaluate("postMessage('PONG', '*')")
        w.status("did not answer, so nothing was sent")
        assert opened.value.url == elsewhere
        assert opened.value.evaluate("heard") == []


def test_a_blocked_tab_is_said(chromium: Any, url: str) -> None:
    with watched(chromium) as w:
        w.page.add_init_script("window.open = () => null")
        w.page.goto(f"{url}perfetto/normal")
        w.page.get_by_role("button").click()
        w.status("Allow pop-ups for it, then press the button again")
        assert (w.asked, w.errors) == ([], [])


def test_a_closed_tab_is_said(chromium: Any, url: str) -> None:
    with watched(chromium, silent) as w:
        w.page.goto(f"{url}perfetto/normal")
        with w.context.expect_page() as opened:
            w.page.get_by_role("button").click()
        opened.value.close()
        w.status("The tab was closed before")


def test_a_server_that_ended_is_said(chromium: Any, folder: Path) -> None:
    with watched(chromium) as w:
        with Server() as server, Site(folder) as names:
            thread = threading.Thread(target=server.run, args=(names,))
            thread.start()
            w.page.goto(f"{server.url}perfetto/normal")
            server.stop()
            thread.join()
        w.page.get_by_role("button").click()
        w.status("rca open does not run any more")


def test_a_file_that_changed_is_said(chromium: Any, url: str, folder: Path) -> None:
    path = folder / "perfetto" / "normal.json.gz"
    content = path.read_bytes()
    try:
        with watched(chromium) as w:
            w.page.goto(f"{url}perfetto/normal")
            path.write_bytes(content + b"\0")
            w.page.get_by_role("button").click()
            w.status("has changed (load the page once more)")
    finally:
        path.write_bytes(content)


def test_the_page_works_by_keyboard_and_in_the_dark(chromium: Any, url: str) -> None:
    with watched(chromium) as w:
        w.page.emulate_media(color_scheme="dark")
        w.page.set_viewport_size({"width": 390, "height": 700})
        w.page.goto(f"{url}perfetto/abnormal")
        w.page.keyboard.press("Tab")
        assert w.page.evaluate("document.activeElement.id") == "open"
        with w.context.expect_page():
            w.page.keyboard.press("Enter")
        w.status("Handed over")
        assert w.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        w.page.get_by_role("link", name="The report").click()
        assert w.page.url == url
        assert w.errors == []
