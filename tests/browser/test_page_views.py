"""Every view and control of a page works with the mouse and with the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import FITS, NARROW, Makes, Opens
from pages import Made

SIDES = ("normal", "abnormal")


@pytest.fixture(scope="module")
def contention(made: Makes) -> Made:
    return made("contention")


@pytest.fixture
def page(contention: Made, opens: Opens) -> Iterator[Any]:
    with opens(contention.path) as opened:
        yield opened


def data(page: Any) -> dict[str, Any]:
    """Return what the page's script draws from."""
    return page.evaluate("JSON.parse(document.getElementById('data').textContent)")


def drawing(page: Any, canvas: str) -> str:
    """Return what a canvas shows, to be told from what it shows later."""
    return page.locator(canvas).first.evaluate("(canvas) => canvas.toDataURL()")


def text(page: Any, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def drag(page: Any, selector: str, begin: float, end: float) -> None:
    """Press at one share of an element's width, let go at another."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    y = box["y"] + min(box["height"] / 2, 60)
    page.mouse.move(box["x"] + box["width"] * begin, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, y, steps=5)
    page.mouse.up()


# the page


def test_the_sections_are_reached_from_the_bar(page: Any) -> None:
    for link in page.locator("nav[aria-label=Sections] a").all():
        link.click()
        target = page.locator(link.get_attribute("href"))
        bar = page.locator("header.top").bounding_box()
        below = bar["y"] + bar["height"]
        page.wait_for_function(
            "([id, below]) => { const top = document.querySelector(id).getBoundingClientRect().top;"
            " const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 2;"
            " return (top >= below - 2 && top < below + 60) || (atEnd && top < innerHeight); }",
            arg=[link.get_attribute("href"), below],
        )
        assert target.is_visible()
        assert link.is_visible(), "the bar stays in sight"


def test_all_that_folds_unfolds(page: Any) -> None:
    folded = page.locator("details > summary")
    assert folded.count() > 10
    for n in range(folded.count()):
        summary = folded.nth(n)
        if not summary.is_visible():
            continue
        was_open = summary.evaluate("(one) => one.parentElement.open")
        summary.click()
        assert summary.evaluate("(one) => one.parentElement.open") is not was_open
    assert page.evaluate(FITS)


def test_tab_goes_everywhere_and_shows_where_it_is(page: Any) -> None:
    seen = set()
    while "BODY" not in seen:
        page.keyboard.press("Tab")
        place, shown = page.evaluate(
            """() => {
              const own = document.activeElement;
              const style = getComputedStyle(own);
              return [own.closest("[id]")?.id || own.tagName, style.outlineStyle !== "none" || style.boxShadow !== "none"];
            }"""
        )
        assert shown or place == "BODY", f"the focus is somewhere in {place}, and nobody sees it"
        seen.add(place)
    assert {"cycles-mode", "cycles-chart", "timeline-which", "timeline-panels", "function-search", "flame-graph"} <= seen
    assert {"overview", "cycles-table", "function-rows", "metrics", "capture"} <= seen


def test_the_skip_link_leads_to_the_report(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'main'")


def test_colours_follow_the_system(page: Any) -> None:
    canvases = ("#cycles-chart canvas", ".timeline-canvas canvas", "#flame-graph canvas")
    before = [drawing(page, canvas) for canvas in canvases]
    page.emulate_media(color_scheme="dark")
    for canvas, light in zip(canvases, before, strict=True):
        page.wait_for_function(
            "([canvas, light]) => document.querySelector(canvas).toDataURL() !== light", arg=[canvas, light]
        )
    page.emulate_media(color_scheme="light")
    for canvas, light in zip(canvases, before, strict=True):
        page.wait_for_function(
            "([canvas, light]) => document.querySelector(canvas).toDataURL() === light", arg=[canvas, light]
        )


def test_views_follow_the_width(page: Any) -> None:
    canvases = ("#cycles-chart canvas", ".timeline-canvas canvas", "#flame-graph canvas")
    wide = [page.locator(canvas).first.bounding_box()["width"] for canvas in canvases]
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    page.wait_for_function(f"() => {FITS}")
    for canvas, before in zip(canvases, wide, strict=True):
        page.wait_for_function(
            "(canvas) => document.querySelector(canvas).getBoundingClientRect().width <= innerWidth", arg=canvas
        )
        assert page.locator(canvas).first.bounding_box()["width"] < before
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(
        "([canvas, width]) => Math.abs(document.querySelector(canvas).getBoundingClientRect().width - width) < 20",
        arg=[canvases[0], wide[0]],
    )


# cycles


def test_cycles_are_laid_out_in_three_ways(page: Any) -> None:
    seen = {drawing(page, "#cycles-chart canvas")}
    for value in ("apart", "number", "time"):
        button = page.locator(f"#cycles-mode [data-value={value}]")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator("#cycles-mode [aria-pressed=true]").count() == 1
        seen.add(drawing(page, "#cycles-chart canvas"))
    assert len(seen) == 3


def test_a_range_of_cycles_is_selected_with_the_mouse(page: Any) -> None:
    whole = text(page, "#cycles-selection")
    assert whole.startswith("All cycles")
    drag(page, "#cycles-chart .u-over", 0.2, 0.5)
    page.wait_for_function("() => document.querySelector('#cycles-selection').innerText.startsWith('Selected')")
    assert page.locator("#cycles-selection li").count() == 2
    page.locator("#cycles-reset").click()
    assert text(page, "#cycles-selection") == whole
    drag(page, "#cycles-counters .u-over", 0.1, 0.3)
    page.wait_for_function("() => document.querySelector('#cycles-selection').innerText.startsWith('Selected')")
    page.locator("#cycles-chart .u-over").dblclick()
    assert text(page, "#cycles-selection") == whole


def test_a_cycle_under_the_mouse_is_named(page: Any) -> None:
    over = page.locator("#cycles-chart .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    for share in range(1, 40):
        page.mouse.move(box["x"] + box["width"] * share / 40, box["y"] + box["height"] * 0.7)
        if page.locator(".tip").is_visible():
            break
    assert any(side in text(page, ".tip") for side in SIDES)
    page.mouse.move(5, 5)
    page.locator(".tip").wait_for(state="hidden")


def test_cycles_by_keyboard(page: Any) -> None:
    chart = page.locator("#cycles-chart")
    chart.focus()
    page.keyboard.press("ArrowRight")
    first = text(page, "#cycles-cursor")
    assert first.startswith("normal, cycle ")
    page.keyboard.press("ArrowRight")
    assert text(page, "#cycles-cursor") != first
    page.keyboard.press("ArrowLeft")
    assert text(page, "#cycles-cursor") == first
    page.keyboard.press("ArrowDown")
    assert text(page, "#cycles-cursor").startswith("abnormal, cycle ")
    for key in ("0", "Escape"):
        page.keyboard.press("+")
        page.keyboard.press("+")
        assert text(page, "#cycles-selection").startswith("Selected")
        page.keyboard.press("-")
        page.keyboard.press(key)
        assert text(page, "#cycles-selection").startswith("All cycles")
    assert page.evaluate("document.activeElement.id") == "cycles-chart"


def test_phases_are_hidden_and_shown(page: Any) -> None:
    phases = page.locator("#cycles-legend [data-phase]")
    names = [one.get_attribute("data-phase") for one in phases.all()]
    assert names == data(page)["ranks"][0]["phases"]
    whole, picture = text(page, "#cycles-selection"), drawing(page, "#cycles-chart canvas")
    for one in phases.all():
        one.click()
    assert text(page, "#cycles-selection").count("no cycle") == 2
    assert drawing(page, "#cycles-chart canvas") != picture
    for one in phases.all():
        one.click()
    assert text(page, "#cycles-selection") == whole


def test_counters_are_chosen(page: Any) -> None:
    known = data(page)["ranks"][0]["counters"]
    shown = page.locator("#cycles-counters figure.counter")
    before = shown.count()
    page.locator("#cycles-counter-choice summary").click()
    boxes = page.locator("#cycles-counter-choice input")
    assert boxes.count() == len(known)
    boxes.nth(before).check()
    assert shown.count() == before + 1
    for box in boxes.all():
        if box.is_checked():
            box.uncheck()
    assert shown.count() == 0


def test_cycles_are_a_table_too(page: Any) -> None:
    cycles = data(page)["ranks"][0]["cycles"]
    page.locator("#cycles-table summary").click()
    page.locator("#cycles-table tbody tr").first.wait_for()
    assert page.locator("#cycles-table tbody tr").count() == sum(min(len(cycles[side]["t"]), 200) for side in SIDES)
    first = page.locator("#cycles-table tbody tr").first.locator("td").all_inner_texts()
    assert first[:2] == ["normal", str(cycles["normal"]["cycle"][0])]
    assert float(first[3].replace(",", "")) == pytest.approx(cycles["normal"]["dur"][0], rel=1e-5)


# timelines


def test_the_median_and_the_worst_cycles_are_shown(page: Any) -> None:
    known = data(page)["ranks"][0]["timelines"]
    panels = page.locator("section.timeline")
    for value in ("worst", "all", "median"):
        page.locator(f"#timeline-which [data-value={value}]").click()
        wanted = [one for one in known if value in ("all", one["which"])]
        assert panels.count() == len(wanted)
        for panel, one in zip(panels.all(), wanted, strict=True):
            assert (panel.get_attribute("data-side"), panel.get_attribute("data-which")) == (one["side"], one["which"])
            assert f"cycle {one['cycle']}" in panel.locator("h4").inner_text()
    page.locator("section.timeline details summary").first.click()
    rows = page.locator("section.timeline details tbody tr")
    rows.first.wait_for()
    assert rows.count() == min(50, len(known[0]["events"]["start"]))


def test_timelines_on_one_scale_or_each_on_its_own(page: Any) -> None:
    switch = page.locator("#timeline-same")
    shorter = min(("normal", "abnormal"), key=lambda side: next(
        one["dur"] for one in data(page)["ranks"][0]["timelines"] if (one["side"], one["which"]) == (side, "median")
    ))  # fmt: skip
    canvas = f"section.timeline[data-side={shorter}] .timeline-canvas canvas:not(.timeline-axis)"
    common = drawing(page, canvas)
    switch.click()
    assert switch.get_attribute("aria-pressed") == "false"
    assert drawing(page, canvas) != common
    switch.click()
    assert drawing(page, canvas) == common


def test_timelines_by_keyboard(page: Any) -> None:
    canvas = ".timeline-canvas canvas:not(.timeline-axis)"
    page.locator(".timeline-canvas").first.focus()
    whole = drawing(page, canvas)
    for key in ("+", "ArrowRight", "ArrowLeft", "-"):
        before = drawing(page, canvas)
        page.keyboard.press(key)
        assert drawing(page, canvas) != before, key
    for key in ("0", "Escape"):
        page.keyboard.press("+")
        page.keyboard.press(key)
        assert drawing(page, canvas) == whole, key
    page.keyboard.press("n")
    first = text(page, "section.timeline .live")
    assert first
    page.keyboard.press("n")
    assert text(page, "section.timeline .live") != first
    page.keyboard.press("p")
    assert text(page, "section.timeline .live") == first


def test_timelines_with_the_mouse(page: Any) -> None:
    canvas = ".timeline-canvas canvas:not(.timeline-axis)"
    whole = drawing(page, canvas)
    page.locator("#timelines").get_by_role("button", name="Zoom in").click()
    zoomed = drawing(page, canvas)
    assert zoomed != whole
    drag(page, canvas, 0.6, 0.3)
    assert drawing(page, canvas) != zoomed
    page.locator("#timeline-reset").click()
    assert drawing(page, canvas) == whole
    box = page.locator(canvas).first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    scrolled = page.evaluate("scrollY")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function("([canvas, whole]) => document.querySelector(canvas).toDataURL() !== whole", arg=[canvas, whole])
    assert page.evaluate("scrollY") == scrolled
    page.locator(canvas).first.dblclick()
    assert drawing(page, canvas) == whole
    tips = set()
    for share in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * share / 20, box["y"] + 30)
        if page.locator(".tip").is_visible():
            tips.add(text(page, ".tip"))
    assert tips


# the rank


def test_another_rank_is_shown(made: Makes, opens: Opens) -> None:
    with opens(made("mfu").path) as page:
        ranks = data(page)["ranks"]
        assert [one["role"] for one in ranks] == page.locator("#rank option").all_inner_texts()
        assert len(ranks) > 1
        for n in (1, 0):
            page.locator("#rank").select_option(index=n)
            page.wait_for_function(
                "() => document.querySelectorAll('#cycles-plot[data-drawn], #function-table[data-drawn]').length === 2"
            )
            total = f"{len(ranks[n]['functions']['name']):,}"
            assert text(page, "#function-count").startswith(total)
            page.locator("#cycles-table summary").click()
            page.locator("#cycles-table tbody tr").first.wait_for()
            assert page.locator("#cycles-table tbody tr").count() == sum(
                len(ranks[n]["cycles"][side]["t"]) for side in SIDES
            )
