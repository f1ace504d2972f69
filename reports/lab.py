"""What a person sees of `rca lab`: faults, cases, how far a run is, and what came of it."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from lab.faults import FAULTS
from lab.run import Done, Progress
from lab.suite import Suite, plan
from reports import progress_bar

_PLAIN_WIDTH = 160


class Watch(progress_bar.Watch):
    """Shows a run of the lab."""

    def at(self, progress: Progress) -> None:
        """Say what begins now."""
        self.show(progress.doing, progress.done, progress.of)

    def compared(self, case: str, done: int, total: int) -> None:
        """Say which case is compared now; only a bar does."""
        self.move(case, done, total)


@contextmanager
def progress(enabled: bool) -> Iterator[Watch]:
    """Show a run on stderr while it lasts."""
    watch = Watch(enabled)
    with watch.bar:
        yield watch


def summary(done: Done) -> str:
    """Say what came of a run."""
    lines = [f"{done.folder}: {done.cases} case(s)"]
    for workload, reasons in sorted(done.record.unavailable.items()):
        lines += [
            f"  {workload}: not available: {'' if fault == '*' else fault + ': '}{why}"
            for fault, why in sorted(reasons.items())
        ]
    lines += [f"  failed: {case}: {why}" for case, why in sorted(done.record.failed.items())]
    lines += [f"  NOT UNDONE: {problem}" for problem in done.record.not_undone]
    if done.left:
        lines.append(f"  {done.left} case(s) were not begun: the time was up; the same command goes on")
    lines += [f"next: rca lab score {done.folder}"] if done.cases else []
    return "\n".join(lines)


def exit_code(done: Done) -> int:
    """Return 4 where cases are missing that could have been run, 2 where none could."""
    if done.left or done.record.failed:
        return 4
    return 0 if done.cases else 2


def faults_text(lacking: Mapping[str, str] | None = None) -> str:
    """List the faults; with ``lacking``, why this machine cannot have some of them."""
    table = Table(box=None, pad_edge=False)
    for name in ("fault", "cause", "severity", "what is done", *(["here"] if lacking is not None else [])):
        table.add_column(name, overflow="fold")
    for fault in FAULTS.values():
        dial = ", ".join(f"{value:g}" for value in fault.severities)
        here = [lacking.get(fault.name, "yes")] if lacking is not None else []
        table.add_row(fault.name, fault.cause, f"{dial} {fault.unit}".strip(), fault.text, *here)
    return _drawn(table)


def cases_text(suite: Suite) -> str:
    """List what a suite would run."""
    cases = plan(suite)
    seconds = sum(2 * (suite.capture_seconds + suite.settle_seconds + 2) for _ in cases)
    table = Table(box=None, pad_edge=False)
    for name in ("workload", "fault", "cause", "severities", "pairs"):
        table.add_column(name, overflow="fold")
    counts = Counter((case.workload, case.fault.name if case.fault else "aa", case.change) for case in cases)
    for (workload, name, change), pairs in counts.items():
        own = [c for c in cases if (c.workload, c.fault.name if c.fault else "aa", c.change) == (workload, name, change)]
        dial = ", ".join(f"{value:g}" for value in sorted({c.severity for c in own if c.severity is not None}))
        cause = FAULTS[name].cause if name in FAULTS else "none: both sides are undisturbed"
        table.add_row(workload, f"{name} {change}".strip(), cause, dial, str(pairs))
    text = f"{len(cases)} pairs of captures; some {seconds / 60:.0f} minutes, and the starts of the servers\n"
    return _drawn(table) + text


def _drawn(table: Table) -> str:
    out = io.StringIO()
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    Console(file=out, width=width, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
