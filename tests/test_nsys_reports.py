"""Reports of ``nsys stats`` and ``nsys recipe``, and reports that only nsys can convert."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from nsys_builder import codes, probe, read_sqlite, rows, tables, write_sqlite

from rca.capture.model import Clock, Reading
from rca.capture.readers import nsys_report, nsys_stats, nvtx_gpu_proj
from rca.capture.source import Source
from rca.capture.tables import EVENTS, empty
from rca.errors import InputError


# polars: height less rows without a name; sums of the two duration columns over the rest
@pytest.mark.parametrize(
    ("name", "pid", "count", "host_ns", "gpu_ns"),
    [
        ("proc0", 215733, 14_304, 77_959_728_874, 9_098_255_597),
        ("proc1", 215749, 14_298, 85_374_374_760, 28_091_495_709),
    ],
)
def test_real_projection(shared_data: Path, name: str, pid: int, count: int, host_ns: int, gpu_ns: int) -> None:
    path = shared_data / "traces/parquet" / f"nvtx_gpu_proj_trace_{name}.parquet"
    assert nvtx_gpu_proj.matches(probe(path))
    reading = nvtx_gpu_proj.read(Source((path,)))
    events = reading.events
    assert events.schema == empty(EVENTS).schema
    totals = events.group_by(pl.col("kind").cast(pl.String)).agg(pl.len(), pl.col("dur_ns").sum()).sort("kind").rows()
    assert totals == [("annotation", count, host_ns), ("gpu_annotation", count, gpu_ns)]
    assert events["pid"].unique().to_list() == [pid]
    # both files call their only rank 0: that is no rank
    assert events["rank"].unique().to_list() == [-1]
    assert reading.clock is Clock.OWN


PROJECTION = """Name,Projected Start (us),Projected Duration (us),Orig Start (us),Orig Duration (us),Style,PID,TID,Rank
:step,10.5,2,9,3,PushPop,100,101,0
:step,20.5,2,19,3,PushPop,200,201,1
:odd,,2,19,3,PushPop,200,201,1
"""


def test_projection_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "r_nvtx_gpu_proj_trace.csv"
    path.write_text(PROJECTION)
    assert nvtx_gpu_proj.matches(probe(path))
    assert not nsys_stats.matches(probe(path))
    reading = nvtx_gpu_proj.read(Source((path,)))
    assert rows(reading, "annotation", "start_ns", "dur_ns", "pid", "rank")[:2] == [
        (9_000, 3_000, 100, 0),
        (19_000, 3_000, 200, 1),
    ]
    assert rows(reading, "gpu_annotation", "start_ns", "device") == [(10_500, "GPU ?"), (20_500, "GPU ?")]
    assert "1 ranges" in str(reading.findings)


GPU_TRACE = """Start (ns),Duration (ns),CorrId,GrdX,Bytes (MB),SrcMemKd,DstMemKd,Device,Ctx,Strm,Name
2000,1000,1,4,,,,NVIDIA H100 80GB HBM3 (3),1,7,"gemm(float*, int)"
4000,200,2,,0.004,Pinned,Device,NVIDIA H100 80GB HBM3 (3),1,7,[CUDA memcpy Host-to-Device]
4500,200,8,,0.004,,,NVIDIA H100 80GB HBM3 (3),1,7,[CUDA memcpy DtoH]
5000,10,3,,0.001,Device,,NVIDIA H100 80GB HBM3 (3),1,7,[CUDA memset]
"""
API_TRACE = """Start (ns),Duration (ns),Name,Result,CorrID,Pid,Tid,T-Pri,Thread Name
1000,100,cudaLaunchKernel_v7000,0,1,100,101,20,python
3000,100,cudaMemcpyAsync,0,2,100,101,20,python
3500,10,cuLaunchKernel,0,8,100,101,20,python
3600,10,cuLaunchKernel,0,8,200,201,20,python
"""
SUMMARY = """Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
90.0,1000,1,1000,1000,1000,1000,0.0,gemm
"""
RANGES = """Start (ns),End (ns),Duration (ns),DurChild (ns),DurNonChild (ns),Name,PID,TID,Lvl,NumChild,RangeId,ParentId
10,30,20,0,20,:step,100,101,0,0,1,
"""


def stats(tmp_path: Path, **reports: str) -> Reading:
    paths = []
    for report, text in reports.items():
        path = tmp_path / f"run_{report}.csv"
        path.write_text(text)
        assert nsys_stats.matches(probe(path))
        paths.append(path)
    assert len({nsys_stats.group(path) for path in paths}) == 1
    return nsys_stats.read(Source(tuple(paths)))


def test_stats_reports_of_one_recording(tmp_path: Path) -> None:
    reading = stats(
        tmp_path, cuda_gpu_trace=GPU_TRACE, cuda_api_trace=API_TRACE, cuda_gpu_kern_sum=SUMMARY, nvtx_pushpop_trace=RANGES
    )
    assert reading.events.schema == empty(EVENTS).schema
    assert rows(reading, "kernel", "name", "start_ns", "dur_ns", "pid", "device", "stream", "correlation") == [
        ("gemm(float*, int)", 2_000, 1_000, 100, "GPU 3", 7, 1)
    ]
    assert rows(reading, "memcpy", "name", "bytes", "pid") == [
        ("Memcpy HtoD (Pinned -> Device)", 4_000, 100),
        ("Memcpy DtoH", 4_000, -1),  # two processes used its id
    ]
    assert rows(reading, "memset", "name", "bytes") == [("Memset (Device)", 1_000)]
    assert rows(reading, "runtime", "name", "tid") == [("cudaLaunchKernel", 101), ("cudaMemcpyAsync", 101)]
    assert len(rows(reading, "driver", "name")) == 2
    assert rows(reading, "annotation", "name", "dur_ns") == [(":step", 20)]
    assert sorted(codes(reading)) == ["shared_ids", "summary_only"]
    assert "cuda_gpu_kern_sum" in next(str(f) for f in reading.findings if f.code == "summary_only")


@pytest.mark.parametrize(("unit", "factor"), [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("nsec", 1)])
def test_stats_units(tmp_path: Path, unit: str, factor: int) -> None:
    reading = stats(tmp_path, cuda_gpu_trace=GPU_TRACE.replace("(ns)", f"({unit})"))
    assert rows(reading, "kernel", "start_ns", "dur_ns") == [(2_000 * factor, 1_000 * factor)]


def test_recordings_with_alike_names_stay_apart() -> None:
    groups = [nsys_stats.group(Path(f"my_cuda_{name}_cuda_{kind}_trace.csv")) for name in "ab" for kind in ("api", "gpu")]
    assert groups == ["my_cuda_a", "my_cuda_a", "my_cuda_b", "my_cuda_b"]
    assert nsys_stats.group(Path("run_gputrace.csv")) == "run"


def test_summary_alone_has_no_events(tmp_path: Path) -> None:
    reading = stats(tmp_path, cuda_gpu_kern_sum=SUMMARY)
    assert reading.events.is_empty()
    assert codes(reading) == ["summary_only"]


def test_damaged_stats_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    refused = 0
    for text, module in (
        (GPU_TRACE, nsys_stats),
        (API_TRACE, nsys_stats),
        (RANGES, nsys_stats),
        (PROJECTION, nvtx_gpu_proj),
    ):
        path = tmp_path / "run_cuda_gpu_trace.csv"
        for _ in range(60):
            mutated = bytearray(text.encode())
            for _ in range(3):
                mutated[int(rng.integers(len(mutated)))] = int(rng.choice(list(b'0a-,".\n\xff')))
            path.write_bytes(mutated)
            try:
                module.read(Source((path,)))
            except InputError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 20


def test_report_without_nsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my run.nsys-rep"
    path.write_bytes(b"\0\1binary")
    assert nsys_report.matches(probe(path))
    monkeypatch.setenv("PATH", str(tmp_path))
    reading = nsys_report.read(Source((path,)))
    assert codes(reading) == ["needs_export"]
    assert "nsys export --type=sqlite -o 'my run.sqlite' 'my run.nsys-rep'" in reading.findings[0].text
    path.write_text("text")
    assert not nsys_report.matches(probe(path))


def test_report_with_nsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_sqlite(tmp_path / "made.sqlite", tables(2024))
    path = tmp_path / "run.nsys-rep"
    path.write_bytes(b"\0\1binary")
    nsys = tmp_path / "nsys"
    nsys.write_text(f'#!/bin/sh\nwhile [ "$1" != "-o" ]; do shift; done\n/bin/cp "{made}" "$2"\n')
    nsys.chmod(nsys.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    reading = nsys_report.read(Source((path,), workers=2))
    assert reading.events.equals(read_sqlite(made).events)
    nsys.write_text("#!/bin/sh\nexit 3\n")
    failed = nsys_report.read(Source((path,)))
    assert failed.events.is_empty()
    assert "failed with code 3" in failed.findings[0].text
