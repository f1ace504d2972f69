"""From what was compared to a status and a headline; causes are named in `rca.bench.causes`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rca.bench.causes import causes, replaced
from rca.bench.latency import ALPHA, LatencyComparison
from rca.bench.ledger import OperatorLedger
from rca.bench.matter import Matter
from rca.bench.model import BenchRun
from rca.bench.words import change, effect, plain, side_time
from rca.verdict import Cause, Status
from rca.verdict.evidence import DRIFT

__all__ = ["BenchVerdict", "Matter", "judge"]

_NOTICED = 0.03
"""Share of the normal profiled run from which time of the host alone is worth a word."""

_MIN_EFFECTIVE = 4.0
_MOSTLY = 0.5


@dataclass(frozen=True)
class BenchVerdict:
    """What the comparison comes to.

    Attributes:
        status: of the latency, or of the profiled runs where no latency can be compared.
        by: ``latency`` or ``table``: what the status rests on; empty where there is neither.
        headline: the sentence for a ticket's title.
        causes: best first; none where nothing changed.
        work: how host and device share the change of the profiled runs; empty where that is not known.
        trust: how far the numbers can be trusted, in one line.
    """

    status: Status
    by: str
    headline: str
    causes: tuple[Cause, ...]
    work: str
    trust: str


def judge(m: Matter) -> BenchVerdict:
    """Decide. A change without a cause stands only if it is larger than what two starts of one program may differ by."""
    status, by, headline = _status(m)
    named = causes(m, status)
    change_ratio = _ratio(m, by)
    drift = DRIFT[any(_may_be_virtual(run) for run in (m.normal, m.abnormal))]
    small = change_ratio is not None and abs(math.log(change_ratio)) <= math.log1p(drift)
    seen = any(replaced(ledger) >= _MOSTLY for ledger in (m.device, m.host) if ledger)
    if status in ("slower", "faster") and small and not seen:
        status, named = "no_difference", ()
        headline += f"; within what two starts of one program may differ by (±{drift:.0%}), and no operator is new or gone"
    elif status in ("slower", "faster"):
        headline += _movers(m)
    verdict = BenchVerdict(status, by, headline, named, _work(m), _trust(m, by))
    return replace(verdict, headline=f"Both sides are the same run: {headline}") if m.is_same else verdict


def _may_be_virtual(run: BenchRun) -> bool:
    """Tell a virtual machine, and a text that does not say what it ran on, unless a device did the work."""
    stated = run.environment.get("virtual")
    on_device = run.table is not None and run.table.self_device is not None and run.table.self_device.us > 0
    return bool(stated) if stated is not None else run.is_text and not on_device


def _ratio(m: Matter, by: str) -> float | None:
    if by == "latency" and m.latency.overall:
        return m.latency.overall.estimate
    return m.main.abnormal_us / m.main.normal_us if by == "table" and m.main and m.main.normal_us else None


def _status(m: Matter) -> tuple[Status, str, str]:
    if m.latency.overall:
        return _by_latency(m)
    if m.main and m.work.status == "same":
        return _by_table(m, m.main)
    if m.latency.only_normal and m.latency.only_abnormal:
        profiled = plain(m.work.text)
        return "not_comparable", "", f"The sides ran no configuration in common; of their profiled runs: {profiled}"
    if m.normal.table and m.abnormal.table:
        return "not_comparable", "", f"The profiled runs cannot be compared: {plain(m.work.text)}"
    return "insufficient_data", "", "One side has timed runs only, the other a profiled run only: nothing is in both"


def _by_latency(m: Matter) -> tuple[Status, str, str]:
    seen = m.latency
    assert seen.overall  # noqa: S101  (looked at before)
    first = seen.rows[0]
    means = side_time(1e6 * first.normal.mean_s, m.normal), side_time(1e6 * first.abnormal.mean_s, m.abnormal)
    sides = f"mean {means[0]} → {means[1]} with {first.normal.configuration.title}"
    n = f"n = {seen.n[0]} and {seen.n[1]} in {len(seen.rows)} configuration{'s' if len(seen.rows) > 1 else ''}"
    headline = f"Latency {effect(seen.overall)}: {sides}, {n}"
    if min(seen.n) < seen.repeats_needed or seen.p is None:
        single = "each configuration was run once on a side, so there is no interval; " if seen.p is None else ""
        needed = f"the test can decide from {seen.repeats_needed} repeats a side on"
        return "insufficient_data", "latency", f"{headline}; {single}{needed}"
    if abs(math.log(seen.overall.estimate)) <= math.log1p(seen.rounding):
        return "no_difference", "latency", f"{headline}; within the rounding of the figures"
    apart = seen.overall.low > 1 or seen.overall.high < 1
    if seen.p < ALPHA and apart:
        return ("slower" if seen.overall.estimate > 1 else "faster"), "latency", headline
    if min(seen.effective) < _MIN_EFFECTIVE:
        worth = f"{seen.effective[0]:.0f} and {seen.effective[1]:.0f}"
        return "insufficient_data", "latency", f"{headline}; but they drift together and are worth {worth} independent ones"
    return "no_difference", "latency", headline


def _by_table(m: Matter, ledger: OperatorLedger) -> tuple[Status, str, str]:
    sides = f"{side_time(ledger.normal_us, m.normal)} → {side_time(ledger.abnormal_us, m.abnormal)}"
    by = f"{ledger.abnormal_us / ledger.normal_us:.2f} x" if ledger.normal_us else "from nothing"
    what = f"{ledger.time.capitalize()} time of the profiled run {by}: {sides}"
    headline = f"{what}; read from one table a side, no repeats: no test possible"
    if abs(ledger.change_us) <= ledger.error_us:
        return "no_difference", "table", f"{headline}; within the rounding of the figures"
    return ("slower" if ledger.change_us > 0 else "faster"), "table", headline


def _movers(m: Matter) -> str:
    """Name what ate and what gave most of the time."""
    ledger = m.main
    if ledger is None or m.work.status == "other":
        return ""
    with_it = next((entry for entry in ledger.large() if entry.change_us * ledger.change_us > 0), None)
    against = next((entry for entry in ledger.large() if entry.change_us * ledger.change_us < 0), None)
    parts = [f"{entry.name} {change(entry.change_us, m.rounded)}" for entry in (with_it, against) if entry]
    whole = change(ledger.change_us, m.rounded)
    return f"; of {whole} {ledger.time} time in the profiled run: {', '.join(parts)}" if parts else ""


def _work(m: Matter) -> str:
    """Say how much of the profiled run's change is the device's, where both are known."""
    if m.device is None or m.host is None or not (m.host.normal_us and m.host.abnormal_us):
        return ""
    host, device = m.host, m.device
    if device.normal_us > host.normal_us or device.abnormal_us > host.abnormal_us:
        return ""  # work that was queued before, or on several streams: the one is no part of the other
    busy = [ledger / whole for ledger, whole in ((device.normal_us, host.normal_us), (device.abnormal_us, host.abnormal_us))]
    sides = [
        f"{side_time(ledger.normal_us, m.normal)} → {side_time(ledger.abnormal_us, m.abnormal)} "
        f"({change(ledger.change_us, m.rounded)})"
        for ledger in (host, device)
    ]
    text = (
        f"Profiled run: {sides[0]} on the host, of them {sides[1]} with work on the device ({busy[0]:.0%} → {busy[1]:.0%})"
    )
    rest = host.change_us - device.change_us
    if abs(rest) > _NOTICED * host.normal_us:
        text += f"; {change(rest, m.rounded)} of the change is without work on the device"
    return text


def _trust(m: Matter, by: str) -> str:
    parts = [_of_latencies(m.latency)] if by == "latency" else []
    if m.device or m.host:
        parts.append("each side was profiled once, so operators have no intervals")
        parts.append(("the profiled runs did the same work: " if m.work.status == "same" else "") + plain(m.work.text))
    if m.rounded:
        parts.append("figures marked ≈ were read from a text and are rounded")
    return "; ".join(parts) or "nothing could be compared"


def _of_latencies(seen: LatencyComparison) -> str:
    worth = f"{seen.effective[0]:.0f} and {seen.effective[1]:.0f}"
    p = f", p = {seen.p:.2g} at level {ALPHA:.2g}" if seen.p is not None else ""
    return (
        f"{seen.n[0]} and {seen.n[1]} runs, worth {worth} independent ones{p}; they are of one process a side, so the "
        "interval does not hold what two starts of the same program differ by"
    )
