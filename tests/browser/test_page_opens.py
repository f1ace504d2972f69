"""Every page opens, draws all it has, fits a phone, prints, and shuts nobody out as far as axe-core can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import FITS, NARROW, WIDE, Makes, Opens, Pictures, accessible
from pages import DOCUMENTS, TESTED

LARGEST = 3_000_000
"""Bytes of a page: that much still goes into a ticket."""

ONE_OF_EACH_KIND = [
    ("contention", WIDE, "light"),
    ("contention", NARROW, "dark"),
    ("vllm.software_change.eager.1.r1", NARROW, "dark"),
    ("a100_cpu_frequency_reduction", WIDE, "light"),
    ("mfu", NARROW, "dark"),
    ("startup", WIDE, "light"),
    ("starts", NARROW, "dark"),
    ("bench", WIDE, "light"),
    ("sweep", NARROW, "dark"),
]
"""Pages, widths and schemes for axe-core, which takes seconds for each."""


@pytest.mark.parametrize("name", [*TESTED, *DOCUMENTS])
def test_it_opens_from_disk(name: str, made: Makes, opens: Opens, pictures: Pictures) -> None:
    path = made(name).path
    assert path.stat().st_size < LARGEST
    with opens(path) as page:
        assert page.locator("h1").count() == 1
        assert page.evaluate(FITS)
        for host in page.locator("[data-drawn]").all():
            assert host.inner_text().strip() or host.is_hidden()
        pictures(page, name)
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"() => {FITS}")
        pictures(page, f"{name}-390-dark")


@pytest.mark.parametrize(("name", "size", "scheme"), ONE_OF_EACH_KIND)
def test_it_is_accessible(name: str, made: Makes, opens: Opens, size: tuple[int, int], scheme: str) -> None:
    with opens(made(name).path, size, scheme) as page:
        assert page.evaluate(FITS), "a phone would scroll sideways"
        accessible(page)


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (NARROW, "light")])
def test_everything_opened_is_accessible_too(
    made: Makes, opens: Opens, pictures: Pictures, size: tuple[int, int], scheme: str
) -> None:
    with opens(made("contention").path, size, scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        page.locator("#function-rows button.name").first.click()
        page.locator("#timeline-which [data-value=all]").click()
        page.wait_for_function("() => document.querySelectorAll('section.timeline').length === 4")
        assert page.evaluate(FITS)
        accessible(page)
        pictures(page, f"contention-opened-{size[0]}-{scheme}")


@pytest.mark.parametrize("name", ["contention", "startup", "sweep"])
def test_it_prints(name: str, made: Makes, opens: Opens, tmp_path: Path) -> None:
    with opens(made(name).path) as page:
        pdf = page.pdf(format="A4", path=tmp_path / "page.pdf")
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2
        page.emulate_media(media="print")
        assert page.evaluate(FITS)
        page.emulate_media(media="screen")


def test_the_first_screen_and_the_metrics_need_no_script(made: Makes, opens: Opens) -> None:
    parts = (".verdict", "figure.distribution svg", "table.waterfall", ".causes h3", "table.metrics", "table.changed-most")
    with opens(made("contention").path, drawn=False, java_script_enabled=False) as page:
        for part in parts:
            assert page.locator(part).first.is_visible(), part
        assert page.locator("#flame").inner_text() == ""


@pytest.mark.parametrize(
    ("markup", "complaint"),
    [
        ("<script>console.error('no')</script>", "error: no"),
        ("<script>console.warn('no')</script>", "warning: no"),
        ("<script>throw new Error('no')</script>", "uncaught: no"),
        ("<img src='https://elsewhere.example/x.png'>", "asked for https://elsewhere.example/x.png"),
        ("<script>fetch('other.json').catch(() => 0)</script>", "asked for file:"),
        ("<meta http-equiv=Content-Security-Policy content=\"style-src 'none'\"><p style='color: red'>", "style-src"),
        ("<script>alert('no')</script>", "dialog: no"),
    ],
)
def test_whatever_is_wrong_is_seen(opens: Opens, tmp_path: Path, markup: str, complaint: str) -> None:
    path = tmp_path / "wrong.html"
    path.write_text(f"<!doctype html><title>wrong</title><body>{markup}</body>")
    with pytest.raises(AssertionError, match=complaint), opens(path):
        pass
