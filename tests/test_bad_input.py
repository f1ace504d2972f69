"""Whatever is wrong with the input: one line, the right exit code, nothing half-written, no traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traces import decode_trace, span, write_counters, write_pair, write_trace

from rca.api import compare
from rca.capture.readers.cycle_profile import REQUIRED
from rca.errors import RcaError
from reports import machine, ticket

PROFILE_ROW = {
    "cycle": "1",
    "pid": "7",
    "hostname": "",
    "beta_pct": "10.0",
    "function_name": "oncpu",
    "metric_name": "host_cpu_usage",
    "device": "Host",
    "func_type": "oncpu",
    "mu_pct": "5.0",
    "sigma_pct": "0.1",
    "duration": "100.0",
    "interpolation_status": "**",
    "anchor_name": "Scheduler.run_batch",
    "anchor_dur_us": "1000.0",
    "cycle_start_ts": "1763000605515065.5",
    "instances_count": "3",
}


def profile_csv(cycles: int = 12, drop: str = "", **change: str) -> str:
    rows = [PROFILE_ROW | {"cycle": str(i + 1), "beta_pct": f"{10 + i % 3}"} for i in range(cycles)]
    rows[5 % cycles] |= change
    columns = [name for name in PROFILE_ROW if name != drop]
    return "\n".join([",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]) + "\n"


def side(folder: Path, content: bytes | str, name: str = "result_perf_data.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def error_of(path: Path, other: Path | None = None) -> RcaError:
    with pytest.raises(RcaError) as caught:
        compare(path, other or path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text, "the message names the file"
    return caught.value


def test_a_good_profile_is_good(tmp_path: Path) -> None:
    assert compare(side(tmp_path, profile_csv()), tmp_path).verdict.status == "no_difference"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    assert error_of(tmp_path / ("x" * 300)).exit_code == 2


def test_missing_path(tmp_path: Path) -> None:
    assert error_of(tmp_path / "absent").exit_code == 2


def test_empty_folder(tmp_path: Path) -> None:
    error = error_of(tmp_path)
    assert "empty folder" in str(error)
    assert error.exit_code == 2


def test_folder_without_traces(tmp_path: Path) -> None:
    error = error_of(side(tmp_path, "hello", "server.log"))
    assert "no trace among its 1 file(s)" in str(error)
    assert error.exit_code == 2


def test_folder_with_counters_only(tmp_path: Path) -> None:
    """What they tell of the machine is told; against a trace without counters there is nothing to compare."""
    counters, trace = tmp_path / "counters", write_trace(tmp_path / "t.json", decode_trace(12))
    write_counters(counters / "counters.csv", {"host_cpu_usage": 1})
    assert compare(counters, counters).verdict.status == "insufficient_data"
    error = error_of(trace, counters)
    assert "only counters" in str(error)
    assert error.exit_code == 2


def test_trace_that_is_no_json(tmp_path: Path) -> None:
    side(tmp_path, b"{ this is not json", "rank0.pt.trace.json")
    assert "not a trace that can be read" in str(error_of(tmp_path))


def test_truncated_gzip_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    good, cut = write_pair(tmp_path)
    path = next(cut.glob("*.json*"))
    path.write_bytes(
        gzip.compress(path.read_bytes() if path.suffix == ".json" else gzip.decompress(path.read_bytes()))[:-300]
    )
    result = compare(good, cut)
    assert any("cut off" in warning and path.name in warning for warning in result.warnings)


@pytest.mark.parametrize("column", REQUIRED)
def test_a_missing_column(tmp_path: Path, column: str) -> None:
    error = error_of(side(tmp_path, profile_csv(drop=column)))
    assert f"lacks the column {column}" in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"beta_pct": "much"}, "line 7: column beta_pct holds 'much', not a number"),
        ({"beta_pct": "inf"}, "line 7: column beta_pct is infinite"),
        ({"beta_pct": "NaN"}, "line 7: column beta_pct is empty or NaN"),
        ({"beta_pct": ""}, "line 7: column beta_pct is empty or NaN"),
        ({"cycle": "1.5"}, "line 7: column cycle holds '1.5', not a whole number"),
        ({"pid": "99999999999999999999999"}, "line 7: column pid holds '99999999999999999999999', which is too large"),
        ({"anchor_dur_us": "0"}, "line 7: anchor_dur_us is 0"),
        ({"anchor_dur_us": "-5"}, "line 7: anchor_dur_us is -5"),
        ({"mu_pct": "-inf"}, "line 7: column mu_pct is infinite"),
    ],
)
def test_bad_cells(tmp_path: Path, change: dict[str, str], problem: str) -> None:
    error = error_of(side(tmp_path, profile_csv(**change)))
    assert problem in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize("change", [{"mu_pct": ""}, {"mu_pct": "nan"}, {"metric_name": ""}, {"device": ""}])
def test_cells_that_may_be_empty(tmp_path: Path, change: dict[str, str]) -> None:
    assert compare(side(tmp_path, profile_csv(**change)), tmp_path).verdict.status == "no_difference"


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    assert "not UTF-8" in str(error_of(side(tmp_path, profile_csv().encode() + b"\xff\xfe\n")))


def test_header_without_rows(tmp_path: Path) -> None:
    assert "no rows" in str(error_of(side(tmp_path, ",".join(PROFILE_ROW) + "\n")))


def test_ragged_lines(tmp_path: Path) -> None:
    assert "well-formed" in str(error_of(side(tmp_path, profile_csv() + "1,2,3" + ",4" * 40 + "\n")))


def test_trace_without_spans(tmp_path: Path) -> None:
    error = error_of(write_trace(tmp_path / "t.json", {"traceEvents": []}))
    assert "no cycles found" in str(error)
    assert error.exit_code == 4


def test_trace_without_cycles(tmp_path: Path) -> None:
    trace = {"traceEvents": [span(f"once {'abcdefgh'[i]}", "user_annotation", 10.0 * i, 9) for i in range(8)]}
    error = error_of(write_trace(tmp_path / "t.json", trace))
    assert "no cycles found" in str(error)
    assert error.exit_code == 4


def test_spans_of_no_length(tmp_path: Path) -> None:
    trace = decode_trace(12)
    for event in trace["traceEvents"]:
        event["ts"], event["dur"] = 0, 0
    assert "no complete cycle" in str(error_of(write_trace(tmp_path / "t.json", trace)))


def test_negative_durations_are_said(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    trace = json.loads((abnormal / "rank0.json").read_text())
    trace["traceEvents"][1]["dur"] = -3
    write_trace(abnormal / "rank0.json", trace)
    assert any("negative duration" in warning for warning in compare(normal, abnormal).warnings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "t.json", decode_trace(5))
    path.chmod(0)
    assert "cannot be read" in str(error_of(path))


def test_a_folder_that_looks_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.json").mkdir()
    assert "empty folder" in str(error_of(tmp_path / "t.json"))


@pytest.mark.parametrize(
    ("counters", "problem"),
    [
        ("timestamp,metric,device\n1,a,b\n", "lacks the column value"),
        ("timestamp,metric,device,value\nnoon,a,b,1\n", "column timestamp holds 'noon'"),
        ("timestamp,metric,device,value\n-1,a,b,1\n", "not a time"),
        ("timestamp,metric,device,value\n1790857026,a,b,inf\n", "infinite"),
        ("counter_name,value\na,1\n", "lacks the column timestamp"),
    ],
)
def test_bad_counters(tmp_path: Path, counters: str, problem: str) -> None:
    normal, abnormal = write_pair(tmp_path)
    (abnormal / "counters.csv").write_text(counters)
    with pytest.raises(RcaError, match="counters.csv") as caught:
        compare(normal, abnormal)
    assert problem in str(caught.value)


@pytest.mark.parametrize(("scale", "unit"), [(1, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")])
def test_counter_times_in_any_unit(tmp_path: Path, scale: float, unit: str) -> None:
    normal, abnormal = write_pair(tmp_path)
    for folder in (normal, abnormal):
        lines = [f"{(1_790_857_026_000_000_000 + i * 20_000_000) / scale:.6f},x_usage,Host,{i}" for i in range(5)]
        (folder / "c.csv").write_text("timestamp,metric,device,value\n" + "\n".join(lines))
    (row,) = compare(normal, abnormal).ranks[0].metrics.iter_rows(named=True)
    assert row["n_normal"] == 4, f"the first {unit} sample lies before the first cycle"


def test_counter_units_are_converted(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    for folder, value, unit in ((normal, 2_000_000, "kHz"), (abnormal, 2.0, "GHz")):
        lines = [f"{1_790_857_026_000_000_000 + i * 5_000_000},cpu_frequency,CPU 0,{value},{unit}" for i in range(20)]
        (folder / "c.csv").write_text("timestamp,metric,device,value,unit\n" + "\n".join(lines))
    (row,) = compare(normal, abnormal).ranks[0].metrics.iter_rows(named=True)
    assert (row["normal"], row["abnormal"]) == (2000, 2000)


def mutated(content: bytes, seed: int, changes: int) -> bytes:
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(changes):
        action, at = rng.randrange(5), rng.randrange(max(len(data), 1))
        if action == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del data[at : at + rng.randrange(1, 200)]
        elif action == 2:
            data[at:at] = data[at : at + rng.randrange(1, 100)]
        elif action == 3:
            data[at:at] = rng.choice(
                [b"NaN", b"-1", b'"', b"{", b"]", b"null", b"1e999", b",", b"\n", b"\x00", b"99999999999999999999"]
            )
        else:
            del data[at + rng.randrange(1, len(data) + 2) :]
    return bytes(data)


GOOD = {
    "t.json": json.dumps(decode_trace(10)).encode(),
    "t.json.gz": gzip.compress(json.dumps(decode_trace(10)).encode(), mtime=0),
    "result_perf_data.csv": profile_csv().encode(),
    "counters.csv": b"timestamp,metric,device,value,unit\n"
    + b"".join(b"%d,host_cpu_usage,Host,%d,%%\n" % (1_790_857_026_000_000_000 + i * 10**7, i) for i in range(20)),
}


@pytest.mark.parametrize("name", GOOD)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 8))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_input_never_ends_in_a_traceback(tmp_path: Path, name: str, seed: int, changes: int) -> None:
    folder = tmp_path / "abnormal"
    folder.mkdir(exist_ok=True)
    if name == "counters.csv":
        write_trace(folder / "t.json", decode_trace(10))
    damaged = mutated(GOOD[name.removesuffix(".gz")] if seed % 2 else GOOD[name], seed, changes)
    if seed % 2 and name.endswith(".gz"):
        damaged = gzip.compress(damaged, mtime=0)  # the damage is inside
    (folder / name).write_bytes(damaged)
    good = tmp_path / "normal"
    good.mkdir(exist_ok=True)
    normal = side(good, profile_csv()) if name == "result_perf_data.csv" else write_trace(good / "n.json", decode_trace(10))
    try:
        result = compare(normal, folder)
    except RcaError as error:
        assert "\n" not in str(error)
        assert error.exit_code in (2, 4)
    else:
        assert ticket.render(result)
        assert machine.comparison_json(result)


def test_a_line_without_end_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"timestamp,metric,device,value\n" + b"a" * (40 << 20)))
    assert "has a line of more than 16 MiB" in str(error_of(tmp_path))
