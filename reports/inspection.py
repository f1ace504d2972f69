"""What a capture holds: JSON (schema ``rca.inspection/1``, ``reports/schema/inspection-1.schema.json``) and tables."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from rca.capture import Finding
from rca.capture.words import time_text
from rca.inspection import Inspection
from rca.inspection_model import AnchorFound, Counter, Device, File, Process

DIGITS = 6
"""Significant digits of the numbers in the JSON: a relative error of one in a million is below that of any clock."""

MAX_ROWS = 12
"""Rows of each table in the short form."""

MAX_CELL = 100
"""Characters of a name in a table; JSON has the whole of it."""

MAX_FINDING = 600
"""Characters of a finding in a table: its own words are few, what it quotes of a tool's messages may be many."""

_PLAIN_WIDTH = 100_000
_COLOURS = {"damage": "bold red", "warning": "yellow", "info": "dim"}


def inspection_json(result: Inspection) -> str:
    """Return the inspection as indented JSON with a newline at its end; numbers that do not exist are null."""
    document = asdict(result)
    facts = [file.pop("facts") for file in document["files"]]
    rounded = _rounded(document, DIGITS)
    for file, own in zip(rounded["files"], facts, strict=True):
        file["facts"] = _rounded(own, None)
    text = json.dumps(rounded, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    return text.encode(errors="replace").decode() + "\n"


def _rounded(value: Any, digits: int | None) -> Any:
    """Round to significant digits; NaN and infinities, which JSON has no word for, become null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item, digits) for item in value]
    return value


def show(result: Inspection, everything: bool = False) -> None:
    """Print the tables on a terminal, in its width and colours; with ``everything`` all rows of them."""
    console = _console()
    for part in _parts(result, everything):
        console.print(part)


def text(result: Inspection, everything: bool = False) -> str:
    """Return the tables as plain aligned text, one line per row."""
    return _plain(_parts(result, everything))


def show_anchors(sides: Mapping[str, Inspection]) -> None:
    """Print what could mark the cycles of each side, on a terminal."""
    console = _console()
    for part in _anchors_of(sides):
        console.print(part)


def anchors_text(sides: Mapping[str, Inspection]) -> str:
    """Return what could mark the cycles of each side, as plain text."""
    return _plain(_anchors_of(sides))


def _console(**settings: Any) -> Console:
    return Console(highlight=False, markup=False, emoji=False, **settings)


def _plain(parts: Iterator[RenderableType]) -> str:
    out = io.StringIO()
    console = _console(file=out, width=_PLAIN_WIDTH, color_system=None, force_terminal=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _anchors_of(sides: Mapping[str, Inspection]) -> Iterator[RenderableType]:
    for position, (side, result) in enumerate(sides.items()):
        title = f"{side}: {result.path}" if side else result.path
        yield Text(("\n" if position else "") + _safe(title, None), style="bold")
        yield _anchors(result.anchors) if result.anchors else Text(f"no anchor: {_safe(result.cycles.reason or '')}")


def _parts(result: Inspection, everything: bool) -> Iterator[RenderableType]:
    """Yield the overview, then a heading, a table and a remark on what it leaves out, for each kind of thing."""
    limit = None if everything else MAX_ROWS
    yield _overview(result)
    tables: tuple[tuple[str, Any, Any], ...] = (
        ("Files", _files, result.files),
        ("Ranks", _ranks, result.ranks),
        ("Devices", _devices, result.devices),
        ("Counters", _counters, _by_interest(result.counters)),
        ("Anchors, best first", _anchors, result.anchors),
        ("Findings", _findings, result.findings),
    )
    for title, table, rows in tables:
        if rows:
            yield Text(f"\n{title}", style="bold")
            yield table(rows[:limit])
            if limit and len(rows) > limit:
                yield Text(f"… {len(rows) - limit:,} more (--all)", style="dim")
    if not result.findings:
        yield Text("\nNothing wrong was found.")


def _by_interest(counters: tuple[Counter, ...]) -> tuple[Counter, ...]:
    """Put counters with holes first, and those of single cores and processes last."""
    return tuple(sorted(counters, key=lambda item: (not item.holes, item.device.startswith("CPU ") or item.pid is not None)))


def _overview(result: Inspection) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("capture", _safe(result.path, None))
    grid.add_row("time", _time(result))
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in result.events.by_kind.items())
    grid.add_row("events", f"{result.events.total:,}" + (f": {kinds}" if kinds else ""))
    if gpus := sorted({str(name) for file in result.files for name in _listed(file.facts.get("gpu_names"))}):
        grid.add_row("GPU", _safe(", ".join(gpus)))
    grid.add_row("cycles", _cycles(result))
    counted = {level: sum(finding.severity == level for finding in result.findings) for level in _COLOURS}
    found = ", ".join(f"{count} {level}" for level, count in counted.items() if count)
    grid.add_row("findings", found or "none")
    return grid


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _time(result: Inspection) -> str:
    time = result.time
    if time.of is None or time.span_s is None or time.recorded_s is None:
        return "no times"
    words = f"{time.start} to {time.end}, " if time.start else "no wall-clock time; "
    words += f"{_seconds(time.span_s)} from the first to the last of the {time.of}"
    gaps = time.recorded_s < 0.99 * time.span_s
    return words + (f", recorded for {_seconds(time.recorded_s)} of them" if gaps else "")


def _cycles(result: Inspection) -> str:
    own = result.cycles
    if not own.count:
        return f"none: {_safe(own.reason or '')}"
    parts = [f"{own.count:,} by {_safe(own.anchor or '')} ({own.kind})"]
    if own.complete < own.count:
        parts.append(f"{own.complete:,} of them complete")
    if own.median_us is not None:
        parts.append(f"median {_us(own.median_us)}")
    if own.coverage is not None:
        parts.append(f"covering {own.coverage:.0%} of {_safe(own.rank or '')}")
    return ", ".join(parts)


def _table(**columns: str) -> Table:
    """Return an empty table; ``columns`` are heading and justification."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in columns.items():
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _files(rows: tuple[File, ...]) -> Table:
    table = _table(file="left", format="left", size="right", events="right", facts="left")
    for file in rows:
        told = {key: value for key, value in file.facts.items() if key != "added_ns"}  # for programs
        facts = ", ".join(f"{key} {value}" for key, value in told.items() if isinstance(value, (str, int, float)))
        table.add_row(_safe(file.path), file.format, decimal(file.size_bytes), f"{file.events:,}", _safe(facts))
    return table


def _ranks(rows: tuple[Process, ...]) -> Table:
    table = _table(
        rank="left", pid="right", world="right", cycles="right", complete="right", coverage="right", phases="left"
    )
    for rank in rows:
        phases = ", ".join(
            f"{phase} {count:,}" + (f" ({_us(median)})" if (median := rank.phase_median_us[phase]) is not None else "")
            for phase, count in rank.phases.items()
        )
        table.add_row(
            _safe(rank.role),
            str(rank.pid),
            _or_dash(rank.world_size),
            f"{rank.cycles:,}",
            f"{rank.complete:,}",
            _share(rank.coverage),
            phases,
        )
    return table


def _devices(rows: tuple[Device, ...]) -> Table:
    table = _table(device="left", events="right", busy="right", streams="right", counters="right")
    for device in rows:
        counted = f"{device.counters:,}" if device.counters else "-"
        busy, streams = _share(device.busy_share), _or_dash(device.streams)
        table.add_row(_safe(device.name), f"{device.events:,}", busy, streams, counted)
    return table


def _counters(rows: tuple[Counter, ...]) -> Table:
    several = any(counter.pid is not None for counter in rows)
    columns = {"metric": "left", "device": "left"} | ({"pid": "right"} if several else {})
    numbers = dict.fromkeys(("samples", "period", "min", "mean", "max"), "right")
    table = _table(**columns, **numbers, unit="left", holes="right")
    for counter in rows:
        table.add_row(
            _safe(counter.metric),
            _safe(counter.device),
            *([_or_dash(counter.pid)] if several else []),
            f"{counter.samples:,}",
            "-" if counter.period_ms is None else _us(counter.period_ms * 1e3),
            *(_or_dash(None if value is None else f"{value:.4g}") for value in (counter.min, counter.mean, counter.max)),
            _safe(counter.unit),
            _or_dash(counter.holes),
        )
    return table


def _anchors(rows: tuple[AnchorFound, ...]) -> Table:
    table = _table(anchor="left", kind="left", cycles="right", coverage="right", median="right")
    for anchor in rows:
        median = "-" if anchor.median_us is None else _us(anchor.median_us)
        table.add_row(_safe(anchor.name), anchor.kind, f"{anchor.cycles:,}", _share(anchor.coverage), median)
    return table


def _findings(rows: tuple[Finding, ...]) -> Table:
    table = _table(severity="left", code="left", what="left")
    for finding in rows:
        severity = Text(finding.severity, style=_COLOURS[finding.severity])
        table.add_row(severity, finding.code, _safe(str(finding), MAX_FINDING))
    return table


def _safe(value: str, longest: int | None = MAX_CELL) -> str:
    """Return text for a cell: names come from others, so control characters of theirs must not take effect.

    Nor must their markup: see `_console`.
    """
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
    return shown if longest is None or len(shown) <= longest else f"{shown[: longest - 1]}…"


def _us(value: float) -> str:
    return time_text(round(value * 1000)) if math.isfinite(value) else "-"


def _seconds(value: float) -> str:
    return time_text(round(value * 1e9))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
