"""NVIDIA GPUs by NVML. Units and pitfalls: FORMATS.md §5.1; every value is in the unit of `rca.capture.metrics`.

Reads that take long have samplers of their own: a PCIe reading blocks for its window of about 20 ms.
"""

from __future__ import annotations

import contextlib
import math
from ctypes import c_void_p, cast
from typing import Any

from collectors.nvml import Nvml
from collectors.sampling import Note, Rate, Sample, rated, sample
from rca.capture.metrics import METRICS

_KIB, _MIB = 1024, 1024**2
_ALL_LINKS = 0xFFFFFFFF
_NS_TO_PERCENT = 1e-7

_LINKS = ("gpu_link_transmit", "gpu_link_receive")

_COUNTER = "counter of "


def _counter(metric: str) -> str:
    """Return the name by which a counter may be refused and its metric still be had in another way."""
    return _COUNTER + metric


def device(index: int) -> str:
    """Return the name of a GPU in the tables."""
    return f"GPU {index}"


class _Base:
    """What the samplers of one session share. ``close`` leaves the session open: it is the caller's."""

    name = ""

    def __init__(self, hz: float, session: Nvml) -> None:
        self.hz = hz
        self.session = session
        self.lib = session.module
        self.rate = Rate()

    @property
    def unavailable(self) -> dict[str, str]:
        """Metrics that no GPU of this machine has."""
        found = list(self.session.unavailable.items())  # a copy: other threads add to it
        return {metric: why for metric, why in found if metric in METRICS}

    def close(self) -> None:
        """Nothing of its own is open."""


class NvidiaFast(_Base):
    """Use, clocks, what holds them down, and power."""

    name = "nvidia"

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the values of this moment, GPU by GPU."""
        lib, samples = self.lib, []
        for index in self.session.handles:
            values: dict[str, float | None] = {
                "gpu_frequency": self._clock(index, "gpu_frequency", lib.NVML_CLOCK_GRAPHICS),
                "gpu_sm_frequency": self._clock(index, "gpu_sm_frequency", lib.NVML_CLOCK_SM),
                "gpu_mem_frequency": self._clock(index, "gpu_mem_frequency", lib.NVML_CLOCK_MEM),
                "gpu_throttle_reasons": self.session.read(index, "gpu_throttle_reasons", self._reasons),
            }
            if use := self.session.read(index, ("gpu_usage", "gpu_mem_util"), lib.nvmlDeviceGetUtilizationRates):
                values |= {"gpu_usage": use.gpu, "gpu_mem_util": use.memory}
            if (milliwatts := self.session.read(index, "gpu_power", lib.nvmlDeviceGetPowerUsage)) is not None:
                values["gpu_power"] = milliwatts / 1000
            samples += [sample(now_ns, m, v, device(index)) for m, v in values.items() if v is not None]
        return samples

    def _clock(self, index: int, metric: str, kind: int) -> int | None:
        return self.session.read(index, metric, self.lib.nvmlDeviceGetClockInfo, kind)

    def _reasons(self, handle: Any) -> int:
        """Return them by the call's new name; drivers before 535 know only the old one."""
        try:
            return int(self.lib.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except (AttributeError, self.lib.NVMLError_FunctionNotFound):  # of the binding, of the driver
            return int(self.lib.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


class NvidiaSlow(_Base):
    """Links, memory, heat, errors and processes: values that change slowly or are counted up."""

    name = "nvidia_slow"

    def __init__(self, hz: float, session: Nvml) -> None:
        super().__init__(min(hz, 2.0), session)
        self._seen_us: dict[int, int] = {}

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the values of this moment, and rates since the call before, GPU by GPU."""
        samples = []
        for index in self.session.handles:
            samples += self._states(now_ns, index) + self._counted(now_ns, index) + self._processes(now_ns, index)
        return samples

    def _states(self, now_ns: int, index: int) -> list[Sample]:
        lib, read = self.lib, self.session.read
        limit_mw = read(index, "gpu_power_limit", lib.nvmlDeviceGetEnforcedPowerLimit)
        memory = read(index, "gpu_mem_used", lib.nvmlDeviceGetMemoryInfo)
        values = {
            "gpu_power_limit": limit_mw / 1000 if limit_mw is not None else None,
            "gpu_mem_used": memory.used if memory else None,
            "gpu_temp": read(index, "gpu_temp", lib.nvmlDeviceGetTemperature, lib.NVML_TEMPERATURE_GPU),
            "gpu_pcie_generation": read(index, "gpu_pcie_generation", lib.nvmlDeviceGetCurrPcieLinkGeneration),
            "gpu_pcie_width": read(index, "gpu_pcie_width", lib.nvmlDeviceGetCurrPcieLinkWidth),
        }
        values |= self.session.fields(index, {"gpu_mem_temp": (lib.NVML_FI_DEV_MEMORY_TEMP, 0)})
        return [sample(now_ns, metric, value, device(index)) for metric, value in values.items() if value is not None]

    def _counted(self, now_ns: int, index: int) -> list[Sample]:
        lib, session = self.lib, self.session
        fields = {
            "gpu_throttle_power": (lib.NVML_FI_DEV_PERF_POLICY_POWER, 0),
            "gpu_throttle_thermal": (lib.NVML_FI_DEV_PERF_POLICY_THERMAL, 0),
            _counter("gpu_link_transmit"): (lib.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
            _counter("gpu_link_receive"): (lib.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
        }
        scale = dict.fromkeys(("gpu_throttle_power", "gpu_throttle_thermal"), _NS_TO_PERCENT)
        scale |= dict.fromkeys(_LINKS, float(_KIB))
        found = {name.removeprefix(_COUNTER): total for name, total in session.fields(index, fields).items()}
        totals = {metric: (total, scale[metric]) for metric, total in found.items()}
        for metric in _LINKS:
            why = session.why(index, _counter(metric))
            if why is not None and index not in session.gpm:
                session.refuse(index, metric, why)
        replays = session.read(index, "gpu_pcie_replays", lib.nvmlDeviceGetPcieReplayCounter)
        uncorrected = (lib.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, lib.NVML_VOLATILE_ECC)
        errors = session.read(index, "gpu_ecc_errors", lib.nvmlDeviceGetTotalEccErrors, *uncorrected)
        totals |= {"gpu_pcie_replays": (replays, 1.0)} if replays is not None else {}
        totals |= {"gpu_ecc_errors": (errors, 1.0)} if errors is not None else {}
        return rated(self.rate, now_ns, totals, device(index))

    def _processes(self, now_ns: int, index: int) -> list[Sample]:
        """Return memory and use of all processes, those of others included: they may be the cause."""
        lib, where = self.lib, device(index)
        running = self.session.read(index, "process_gpu_mem_usage", lib.nvmlDeviceGetComputeRunningProcesses) or ()
        samples = [
            sample(now_ns, "process_gpu_mem_usage", process.usedGpuMemory, where, process.pid)
            for process in running
            if process.usedGpuMemory is not None
        ]
        seen = self._seen_us.get(index, 0)
        used = self.session.read(index, "process_gpu_usage", lib.nvmlDeviceGetProcessUtilization, seen)
        latest: dict[int, Any] = {}
        possible = [one for one in used or () if one.smUtil <= 100]  # entries may be garbage (Syllo/nvtop#110)
        for one in sorted(possible, key=lambda item: item.timeStamp):
            self._seen_us[index] = max(self._seen_us.get(index, 0), one.timeStamp)
            latest[one.pid] = one
        return samples + [
            sample(now_ns, "process_gpu_usage", one.smUtil, where, pid)
            for pid, one in latest.items()
            if one.timeStamp > seen
        ]


class NvidiaPcie(_Base):
    """Bytes over PCIe: from counters where the GPU has wide ones, else from readings that block for their window."""

    name = "nvidia_pcie"

    def __init__(self, hz: float, session: Nvml) -> None:
        super().__init__(min(hz, 10.0), session)
        ids = {"gpu_pcie_transmit": "TX", "gpu_pcie_receive": "RX"}
        self._fields = {
            _counter(metric): (field, 0)
            for metric, way in ids.items()
            if (field := getattr(self.lib, f"NVML_FI_DEV_PCIE_COUNT_{way}_BYTES", None)) is not None
        }

    def sample(self, now_ns: int) -> list[Sample]:
        """Return bytes per second, GPU by GPU."""
        samples = []
        for index in self.session.handles:
            totals = self.session.fields(index, self._fields, wide=True)
            if totals:
                counts = {name.removeprefix(_COUNTER): (total, 1.0) for name, total in totals.items()}
                samples += rated(self.rate, now_ns, counts, device(index))
            else:
                samples += self._blocking(now_ns, index)
        return samples

    def _blocking(self, now_ns: int, index: int) -> list[Sample]:
        ways = {
            "gpu_pcie_transmit": self.lib.NVML_PCIE_UTIL_TX_BYTES,
            "gpu_pcie_receive": self.lib.NVML_PCIE_UTIL_RX_BYTES,
        }
        samples = []
        for metric, way in ways.items():
            kilobytes = self.session.read(index, metric, self.lib.nvmlDeviceGetPcieThroughput, way)
            if kilobytes is not None:
                samples.append(sample(now_ns, metric, kilobytes * 1000, device(index)))
        return samples


_GPM = {2: ("gpu_sm_util", 0.01), 3: ("gpu_sm_occupancy", 0.01), 5: ("gpu_tensor_util", 0.01), 10: ("gpu_dram_util", 0.01)}
_GPM_LINKS = {60: ("gpu_link_receive", float(_MIB)), 61: ("gpu_link_transmit", float(_MIB))}
_GPM_CALLS = ("GPM", *(metric for metric, _ in _GPM.values()))
"""What is lacking when a call of GPM is refused."""

_GPM_APART_NS = 100_000_000


class NvidiaGpm(_Base):
    """GPU performance monitoring (Hopper and newer): means over the time between two readings, at least 100 ms apart."""

    name = "nvidia_gpm"

    def __init__(self, hz: float, session: Nvml) -> None:
        super().__init__(min(hz, 5.0), session)
        self._buffers: list[Any] = []
        self._pairs: dict[int, tuple[Any, Any]] = {}
        self._taken_ns: dict[int, int] = {}
        for index in session.handles:
            support = session.read(index, _GPM_CALLS, self.lib.nvmlGpmQueryDeviceSupport)
            if support is not None and not support.isSupportedDevice:
                for metric in _GPM_CALLS:
                    session.refuse(index, metric, "GPM needs a GPU of the Hopper generation or newer")
            if (pair := session.read(index, _GPM_CALLS, self._pair)) is not None:
                self._pairs[index] = pair
                session.gpm.add(index)

    def _pair(self, _handle: Any) -> tuple[Any, Any]:
        for _ in range(2):
            self._buffers.append(self.lib.nvmlGpmSampleAlloc())
        return self._buffers[-2], self._buffers[-1]

    def sample(self, now_ns: int) -> list[Sample]:
        """Return means since the call before, GPU by GPU; nothing if that was a moment ago."""
        found = []
        for index, (before, after) in self._pairs.items():
            last_ns = self._taken_ns.get(index)
            if last_ns is not None and now_ns - last_ns < _GPM_APART_NS:
                continue
            if self.session.read(index, _GPM_CALLS, self.lib.nvmlGpmSampleGet, after) is not None:
                if last_ns is not None:
                    found += self._between(now_ns, index, before, after)
                self._taken_ns[index] = now_ns
                self._pairs[index] = after, before
            if not self.session.has(index, "GPM"):
                self.session.gpm.discard(index)
        return found

    def _between(self, now_ns: int, index: int, before: Any, after: Any) -> list[Sample]:
        links = {} if self.session.has(index, _counter("gpu_link_transmit")) else _GPM_LINKS
        wanted = {number: ours for number, ours in (_GPM | links).items() if self.session.has(index, ours[0])}
        if not wanted:
            return []
        query = self.lib.c_nvmlGpmMetricsGet_t()
        query.version = self.lib.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(wanted)
        query.sample1, query.sample2 = before, after
        for position, metric_id in enumerate(wanted):
            query.metrics[position].metricId = metric_id
        if self.session.read(index, _GPM_CALLS, lambda _handle: self.lib.nvmlGpmMetricsGet(query)) is None:
            return []
        found = []
        for position, (metric, scale) in enumerate(wanted.values()):
            answer = query.metrics[position]
            if answer.nvmlReturn != self.lib.NVML_SUCCESS:
                self.session.failed(index, self.lib.NVMLError(answer.nvmlReturn), metric)
            elif math.isfinite(answer.value):
                found.append(sample(now_ns, metric, answer.value * scale, device(index)))
        return found

    def close(self) -> None:
        """Free the readings."""
        for one in self._buffers:
            with contextlib.suppress(self.lib.NVMLError):
                self.lib.nvmlGpmSampleFree(one)


class NvidiaXid(_Base):
    """XID errors: waits for the driver's events, and writes them into the manifest as they come."""

    name = "nvidia_xid"
    _WAIT_MS = 400
    _MOST_EVENTS = 100

    def __init__(self, hz: float, session: Nvml, note: Note) -> None:
        super().__init__(min(hz, 1.0), session)
        self._note = note
        self._counts = dict.fromkeys(session.handles, 0)
        self._events: Any = None
        try:
            self._events = self.lib.nvmlEventSetCreate()
        except self.lib.NVMLError as error:
            for index in session.handles:
                session.refuse(index, "gpu_xid_errors", str(error))
        for index in session.handles:
            session.read(index, "gpu_xid_errors", self._register)

    def _register(self, handle: Any) -> None:
        self.lib.nvmlDeviceRegisterEvents(handle, self.lib.nvmlEventTypeXidCriticalError, self._events)

    def sample(self, now_ns: int) -> list[Sample]:
        """Wait a moment for events, and take all that came; return errors per second since the call before."""
        if self._events is None:
            return []
        with contextlib.suppress(self.lib.NVMLError):  # a timeout: nothing more happened
            for wait_ms in (self._WAIT_MS, *[0] * (self._MOST_EVENTS - 1)):
                self._take(self.lib.nvmlEventSetWait_v2(self._events, wait_ms))
        samples = []
        for index, count in self._counts.items():
            if self.session.has(index, "gpu_xid_errors"):
                samples += rated(self.rate, now_ns, {"gpu_xid_errors": (count, 1.0)}, device(index))
        return samples

    def _take(self, event: Any) -> None:
        index = next((i for i, h in self.session.handles.items() if _same(h, event.device)), None)
        if index is not None:
            self._counts[index] += 1
            self._note("gpu_error", f"GPU {index}: XID {event.eventData} reported by the driver")

    def close(self) -> None:
        """Give the event set back."""
        if self._events is not None:
            with contextlib.suppress(self.lib.NVMLError):
                self.lib.nvmlEventSetFree(self._events)


def _same(handle: Any, other: Any) -> bool:
    """Tell whether two handles, which are pointers, are of one GPU."""
    return cast(handle, c_void_p).value == cast(other, c_void_p).value
