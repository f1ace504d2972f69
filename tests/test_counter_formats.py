"""Counters from other tools. Every expected number is worked out by hand from the text above it."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import polars as pl
import pytest
from test_bad_input import mutated
from traces import read_with

from rca.capture.bytes_in import head
from rca.capture.model import Clock, Reading
from rca.capture.readers import counters, counters_parquet, dcgm, nvidia_smi, prometheus
from rca.capture.readers.counter_units import meaning_of
from rca.capture.source import Probe
from rca.capture.tables import COUNTERS
from rca.errors import InputError

S = 10**9
AT = 1_795_238_504 * S  # 2026-11-21 05:21:44 UTC: date -ud '2026-11-21 05:21:44' +%s
READERS = (nvidia_smi, dcgm, prometheus, counters_parquet, counters)


def claimed(path: Path) -> list[str]:
    probe = Probe(path, path.read_bytes()[: 1 << 16])
    return [reader.NAME for reader in READERS if reader.matches(probe)]


def rows(reading: Reading) -> list[tuple[object, ...]]:
    table = reading.counters
    assert table.schema == pl.DataFrame(schema=COUNTERS).schema
    table = table.with_columns(pl.col("metric", "device", "unit").cast(pl.String), pl.col("value").round(6))
    return table.sort("ts_ns", "metric", "device", "pid").select("ts_ns", "metric", "device", "pid", "value", "unit").rows()


def read_text(folder: Path, reader, text: str, name: str = "x.txt") -> Reading:
    path = folder / name
    path.write_text(text)
    assert claimed(path)[0] == reader.NAME
    return read_with(reader, path)


def codes(reading: Reading) -> list[str]:
    return [finding.code for finding in reading.findings]


SMI = """\
timestamp, index, name, pstate, utilization.gpu [%], clocks.current.sm [MHz], \
power.draw [W], memory.used [MiB], temperature.gpu, clocks_throttle_reasons.active
2026/11/21 05:21:44.123, 0, NVIDIA H200, P0, 35 %, 1410 MHz, 250.11 W, 2 MiB, 45, 0x0000000000000004
2026/11/21 05:21:44.125, 1, NVIDIA H200, P0, 0 %, 210 MHz, [N/A], [Not Supported], 31, 0x0000000000000001
2026/11/21 05:21:45.123, 0, NVIDIA H200, P0, 36 %, 1411 MHz, 251.00 W, 3 MiB, 46, 0x0000000000000000
"""


def test_nvidia_smi_query(tmp_path: Path) -> None:
    reading = read_text(tmp_path, nvidia_smi, SMI)
    assert reading.clock is Clock.UNIX
    assert codes(reading) == ["clock_offset"]
    first = AT + 123_000_000
    assert rows(reading)[:6] == [
        (first, "gpu_mem_used", "GPU 0", None, 2 * 1024**2, "bytes"),
        (first, "gpu_power", "GPU 0", None, 250.11, "W"),
        (first, "gpu_sm_frequency", "GPU 0", None, 1410.0, "MHz"),
        (first, "gpu_temp", "GPU 0", None, 45.0, "°C"),
        (first, "gpu_throttle_reasons", "GPU 0", None, 4.0, ""),
        (first, "gpu_usage", "GPU 0", None, 35.0, "%"),
    ]
    assert reading.counters.height == 6 + 4 + 6, "what a GPU does not support is a gap"


def test_nvidia_smi_without_units(tmp_path: Path) -> None:
    text = SMI.replace(" MHz", "").replace(" %", "").replace(" W", "").replace(" MiB", "")
    assert rows(read_text(tmp_path, nvidia_smi, text)) == rows(read_text(tmp_path, nvidia_smi, SMI))


def test_nvidia_smi_without_header(tmp_path: Path) -> None:
    text = "".join(
        f"2026/11/21 05:21:4{i}.000, {gpu}, 1{i} %, {100 + i}.5 W, 1400 MHz, 1500 MHz, 40\n"
        for i in range(3)
        for gpu in (0, 1)
    )
    reading = read_text(tmp_path, nvidia_smi, text)
    assert [row[1:5] for row in rows(reading)[:4]] == [
        ("gpu_power", "GPU 0", None, 100.5),
        ("gpu_power", "GPU 1", None, 100.5),
        ("gpu_usage", "GPU 0", None, 10.0),
        ("gpu_usage", "GPU 1", None, 10.0),
    ]
    assert codes(reading) == ["skipped", "clock_offset"]
    assert "3 of 6 cannot be told" in reading.findings[0].text


def test_nvidia_smi_gpus_by_uuid_and_by_nothing(tmp_path: Path) -> None:
    text = "timestamp, uuid, power.draw [W]\n2026/11/21 05:21:44.000, GPU-b, 1 W\n2026/11/21 05:21:44.001, GPU-a, 2 W\n"
    assert [row[2] for row in rows(read_text(tmp_path, nvidia_smi, text))] == ["GPU 0", "GPU 1"]
    one = "timestamp, power.draw [W]\n" + "".join(f"2026/11/21 05:21:{i}.00{i % 7}, 1 W\n" for i in range(10, 20))
    assert {row[2] for row in rows(read_text(tmp_path, nvidia_smi, one))} == {"GPU 0"}
    two = "timestamp, power.draw [W]\n" + "".join(f"2026/11/21 05:21:{i // 2}.00{i % 2}, 1 W\n" for i in range(20, 40))
    assert {row[2] for row in rows(read_text(tmp_path, nvidia_smi, two))} == {"all GPUs"}


DMON_DT = """\
#Date       Time        gpu    pwr  gtemp  mtemp     sm    mem   mclk   pclk     fb  rxpci  txpci
#YYYYMMDD   HH:MM:SS    Idx      W      C      C      %      %    MHz    MHz     MB   MB/s   MB/s
 20261121   05:21:44      0    250     45      -     90     30   1593   1410     10      2      3
 20261121   05:21:44      1     60     31      -      0      0   1593    210      1      0      0
#Date       Time        gpu    pwr  gtemp  mtemp     sm    mem   mclk   pclk     fb  rxpci  txpci
#YYYYMMDD   HH:MM:SS    Idx      W      C      C      %      %    MHz    MHz     MB   MB/s   MB/s
 20261121   05:21:45      0    251     45      -     91     30   1593   1410     10      2      3
 20261121   05:21:45      1     6"""


def test_dmon_with_dates(tmp_path: Path) -> None:
    reading = read_text(tmp_path, nvidia_smi, DMON_DT)
    assert reading.clock is Clock.UNIX
    assert codes(reading) == ["truncated", "clock_offset"]
    assert [row[1:] for row in rows(reading) if row[:3:2] == (AT, "GPU 0")] == [
        ("gpu_frequency", "GPU 0", None, 1410.0, "MHz"),
        ("gpu_mem_frequency", "GPU 0", None, 1593.0, "MHz"),
        ("gpu_mem_used", "GPU 0", None, 10 * 1024**2, "bytes"),
        ("gpu_mem_util", "GPU 0", None, 30.0, "%"),
        ("gpu_pcie_receive", "GPU 0", None, 2e6, "bytes/s"),
        ("gpu_pcie_transmit", "GPU 0", None, 3e6, "bytes/s"),
        ("gpu_power", "GPU 0", None, 250.0, "W"),
        ("gpu_temp", "GPU 0", None, 45.0, "°C"),
        ("gpu_usage", "GPU 0", None, 90.0, "%"),
    ]
    assert reading.counters.height == 27, "three whole rows of nine values"


def test_dmon_without_times_has_a_clock_of_its_own(tmp_path: Path) -> None:
    text = "# gpu   pwr\n# Idx     W\n    0    70\n    1    60\n    0    71\n# gpu   pwr\n# Idx     W\n    1    61\n"
    reading = read_text(tmp_path, nvidia_smi, text)
    assert reading.clock is Clock.OWN
    assert [(row[0], row[2], row[4]) for row in rows(reading)] == [
        (0, "GPU 0", 70.0), (0, "GPU 1", 60.0), (S, "GPU 0", 71.0), (S, "GPU 1", 61.0),
    ]  # fmt: skip


def test_dmon_with_times_of_day_passes_midnight(tmp_path: Path) -> None:
    text = "#Time        gpu   pwr\n#HH:MM:SS    Idx     W\n 23:59:59      0    70\n 00:00:00      0    71\n"
    reading = read_text(tmp_path, nvidia_smi, text)
    assert reading.clock is Clock.OWN
    assert [row[0] for row in rows(reading)] == [86_399 * S, 86_400 * S]


def test_pmon(tmp_path: Path) -> None:
    text = (
        "#Date       Time        gpu         pid   type     sm    mem     fb   command\n"
        "#YYYYMMDD   HH:MM:SS    Idx           #    C/G      %      %     MB   name\n"
        " 20261121   05:21:44      0      123456     C     90     50      7   python3 -m x\n"
        " 20261121   05:21:44      1           -     -      -      -      -   -\n"
    )
    assert [row[1:] for row in rows(read_text(tmp_path, nvidia_smi, text))] == [
        ("process_gpu_mem_usage", "GPU 0", 123456, 7 * 1024**2, "bytes"),
        ("process_gpu_mem_util", "GPU 0", 123456, 50.0, "%"),
        ("process_gpu_usage", "GPU 0", 123456, 90.0, "%"),
    ]


def test_dcgmi_dmon(tmp_path: Path) -> None:
    text = (
        "#Entity   SMCLK                       SMACT                       PCITX                       TOTEC\n"
        "ID\n"
        "GPU 0     1410                        0.512                       1000                        1000\n"
        "GPU-I 0   N/A                         0.9                         N/A                         N/A\n"
        "GPU 1     210                         N/A                         0                           5\n"
        "GPU 0     1411                        0.5                         1001                        251000\n"
    )
    reading = read_text(tmp_path, dcgm, text)
    assert reading.clock is Clock.OWN
    assert [row[:5] for row in rows(reading) if row[2] == "GPU 0"] == [
        (0, "gpu_pcie_transmit", "GPU 0", None, 1000.0),
        (0, "gpu_sm_frequency", "GPU 0", None, 1410.0),
        (0, "gpu_sm_util", "GPU 0", None, 0.512),
        (S, "gpu_pcie_transmit", "GPU 0", None, 1001.0),
        (S, "gpu_power_from_energy", "GPU 0", None, 250.0),
        (S, "gpu_sm_frequency", "GPU 0", None, 1411.0),
        (S, "gpu_sm_util", "GPU 0", None, 0.5),
    ], "250,000 mJ in a second are 250 W"
    assert [row[1:5] for row in rows(reading) if row[2] == "GPU 1"] == [
        ("gpu_pcie_transmit", "GPU 1", None, 0.0),
        ("gpu_sm_frequency", "GPU 1", None, 210.0),
    ]


def test_dcgm_csv(tmp_path: Path) -> None:
    text = "timestamp,gpu,DCGM_FI_DEV_FB_USED,DCGM_FI_DEV_GPU_UTIL\n1795238504,3,2,50\n1795238505,3,2,\n"
    assert rows(read_text(tmp_path, dcgm, text)) == [
        (AT, "gpu_mem_used", "GPU 3", None, 2 * 1024**2, "bytes"),
        (AT, "gpu_usage", "GPU 3", None, 50.0, "%"),
        (AT + S, "gpu_mem_used", "GPU 3", None, 2 * 1024**2, "bytes"),
    ]
    text = (
        'Time,"DCGM_FI_DEV_GPU_TEMP{gpu=""5""}"\n2026-11-21 05:21:44,40\n'.replace('""', '"')
        .replace('"D', "D")
        .replace('}"', "}")
    )
    assert rows(read_text(tmp_path, dcgm, text)) == [(AT, "gpu_temp", "GPU 5", None, 40.0, "°C")]


@pytest.mark.parametrize(
    "time",
    ["1795238504", "1795238504000", "1795238504000000", "1795238504000000000", "2026-11-21T05:21:44Z",
     "2026-11-21 07:21:44+02:00", "2026-11-21T00:21:44.000-0500", "2026/11/21 05:21:44"],
)  # fmt: skip
def test_wide_csv_in_any_time_and_unit(tmp_path: Path, time: str) -> None:
    text = (
        "ts,gpu_power [W],gpu1_power (mW),sm_clock [GHz],cpu_percent,mem_used_by_me,vllm:num_requests_running,note,"
        "net_bytes_sent\n"
        f"{time},100 W,2500,1.41,12.5,1 GiB,3,hello,\n"
        f"{time},200000 mW,n/a,1410 MHz,oops,,nan,,\n"
    )
    reading = read_text(tmp_path, counters, text, "c.csv")
    assert {row[0] for row in rows(reading)} == {AT}
    by_metric: dict[tuple[object, ...], list[object]] = {}
    for _, metric, device, _, value, unit in rows(reading):
        by_metric.setdefault((metric, device, unit), []).append(value)
    assert {key: sorted(values) for key, values in by_metric.items()} == {  # type: ignore[type-var]
        ("gpu_power", "GPU 1", "W"): [2.5],
        ("gpu_power", "all GPUs", "W"): [100.0, 200.0],
        ("gpu_sm_frequency", "all GPUs", "MHz"): [1410.0, 1410.0],
        ("host_cpu_usage", "Host", "%"): [12.5],
        ("mem_used_by_me", "Host", "bytes"): [1024.0**3],
        ("vllm:num_requests_running", "Host", ""): [3.0],
    }
    assert ("clock_offset" in codes(reading)) == (time == "2026/11/21 05:21:44")
    (bad,) = [finding for finding in reading.findings if finding.code == "bad_values"]
    assert bad.text.startswith("1 values"), "'oops'"


def test_wide_csv_with_devices_and_processes(tmp_path: Path) -> None:
    text = "time,gpu,pid,utilization.gpu,process_gpu_usage,cpu_percent\n1795238504,2,77,50,40,9\n"
    path = tmp_path / "c.csv"
    path.write_text(text)
    assert rows(read_with(counters, path)) == [
        (AT, "gpu_usage", "GPU 2", 77, 50.0, "%"),
        (AT, "host_cpu_usage", "Host", 77, 9.0, "%"),
        (AT, "process_gpu_usage", "GPU 2", 77, 40.0, "%"),
    ]


def test_totals_of_a_wide_csv_become_rates(tmp_path: Path) -> None:
    text = "time,net_bytes_sent\n1795238504,1000\n1795238506,5000\n1795238507,10\n1795238508,30\n"
    assert rows(read_text(tmp_path, counters, text, "c.csv")) == [
        (AT + 2 * S, "net_tx_rate", "Host", None, 2000.0, "bytes/s"),
        (AT + 4 * S, "net_tx_rate", "Host", None, 20.0, "bytes/s"),
    ], "(5000 - 1000) / 2 s; the reset is left out"


def test_times_that_do_not_count_from_1970(tmp_path: Path) -> None:
    reading = read_text(tmp_path, counters, "time,gpu_power\n0,1\n0.5,2\n1,3\n", "c.csv")
    assert (reading.clock, [row[0] for row in rows(reading)]) == (Clock.OWN, [0, S // 2, S])


def test_long_csv_speaks_our_words(tmp_path: Path) -> None:
    text = "timestamp,metric,device,value,unit\n1795238504,utilization.gpu,0,5,\n1795238504,gpu_power,cuda:1,2500,mW\n"
    assert rows(read_text(tmp_path, counters, text, "c.csv")) == [
        (AT, "gpu_power", "GPU 1", None, 2.5, "W"),
        (AT, "gpu_usage", "GPU 0", None, 5.0, "%"),
    ]


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "time,x\n1,2\n", "start,time,gpu_power\n", "date\n", '{"traceEvents": []}', ""]
)
def test_strangers_are_not_claimed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    assert [name for name in claimed(path) if text != "start,time,gpu_power\n"] == []


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two columns of one name"):
        read_text(tmp_path, counters, "time,gpu_power, gpu_power\n1795238504,1,2\n", "c.csv")


def test_parquet_long_and_wide(tmp_path: Path) -> None:
    long = pl.DataFrame(
        {
            "ts_ns": [AT + 1, AT + 2],
            "metric": ["gpu_sm_frequency", "process_mem_rss"],
            "device": ["GPU 0", "Host"],
            "value": [1.41, 5.0],
            "unit": ["GHz", "bytes"],
            "pid": [None, 8],
        }
    ).with_columns(pl.col("metric").cast(pl.Categorical))
    long.write_parquet(tmp_path / "long.parquet")
    assert claimed(tmp_path / "long.parquet") == ["counters-parquet"]
    assert rows(read_with(counters_parquet, tmp_path / "long.parquet")) == [
        (AT + 1, "gpu_sm_frequency", "GPU 0", None, 1410.0, "MHz"),
        (AT + 2, "process_mem_rss", "Host", 8, 5.0, "bytes"),
    ], "ns are kept to the last one"
    wide = pl.DataFrame({"time": [AT // 1000], "gpu": [3], "power.draw": [100.5]}).with_columns(
        pl.col("time").cast(pl.Datetime("us"))
    )
    wide.write_parquet(tmp_path / "wide.parquet")
    assert rows(read_with(counters_parquet, tmp_path / "wide.parquet")) == [(AT, "gpu_power", "GPU 3", None, 100.5, "W")]


def test_other_parquet_files_are_not_counters(tmp_path: Path, shared_data: Path) -> None:
    pl.DataFrame({"start": [1], "end": [2], "nameId": [3]}).write_parquet(tmp_path / "x.parquet")
    assert claimed(tmp_path / "x.parquet") == []
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and then nothing")
    assert claimed(tmp_path / "y.parquet") == []
    files = sorted((shared_data / "traces" / "parquet").glob("*.parquet"))
    assert files
    assert [claimed(path) for path in files] == [[]] * len(files)


def test_no_other_shared_file_is_claimed(shared_data: Path) -> None:
    for path in sorted(shared_data.rglob("*")):
        if path.suffix in (".log", ".txt", ".csv", ".sqlite", ".parquet") and path.name != "metrics.txt":
            probe = Probe(path, head(path))
            names = [reader.NAME for reader in READERS if reader.matches(probe)]
            assert names == (["counters"] if path.name == "result_counters_data.csv" else []), path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("clocks.sm [MHz]", ("gpu_sm_frequency", "MHz")),
        ("GPU use (%)", ("gpu_usage", "%")),
        ("gpu_power_watts", ("gpu_power", "W")),
        ("Temperature (Sensor junction) (C)", ("gpu_temp", "C")),
        ("sglang:token_usage", ("sglang:token_usage", "")),
        ("DCGM_FI_PROF_NVLINK_TX_BYTES", ("gpu_link_transmit", "bytes/s")),
        ("average_gfx_activity", ("gpu_usage", "%")),
        ("gpu_temp", ("gpu_temp", "°C")),
    ],
)
def test_names(header: str, expected: tuple[str, str]) -> None:
    assert meaning_of(header)[:2] == expected


GOOD = [
    (nvidia_smi, SMI),
    (nvidia_smi, DMON_DT),
    (dcgm, "#Entity   SMCLK   SMACT\nID\n" + "GPU 0   1410   0.5\nGPU 1   N/A   0.1\n" * 10),
    (counters, "ts,gpu,power.draw [W],cpu_percent\n" + "".join(f"{1795238504 + i},{i % 2},100,5\n" for i in range(20))),
    (counters, "time,gpu_power\n" + "".join(f"2026-11-21T05:21:{i}Z,{i}\n" for i in range(10, 30))),
]


@pytest.mark.parametrize(("reader", "text"), GOOD, ids=lambda value: getattr(value, "NAME", ""))
def test_fuzz(tmp_path: Path, reader, text: str) -> None:
    survives_mutation(reader, text, tmp_path)


def survives_mutation(reader, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    noticed = 0
    for seed in range(250):
        path.write_bytes(mutated(text.encode(), seed, random.Random(seed).randrange(1, 8)))
        try:
            reading = read_with(reader, path)
        except InputError as error:
            assert "\n" not in str(error)
            noticed += 1
        else:
            assert reading.counters.schema == pl.DataFrame(schema=COUNTERS).schema
            assert reading.counters["value"].is_finite().all()
            noticed += bool(reading.findings)
    assert noticed > 20


def test_fuzz_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"ts_ns": [AT] * 50, "metric": ["a"] * 50, "device": ["Host"] * 50, "value": [1.0] * 50}).write_parquet(
        path
    )
    good = path.read_bytes()
    noticed = 0
    for seed in range(150):
        path.write_bytes(mutated(good, seed, 3))
        if not counters_parquet.matches(Probe(path, path.read_bytes()[: 1 << 16])):
            continue
        try:
            read_with(counters_parquet, path)
        except InputError:
            noticed += 1
    assert noticed


def test_a_cut_gzip_gives_the_lines_before_the_cut(tmp_path: Path) -> None:
    lines = "".join(f"2026/11/21 05:{i // 60:02d}:{i % 60:02d}.{i:03d}, 0, {i % 97} %\n" for i in range(900))
    packed = gzip.compress(f"timestamp, index, utilization.gpu [%]\n{lines}".encode(), mtime=0)
    path = tmp_path / "smi.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    reading = read_with(nvidia_smi, path)
    values = reading.counters["value"].to_list()
    assert values == [i % 97 for i in range(len(values))]
    assert 200 < len(values) < 700
    assert codes(reading) == ["truncated", "clock_offset"]
