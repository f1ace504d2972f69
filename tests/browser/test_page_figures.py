"""What the page says is what the JSON says, to the last digit that is shown."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
from browsing import Makes, Opens
from pages import TESTED
from test_page_views import data

from reports.view import STATUS_WORDS

NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+−-]?\d+)?")
TIMES = {"µs": 1.0, "ms": 1e3, "s": 1e6}
SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def number(text: str) -> tuple[float, float]:
    """Return a number that is shown, and how far from it the true one may be: half of its last digit."""
    found = NUMBER.search(text)
    assert found, f"no number in {text!r}"
    plain = found[0].replace(",", "").replace("−", "-")
    mantissa, _, exponent = plain.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(plain), 0.5000001 * 10 ** (int(exponent or 0) - decimals)


def agrees(text: str, true: float | None, size: float = 1.0, rounded: float = 0.0) -> None:
    """Check a number that is shown, in a unit ``size`` times the JSON's, and made of one that was ``rounded`` before."""
    if true is None or math.isnan(true):
        assert text.strip() in ("-", "–", ""), f"{text!r} is not known"
        return
    shown, off = number(text)
    assert abs(shown - true / size) <= off + rounded * abs(true / size) + 1e-12, f"{text!r} is not {true / size}"


def times(text: str) -> tuple[list[str], float]:
    """Split times that share one unit: their texts, and the unit in µs."""
    unit = re.search(r"(µs|ms|s)\b", text)
    assert unit, text
    return NUMBER.findall(text), TIMES[unit[1]]


def agree(text: str, *true: float | None) -> None:
    """Check several times that share a unit."""
    texts, unit = times(text)
    assert len(texts) == len(true), text
    for one, value in zip(texts, true, strict=True):
        agrees(one, value, unit)


def opened(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")


@dataclass(frozen=True)
class Row:
    """A row of a table: what its cells say, and the first title in it (names are cut short for the eye)."""

    cells: list[str]
    title: str


def table(page: Any, rows: str) -> list[Row]:
    read = """(rows) => rows.map((row) => ({
      cells: [...row.children].map((cell) => cell.innerText.trim()), title: row.querySelector("[title]")?.title || "",
    }))"""
    return [Row(**row) for row in page.locator(rows).evaluate_all(read)]


@pytest.mark.parametrize("name", [name for name in TESTED if name not in ("again", "loop.aa.r1")])
def test_figures_are_the_jsons(name: str, made: Makes, opens: Opens) -> None:
    own = made(name)
    with opens(own.path, drawn=False, java_script_enabled=False) as plain:
        verdict(plain, own.json)
        causes(plain, own.json)
        ledger(plain, own.json)
        functions(plain, own.json)
    with opens(own.path) as page:
        opened(page)
        metrics(page, own.json)
        columns(page, own.json)
        rows(page, own.json)


def verdict(page: Any, json: dict[str, Any]) -> None:
    own = json["verdict"]
    status = STATUS_WORDS[own["status"]]
    assert page.locator("#verdict").inner_text() == f"{status} {own['headline']}"
    time = own["cycle_time"]
    change = page.locator("figure.change figcaption p")
    if time["ratio"] is None:
        assert change.count() == 0
    else:
        percent, low, high, ratio = NUMBER.findall(change.inner_text().replace("95 %", ""))
        for text, true in zip((percent, low, high), (time["ratio"], *time["ci95"]), strict=True):
            agrees(text, 100 * (true - 1))
        agrees(ratio, time["ratio"])
    reached = page.locator("#capture").inner_text()
    for side in json["captures"]:
        for file in side["files"]:
            assert file["sha256"][:8] in reached


def causes(page: Any, json: dict[str, Any]) -> None:
    cards = page.locator(".causes > ol > li")
    named = json["verdict"]["causes"][:5]
    assert cards.count() == len(named)
    for card, cause in zip(cards.all(), named, strict=True):
        assert cause["id"] in card.locator("h3").inner_text()
        assert card.locator(".next code").inner_text() == cause["next_check"]
        for kind in ("for", "against"):
            told = [one for one in card.locator(f"ul.{kind} li:not(.dim)").all_inner_texts() if not one.startswith("and ")]
            assert set(told) <= set(cause[f"evidence_{kind}"])
            assert bool(told) == bool(cause[f"evidence_{kind}"])


def ledger(page: Any, json: dict[str, Any]) -> None:
    shown = [row.cells for row in table(page, "table.waterfall tbody tr")]
    if not json["ledger"]:
        assert shown == []
        return
    *parts, residual = json["ledger"]
    total = sum(one["delta_us"] for one in json["ledger"])
    inner = shown[1:-1]
    if len(inner) == len(parts) + 1:
        agree(inner.pop()[2], residual["delta_us"])
    else:
        assert abs(residual["delta_us"]) < 0.01 * max(abs(total), 1.0)
    assert len(inner) == len(parts)
    for row, part in zip(inner, parts, strict=True):
        assert row[0].startswith(part["text"])
        agree(row[2], part["delta_us"], part["low_us"], part["high_us"])
        agree(row[4], part["normal_us"], part["abnormal_us"])
        if row[3]:
            agrees(row[3].rstrip("%"), 100 * part["delta_us"] / total)
    whole = re.search(r"(\S+ (?:µs|ms|s)) in all", shown[-1][2])
    agree(whole[1], total)


def functions(page: Any, json: dict[str, Any]) -> None:
    """The static table; the one that the script makes is checked as data and as rows."""
    comparable = json["comparability"]["ok"]
    of = {(one["function"], one["device"]): one for one in json["functions"] if one["rank"] == json["verdict"]["rank"]}
    for row in table(page, "table.changed-most tbody tr"):
        _, device, normal, abnormal, _, shift, q, _ = row.cells
        one = of[row.title, device]
        agree(normal, one["normal_mean_us"])
        agree(abnormal, one["abnormal_mean_us"])
        if comparable and one["shift_us"] is not None and not math.isnan(one["shift_us"]):
            agree(shift, one["shift_us"], one["shift_low_us"], one["shift_high_us"])
            agrees(q, one["q"])
        else:
            assert (shift, q) == ("-", "-")


def metrics(page: Any, json: dict[str, Any]) -> None:
    """Counters of all ranks, the leading one first, and signals."""
    roles = sorted({one["rank"] for one in json["metrics"]}, key=lambda role: role != json["verdict"]["rank"])
    known = [one for role in roles for one in json["metrics"] if one["rank"] == role]
    shown = table(page, "table.metrics tbody tr")
    assert len(shown) == len(known) + len(json["signals"])
    for row, one in zip(shown[: len(known)], known, strict=True):
        name, _, normal, abnormal, shift, delta, q, n = row.cells
        metric, device_and_unit = name.split(maxsplit=1)
        assert metric == one["metric"]
        assert device_and_unit.startswith(one["device"])
        size = scale(device_and_unit.removeprefix(one["device"]))
        agrees(normal, one["normal"], size)
        agrees(abnormal, one["abnormal"], size)
        texts = NUMBER.findall(shift)
        for text, key in zip(texts, ("shift", "shift_low", "shift_high"), strict=True):
            agrees(text, one[key], size)
        agrees(delta, one["cliffs_delta"])
        agrees(q, one["q"])
        assert n.startswith(f"{one['n_normal']:,}, {one['n_abnormal']:,}")


def scale(unit: str) -> float:
    """Return how many of the JSON's units (bytes, seconds, whatever else) one of the page's is."""
    bytes_of = re.search(r"\b([kMGT]?)B(/s)?$", unit)
    if bytes_of:
        return SIZES[bytes_of[1]]
    if re.search(r"· ms$", unit):
        return 1e-3
    return 1e-6 if re.search(r"· µs$", unit) else 1.0


def columns(page: Any, json: dict[str, Any]) -> None:
    """What the script draws from, function by function, to the digits that it is rounded to."""
    everything = data(page)
    same = {
        "normal_us": "normal_mean_us",
        "abnormal_us": "abnormal_mean_us",
        "shift_us": "shift_us",
        "low": "shift_low_us",
        "high": "shift_high_us",
        "q": "q",
        "normal_count": "normal_count",
        "suspicion": "suspicion",
    }
    for rank in everything["ranks"]:
        known = [one for one in json["functions"] if one["rank"] == rank["role"]]
        names = [everything["names"][n] for n in rank["functions"]["name"]]
        assert names == [one["function"] for one in known]
        for short, long in same.items():
            for shown, one in zip(rank["functions"][short], known, strict=True):
                true = one[long]
                if true is None or math.isnan(true):
                    assert shown is None
                else:
                    assert shown == pytest.approx(true, rel=1e-5, abs=1e-12)
        for side in ("normal", "abnormal"):
            compared = rank["cycles"][side]["state"].count(0)
            own = next(one for one in json["ranks"] if one["rank"] == rank["role"])
            assert compared == own["cycle_time"]["n"][side == "abnormal"]


def rows(page: Any, json: dict[str, Any]) -> None:
    """The first rows of the table that the script makes."""
    comparable = json["comparability"]["ok"]
    of: dict[tuple[str, str], dict[str, Any]] = {
        (one["function"], one["device"]): one for one in json["functions"] if one["rank"] == json["verdict"]["rank"]
    }
    shown = table(page, "#function-rows tbody tr[aria-rowindex]")
    assert len(shown) >= min(12, len(of))
    digits = 5e-6  # of what the script was given
    for row in shown:
        _, device, _, normal, abnormal, shift, _, _, q, suspicion = row.cells
        one = of[row.title, device]
        agrees(normal, one["normal_mean_us"], rounded=digits)
        agrees(abnormal, one["abnormal_mean_us"], rounded=digits)
        agrees(suspicion, one["suspicion"], rounded=digits)
        if comparable and one["shift_us"] is not None and not math.isnan(one["shift_us"]):
            agrees(shift.partition("\n")[0], one["shift_us"], rounded=digits)
            if not q.startswith("<"):
                agrees(q, one["q"], rounded=digits)
            else:
                assert one["q"] < 1e-4
