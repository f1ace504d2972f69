"""What a person sees while `rca` works and when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from rca.api import Comparison
from rca.capture import Progress as OnProgress
from rca.capture.load import no_progress
from reports.verdict_view import VerdictView, signed, verdict_view
from reports.view import STATUS_WORDS

_COLOURS = {
    "slower": "bold red",
    "faster": "bold green",
    "no_difference": "bold green",
    "not_comparable": "bold yellow",
    "insufficient_data": "bold yellow",
}
MAX_CAUSES = 3
MAX_EVIDENCE = 2
MAX_PARTS = 4
_MAX_WARNINGS = 12
_QUICK_SECONDS = 2


@contextmanager
def progress(enabled: bool) -> Iterator[OnProgress]:
    """Show the files and bytes that are done on stderr, on a terminal only, and only for work longer than two seconds."""
    if not enabled or not sys.stderr.isatty():
        yield no_progress
        return
    began = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("reading", total=None)

    def update(file: str, done: int, total: int) -> None:
        bar.update(task, description=escape(file[-40:]), completed=done, total=total)
        if time.monotonic() - began > _QUICK_SECONDS and not bar.live.is_started:
            bar.start()

    try:
        yield update
    finally:
        bar.stop()


def summary(result: Comparison, written: list[Path]) -> None:
    """Print status, headline, suspects and where the reports are; in colour on a terminal."""
    out = Console(highlight=False, soft_wrap=True)
    verdict = result.verdict
    headline(out, verdict.status, verdict.headline)
    for reason in dict.fromkeys(reason for rank in result.ranks for reason in rank.gate.reasons):
        if reason not in verdict.headline:
            out.print(f"  {escape(reason)}")
    shown = verdict_view(result)
    suspects(out, shown)
    _where_the_time_went(out, result)
    out.print(f"[dim]trust:[/] {escape(shown.trust)}")
    files(out, written)


def headline(out: Console, status: str, text: str) -> None:
    """Print a verdict's status and sentence."""
    out.print(f"[{_COLOURS[status]}]{STATUS_WORDS[status]}[/]  {escape(text)}")


def suspects(out: Console, verdict: VerdictView) -> None:
    """Print the causes with what speaks for and against them, and what to check next."""
    if verdict.work:
        out.print(f"  {escape(verdict.work)}")
    for number, cause in enumerate(verdict.causes[:MAX_CAUSES], start=1):
        out.print(f"  {number}. [bold]{escape(cause.title)}[/]")
        for text in cause.evidence_for[:MAX_EVIDENCE]:
            out.print(f"     [green]+[/] {escape(text)}")
        for text in cause.evidence_against[:MAX_EVIDENCE]:
            out.print(f"     [red]-[/] {escape(text)}")
    if verdict.causes:
        out.print(f"[dim]next check:[/] {escape(verdict.causes[0].next_check)}")
    else:
        out.print(f"[dim]cause:[/] {escape(verdict.no_causes)}")


def files(out: Console, written: Sequence[Path]) -> None:
    """Say what was written."""
    for path in written:
        out.print(f"[dim]written:[/] {escape(str(path))}")


def _where_the_time_went(out: Console, result: Comparison) -> None:
    """Print the largest parts of the ledger, where the cycle changed."""
    ledger = result.verdict.ledger
    if ledger is None or result.verdict.status not in ("slower", "faster"):
        return
    largest = sorted(ledger.entries, key=lambda entry: -abs(entry.change_us))[:MAX_PARTS]
    out.print(f"[dim]of {signed(ledger.change_us)} per cycle:[/]")
    for entry in largest:
        out.print(f"  {signed(entry.change_us):>10}  {escape(entry.text)}")


def notes(warnings: Sequence[str]) -> None:
    """Print what a report warns of on stderr; of many the first."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for warning in warnings[:_MAX_WARNINGS]:
        err.print(f"[yellow]note:[/] {escape(warning)}")
    if len(warnings) > _MAX_WARNINGS:
        err.print(f"[yellow]note:[/] … and {len(warnings) - _MAX_WARNINGS} more in the reports")
