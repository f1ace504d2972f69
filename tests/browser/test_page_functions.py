"""The table of functions and the flame graph: sorted, searched, filtered, opened, zoomed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Makes, Opens
from pages import Made
from test_page_views import data, drawing, text

NUMBERS = ("normal_us", "abnormal_us", "shift_us", "q", "suspicion")


@pytest.fixture(scope="module")
def contention(made: Makes) -> Made:
    return made("contention")


@pytest.fixture
def page(contention: Made, opens: Opens) -> Iterator[Any]:
    with opens(contention.path) as opened:
        yield opened


def titles(page: Any) -> list[str]:
    """Return the full names of the rows in the document, in their order."""
    return page.locator("#function-rows tbody tr[aria-rowindex] td:first-child").evaluate_all(
        "(cells) => cells.map((cell) => cell.title)"
    )


def known(page: Any) -> list[dict[str, Any]]:
    """Return all functions, one dict each."""
    everything = data(page)
    own = everything["ranks"][0]["functions"]
    columns = ("device", "kind", "normal_count", "abnormal_count", *NUMBERS)
    return [
        {"title": everything["names"][name], **{key: own[key][n] for key in columns}} for n, name in enumerate(own["name"])
    ]


def test_every_column_sorts_both_ways(page: Any) -> None:
    functions = known(page)
    headers = page.locator("#function-rows th[data-key]:has(button)")
    keys = [header.get_attribute("data-key") for header in headers.all()]
    assert {"title", "device", "kind", "calls", *NUMBERS} == set(keys)
    for header, key in zip(headers.all(), keys, strict=True):
        value = (
            (lambda one: one["abnormal_count"] - one["normal_count"]) if key == "calls" else lambda one, key=key: one[key]
        )
        seen = set()
        for _ in range(2):
            header.locator("button").click()
            order = header.get_attribute("aria-sort")
            assert page.locator("#function-rows th[aria-sort]").count() == 1
            stated = [value(one) for one in functions if value(one) is not None]
            wanted = sorted(stated, reverse=order == "descending")
            shown = titles(page)
            by_title: dict[str, list[Any]] = {}
            for one in functions:
                by_title.setdefault(one["title"], []).append(value(one))
            for title, expected in zip(shown, wanted, strict=False):
                assert expected in by_title[title], (key, order)
            seen.add(order)
        assert seen == {"ascending", "descending"}


def test_names_are_searched(page: Any) -> None:
    functions = known(page)
    search = page.locator("#function-search")
    word = functions[3]["title"][:12]
    search.fill(word.upper())
    found = [one for one in functions if word.lower() in one["title"].lower()]
    assert text(page, "#function-count").startswith(f"{len(found)} of ")
    assert set(titles(page)) <= {one["title"] for one in found}
    search.fill("/^aten::.*m$/")
    assert all(title.startswith("aten::") and title.endswith("m") for title in titles(page))
    search.fill("/(/")
    assert text(page, "#function-count") == "This is not a valid pattern."
    search.fill("no such function")
    assert titles(page) == []
    assert text(page, "#function-count").startswith("0 of ")
    search.fill("")
    assert text(page, "#function-count").startswith(f"{len(functions):,} ")


def test_functions_are_filtered(page: Any) -> None:
    functions = known(page)
    for key in ("device", "kind"):
        choice = page.locator(f"#function-{key}")
        for value in sorted({one[key] for one in functions}):
            choice.select_option(value)
            expected = {one["title"] for one in functions if one[key] == value}
            assert set(titles(page)) <= expected
            assert titles(page)
        choice.select_option("")
    page.locator("#function-changed").check()
    changed = [one for one in functions if one["q"] is not None and one["q"] < 0.05]
    assert text(page, "#function-count").startswith(f"{len(changed):,} of ")


def test_a_row_opens_with_the_mouse(page: Any) -> None:
    name = page.locator("#function-rows button.name").nth(2)
    title = titles(page)[2]
    name.click()
    page.locator("tr.detail").wait_for()
    assert text(page, "code.full-name") == title
    assert page.locator("#function-rows button.name").nth(2).get_attribute("aria-expanded") == "true"
    assert "normal: " in text(page, "tr.detail")
    page.get_by_role("button", name="Copy name").click()
    page.wait_for_function("() => document.querySelector('tr.detail button').textContent !== 'Copy name'")
    page.locator("#function-rows button.name").nth(2).click()
    assert page.locator("tr.detail").count() == 0


def test_rows_by_keyboard(page: Any) -> None:
    page.locator("#function-rows button.name").first.focus()
    first = titles(page)[0]
    page.keyboard.press("Enter")
    assert text(page, "code.full-name") == first
    page.keyboard.press("Escape")
    assert page.locator("tr.detail").count() == 0
    row = "document.activeElement.closest('tr').getAttribute('aria-rowindex')"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(row) == "3"
    page.keyboard.press("End")
    assert page.evaluate(row) == str(len(known(page)) + 1)
    page.keyboard.press("Home")
    assert page.evaluate(row) == "2"
    page.keyboard.press("PageDown")
    assert int(page.evaluate(row)) > 4


def test_only_rows_in_sight_are_there_and_all_can_be_reached(page: Any) -> None:
    functions = known(page)
    rows = page.locator("#function-rows")
    assert len(titles(page)) < 60
    seen = set(titles(page))
    height = rows.evaluate("(own) => own.scrollHeight")
    for top in range(0, height, 300):
        rows.evaluate("(own, top) => { own.scrollTop = top; }", top)
        page.evaluate("() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))")
        seen |= set(titles(page))
    assert seen == {one["title"] for one in functions}


# the flame graph


def zoom_by_click(page: Any) -> None:
    canvas = page.locator("#flame-graph canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 19 * 2.5)


def test_the_flame_graph_zooms_with_the_mouse(page: Any) -> None:
    whole = drawing(page, "#flame-graph canvas")
    zoom_by_click(page)
    steps = page.locator("#flame-path button")
    assert steps.count() > 0
    assert text(page, "#flame-cursor")
    assert drawing(page, "#flame-graph canvas") != whole
    steps.first.click()
    assert page.locator("#flame-path button").count() == 0
    box = page.locator("#flame-graph canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 30)
    assert "per cycle" in text(page, ".tip")


def test_the_flame_graph_by_keyboard(page: Any) -> None:
    page.locator("#flame-graph").focus()
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(text(page, "#flame-cursor"))
    assert seen[0] != seen[1]
    assert seen[4] == seen[0]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    deep = page.locator("#flame-path button").count()
    assert deep > 1
    page.keyboard.press("Escape")
    assert page.locator("#flame-path button").count() == deep - 1
    page.keyboard.press("0")
    assert page.locator("#flame-path button").count() == 0


def test_calls_are_found_in_the_flame_graph(page: Any) -> None:
    plain = drawing(page, "#flame-graph canvas")
    everything = data(page)
    stacks = everything["ranks"][0]["stacks"]
    names = [everything["names"][name] for name in stacks["name"]]
    word = names[len(names) // 2][:10]
    page.locator("#flame-search").fill(word.upper())
    found = sum(word.lower() in name.lower() for name in names)
    assert text(page, "#flame-found").startswith(f"{found} call")
    assert drawing(page, "#flame-graph canvas") != plain
    page.locator("#flame-search").fill("")
    assert drawing(page, "#flame-graph canvas") == plain
    for value in ("normal", "abnormal", "larger"):
        button = page.locator(f"#flame-width [data-value={value}]")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
    assert drawing(page, "#flame-graph canvas") == plain
    page.locator("#flame details summary").click()
    page.locator("#flame details tbody tr").first.wait_for()
    assert page.locator("#flame details tbody tr").count() == min(50, len(names))
