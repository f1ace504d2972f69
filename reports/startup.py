"""What start-up logs come to, as a document, as tables and as JSON. Computes no statistic."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rca.startup import Startup, StartupComparison, StartupReport
from rca.startup.compare import Change
from rca.startup.model import CONTAINERS, GRID_PHASES, KIND, PHASES, TOTALS
from rca.startup.respond import Response
from rca.version import STARTUP_COMPARISON_SCHEMA, STARTUP_SCHEMA, __version__
from reports import document
from reports.cells import Table, grid
from reports.document import Box, Document, Section
from reports.verdict_view import CauseView, VerdictView, cause_title

_MOST_COLUMNS = 8
_MOST_GAPS = 12
_NOT_LOGGED = "--"
_WHY = {
    "cold_cache": "what was read from memory or from a cache the last time has to be fetched or made again",
    "disk_io": "the weights come from a disk that is slower or busy",
    "network": "weights come over the network before they can be read",
    "cpu_contention": "other work on the cores: everything that computes takes longer, whatever it does",
    "software_change": "another version or other settings do other things at the start",
    "hardware_change": "another kind of device",
    "straggler_rank": "the others wait for the slowest process",
    "unexplained": "no rule accounts for the change; this is where the time went",
}


def grid_text(report: StartupReport) -> str:
    """Return the table that people make by hand: seconds as the logs state them, one column per start, by name."""
    starts = sorted(report.startups.usable, key=lambda start: start.name)
    rows = [(phase, *(_stated(start, phase) for start in starts)) for phase in GRID_PHASES]
    return grid(Table(("Metric", *(start.name for start in starts)), tuple(rows)))


def _stated(start: Startup, phase: str) -> str:
    found = start.phases.get(phase)
    if found is None or (found.source == "stamps" and phase not in ("actual_total_time", "total_time")):
        return _NOT_LOGGED
    return str(round(found.seconds, 2))


def startup_document(report: StartupReport) -> Document:
    """Format the start-ups of some logs."""
    usable = report.startups.usable
    sections = [
        _what_responds(report),
        _what_sticks_out(report),
        _phases(usable),
        _silences(usable),
        _starts(report.startups.starts),
    ]
    return Document(
        title="Start-up phases",
        lead=_lead(report),
        sections=tuple(section for section in sections if section),
        warnings=report.startups.remarks,
        version=f"rca {__version__} ({STARTUP_SCHEMA})",
    )


def _lead(report: StartupReport) -> tuple[str, ...]:
    starts, usable = report.startups.starts, report.startups.usable
    if not usable:
        return (f"None of the {len(starts)} start(s) came so far that the server could serve: {starts[0].problem}.",)
    totals = [seconds for start in usable if (seconds := start.seconds("actual_total_time")) is not None]
    text = f"{len(usable)} start(s)" + (
        f" of {len(starts)}; the others failed or are cut off" if len(usable) < len(starts) else ""
    )
    if totals:
        text += f": {_range(totals)} from first to last"
    answers = [text + "."]
    for parameter in sorted({response.parameter for response in report.responses}):
        moved = [response for response in report.responses if response.parameter == parameter and response.responds]
        if moved:
            slopes = _per_unit([slope for response in moved for _, slope in response.slopes])
            answers.append(f"Only {_responding(moved)} respond to `{parameter}`: {slopes} per unit (n = {moved[0].n}).")
        else:
            n = max(response.n for response in report.responses if response.parameter == parameter)
            answers.append(f"No phase responds to `{parameter}` (n = {n}).")
    for one in report.outliers[:5]:
        peers = f"its {one.n - 1} peers {one.median:.2f} s"
        answers.append(f"`{one.start}` sticks out: {KIND[one.phase].title} takes {one.seconds:.2f} s, {peers}.")
    return (*answers, *_longest_silence(usable))


def _longest_silence(starts: tuple[Startup, ...]) -> list[str]:
    """Say where the longest stretch without a line lies, if it is a tenth of its start."""
    found = [(gap, start) for start in starts for gap in start.gaps]
    if not found:
        return []
    gap, start = max(found, key=lambda pair: pair[0].seconds)
    total = start.seconds("actual_total_time")
    if total is None or gap.seconds < 0.1 * total:
        return []
    name, before, after = (text.replace("`", "'") for text in (start.name, gap.before, gap.after))
    where = f"{gap.seconds:.0f} s in {KIND[gap.phase].title} of `{name}`"
    between = f"between `{before}` (line {gap.lines[0]}) and `{after}`"
    return [f"The longest stretch that no line explains: {where}, {between}."]


def _responding(moved: list[Response]) -> str:
    """Name what responds: the parts first, then what holds them."""
    parts = [r.phase for r in _in_order(moved) if r.phase not in CONTAINERS and r.phase not in TOTALS]
    wholes = [r.phase for r in _in_order(moved) if r.phase in CONTAINERS or r.phase in TOTALS]
    if not parts:
        return _listed([KIND[phase].title for phase in wholes])
    text = _listed([KIND[phase].title for phase in parts])
    return f"{text} and what contains it ({', '.join(KIND[phase].title for phase in wholes)})" if wholes else text


def _in_order(moved: list[Response]) -> list[Response]:
    order = [kind.id for kind in PHASES]
    return sorted(moved, key=lambda response: order.index(response.phase))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _per_unit(slopes: list[float]) -> str:
    scale, unit = (1e3, "ms") if max(map(abs, slopes)) < 1 else (1.0, "s")
    low, high = (f"{value * scale:.3g}" for value in (min(slopes), max(slopes)))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return f"{low} s" if low == high else f"{low} to {high} s"


def _what_responds(report: StartupReport) -> Section | None:
    if not report.responses:
        return None
    rows = tuple(
        (
            response.parameter,
            KIND[response.phase].title,
            str(response.n),
            f"{response.slope.estimate:+.4g} ({response.slope.low:+.4g} to {response.slope.high:+.4g})",
            "; ".join(f"{name or 'all'}: {slope:+.4g}" for name, slope in response.slopes),
            f"{response.rho:+.2f}",
            f"{response.p:.2g}",
            f"{response.q:.2g}",
            "yes" if response.responds else "no",
        )
        for response in report.responses
    )
    headers = ("Parameter", "Phase", "n", "Seconds per unit (95 % CI)", "By group", "Spearman ρ", "p", "q", "Responds")
    return Section("What responds to what", (_RESPONDS_SAY,), (), Table(headers, rows))


_RESPONDS_SAY = (
    "Within groups of starts that differ in nothing else. p permutes within groups; q is controlled for false discoveries "
    "over all phases and parameters (Benjamini-Hochberg), and at most 5 % of what is said to respond does not."
)


def _what_sticks_out(report: StartupReport) -> Section | None:
    if not report.outliers:
        return None
    rows = tuple(
        (one.start, KIND[one.phase].title, f"{one.seconds:.2f}", f"{one.median:.2f}", str(one.n), one.group)
        for one in report.outliers
    )
    prose = ("More than 5 scaled median absolute deviations from the other starts of the same model.",)
    return Section("Outliers", prose, (), Table(("Start", "Phase", "Seconds", "Median", "n", "Model"), rows, frozenset({0})))


def _phases(starts: tuple[Startup, ...]) -> Section | None:
    if not starts:
        return None
    present = [kind for kind in PHASES if any(kind.id in start.phases for start in starts)]
    others = sorted({id_ for start in starts for id_ in start.phases if id_.startswith("other: ")})
    named = [(kind.id, _indented(kind.id), kind.about) for kind in present] + [
        (id_, id_, "a line states it") for id_ in others
    ]
    if len(starts) <= _MOST_COLUMNS:
        rows = tuple((title, *(_seconds(start, id_) for start in starts)) for id_, title, _ in named)
        prose = ("Seconds; ≈ marks those that come from stamps, not from a line that states them.",)
        return Section("Phases", prose, (), Table(("Phase", *(start.name for start in starts)), rows))
    rows = tuple((title, *_spread(starts, id_), about) for id_, title, about in named)
    headers = ("Phase", "n", "Min s", "Median s", "Max s", "What it is")
    return Section("Phases", ("All starts together; --format grid or csv has each of them.",), (), Table(headers, rows))


def _indented(id_: str) -> str:
    depth, parent = 0, KIND[id_].parent
    while parent:
        depth, parent = depth + 1, KIND[parent].parent
    return "· " * depth + KIND[id_].title


def _seconds(start: Startup, id_: str) -> str:
    phase = start.phases.get(id_)
    return _NOT_LOGGED if phase is None else f"{'≈' if phase.source == 'stamps' else ''}{phase.seconds:.2f}"


def _spread(starts: tuple[Startup, ...], id_: str) -> tuple[str, ...]:
    ordered = sorted(start.phases[id_].seconds for start in starts if id_ in start.phases)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return str(len(ordered)), f"{ordered[0]:.2f}", f"{middle:.2f}", f"{ordered[-1]:.2f}"


def _silences(starts: tuple[Startup, ...]) -> Section | None:
    found = sorted(
        ((gap, start) for start in starts for gap in start.gaps), key=lambda pair: (-pair[0].seconds, pair[1].name)
    )
    if not found:
        return None
    rows = tuple(
        (f"{gap.seconds:.1f}", start.name, KIND[gap.phase].title, f"{gap.lines[0]} to {gap.lines[1]}", gap.before, gap.after)
        for gap, start in found[:_MOST_GAPS]
    )
    headers = ("Seconds", "Start", "In", "Lines", "After the line", "Before the line")
    prose = ("Stretches without a line, that no stated duration explains; the longest first.",)
    more = (f"and {len(found) - _MOST_GAPS} shorter ones in the JSON",) if len(found) > _MOST_GAPS else ()
    return Section("Silences", prose, more, Table(headers, rows, frozenset({1, 4, 5})))


def _starts(starts: tuple[Startup, ...]) -> Section:
    rows = tuple(
        (
            start.name,
            f"{start.engine} {start.version}".strip() or "(a table)",
            start.outcome,
            start.parameters.get("model", "-"),
            ", ".join(f"{key} {value}" for key, value in sorted(start.facts.items())) or "-",
        )
        for start in starts
    )
    return Section(
        "Starts", (), (), Table(("Start", "Engine", "Outcome", "Model", "What the log says"), rows, frozenset({0}))
    )


def startup_csv(report: StartupReport) -> str:
    """Return one line per start and phase."""
    names = sorted({name for start in report.startups.starts for name in report.varied if name in start.parameters})
    rows: list[tuple[Any, ...]] = [
        (
            start.name,
            start.engine,
            start.version,
            start.outcome,
            *(start.parameters.get(name) for name in names),
            phase.id,
            f"{phase.seconds:.6g}",
            phase.source,
        )
        for start in report.startups.starts
        for phase in start.phases.values()
    ]
    headers = ("start", "engine", "version", "outcome", *names, "phase", "seconds", "source")
    return document.separated(headers, rows)


def startup_json(report: StartupReport) -> str:
    """Return everything, schema ``rca.startup/1``."""
    return document.json(
        {
            "schema": STARTUP_SCHEMA,
            "starts": [_start_dict(start) for start in report.startups.starts],
            "varied": list(report.varied),
            "responses": [asdict(response) | {"responds": response.responds} for response in report.responses],
            "outliers": [asdict(outlier) for outlier in report.outliers],
            "warnings": list(report.startups.remarks),
            "versions": {"rca": __version__},
        }
    )


def _start_dict(start: Startup) -> dict[str, Any]:
    made = asdict(start)
    made["phases"] = [asdict(phase) | {"by_process": dict(phase.by_process)} for phase in start.phases.values()]
    return made


def comparison_document(result: StartupComparison) -> Document:
    """Format two sides' start-ups."""
    compared = result.compared
    changes = [change for change in compared.changes.values() if not change.phase.startswith("silence: ")]
    silent = [change for change in compared.changes.values() if change.phase.startswith("silence: ")]
    sections = [Section("Phases", (_PHASES_SAY,), (), _changes(changes))]
    if silent:
        prose = ("Stretches without a line, that no stated duration explains.",)
        sections.append(Section("Silences", prose, (), _changes(silent)))
    for name, side in (("normal", result.normal), ("abnormal", result.abnormal)):
        if section := _silences(side.usable):
            sections.append(Section(f"Where it is silent: {name}", section.prose, section.notes, section.table, 3))
    sections.append(_starts((*result.normal.starts, *result.abnormal.starts)))
    return Document(
        title=f"Cross Performance Comparison of start-ups: {result.paths[0].name} vs {result.paths[1].name}",
        lead=(),
        sections=tuple(sections),
        warnings=result.warnings,
        version=f"rca {__version__} ({STARTUP_COMPARISON_SCHEMA})",
        box=Box(compared.status, result.headline, _verdict(result)),
    )


_PHASES_SAY = (
    "Means over starts, Δ = abnormal - normal with Welch's interval; p of Welch's t (of logarithms), U p of Mann-Whitney; "
    "q of the former, with false-discovery control over the phases. Sure: more than chance and rounding, and large enough."
)


def _changes(changes: list[Change]) -> Table:
    rows = tuple(
        (
            _indented(change.phase) if change.phase in KIND else change.title,
            f"{change.n[0]}, {change.n[1]}",
            _mean(change.normal_s),
            _mean(change.abnormal_s),
            _with_interval(change),
            f"{change.ratio:.2f}" if math.isfinite(change.ratio) else "-",
            _p(change.p),
            _p(change.u_p),
            _p(change.q),
            "yes" if change.sure else "no",
        )
        for change in changes
    )
    return Table(("Phase", "n", "Normal s", "Abnormal s", "Δ s (95 % CI)", "Ratio", "p", "U p", "q", "Sure"), rows)


def _mean(value: float | None) -> str:
    return _NOT_LOGGED if value is None else f"{value:.2f}"


def _with_interval(change: Change) -> str:
    shift = change.change
    if not math.isfinite(shift.low):
        return f"{shift.estimate:+.2f}"
    return f"{shift.estimate:+.2f} ({shift.low:+.2f} to {shift.high:+.2f})"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _verdict(result: StartupComparison) -> VerdictView:
    return VerdictView(
        work="",
        trust=result.trust,
        ledger=_ledger(result),
        ledger_note="Phases that hold others are left out, so that no second counts twice; unlogged is what they leave.",
        causes=tuple(
            CauseView(
                title=cause_title(cause),
                why=_WHY[cause.id],
                evidence_for=cause.evidence_for,
                evidence_against=cause.evidence_against,
                missing="; ".join(cause.missing),
                looks_like=cause.looks_like,
                next_check=cause.next_check,
            )
            for cause in result.causes
        ),
        no_causes="none is named: no phase changed by as much as matters",
        more_causes="",
        not_measured=(),
    )


def _ledger(result: StartupComparison) -> Table:
    rows = result.compared.ledger
    whole = sum(row.change.estimate for row in rows)
    cells = [
        (
            row.title,
            _mean(row.normal_s),
            _mean(row.abnormal_s),
            _with_interval(row),
            f"{row.change.estimate / whole:.0%}" if abs(whole) > 1e-9 else "-",
        )
        for row in rows
    ]
    sums = [sum(getattr(row, f"{side}_s") or 0.0 for row in rows) for side in ("normal", "abnormal")]
    cells.append(("first line to readiness", f"{sums[0]:.2f}", f"{sums[1]:.2f}", f"{whole:+.2f}", "100%"))
    return Table(
        ("Where the time goes, seconds", "Normal", "Abnormal", "Δ, abnormal - normal (95 % CI)", "Share of Δ"), tuple(cells)
    )


def comparison_csv(result: StartupComparison) -> str:
    """Return one line per phase."""
    headers = ("phase", "n_normal", "n_abnormal", "normal_s", "abnormal_s", "change_s", "low95_s", "high95_s")
    rows: list[tuple[Any, ...]] = [
        (
            change.phase,
            *change.n,
            change.normal_s,
            change.abnormal_s,
            *_bounds(change),
            change.p,
            change.u_p,
            change.q,
            change.sure,
        )
        for change in result.compared.changes.values()
    ]
    return document.separated((*headers, "p", "u_p", "q", "sure"), rows)


def _bounds(change: Change) -> tuple[float | None, ...]:
    shift = change.change
    return tuple(value if math.isfinite(value) else None for value in (shift.estimate, shift.low, shift.high))


def comparison_json(result: StartupComparison) -> str:
    """Return everything, schema ``rca.startup-comparison/1``."""
    compared = result.compared
    total = compared.changes[compared.total]
    return document.json(
        {
            "schema": STARTUP_COMPARISON_SCHEMA,
            "verdict": {
                "status": compared.status,
                "headline": result.headline,
                "trust": result.trust,
                "startup_time": {
                    "of": compared.total,
                    "normal_s": total.normal_s,
                    "abnormal_s": total.abnormal_s,
                    "ratio": compared.ratio.estimate,
                    "ci95": [compared.ratio.low, compared.ratio.high],
                    "p_value": compared.p,
                    "n": [len(compared.normal), len(compared.abnormal)],
                },
                "causes": [asdict(cause) for cause in result.causes],
            },
            "comparability": {"ok": compared.status != "not_comparable", "reasons": list(compared.reasons)},
            "ledger": [_change_dict(row) for row in compared.ledger],
            "phases": [_change_dict(change) for change in compared.changes.values()],
            "starts": {
                side: [_start_dict(start) for start in own.starts]
                for side, own in (("normal", result.normal), ("abnormal", result.abnormal))
            },
            "warnings": list(result.warnings),
            "versions": {"rca": __version__},
        }
    )


def _change_dict(change: Change) -> dict[str, Any]:
    estimate, low, high = _bounds(change)
    made = asdict(change)
    del made["change"]
    return made | {"change_s": estimate, "ci95_s": [low, high], "ratio": change.ratio}
