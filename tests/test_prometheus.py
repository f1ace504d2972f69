"""Prometheus' API replies and metrics pages. Every expected number is worked out by hand from the text above it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_counter_formats import AT, S, claimed, codes, read_text, rows, survives_mutation
from traces import read_with

from rca.capture.model import Clock
from rca.capture.readers import prometheus
from rca.errors import InputError


def reply(*series: dict, kind: str = "matrix") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": list(series)}})


def test_prometheus_range(tmp_path: Path) -> None:
    text = reply(
        {
            "metric": {"__name__": "DCGM_FI_DEV_FB_USED", "gpu": "3", "UUID": "GPU-x", "Hostname": "n"},
            "values": [[1795238504, "2"], [1795238505.5, "NaN"], [1795238506.25, "4"]],
        },
        {
            "metric": {"__name__": "vllm:prompt_tokens_total", "engine": "0"},
            "values": [[1795238504, "100"], [1795238506, "300"], [1795238508, "50"], [1795238510, "70"]],
        },
        {"metric": {"__name__": "node_cpu_scaling_frequency_hertz", "cpu": "7"}, "values": [[1795238504, "2.1e9"]]},
        {"metric": {"__name__": "x_bucket", "le": "1"}, "values": [[1795238504, "1"]]},
    )
    reading = read_text(tmp_path, prometheus, text, "q.json")
    assert reading.clock is Clock.UNIX
    assert rows(reading) == [
        (AT, "cpu_frequency", "CPU 7", None, 2100.0, "MHz"),
        (AT, "gpu_mem_used", "GPU 3", None, 2 * 1024**2, "bytes"),
        (AT + 2 * S, "vllm:prompt_tokens_total", "Host", None, 100.0, "1/s"),
        (AT + 2_250_000_000, "gpu_mem_used", "GPU 3", None, 4 * 1024**2, "bytes"),
        (AT + 6 * S, "vllm:prompt_tokens_total", "Host", None, 10.0, "1/s"),
    ], "(300 - 100) / 2 s, a reset, (70 - 50) / 2 s"
    assert [finding.text for finding in reading.findings] == ["1 values are NaN, infinite or no numbers; left out"]


def test_prometheus_series_that_share_a_name_stay_apart(tmp_path: Path) -> None:
    text = reply(
        *(
            {
                "metric": {"__name__": "sglang:num_running_reqs", "tp_rank": rank, "model_name": "m"},
                "value": [1795238504, rank],
            }
            for rank in "01"
        ),
        kind="vector",
    )
    assert [row[2:5] for row in rows(read_text(tmp_path, prometheus, text))] == [
        ("Host {tp_rank=0}", None, 0.0),
        ("Host {tp_rank=1}", None, 1.0),
    ]


def test_prometheus_replies_without_samples(tmp_path: Path) -> None:
    error = '{"status":"error","errorType":"bad_data","error":"parse error\\nat char 3"}'
    with pytest.raises(InputError, match="bad_data: parse error at char 3"):
        read_text(tmp_path, prometheus, error)
    scalar = '{"status":"success","data":{"resultType":"scalar","result":[1795238504,"1"]}}'
    assert codes(read_text(tmp_path, prometheus, scalar)) == ["skipped"]
    assert rows(read_text(tmp_path, prometheus, reply())) == []
    with pytest.raises(InputError, match="no reply of Prometheus"):
        read_text(tmp_path, prometheus, reply({"metric": {}, "values": [[1, 2]]})[:-3])


PAGE = """\
# HELP vllm:num_requests_running Requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a{b}"} 3.0 1795238504000
vllm:num_requests_running{engine="0",model_name="a{b}"} 4.0 1795238505000
"""


def test_prometheus_page(tmp_path: Path) -> None:
    assert [row[0:5:2] for row in rows(read_text(tmp_path, prometheus, PAGE))] == [(AT, "Host", 3.0), (AT + S, "Host", 4.0)]
    reading = read_text(tmp_path, prometheus, PAGE.replace(" 1795238504000", "").replace(" 1795238505000", ""))
    assert rows(reading) == []
    assert codes(reading) == ["summary_only"]
    assert "2 values" in reading.findings[0].text


@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_pages_of_servers(shared_data: Path, server: str) -> None:
    path = shared_data / "own" / server / "metrics.txt"
    assert claimed(path) == ["prometheus"]
    reading = read_with(prometheus, path)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert reading.findings[0].text.startswith(f"one instant of {len(lines):,} values")


@pytest.mark.parametrize(
    "text",
    [PAGE, reply({"metric": {"__name__": "up", "gpu": "0"}, "values": [[1795238504 + i, str(i)] for i in range(20)]})],
    ids=["page", "reply"],
)
def test_fuzz(tmp_path: Path, text: str) -> None:
    survives_mutation(prometheus, text, tmp_path)
