"""Files of benchmark grids, told apart by their content: CSV, JSON lines, parquet, markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from rca.errors import InputError
from rca.sweep.cells import missing, to_cells
from rca.sweep.model import Sweep
from rca.sweep.raw import Raw, listed

TRIALS_FILE = "trials.jsonl"
ENVIRONMENT_FILE = "environment.json"
_REMEDY = "expected a CSV, JSON lines, parquet or markdown table of benchmark results"
_PARQUET = b"PAR1"
_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")
_LARGE = 1 << 20
_MAX_BYTES = 2 << 30


def read(path: Path) -> Sweep:
    """Read a grid; trials of one cell become its mean and standard deviation.

    Args:
        path: a file, or a folder that `rca sweep run` wrote.

    Raises:
        InputError: it cannot be used; `TooLittleDataError` where it holds no cell.
    """
    file, environment = path, {}
    try:
        if path.is_dir():
            file = path / TRIALS_FILE
            if not file.is_file():
                raise InputError(path, f"is a folder without a {TRIALS_FILE}", "give a file, or what `rca sweep run` wrote")
            environment = _environment(path / ENVIRONMENT_FILE)
        if file.stat().st_size > _MAX_BYTES:
            raise InputError(path, "is larger than 2 GiB", "that is no table of benchmark results")
        content = file.read_bytes()
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror or error}") from None
    raw = _table(file, content)
    cells, warnings = to_cells(file, raw)
    return Sweep(str(path), cells, (*raw.warnings, *warnings), environment)


def _environment(path: Path) -> dict[str, str]:
    """Return how the trials were measured; nothing where that was not recorded."""
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}
    return {name: str(value) for name, value in facts.items() if value is not None}


def _table(path: Path, content: bytes) -> Raw:
    if not content.strip():
        raise InputError(path, "is empty", _REMEDY)
    if content.startswith(_PARQUET):
        return _parquet(path, content)
    text, warnings = _text(path, content)
    if text.lstrip()[:1] in "{[":
        found = _json(path, text)
    else:
        tables = _markdown(text) if "|" in text else []
        found = _primary(path, tables) if tables else _separated(path, text)
    return replace(found, warnings=(*warnings, *found.warnings))


def _text(path: Path, content: bytes) -> tuple[str, list[str]]:
    """Decode: UTF-8, UTF-16 with its mark, else Latin-1, which is said."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16"), []
        except UnicodeDecodeError:
            raise InputError(path, "is UTF-16 that cannot be decoded", _REMEDY) from None
    if b"\0" in content:
        raise InputError(path, "is not text", _REMEDY)
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if error.end == len(content):  # a file that was cut within a character
            return content[: error.start].decode("utf-8-sig"), []
        return content.decode("latin-1"), ["the file is not UTF-8; it was read as Latin-1, so names may look odd"]


def _parquet(path: Path, content: bytes) -> Raw:
    if not content.endswith(_PARQUET):
        raise InputError(path, "is a parquet file that is cut off", "copy it again")
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError, pl.exceptions.PanicException) as error:
        raise InputError(path, f"is a parquet file that cannot be read: {str(error).splitlines()[0][:120]}") from None
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
    frame = frame.drop(nested).with_columns(pl.all().cast(pl.String, strict=False))
    return Raw(frame, range(1, frame.height + 1), "row")


def _json(path: Path, text: str) -> Raw:
    """Read one object per line, or one array of objects."""
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows, numbers, bad = [], [], []
    try:
        for row in msgspec.json.decode(text, type=list[dict[str, Any]]):
            rows.append(row)
            numbers.append(len(rows))
        return Raw(_strings(rows), numbers, "item")
    except msgspec.DecodeError:
        pass
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in lines:
        try:
            rows.append(decoder.decode(line))
            numbers.append(number)
        except msgspec.DecodeError:
            bad.append(number)
    if not rows:
        raise InputError(path, "is JSON, but neither one object per line nor an array of objects", _REMEDY)
    warnings = []
    if bad and bad[-1] == lines[-1][0]:
        warnings.append(f"line {bad.pop()}, the last one, is cut off; skipped")
    if bad:
        warnings.append(f"{listed('line', bad)}: no JSON object; skipped")
    return Raw(_strings(rows), numbers, "line", tuple(warnings))


def _strings(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame({name: [_string(row.get(name)) for row in rows] for name in names}, schema_overrides={})


def _string(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, (bool, int, float)) else msgspec.json.encode(value).decode()


def _separated(path: Path, text: str) -> Raw:
    """Read a CSV file; commas, semicolons, tabs or pipes separate, whichever its first line has most of."""
    stripped = text.lstrip("\r\n ")
    header = stripped.partition("\n")[0]
    separator = max(",;\t|", key=header.count)
    if separator not in header:
        raise InputError(path, "holds no table", _REMEDY)
    skipped = text[: len(text) - len(stripped)].count("\n")
    if separator == ";":  # where a comma is the decimal point
        stripped = _DECIMAL_COMMA.sub(".", stripped)
    if (plain := _plain(stripped, separator)) is not None:
        return Raw(plain, range(skipped + 2, skipped + 2 + plain.height), "line")
    reader = csv.reader(io.StringIO(stripped, newline=""), delimiter=separator)
    try:
        headers = next(reader)
        lines = [(row, reader.line_num + skipped) for row in reader if row]
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num + skipped}: {error}", _REMEDY) from None
    return _rectangular(headers, lines)


_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d+(?:[;\r\n]|$))")


def _plain(text: str, separator: str) -> pl.DataFrame | None:
    """Return a large table by the quick way, None where something in it wants a closer look: quotes, gaps, odd rows."""
    if len(text) < _LARGE or '"' in text:
        return None
    try:
        frame = pl.read_csv(text.encode(), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    headers = text.partition("\n")[0].rstrip("\r").split(separator) if frame.height else []
    return frame if frame.columns == headers and not frame[:, -1].has_nulls() else None


def _rectangular(headers: list[str], lines: list[tuple[list[str], int]]) -> Raw:
    """Return the rows that have as many fields as the header, and say which have not."""
    width = len(headers)
    odd = [number for row, number in lines if len(row) != width]
    if odd:
        lines = [line for line in lines if len(line[0]) == width]
    warnings = (f"{listed('line', odd)}: not {width} fields as the header has; skipped",) if odd else ()
    return Raw(_columns(headers, [row for row, _ in lines]), [number for _, number in lines], "line", warnings)


@dataclass(frozen=True)
class _Table:
    heading: str
    headers: list[str]
    lines: list[tuple[list[str], int]]


def _markdown(text: str) -> list[_Table]:
    """Return the tables of a markdown document, each with the heading that it stands below."""
    tables: list[_Table] = []
    heading, inside = "", False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if "|" not in line:
            heading, inside = (line.lstrip("# ").strip() if line.startswith("#") else heading), False
        elif inside:
            tables[-1].lines.append((_fields(line), number))
        elif number > 1 and _RULE.fullmatch(line.strip()) and "|" in lines[number - 2]:
            tables.append(_Table(heading, _fields(lines[number - 2]), []))
            inside = True
    return tables


def _fields(line: str) -> list[str]:
    """Split a row at pipes that are not escaped, and take the markup of its fields away."""
    inner = re.sub(r"(?<!\\)\|$", "", line.strip().removeprefix("|"))
    fields = (field.strip().replace("\u200b", "") for field in re.split(r"(?<!\\)\|", inner))
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", field.strip("`*")) for field in fields]


def _primary(path: Path, tables: list[_Table]) -> Raw:
    """Return the first table that has all needed columns; say which where there are others."""
    usable = next((table for table in tables if not missing(table.headers)), None)
    if usable is None:
        closest = min(tables, key=lambda table: len(missing(table.headers)))
        raise InputError(
            path,
            f"none of its {len(tables)} table(s) has all columns of a benchmark; the closest lacks "
            f"{', '.join(missing(closest.headers))}",
            f"it has {', '.join(filter(None, closest.headers))}"[:300],
        )
    found = _rectangular(usable.headers, usable.lines)
    if len(tables) == 1:
        return found
    place = f'below the heading "{usable.heading}"' if usable.heading else "the first that has all columns"
    note = f"of {len(tables)} tables in the file the one {place} was read; the others were not"
    return replace(found, warnings=(note, *found.warnings))


def _columns(headers: list[str], rows: list[list[str]]) -> pl.DataFrame:
    """Return strings; a column whose name has been there already is numbered, so that it is not taken for the first."""
    seen: dict[str, int] = {}
    columns: dict[str, Sequence[str]] = {}
    for header, values in zip(headers, zip(*rows, strict=True) if rows else [()] * len(headers), strict=True):
        seen[header] = seen.get(header, 0) + 1
        name = header if seen[header] == 1 else f"{header} #{seen[header]}"
        columns[name] = values
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
