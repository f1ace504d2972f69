"""Names of the metrics that the collector records, with their units: the words in which readers and reports speak of them.

The names are those of FORMATS.md §7.1 where it has one, with more of the same kind. Nothing is imported here: a sampler
must stay small.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = "Host"
"""Device of everything that happens on the CPU; GPUs are ``GPU <index>``, single cores ``CPU <index>``."""


class Metric(NamedTuple):
    """Unit and meaning of one metric; rates are means over the time since the sample before."""

    unit: str
    text: str


_PER_CORE = "% of one core"

METRICS: dict[str, Metric] = {
    # the host's cores
    "host_cpu_usage": Metric("%", "share of all cores that ran something"),
    "host_cpu_system": Metric("%", "share of all cores spent in the kernel, interrupts included"),
    "host_cpu_iowait": Metric("%", "share of all cores idle while a task waits for a disk"),
    "host_cpu_steal": Metric("%", "share of all cores that the hypervisor gave to other machines"),
    "host_procs_running": Metric("tasks", "tasks that run or wait for a core at this moment"),
    "host_procs_blocked": Metric("tasks", "tasks that wait for a disk at this moment"),
    "host_ctx_switches": Metric("1/s", "context switches of the whole host"),
    "core_usage": Metric("%", "share of the time in which one core ran something"),
    "cpu_frequency": Metric("MHz", "clock of one core"),
    "cpu_temp": Metric("°C", "hottest sensor of the CPU"),
    "cpu_power": Metric("W", "power of the CPU packages (RAPL)"),
    "cpu_throttle_events": Metric("1/s", "times a core lowered its clock because of heat"),
    # pressure stall information
    "pressure_cpu_some": Metric("%", "share of the time in which some task waited for a core (PSI)"),
    "pressure_io_some": Metric("%", "share of the time in which some task waited for a disk (PSI)"),
    "pressure_io_full": Metric("%", "share of the time in which all tasks waited for a disk (PSI)"),
    "pressure_memory_some": Metric("%", "share of the time in which some task waited for memory (PSI)"),
    "pressure_memory_full": Metric("%", "share of the time in which all tasks waited for memory (PSI)"),
    # control groups of the watched processes
    "cgroup_cpu_usage": Metric(_PER_CORE, "CPU time of the busiest control group"),
    "cgroup_cpu_quota": Metric(_PER_CORE, "tightest CPU limit of the control groups and those above them"),
    "cgroup_cpu_throttled": Metric(_PER_CORE, "CPU time that a quota made tasks wait"),
    "cgroup_cpu_throttled_periods": Metric("%", "share of the quota's periods in which it was used up"),
    "cgroup_mem_used": Metric("bytes", "memory of the fullest control group"),
    "cgroup_mem_limit": Metric("bytes", "tightest memory limit of the control groups and those above them"),
    "cgroup_pressure_cpu_some": Metric("%", "as pressure_cpu_some, of the control group"),
    "cgroup_pressure_io_some": Metric("%", "as pressure_io_some, of the control group"),
    "cgroup_pressure_memory_some": Metric("%", "as pressure_memory_some, of the control group"),
    # memory
    "host_mem_usage": Metric("%", "share of memory that is not available"),
    "host_mem_available": Metric("bytes", "memory that programs can still get"),
    "host_mem_cache": Metric("bytes", "page cache"),
    "host_swap_used": Metric("bytes", "swap in use"),
    "host_swap_in": Metric("bytes/s", "read back from swap"),
    "host_swap_out": Metric("bytes/s", "written to swap"),
    "host_major_faults": Metric("1/s", "page faults that read from a disk"),
    "host_direct_reclaim": Metric("pages/s", "pages that tasks looked at to free memory, instead of working"),
    "host_background_reclaim": Metric("pages/s", "pages that the kernel looked at to free memory"),
    # disks and network
    "disk_busy": Metric("%", "share of the time in which a disk had requests"),
    "disk_latency": Metric("ms", "mean time of a request, queueing included"),
    "disk_read_rate": Metric("bytes/s", "read from a disk"),
    "disk_write_rate": Metric("bytes/s", "written to a disk"),
    "net_rx_rate": Metric("bytes/s", "received; of the host: by all devices but loopback"),
    "net_tx_rate": Metric("bytes/s", "sent; of the host: by all devices but loopback"),
    "net_drops": Metric("1/s", "packets that were dropped"),
    "net_errors": Metric("1/s", "packets with errors"),
    "tcp_retransmits": Metric("1/s", "TCP segments that were sent again"),
    # watched processes
    "process_cpu_usage": Metric(_PER_CORE, "time that the threads of a process ran"),
    "process_runq_wait": Metric(_PER_CORE, "time that runnable threads of a process waited for a core"),
    "thread_cpu_usage": Metric(_PER_CORE, "as process_cpu_usage, of the main thread or of the threads of one name"),
    "thread_runq_wait": Metric(_PER_CORE, "as process_runq_wait, of the main thread or of the threads of one name"),
    "process_threads": Metric("threads", "threads of a process"),
    "process_voluntary_switches": Metric("1/s", "times the main thread gave up its core"),
    "process_involuntary_switches": Metric("1/s", "times the main thread was taken off its core"),
    "process_minor_faults": Metric("1/s", "page faults served from memory"),
    "process_major_faults": Metric("1/s", "page faults that read from a disk"),
    "process_blkio_wait": Metric("%", "share of the time in which the main thread waited for a disk"),
    "process_read_rate": Metric("bytes/s", "read from disks for a process"),
    "process_write_rate": Metric("bytes/s", "written to disks for a process"),
    "process_mem_rss": Metric("bytes", "memory of a process"),
    "process_mem_swap": Metric("bytes", "swapped-out memory of a process"),
    "process_nice": Metric("nice", "priority of a process, −20 first to 19 last"),
    "process_allowed_cores": Metric("cores", "cores that a process may run on"),
    # GPUs
    "gpu_usage": Metric("%", "share of the time in which a kernel ran"),
    "gpu_mem_util": Metric("%", "share of the time in which GPU memory was accessed"),
    "gpu_frequency": Metric("MHz", "graphics clock"),
    "gpu_sm_frequency": Metric("MHz", "clock of the streaming multiprocessors"),
    "gpu_mem_frequency": Metric("MHz", "memory clock"),
    "gpu_throttle_reasons": Metric("bits", "NVML's clock-event reasons"),
    "gpu_throttle_power": Metric("%", "share of the time in which the power limit lowered the clock"),
    "gpu_throttle_thermal": Metric("%", "share of the time in which heat lowered the clock"),
    "gpu_power": Metric("W", "power, as the driver averages it"),
    "gpu_power_limit": Metric("W", "power limit in force"),
    "gpu_temp": Metric("°C", "temperature"),
    "gpu_mem_temp": Metric("°C", "temperature of the memory"),
    "gpu_mem_used": Metric("bytes", "memory in use, by all processes"),
    "gpu_pcie_transmit": Metric("bytes/s", "sent over PCIe"),
    "gpu_pcie_receive": Metric("bytes/s", "received over PCIe"),
    "gpu_pcie_generation": Metric("gen", "PCIe generation in use; low while idle"),
    "gpu_pcie_width": Metric("lanes", "PCIe lanes in use"),
    "gpu_pcie_replays": Metric("1/s", "PCIe packets that were sent again"),
    "gpu_link_transmit": Metric("bytes/s", "sent over all NVLinks or XGMI links"),
    "gpu_link_receive": Metric("bytes/s", "received over all NVLinks or XGMI links"),
    "gpu_ecc_errors": Metric("1/s", "uncorrected memory errors"),
    "gpu_xid_errors": Metric("1/s", "XID errors reported by the driver"),
    "process_gpu_usage": Metric("%", "share of the time in which kernels of a process ran"),
    "process_gpu_mem_usage": Metric("bytes", "GPU memory of a process"),
    "gpu_sm_util": Metric("fraction", "SMs with at least one warp, mean over SMs and time"),
    "gpu_sm_occupancy": Metric("fraction", "resident warps, share of what fits"),
    "gpu_tensor_util": Metric("fraction", "time in which tensor cores were busy"),
    "gpu_dram_util": Metric("fraction", "share of the memory bandwidth in use"),
}
"""What can be recorded; metrics of the engines (``vllm:…``, ``sglang:…``) keep the engine's names and are not listed."""
