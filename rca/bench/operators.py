"""Operator tables: what ``key_averages().table()`` of `torch.profiler` prints, found anywhere in a text.

Format: ``torch/autograd/profiler_util.py``, ``_build_table`` (torch 1.8 to 2.13). Columns differ with version and options;
they are told by their headers. Every figure has three decimals of its unit, so it is known to half a last digit: 2.406 s is
2.406 s ± 0.5 ms.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from rca.bench.kinds import classified

UNIT_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6}
TIMES = ("self_device", "self_cpu", "device_total", "cpu_total")
SCHEMA: dict[str, type[pl.DataType]] = {
    "name": pl.String,
    **{f"{time}_{part}": pl.Float64 for time in TIMES for part in ("us", "error_us")},
    "calls": pl.Int64,
}

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RULE = re.compile(r"^(?P<prefix>.{0,200}?)(?P<dashes>-{3,}(?:\s+-{3,})*)\s*$")
_FEWEST_DASHES = 40
_MOST_PIECES = 5
"""A row that a narrow terminal broke into more lines than this is not put together again."""

_MOST_LINE = 20_000
_TIME = r"(?:-?[\d.]+(?:[eE][+-]?\d+)?\s?(?:ns|us|µs|μs|ms|s|min)|--|-?nan|-?inf)"
_PERCENT = r"(?:-?[\d.]+\s?%|--|-?nan%?)"
_MEMORY = r"(?:-?[\d.]+\s?[KMGT]?i?b|--)"

_CELLS = (
    (re.compile(r"Overload Name"), "text", ""),
    (re.compile(r"Self CPU(?: total)? %|CPU total %"), _PERCENT, ""),
    (re.compile(r"Self CPU Mem|CPU Mem"), _MEMORY, ""),
    (re.compile(r"Self CPU(?: total)?"), _TIME, "self_cpu"),
    (re.compile(r"CPU total"), _TIME, "cpu_total"),
    (re.compile(r"# of Calls|Number of Calls"), r"(?:[\d,]+|--)", "calls"),
    (re.compile(r"Node ID"), r"-?\d+", ""),
    (re.compile(r"Input Shapes"), r"(?:\[.*?|--)", ""),
    (re.compile(r"Source Location"), r".*", ""),
    (re.compile(r"Total [KMGTP]?FLOPs|[KMGTP]?FLOPS|Total [KMGTP]?FLOPS"), r"(?:-?[\d.]+|--|nan)", ""),
    (re.compile(r"Self \w+(?: total)? %|\w+ total %"), _PERCENT, ""),
    (re.compile(r"Self \w+ Mem|\w+ Mem"), _MEMORY, ""),
    (re.compile(r"\w+ time avg"), _TIME, ""),
    (re.compile(r"Self (?P<device>\w+)(?: total)?"), _TIME, "self_device"),
    (re.compile(r"\w+ total"), _TIME, "device_total"),
)
_TOTAL = re.compile(r"Self (?P<device>\w+) time total:\s*(?P<value>-?[\d.]+)\s?(?P<unit>ns|us|µs|μs|ms|s|min)\b")


@dataclass(frozen=True)
class Figure:
    """A time in µs as it was read, and half of its last digit."""

    us: float
    error_us: float


@dataclass(frozen=True)
class OperatorTable:
    """One table.

    Attributes:
        rows: columns of `SCHEMA` and ``kind`` (`rca.bench.kinds`); times in µs, each with half of its last digit; null where
            the table has no such figure.
        device: as its headers name it, ``CUDA`` also for ROCm; empty where there is no device time.
        self_cpu, self_device: the totals below the table, over rows that its limit cut away too; None where there are none.
        sorted_by: the time by which its rows fall, best guess first; empty where they do not.
        line: of the text, from 1, in which it begins.
        last_line: and in which it ends.
        problems: what could not be read of it.
    """

    rows: pl.DataFrame
    device: str
    self_cpu: Figure | None
    self_device: Figure | None
    sorted_by: str
    line: int
    last_line: int
    problems: tuple[str, ...]

    def total_us(self, ledger: str) -> Figure | None:
        """Return the total of ``device`` or ``cpu`` time."""
        return self.self_device if ledger == "device" else self.self_cpu


@dataclass(frozen=True)
class _Header:
    row: re.Pattern[str]
    columns: tuple[str, ...]
    device: str
    has_overload: bool


def plain(text: str) -> list[str]:
    """Return a text's lines without what colours them on a terminal."""
    return (_ANSI.sub("", text) if "\x1b" in text else text).splitlines()


def read_tables(lines: list[str]) -> list[OperatorTable]:
    """Return all operator tables of a text, in its order; see `plain` for the lines."""
    found = []
    at = 0
    while at < len(lines):
        begun = _header_at(lines, at)
        if begun is None:
            at += 1
            continue
        header, prefix, first = begun
        table = _table(lines, at, first, header, prefix)
        found.append(table)
        at = table.last_line
    return found


def _rule(line: str) -> re.Match[str] | None:
    """Match a line of dashes, as it stands above and below the headers and below the rows, after what a log puts first."""
    if "---" not in line or len(line) > _MOST_LINE:
        return None
    found = _RULE.match(line)
    return found if found and found["dashes"].count("-") >= min(_FEWEST_DASHES, len(line.strip())) else None


def _header_at(lines: list[str], at: int) -> tuple[_Header, str, int] | None:
    """Return the header that a rule at this line leads, what stands before each line, and the number of the first row."""
    rule = _rule(lines[at])
    if rule is None:
        return None
    prefix, after = rule["prefix"], at + 1
    while after < len(lines) and _is_rule(lines[after], prefix):
        after += 1
    pieces: list[str] = []
    while after < len(lines) and len(pieces) <= _MOST_PIECES:
        if _is_rule(lines[after], prefix):
            header = _header(pieces)
            while header and after < len(lines) and _is_rule(lines[after], prefix):
                after += 1
            return (header, prefix, after) if header else None
        pieces.append(_without(lines[after], prefix))
        after += 1
    return None


def _is_rule(line: str, prefix: str) -> bool:
    rest = _without(line, prefix).strip()
    return len(rest) >= 3 and not rest.strip("- ")


def _without(line: str, prefix: str) -> str:
    """Take off what a log puts before every line: the same as before the first rule, but for its digits."""
    if not prefix:
        return line
    before = line[: len(prefix)]
    return line[len(prefix) :] if re.sub(r"\d", "0", before) == re.sub(r"\d", "0", prefix) else line


def _header(pieces: list[str]) -> _Header | None:
    """Tell the columns; None where these are no headers of such a table."""
    for line in _joined(pieces):
        rest = line.strip()
        if not rest.startswith("Name") or not re.search(r"Self \w+", rest):
            continue
        columns, patterns, device, rest = [], [], "", rest[4:].lstrip()
        while rest:
            known = next(((c, p, n) for c, p, n in _CELLS if c.match(rest)), None)
            if known is None:
                break
            cell, pattern, column = known
            match = cell.match(rest)
            assert match  # noqa: S101  (it was chosen for that)
            if column == "self_device":
                device = match["device"]
            if pattern != "text":
                columns.append(column)
                patterns.append(f"({pattern})")
            rest = rest[match.end() :].lstrip()
        if not rest and "calls" in columns:
            row = re.compile(r"^\s*(\S.*?)\s+" + r"\s+".join(patterns) + r"\s*$", re.IGNORECASE)
            return _Header(row, tuple(columns), device if device != "None" else "", "Overload Name" in line)
    return None


def _joined(pieces: list[str]) -> Iterator[str]:
    """Put lines together that a narrow terminal broke: within a word, or at a space that is gone."""
    for glue in itertools.product(("", " "), repeat=len(pieces) - 1) if pieces else ():
        yield pieces[0] + "".join(g + piece for g, piece in zip(glue, pieces[1:], strict=True))


def _table(lines: list[str], at: int, first: int, header: _Header, prefix: str) -> OperatorTable:
    """Read the rows below a header, to the rule below them or to where the text ends or goes on with something else."""
    rows: list[dict[str, str | float | int | None]] = []
    waiting: list[str] = []
    unread, now, closed = 0, first, False
    while now < len(lines):
        line = _without(lines[now], prefix)
        if _is_rule(line, ""):
            closed = _header_at(lines, now) is None  # else it is the rule above the next table
            break
        if len(waiting) >= 4 * _MOST_PIECES or line.lstrip().startswith("```"):
            break
        if line.strip() and not _is_frame(line, header):
            row, used = _row(waiting, line, header)
            if row is None:
                waiting.append(line)
            else:
                unread += len(waiting) - used
                waiting = []
                rows.append(row)
        now += 1
    if not closed:
        now -= len(waiting)
    else:
        unread += len(waiting)
    while closed and now < len(lines) and _is_rule(_without(lines[now], prefix), ""):
        now += 1
    totals, now = _totals(lines, now)
    frame, odd = _checked(pl.DataFrame(rows, schema=SCHEMA))
    problems = _problems(at + 1, frame.height, closed, unread, odd)
    self_cpu = totals.pop("CPU", None)
    self_device = next(iter(totals.values()), None)
    return OperatorTable(
        rows=classified(frame, self_cpu.us if self_cpu else None, self_device.us if self_device else None),
        device=header.device,
        self_cpu=self_cpu,
        self_device=self_device,
        sorted_by=_sorted_by(frame),
        line=at + 1,
        last_line=max(now, first),
        problems=problems,
    )


def _problems(line: int, n: int, closed: bool, unread: int, odd: int) -> tuple[str, ...]:
    where = f"the operator table in line {line}"
    problems = []
    if not closed:
        problems.append(f"{where} is cut off after {n:,} rows: it has no line below it, and what followed is not known")
    if unread:
        problems.append(f"{where} has {unread:,} lines that are no rows; they were skipped")
    if odd:
        problems.append(f"{where} has {odd:,} figures that are negative or no numbers; they count as missing")
    return tuple(problems)


def _is_frame(line: str, header: _Header) -> bool:
    """Tell a line that only goes on with the stack of the row above."""
    return header.columns[-1] == "" and line.startswith(" " * 80) and "%" not in line


_SPACES = re.compile(r" {9,}")
_FEW_SPACES = " " * 8
"""A row is matched in time that grows with the square of its spaces."""


def _row(waiting: list[str], line: str, header: _Header) -> tuple[dict[str, str | float | int | None] | None, int]:
    """Read a row that ends in this line; also return how many of the waiting lines it took."""
    for used in range(min(len(waiting), _MOST_PIECES - 1) + 1):
        for whole in _joined([*waiting[len(waiting) - used :], line]):
            if len(whole) < _MOST_LINE and (match := header.row.match(_SPACES.sub(_FEW_SPACES, whole))):
                return _values(match, header), used
    return None, 0


def _values(match: re.Match[str], header: _Header) -> dict[str, str | float | int | None]:
    name, *cells = match.groups()
    if header.has_overload:
        name = re.split(r"\s{2,}", name)[0]
    row: dict[str, str | float | int | None] = {"name": name.strip()}
    for column, cell in zip(header.columns, cells, strict=True):
        if column == "calls":
            row[column] = int(cell.replace(",", "")) if cell != "--" and len(cell) < _MOST_DIGITS else None
        elif column:
            figure = _figure(cell)
            row[f"{column}_us"] = figure.us if figure else None
            row[f"{column}_error_us"] = figure.error_us if figure else None
    return row


def _figure(text: str) -> Figure | None:
    """Read a time with its unit; NaN for what is written as no number, None for ``--``."""
    match = re.fullmatch(r"(-?[\d.]+(?:[eE][+-]?\d+)?)\s?(\w+|µs|μs)", text)
    if match is None:
        return None if text == "--" else Figure(float("nan"), 0.0)
    number, unit = match[1], UNIT_US[match[2].lower()]
    try:
        value = float(number)
    except ValueError:
        return Figure(float("nan"), 0.0)
    decimals = len(number.partition(".")[2]) if "e" not in number.lower() else 3
    return Figure(value * unit, 0.5 * 10**-decimals * unit)


def _checked(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Take out figures that no time can be; also return how many."""
    odd = 0
    for time in TIMES:
        column = pl.col(f"{time}_us")
        bad = column.is_nan() | column.is_infinite() | (column < 0)
        odd += int(frame.select(bad.sum()).item() or 0)
        both = [f"{time}_us", f"{time}_error_us"]
        frame = frame.with_columns(pl.when(bad).then(None).otherwise(pl.col(name)).alias(name) for name in both)
    return frame, odd


_FALLS = 3
"""Rows that fall so often are sorted; ties and zeros are no order."""

_MOST_DIGITS = 19


def _sorted_by(frame: pl.DataFrame) -> str:
    """Return the time by which the rows fall: a row limit has then cut the smallest away."""
    for time in TIMES:
        values = frame[f"{time}_us"].drop_nulls()
        falls = values.is_sorted(descending=True) and values.filter(values > 0).n_unique() >= min(_FALLS, frame.height)
        if len(values) >= 2 and len(values) == frame.height and falls:
            return time
    return ""


def _totals(lines: list[str], now: int) -> tuple[dict[str, Figure], int]:
    """Read the totals below a table: by device, and the line after them."""
    totals: dict[str, Figure] = {}
    while now < len(lines) and (match := _TOTAL.search(lines[now])):
        figure = _figure(f"{match['value']}{match['unit']}")
        if figure and figure.us >= 0:
            totals[match["device"]] = figure
        now += 1
    return totals, now
