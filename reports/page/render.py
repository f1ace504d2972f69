"""A comparison as one page: self-contained, nothing is fetched; all but the interactive views is there without a script."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache

import polars as pl
from markupsafe import Markup

from rca.api import Comparison
from rca.comparison import RankComparison
from rca.pictures import Place, distributions
from rca.verdict import Ledger, duration
from reports import html
from reports.cells import plain
from reports.page import figures
from reports.page.data import page_data
from reports.page.limits import Limits
from reports.page.metrics import MAX_Q, MetricBlock, metric_blocks, p_value
from reports.verdict_view import CauseView
from reports.view import RankView, View, side_names, view

SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "base.js",
    "cycle_data.js",
    "cycle_chart.js",
    "cycles.js",
    "timeline.js",
    "timelines.js",
    "functions.js",
    "flame.js",
    "boot.js",
)
"""In the order in which they run."""

STYLES = ("vendor/uPlot.min.css", "page.css", "interactive.css")

MAX_FUNCTIONS = 25


@dataclass(frozen=True)
class Assets:
    """What the page carries: text of its style and script element, and the policy that allows nothing else."""

    style: str
    script: str
    policy: str


@cache
def assets() -> Assets:
    """Return styles and scripts, each as one text, with the Content-Security-Policy that has their hashes."""
    style, script = html.joined(*STYLES), html.joined(*SCRIPTS)
    return Assets(style, script, html.policy(style, script))


def page(result: Comparison) -> str:
    """Return the page of a comparison; figures of single cycles need ``compare(..., pictures=True)``."""
    own, data = assets(), page_data(result)
    text = (
        html.templates()
        .get_template("page.html.j2")
        .render(
            p=_view(result),
            limits=data["limits"],
            policy=own.policy,
            style=Markup(own.style),  # noqa: S704  (this project's own files)
            script=Markup(own.script),  # noqa: S704
            data=Markup(embedded(data)),  # noqa: S704  (escaped there)
        )
    )
    return text.encode(errors="replace").decode()  # a path may hold bytes that are no text


def embedded(data: object) -> str:
    """Return JSON that can stand in a script element: nothing in it ends the element or starts another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@dataclass(frozen=True)
class PlaceView:
    """Where in the files something is seen: in words, and as a link that works where `rca open` serves the page."""

    text: str
    about: str
    where: str
    href: str


@dataclass(frozen=True)
class Part:
    """A row of the waterfall: what is drawn, what is said. ``share`` is of the whole change."""

    bar: figures.Bar
    text: str
    sides: str
    change: str
    interval: str
    share: str
    sure: bool
    places: tuple[PlaceView, ...]


@dataclass(frozen=True)
class CauseCard:
    """A named cause and where it is seen."""

    cause: CauseView
    places: tuple[PlaceView, ...]


@dataclass(frozen=True)
class FunctionRow:
    """A function's time per cycle; ``x`` and ``width`` of its bar in percent, None where cycles are not compared;
    ``sure`` marks q < 0.05.
    """

    name: str
    full: str
    device: str
    normal: str
    abnormal: str
    calls: str
    shift: str
    interval: str
    q: str
    x: str | None
    width: str
    more: bool
    sure: bool
    places: tuple[PlaceView, ...]


@dataclass(frozen=True)
class PageView:
    """Everything on the page. Sentences that begin with ``no_`` stand where something does not exist, and say why."""

    view: View
    title: str
    sides: tuple[str, str]
    status: str
    roles: tuple[str, ...]
    distributions: tuple[figures.DistributionFigure, ...]
    no_distribution: str
    effect: figures.EffectFigure | None
    ratio: str
    noise: str
    no_ratio: str
    waterfall: figures.Waterfall | None
    parts: tuple[Part, ...]
    cancelled: str
    no_ledger: str
    causes: tuple[CauseCard, ...]
    headline_places: tuple[PlaceView, ...]
    other_places: tuple[PlaceView, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    times: figures.TimesFigure | None
    ranks: tuple[RankView, ...]
    functions: tuple[FunctionRow, ...]
    functions_note: str
    metrics: tuple[MetricBlock, ...]


def _view(result: Comparison) -> PageView:
    shown = view(result)
    verdict = result.verdict
    ordered = sorted(result.ranks, key=lambda rank: rank.role != verdict.role)
    leading = ordered[0] if ordered else None
    found = _places(result)
    drawn = distributions(leading) if leading else ()
    ledger = verdict.ledger
    waterfall = figures.waterfall(ledger) if ledger else None
    sides = side_names(result)
    named = tuple(zip(verdict.causes, shown.verdict.causes, strict=False))
    return PageView(
        view=shown,
        title=f"{sides[0]} vs {sides[1]}",
        sides=sides,
        status=verdict.status,
        roles=tuple(rank.role for rank in ordered),
        distributions=tuple(figures.distribution(one) for one in drawn),
        no_distribution="" if drawn else _why_no_cycles(result, leading),
        effect=figures.effect(leading, verdict.drift) if leading else None,
        ratio=_ratio(leading) if leading else "",
        noise=_noise(leading, verdict.drift) if leading else "",
        no_ratio=_why_no_ratio(leading) if leading else "",
        waterfall=waterfall,
        parts=_parts(ledger, waterfall, found) if ledger and waterfall else (),
        cancelled=_CANCELLED if ledger and _cancel(ledger) else "",
        no_ledger="" if ledger else _why_no_ledger(leading),
        causes=tuple(CauseCard(shown_as, found.get(f"cause:{c.id}:{c.device}", ())) for c, shown_as in named),
        headline_places=found.get("headline", ()),
        other_places=found.get("outlier", ()),
        reasons=tuple(dict.fromkeys(reason for rank in ordered for reason in rank.gate.reasons)),
        notes=tuple(dict.fromkeys(note for rank in ordered for note in rank.gate.notes)),
        times=figures.times(leading) if leading else None,
        ranks=shown.ranks,
        functions=_functions(leading, shown, found) if leading else (),
        functions_note=_functions_note(leading) if leading else "",
        metrics=metric_blocks(result, ordered),
    )


def _places(result: Comparison) -> dict[str, tuple[PlaceView, ...]]:
    """Return the places of the leading rank by finding."""
    found: dict[str, list[PlaceView]] = {}
    for place in result.places:
        if place.role == result.verdict.role:
            found.setdefault(place.finding, []).append(_place(place))
    return {finding: tuple(places) for finding, places in found.items()}


def _place(place: Place) -> PlaceView:
    at = place.file_ts_us / 1000 if place.file_ts_us is not None else place.ts_ns / 1e6
    clock = "" if place.file_ts_us is not None else " on the capture's clock"
    where = f"at {at:,.3f} ms{clock}" if place.timed else f"cycle {place.cycle}"
    return PlaceView(
        text=f"{place.side} cycle {place.cycle}",
        about=place.text,
        where=f"{place.file} {where}, {duration(place.dur_ns / 1000)} long",
        href=f"perfetto/{place.side}?ts={place.ts_ns}&dur={place.dur_ns}&file={place.file_sha256}",
    )


def _ratio(rank: RankComparison) -> str:
    ratio = rank.cycle_time.ratio
    if ratio is None:
        return ""
    change, low, high = (f"{value - 1:+.1%}" for value in (ratio.estimate, ratio.low, ratio.high))
    return f"{change} (95 % interval {low} to {high}), ×{ratio.estimate:.4g}".replace("-", "−")


def _noise(rank: RankComparison, drift: float) -> str:
    floor = rank.calibration.noise_floor
    own = f"the normal side against itself ±{floor:.1%}, " if floor is not None else ""
    return f"{own}undisturbed captures of such a machine ±{drift:.0%}"


def _why_no_ratio(rank: RankComparison) -> str:
    if rank.cycle_time.ratio is not None:
        return ""
    if not rank.gate.ok:
        return "No ratio: one cycle of each side is not the same work."
    return "No ratio: a side has fewer than two cycles."


def _why_no_cycles(result: Comparison, rank: RankComparison | None) -> str:
    if rank is None:
        return "No cycle times: nothing was cut into cycles on both sides, so only counters are compared."
    missing = [side for side, n in (("normal", rank.cycle_time.n_normal), ("abnormal", rank.cycle_time.n_abnormal)) if not n]
    if missing:
        return f"No distribution: the {' and the '.join(missing)} side has no complete cycle."
    return f"No distribution: no phase of {result.verdict.role} has cycles on both sides."


def _why_no_ledger(rank: RankComparison | None) -> str:
    if rank is None:
        return "No ledger: it needs traces of both sides that can be cut into cycles."
    if not rank.gate.ok:
        return "No ledger: the cycles of the two sides are not the same work, so their difference has no parts."
    return "No ledger: a side has no cycle that takes part."


_CANCELLED = "Parts nearly cancel out: no shares of the change are given."


def _cancel(ledger: Ledger) -> bool:
    """Whether the whole change is so much smaller than its parts that shares of it would mislead."""
    moved = sum(abs(entry.change_us) for entry in ledger.entries)
    return not ledger.change_us or abs(ledger.change_us) < 0.2 * moved


def _parts(ledger: Ledger, drawn: figures.Waterfall, found: dict[str, tuple[PlaceView, ...]]) -> tuple[Part, ...]:
    def share(us: float) -> str:
        return "" if _cancel(ledger) else f"{us / ledger.change_us:.0%}".replace("-0%", "0%").replace("-", "−")

    parts = []
    for bar, entry in zip(drawn.bars[1:-1], ledger.entries, strict=False):
        change, interval = in_one_unit(entry.change_us)[0], ""
        if entry.low_us is not None and entry.high_us is not None:
            change, *ends = in_one_unit(entry.change_us, entry.low_us, entry.high_us)
            interval = " to ".join(ends)
        sides = in_one_unit(entry.normal_us, entry.abnormal_us, sign=False)
        places = found.get(f"ledger:{entry.part}", ())
        parts.append(Part(bar, entry.text, " → ".join(sides), change, interval, share(entry.change_us), entry.sure, places))
    if figures.has_residual(ledger):
        us = ledger.residual_us
        change = in_one_unit(us)[0]
        parts.append(Part(drawn.bars[-2], "residual: no part accounts for it", "", change, "", share(us), False, ()))
    first = Part(drawn.bars[0], "normal mean cycle", "", duration(drawn.normal_us), "", "", True, ())
    whole = "" if _cancel(ledger) else "100%"
    last = Part(drawn.bars[-1], "abnormal mean cycle", "", duration(drawn.abnormal_us), "", whole, True, ())
    change = in_one_unit(ledger.change_us)[0]
    return (first, *parts, replace(last, interval=f"{change} in all"))


def in_one_unit(*us: float, sign: bool = True) -> tuple[str, ...]:
    """Write times in the unit and with the decimals that suit the largest, with the unit at one of them.

    >>> in_one_unit(1163.4, 467.3, 1763.2)
    ('+1.163 ms', '+0.467', '+1.763')
    >>> in_one_unit(980.2, 17540.0, sign=False)
    ('0.98', '17.54 ms')
    """
    largest = max(map(abs, us))
    unit, size = next(((unit, size) for unit, size in (("s", 1e6), ("ms", 1e3)) if largest >= size), ("µs", 1.0))
    decimals = max(0, 3 - math.floor(math.log10(largest / size))) if largest else 0
    numbers = [f"{value / size:{'+' if sign and value else ''},.{min(decimals, 3)}f}" for value in us]
    texts = [number.replace("-", "−") for number in numbers]
    at = 0 if sign else -1
    texts[at] += f" {unit}"
    return tuple(texts)


def _functions(rank: RankComparison, shown: View, found: dict[str, tuple[PlaceView, ...]]) -> tuple[FunctionRow, ...]:
    """Return the functions whose time per cycle changed most or, where that says nothing, those that take most of it."""
    table, cut = rank.functions, Limits().cut
    if not rank.gate.ok:
        longest = pl.max_horizontal("normal_mean_us", "abnormal_mean_us")
        table = table.sort(longest, "function", "device", descending=[True, False, False])
    table = table.head(MAX_FUNCTIONS)
    largest = max((abs(us) for us in table["shift_us"] if us is not None and not math.isnan(us)), default=0.0)
    rows = []
    for row in table.iter_rows(named=True):
        shift = row["shift_us"] if rank.gate.ok else math.nan
        known = shift is not None and not math.isnan(shift)
        said = in_one_unit(shift, row["shift_low_us"], row["shift_high_us"]) if known else ("-",)
        half = abs(shift) / largest / 2 if known and largest else 0.0
        rows.append(
            FunctionRow(
                name=cut(shown.index.short(row["function"])),
                full=cut(row["function"]),
                device=row["device"],
                normal=duration(row["normal_mean_us"]),
                abnormal=duration(row["abnormal_mean_us"]),
                calls=_calls(row["normal_count"], row["abnormal_count"]),
                shift=said[0],
                interval=" to ".join(said[1:]),
                q=p_value(row["q"]) if known else "-",
                x=figures.percent(0.5 if shift > 0 else 0.5 - half) if known else None,
                width=figures.percent(half),
                more=known and shift > 0,
                sure=known and row["q"] < MAX_Q,
                places=found.get(f"function:{row['device']}:{row['function']}", ()),
            )
        )
    return tuple(rows)


def _calls(normal: float, abnormal: float) -> str:
    one, two = plain(normal), plain(abnormal)
    return one if one == two else f"{one} → {two}"


def _functions_note(rank: RankComparison) -> str:
    n = rank.functions.height
    if not rank.gate.ok:
        return (
            f"{n} functions. The cycles of the two sides are not the same work, so times per cycle are no evidence of a "
            "change; those that take most time come first."
        )
    changed = rank.functions.filter((pl.col("q") < MAX_Q) & (pl.col("shift_us") != 0)).height
    said = f"{changed} of {n} functions take a different time per cycle (q < 0.05); the largest shifts come first."
    if rank.any_difference_p is not None:
        said += f" Over all functions at once (max-statistic permutation test): p = {p_value(rank.any_difference_p)}."
    return said
