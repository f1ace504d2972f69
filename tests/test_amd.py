"""Readers of AMD's recorders: the same run in every format, real CSV files, damage."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amd_builder as made
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rca.capture.findings import Severity
from rca.capture.model import Clock, Reading
from rca.capture.readers import rocpd, rocprof_csv, rocprof_json, rpd
from rca.capture.readers.amd_spans import call_kind, call_names, copy_names, kernel_names
from rca.capture.source import HEAD_BYTES, Probe, Source
from rca.errors import InputError

READERS: tuple[Any, ...] = (rocprof_csv, rocprof_json, rocpd, rpd)

FORMATS: dict[str, tuple[Any, Callable[[Path], None]]] = {
    "csv-2024": (rocprof_csv, made.csv_2024),
    "csv-2025": (rocprof_csv, made.csv_2025),
    "json": (rocprof_json, made.rocprof_json),
    "rocpd-3": (rocpd, made.rocpd),
    "rocpd-4": (rocpd, lambda folder: made.rocpd(folder, 4)),
    "rpd-2": (rpd, made.rpd),
    "rpd-3": (rpd, lambda folder: made.rpd(folder, 3)),
}


def probe(path: Path) -> Probe:
    return Probe(path, path.read_bytes()[:HEAD_BYTES])


def read_folder(folder: Path) -> Reading:
    """Read all files of a folder as `load` would: each by the only reader that claims it, those of one group together."""
    claimed: dict[tuple[str, str], list[Path]] = {}
    readers = {reader.NAME: reader for reader in READERS}
    for path in sorted(folder.iterdir()):
        (reader,) = (reader for reader in READERS if reader.matches(probe(path)))
        claimed.setdefault((reader.NAME, reader.group(path)), []).append(path)
    ((name, _), paths), *others = claimed.items()
    assert not others
    return readers[name].read(Source(tuple(paths)))


def counts(events: pl.DataFrame) -> dict[str, int]:
    return {str(kind): number for kind, number in events.group_by("kind").len().iter_rows()}


def of(reading: Reading, kind: str, pid: int) -> pl.DataFrame:
    return reading.events.filter((pl.col("kind") == kind) & (pl.col("pid") == pid)).sort("start_ns")


@pytest.fixture(params=FORMATS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Reading]:
    FORMATS[request.param][1](tmp_path)
    return request.param, read_folder(tmp_path)


def test_counts_of_every_format(run: tuple[str, Reading]) -> None:
    """5 steps of 3 kernels, 2 copies, 6 calls and a marker in each process; a CSV recording is of one process."""
    name, reading = run
    both = 1 if name.startswith("csv") else 2
    expected = {"kernel": 15 * both, "memcpy": 10 * both, "runtime": 30 * both, "annotation": 5 * both}
    assert counts(reading.events) == expected
    assert reading.clock is Clock.BOOT
    assert not [finding for finding in reading.findings if finding.severity is not Severity.INFO]


def test_names_and_times(run: tuple[str, Reading]) -> None:
    _, reading = run
    kernels = of(reading, "kernel", 4100)
    assert kernels["name"].cast(pl.String).to_list() == list(made.KERNELS) * 5
    assert kernels["dur_ns"].to_list() == [40_000] * 15
    # step 0: the copy's call begins 10 us after the step, the first kernel's 100 us later, its work 20 us after that
    assert kernels["start_ns"][0] == 1_550_151_853_130_000
    copies = of(reading, "memcpy", 4100)
    assert copies["name"].cast(pl.String).to_list() == ["Memcpy HtoD (Host -> Device)", "Memcpy DtoH (Device -> Host)"] * 5
    assert copies["dur_ns"].sum() == 70_000
    markers = of(reading, "annotation", 4100)
    assert markers["name"].cast(pl.String).to_list() == [f"step {i}" for i in range(5)]
    assert markers["dur_ns"].to_list() == [900_000] * 5


def test_work_belongs_to_the_gpu_and_process_that_it_ran_for(run: tuple[str, Reading]) -> None:
    name, reading = run
    work = reading.events.filter(pl.col("kind").cast(pl.String).is_in(["kernel", "memcpy"]))
    places = {(pid, device) for pid, device in work.select("pid", "device").iter_rows()}
    both = {(4100, "GPU 0"), (4101, "GPU 1")}
    assert places == ({(4100, "GPU 0")} if name.startswith("csv") else both)
    assert set(reading.events.filter(pl.col("kind") == "runtime")["device"]) == {"Host"}


def test_every_kernel_has_one_launch(run: tuple[str, Reading]) -> None:
    _, reading = run
    calls = reading.events.filter(pl.col("kind") == "runtime").select(
        "pid", "correlation", pl.col("start_ns").alias("called")
    )
    work = reading.events.filter(pl.col("kind").cast(pl.String).is_in(["kernel", "memcpy"]))
    linked = work.join(calls, on=["pid", "correlation"], how="inner")
    assert linked.height == work.height
    assert (linked["start_ns"] - linked["called"] == 20_000).all()


def test_sizes_and_streams(run: tuple[str, Reading]) -> None:
    name, reading = run
    sizes = set(reading.events.filter(pl.col("kind") == "memcpy")["bytes"])
    assert sizes == ({None} if name.startswith("csv") else {4096})  # CSV files have no sizes of copies
    streams = set(reading.events.filter(pl.col("kind") == "kernel")["stream"])
    assert streams == ({9} if name.startswith(("csv-2024", "rpd")) else {3})  # a queue stands for a stream


def test_facts_hold_no_secret(run: tuple[str, Reading]) -> None:
    name, reading = run
    assert "SECRET" not in str(reading.meta) + str(reading.findings)
    if not name.startswith("rpd"):
        assert reading.meta["gpu_names"] == ["AMD Instinct MI300X"]
    if name.startswith(("json", "rocpd")):
        assert reading.meta["host_name"] == "node7"


def test_every_format_tells_the_same(tmp_path: Path) -> None:
    columns = ["start_ns", "dur_ns", "name", "kind", "pid", "device"]
    tables = {}
    for name, (_, build) in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        build(folder)
        rows = read_folder(folder).events.filter(pl.col("pid") == 4100)
        tables[name] = rows.select(pl.col(columns).cast(pl.String)).sort(columns)
    first = tables["json"]
    assert first.height == 60
    for table in tables.values():
        assert_frame_equal(table, first)


def test_generated_json_is_laid_out_as_documented() -> None:
    """Keys as FORMATS.md §6.1 lists them."""
    process = made.json_document()["rocprofiler-sdk-tool"][0]
    assert {"metadata", "agents", "strings", "kernel_symbols", "code_objects", "counters", "buffer_records"} <= set(process)
    assert {"node", "pid", "init_time", "fini_time", "command", "config"} == set(process["metadata"])
    dispatch = process["buffer_records"]["kernel_dispatch"][0]
    assert {"thread_id", "correlation_id", "start_timestamp", "end_timestamp", "dispatch_info", "stream_id"} <= set(dispatch)
    assert set(dispatch["correlation_id"]) == {"internal", "external"}
    assert {"agent_id", "queue_id", "kernel_id", "dispatch_id"} <= set(dispatch["dispatch_info"])


# --- real files: counts and sums of End - Start by Python's csv module, blank lines left out


def test_real_csv_files_of_2025(shared_data: Path) -> None:
    folder = shared_data / "traces/rocm/rocprofv3_csv_a"
    paths = sorted(path for path in folder.iterdir() if path.name != "rocpd-to-csv.csv")
    assert {rocprof_csv.group(path) for path in paths} == {f"{folder}/"}
    assert all(rocprof_csv.matches(probe(path)) for path in paths)
    reading = rocprof_csv.read(Source(tuple(paths)))
    # 17 HIP and 21 RCCL calls, 32 HSA calls, 4 allocations and frees
    assert counts(reading.events) == {"kernel": 9, "memcpy": 4, "runtime": 38, "driver": 32, "other": 4}
    kernels = reading.events.filter(pl.col("kind") == "kernel")
    assert kernels["dur_ns"].sum() == 96_160
    assert set(kernels["device"]) == {"GPU 4"}
    assert dict(kernels.group_by("stream").len().iter_rows()) == {1: 4, 2: 2, 3: 2, 4: 1}
    assert reading.events.filter(pl.col("kind") == "other")["bytes"].to_list() == [1024, 1024, 0, 0]
    # samples of six runs: correlation 1 is that of three processes, so no copy's process is known
    assert [finding.code for finding in reading.findings] == ["summary_only", "skipped", "shared_ids", "shared_ids"]


def test_real_csv_files_of_2024(shared_data: Path) -> None:
    reading = read_folder(shared_data / "traces/rocm/rocprofv3_csv_b")
    assert counts(reading.events) == {"kernel": 7, "memcpy": 2, "runtime": 12, "driver": 10, "annotation": 5}
    kernels = reading.events.filter(pl.col("kind") == "kernel")
    assert kernels["dur_ns"].sum() == 795_453
    assert set(kernels["device"]) == {"GPU 1"}
    markers = reading.events.filter(pl.col("kind") == "annotation")
    assert markers.filter(pl.col("dur_ns") == 0)["name"].to_list() == ["before hipLaunchKernel", "after hipLaunchKernel"]
    copies = reading.events.filter(pl.col("kind") == "memcpy")
    assert copies["correlation"].to_list() == [None, None]  # 0 in the file
    assert reading.findings == ()


def test_real_csv_file_of_rocpd_convert(shared_data: Path) -> None:
    reading = rocprof_csv.read(Source((shared_data / "traces/rocm/rocprofv3_csv_a/rocpd-to-csv.csv",)))
    assert counts(reading.events) == {"runtime": 13}
    assert "hipGetDeviceProperties" in reading.events["name"].cast(pl.String).to_list()  # hipGetDevicePropertiesR0600


# --- names


def test_names_of_copies() -> None:
    texts = ["CopyDeviceToHost", "MEMORY_COPY_HOST_TO_DEVICE", "DEVICE_TO_DEVICE", "MEMORY_COPY_NONE", None]
    assert copy_names(pl.Series(texts)).to_list() == [
        "Memcpy DtoH (Device -> Host)",
        "Memcpy HtoD (Host -> Device)",
        "Memcpy DtoD (Device -> Device)",
        "Memcpy Unknown",
        "Memcpy Unknown",
    ]


def test_names_of_calls_and_kernels() -> None:
    assert call_names(pl.Series(["hipGetDevicePropertiesR0600", "hsa_init", ""])).to_list() == [
        "hipGetDeviceProperties",
        "hsa_init",
        None,
    ]
    assert kernel_names(pl.Series(["_Z1kv.kd", "k() [clone .kd]", "a.kdx"])).to_list() == ["_Z1kv", "k()", "a.kdx"]


def test_kinds_of_domains() -> None:
    domains = ["HIP_COMPILER_API_EXT", "HSA_AMD_EXT_API", "MARKER_CORE_RANGE_API", "RCCL_API", "rocm_marker_api", "OMPT"]
    expected = ["runtime", "driver", "annotation", "runtime", "annotation", "other"]
    assert call_kind(pl.Series(domains)).to_list() == expected


# --- CSV: what one recording's files do for each other


def test_two_processes_of_one_folder_are_two_recordings(tmp_path: Path) -> None:
    made.csv_2025(tmp_path, 0)
    made.csv_2025(tmp_path, 1)
    groups = {rocprof_csv.group(path) for path in tmp_path.iterdir()}
    assert groups == {str(tmp_path / "4100"), str(tmp_path / "4101")}


def test_without_agent_info_the_agent_number_stands(tmp_path: Path) -> None:
    made.csv_2025(tmp_path, 1)
    (tmp_path / "4101_agent_info.csv").unlink()
    assert set(read_folder(tmp_path).events["device"]) == {"GPU 2", "Host"}


def test_type_relative_agents(tmp_path: Path) -> None:
    made.csv_2025(tmp_path, 1)
    for path in tmp_path.glob("*_trace.csv"):
        path.write_text(path.read_text().replace("Agent 2", "GPU 1").replace("Agent 0", "CPU 0"))
    assert set(read_folder(tmp_path).events["device"]) == {"GPU 1", "Host"}


def test_pid_of_kernels(tmp_path: Path) -> None:
    """By the threads of the calls; else by the file's name; else the lowest thread."""
    made.csv_2025(tmp_path, 1)
    for path in tmp_path.iterdir():
        path.rename(tmp_path / path.name.replace("4101", "server"))
    assert set(read_folder(tmp_path).events["pid"]) == {4101}
    kernels, copies = tmp_path / "server_kernel_trace.csv", tmp_path / "server_memory_copy_trace.csv"
    assert set(rocprof_csv.read(Source((kernels, copies))).events["pid"]) == {4101}  # its thread
    renamed = kernels.rename(tmp_path / "77_kernel_trace.csv")
    assert set(rocprof_csv.read(Source((renamed,))).events["pid"]) == {77}


def test_merged_csv_of_two_processes(tmp_path: Path) -> None:
    """``rocpd convert``: both processes in one file, a Guid for each, small letters; copies have no thread."""
    for rank in (0, 1):
        made.csv_2025(tmp_path, rank)
    for kind in ("kernel_trace", "memory_copy_trace", "hip_api_trace", "agent_info"):
        texts = [(tmp_path / f"{pid}_{kind}.csv").read_text().splitlines() for pid in made.PIDS]
        rows = [f'"guid-{rank}",{line}' for rank in (0, 1) for line in texts[rank][1:]]
        (tmp_path / f"out_{kind}.csv").write_text("\n".join(['"Guid",' + texts[0][0].lower(), *rows]))
    for path in tmp_path.glob("41*"):
        path.unlink()
    events = read_folder(tmp_path).events
    work = events.filter(pl.col("kind").cast(pl.String).is_in(["kernel", "memcpy"]))
    found = work.group_by("pid", "device", "kind").len().rows()
    assert sorted((pid, device, str(kind), n) for pid, device, kind, n in found) == [
        (4100, "GPU 0", "kernel", 15),
        (4100, "GPU 0", "memcpy", 10),
        (4101, "GPU 1", "kernel", 15),
        (4101, "GPU 1", "memcpy", 10),
    ]


def test_copies_between_gpus_and_within_one(tmp_path: Path) -> None:
    header = "Kind,Direction,Stream_Id,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp,End_Timestamp"
    ends = [("DEVICE_TO_DEVICE", 1, 2), ("DEVICE_TO_DEVICE", 2, 2), ("HOST_TO_HOST", 0, 0), ("NONE", 1, 2)]
    rows = [f"MEMORY_COPY,MEMORY_COPY_{d},0,Agent {a},Agent {b},5,10,20" for d, a, b in ends]
    (tmp_path / "x_memory_copy_trace.csv").write_text("\n".join([header, *rows]))
    events = read_folder(tmp_path).events
    assert events["name"].to_list() == [
        "Memcpy PtoP (Device -> Device)",
        "Memcpy DtoD (Device -> Device)",
        "Memcpy HtoH (Host -> Host)",
        "Memcpy Unknown",
    ]
    assert events["device"].to_list() == ["GPU 1", "GPU 2", "Host", "GPU 1"]


COUNTERS = (
    "Correlation_Id,Dispatch_Id,Agent_Id,Queue_Id,Process_Id,Thread_Id,Kernel_Name,Counter_Name,Counter_Value,"
    "Start_Timestamp,End_Timestamp"
)


def test_counter_files_tell_when_kernels_ran(tmp_path: Path) -> None:
    rows = [f"{i},{i},Agent 1,1,55,55,k,{name},7.0,{100 * i},{100 * i + 40}" for i in (1, 2) for name in ("A", "B")]
    (tmp_path / "c_counter_collection.csv").write_text("\n".join([COUNTERS, *rows]))
    reading = read_folder(tmp_path)
    assert reading.events.select("start_ns", "dur_ns", "pid").rows() == [(100, 40, 55), (200, 40, 55)]
    assert [(finding.code, finding.severity) for finding in reading.findings] == [("skipped", Severity.WARNING)]
    timeless = [",".join(line.split(",")[:-2]) for line in [COUNTERS, *rows]]
    (tmp_path / "c_counter_collection.csv").write_text("\n".join(timeless))
    reading = read_folder(tmp_path)
    assert (reading.events.height, [finding.code for finding in reading.findings]) == (0, ["summary_only"])


def test_rows_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    header = "Domain,Function,Process_Id,Thread_Id,Correlation_Id,Start_Timestamp,End_Timestamp"
    rows = ["50,60", "60,50", "0,60", "abc,60", "50,", "50,99999999999999999999", "-5,60"]
    (tmp_path / "x_hip_api_trace.csv").write_text("\n".join([header, *(f"HIP_RUNTIME_API,f,1,1,1,{row}" for row in rows)]))
    reading = read_folder(tmp_path)
    assert reading.events.select("start_ns", "dur_ns").rows() == [(50, 10)]
    assert [str(finding)[:29] for finding in reading.findings] == ["x_hip_api_trace.csv: 6 rows l"]


def test_cut_off_csv(tmp_path: Path) -> None:
    made.csv_2025(tmp_path)
    path = tmp_path / "4100_kernel_trace.csv"
    text = path.read_text()
    path.write_text(text[: text.rindex("gemm")])  # inside the quotes of the third last row's kernel
    reading = rocprof_csv.read(Source((path,)))
    assert reading.events.height == 12
    assert [finding.code for finding in reading.findings] == ["truncated"]


# --- JSON


def test_cut_off_json_is_refused_in_one_line(tmp_path: Path) -> None:
    made.rocprof_json(tmp_path)
    path = tmp_path / "results.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="is cut off, or no JSON of rocprofv3") as caught:
        rocprof_json.read(Source((path,)))
    assert "\n" not in str(caught.value)


def test_json_numbers_that_name_nothing(tmp_path: Path) -> None:
    document = made.json_document()
    process = document["rocprofiler-sdk-tool"][0]
    records = process["buffer_records"]
    records["hip_api"][0]["operation"] = -1
    records["hip_api"][1]["kind"] = 999
    records["kernel_dispatch"][0]["dispatch_info"]["kernel_id"] = 999
    records["kernel_dispatch"][1]["start_timestamp"] = 2**64 - 1
    records["kernel_dispatch"][2]["dispatch_info"]["agent_id"] = 5  # older writers: the number itself
    process["metadata"]["pid"] = 2**70
    (tmp_path / "r.json").write_text(json.dumps(document))
    reading = read_folder(tmp_path)
    assert counts(reading.events) == {"kernel": 28, "memcpy": 20, "runtime": 58, "annotation": 10}
    assert set(reading.events["pid"]) == {-1, 4101}
    assert "GPU 5" in set(reading.events["device"])
    assert [str(finding).split(" rows")[0] for finding in reading.findings] == ["kernel_dispatch: 2", "hip_api: 2"]


def test_files_without_rows(tmp_path: Path) -> None:
    made.csv_2025(tmp_path)
    for path in tmp_path.iterdir():
        path.write_text(path.read_text().splitlines()[0] + "\n")
    reading = read_folder(tmp_path)
    assert (reading.events.height, reading.findings) == (0, ())


def test_csv_without_optional_columns(tmp_path: Path) -> None:
    (tmp_path / "5_hip_api_trace.csv").write_text(
        "Domain,Function,Process_Id,Start_Timestamp,End_Timestamp\nHIP_RUNTIME_API,f,8,1,2\n"
    )
    (tmp_path / "5_kernel_trace.csv").write_text("Kernel_Name,Agent_Id,Queue_Id,Start_Timestamp,End_Timestamp\nk,2,6,1,2\n")
    rows = read_folder(tmp_path).events.select("name", "pid", "tid", "device", "stream").rows()
    assert rows == [("k", 5, 6, "GPU 2", 6), ("f", 8, 8, "Host", None)]


def test_json_without_records(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"rocprofiler-sdk-tool": [{"buffer_records": {}}, {}]}')
    assert read_folder(tmp_path).events.height == 0


def test_of_several_calls_the_first_started_the_work(tmp_path: Path) -> None:
    made.rpd(tmp_path)
    before = read_folder(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "trace.rpd")) as database:
        (last,) = database.execute("SELECT max(id) FROM rocpd_api").fetchone()
        database.execute("INSERT INTO rocpd_api_ops (api_id, op_id) SELECT ?, op_id FROM rocpd_api_ops", (last,))
        database.commit()
    assert_frame_equal(read_folder(tmp_path).events, before.events, categorical_as_str=True)
