"""AMD GPUs by amdsmi (FORMATS.md §6.2), which comes with ROCm. Unsupported fields are the text "N/A"."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from collectors.sampling import Note, Rate, Sample, rated, sample
from rca.capture.manifest import Gpu

_MB = 1_000_000
_KB = 1000
_ABSENT_RAW = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""What a field without a value holds where the library does not say "N/A"."""


def open_amdsmi() -> Any | str:
    """Return the library, started, or why it cannot be used."""
    try:
        module = importlib.import_module("amdsmi")
    except (ImportError, OSError, KeyError) as error:  # the package looks for ROCm's own library as it is imported
        return "the package amdsmi is not installed" if isinstance(error, ImportError) else "no ROCm on this machine"
    try:
        module.amdsmi_init()
        handles = module.amdsmi_get_processor_handles()
    except module.AmdSmiException as error:
        return f"amdsmi: {error}"
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
                name=str(asic.get("market_name", "")),
                uuid=str(_asked(module, module.amdsmi_get_gpu_device_uuid, handle) or ""),
                pci=str(_asked(module, module.amdsmi_get_gpu_device_bdf, handle) or ""),
                max_sm_mhz=_number(clock.get("max_clk")),
                power_limit_w=limit / 1e6 if limit is not None and limit > 1e5 else limit,  # µW since ROCm 6
            )
        )
    return gpus


class Amd:
    """Use, clocks, power, heat, memory and links of every GPU."""

    name = "amd"

    def __init__(self, hz: float, module: Any, note: Note) -> None:
        self.hz = min(hz, 10.0)
        self.unavailable: dict[str, str] = {}
        self._lib = module
        self._note = note
        self._rate = Rate()
        self._handles = dict(enumerate(module.amdsmi_get_processor_handles()))

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the values of this moment, and rates since the call before, GPU by GPU."""
        samples = []
        for index, handle in list(self._handles.items()):
            try:
                metrics = self._lib.amdsmi_get_gpu_metrics_info(handle)
                memory = self._lib.amdsmi_get_gpu_vram_usage(handle)
            except self._lib.AmdSmiException as error:
                del self._handles[index]
                self._note("gpu_lost", f"GPU {index}: {error}")
                continue
            samples += self._of(now_ns, f"GPU {index}", metrics, memory)
        return samples

    def _of(self, now_ns: int, device: str, metrics: dict[str, Any], memory: dict[str, Any]) -> list[Sample]:
        used = _number(memory.get("vram_used"))
        values = {
            "gpu_usage": _first(metrics, "average_gfx_activity"),
            "gpu_mem_util": _first(metrics, "average_umc_activity"),
            "gpu_frequency": _first(metrics, "current_gfxclk", "average_gfxclk_frequency", "current_gfxclks"),
            "gpu_mem_frequency": _first(metrics, "current_uclk", "average_uclk_frequency"),
            "gpu_power": _first(metrics, "current_socket_power", "average_socket_power"),
            "gpu_temp": _first(metrics, "temperature_hotspot"),
            "gpu_mem_temp": _first(metrics, "temperature_mem"),
            "gpu_throttle_reasons": _first(metrics, "indep_throttle_status", "throttle_status"),
            "gpu_pcie_width": _first(metrics, "pcie_link_width"),
            "gpu_mem_used": used * _MB if used is not None else None,
        }
        self.unavailable |= {m: "this GPU's driver does not report it" for m, value in values.items() if value is None}
        samples = [sample(now_ns, metric, value, device) for metric, value in values.items() if value is not None]
        totals: dict[str, tuple[float, float]] = {}
        for metric, field in (("gpu_link_receive", "xgmi_read_data_acc"), ("gpu_link_transmit", "xgmi_write_data_acc")):
            links = [number for link in metrics.get(field) or () if (number := _number(link)) is not None]
            totals |= {metric: (sum(links), float(_KB))} if links else {}
        return samples + rated(self._rate, now_ns, totals, device)

    def close(self) -> None:
        """End the session."""
        self._lib.amdsmi_shut_down()


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


def _asked(module: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except module.AmdSmiException:
        return None
