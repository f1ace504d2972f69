"""Readers of Nsight Systems exports. Numbers of the real files were counted with the sqlite3 shell and with polars alone."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import nsys_builder
import polars as pl
import pytest
from nsys_builder import (
    EPOCH_NS,
    SECRET,
    codes,
    kinds,
    probe,
    read_folder,
    read_sqlite,
    rows,
    tables,
    write_folder,
    write_sqlite,
)

from rca.capture.model import Clock
from rca.capture.readers import nsys_folder, nsys_sqlite
from rca.capture.tables import COUNTERS, EVENTS, empty


@pytest.mark.parametrize("generation", [2022, 2024, 2026])
def test_generations(tmp_path: Path, generation: int) -> None:
    path = write_sqlite(tmp_path / "a.sqlite", tables(generation))
    assert nsys_sqlite.matches(probe(path))
    reading = read_sqlite(path)
    assert reading.events.schema == empty(EVENTS).schema
    assert reading.clock is Clock.UNIX
    at = EPOCH_NS
    second_gpu = "GPU 5" if generation == 2026 else "GPU 1"
    graph = [(at + 9_700, 200, "CUDA graph 4", 100, "GPU 0", 7, 9)] if generation == 2026 else []
    assert rows(reading, "kernel", "start_ns", "dur_ns", "name", "pid", "device", "stream", "correlation") == [
        (at + 2_000, 1_000, "void gemm<float>(float*)", 100, "GPU 0", 7, 1),
        (at + 2_500, 400, "void gemm<float>(float*)", 200, second_gpu, 7, 1),
        *graph,
    ]
    assert rows(reading, "memcpy", "name", "bytes", "dur_ns") == [
        ("Memcpy HtoD (Pinned -> Device)", 4096, 200),
        ("Memcpy PtoP (Device -> Device)", 64, 100),
    ]
    assert rows(reading, "memset", "name", "bytes") == [("Memset (Device)", 128)]
    assert rows(reading, "runtime", "name", "pid", "tid", "correlation") == [
        ("cudaLaunchKernel", 100, 101, 1),
        ("cudaMemcpyAsync", 100, 101, 2),
        ("cudaDeviceSynchronize", 100, 101, 5),
    ]
    assert rows(reading, "driver", "name", "pid", "tid") == [("cuLaunchKernelEx", 200, 201)]
    # syncType says "event"; the call that it belongs to knows better, and has a thread
    assert rows(reading, "sync", "name", "pid", "tid", "stream") == [("Context Sync", 100, 101, None)]
    assert rows(reading, "annotation", "name", "pid", "start_ns", "dur_ns") == [
        ("decode_1", 100, at + 500, 7_500),
        ("step", 100, at + 600, 6_900),
        ("NCCL:ncclAllReduce", 200, at + 700, 200),
        ("open", 100, at + 7_600, (9_900 if generation == 2026 else 9_600) - 7_600),
    ]
    assert rows(reading, "op", "name", "dur_ns") == [("aten::mul", 50)]
    assert rows(reading, "io", "name", "dur_ns") == [("read", 400)]
    assert rows(reading, "other", "name", "dur_ns") == [("poll", 100)]
    assert rows(reading, "oncpu", "name", "tid", "start_ns", "dur_ns") == [
        ("oncpu", 101, at + 100, 300),
        ("oncpu", 102, at + 150, 750),
    ]
    overhead = [("TLS allocation", 30)] + ([("Command Buffer Full", 10)] if generation == 2026 else [])
    assert rows(reading, "overhead", "name", "dur_ns") == overhead
    assert reading.meta["schema_version"] == {2022: "3.0.0", 2024: "3.13.2", 2026: "3.25.0"}[generation]
    assert reading.meta["gpu_names"] == ["NVIDIA H100"]
    assert ("graph_level" in codes(reading)) == (generation == 2026)
    assert codes(reading).count("tool_message") == (generation >= 2024)
    assert codes(reading).count("lost_events") == (generation >= 2024)


def test_no_environment_in_what_is_read(tmp_path: Path) -> None:
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", tables(2026)))
    assert reading.meta["cuda_graph_trace"] == "graph"
    assert SECRET not in json.dumps(reading.meta) + str(reading.findings) + str(reading.events["name"].to_list())


def test_counters(tmp_path: Path) -> None:
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", tables(2026)))
    assert reading.counters.schema == empty(COUNTERS).schema
    assert reading.counters.select("ts_ns", "metric", "device", "value", "unit").rows() == [
        (EPOCH_NS + 10, "gpu_sm_frequency", "GPU 3", 1410.0, "MHz"),  # written in Hz
        (EPOCH_NS + 10, "gpu_sm_util", "GPU 3", 63.0, "%"),
        (EPOCH_NS + 10, "gpu_pcie_tx_throughput", "GPU 3", 7.0, "%"),
        (EPOCH_NS + 1000, "net_tx_rate", "Host", 3000.0, "bytes/s"),
        (EPOCH_NS + 1000, "net_ipoib_bytes_sent", "Host", 4000.0, "bytes/s"),
    ]
    assert any("3 samples" in finding.text for finding in reading.findings)  # time < 0, value < 0, no such metric


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("generation", [2022, 2026])
def test_folder_equals_sqlite(tmp_path: Path, generation: int, suffix: str) -> None:
    made = tables(generation)
    folder = write_folder(tmp_path / "export", made, suffix)
    assert all(nsys_folder.matches(probe(file)) for file in folder.iterdir())
    assert len({nsys_folder.group(file) for file in folder.iterdir()}) == 1
    reading, other = read_folder(folder), read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert reading.events.equals(other.events)
    assert reading.counters.equals(other.counters)
    assert (reading.meta, reading.findings, reading.clock) == (other.meta, other.findings, other.clock)


def test_folder_leaves_other_parquet_alone(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "NVTX_EVENTS2.parquet")
    assert not nsys_folder.matches(probe(tmp_path / "NVTX_EVENTS2.parquet"))
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "NVTX_EVENTS.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "counters.parquet")
    assert nsys_folder.matches(probe(tmp_path / "NVTX_EVENTS.parquet"))
    assert not nsys_folder.matches(probe(tmp_path / "counters.parquet"))


def test_other_databases_are_not_claimed(tmp_path: Path) -> None:
    rocpd = write_sqlite(tmp_path / "a.db", {"rocpd_string": [{"id": 1}], "rocpd_kernel_dispatch": [{"id": 1}]})
    own_strings = write_sqlite(tmp_path / "b.db", {"StringIds": [{"id": 1}]})
    assert not nsys_sqlite.matches(probe(rocpd))
    assert not nsys_sqlite.matches(probe(own_strings))


def settings(made: nsys_builder.Tables, **values: str) -> nsys_builder.Tables:
    made["META_DATA_EXPORT"] += [{"name": name, "value": value} for name, value in values.items()]
    return made


def test_normalised_export_is_not_shifted_twice(tmp_path: Path) -> None:
    made = settings(tables(2024), EXPORT_PARAM_TIME_NORMALIZE="true")
    for table, lines in made.items():
        for row in lines if not table.startswith("TARGET") else []:
            row |= {key: row[key] + EPOCH_NS for key in ("start", "end") if row.get(key) is not None}
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert reading.clock is Clock.UNIX
    assert rows(reading, "kernel", "start_ns")[0] == (EPOCH_NS + 2_000,)
    assert "time_filtered" in codes(reading)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPORT_PARAM_TIME_SHIFT", "-500"),
        ("EXPORT_CONFIG_TIME_SHIFT", "7"),
        ("EXPORT_PARAM_TIMES_TO_EXPORT", "1s/2s"),
        ("EXPORT_PARAM_TABLES_TO_EXPORT", "NVTX"),
    ],
)
def test_part_of_a_recording_is_said(tmp_path: Path, name: str, value: str) -> None:
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", settings(tables(2024), **{name: value})))
    assert codes(reading).count("time_filtered") == 1
    assert codes(read_sqlite(write_sqlite(tmp_path / "b.sqlite", tables(2024)))).count("time_filtered") == 0


def test_without_session_start_times_are_its_own(tmp_path: Path) -> None:
    made = tables(2024)
    del made["TARGET_INFO_SESSION_START_TIME"]
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert reading.clock is Clock.OWN
    assert rows(reading, "kernel", "start_ns")[0] == (2_000,)


# Counted with the sqlite3 shell: SELECT count(*) FROM <table>; for ops and annotations SELECT count(*) FROM NVTX_EVENTS
# WHERE eventType = 59 AND text [NOT] LIKE '%op_id = %'; OSRT by nestingLevel = 0 and name.
REAL = {
    "h100_2gpu_1s": {
        "kernel": 3442,
        "memcpy": 904,
        "memset": 22,
        "runtime": 5796,
        "sync": 244,
        "overhead": 198,
        "nvtx": 16782,
    },
    "mfu_2gpu_after": {
        "kernel": 3587,
        "memcpy": 904,
        "memset": 242,
        "runtime": 5722,
        "driver": 960,
        "sync": 334,
        "overhead": 6,
        "nvtx": 17113,
    },
    "mfu_2gpu_before": {
        "kernel": 4010,
        "memcpy": 1020,
        "memset": 269,
        "runtime": 6392,
        "driver": 1074,
        "sync": 366,
        "overhead": 6,
        "nvtx": 19118,
    },
    "perlmutter-cloverleaf-cuda": {
        "kernel": 1312,
        "memcpy": 279,
        "runtime": 3047,
        "driver": 1,
        "sync": 1312,
        "overhead": 47,
        "oncpu": 627,
        "io": 205,
        "other": 1623,
    },
}


# sqlite3: SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k WHERE NOT EXISTS (SELECT 1 FROM CUPTI_ACTIVITY_KIND_RUNTIME r
# WHERE r.globalTid >> 24 = k.globalPid >> 24 AND r.correlationId = k.correlationId)
LAUNCHED_BEFORE = {"h100_2gpu_1s": 1810, "mfu_2gpu_after": 10, "mfu_2gpu_before": 24, "perlmutter-cloverleaf-cuda": 0}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data: Path, name: str) -> None:
    path = shared_data / "traces/nsys" / f"{name}.sqlite"
    reading = read_sqlite(path)
    counted = kinds(reading)
    if nvtx := counted.pop("annotation", 0) + counted.pop("op", 0):
        counted["nvtx"] = nvtx
    assert counted == REAL[name]
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        query = """SELECT count(*), min(start), sum(end - start), count(DISTINCT globalPid), (SELECT utcEpochNs FROM
            TARGET_INFO_SESSION_START_TIME) FROM CUPTI_ACTIVITY_KIND_KERNEL"""
        count, first, total, processes, epoch = database.execute(query).fetchone()
    work = reading.events.filter(pl.col("kind") == "kernel")
    assert (work.height, work["start_ns"].min(), work["dur_ns"].sum()) == (count, epoch + first, total)
    assert work["pid"].n_unique() == processes
    calls = reading.events.filter(pl.col("kind").is_in(["runtime", "driver"]))
    assert work.join(calls, on=["pid", "correlation"], how="anti").height == LAUNCHED_BEFORE[name]
    assert reading.events["name"].null_count() == 0


def test_real_warnings(shared_data: Path) -> None:
    reading = read_sqlite(shared_data / "traces/nsys/perlmutter-cloverleaf-cuda.sqlite")
    # sqlite3: SELECT count(DISTINCT text) FROM DIAGNOSTIC_EVENT WHERE severity IN (2, 3) is 4
    assert codes(reading) == ["tool_message"] * 4
    assert [gpu["index"] for gpu in reading.meta["gpus"]] == [0, 1, 2, 3]


def test_each_process_counts_its_gpus_itself(tmp_path: Path) -> None:
    made = tables(2026)
    made["TARGET_INFO_CUDA_DEVICE"] = [{"gpuId": 4, "cudaId": 0, "pid": 100}, {"gpuId": 5, "cudaId": 0, "pid": 200}]
    made["CUPTI_ACTIVITY_KIND_KERNEL"] = [row | {"deviceId": 0} for row in made["CUPTI_ACTIVITY_KIND_KERNEL"]]
    del made["CUPTI_ACTIVITY_KIND_GRAPH_TRACE"]
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    assert rows(reading, "kernel", "pid", "device") == [(100, "GPU 4"), (200, "GPU 5")]


def test_scheduling_in_without_out_is_no_slice(tmp_path: Path) -> None:
    made = tables(2022)
    moments = [
        (101, 10, 1),
        (101, 20, 1),
        (101, 30, 0),
        (101, 40, 1),
        (102, 45, 0),
        (102, 50, 1),
        (102, 60, 0),
        (102, 70, 0),
    ]
    made["SCHED_EVENTS"] = [
        {"start": start, "cpu": 0, "isSchedIn": is_in, "globalTid": nsys_builder.global_id(100, tid)}
        for tid, start, is_in in moments
    ]
    reading = read_sqlite(write_sqlite(tmp_path / "a.sqlite", made))
    slices = rows(reading, "oncpu", "tid", "start_ns", "dur_ns")
    assert slices == [(101, EPOCH_NS + 20, 10), (102, EPOCH_NS + 50, 10)]
