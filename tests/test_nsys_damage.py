"""Damaged and crafted Nsight Systems exports: an `InputError` or a partial reading with a finding, nothing else."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from nsys_builder import codes, global_id, kinds, read_folder, read_sqlite, rows, tables, write_folder, write_sqlite

from rca.errors import InputError


def test_text_after_many_rows_without(tmp_path: Path) -> None:
    """A column's type must not be settled by its first 65,536 rows."""
    made = tables(2024)
    template = made["NVTX_EVENTS"][2]
    made["NVTX_EVENTS"] = [template] * 70_000 + made["NVTX_EVENTS"]
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    names = Counter(name for (name,) in rows(reading, "annotation", "name"))
    assert (names["step"], names["decode_1"]) == (70_001, 1)


def test_values_of_wrong_types(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path / "a.sqlite", tables(2024))
    with contextlib.closing(sqlite3.connect(path)) as database:
        kernel = "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL (start, end, deviceId, streamId, globalPid, demangledName) VALUES "
        database.execute(f"{kernel} ('soon', 5, 0, 7, {global_id(100)}, 1)")
        database.execute(f"{kernel} (100, 50, 0, 7, {global_id(100)}, 1)")
        database.execute(f"{kernel} (x'00ff', NULL, 0, 7, {global_id(100)}, 99)")
        database.execute(f"{kernel} ({2**62}, {2**62 + 1}, 0, 7, NULL, NULL)")
        database.execute(f"{kernel} (10, 20, 1.5, NULL, NULL, NULL)")
        database.execute("UPDATE StringIds SET value = CAST(x'ff41' AS TEXT) WHERE id = 1")
        database.commit()
    reading = read_sqlite(path)
    texts = " | ".join(finding.text for finding in reading.findings)
    assert "3 values that are no whole numbers" in texts
    assert "3 rows with missing or impossible times" in texts
    assert "1 rows that end before they start" in texts
    assert "not UTF-8" in texts
    kernels = rows(reading, "kernel", "name", "device", "dur_ns", "pid")
    assert kernels[0] == ("\ufffdA", "GPU 0", 1_000, 100)
    assert kernels[2:] == [("\ufffdA", "GPU 0", 0, 100), ("(no name)", "GPU ?", 10, -1)]


def test_kernel_without_full_name_has_its_short_one(tmp_path: Path) -> None:
    made = tables(2024)
    made["CUPTI_ACTIVITY_KIND_KERNEL"][0]["demangledName"] = None
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert [name for (name,) in rows(reading, "kernel", "name")] == ["gemm", "void gemm<float>(float*)"]


_ENDLESS = """CREATE VIEW NVTX_EVENTS AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
    SELECT x AS start, x AS end, 59 AS eventType FROM n"""


def with_endless_view(path: Path) -> sqlite3.Connection:
    made = tables(2024)
    del made["NVTX_EVENTS"], made["OSRT_API"]
    database = sqlite3.connect(write_sqlite(path, made))
    database.execute(_ENDLESS)
    return database


def test_views_and_computed_columns_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with contextlib.closing(with_endless_view(path)) as database:
        database.execute("CREATE TABLE OSRT_API (start INTEGER, end INTEGER AS (start + 5))")
        database.execute("INSERT INTO OSRT_API (start) VALUES (1)")
        database.commit()
    reading = read_sqlite(path)
    assert not {"annotation", "io", "other"} & set(kinds(reading))
    assert len(rows(reading, "kernel", "name")) == 2
    assert codes(reading).count("skipped") == 1


def test_view_that_the_catalogue_calls_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with contextlib.closing(with_endless_view(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET type = 'table', rootpage = 2 WHERE name = 'NVTX_EVENTS'")
        database.commit()
    with pytest.raises(InputError, match="malformed database schema"):
        read_sqlite(path)


def test_pages_that_refer_to_each_other_end(tmp_path: Path) -> None:
    """An inner page all of whose children are one leaf, on three levels: 10**7 rows in a file of 40 kB."""
    made = tables(2024)
    made["NVTX_EVENTS"] = [made["NVTX_EVENTS"][1]] * 4_000
    path = write_sqlite(tmp_path / "a.sqlite", made)
    with contextlib.closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'NVTX_EVENTS'").fetchone()
        page_bytes = database.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    page = bytes(content[(root - 1) * page_bytes : root * page_bytes])
    assert page[0] == 5  # an inner page
    cells = struct.unpack_from(">H", page, 3)[0]
    pages = len(content) // page_bytes
    leaf = struct.unpack_from(">I", page, struct.unpack_from(">H", page, 12)[0])[0]
    for _ in range(2):  # new levels: copies of the root that refer to one page
        level = bytearray(page)
        for cell in range(cells):
            struct.pack_into(">I", level, struct.unpack_from(">H", level, 12 + 2 * cell)[0], leaf)
        struct.pack_into(">I", level, 8, leaf)
        content += level
        pages += 1
        leaf = pages
    struct.pack_into(">I", content, 28, pages)
    for cell in range(cells):
        at = (root - 1) * page_bytes
        struct.pack_into(">I", content, at + struct.unpack_from(">H", content, at + 12 + 2 * cell)[0], leaf)
    path.write_bytes(content)
    with pytest.raises(InputError, match="room for|damaged"):
        read_sqlite(path)


def test_absurd_text_is_bounded(tmp_path: Path) -> None:
    made = tables(2024)
    made["NVTX_EVENTS"][1]["text"] = "x" * 1_000_000
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert rows(reading, "annotation", "name")[0] == ("(text of 1000000 bytes)",)


def test_damaged_databases_never_raise_anything_else(tmp_path: Path) -> None:
    content = write_sqlite(tmp_path / "a.sqlite", tables(2026)).read_bytes()
    rng = np.random.default_rng(7)
    path = tmp_path / "b.sqlite"
    outcomes = Counter()
    for _ in range(150):
        mutated = bytearray(content)
        for _ in range(int(rng.integers(1, 40))):
            mutated[int(rng.integers(16, len(mutated)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            del mutated[int(rng.integers(100, len(mutated))) :]
        path.write_bytes(mutated)
        try:
            reading = read_sqlite(path)
            outcomes["read"] += 1
            assert not (reading.events["dur_ns"] < 0).any()
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["read"] > 10
    assert outcomes["refused"] > 10


def test_damaged_folders_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    outcomes = Counter()
    for suffix in (".parquet", ".arrow"):
        folder = write_folder(tmp_path / suffix[1:], tables(2026), suffix)
        path = folder / f"CUPTI_ACTIVITY_KIND_KERNEL{suffix}"
        content = path.read_bytes()
        for number in range(40):
            mutated = bytearray(content)
            for _ in range(3):
                mutated[int(rng.integers(4, len(mutated)))] = int(rng.integers(256))
            path.write_bytes(mutated if number % 2 and suffix == ".parquet" else content[: int(rng.integers(len(content)))])
            try:
                read_folder(folder)
                outcomes["read"] += 1
            except InputError as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
    assert outcomes["refused"] > 10


def test_folder_with_too_many_rows_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", tables(2024))
    count = 3_000_000
    pl.select(start=pl.repeat(1, count), end=pl.repeat(2, count)).write_parquet(folder / "OSRT_API.parquet")
    with pytest.raises(InputError, match="more than a file of its size"):
        read_folder(folder)
