"""What a person sees while a capture is recorded, and when it is done."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rca.capture import manifest as manifests
from rca.capture.manifest import Event, Manifest
from rca.capture.metrics import METRICS

_PLAIN_WIDTH = 200
_INFORMATIVE = ("process_started", "process_ended", "command_ended", "interrupted")
"""Kinds of events that are no trouble."""


class StatusLine:
    """One line on stderr that is written anew: time left, samples per second, steps seen. Off a terminal there is none."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = not enabled

    def show(self, doing: str, seconds_left: float | None, samples_per_s: float, steps: int | None) -> None:
        """Show how far the capture is."""
        if not self._enabled:
            return
        parts = [doing]
        parts += [f"{max(seconds_left, 0):.0f} s left"] if seconds_left is not None else []
        parts += [f"{samples_per_s:,.0f} samples/s"] if samples_per_s else []
        parts += [f"{steps:,} steps seen"] if steps is not None else []
        sys.stderr.write("\r\x1b[2K" + " · ".join(parts))
        sys.stderr.flush()

    def event(self, event: Event) -> None:
        """Print something that happened, above the status line."""
        if self._quiet:
            return
        self.clear()
        colour = "dim" if event.kind in _INFORMATIVE else "yellow"
        self._console.print(f"[{colour}]{event.kind}:[/] {escape(event.text)}")

    def clear(self) -> None:
        """Take the line away."""
        if self._enabled:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def summary(folder: str, manifest: Manifest) -> str:
    """Return what was recorded, and the commands to run next."""
    samples = sum(sampler.samples for sampler in manifest.samplers)
    lost = sum(sampler.lost for sampler in manifest.samplers)
    lines = [f"{folder}: {len(manifest.traces)} trace file(s), {samples:,} samples of {len(manifest.samplers)} samplers"]
    if lost:
        lines.append(f"  {lost:,} samples were lost")
    engine = manifest.engine
    if engine:
        lines.append(f"  {engine.name} {engine.version} at {engine.url}, {len(manifest.processes)} process(es) watched")
    if manifest.profiler and manifest.profiler.overhead_pct is not None:
        lines.append(
            f"  while it was profiled the server did {manifest.profiler.overhead_pct:+.1f} % fewer steps per second"
        )
    if manifest.unavailable:
        lines.append(f"  not available here: {', '.join(sorted(manifest.unavailable))} (reasons: rca collect --once)")
    if manifest.traces:
        lines.append(f"next: {_next(Path(folder))}")
    else:
        lines.append("no trace was recorded: the counters are there, but cycles cannot be compared without one")
        lines.append(f"next: rca inspect {quote(folder)}")
    return "\n".join(lines) + "\n"


def _next(folder: Path) -> str:
    """Return the comparison with the capture called normal beside this one; of a first capture, how to look at it."""
    normal = folder.with_name("normal")
    if folder.name != "normal" and (normal / manifests.NAME).is_file():
        return f"rca compare {quote(str(normal))} {quote(str(folder))}"
    return f"rca inspect {quote(str(folder))}; later: rca compare {quote(str(folder))} ABNORMAL"


def once_text(samples: Iterable[tuple[int, str, str, float, str, int | None]], unavailable: dict[str, str]) -> str:
    """Return one sample as a table, and what is missing with the reasons; as wide as the terminal, or plain for a pipe."""
    tty = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(file=out, highlight=False, markup=False, emoji=False, **({} if tty else {"width": _PLAIN_WIDTH}))  # type: ignore[arg-type]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, align in (("metric", "left"), ("device", "left"), ("pid", "right"), ("value", "right"), ("unit", "left")):
        table.add_column(name, justify=align, no_wrap=name in ("metric", "value"))  # type: ignore[arg-type]
    table.add_column("what it is")
    for _, metric, device, value, unit, pid in samples:
        text = METRICS[metric].text if metric in METRICS else ""
        table.add_row(metric, device, "" if pid is None else str(pid), f"{value:,.6g}", unit, text)
    console.print(table)
    if unavailable:
        console.print("\nNot available here")
        reasons = Table(box=None, pad_edge=False, show_header=False)
        for metric, why in sorted(unavailable.items()):
            reasons.add_row(metric, why)
        console.print(reasons)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))
