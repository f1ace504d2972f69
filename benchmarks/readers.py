#!/usr/bin/env python3
"""How fast and in how much memory traces are read: rca beside its floors and beside other tools, in one run.

    python benchmarks/readers.py                                  # 100k, 1M and 5M events: about 10 minutes
    python benchmarks/readers.py --sizes 100000 1000000 --runs 5 --hta-python /tmp/hta-venv/bin/python
    python benchmarks/readers.py --big                            # one more trace of 2 GB

Every row is a whole fresh process, start-up and imports included; the rows of one input take turns, so that a noisy
machine is noisy for all. "floor" is isal + one typed msgspec decode of the whole file, and no table. Medians of wall and
CPU time, the largest peak of memory (see `measure.py`). Targets are printed
beside what was measured and never asserted: a missed one is a line in the table, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from make_traces import make
from measure import Run, medians, run

HERE = Path(__file__).parent
ONE, TWO, WHOLE = "rca, reader, 1 process", "rca, reader, 2 processes", "rca, whole load, all cores"
HTA, PERFETTO = "HTA 0.5, load + two breakdowns", "Perfetto trace processor, load + group by"
GB = 1e9 / 2**20
"""10**9 bytes, in MiB."""


@dataclass(frozen=True)
class Row:
    """What is run: ``target`` is the most that its time may be of that of the row called ``base``."""

    label: str
    command: tuple[str | Path, ...]
    base: str = ""
    target: float | None = None
    runs: int | None = None
    warm: bool = False
    """Run it once before it is measured."""


@dataclass
class Table:
    """Rows of one input of so many events, and what was measured."""

    title: str
    events: int
    rows: list[Row]
    results: dict[str, Run] = field(default_factory=dict)

    def measure(self, runs: int) -> None:
        collected: dict[str, list[Run]] = {row.label: [] for row in self.rows}
        for row in self.rows:
            if row.warm:
                run(row.command)
        for turn in range(runs):
            for row in self.rows:
                if turn < (row.runs or runs):
                    print(f"  {self.title}: {row.label}, run {turn + 1}", file=sys.stderr)
                    collected[row.label].append(run(row.command))
        self.results = {label: medians(items) for label, items in collected.items()}

    def lines(self) -> Iterable[str]:
        yield f"\n**{self.title}**\n"
        yield "| | wall s | cpu s | peak MiB | events/s | wall ratio | cpu ratio | target | |"
        yield "|---|---:|---:|---:|---:|---|---|---|---|"
        for row in self.rows:
            result = self.results[row.label]
            if result.failed:
                yield f"| {row.label} | failed: {result.failed} | | | | | | | |"
                continue
            rate = f"{self.events / result.wall_s / 1e3:,.0f}k"
            numbers = f"{result.wall_s:.2f} | {result.cpu_s:.2f} | {result.peak_mb:,.0f} | {rate}"
            yield f"| {row.label} | {numbers} | {' | '.join(self._judged(row))} |"

    def _judged(self, row: Row) -> list[str]:
        result, base = self.results[row.label], self.results.get(row.base)
        if base is None or base.failed:
            return ["", "", "", ""]
        wall, cpu = result.wall_s / base.wall_s, result.cpu_s / base.cpu_s
        shown = [f"{wall:.2f}× {row.base}", f"{cpu:.2f}×"]
        if row.target is None:
            return [*shown, "", ""]
        return [*shown, f"≤ {row.target:g}×", "met" if wall <= row.target else "missed"]


def route(name: str, *paths: Path) -> tuple[str | Path, ...]:
    return (sys.executable, HERE / "routes.py", name, *paths)


def trace_rows(path: Path, args: argparse.Namespace) -> list[Row]:
    """Return the rows of one Chrome trace."""
    floor = "floor"
    rows = [
        Row("inflate alone, isal", route("inflate-isal", path)),
        Row(floor, route("floor-whole", path)),
        Row("the same in 1 MiB windows", route("floor-windows", path), floor),
        Row(ONE, route("rca-1", path), floor, 1.5),
        Row(TWO, route("rca-2", path), floor, 1.0),
        Row("rca, whole load, 1 process", route("load-1", path), floor),
        Row(WHOLE, route("load-all", path), floor),
    ]
    if path.suffix == ".gz":
        rows.insert(1, Row("inflate alone, gzip module", route("inflate-gzip", path)))
    if (os.cpu_count() or 1) > 2:
        rows.append(Row("rca, reader, all cores", route("rca-all", path), floor))
    slow = path.stat().st_size > 10 << 20
    if "kineto" in path.name and args.hta_python and path.stat().st_size < 50 << 20:
        command = (args.hta_python, HERE / "hta_load.py", path)
        rows.append(Row(HTA, command, runs=1 if slow else None))
    if args.trace_processor:
        query = path.with_name("query.sql")
        query.write_text("SELECT name, count(*), sum(dur) FROM slice GROUP BY name LIMIT 10;")
        rows.append(Row(PERFETTO, (args.trace_processor, "-q", query, path)))
    return rows


def nsys_rows(path: Path) -> list[Row]:
    best = "ADBC, 65,536-row batches"
    return [
        Row("ADBC, same columns, 4,096-row batches", route("adbc-4096", path)),
        Row(best, route("adbc-65536", path)),
        Row("ADBC, same columns, 1,048,576-row batches", route("adbc-1048576", path)),
        Row("rca, reader", route("rca-all", path), best, 1.3),
        Row("rca, whole load", route("load-all", path), best),
    ]


def compare_rows(normal: Path, abnormal: Path) -> list[Row]:
    compare = (Path(sys.executable).with_name("rca"), "compare", normal.parent, abnormal.parent, "-q", "--json", os.devnull)
    reading = "reading both (reader, all cores)"
    return [
        Row(reading, route("rca-all", normal, abnormal)),
        Row("loading both (with hashes and health checks)", route("load-all", normal, abnormal), reading),
        Row("rca compare --no-cache", (*compare, "--no-cache"), reading, 2.0),
        Row("rca compare, warm cache", compare, reading, warm=True),
    ]


def claim(text: str, measured: float, limit: float, unit: str, *, at_least: bool = False) -> str:
    met = measured >= limit if at_least else measured <= limit
    sign = "≥" if at_least else "≤"
    return f"| {text} | {measured:,.2f}{unit} | {sign} {limit:g}{unit} | {'met' if met else 'missed'} |"


def other_tools(tables: dict[str, Table]) -> Iterable[str]:
    for title, table in tables.items():
        for other, factor in ((HTA, 10), (PERFETTO, 2)):
            if other in table.results and not table.results[other].failed:
                for ours in (TWO, WHOLE):
                    times = table.results[other].wall_s / table.results[ours].wall_s
                    text = f"{title}: {ours}, is faster than {other.split(',')[0]} by"
                    yield claim(text, times, factor, "×", at_least=True)


def memory(tables: dict[str, Table]) -> Iterable[str]:
    for title, table in tables.items():
        limit = 1.5 if "2 GB" in title else 1.0 if ", 5M events" in title else None
        for ours in (ONE, TWO, WHOLE):
            if limit and ours in table.results:
                yield claim(f"{title}: peak memory, {ours}", table.results[ours].peak_mb / GB, limit, " GB")


def scaling(tables: dict[str, Table]) -> Iterable[str]:
    for kind in ("kineto", "kunlun"):
        small, large = tables.get(f"{kind}, 100k events"), tables.get(f"{kind}, 5M events")
        if small and large:
            for ours in (ONE, TWO):
                per_event = [table.results[ours].wall_s / table.events for table in (small, large)]
                text = f"{kind}: time per event at 5M over that at 100k, {ours}"
                yield claim(text, per_event[1] / per_event[0], 1.3, "×")


def short(count: int) -> str:
    return f"{count / 1e6:g}M" if count >= 10**6 else f"{count / 1e3:g}k"


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "msgspec", "isal", "adbc-driver-sqlite"))
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    system = f"{platform.system()}, Python {platform.python_version()}, {packages}"
    return f"{os.cpu_count()} cores, {ram:.0f} GiB of RAM, {system}; load average {load:.1f} at the end"


def plan(folder: Path, args: argparse.Namespace) -> Iterable[tuple[Table, int]]:
    """Make each input, and say what to run on it; the input may be deleted once the next one is asked for."""
    for events in args.sizes:
        runs = args.runs if events <= 2_000_000 else min(args.runs, 3)
        for kind in ("kineto", "kunlun"):
            path = folder / f"{kind}.json.gz"
            made = make(kind, path, events)
            yield Table(f"{kind}, {short(events)} events", made, trace_rows(path, args)), runs
            path.unlink()
    if args.big:
        path = folder / "kineto.json"
        made = make("kineto", path, 7_000_000)
        yield Table(f"kineto, 2 GB of JSON, not compressed, {short(made)} events", made, trace_rows(path, args)), 1
        path.unlink()
    for kernels in [size for size in args.sizes if size >= 10**6]:
        path = folder / "nsys.sqlite"
        made = make("nsys", path, kernels)
        yield (
            Table(f"nsys, {short(kernels)} kernels", made, nsys_rows(path)),
            args.runs if kernels < 2e6 else min(args.runs, 3),
        )
        path.unlink()
    normal, abnormal = (folder / side / "kineto.json.gz" for side in ("normal", "abnormal"))
    made = 0
    for path, seed, slow in ((normal, 1, 1.0), (abnormal, 2, 1.3)):
        path.parent.mkdir()
        made += make("kineto", path, args.compare, seed=seed, slow=slow)
    title = f"rca compare of two captures of {short(args.compare)} events"
    yield Table(title, made, compare_rows(normal, abnormal)), args.runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 5_000_000], help="events per trace")
    parser.add_argument("--compare", type=int, default=1_000_000, help="events per side of rca compare")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each row (default: %(default)s)")
    parser.add_argument("--big", action="store_true", help="also read a plain JSON of 2 GB")
    parser.add_argument("--hta-python", type=Path, help="a Python that has HolisticTraceAnalysis 0.5 and pandas < 3")
    parser.add_argument("--trace-processor", type=Path, help="Perfetto's trace_processor_shell")
    parser.add_argument("--folder", type=Path, help="where to make the inputs (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all medians there")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rca-bench-", dir=args.folder))
    tables: dict[str, Table] = {}
    try:
        for table, runs in plan(folder, args):
            tables[table.title] = table
            table.measure(runs)
            print("\n".join(table.lines()), flush=True)
    finally:
        shutil.rmtree(folder)
    print("\n**Other targets**\n\n| | measured | target | |\n|---|---:|---|---|")
    print("\n".join([*other_tools(tables), *memory(tables), *scaling(tables)]))
    for option, what in (("hta_python", HTA), ("trace_processor", PERFETTO)):
        if not getattr(args, option):
            print(f"\nNot measured: {what}; give --{option.replace('_', '-')} PATH.")
    print(f"\nMachine: {machine()}.")
    if args.json:
        results = {title: {k: asdict(run_) for k, run_ in table.results.items()} for title, table in tables.items()}
        args.json.write_text(json.dumps({"machine": machine(), "tables": results}, indent=1))


if __name__ == "__main__":
    main()
