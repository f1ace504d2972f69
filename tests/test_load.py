"""Folders into captures: archives, merged files beside their parts, clocks from the manifest."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import amd_builder
import pytest
from nsys_builder import EPOCH_NS, tables, write_folder, write_sqlite
from test_nsys_reports import API_TRACE, GPU_TRACE, RANGES, SUMMARY
from traces import BASE_NS, decode_trace, write_counters, write_trace

from rca.capture import Capture
from rca.capture.discover import discover
from rca.capture.findings import Severity
from rca.capture.load import load
from rca.capture.readers import csv_table
from rca.capture.readers.csv_table import read_text_columns
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


BOOT_TRACE = (
    '"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name","Correlation_Id",'
    '"Start_Timestamp","End_Timestamp"\n'
    '"KERNEL_DISPATCH","Agent 4",1,1,8,1,10,"add",1,1550151853029637,1550151853042437\n'
)


def test_times_since_boot_are_placed_on_the_wall_clock(tmp_path: Path) -> None:
    (tmp_path / "7_kernel_trace.csv").write_text(BOOT_TRACE)
    assert load(tmp_path).events["start_ns"].to_list() == [1550151853029637]
    clocks = [{"realtime_ns": BASE_NS + tick, "boottime_ns": 1550151853000000 + tick} for tick in (0, 5_000_000)]
    (tmp_path / "capture.json").write_text(json.dumps({"schema": "rca.capture/1", "clocks": clocks}))
    placed = load(tmp_path)
    assert placed.events["start_ns"].to_list() == [BASE_NS + 29637]
    assert [f.code for f in placed.findings if "clock" in f.code] == ["clock_offset"]


def duplicates(capture: Capture) -> list[str]:
    found = [finding for finding in capture.findings if finding.code == "duplicate"]
    assert all(finding.severity is Severity.INFO for finding in found)
    return [str(finding) for finding in found]


def manifest(boot_ns: int) -> str:
    return json.dumps({"clocks": [{"realtime_ns": BASE_NS, "boottime_ns": boot_ns}]})


def test_the_nearest_manifest_counts(tmp_path: Path) -> None:
    """Two machines in folders of their own, a third packed; what names no clock leaves it to the folder above."""
    boot = 1550151853029637
    for i, folder in enumerate(("a", "b/deep", "packed/inner")):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / "7_kernel_trace.csv").write_text(BOOT_TRACE.replace("add", f"add{i}"))
    (tmp_path / "a" / "capture.json").write_text(manifest(boot - 1))
    (tmp_path / "b" / "capture.json").write_text(manifest(boot - 2))
    (tmp_path / "b" / "deep" / "capture.json").write_text("{}")
    (tmp_path / "packed" / "capture.json").write_text(manifest(boot - 3))
    (tmp_path / "capture.json").write_text(manifest(boot - 4))
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "packed", "node")
    (tmp_path / "packed" / "capture.json").unlink()
    (tmp_path / "packed" / "inner" / "7_kernel_trace.csv").write_text(BOOT_TRACE.replace("add", "add3"))
    capture = load(tmp_path)
    starts = dict(capture.events.select("name", "start_ns").rows())
    assert starts == {"add0": BASE_NS + 1, "add1": BASE_NS + 2, "add2": BASE_NS + 3, "add3": BASE_NS + 4}
    assert {finding.code for finding in capture.findings} == {"clock_offset", "no_host_events"}
    alone = load(tmp_path / "a" / "7_kernel_trace.csv")
    assert alone.events["start_ns"].to_list() == [BASE_NS + 1]


@pytest.mark.parametrize("content", [manifest(10**25), manifest(-1), "[" * 100_000, "", '{"clocks": [[]]}', '{"clocks": 1}'])
def test_a_manifest_that_cannot_be_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "7_kernel_trace.csv").write_text(BOOT_TRACE)
    for depth in (tmp_path, tmp_path / "sub"):
        depth.mkdir(exist_ok=True)
        (depth / "capture.json").write_text(content)
    capture = load(tmp_path)
    assert capture.events["start_ns"].to_list() == [1550151853029637]
    assert {finding.code for finding in capture.findings} == {"no_wall_clock", "no_host_events"}


def test_a_trace_may_be_called_like_a_manifest(tmp_path: Path) -> None:
    assert load(write_trace(tmp_path / "capture.json", decode_trace(5))).events.height


def test_clocks_are_part_of_the_digest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "7_kernel_trace.csv").write_text(BOOT_TRACE)
    digests = {discover(tmp_path).digest}
    for folder, boot in ((tmp_path, 1), (tmp_path, 2), (tmp_path / "sub", 3)):
        (folder / "capture.json").write_text(manifest(boot))
        digests.add(discover(tmp_path).digest)
    assert len(digests) == 4


def test_counters_since_boot_are_placed_too(tmp_path: Path) -> None:
    amd_builder.rpd(tmp_path)
    before = load(tmp_path)
    (tmp_path / "capture.json").write_text(manifest(amd_builder.BOOT_NS))
    after = load(tmp_path)
    by = BASE_NS - amd_builder.BOOT_NS
    for table, time in (("counters", "ts_ns"), ("events", "start_ns")):
        assert getattr(before, table).height
        assert (getattr(after, table)[time] - by).to_list() == getattr(before, table)[time].to_list()


def test_processes_that_share_a_file_keep_their_own(tmp_path: Path) -> None:
    """Both processes of rocprofv3 write the same table of agents."""
    amd_builder.csv_2025(tmp_path, 0)
    amd_builder.csv_2025(tmp_path, 1)
    shared = [(tmp_path / f"{pid}_agent_info.csv").read_bytes() for pid in amd_builder.PIDS]
    assert shared[0] == shared[1]
    capture = load(tmp_path)
    gpus = capture.events.filter(capture.events["kind"] == "kernel").select("pid", "device").unique().sort("pid").rows()
    assert gpus == [(4100, "GPU 0"), (4101, "GPU 1")]
    assert duplicates(capture) == []


def test_a_recording_copied_as_a_whole_is_left_out(tmp_path: Path) -> None:
    amd_builder.csv_2025(tmp_path)
    once = load(tmp_path)
    (tmp_path / "copy").mkdir()
    for file in sorted(tmp_path.glob("*.csv")):
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "0_kernel_trace.csv").write_bytes((tmp_path / "4100_kernel_trace.csv").read_bytes())  # sorts first
    both = load(tmp_path)
    assert both.events.equals(once.events)
    assert both.files == once.files
    assert len(duplicates(both)) == len(once.files) + 1
    assert "0_kernel_trace.csv: the same content as 4100_kernel_trace.csv; skipped" in duplicates(both)


def test_a_copy_of_a_trace_is_left_out(tmp_path: Path) -> None:
    write_trace(tmp_path / "a.json", decode_trace(5))
    write_trace(tmp_path / "b" / "c.json", decode_trace(5))
    capture = load(tmp_path)
    assert [file.path for file in capture.files] == ["a.json"]
    assert duplicates(capture) == ["b/c.json: the same content as a.json; skipped"]


def test_tables_of_two_exported_folders(tmp_path: Path) -> None:
    """All but one table have the content of those beside: both recordings need them."""
    made = tables(2024)
    write_folder(tmp_path / "a_pqtdir", made)
    made["NVTX_EVENTS"] = [row | {"start": row["start"] and row["start"] - 5} for row in made["NVTX_EVENTS"]]
    alone = load(write_folder(tmp_path / "b_pqtdir", made))
    both = load(tmp_path)
    second = both.events.filter(both.events["file"] > 0)
    assert second["name"].to_list() == alone.events["name"].to_list()
    assert duplicates(both) == []


@pytest.mark.parametrize("long", [False, True])
def test_member_names_that_no_folder_takes(tmp_path: Path, long: bool) -> None:
    names = ["x.json", "a" * 300 + ".json" if long else "x.json/y.json", "z.json"]
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for seed, name in enumerate(names):
            content = json.dumps(decode_trace(5, seed=seed)).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    capture = load(tmp_path)
    assert [file.path for file in capture.files] == ["a.tar/x.json", "a.tar/z.json"]
    (skipped,) = (finding for finding in capture.findings if finding.code == "skipped")
    assert skipped.file == f"a.tar/{names[1]}"
    assert "cannot be unpacked" in skipped.text


def test_of_two_members_of_one_name_the_last_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for cycles in (5, 7):
            tar.add(write_trace(tmp_path / f"{cycles}.json.tmp", decode_trace(cycles)), "t.json")
    for file in tmp_path.glob("*.tmp"):
        file.unlink()
    capture = load(tmp_path)
    assert [file.path for file in capture.files] == ["a.tar/t.json"]
    assert (capture.events["kind"] == "annotation").sum() == 7
    assert duplicates(capture) == []


def test_gpu_work_alone_is_not_counted_twice(tmp_path: Path) -> None:
    trace = decode_trace(5)
    trace["traceEvents"] = [event for event in trace["traceEvents"] if event["cat"] == "kernel"]
    write_trace(tmp_path / "t.json", trace)
    (tmp_path / "u.json.gz").write_bytes(gzip.compress((tmp_path / "t.json").read_bytes(), mtime=0))
    capture = load(tmp_path)
    assert capture.events.height == 15
    assert duplicates(capture) == ["u.json.gz: holds only events that other files of the capture hold too; left out"]


def test_the_same_process_of_two_ranks_is_no_repeat(tmp_path: Path) -> None:
    """Containers number their processes alike, and a test bench may step in lockstep."""
    for rank in (0, 1):
        write_trace(tmp_path / f"rank{rank}.json", decode_trace(5, rank=rank))
    capture = load(tmp_path)
    assert capture.events["rank"].value_counts().sort("rank")["count"].to_list() == [50, 50]
    assert duplicates(capture) == []


@pytest.fixture
def no_nsys(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is the whole PATH."""
    folder = tmp_path_factory.mktemp("bin")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def unread_reports(capture: Capture) -> list[str]:
    return [finding.file for finding in capture.findings if finding.severity is Severity.DAMAGE]


@pytest.mark.usefixtures("no_nsys")
@pytest.mark.parametrize("export", ["run.sqlite", "run_pqtdir"])
def test_a_report_beside_its_export_is_no_damage(tmp_path: Path, export: str) -> None:
    made = tables(2022)
    write_sqlite(tmp_path / export, made) if export.endswith("sqlite") else write_folder(tmp_path / export, made)
    once = load(tmp_path)
    (tmp_path / "run.nsys-rep").write_bytes(b"\0\1binary")
    capture = load(tmp_path)
    assert capture.events.equals(once.events)
    assert unread_reports(capture) == []
    (text,) = duplicates(capture)
    assert text.startswith(f"run.nsys-rep: taken for the report that {export}")
    (tmp_path / "other.nsys-rep").write_bytes(b"\0\2binary")
    assert unread_reports(load(tmp_path)) == ["other.nsys-rep"], "of two reports one is not exported"
    (tmp_path / "run.nsys-rep").unlink()
    assert unread_reports(load(tmp_path)) == [], "the only report and some export go together"


def install_nsys(folder: Path, export: Path) -> None:
    nsys = folder / "nsys"
    nsys.write_text(f'#!/bin/sh\nwhile [ "$1" != "-o" ]; do shift; done\n/bin/cp "{export}" "$2"\n')
    nsys.chmod(0o755)


def test_a_report_of_another_name_is_converted_where_that_is_possible(tmp_path: Path, no_nsys: Path) -> None:
    capture = tmp_path / "capture"
    capture.mkdir()
    write_sqlite(capture / "rank0.sqlite", tables(2022))
    other = tables(2022)
    other["CUPTI_ACTIVITY_KIND_RUNTIME"] = other["CUPTI_ACTIVITY_KIND_RUNTIME"][:2]
    (capture / "rank1.nsys-rep").write_bytes(b"\0\1binary")
    install_nsys(no_nsys, write_sqlite(tmp_path / "rank1.sqlite", other))
    formats = [file.format for file in load(capture).files]
    assert formats == ["nsys-sqlite", "nsys-report"]


def write_reports(folder: Path) -> None:
    reports = {"cuda_gpu_trace": GPU_TRACE, "cuda_api_trace": API_TRACE, "cuda_gpu_kern_sum": SUMMARY}
    for report, text in (reports | {"nvtx_pushpop_trace": RANGES}).items():
        (folder / f"run_{report}.csv").write_text(text)


@pytest.mark.usefixtures("no_nsys")
def test_csv_reports_beside_the_export_are_left_out(tmp_path: Path) -> None:
    write_reports(tmp_path)
    assert load(tmp_path).events.height == 9, "4 on the GPU, 4 calls, 1 range"
    write_sqlite(tmp_path / "else.sqlite", tables(2022))
    assert len(load(tmp_path).files) == 5, "the export is of another recording"
    (tmp_path / "else.sqlite").rename(tmp_path / "run.sqlite")
    capture = load(tmp_path)
    assert [file.path for file in capture.files] == ["run.sqlite"]
    assert capture.events["start_ns"].min() == EPOCH_NS + 20
    assert len(duplicates(capture)) == 4
    assert all(text.endswith("taken for a part of what run.sqlite holds; not read") for text in duplicates(capture))


def test_csv_reports_beside_a_report_are_read_unless_it_is_converted(tmp_path: Path, no_nsys: Path) -> None:
    capture = tmp_path / "capture"
    capture.mkdir()
    write_reports(capture)
    (capture / "run.nsys-rep").write_bytes(b"\0\1binary")
    assert load(capture).events.height == 9
    install_nsys(no_nsys, write_sqlite(tmp_path / "made.sqlite", tables(2022)))
    assert [file.path for file in load(capture).files] == ["run.nsys-rep"]


@pytest.mark.parametrize("header", ["a, a,b,c,d", "timestamp,metric,device,value, value"])
def test_two_columns_of_one_name(tmp_path: Path, header: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(header + "\n1,2,3,4,5\n")
    with pytest.raises(InputError, match="two columns of one name"):
        read_text_columns(path, ())


def test_a_table_that_grows_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_MAX_BYTES", 64 << 20)
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (20 << 20), compresslevel=1))
    with pytest.raises(InputError, match="more than 64 MiB of text"):
        read_text_columns(path, ())


def test_one_bad_trace_does_not_hide_the_others(tmp_path: Path) -> None:
    for rank in range(3):
        write_trace(tmp_path / f"rank{rank}.json.gz", decode_trace(5, rank=rank, seed=rank, world_size=4))
    (tmp_path / "rank3.json").write_text('{"schemaVersion": 1, "traceEvents": [{"ph": "X", "na')
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b\x08\x00 no gzip")
    (tmp_path / "half.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(200))
    capture = load(tmp_path)
    assert sorted(capture.events["rank"].unique()) == [0, 1, 2]
    left_out = {finding.file for finding in capture.findings if finding.severity == "damage" and "left out" in finding.text}
    assert left_out == {"rank3.json", "broken.gz", "half.sqlite"}


def test_a_cut_off_database_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(200))
    with pytest.raises(InputError, match=r"half\.sqlite: is a database .* damaged"):
        load(tmp_path)


def test_a_table_of_totals_is_named(tmp_path: Path) -> None:
    """The two first lines as torch writes them (FORMATS.md §3.1)."""
    line = "  ".join(["-" * 55, *["-" * 12] * 3])
    header = f"{'Name':>55}    Self CPU %      Self CPU   CPU total %"
    (tmp_path / "profiler_out_0.txt").write_text(f"{line}\n{header}\n{line}\n{'aten::mm':>55}  0.21%  438.8us  0.27%\n")
    write_trace(tmp_path / "t.json", decode_trace(3))
    capture = load(tmp_path)
    assert [(f.code, f.file) for f in capture.findings] == [("summary_only", "profiler_out_0.txt")]
