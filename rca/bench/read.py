"""Model runs from where they lie: a folder that `rca bench run` wrote, or a text that somebody kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from rca.bench.model import BenchRun, Configuration, Measured, RunRecord
from rca.bench.operators import OperatorTable, plain, read_tables
from rca.bench.runs import RUN_LINE, Section, read_text
from rca.errors import InputError
from rca.version import BENCH_SCHEMA

RUNS, ENVIRONMENT, OPERATORS = "runs.jsonl", "environment.json", "operators.txt"

_HEAD_BYTES = 1 << 20
_MOST_BYTES = 1 << 29
_MOST_FILES = 64
_MAGIC = (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"SQLite format 3", b"PAR1")
_JSON = re.compile(rb'\s*(?:\{\s*"|\[\s*[\[{"])')
_TABLE_HEADER = re.compile(r"Name\s[\s\S]{0,800}?Self CPU[\s\S]{0,1600}?of Calls")
_NUMBERED = re.compile(r"^(?P<path>.+)#(?P<number>\d{1,6})$")
_GIB = float(1 << 30)


class _Run(msgspec.Struct, tag_field="kind", tag="run"):
    schema: str
    prompt_tokens: int
    new_tokens: int
    run: int
    of: int
    latency_s: float
    peak_memory_bytes: int | None = None
    memory_of: str = ""


class _Profile(msgspec.Struct, tag_field="kind", tag="profile"):
    schema: str
    prompt_tokens: int
    new_tokens: int


def is_bench(path: Path) -> bool:
    """Tell by content, and at a glance, whether this is a model run: a folder of ours, or text with its tables or lines.

    Only heads are looked at, and only of texts; a folder with traces, counters or other captures in it is none of ours.
    ``FILE#2``, the second run of a text, is one if FILE is.
    """
    try:
        path = _split(path)[0]
        if path.is_dir():
            return ((path / RUNS).is_file() and _is_ours(_head(path / RUNS))) or bool(_texts(path))
        return path.is_file() and _has_runs(_head(path))
    except OSError:
        return False


def read(path: Path | str) -> BenchRun:
    """Read one model run: a folder, a text, or ``FILE#2``, the second one of a text that holds several.

    Raises:
        InputError: there is none, it cannot be read, or there are several and none is chosen.
    """
    source = str(path)
    place, number = _split(Path(path))
    if not place.exists():
        raise InputError(path, "does not exist")
    try:
        if place.is_dir():
            if (place / RUNS).is_file():
                if number is not None:
                    raise InputError(path, "is a folder with one model run", "leave # and the number out")
                return _folder(place, source)
            return _chosen_of(place, number, source)
        return _text(place, number, source)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None


def _split(path: Path) -> tuple[Path, int | None]:
    numbered = _NUMBERED.match(str(path))
    if numbered is None or path.exists():
        return path, None
    return Path(numbered["path"]), int(numbered["number"])


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_ours(head: bytes) -> bool:
    return not head.strip() or BENCH_SCHEMA.encode() in head.partition(b"\n")[0]


def _is_text(head: bytes) -> bool:
    """Tell text from binaries and JSON; lines of logs begin with a bracket, too."""
    return b"\x00" not in head and not head.startswith(_MAGIC) and not _JSON.match(head)


def _has_runs(head: bytes) -> bool:
    if not _is_text(head) or not (b"Self" in head or b"/" in head):
        return False
    text = head.decode(errors="replace")
    return bool(_TABLE_HEADER.search(text) or RUN_LINE.search(text))


def _texts(folder: Path) -> list[Path]:
    """Return the texts with model runs that lie in a folder; none if anything but texts lies there too."""
    found = []
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if len(entries) > _MOST_FILES:
        return []
    for entry in entries:
        if not entry.is_file() or entry.suffix.lower() in (".csv", ".tsv"):  # counters and profiles of a capture
            return []
        head = _head(entry)
        if not _is_text(head):
            return []
        if _has_runs(head):
            found.append(entry)
    return found


def _chosen_of(folder: Path, number: int | None, source: str) -> BenchRun:
    texts = _texts(folder)
    if not texts:
        raise InputError(folder, f"holds no model run: neither {RUNS} nor a text with runs or an operator table")
    if len(texts) > 1:
        names = ", ".join(text.name for text in texts)
        raise InputError(folder, f"holds {len(texts)} texts with model runs: {names}", "name one of them")
    return _text(texts[0], number, source)


def read_all(path: Path | str) -> tuple[BenchRun, ...]:
    """Read every model run of a text; of anything else the one that `read` reads.

    Raises:
        InputError: as `read`, but several are no trouble.
    """
    place, number = _split(Path(path))
    if number is not None or not place.is_file():
        return (read(path),)
    try:
        sections, skipped = _sections(place)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    titles = _titles(sections)
    runs = [_of_section(section, f"{path}#{i}", titles[i - 1], ()) for i, section in enumerate(sections, start=1)]
    return (replace(runs[0], warnings=(*skipped, *runs[0].warnings)), *runs[1:])


def _text(path: Path, number: int | None, source: str) -> BenchRun:
    sections, skipped = _sections(path)
    titles = _titles(sections)
    if number is None and len(sections) > 1:
        raise InputError(path, f"holds {len(sections)} model runs: {', '.join(titles)}", f"choose one, as in {path}#1")
    if number is not None and not 1 <= number <= len(sections):
        raise InputError(path, f"has no model run #{number}; it holds {', '.join(titles)}")
    chosen = (number or 1) - 1
    return _of_section(sections[chosen], source, titles[chosen], skipped)


def _titles(sections: list[Section]) -> list[str]:
    return [f"#{i} {section.title}".rstrip() for i, section in enumerate(sections, start=1)]


def _sections(path: Path) -> tuple[list[Section], tuple[str, ...]]:
    """Return the model runs of a text, and what was skipped in it."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(path, f"is too large for a log of model runs: {size / _GIB:.1f} GiB", "cut out the runs")
    content = path.read_bytes()
    if not content.strip():
        raise InputError(path, "is empty")
    if not _is_text(content[:_HEAD_BYTES]):
        raise InputError(path, "is no text with model runs", "give a folder of `rca bench run`, or a log with its tables")
    found = read_text(content.decode("utf-8-sig", errors="replace"))
    sections = [section for section in found.sections if section.records or any(t.rows.height for t in section.tables)]
    if not sections:
        why = f": {found.skipped[0]}" if found.skipped else ""
        raise InputError(path, f"holds no model run{why}", "expected lines of runs, or a table of key_averages() with rows")
    return sections, found.skipped


def _of_section(section: Section, source: str, title: str, skipped: tuple[str, ...]) -> BenchRun:
    tables = [table for table in section.tables if table.rows.height]
    warnings = [*skipped, *(problem for table in section.tables for problem in table.problems)]
    if len(tables) > 1:
        last = f"the last one, in line {tables[-1].line:,}, is used"
        warnings.append(f"{len(tables)} operator tables belong to this run; {last}")
    if section.failed:
        warnings.append(f"the run ended in an error: {section.error or 'a traceback'}")
    return BenchRun(
        source=source,
        label=section.title or title,
        quantised=section.quantised,
        records=tuple(section.records),
        table=tables[-1] if tables else None,
        profiled=None,
        memory_of="",
        is_text=True,
        warnings=tuple(warnings),
    )


def _folder(folder: Path, source: str) -> BenchRun:
    records, profile, warnings = _records(folder / RUNS)
    environment = _environment(folder / ENVIRONMENT, warnings)
    table = _operators(folder / OPERATORS, warnings)
    if not records and table is None:
        raise InputError(folder, "holds no run: it was ended before the first one was done", "run `rca bench run` again")
    parts = [environment.get("model"), environment.get("dtype"), environment.get("quantized")]
    title = " ".join([*(str(part) for part in parts if part), *(["compiled"] if environment.get("compiled") else [])])
    whose = {record.memory_of for record in records}
    return BenchRun(
        source=source,
        label=title or folder.name,
        quantised=str(environment.get("quantized") or ""),
        records=tuple(_record(record) for record in records),
        table=table,
        profiled=_configuration(profile) if profile else None,
        memory_of=whose.pop() if len(whose) == 1 else "",
        is_text=False,
        environment=environment,
        warnings=tuple(warnings),
    )


def _records(path: Path) -> tuple[list[_Run], _Profile | None, list[str]]:
    records: list[_Run] = []
    profile: _Profile | None = None
    bad: list[str] = []
    decoder = msgspec.json.Decoder(_Run | _Profile)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            said = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            bad.append(f"line {number:,} is no record: {error}")
            continue
        if said.schema != BENCH_SCHEMA:
            raise InputError(path, f"line {number:,} has the schema {said.schema!r}, not {BENCH_SCHEMA}")
        if isinstance(said, _Profile):
            profile = said
        elif said.latency_s > 0 and said.run >= 1 and said.of >= 1:
            records.append(said)
        else:
            bad.append(f"line {number:,} has a latency that is no positive number")
    if bad and not records and profile is None:
        raise InputError(path, bad[0])
    more = f"; {len(bad) - 1:,} more like it" if len(bad) > 1 else ""
    return records, profile, [f"{path.name}: {bad[0]}{more}; skipped"] if bad else []


def _environment(path: Path, warnings: list[str]) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if isinstance(found, dict):
        plain_values = {key: value for key, value in found.items() if isinstance(value, str | int | float | bool)}
        return {key: value for key, value in plain_values.items() if key != "schema"}
    warnings.append(f"{ENVIRONMENT} is missing or cannot be read: what the model ran on is not known")
    return {}


def _operators(path: Path, warnings: list[str]) -> OperatorTable | None:
    try:
        tables = read_tables(plain(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        tables = []
    tables = [table for table in tables if table.rows.height]
    if not tables:
        warnings.append(f"{OPERATORS} is missing or has no table: where the time went is not known")
        return None
    warnings += [f"{OPERATORS}: {problem}" for problem in tables[0].problems]
    return tables[0]


def _configuration(said: _Run | _Profile) -> Configuration:
    return Configuration("", said.prompt_tokens, said.new_tokens)


def _record(said: _Run) -> RunRecord:
    return RunRecord(
        configuration=_configuration(said),
        run=said.run,
        of=said.of,
        latency_s=Measured(said.latency_s),
        tokens=said.new_tokens,
        throughput=Measured(said.new_tokens / said.latency_s),
        memory=Measured(said.peak_memory_bytes / _GIB) if said.peak_memory_bytes else None,
        memory_unit="GiB" if said.peak_memory_bytes else "",
    )
