"""Folders into captures: archives, merged files beside their parts, clocks from the manifest."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from traces import BASE_NS, decode_trace, write_counters, write_trace

from rca.capture.load import load
from rca.errors import InputError


def test_archives_are_read_like_folders(tmp_path: Path) -> None:
    side = tmp_path / "side"
    write_trace(side / "rank0" / "t.json.gz", decode_trace(5))
    write_counters(side / "counters.csv", {"host_cpu_usage": 5.0})
    (side / "notes.txt").write_text("nothing")
    plain = load(side)
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(side, "capture")
    zipped = tmp_path / "zipped" / "capture.zip"
    zipped.parent.mkdir()
    with zipfile.ZipFile(zipped, "w") as file:
        for member in ("rank0/t.json.gz", "counters.csv", "notes.txt"):
            file.write(side / member, member)
    for path, prefix in ((archive, "archive.tar.gz/capture/"), (zipped.parent, "capture.zip/")):
        packed = load(path)
        assert [f.path for f in packed.files] == [prefix + f.path for f in plain.files]
        assert packed.events.equals(plain.events)
        assert packed.counters.equals(plain.counters)


def test_an_archive_without_traces(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.add(tmp_path / "notes.txt", "notes.txt")
    with pytest.raises(InputError, match="holds no trace"):
        load(tmp_path / "empty.tar")


def test_a_merged_trace_beside_its_parts_is_left_out(tmp_path: Path) -> None:
    parts = [decode_trace(5, rank=rank, seed=rank) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        for event in part["traceEvents"]:
            if event["pid"] == 100:
                event["pid"] = event["tid"] = 100 + rank
        write_trace(tmp_path / f"rank{rank}.json", part)
    before = load(tmp_path)
    merged = dict(parts[0])
    merged["traceEvents"] = [
        event | {"pid": f"[TP0{rank}] {event['pid']}"} for rank, part in enumerate(parts) for event in part["traceEvents"]
    ]
    write_trace(tmp_path / "merged.json", merged)
    both = load(tmp_path)
    assert both.events.height == before.events.height
    assert [str(f) for f in both.findings if f.code == "duplicate"] == [
        "merged.json: holds only events that other files of the capture hold too; left out"
    ]
    assert sorted(both.events["rank"].unique()) == [0, 1]


def test_times_since_boot_are_placed_on_the_wall_clock(tmp_path: Path) -> None:
    trace = (
        '"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id",'
        '"Start_Timestamp","End_Timestamp"\n'
        '"KERNEL_DISPATCH","Agent 4",1,1,8,1,10,"add",1,1550151853029637,1550151853042437\n'
    )
    (tmp_path / "7_kernel_trace.csv").write_text(trace)
    assert load(tmp_path).events["start_ns"].to_list() == [1550151853029637]
    clocks = [{"realtime_ns": BASE_NS + tick, "boottime_ns": 1550151853000000 + tick} for tick in (0, 5_000_000)]
    (tmp_path / "capture.json").write_text(json.dumps({"schema": "rca.capture/1", "clocks": clocks}))
    placed = load(tmp_path)
    assert placed.events["start_ns"].to_list() == [BASE_NS + 29637]
    assert [f.code for f in placed.findings if "clock" in f.code] == ["clock_offset"]
