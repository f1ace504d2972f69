"""The engine's own metrics, from its ``/metrics`` page: load, throughput and latencies (FORMATS.md §2.4, §3.4).

Totals become rates per second under their own name, as `rca.capture.readers.prometheus` has them; of a histogram comes the
mean of what was observed since the call before. Label sets (ranks, modes) are added up; of shares the largest counts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from collectors.sampling import Note, Rate, Sample
from collectors.server import Server, ServerError
from rca.capture.metrics import HOST

_NAMES = (
    "num_requests_(?:running|waiting)|num_running_reqs|num_queue_reqs|num_used_tokens|num_preemptions_total|num_retracted_reqs|"
    "(?:gpu_|kv_)?cache_usage_perc|token_usage|cache_hit_rate|gen_throughput|prefix_cache_(?:queries|hits)_total|"
    "(?:prompt|generation|cached|realtime)_tokens_total|iteration_tokens_total_(?:sum|count)|cuda_graph_passes_total|"
    "(?:request_success|num_requests)_total|(?:forward|gpu)_execution_seconds_total|scheduler_idle_seconds_total|"
    "(?:time_to_first_token|inter_token_latency|request_time_per_output_token|time_per_output_token|e2e_request_latency|"
    "request_queue_time|queue_time|request_prefill_time|request_decode_time)_seconds_(?:sum|count)"
)
_LINES = re.compile(rf"^(?:vllm|sglang):(?:{_NAMES})(?:\{{|\s).*$", re.MULTILINE)
_SHARES = re.compile(r"(?:usage|usage_perc|hit_rate)$")

_STEPS = ("vllm:iteration_tokens_total_count", "sglang:cuda_graph_passes_total")
_TOKENS = ("vllm:generation_tokens_total", "sglang:realtime_tokens_total", "sglang:generation_tokens_total")
"""What counts the engine's steps and its tokens; the first one that the page has."""


class Progress(NamedTuple):
    """What the engine had done at a time since it was started; None where its metrics do not tell."""

    ts_ns: int
    steps: float | None
    tokens: float | None


class EngineMetrics:
    """Scrapes one server. Attributes: ``history``: `Progress` of every scrape."""

    name = "engine"

    def __init__(self, hz: float, server: Server, now_ns: Callable[[], int], note: Note) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self.history: list[Progress] = []
        self._server = server
        self._now_ns = now_ns
        self._note = note
        self._rate = Rate()
        self._silent = False
        self._lock = threading.Lock()

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the values of this moment, and rates and means since the call before."""
        with self._lock:
            totals = self._scrape()
            return [made for name in sorted(totals) for made in self._samples(now_ns, name, totals)]

    def progress(self) -> Progress | None:
        """Return what the last scrape said."""
        return self.history[-1] if self.history else None

    def look(self) -> None:
        """Ask the engine now, for the history only."""
        with self._lock:
            self._scrape()

    def _scrape(self) -> dict[str, float]:
        """Return the totals, and remember the progress, as of the middle of the request."""
        asked_ns = self._now_ns()
        try:
            reply = self._server.get("/metrics")
            at_ns = (asked_ns + self._now_ns()) // 2
        except ServerError as error:
            if not self._silent:
                self._note("server_silent", str(error))
            self._silent = True
            return {}
        if self._silent:
            self._silent = False
            self._note("server_silent", f"{self._server.url} answers again")
        if reply.status != 200:
            why = f"the server has no /metrics page (HTTP {reply.status}); SGLang needs --enable-metrics"
            self.unavailable["engine metrics"] = why
            return {}
        totals = totals_of(reply.body.decode(errors="replace"))
        self.history.append(Progress(at_ns, _first_of(totals, _STEPS), _first_of(totals, _TOKENS)))
        return totals

    def _samples(self, now_ns: int, name: str, totals: dict[str, float]) -> list[Sample]:
        value = totals[name]
        if name.endswith("_sum"):
            base = name.removesuffix("_sum")
            observed = self._rate((name, "n"), now_ns, totals.get(f"{base}_count", 0.0))
            gained = self._rate(name, now_ns, value)
            unit = "s" if base.endswith("_seconds") else "tokens"
            return [Sample(now_ns, base, HOST, gained / observed, unit)] if observed and gained is not None else []
        if name.endswith(("_total", "_count")):
            per_second = self._rate(name, now_ns, value)
            unit = "s/s" if "_seconds_" in name and not name.endswith("_count") else "1/s"
            return [Sample(now_ns, name, HOST, per_second, unit)] if per_second is not None else []
        return [Sample(now_ns, name, HOST, value, "fraction" if _SHARES.search(name) else "")]

    def close(self) -> None:
        """Nothing is open."""


def totals_of(page: str) -> dict[str, float]:
    """Return the wanted series of a page, label sets put together."""
    found: dict[str, float] = {}
    lines = [match[0] for match in _LINES.finditer(page)]
    for one in _parsed(lines):
        if _SHARES.search(one.name):
            found[one.name] = max(found.get(one.name, 0.0), one.value)
        else:
            found[one.name] = found.get(one.name, 0.0) + one.value
    return found


def _parsed(lines: list[str]) -> list[Any]:
    """Return the samples of the lines; one that is none is left out."""
    try:
        return [one for family in text_string_to_metric_families("\n".join(lines) + "\n") for one in family.samples]
    except ValueError:
        return [one for line in lines for one in _parsed([line])] if len(lines) > 1 else []


def _first_of(totals: dict[str, float], names: tuple[str, ...]) -> float | None:
    return next((totals[name] for name in names if name in totals), None)
