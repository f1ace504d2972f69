"""Reduced captures kept beside a capture, so that comparing it again reads no trace.

``<capture>/.rca-cache/<hash of its files>/`` holds the tables that do not grow with the trace: counters, cycles and
per-cycle profiles, as Arrow files and JSON. The name is a hash of content and version: nothing in it goes stale. Whatever is
missing, damaged or cannot be written is made anew, silently: a cache must never be the reason why a comparison fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from rca.capture import Capture, Finding, Listing, Severity, SourceFile
from rca.capture.tables import COUNTERS, CYCLE_ROWS, EVENTS, empty
from rca.cycles import CYCLES, Anchor, Rank
from rca.cycles.grammar import GRAMMAR, KNOWN_FRAMES, AnchorKind
from rca.cycles.sequence import Mark
from rca.profile import Profile
from rca.profile.build import ROWS
from rca.profile.timeline import PARTS_TABLE
from rca.version import __version__

FORMAT = 3
"""To be raised when the reduction changes without a change of version."""

MAX_ENTRIES = 8
"""Captures that one folder keeps; the oldest go. A folder that is added to gets a new hash each time."""

_FOLDER = ".rca-cache"
_ENTRY = re.compile(r"[0-9a-f]{32}")
_DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, re.error),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)
"""What reading an entry may raise whose files hold anything."""
Tables = dict[str, pl.DataFrame]
Kept = TypeVar("Kept")
_KNOWN = {anchor.name: anchor for anchor in (*GRAMMAR, *KNOWN_FRAMES)}


@dataclass(frozen=True)
class Summary:
    """A capture without its events, and what of them is needed to choose an anchor and to name what takes no part.

    Attributes:
        capture: with an empty events table.
        traces: indices of the files that hold events.
        known: names of the anchors of the engines' grammar that it has, best first.
    """

    capture: Capture
    traces: tuple[int, ...]
    known: tuple[str, ...]


class Cache:
    """What is kept of one capture. With ``enabled`` False, or ``RCA_NO_CACHE`` set, it remembers and writes nothing."""

    def __init__(self, listing: Listing, enabled: bool = True) -> None:
        beside = listing.path if listing.path.is_dir() else listing.path.parent
        key = hashlib.sha256(f"{FORMAT} {__version__} {pl.__version__} {listing.digest}".encode()).hexdigest()[:32]
        self._listing = listing
        self._root = beside / _FOLDER
        self._place = self._root / key
        self._enabled = enabled and not os.environ.get("RCA_NO_CACHE")
        if self._root.is_symlink() or self._place.is_symlink():  # would delete what is not ours
            self._enabled = False

    def summary(self) -> Summary | None:
        """Return the summary, if it is kept."""

        def restored(facts: Any, tables: Tables) -> Summary:
            capture = Capture(
                path=self._listing.path,
                files=tuple(SourceFile(**file) for file in facts["files"]),
                events=empty(EVENTS),
                counters=_typed(tables["counters"], COUNTERS),
                cycle_rows=_typed(tables["cycle_rows"], CYCLE_ROWS),
                meta=tuple(facts["meta"]),
                findings=(
                    *self._listing.findings,
                    *(Finding(**item | {"severity": Severity(item["severity"])}) for item in facts["findings"]),
                ),
            )
            return Summary(capture, tuple(facts["traces"]), tuple(facts["known"]))

        return self._kept("summary", restored)

    def keep_summary(self, summary: Summary) -> None:
        """Keep a summary, without what the listing found: files that are not read may change and give no new hash."""
        capture = summary.capture
        of_listing = len(self._listing.findings)
        facts = {
            "files": [asdict(file) for file in capture.files],
            "meta": list(capture.meta),
            "findings": [asdict(finding) for finding in capture.findings[of_listing:]],
            "traces": list(summary.traces),
            "known": list(summary.known),
        }
        self._write("summary", facts, {"counters": capture.counters, "cycle_rows": capture.cycle_rows})

    def profiles(self, anchor: Anchor | None, cores: int) -> list[Profile] | None:
        """Return the profiles that cutting by ``anchor`` gave, if they are kept."""

        def restored(facts: Any, tables: Tables) -> list[Profile]:
            profiles = []
            for i, rank in enumerate(facts["ranks"]):
                cycles = _typed(tables[f"cycles{i}"], CYCLES)
                own = Rank(**rank | {"cycles": cycles, "files": tuple(rank["files"])})
                rows, counters = _typed(tables[f"rows{i}"], ROWS), _typed(tables[f"counters{i}"], COUNTERS)
                parts = _typed(tables[f"parts{i}"], PARTS_TABLE)
                profiles.append(Profile(own, rows, counters, parts, facts["from_events"][i]))
            return profiles

        return self._kept(_profile_name(anchor, cores), restored)

    def keep_profiles(self, anchor: Anchor | None, cores: int, profiles: list[Profile]) -> None:
        """Keep what cutting by ``anchor`` gave."""
        ranks = [
            {key: getattr(p.rank, key) for key in ("role", "pid", "anchor", "coverage", "files", "ambiguous", "rank")}
            for p in profiles
        ]
        tables: Tables = {}
        for i, profile in enumerate(profiles):
            tables |= {f"cycles{i}": profile.rank.cycles, f"rows{i}": profile.rows, f"counters{i}": profile.counters}
            tables[f"parts{i}"] = profile.parts
        facts = {"ranks": ranks, "from_events": [profile.from_events for profile in profiles]}
        self._write(_profile_name(anchor, cores), facts, tables)

    def choice(self, other: Listing, cycle: str | None) -> dict[str, Anchor] | None:
        """Return the anchors that were chosen for this capture against ``other``, if they are kept."""
        name = _choice_name(other, cycle)
        return self._kept(name, lambda facts, _: {side: _anchor(stored) for side, stored in facts.items()})

    def keep_choice(self, other: Listing, cycle: str | None, anchors: dict[str, Anchor]) -> None:
        """Keep the anchors that were chosen for this capture against ``other``."""
        self._write(_choice_name(other, cycle), {side: _stored(anchor) for side, anchor in anchors.items()}, {})

    def _kept(self, name: str, restored: Callable[[Any, Tables], Kept]) -> Kept | None:
        folder = self._place / name
        if not self._enabled or not folder.is_dir():
            return None
        try:
            facts = json.loads((folder / "facts.json").read_text("utf-8"))
            return restored(facts, {file.stem: pl.read_ipc(file) for file in sorted(folder.glob("*.arrow"))})
        except _DAMAGED:
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def _write(self, name: str, facts: Any, tables: Tables) -> None:
        if not self._enabled:
            return
        folder: Path | None = None
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._place))
            (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
            for key, table in tables.items():
                table.write_ipc(folder / f"{key}.arrow", compression="zstd")
            folder.rename(self._place / name)
            self._forget_old()
        except (OSError, ValueError, TypeError, pl.exceptions.PolarsError):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _forget_old(self) -> None:
        entries = [entry for entry in self._root.iterdir() if _ENTRY.fullmatch(entry.name) and entry != self._place]
        entries = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
        entries.sort(key=lambda entry: entry.stat().st_mtime_ns)
        for entry in entries[: max(0, len(entries) + 1 - MAX_ENTRIES)]:
            shutil.rmtree(entry, ignore_errors=True)


def _typed(table: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    return table.select(pl.col(key).cast(dtype) for key, dtype in schema.items())


def _hashed(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def _profile_name(anchor: Anchor | None, cores: int) -> str:
    return f"profiles-{_hashed(anchor and _stored(anchor), cores)}"


def _choice_name(other: Listing, cycle: str | None) -> str:
    return f"choice-{_hashed(other.digest, cycle)}"


def _stored(anchor: Anchor) -> dict[str, Any]:
    return {
        "name": anchor.name,
        "pattern": anchor.pattern and anchor.pattern.pattern,
        "kind": str(anchor.kind),
        "event_kinds": list(anchor.event_kinds),
        "mark": anchor.mark and asdict(anchor.mark),
    }


def _anchor(stored: dict[str, Any]) -> Anchor:
    known = _KNOWN.get(stored["name"])
    if known is not None and _stored(known) == stored:
        return known
    pattern, mark = stored["pattern"], stored["mark"]
    return Anchor(
        name=stored["name"],
        pattern=None if pattern is None else re.compile(pattern),
        kind=AnchorKind(stored["kind"]),
        event_kinds=tuple(stored["event_kinds"]),
        mark=None if mark is None else Mark(**mark),
    )
