"""Tables that monitors print line by line: a header that starts with ``#`` and comes again and again, columns of words."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rca.capture.bytes_in import Chunks
from rca.capture.findings import Finding, Severity
from rca.errors import InputError

_CHUNK_BYTES = 1 << 20
_MAX_BYTES = 2 << 30


def read_content(path: Path) -> tuple[bytes, str | None]:
    """Return a file's content, decompressed as far as it can be, and what is wrong with it.

    Raises:
        InputError: it cannot be read, or is too long for a monitor's output.
    """
    parts, size = [], 0
    with Chunks(path, _CHUNK_BYTES) as chunks:
        for part in chunks:
            parts.append(part)
            size += len(part)
            if size > _MAX_BYTES:
                raise InputError(path, "is longer than 2 GiB, which no monitor prints")
    return b"".join(parts), chunks.damage


def read_lines(path: Path) -> tuple[pl.Series, tuple[Finding, ...]]:
    """Return the whole lines of a text. Such files grow while they are copied: an unfinished line is left out and said.

    Raises:
        InputError: see `read_content`.
    """
    content, damage = read_content(path)
    text = content.decode("utf-8", errors="replace").replace("\0", "")
    whole, _, rest = text.rpartition("\n")
    if not whole:
        whole, rest = rest, ""  # its only line
    findings = []
    if damage:
        findings.append(Finding("truncated", damage, Severity.DAMAGE))
    elif rest.strip():
        findings.append(Finding("truncated", "its last line is unfinished; left out", Severity.INFO))
    return pl.Series("line", whole.splitlines(), dtype=pl.String), tuple(findings)


def tables(lines: pl.Series, is_header: str) -> list[pl.DataFrame]:
    """Return one table of text columns per header seen: the lines below it, split at blanks; the last column takes the rest.

    ``is_header``: pattern of the header line that holds the names; other lines with ``#`` (units) are passed over.
    Columns that have one name are numbered.
    """
    frame = pl.DataFrame({"line": lines.str.strip_chars()}).filter(pl.col("line") != "")
    comment = pl.col("line").str.starts_with("#")
    header = pl.when(comment & pl.col("line").str.contains(is_header)).then("line").forward_fill()
    body = frame.with_columns(header=header).filter(~comment & pl.col("header").is_not_null())
    return [_split(part["line"], _names(part["header"][0])) for part in body.partition_by("header", maintain_order=True)]


def _names(header: str) -> list[str]:
    names: list[str] = []
    for word in header.lstrip("#").split():
        name = word.lower()
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _split(lines: pl.Series, names: list[str]) -> pl.DataFrame:
    """Split lines into the columns ``names``; those with fewer words are left out."""
    words = lines.str.replace_all(r"\s+", " ").str.splitn(" ", len(names)).struct.rename_fields(names).struct.unnest()
    return words.filter(pl.col(names[-1]).is_not_null())


def ticks(table: pl.DataFrame, key: list[str], period_s: float = 1.0) -> pl.Series:
    """Return times in s of a table without any: the n-th row of each ``key`` is of tick n."""
    return table.select((pl.cum_count(key[0]).over(key) - 1).cast(pl.Float64) * period_s).to_series().alias("time_s")


def header_in(head: bytes, pattern: str) -> bool:
    """Tell whether one of the first lines of a file fits ``pattern``."""
    start = head[:4096].decode("utf-8", errors="replace")
    return re.search(pattern, start, re.MULTILINE | re.IGNORECASE) is not None
