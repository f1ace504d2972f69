"""Readers of AMD's recorders: odd databases, and damage of any kind."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import amd_builder as made
import polars as pl
import pytest
from test_amd import FORMATS, counts, of, read_folder

from rca.capture.readers import rocpd, rocprof_json
from rca.capture.source import Source
from rca.errors import InputError


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


# --- databases


def test_rpd_monitor_becomes_samples(tmp_path: Path) -> None:
    """A clock of 2100 MHz that lasted 25 ms is sampled at 0, 10 and 20 ms; one that lasted 5 ms, or has no end, once."""
    made.rpd(tmp_path)
    counters = read_folder(tmp_path).counters.with_columns(pl.col("ts_ns") - made.BOOT_NS)
    rows = counters.select("metric", "device", "ts_ns", "value", "unit").rows()
    assert sorted(rows) == [
        ("gpu_power", "GPU 1", 0, 750.5, "W"),
        ("gpu_sm_frequency", "GPU 0", 0, 2100.0, "MHz"),
        ("gpu_sm_frequency", "GPU 0", 10_000_000, 2100.0, "MHz"),
        ("gpu_sm_frequency", "GPU 0", 20_000_000, 2100.0, "MHz"),
        ("gpu_sm_frequency", "GPU 1", 0, 132.0, "MHz"),
    ]


def test_rpd_monitor_that_lasts_for_ever_is_bounded(tmp_path: Path) -> None:
    made.rpd(tmp_path)
    change(tmp_path / "trace.rpd", "UPDATE rocpd_monitor SET start = 1, end = 9000000000000000000")
    counters = read_folder(tmp_path).counters
    assert 1_900_000 < counters.height <= 2_000_003


def test_rpd_without_monitor_keeps_gpu_ids(tmp_path: Path) -> None:
    made.rpd(tmp_path)
    change(tmp_path / "trace.rpd", "DROP TABLE rocpd_monitor")
    assert set(read_folder(tmp_path).events["device"]) == {"GPU 1", "GPU 2", "Host"}


def test_rpd_work_without_calls(tmp_path: Path) -> None:
    made.rpd(tmp_path)
    change(tmp_path / "trace.rpd", "DELETE FROM rocpd_api_ops")
    reading = read_folder(tmp_path)
    kernels = of(reading, "kernel", -1)
    assert (kernels.height, set(kernels["correlation"])) == (30, {None})


def test_rpd_barriers_are_no_kernels(tmp_path: Path) -> None:
    made.rpd(tmp_path)
    change(
        tmp_path / "trace.rpd",
        "INSERT INTO rocpd_string VALUES (1, 'Barrier'), (2, 'FillBuffer'), (3, '')",
        "UPDATE rocpd_op SET opType_id = 1, description_id = 3 WHERE id = 2",
        "UPDATE rocpd_op SET opType_id = 2, description_id = 3 WHERE id = 3",
    )
    events = read_folder(tmp_path).events
    assert counts(events) == {"kernel": 28, "memcpy": 20, "runtime": 60, "annotation": 10, "other": 1, "memset": 1}
    assert events.filter(pl.col("kind") == "memset")["name"].to_list() == ["Memset (Device)"]


def test_views_are_not_run(tmp_path: Path) -> None:
    """A view that never ends, under the name of a table that is read."""
    made.rpd(tmp_path)
    endless = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, 'x' AS string FROM n"
    change(tmp_path / "trace.rpd", "DROP TABLE rocpd_string", f"CREATE VIEW rocpd_string AS {endless}")
    reading = read_folder(tmp_path)
    assert counts(reading.events) == {}
    assert {finding.code for finding in reading.findings} == {"bad_values"}


def test_rocpd_of_a_process_whose_tables_are_missing(tmp_path: Path) -> None:
    made.rocpd(tmp_path)
    path = tmp_path / "out_results.db"
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%bb8b'")]
    change(path, *(f"DROP TABLE {name}" for name in names if "kernel_dispatch" in name or "event" in name))
    assert counts(read_folder(tmp_path).events) == {"kernel": 15, "memcpy": 20, "runtime": 30, "annotation": 5, "other": 35}


def test_many_rocpd_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.rocpd(tmp_path)
    monkeypatch.setattr(rocpd, "_MAX_PARTS", 1)
    with pytest.raises(InputError, match="tables of 2 processes"):
        read_folder(tmp_path)


def test_default_texts_cannot_fill_the_memory(tmp_path: Path) -> None:
    """A text of 60 kB that no row holds, and that each of 60 rows has."""
    made.rocpd(tmp_path)
    path = tmp_path / "out_results.db"
    with closing(sqlite3.connect(path)) as database:
        (table, _) = (n for (n,) in database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'rocpd_event%'"))
    change(
        path,
        f"ALTER TABLE {table} DROP COLUMN extdata",
        f"ALTER TABLE {table} ADD COLUMN extdata TEXT DEFAULT '{'x' * 60_000}'",
    )
    with pytest.raises(InputError, match="more text than the file has room for"):
        read_folder(tmp_path)


# --- damage of any kind


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_never_crash(name: str, tmp_path: Path) -> None:
    """Flipped, overwritten, cut out or doubled bytes: `InputError`, or a reading that can be concatenated."""
    rng = random.Random(5)
    reader, build = FORMATS[name]
    build(tmp_path)
    originals = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outcomes = set()
    for _ in range(60):
        path = rng.choice(sorted(originals))
        path.write_bytes(mutated(originals[path], rng))
        try:
            reading = reader.read(Source(tuple(sorted(originals))))
            outcomes.add("partial" if reading.findings else "read")
            assert (reading.events["dur_ns"] >= 0).all()
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
        path.write_bytes(originals[path])
    assert len(outcomes) > 1


def mutated(content: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(content)), rng.choice([1, 4, 50, 2000])
    kind = rng.randrange(4)
    if kind == 0:
        return content[:at] + rng.randbytes(length) + content[at + length :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + content[at + length :]
    return content[:at] + content[at : at + length] * 3 + content[at + length :]


ODD = ("NULL", "-1", "0", "9223372036854775807", "-9223372036854775808", "1.5", "'text'", "''", "x'fffe'", "4294967296")


@pytest.mark.parametrize("name", ["rocpd-3", "rocpd-4", "rpd-2", "rpd-3"])
def test_odd_values_in_databases(name: str, tmp_path: Path) -> None:
    """Every column of every table in turn holds one odd value in all or in some rows."""
    rng = random.Random(11)
    reader, build = FORMATS[name]
    build(tmp_path)
    (path,) = tmp_path.iterdir()
    original = path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        listed = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = [name for (name,) in listed if not name.endswith("bb8b")]  # rocpd: one of the two processes
        infos = [(table, info) for table in tables for info in database.execute(f'PRAGMA table_info("{table}")')]
        columns = [(table, column) for table, (_, column, *_, primary) in infos if not primary]
    for table, column in columns:
        change(path, f'UPDATE OR IGNORE "{table}" SET "{column}" = {rng.choice(ODD)} WHERE rowid % {rng.choice([1, 3])} = 0')
        reading = reader.read(Source((path,)))
        assert (reading.events["dur_ns"] >= 0).all()
        path.write_bytes(original)


def test_odd_values_in_json(tmp_path: Path) -> None:
    """Each leaf in turn is something else: refused, or read with a finding about it."""
    rng = random.Random(12)
    path = tmp_path / "r.json"
    outcomes = set()
    for _ in range(150):
        document = made.json_document()
        node: Any = document["rocprofiler-sdk-tool"][0]
        while True:
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.05:
                break
            node = node[key]
        node[key] = rng.choice([None, -1, 2**64, "text", [], {}, 1.5, True])
        path.write_text(json.dumps(document))
        try:
            rocprof_json.read(Source((path,)))
            outcomes.add("read")
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
