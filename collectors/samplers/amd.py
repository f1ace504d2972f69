"""AMD GPUs by amdsmi (FORMATS.md §6.2), which comes with ROCm. Unsupported fields are the text "N/A".

Which bits of AMD's throttle status mean what differs by chip, and its binding returns only whether any is set: it is not
``gpu_throttle_reasons``, whose bits are NVML's.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collectors.sampling import Note, Rate, Sample, rated, sample
from rca.capture.manifest import Gpu

_MIB = 1024**2
"""The library divides bytes by this and calls them MB."""

_KB = 1000
_ABSENT_RAW = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""What a field without a value holds where the library does not say "N/A"."""

_NOT_SUPPORTED = (2, 3, 10)
"""Status codes of calls that a GPU, its driver or this user has not: not supported, not yet implemented, no permission."""

_PASSING = (8, 9, 11, 30, 40, 42, 43)
"""Status codes that say nothing about the next call: timeout, retry, interrupt, busy, no data, unexpected size or data."""

_OF_METRICS = {
    "gpu_usage": ("average_gfx_activity",),
    "gpu_mem_util": ("average_umc_activity",),
    "gpu_frequency": ("current_gfxclk", "average_gfxclk_frequency", "current_gfxclks"),
    "gpu_mem_frequency": ("current_uclk", "average_uclk_frequency"),
    "gpu_power": ("current_socket_power", "average_socket_power"),
    "gpu_temp": ("temperature_hotspot",),
    "gpu_mem_temp": ("temperature_mem",),
    "gpu_pcie_width": ("pcie_link_width",),
}
"""The fields that a metric is read from: the first that has a value."""

_LINKS = {"gpu_link_receive": "xgmi_read_data_acc", "gpu_link_transmit": "xgmi_write_data_acc"}


def open_amdsmi() -> Any | str:
    """Return the library, started, or why it cannot be used."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it prints that there is no ROCm
            module = importlib.import_module("amdsmi")
    except ImportError:
        return "the package amdsmi is not installed"
    except (OSError, KeyError, AttributeError):  # the package looks for ROCm's own library as it is imported
        return "no ROCm on this machine, or one of another version than the package amdsmi"
    try:
        module.amdsmi_init()
        handles = module.amdsmi_get_processor_handles()
    except module.AmdSmiException as error:
        return f"amdsmi: {_said(error)}"
    return module if handles else "the AMD driver lists no GPU"


def describe(module: Any) -> list[Gpu]:
    """Return what the manifest says of the GPUs."""
    gpus = []
    for index, handle in enumerate(module.amdsmi_get_processor_handles()):
        asic = _asked(module, module.amdsmi_get_gpu_asic_info, handle) or {}
        limit = _number((_asked(module, module.amdsmi_get_power_cap_info, handle) or {}).get("power_cap"))
        clock = _asked(module, module.amdsmi_get_clock_info, handle, module.AmdSmiClkType.GFX) or {}
        gpus.append(
            Gpu(
                index=index,
                name=_text(asic.get("market_name")),
                uuid=_text(_asked(module, module.amdsmi_get_gpu_device_uuid, handle)),
                pci=_text(_asked(module, module.amdsmi_get_gpu_device_bdf, handle)),
                max_sm_mhz=_number(clock.get("max_clk")),
                power_limit_w=limit / 1e6 if limit is not None and limit > 1e5 else limit,  # µW since ROCm 6
            )
        )
    return gpus


class Amd:
    """Use, clocks, power, heat, memory and links of every GPU.

    Attributes:
        unavailable: metrics that no GPU of this machine has, with the reason of the first one.
    """

    name = "amd"

    def __init__(self, hz: float, module: Any, note: Note) -> None:
        self.hz = min(hz, 10.0)
        self.unavailable: dict[str, str] = {}
        self._lib = module
        self._note = note
        self._rate = Rate()
        self._handles = dict(enumerate(module.amdsmi_get_processor_handles()))
        self._answered: set[tuple[int, str]] = set()
        self._refused: dict[tuple[int, str], str] = {}
        self._missing: dict[str, str] = {}
        self._found: set[str] = set()

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the values of this moment, and rates since the call before, GPU by GPU."""
        samples = []
        for index, handle in list(self._handles.items()):
            try:
                samples += self._from_metrics(now_ns, index, handle) + self._from_memory(now_ns, index, handle)
            except self._lib.AmdSmiException as error:
                del self._handles[index]
                self._note("gpu_lost", f"GPU {index}: {_said(error)}")
        self.unavailable = {metric: why for metric, why in self._missing.items() if metric not in self._found}
        return samples

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(self._lib.AmdSmiException):
            self._lib.amdsmi_shut_down()

    def _from_metrics(self, now_ns: int, index: int, handle: Any) -> list[Sample]:
        metrics = self._ask(index, self._lib.amdsmi_get_gpu_metrics_info, handle, (*_OF_METRICS, *_LINKS))
        if metrics is None:
            return []
        values = {metric: _first(metrics, *fields) for metric, fields in _OF_METRICS.items()}
        totals: dict[str, tuple[float, float] | None] = {}
        for metric, field in _LINKS.items():
            links = [number for link in metrics.get(field) or () if (number := _number(link)) is not None]
            totals[metric] = (sum(links), float(_KB)) if links else None
        self._looked(values)
        self._looked(totals)
        samples = [sample(now_ns, metric, value, _device(index)) for metric, value in values.items() if value is not None]
        counts = {metric: total for metric, total in totals.items() if total is not None}
        return samples + rated(self._rate, now_ns, counts, _device(index))

    def _from_memory(self, now_ns: int, index: int, handle: Any) -> list[Sample]:
        memory = self._ask(index, self._lib.amdsmi_get_gpu_vram_usage, handle, ("gpu_mem_used",))
        if memory is None:
            return []
        used = _number(memory.get("vram_used"))
        self._looked({"gpu_mem_used": used})
        return [sample(now_ns, "gpu_mem_used", used * _MIB, _device(index))] if used is not None else []

    def _looked(self, values: Mapping[str, object]) -> None:
        for metric, value in values.items():
            if value is not None:
                self._found.add(metric)
            else:
                self._missing.setdefault(metric, "this GPU's driver does not report it")

    def _ask(self, index: int, call: Callable[..., Any], handle: Any, metrics: Sequence[str]) -> Any:
        """Return what a call says; None where it says nothing now, or never will on this GPU.

        A call that answered before and then fails raises: the GPU is gone.
        """
        key = index, call.__name__
        if key in self._refused:
            return None
        try:
            answer = call(handle)
        except self._lib.AmdSmiException as error:
            code = getattr(error, "err_code", None)
            if code in _PASSING:
                return None
            if key in self._answered and code not in _NOT_SUPPORTED:
                raise
            self._refused[key] = _said(error)
            self._missing = dict.fromkeys(metrics, self._refused[key]) | self._missing
            return None
        self._answered.add(key)
        return answer


def _device(index: int) -> str:
    return f"GPU {index}"


def _first(metrics: dict[str, Any], *names: str) -> float | None:
    """Return the first of several fields that has a value; of one with a value per die their mean."""
    for name in names:
        value = metrics.get(name)
        if isinstance(value, (list, tuple)):
            dies = [number for die in value if (number := _number(die)) is not None]
            value = sum(dies) / len(dies) if dies else None
        if (number := _number(value)) is not None:
            return number
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value not in _ABSENT_RAW else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""


def _said(error: Exception) -> str:
    """Return the text of an error in one line: the library's have several."""
    return " ".join(str(error).split())


def _asked(module: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except module.AmdSmiException:
        return None
