"""What is wrong or odd about a capture: one `Finding` per problem, from readers and from the health checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding touches what a comparison may conclude."""

    INFO = "info"
    """Worth knowing; nothing is lost."""
    WARNING = "warning"
    """Numbers may mislead unless this is kept in mind."""
    DAMAGE = "damage"
    """Part of the capture is lost."""


CODES = {
    "skipped": "a file or a part of it was not read",
    "duplicate": "a file has the content of another one, or a merged file holds other files",
    "truncated": "a file ends before its end; what is there was read",
    "repaired": "invalid JSON, bytes or literals were repaired or left out",
    "bad_values": "values that cannot be (negative durations, missing times) were replaced or left out",
    "no_wall_clock": "times cannot be placed on the wall clock",
    "clock_offset": "times were shifted to place them on the capture's clock",
    "shared_ids": "correlation ids are used by several processes",
    "time_filtered": "the export was shifted in time or restricted to a part of the recording",
    "graph_level": "CUDA graphs were traced as a whole: their kernels are invisible",
    "summary_only": "the file holds totals, not single events: no cycles can be cut from it",
    "needs_export": "a file must be converted by its vendor's tool before it can be read",
    "lost_events": "the recorder itself says that it lost events",
    "tool_message": "a warning or error of the recording tool",
    "dropped_kernels": "launches without the GPU work that they started",
    "no_host_events": "GPU work without the host calls that started it",
    "negative_launch_latency": "GPU work that begins before its launch call",
    "zero_time": "events at time 0, far from all others",
    "clock_jump": "time jumps within the recording",
    "counter_hole": "a counter was not sampled for much longer than its period",
    "profiler_stall": "the profiler itself held up the program",
    "profiler_overhead": "the profiler's own rows take a notable share of the time",
    "rank_missing": "ranks of the job have no trace",
    "while_recording": "something happened while the collector recorded: a process or the server ended, a GPU was lost",
    "unfinished": "the collector was killed before it finished",
    "not_measured": "metrics that the collector could not measure on that machine",
    "settings_differ": "the two sides, or files of one, were recorded with different profiler settings",
    "hardware_differs": "the two sides were recorded on different hardware",
    "software_differs": "other versions of software ran on the two sides",
    "engine_settings_differ": "the engine was started with other settings on the two sides",
}
"""Every code that a finding may have, and what it means. The codes are part of the JSON reports."""


@dataclass(frozen=True)
class Finding:
    """One problem. ``text`` is a clause that can follow a file name and a colon; ``file`` is empty for the whole capture."""

    code: str
    text: str
    severity: Severity = Severity.WARNING
    file: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown finding code {self.code!r}")

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.file else self.text
