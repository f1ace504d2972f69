"""The signals that the catalogue of causes speaks of: what each is read from, and the smallest change of it that matters.

A signal is a physical quantity, not a counter: the CPU time of *other* programs is the host's less the server's own. Changes
below ``least`` (absolute, in the signal's unit) or ``least_share`` (of the smaller side's value) are of no matter to a
server even where a test finds them; each number is a judgement of how machines work, none was fitted to cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rca.capture.tables import HOST
from rca.verdict.recorded import Recorded, Samples

Read = Callable[[Recorded, str], Samples | None]


@dataclass(frozen=True)
class Signal:
    """One quantity, per host or per GPU.

    Attributes:
        id: its name in the catalogue.
        text: what it is, for a sentence.
        unit: of its values.
        metrics: the counters it is read from, the telling one first.
        least: smallest change that matters, in ``unit``.
        least_share: the same as a share of the smaller side's value; the larger of the two counts.
        per_gpu: one for each GPU in use, instead of one for the host.
        read: returns its values on one side; None where it was not sampled.
    """

    id: str
    text: str
    unit: str
    metrics: tuple[str, ...]
    least: float
    least_share: float
    per_gpu: bool
    read: Read


def _one(*alternatives: str) -> Read:
    """Read the first of several counters that was sampled."""

    def read(side: Recorded, device: str) -> Samples | None:
        for metric in alternatives:
            if found := side.read((metric, device)):
                return found[0]
        return None

    return read


def _sum(*metrics: str) -> Read:
    """Add up those of several counters that were sampled."""

    def read(side: Recorded, device: str) -> Samples | None:
        known = [(metric, device) for metric in metrics if side.read((metric, device))]
        found = side.read(*known) if known else None
        return Samples(np.sum([one.value for one in found], axis=0), min(one.worth for one in found)) if found else None

    return read


def _per(counted: str, of: str) -> Read:
    """Divide two rates; stretches in which nothing was counted say nothing."""

    def read(side: Recorded, device: str) -> Samples | None:
        found = side.read((counted, device), (of, device))
        if not found:
            return None
        above, below = found
        some = below.value > 0
        value = above.value[some] / below.value[some]
        return Samples(value, min(above.worth, float(some.sum()))) if len(value) > 1 else None

    return read


def _any(*reads: Read) -> Read:
    return lambda side, device: next((found for read in reads if (found := read(side, device)) is not None), None)


def _others_cpu(side: Recorded, _: str) -> Samples | None:
    """CPU time of all programs but the server's, in % of all cores; None where the server's own is not known."""
    both = side.read(("host_cpu_usage", HOST), ("process_cpu_usage", HOST)) if side.own_cpu_share else None
    if both is None:
        return None
    host, own = both
    return Samples(np.maximum(host.value - own.value * side.own_cpu_share, 0), min(host.worth, own.worth))


def _all_cpu(side: Recorded, _: str) -> Samples | None:
    """CPU time of the host, where the server's own cannot be taken off."""
    return None if _others_cpu(side, HOST) else _one("host_cpu_usage")(side, HOST)


def _waiting(side: Recorded, _: str) -> Samples | None:
    """Time that runnable threads of the server waited for a core, in % of the time that they could have run."""
    found = side.read(("process_runq_wait", HOST), ("process_cpu_usage", HOST)) if not side.cut_before else None
    if not found:
        return None
    wait, ran = found
    return Samples(100 * wait.value / np.maximum(wait.value + ran.value, 1e-9), min(wait.worth, ran.worth))


def _gpu_others(side: Recorded, device: str) -> Samples | None:
    """Time in which kernels of other processes ran, in %: what is left of the GPU's usage without the server's."""
    found = side.read(("gpu_usage", device), ("process_gpu_usage", device))
    if not found:
        return None
    return Samples(np.maximum(found[0].value - found[1].value, 0), min(one.worth for one in found))


_FRACTIONS = ("gpu_sm_util", "gpu_sm_occupancy", "gpu_dram_util")
"""Counters that drivers give as fractions and some tools in %."""


def _share(*alternatives: str) -> Read:
    """Read the first of several shares that was sampled, in %."""

    def read(side: Recorded, device: str) -> Samples | None:
        for metric in alternatives:
            if found := side.read((metric, device)):
                fraction = metric in _FRACTIONS and float(np.max(found[0].value)) <= 1
                return Samples(found[0].value * 100, found[0].worth) if fraction else found[0]
        return None

    return read


def _host(
    id_: str, text: str, unit: str, metrics: tuple[str, ...], least: float, share: float = 0, read: Read | None = None
) -> Signal:
    return Signal(id_, text, unit, metrics, least, share, False, read or _one(*metrics))


def _gpu(
    id_: str, text: str, unit: str, metrics: tuple[str, ...], least: float, share: float = 0, read: Read | None = None
) -> Signal:
    return Signal(id_, text, unit, metrics, least, share, True, read or _one(*metrics))


_PCIE = ("gpu_pcie_transmit", "gpu_pcie_receive")
_LINK = ("gpu_link_transmit", "gpu_link_receive")
_GIB = float(1 << 30)

SIGNALS: tuple[Signal, ...] = (
    # cores
    _host(
        "others_cpu",
        "CPU time of other programs",
        "% of all cores",
        ("host_cpu_usage", "process_cpu_usage"),
        10,
        0,
        _others_cpu,
    ),
    _host(
        "all_cpu",
        "CPU time of the host, the server's own not taken off",
        "% of all cores",
        ("host_cpu_usage",),
        10,
        0,
        _all_cpu,
    ),
    _host("host_busy", "share of the cores that are busy", "%", ("host_cpu_usage",), 10),
    _host("host_system", "CPU time in the kernel", "% of all cores", ("host_cpu_system",), 5),
    _host("own_cpu", "CPU time of the server", "% of one core", ("process_cpu_usage",), 5, 0.1),
    _host("steal", "CPU time given to other virtual machines", "% of all cores", ("host_cpu_steal",), 3),
    _host(
        "waiting",
        "time the server's runnable threads waited for a core",
        "% of what they could run",
        ("process_runq_wait", "process_cpu_usage"),
        10,
        0,
        _waiting,
    ),
    _host(
        "cpu_pressure",
        "time in which some task waited for a core",
        "%",
        ("pressure_cpu_some", "cgroup_pressure_cpu_some"),
        10,
    ),
    _host("cpu_clock", "clock of the cores", "MHz", ("cpu_frequency",), 0, 0.05, lambda side, _: side.busy_clock()),
    _host("cpu_heat", "thermal throttling of the cores", "1/s", ("cpu_throttle_events",), 0.5),
    _host("nice", "priority given away", "nice", ("process_nice",), 1),
    # limits
    _host("throttled", "CPU time withheld by a quota", "% of one core", ("cgroup_cpu_throttled",), 5),
    _host("throttled_periods", "periods in which the quota was used up", "%", ("cgroup_cpu_throttled_periods",), 5),
    _host("cpu_limit", "CPU limit of the control group", "% of one core", ("cgroup_cpu_quota",), 5, 0.05),
    _host("allowed_cores", "cores that a process of the server may use", "cores", ("process_allowed_cores",), 0.5, 0.05),
    # memory
    _host(
        "memory_pressure",
        "time in which some task waited for memory",
        "%",
        ("pressure_memory_some", "cgroup_pressure_memory_some"),
        1,
    ),
    _host(
        "swapping",
        "traffic to and from swap",
        "bytes/s",
        ("host_swap_in", "host_swap_out"),
        1e6,
        0.5,
        _sum("host_swap_in", "host_swap_out"),
    ),
    _host("reclaim", "pages scanned by tasks that need memory", "pages/s", ("host_direct_reclaim",), 100, 0.5),
    _host("major_faults", "the server's page faults that read a disk", "1/s", ("process_major_faults",), 20, 0.5),
    _host("swapped_out", "memory of the server in swap", "bytes", ("process_mem_swap",), 0.0625 * _GIB, 0.1),
    _host("memory_left", "memory that programs can still get", "bytes", ("host_mem_available",), 0.5 * _GIB, 0.25),
    _host("memory_used", "memory in use", "%", ("host_mem_usage", "process_mem_usage"), 5, 0, _one("host_mem_usage")),
    _host("memory_limit", "memory limit of the control group", "bytes", ("cgroup_mem_limit",), 1, 0.05),
    _host("page_cache", "page cache", "bytes", ("host_mem_cache",), 0.25 * _GIB, 0.3),
    # disks
    _host(
        "io_pressure", "time in which some task waited for a disk", "%", ("pressure_io_some", "cgroup_pressure_io_some"), 5
    ),
    _host("iowait", "cores idle while a task waits for a disk", "% of all cores", ("host_cpu_iowait",), 3),
    _host("blocked", "tasks that wait for a disk", "tasks", ("host_procs_blocked",), 0.5),
    _host("own_io_wait", "time the server's main threads waited for a disk", "%", ("process_blkio_wait",), 3),
    _host("disk_busy", "time in which a disk had requests", "%", ("disk_busy",), 20),
    _host("disk_latency", "time of a disk request", "ms", ("disk_latency",), 2, 1.0),
    _host(
        "disk_bytes",
        "disk traffic",
        "bytes/s",
        ("disk_write_rate", "disk_read_rate"),
        2e7,
        0.5,
        _sum("disk_write_rate", "disk_read_rate"),
    ),
    _host("own_reads", "what the server reads from disks", "bytes/s", ("process_read_rate",), 5e6, 0.5),
    # network
    _host("retransmits", "TCP segments sent again", "1/s", ("tcp_retransmits",), 5, 0.5),
    _host(
        "drops", "packets dropped or damaged", "1/s", ("net_drops", "net_errors"), 5, 0.5, _sum("net_drops", "net_errors")
    ),
    _host(
        "net_bytes",
        "network traffic",
        "bytes/s",
        ("net_tx_rate", "net_rx_rate"),
        5e7,
        0.5,
        _sum("net_tx_rate", "net_rx_rate"),
    ),
    # GPUs
    _gpu("gpu_clock", "SM clock", "MHz", ("gpu_sm_frequency", "gpu_frequency"), 0, 0.05),
    _gpu("gpu_mem_clock", "memory clock", "MHz", ("gpu_mem_frequency",), 0, 0.05),
    _gpu(
        "gpu_usage",
        "time in which a kernel ran",
        "%",
        ("gpu_usage", "process_gpu_usage"),
        15,
        0,
        _one("gpu_usage", "process_gpu_usage"),
    ),
    _gpu(
        "gpu_others",
        "time in which kernels of other processes ran",
        "%",
        ("gpu_usage", "process_gpu_usage"),
        10,
        0,
        _gpu_others,
    ),
    _gpu("sm_activity", "SMs at work", "%", ("gpu_sm_util",), 10, 0, _share("gpu_sm_util")),
    _gpu("occupancy", "resident warps", "%", ("gpu_sm_occupancy",), 10, 0, _share("gpu_sm_occupancy")),
    _gpu(
        "gpu_bandwidth",
        "memory bandwidth in use",
        "%",
        ("gpu_dram_util", "gpu_mem_util"),
        10,
        0,
        _share("gpu_dram_util", "gpu_mem_util"),
    ),
    _gpu("gpu_memory", "GPU memory in use", "bytes", ("gpu_mem_used",), 0, 0.02),
    _gpu("gpu_power_limit", "power limit", "W", ("gpu_power_limit",), 0, 0.05),
    _gpu("gpu_power_cap", "time the power limit lowered the clock", "%", ("gpu_throttle_power",), 5),
    _gpu("gpu_heat", "time heat lowered the clock", "%", ("gpu_throttle_thermal",), 5),
    _gpu("gpu_temp", "temperature", "°C", ("gpu_temp",), 10),
    _gpu("pcie_bytes", "PCIe traffic", "bytes/s", _PCIE, 1e9, 1.0, _sum(*_PCIE)),
    _gpu("pcie_replays", "PCIe packets sent again", "1/s", ("gpu_pcie_replays",), 1, 0.5),
    _gpu("pcie_width", "PCIe lanes in use", "lanes", ("gpu_pcie_width",), 1, 0.1),
    _gpu("pcie_generation", "PCIe generation in use", "gen", ("gpu_pcie_generation",), 1),
    _gpu("link_bytes", "NVLink traffic", "bytes/s", _LINK, 1e10, 0.5, _sum(*_LINK)),
    _gpu(
        "gpu_errors",
        "errors reported by the driver",
        "1/s",
        ("gpu_xid_errors", "gpu_ecc_errors"),
        1e-3,
        0,
        _sum("gpu_xid_errors", "gpu_ecc_errors"),
    ),
    # the engine's own account of its work
    _host(
        "running", "requests in the batch", "requests", ("vllm:num_requests_running", "sglang:num_running_reqs"), 0.5, 0.15
    ),
    _host("queued", "requests that wait", "requests", ("vllm:num_requests_waiting", "sglang:num_queue_reqs"), 1, 0.5),
    _host(
        "prompt_length",
        "tokens of a prompt",
        "tokens",
        ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total"),
        8,
        0.2,
        _any(
            _per("vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds_count"),
            _per("sglang:prompt_tokens_total", "sglang:num_requests_total"),
        ),
    ),
    _host(
        "answer_length",
        "tokens of an answer",
        "tokens",
        ("vllm:request_decode_time_seconds", "vllm:generation_tokens_total", "sglang:generation_tokens_total"),
        8,
        0.35,
        _any(
            # both are of the requests that ended in a stretch: tokens are counted as they come, and tell of the speed
            _per("vllm:request_decode_time_seconds", "vllm:request_time_per_output_token_seconds"),
            _per("sglang:generation_tokens_total", "sglang:num_requests_total"),
        ),
    ),
    _host(
        "context_length",
        "cached tokens of a running request",
        "tokens",
        ("sglang:num_used_tokens",),
        8,
        0.35,
        _per("sglang:num_used_tokens", "sglang:num_running_reqs"),
    ),
    _host(
        "cache_share",
        "share of the cache that a running request takes",
        "share",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        1e-4,
        0.35,
        _any(
            _per("vllm:kv_cache_usage_perc", "vllm:num_requests_running"),
            _per("vllm:gpu_cache_usage_perc", "vllm:num_requests_running"),
        ),
    ),
    _host(
        "preemptions",
        "requests put back for lack of cache",
        "1/s",
        ("vllm:num_preemptions_total", "sglang:num_retracted_reqs"),
        0.2,
        0.5,
    ),
    _host(
        "step_time",
        "time per step, by the engine's own count",
        "s",
        ("vllm:iteration_tokens_total_count", "sglang:gen_throughput"),
        0,
        0.05,
        _any(
            lambda side, device: _inverse(_one("vllm:iteration_tokens_total_count")(side, device)),
            _per("sglang:num_running_reqs", "sglang:gen_throughput"),
        ),
    ),
)


def _inverse(rate: Samples | None) -> Samples | None:
    if rate is None:
        return None
    positive = rate.value[rate.value > 0]
    return Samples(1 / positive, min(rate.worth, float(len(positive)))) if len(positive) > 1 else None


BY_ID = {signal.id: signal for signal in SIGNALS}
