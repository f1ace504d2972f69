"""What the page's scripts draw, as plain columns: cycles, counters, timelines, call trees, functions.

Times are µs unless a key says otherwise, rounded to what can be seen; every number is one of `rca.comparison/1` or of the
captures themselves. Computes no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import polars as pl

from rca.api import Comparison
from rca.capture.tables import HOST, KINDS
from rca.comparison import RankComparison
from rca.cycles.grammar import UNKNOWN
from rca.pictures import Excerpt, Place, RankPictures, SideName, Stacks, function_quantiles, place_of_cycle
from rca.profile import Profile
from rca.profile.counters_join import series_for
from rca.profile.timeline import PARTS
from rca.stats.robust import outliers
from reports.names import NameIndex
from reports.view import side_names

MAX_SAMPLES = 1_000
"""Of a counter on one side: more are thinned to the smallest and the largest of each stretch."""

MAX_CYCLES = 20_000
"""Of one side: the first ones; a page for a longer recording would not open."""

_SIDES: tuple[SideName, SideName] = ("normal", "abnormal")
_COMPARED, _OTHER, _LEFT_OUT = 0, 1, 2


def page_data(result: Comparison) -> dict[str, Any]:
    """Return what the scripts of the page need, ready for JSON: no NaN, no infinity."""
    names = _Names()
    ordered = sorted(result.ranks, key=lambda rank: rank.role != result.verdict.role)
    pictures = {own.role: own for own in result.pictures.ranks} if result.pictures else {}
    ranks = [_rank(result, rank, pictures.get(rank.role), names) for rank in ordered]
    labels = {side: {"label": label} for side, label in zip(_SIDES, side_names(result), strict=True)}
    index = NameIndex(names.all)
    short = [own if (own := index.short(name)) != name else None for name in names.all]
    return {"sides": labels, "names": names.all, "short": short, "kinds": list(KINDS), "ranks": ranks}


class _Names:
    """Every name once."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._index: dict[str, int] = {}

    def index(self, name: str) -> int:
        if name not in self._index:
            self._index[name] = len(self.all)
            self.all.append(name)
        return self._index[name]

    def indices(self, names: Iterable[str]) -> list[int]:
        return [self.index(name) for name in names]


def _rank(result: Comparison, rank: RankComparison, pictures: RankPictures | None, names: _Names) -> dict[str, Any]:
    phases = sorted(set(rank.normal.cycles["phase"]) | set(rank.abnormal.cycles["phase"]))
    excerpts = pictures.excerpts if pictures else ()
    return {
        "role": rank.role,
        "comparable": rank.gate.ok,
        "anchor": rank.normal.anchor,
        "stratum": rank.gate.stratum,
        "phases": [_phase(phase) for phase in phases],
        "parts": [{"part": part, "text": text} for part, text in PARTS.items() if part in set(rank.parts["part"])],
        "cycles": {side: _cycles(rank, side, phases) for side in _SIDES},
        "counters": _counters(rank),
        "timelines": [_timeline(result, rank, own, names) for own in excerpts],
        "timelines_note": pictures.note if pictures else "",
        "stacks": _stacks(pictures.stacks, names) if pictures and pictures.stacks else None,
        "functions": _functions(result, rank, names),
    }


def _phase(phase: str) -> str:
    return "of no known phase" if phase == UNKNOWN else phase


def _profile(rank: RankComparison, side: SideName) -> Profile:
    return rank.profiles[_SIDES.index(side)]


def _origin_ns(rank: RankComparison, side: SideName) -> int:
    return int(_profile(rank, side).rank.cycles["start_ns"].min() or 0)  # type: ignore[arg-type]


def _cycles(rank: RankComparison, side: SideName, phases: list[str]) -> dict[str, Any]:
    compared = rank.compared.filter(pl.col("side") == side)
    table = _profile(rank, side).rank.cycles.sort("start_ns").head(MAX_CYCLES)
    is_compared = pl.col("cycle").is_in(compared["cycle"].to_list())
    state = pl.when(is_compared).then(_COMPARED).when("complete").then(_OTHER).otherwise(_LEFT_OUT)
    table = table.with_columns(state=state)
    odd = set(compared.filter(outliers(compared["duration_us"].to_numpy()))["cycle"]) if compared.height else set()
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
        "warmup": _warm_up(table["cycle"].to_list(), odd),
        "parts": {str(part): _of_part(table, own) for (part,), own in sorted(parts.group_by("part"))},
        "left_out": max(_profile(rank, side).rank.cycles.height - MAX_CYCLES, 0),
    }


def _warm_up(cycles: list[int], odd: set[int]) -> int:
    """Return how many of the first cycles are outliers: the report says of those that they may be warm-up."""
    count = 0
    while count < len(cycles) and cycles[count] in odd:
        count += 1
    return count


def _of_part(cycles: pl.DataFrame, own: pl.DataFrame) -> list[float | None]:
    joined = cycles.select("cycle").join(own.select("cycle", "us"), on="cycle", how="left", maintain_order="left")
    return _rounded(joined["us"].fill_null(0.0))


def _counters(rank: RankComparison) -> list[dict[str, Any]]:
    """Return the samples of every counter that both sides recorded, those that differ most clearly first."""
    order = {(row["metric"], row["device"]): i for i, row in enumerate(rank.metrics.iter_rows(named=True))}
    sides = {side: _series(rank, side) for side in _SIDES}
    common = sorted(sides["normal"].keys() & sides["abnormal"].keys(), key=lambda key: (order.get(key[:2], len(order)), key))
    return [
        {"metric": metric, "device": device, "unit": unit, **{side: sides[side][metric, device, unit] for side in _SIDES}}
        for metric, device, unit in common
    ]


def _series(rank: RankComparison, side: SideName) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return s and values of each counter, put together as for the comparison: cores and disks at one time are one value."""
    origin, profile = _origin_ns(rank, side), _profile(rank, side)
    place = pl.when(pl.col("device").str.starts_with("CPU ")).then(pl.lit(HOST)).otherwise("device").alias("device")
    text = [pl.col(key).cast(pl.String) for key in ("metric", "device", "unit")]
    keys = profile.counters.select(text).with_columns(place).unique(["metric", "device"], keep="first", maintain_order=True)
    found = {}
    for metric, device, unit in keys.sort("metric", "device").iter_rows():
        series = series_for(profile.counters, metric, device, profile.rank.pid)
        if series is not None:
            samples = pl.DataFrame({"ts_ns": series.ts_ns, "value": series.value}).filter(pl.col("value").is_finite())
            thin = _thinned(samples)
            found[metric, device, unit] = {
                "t": _rounded((thin["ts_ns"] - origin) / 1e9, 6),
                "v": _rounded(thin["value"]),
            }
    return found


def _thinned(samples: pl.DataFrame) -> pl.DataFrame:
    if samples.height <= MAX_SAMPLES:
        return samples
    stretch = pl.int_range(pl.len()) * (MAX_SAMPLES // 2) // pl.len()
    lowest, highest = (pl.col("value").arg_min(), pl.col("value").arg_max())
    kept = samples.group_by(stretch.alias("stretch"), maintain_order=True).agg(
        pl.col("ts_ns", "value").gather(pl.concat_list(lowest, highest).explode())
    )
    return kept.explode("ts_ns", "value").unique(["ts_ns", "value"], maintain_order=True).sort("ts_ns")


def _timeline(result: Comparison, rank: RankComparison, excerpt: Excerpt, names: _Names) -> dict[str, Any]:
    of, events = excerpt.of, excerpt.events
    place = place_of_cycle(of, result.places, rank.role)
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
        "counters": _counters_within(rank, of.side, of.start_ns, of.end_ns),
        "left_out": excerpt.left_out,
    }


def _link(place: Place | None) -> dict[str, Any] | None:
    if place is None:
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


def _counters_within(rank: RankComparison, side: SideName, start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    offset = (start_ns - _origin_ns(rank, side)) / 1e9
    length = (end_ns - start_ns) / 1e9
    found = []
    for (metric, device, unit), series in _series(rank, side).items():
        inside = [
            (round((t - offset) * 1e6, 1), v)
            for t, v in zip(series["t"], series["v"], strict=True)
            if 0 <= t - offset <= length
        ]
        if len(inside) > 1:
            found.append(
                {"metric": metric, "device": device, "unit": unit, "t": [t for t, _ in inside], "v": [v for _, v in inside]}
            )
    return found


def _stacks(stacks: Stacks, names: _Names) -> dict[str, Any]:
    nodes = stacks.nodes
    return {
        "name": names.indices(nodes["name"]),
        "parent": nodes["parent"].to_list(),
        "normal": _rounded(nodes["normal_us"]),
        "abnormal": _rounded(nodes["abnormal_us"]),
        "note": stacks.note,
    }


def _functions(result: Comparison, rank: RankComparison, names: _Names) -> dict[str, Any]:
    suspicion = rank.rows.group_by("function", "device").agg(pl.col("suspicion").max())
    table = rank.functions.join(suspicion, on=["function", "device"], how="left", maintain_order="left")
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
    quantiles = {side: function_quantiles(rank, side) for side in _SIDES}
    return {
        "name": names.indices(table["function"]),
        "device": table["device"].to_list(),
        "kind": table["class"].to_list(),
        **{key: _rounded(table[column]) for key, column in columns.items()},
        "quantiles": {side: [_numbers(row) or None for row in rows] for side, rows in quantiles.items()},
        "link": [
            _link(places.get(f"function:{device}:{name}")) for name, device in table.select("function", "device").iter_rows()
        ],
    }


def _rounded(values: pl.Series, decimals: int | None = None) -> list[float | None]:
    """Round to ``decimals``, or to 6 significant digits: more than a picture or a cell shows."""
    return _numbers(values.cast(pl.Float64).to_list(), decimals)


def _numbers(values: Iterable[float | None], decimals: int | None = None) -> list[float | None]:
    return [None if value is None or not math.isfinite(value) else _short(value, decimals) for value in values]


def _short(value: float, decimals: int | None) -> float:
    short = round(value, decimals) if decimals is not None else float(f"{value:.6g}")
    return int(short) if short == int(short) else short
