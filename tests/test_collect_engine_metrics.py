"""Metrics of engines, scraped from pages in the style of vLLM and SGLang."""

from __future__ import annotations

import pytest
from sampling_tools import (
    SECOND,
    Notes,
    Now,
    Page,
    values,
)

from collectors.samplers.engine import EngineMetrics, totals_of
from collectors.server import Server
from rca.capture.metrics import HOST

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} 2.0
vllm:num_requests_running{{engine="1",model_name="m"}} 3.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.25
vllm:kv_cache_usage_perc{{engine="1",model_name="m"}} 0.5
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
vllm:generation_tokens_total{{engine="1",model_name="m"}} 10.0
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{{engine="0",model_name="m"}} 1.7e+09
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.1",model_name="m"}} 4.0
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="m"}} 4.0
vllm:time_to_first_token_seconds_count{{engine="0",model_name="m"}} {first}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="m"}} {first_sum}
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_count{{engine="0",model_name="m"}} {steps}
vllm:iteration_tokens_total_sum{{engine="0",model_name="m"}} {step_tokens}
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 99.0
"""
BEFORE = VLLM.format(tokens=100.0, first=4.0, first_sum=2.0, steps=50.0, step_tokens=400.0)
AFTER = VLLM.format(tokens=700.0, first=8.0, first_sum=3.0, steps=150.0, step_tokens=1200.0)

SGLANG = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",tp_rank="0"} 7.0
# TYPE sglang:token_usage gauge
sglang:token_usage{tp_rank="0"} 0.31
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{tp_rank="0"} 512.5
# TYPE sglang:realtime_tokens_total counter
sglang:realtime_tokens_total{mode="decode",tp_rank="0"} 30.0
sglang:realtime_tokens_total{mode="prefill_compute",tp_rank="0"} 12.0
# TYPE sglang:cuda_graph_passes_total counter
sglang:cuda_graph_passes_total{mode="decode_cuda_graph"} 5.0
sglang:cuda_graph_passes_total{mode="prefill_none"} 1.0
"""


class TestEngineMetrics:
    def test_label_sets_are_put_together(self) -> None:
        assert totals_of(BEFORE) == {
            "vllm:num_requests_running": 5,
            "vllm:kv_cache_usage_perc": 0.5,
            "vllm:generation_tokens_total": 110,
            "vllm:time_to_first_token_seconds_count": 4,
            "vllm:time_to_first_token_seconds_sum": 2,
            "vllm:iteration_tokens_total_count": 50,
            "vllm:iteration_tokens_total_sum": 400,
        }
        assert totals_of(SGLANG) == {
            "sglang:num_running_reqs": 7,
            "sglang:token_usage": 0.31,
            "sglang:gen_throughput": 512.5,
            "sglang:realtime_tokens_total": 42,
            "sglang:cuda_graph_passes_total": 6,
        }
        assert totals_of("") == {}

    @pytest.mark.parametrize("line", ['vllm:num_requests_running{engine="0', "vllm:num_requests_running nothing"])
    def test_a_line_that_is_no_sample_is_left_out(self, line: str) -> None:
        assert totals_of(f"{SGLANG}{line}\n").keys() == totals_of(SGLANG).keys()

    def test_totals_become_rates_and_histograms_means(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            first = metrics.sample(now(1))
            page.text = AFTER
            samples = metrics.sample(now(3))
        assert {one.metric for one in first} == {"vllm:num_requests_running", "vllm:kv_cache_usage_perc"}
        assert {one.metric: (one.value, one.unit) for one in samples} == {
            "vllm:num_requests_running": (5, ""),
            "vllm:kv_cache_usage_perc": (0.5, "fraction"),
            "vllm:generation_tokens_total": (300, "1/s"),
            "vllm:time_to_first_token_seconds": (0.25, "s"),
            "vllm:time_to_first_token_seconds_count": (2, "1/s"),
            "vllm:iteration_tokens_total": (8, "tokens"),
            "vllm:iteration_tokens_total_count": (50, "1/s"),
        }
        assert {(one.device, one.pid, one.ts_ns) for one in samples} == {(HOST, None, 3 * SECOND)}
        assert metrics.history == [(SECOND, 50, 110), (3 * SECOND, 150, 710)]

    def test_steps_and_tokens_of_sglang_are_known_too(self) -> None:
        with Page(SGLANG) as page:
            metrics = EngineMetrics(1, Server(page.url), Now(), Notes())
            metrics.look()
        assert metrics.progress() == (SECOND, 6, 42)

    def test_a_histogram_without_new_values_has_no_mean(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            metrics.sample(now(1))
            names = {one.metric for one in metrics.sample(now(2))}
        assert "vllm:time_to_first_token_seconds_count" in names
        assert "vllm:time_to_first_token_seconds" not in names

    def test_a_look_between_two_samples_does_not_shorten_their_time(self) -> None:
        now = Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, Notes())
            metrics.sample(now(1))
            page.text = AFTER
            now(2)
            metrics.look()
            samples = metrics.sample(now(3))
        assert metrics.history[1:] == [(2 * SECOND, 150, 710), (3 * SECOND, 150, 710)]
        assert values(samples, "vllm:generation_tokens_total") == [300]

    def test_silence_is_noted_once_and_so_is_its_end(self) -> None:
        notes, now = Notes(), Now()
        with Page(BEFORE) as page:
            metrics = EngineMetrics(1, Server(page.url), now, notes)
            metrics.sample(now(1))
            assert notes == []
            page.stop()
            assert metrics.sample(now(2)) == metrics.sample(now(3)) == []
            metrics.look()
            assert metrics.history == [(SECOND, 50, 110)]
            assert notes.kinds() == ["server_silent"]
            page.text = AFTER
            page.start()
            assert values(metrics.sample(now(4)), "vllm:generation_tokens_total") == [200]
            metrics.sample(now(5))
        assert notes.kinds() == ["server_silent", "server_silent"]
        assert notes[1][1] == f"{page.url} answers again"

    def test_a_server_without_the_page_says_why(self) -> None:
        notes = Notes()
        with Page(status=404) as page:
            metrics = EngineMetrics(1, Server(page.url), Now(), notes)
            assert metrics.sample(SECOND) == []
        assert "--enable-metrics" in metrics.unavailable["engine metrics"]
        assert notes == []
        assert metrics.progress() is None
