"""What the page's scripts draw, as plain columns: cycles, counters, timelines, call trees, functions.

Times are µs unless a key says otherwise, rounded to what can be seen; every number is one of `rca.comparison/1` or of the
captures themselves. Computes no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from rca.api import Comparison
from rca.capture.tables import HOST, KINDS
from rca.comparison import RankComparison
from rca.cycles import outlying_cycles, warm_up_cycles
from rca.cycles.grammar import UNKNOWN
from rca.pictures import SIDES, Excerpt, Place, RankPictures, SideName, Stacks, function_quantiles, place_of_cycle
from rca.profile import Profile
from rca.profile.counters_join import series_for
from rca.profile.timeline import PARTS
from reports.names import NameIndex
from reports.page.limits import Limits
from reports.view import side_names

_COMPARED, _OTHER, _LEFT_OUT = 0, 1, 2


def page_data(result: Comparison) -> dict[str, Any]:
    """Return what the scripts of the page need, ready for JSON: no NaN, no infinity; see `Limits` for how much."""
    ordered = sorted(result.ranks, key=lambda rank: rank.role != result.verdict.role)
    pictures = {own.role: own for own in result.pictures.ranks} if result.pictures else {}
    sources = [_source(rank, pictures.get(rank.role)) for rank in ordered]
    limits = Limits()
    data = _limited(result, sources, limits)
    while (smaller := limits.smaller(data)) is not None:
        limits = smaller
        data = _limited(result, sources, limits)
    return data


Series = Mapping[tuple[str, str], tuple[str, pl.DataFrame]]
"""By metric and device: the unit, and ``ts_ns, value`` of every sample."""


@dataclass(frozen=True)
class _Source:
    """A rank with what takes long to get out of it."""

    rank: RankComparison
    pictures: RankPictures | None
    series: Mapping[SideName, Series]
    quantiles: Mapping[SideName, list[list[float]]]

    @property
    def excerpts(self) -> tuple[Excerpt, ...]:
        return self.pictures.excerpts if self.pictures else ()

    @property
    def stacks(self) -> Stacks | None:
        return self.pictures.stacks if self.pictures else None

    @property
    def counters(self) -> list[tuple[str, str]]:
        """Metric and device of every counter that both sides recorded, those that differ most clearly first."""
        order = {(row["metric"], row["device"]): i for i, row in enumerate(self.rank.metrics.iter_rows(named=True))}
        common = self.series["normal"].keys() & self.series["abnormal"].keys()
        return sorted(common, key=lambda key: (order.get(key, len(order)), key))


def _source(rank: RankComparison, pictures: RankPictures | None) -> _Source:
    series = {side: _series(rank, side) for side in SIDES}
    return _Source(rank, pictures, series, {side: function_quantiles(rank, side) for side in SIDES})


def _limited(result: Comparison, sources: list[_Source], limits: Limits) -> dict[str, Any]:
    names = _Names(limits)
    ranks = [_rank(result, source, names, limits) for source in sources]
    labels = {side: {"label": label} for side, label in zip(SIDES, side_names(result), strict=True)}
    index = NameIndex(names.all)
    short = [own if (own := index.short(name)) != name else None for name in names.all]
    return {
        "sides": labels,
        "names": names.all,
        "short": short,
        "kinds": list(KINDS),
        "ranks": ranks,
        "limits": limits.said(_most(sources) | {"name": names.longest}),
    }


def _most(sources: list[_Source]) -> dict[str, int]:
    """Return the most of each thing that `Limits` limits."""
    profiles = [profile for source in sources for profile in source.rank.profiles]
    tables = [table for source in sources for series in source.series.values() for _, table in series.values()]
    return {
        "events": max((own.events.height for source in sources for own in source.excerpts), default=0),
        "samples": max((table.height for table in tables), default=0),
        "counters": max((len(source.counters) for source in sources), default=0),
        "cycles": max((profile.rank.cycles.height for profile in profiles), default=0),
        "functions": max((source.rank.functions.height for source in sources), default=0),
        "paths": max((source.stacks.nodes.height for source in sources if source.stacks), default=0),
    }


class _Names:
    """Every name once; too long ones without their middle."""

    def __init__(self, limits: Limits) -> None:
        self.all: list[str] = []
        self.longest = 0
        self._index: dict[str, int] = {}
        self._limits = limits

    def index(self, name: str) -> int:
        if name not in self._index:
            self._index[name] = len(self.all)
            self.all.append(self._limits.cut(name))
            self.longest = max(self.longest, len(name))
        return self._index[name]

    def indices(self, names: Iterable[str]) -> list[int]:
        return [self.index(name) for name in names]


def _rank(result: Comparison, source: _Source, names: _Names, limits: Limits) -> dict[str, Any]:
    rank = source.rank
    phases = sorted(set(rank.normal.cycles["phase"]) | set(rank.abnormal.cycles["phase"]))
    return {
        "role": rank.role,
        "comparable": rank.gate.ok,
        "anchor": rank.normal.anchor,
        "stratum": rank.gate.stratum,
        "phases": [_phase(phase) for phase in phases],
        "parts": [{"part": part, "text": text} for part, text in PARTS.items() if part in set(rank.parts["part"])],
        "cycles": {side: _cycles(rank, side, phases, limits.cycles) for side in SIDES},
        "counters": _counters(source, limits),
        "timelines": [_timeline(result, source, own, names, limits) for own in source.excerpts],
        "timelines_note": source.pictures.note if source.pictures else "",
        "stacks": _stacks(source.stacks, names, limits.paths) if source.stacks else None,
        "functions": _functions(result, source, names, limits.functions),
    }


def _phase(phase: str) -> str:
    return "of no known phase" if phase == UNKNOWN else phase


def _profile(rank: RankComparison, side: SideName) -> Profile:
    return rank.profiles[SIDES.index(side)]


def _origin_ns(rank: RankComparison, side: SideName) -> int:
    return int(_profile(rank, side).rank.cycles["start_ns"].min() or 0)  # type: ignore[arg-type]


def _cycles(rank: RankComparison, side: SideName, phases: list[str], most: int) -> dict[str, Any]:
    compared = rank.compared.filter(pl.col("side") == side)
    table = _profile(rank, side).rank.cycles.sort("start_ns").head(most)
    is_compared = pl.col("cycle").is_in(compared["cycle"].to_list())
    state = pl.when(is_compared).then(_COMPARED).when("complete").then(_OTHER).otherwise(_LEFT_OUT)
    table = table.with_columns(state=state)
    recorded = _profile(rank, side).rank.cycles
    odd = {number for numbers in outlying_cycles(recorded).values() for number in numbers}
    parts = rank.parts.filter(pl.col("side") == side)
    return {
        "cycle": table["cycle"].to_list(),
        "t": _rounded((table["start_ns"] - _origin_ns(rank, side)) / 1e9, 6),
        "dur": _rounded(table["duration_us"]),
        "phase": [phases.index(phase) for phase in table["phase"]],
        "batch": table["batch"].to_list(),
        "tokens": table["tokens"].to_list(),
        "state": table["state"].to_list(),
        "outlier": [int(cycle in odd) for cycle in table["cycle"]],
        "notes": {str(row): note for row, note in enumerate(table["note"]) if note},
        "warmup": min(len(warm_up_cycles(recorded)), table.height),
        "parts": {str(part): _of_part(table, own) for (part,), own in sorted(parts.group_by("part"))},
        "left_out": recorded.height - table.height,
    }


def _of_part(cycles: pl.DataFrame, own: pl.DataFrame) -> list[float | None]:
    joined = cycles.select("cycle").join(own.select("cycle", "us"), on="cycle", how="left", maintain_order="left")
    return _rounded(joined["us"].fill_null(0.0))


def _counters(source: _Source, limits: Limits) -> list[dict[str, Any]]:
    """Return the samples of the counters that both sides recorded."""
    found = []
    for metric, device in source.counters[: limits.counters]:
        both = {side: source.series[side][metric, device] for side in SIDES}
        samples: dict[str, Any] = {
            side: _samples(_thinned(table, limits.samples), _origin_ns(source.rank, side))
            for side, (_, table) in both.items()
        }
        units = list(dict.fromkeys(unit for unit, _ in both.values() if unit))
        found.append({"metric": metric, "device": device, "unit": " / ".join(units), **samples})
    return found


def _series(rank: RankComparison, side: SideName) -> Series:
    """Return each counter put together as for the comparison: cores and disks at one time are one value."""
    profile = _profile(rank, side)
    place = pl.when(pl.col("device").str.starts_with("CPU ")).then(pl.lit(HOST)).otherwise("device").alias("device")
    text = [pl.col(key).cast(pl.String) for key in ("metric", "device", "unit")]
    keys = profile.counters.select(text).with_columns(place).unique(["metric", "device"], keep="first", maintain_order=True)
    found = {}
    for metric, device, unit in keys.sort("metric", "device").iter_rows():
        series = series_for(profile.counters, metric, device, profile.rank.pid)
        if series is not None:
            samples = pl.DataFrame({"ts_ns": series.ts_ns, "value": series.value})
            found[metric, device] = unit or "", samples.filter(pl.col("value").is_finite())
    return found


def _samples(table: pl.DataFrame, origin_ns: int) -> dict[str, Any]:
    return {"t": _rounded((table["ts_ns"] - origin_ns) / 1e9, 6), "v": _rounded(table["value"])}


def _thinned(samples: pl.DataFrame, most: int) -> pl.DataFrame:
    if samples.height <= most:
        return samples
    stretch = pl.int_range(pl.len()) * (most // 2) // pl.len()
    lowest, highest = (pl.col("value").arg_min(), pl.col("value").arg_max())
    kept = samples.group_by(stretch.alias("stretch"), maintain_order=True).agg(
        pl.col("ts_ns", "value").gather(pl.concat_list(lowest, highest).explode())
    )
    return kept.explode("ts_ns", "value").unique(["ts_ns", "value"], maintain_order=True).sort("ts_ns")


def _timeline(result: Comparison, source: _Source, excerpt: Excerpt, names: _Names, limits: Limits) -> dict[str, Any]:
    of, events = excerpt.of, _longest(excerpt.events, limits.events)
    place = place_of_cycle(of, result.places, source.rank.role)
    return {
        "side": of.side,
        "which": of.which,
        "cycle": of.cycle,
        "dur": (of.end_ns - of.start_ns) / 1000,
        "phase": _phase(of.phase),
        "link": _link(place),
        "lanes": [{"name": lane.name, "kind": lane.kind, "depth": lane.depth} for lane in excerpt.lanes],
        "events": {
            "lane": events["lane"].to_list(),
            "depth": events["depth"].to_list(),
            "start": (events["start_ns"] / 1000).to_list(),
            "dur": (events["dur_ns"] / 1000).to_list(),
            "name": names.indices(events["name"]),
            "kind": [KINDS.index(kind) for kind in events["kind"]],
        },
        "counters": _counters_within(source, excerpt, limits),
        "left_out": excerpt.left_out + excerpt.events.height - events.height,
    }


def _longest(events: pl.DataFrame, most: int) -> pl.DataFrame:
    if events.height <= most:
        return events
    rows = events.with_row_index("row").sort("dur_ns", "row", descending=[True, False]).head(most)
    return rows.sort("row").drop("row")


def _link(place: Place | None) -> dict[str, Any] | None:
    if place is None or not place.timed:
        return None
    return {
        "side": place.side,
        "file": place.file,
        "sha256": place.file_sha256,
        "cycle": place.cycle,
        "ts_ns": str(place.ts_ns),  # a string: a number of ns since 1970 is more than a script can hold
        "ts_us": place.file_ts_us,
        "dur_us": place.dur_ns / 1000,
    }


def _counters_within(source: _Source, excerpt: Excerpt, limits: Limits) -> list[dict[str, Any]]:
    of, found = excerpt.of, []
    own = source.series[of.side]
    for metric, device in [*source.counters, *sorted(own.keys() - set(source.counters))][: limits.counters]:
        unit, table = own[metric, device]
        inside = _thinned(table.filter(pl.col("ts_ns").is_between(of.start_ns, of.end_ns)), limits.samples)
        if inside.height > 1:
            at = _rounded((inside["ts_ns"] - of.start_ns) / 1000, 1)
            found.append({"metric": metric, "device": device, "unit": unit, "t": at, "v": _rounded(inside["value"])})
    return found


def _stacks(stacks: Stacks, names: _Names, most: int) -> dict[str, Any]:
    nodes = stacks.nodes.head(most)  # callers come before what they call
    return {
        "name": names.indices(nodes["name"]),
        "parent": nodes["parent"].to_list(),
        "normal": _rounded(nodes["normal_us"]),
        "abnormal": _rounded(nodes["abnormal_us"]),
        "note": stacks.note,
    }


def _functions(result: Comparison, source: _Source, names: _Names, most: int) -> dict[str, Any]:
    rank = source.rank
    suspicion = rank.rows.group_by("function", "device").agg(pl.col("suspicion").max())
    table = rank.functions.head(most).join(suspicion, on=["function", "device"], how="left", maintain_order="left")
    columns = {
        "normal_us": "normal_mean_us",
        "abnormal_us": "abnormal_mean_us",
        "shift_us": "shift_us",
        "low": "shift_low_us",
        "high": "shift_high_us",
        "p": "p",
        "q": "q",
        "normal_count": "normal_count",
        "abnormal_count": "abnormal_count",
        "suspicion": "suspicion",
    }
    places = {place.finding: place for place in result.places if place.role == rank.role}
    return {
        "name": names.indices(table["function"]),
        "device": table["device"].to_list(),
        "kind": table["class"].to_list(),
        **{key: _rounded(table[column]) for key, column in columns.items()},
        "quantiles": {side: [_numbers(row) or None for row in own[:most]] for side, own in source.quantiles.items()},
        "link": [
            _link(places.get(f"function:{device}:{name}")) for name, device in table.select("function", "device").iter_rows()
        ],
    }


def _rounded(values: pl.Series, decimals: int | None = None) -> list[float | None]:
    """Round to ``decimals``, or to 6 significant digits and at most a tenth: more than a picture or a cell shows."""
    return _numbers(values.cast(pl.Float64).to_list(), decimals)


def _numbers(values: Iterable[float | None], decimals: int | None = None) -> list[float | None]:
    return [None if value is None or not math.isfinite(value) else _short(value, decimals) for value in values]


def _short(value: float, decimals: int | None) -> float:
    if decimals is None:
        short = round(value, 1) if abs(value) >= 1e5 else float(f"{value:.6g}")
    else:
        short = round(value, decimals)
    return int(short) if short == int(short) else short
