"""What counters are called and measured in: units to base units, vendors' names to ours, times to ns since 1970.

Our names are those of FORMATS.md §7.1, with more of the same kind (``gpu_power`` in W, ``gpu_temp`` in °C). Names of
vLLM and SGLang (``vllm:…``, ``sglang:…``) stay as they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

from rca.capture.model import Clock
from rca.capture.tables import HOST

UNSPLIT = "all GPUs"
"""Device of GPU counters whose source does not say which GPU a sample is of."""

TO_BASE_UNIT = {
    "hz": ("MHz", 1e-6),
    "khz": ("MHz", 1e-3),
    "mhz": ("MHz", 1.0),
    "ghz": ("MHz", 1e3),
    "b/s": ("bytes/s", 1.0),
    "kb/s": ("bytes/s", 1e3),
    "mb/s": ("bytes/s", 1e6),
    "gb/s": ("bytes/s", 1e9),
    "kib/s": ("bytes/s", 1024.0),
    "mib/s": ("bytes/s", 1024.0**2),
    "gib/s": ("bytes/s", 1024.0**3),
    "b": ("bytes", 1.0),
    "byte": ("bytes", 1.0),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 1024.0),
    "mib": ("bytes", 1024.0**2),
    "gib": ("bytes", 1024.0**3),
    "mw": ("W", 1e-3),
    "w": ("W", 1.0),
    "watt": ("W", 1.0),
    "watts": ("W", 1.0),
    "mj": ("J", 1e-3),
    "mj/s": ("W", 1e-3),
    "c": ("°C", 1.0),
    "celsius": ("°C", 1.0),
    "percent": ("%", 1.0),
    "pct": ("%", 1.0),
}
"""Units, in lower case, that are converted; every other one is kept as it is written."""

_NS_PER_UNIT = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (1e8, 1_000_000_000))
"""Smallest plausible epoch time in ns, µs, ms, s: any date after 1973 is told apart by its magnitude."""


def in_base_units(value: pl.Expr, unit: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the value in the base unit, and that unit, as columns ``value`` and ``unit``."""
    key = unit.str.to_lowercase()
    factors = {name: factor for name, (_, factor) in TO_BASE_UNIT.items()}
    bases = {name: base for name, (base, _) in TO_BASE_UNIT.items()}
    factor = key.replace_strict(factors, default=1.0, return_dtype=pl.Float64)
    return (
        (value * factor).alias("value"),
        key.replace_strict(bases, default=unit, return_dtype=pl.String).alias("unit"),
    )


def epoch_unit(typical: float) -> tuple[int, Clock]:
    """Return ns per unit of times around ``typical``, and what they count from; small ones are s of their own zero."""
    for smallest, factor in _NS_PER_UNIT:
        if typical >= smallest:
            return factor, Clock.UNIX
    return 1_000_000_000, Clock.OWN


class Meaning(NamedTuple):
    """What a vendor's name stands for.

    Attributes:
        metric: our name.
        unit: of the vendor's values where the source does not say it.
        total: it counts up since some start; its rate of change per second is the metric, in ``unit`` per second.
    """

    metric: str
    unit: str = ""
    total: bool = False


_USAGE = Meaning("gpu_usage", "%")
_MEM_UTIL = Meaning("gpu_mem_util", "%")
_CLOCK = Meaning("gpu_frequency", "MHz")
_SM_CLOCK = Meaning("gpu_sm_frequency", "MHz")
_MEM_CLOCK = Meaning("gpu_mem_frequency", "MHz")
_POWER = Meaning("gpu_power", "W")
_LIMIT = Meaning("gpu_power_limit", "W")
_TEMP = Meaning("gpu_temp", "°C")
_MEM_TEMP = Meaning("gpu_mem_temp", "°C")
_USED = Meaning("gpu_mem_used", "MiB")
_FREE = Meaning("gpu_mem_free", "MiB")
_TOTAL = Meaning("gpu_mem_total", "MiB")
_REASONS = Meaning("gpu_throttle_reasons")

NVIDIA_SMI = {
    "utilization.gpu": _USAGE,
    "utilization.memory": _MEM_UTIL,
    "clocks.gr": _CLOCK,
    "clocks.current.graphics": _CLOCK,
    "clocks.sm": _SM_CLOCK,
    "clocks.current.sm": _SM_CLOCK,
    "clocks.mem": _MEM_CLOCK,
    "clocks.current.memory": _MEM_CLOCK,
    "clocks.max.sm": Meaning("gpu_sm_frequency_max", "MHz"),
    "power.draw": _POWER,
    "power.draw.average": _POWER,
    "power.draw.instant": Meaning("gpu_power_instant", "W"),
    "power.limit": _LIMIT,
    "enforced.power.limit": _LIMIT,
    "temperature.gpu": _TEMP,
    "temperature.memory": _MEM_TEMP,
    "memory.used": _USED,
    "memory.free": _FREE,
    "memory.total": _TOTAL,
    "clocks_throttle_reasons.active": _REASONS,
    "clocks_event_reasons.active": _REASONS,
    "pcie.link.gen.current": Meaning("gpu_pcie_generation"),
    "pcie.link.gen.gpucurrent": Meaning("gpu_pcie_generation"),
    "pcie.link.width.current": Meaning("gpu_pcie_width"),
}
"""Fields of ``nvidia-smi --query-gpu``."""

DMON = {
    "pwr": _POWER,
    "gtemp": _TEMP,
    "temp": _TEMP,
    "mtemp": _MEM_TEMP,
    "sm": _USAGE,
    "mem": _MEM_UTIL,
    "mclk": _MEM_CLOCK,
    "pclk": _CLOCK,
    "pviol": Meaning("gpu_power_violation", "%"),
    "tviol": Meaning("gpu_thermal_violation"),
    "fb": _USED,
    "rxpci": Meaning("gpu_pcie_receive", "MB/s"),
    "txpci": Meaning("gpu_pcie_transmit", "MB/s"),
    "pci": Meaning("gpu_pcie_replays"),
    "enc": Meaning("gpu_encoder_util", "%"),
    "dec": Meaning("gpu_decoder_util", "%"),
}
"""Columns of ``nvidia-smi dmon``. Its ``sm`` is NVML's GPU utilisation: the share of time in which any kernel ran."""

PMON = {
    "sm": Meaning("process_gpu_usage", "%"),
    "mem": Meaning("process_gpu_mem_util", "%"),
    "fb": Meaning("process_gpu_mem_usage", "MiB"),
}
"""Columns of ``nvidia-smi pmon``."""

_DCGM: tuple[tuple[str, str, Meaning], ...] = (
    ("DEV_GPU_UTIL", "GPUTL", _USAGE),
    ("DEV_MEM_COPY_UTIL", "MCUTL", _MEM_UTIL),
    ("DEV_SM_CLOCK", "SMCLK", _SM_CLOCK),
    ("DEV_MEM_CLOCK", "MMCLK", _MEM_CLOCK),
    ("DEV_GPU_TEMP", "TMPTR", _TEMP),
    ("DEV_MEMORY_TEMP", "MMTMP", _MEM_TEMP),
    ("DEV_POWER_USAGE", "POWER", _POWER),
    ("DEV_POWER_MGMT_LIMIT", "PMLMT", _LIMIT),
    ("DEV_TOTAL_ENERGY_CONSUMPTION", "TOTEC", Meaning("gpu_power_from_energy", "mJ", total=True)),
    ("DEV_FB_USED", "FBUSD", _USED),
    ("DEV_FB_FREE", "FBFRE", _FREE),
    ("DEV_FB_TOTAL", "FBTTL", _TOTAL),
    ("DEV_CLOCK_THROTTLE_REASONS", "DVCCTR", _REASONS),
    ("DEV_CLOCKS_EVENT_REASONS", "DVCCER", _REASONS),
    ("DEV_PCIE_TX_THROUGHPUT", "TXTPT", Meaning("gpu_pcie_transmit", "KB/s")),
    ("DEV_PCIE_RX_THROUGHPUT", "RXTPT", Meaning("gpu_pcie_receive", "KB/s")),
    ("PROF_GR_ENGINE_ACTIVE", "GRACT", Meaning("gpu_engine_util", "fraction")),
    ("PROF_SM_ACTIVE", "SMACT", Meaning("gpu_sm_util", "fraction")),
    ("PROF_SM_OCCUPANCY", "SMOCC", Meaning("gpu_sm_occupancy", "fraction")),
    ("PROF_PIPE_TENSOR_ACTIVE", "TENSO", Meaning("gpu_tensor_util", "fraction")),
    ("PROF_DRAM_ACTIVE", "DRAMA", Meaning("gpu_dram_util", "fraction")),
    ("PROF_PCIE_TX_BYTES", "PCITX", Meaning("gpu_pcie_transmit", "bytes/s")),
    ("PROF_PCIE_RX_BYTES", "PCIRX", Meaning("gpu_pcie_receive", "bytes/s")),
    ("PROF_NVLINK_TX_BYTES", "NVLTX", Meaning("gpu_link_transmit", "bytes/s")),
    ("PROF_NVLINK_RX_BYTES", "NVLRX", Meaning("gpu_link_receive", "bytes/s")),
)
"""Field, its short name in ``dcgmi dmon``, meaning. The PROF ``…_BYTES`` fields are rates, whatever exporters call them."""

DCGM = {f"dcgm_fi_{field.lower()}": meaning for field, _, meaning in _DCGM}
DCGMI = {short.lower(): meaning for _, short, meaning in _DCGM}

AMD = {
    "gfx_activity": _USAGE,
    "average_gfx_activity": _USAGE,
    "gpu use": _USAGE,
    "umc_activity": _MEM_UTIL,
    "average_umc_activity": _MEM_UTIL,
    "current_socket_power": _POWER,
    "average_socket_power": _POWER,
    "average graphics package power": _POWER,
    "current socket graphics package power": _POWER,
    "current_gfxclk": _CLOCK,
    "average_gfxclk": _CLOCK,
    "current_uclk": _MEM_CLOCK,
    "temperature_hotspot": _TEMP,
    "temperature_mem": _MEM_TEMP,
    "temperature (sensor junction)": _TEMP,
    "temperature (sensor memory)": _MEM_TEMP,
    "vram_used": Meaning("gpu_mem_used", "MB"),
    "vram_total": Meaning("gpu_mem_total", "MB"),
}
"""amdsmi (FORMATS.md §6.2) and rocm-smi."""

HOST_NAMES = {
    "cpu_percent": Meaning("host_cpu_usage", "%"),
    "cpu_usage": Meaning("host_cpu_usage", "%"),
    "cpu_util": Meaning("host_cpu_usage", "%"),
    "cpu_freq": Meaning("cpu_frequency", "MHz"),
    "cpu_freq.current": Meaning("cpu_frequency", "MHz"),
    "cpu_freq_current": Meaning("cpu_frequency", "MHz"),
    "mem_percent": Meaning("host_mem_usage", "%"),
    "memory_percent": Meaning("host_mem_usage", "%"),
    "virtual_memory.percent": Meaning("host_mem_usage", "%"),
    "virtual_memory.available": Meaning("host_mem_available", "bytes"),
    "process_cpu_percent": Meaning("process_cpu_usage", "% of one core"),
    "net_bytes_sent": Meaning("net_tx_rate", "bytes", total=True),
    "net_bytes_recv": Meaning("net_rx_rate", "bytes", total=True),
    "node_cpu_scaling_frequency_hertz": Meaning("cpu_frequency", "Hz"),
    "node_memory_memavailable_bytes": Meaning("host_mem_available", "bytes"),
    "node_memory_memfree_bytes": Meaning("host_mem_free", "bytes"),
    "node_network_transmit_bytes_total": Meaning("net_tx_rate", "bytes", total=True),
    "node_network_receive_bytes_total": Meaning("net_rx_rate", "bytes", total=True),
    "node_context_switches_total": Meaning("host_ctx_switches", "1", total=True),
}
"""psutil (FORMATS.md §5.2) and Prometheus' node_exporter."""

NVML = {
    "gpu_utilization": _USAGE,
    "gpu_util": _USAGE,
    "gpu_utilization_gpu": _USAGE,
    "memory_utilization": _MEM_UTIL,
    "gpu_memory_util": _MEM_UTIL,
    "graphics_clock": _CLOCK,
    "gpu_clock": _CLOCK,
    "sm_clock": _SM_CLOCK,
    "gpu_sm_clock": _SM_CLOCK,
    "mem_clock": _MEM_CLOCK,
    "memory_clock": _MEM_CLOCK,
    "gpu_mem_clock": _MEM_CLOCK,
    "power_usage": _POWER,
    "power_draw": _POWER,
    "gpu_power_draw": _POWER,
    "gpu_temperature": _TEMP,
    "gpu_memory_used": _USED,
    "memory_used": _USED,
    "gpu_memory_total": _TOTAL,
    "pcie_tx": Meaning("gpu_pcie_transmit", "KB/s"),
    "pcie_rx": Meaning("gpu_pcie_receive", "KB/s"),
    "gpu_pcie_tx": Meaning("gpu_pcie_transmit", "KB/s"),
    "gpu_pcie_rx": Meaning("gpu_pcie_receive", "KB/s"),
}
"""Names that scripts over NVML (FORMATS.md §5.1) give to its values; units where the header states none are NVML's,
except for power and memory, which scripts convert to W and MiB."""

OUR_UNITS = {
    meaning.metric: meaning.unit
    for table in (NVIDIA_SMI, DMON, PMON, DCGM, HOST_NAMES)
    for meaning in table.values()
    if meaning.unit in ("%", "MHz", "W", "°C", "fraction")
}
"""Units of our own names, for files that use them and state no unit; bytes are bytes."""

_ANY = NVML | AMD | HOST_NAMES | DCGM | NVIDIA_SMI
_UNIT_IN_NAME = re.compile(r"^(?P<name>.*\S)\s*[\[(](?P<unit>[^\])(\[]*)[\])]$")
_UNIT_AT_END = {"_mhz": "MHz", "_pct": "%", "_percent": "%", "_celsius": "°C", "_watts": "W", "_mib": "MiB", "_mb": "MB"}


def meaning_of(header: str, names: dict[str, Meaning] | None = None) -> Meaning:
    """Return what a column header or metric name stands for: ``clocks.sm [MHz]``, ``GPU use (%)``, ``power_watts``.

    A name that is not in the table (default: all tables but those of single tools) stands for itself.
    """
    table = _ANY if names is None else names
    header = header.strip()
    if known := table.get(header.lower()):
        return known
    if match := _UNIT_IN_NAME.match(header):
        known = table.get(match["name"].lower(), Meaning(match["name"]))
        return known._replace(unit=match["unit"].strip() or known.unit)
    for ending, unit in _UNIT_AT_END.items():
        base = header.lower().removesuffix(ending)
        if base != header.lower() and (base in table or base in OUR_UNITS):
            return table.get(base, Meaning(base))._replace(unit=unit)
    return Meaning(header, OUR_UNITS.get(header, ""))


_IS_ID = r"^\s*(?i:gpu|nvidia|cuda:|cuda)?[ _-]?(\d{1,4})\s*$"
_IS_CORE = r"^\s*(?i:cpu|core)[ _-]?(\d{1,5})\s*$"


def device_names(device: pl.Expr) -> pl.Expr:
    """Return devices under our names: ``0``, ``gpu0``, ``cuda:0`` → ``GPU 0``; ``cpu3`` → ``CPU 3``; empty → ``Host``."""
    text = device.cast(pl.String).str.strip_chars()
    return (
        pl.when(text.is_null() | text.str.to_lowercase().is_in(["", "host", "n/a", "-"]))
        .then(pl.lit(HOST))
        .when(text.str.contains(_IS_ID))
        .then(pl.format("GPU {}", text.str.extract(_IS_ID).cast(pl.Int64)))
        .when(text.str.contains(_IS_CORE))
        .then(pl.format("CPU {}", text.str.extract(_IS_CORE).cast(pl.Int64)))
        .otherwise(text)
    )


def rates(samples: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Replace totals by their growth per second since the sample before, per series ``key`` (columns ``ts_ns``, ``value``).

    A total that falls was reset, or has wrapped: that step is left out, as is the first sample of every series.
    """
    ordered = samples.sort(*key, "ts_ns", maintain_order=True)
    step = pl.col("value").diff().over(key)
    seconds = pl.col("ts_ns").diff().over(key) / 1e9
    return (
        ordered.with_columns(step=step, seconds=seconds)
        .filter((pl.col("step") >= 0) & (pl.col("seconds") > 0))
        .with_columns(value=pl.col("step") / pl.col("seconds"))
        .drop("step", "seconds")
    )
