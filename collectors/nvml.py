"""NVIDIA's management library: one session, and reads that know that any counter may be missing and any GPU may be lost."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from collectors.sampling import Note
from rca.capture.manifest import Gpu

Value = TypeVar("Value")

_PASSING = ("NVML_ERROR_NOT_FOUND", "NVML_ERROR_TIMEOUT", "NVML_ERROR_IN_USE", "NVML_ERROR_RESET_REQUIRED")
"""Errors that say nothing about the next call: no new samples, a lock held by another client."""


class Nvml:
    """An open session. ``module`` is `pynvml`; ``handles``: by index of the GPU, as in the device names ``GPU <index>``.

    Attributes:
        unavailable: metrics that no GPU here has, with the reason of the last one that was asked.
        lost: indices of GPUs that do not answer any more.
    """

    def __init__(self, module: Any, note: Note) -> None:
        self.module = module
        self.handles: dict[int, Any] = {}
        self.unavailable: dict[str, str] = {}
        self.lost: set[int] = set()
        self._absent: dict[str, dict[int, str]] = {}
        self._note = note
        for index in range(module.nvmlDeviceGetCount()):
            try:
                self.handles[index] = module.nvmlDeviceGetHandleByIndex(index)
            except module.NVMLError as error:
                self._lose(index, error)

    def read(self, index: int, metric: str, call: Callable[..., Value], *arguments: Any) -> Value | None:
        """Return ``call(handle, *arguments)`` for a GPU; None where the GPU, the driver or the binding lacks it."""
        if index in self.lost or index in self._absent.get(metric, ()):
            return None
        try:
            return call(self.handles[index], *arguments)
        except AttributeError as error:
            self._without(index, metric, f"this version of pynvml lacks it ({error})")
        except self.module.NVMLError as error:
            if error.value == self.module.NVML_ERROR_GPU_IS_LOST:
                self._lose(index, error)
            elif error.value not in self._passing():
                self._without(index, metric, str(error))
        return None

    def fields(self, index: int, wanted: dict[str, tuple[int, int]]) -> dict[str, float]:
        """Return field values by metric, of those that the GPU has; ``wanted`` has field and scope of each."""
        asked = {metric: ids for metric, ids in wanted.items() if index not in self._absent.get(metric, ())}
        if not asked:
            return {}
        answers = self.read(index, "field values", self.module.nvmlDeviceGetFieldValues, list(asked.values()))
        found = {}
        for metric, answer in zip(asked, answers or (), strict=False):
            if answer.nvmlReturn == self.module.NVML_SUCCESS:
                found[metric] = self._number(answer)
            elif answer.nvmlReturn == self.module.NVML_ERROR_GPU_IS_LOST:
                self._lose(index, self.module.NVMLError(answer.nvmlReturn))
            elif answer.nvmlReturn not in self._passing():
                self._without(index, metric, str(self.module.NVMLError(answer.nvmlReturn)))
        return found

    def has(self, index: int, metric: str) -> bool:
        """Tell whether a GPU did not refuse a metric yet."""
        return index not in self._absent.get(metric, ())

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(self.module.NVMLError):
            self.module.nvmlShutdown()

    def _number(self, answer: Any) -> float:
        kinds = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
        return float(getattr(answer.value, kinds.get(answer.valueType, "ullVal")))

    def _passing(self) -> set[int]:
        return {getattr(self.module, name, -1) for name in _PASSING}

    def _lose(self, index: int, error: Exception) -> None:
        if index not in self.lost:
            self.lost.add(index)
            self._note("gpu_lost", f"GPU {index}: {error}")

    def _without(self, index: int, metric: str, why: str) -> None:
        refused = self._absent.setdefault(metric, {})
        refused[index] = why
        if len(refused) == len(self.handles):
            self.unavailable[metric] = why


def open_nvml(note: Note) -> Nvml | str:
    """Return a session, or why there is none."""
    try:
        module = importlib.import_module("pynvml")
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        module.nvmlInit()
        session = Nvml(module, note)
    except module.NVMLError as error:
        missing = error.value == module.NVML_ERROR_LIBRARY_NOT_FOUND
        return "no NVIDIA driver on this machine" if missing else f"NVML: {error}"
    if not session.handles:
        session.close()
        return "the NVIDIA driver lists no GPU"
    return session


def describe(session: Nvml) -> list[Gpu]:
    """Return what the manifest says of the GPUs."""
    lib = session.module
    driver = _text(lib.nvmlSystemGetDriverVersion())
    gpus = []
    for index in session.handles:

        def ask(name: str, call: Callable[..., Any], *arguments: Any, index: int = index) -> Any:
            return session.read(index, f"property {name}", call, *arguments)

        limit_mw = ask("power limit", lib.nvmlDeviceGetEnforcedPowerLimit)
        memory = ask("memory", lib.nvmlDeviceGetMemoryInfo)
        pci = ask("pci", lib.nvmlDeviceGetPciInfo)
        gpus.append(
            Gpu(
                index=index,
                name=_text(ask("name", lib.nvmlDeviceGetName) or ""),
                uuid=_text(ask("uuid", lib.nvmlDeviceGetUUID) or ""),
                pci=_text(pci.busId) if pci else "",
                memory_bytes=memory.total if memory else None,
                max_sm_mhz=ask("max SM clock", lib.nvmlDeviceGetMaxClockInfo, lib.NVML_CLOCK_SM),
                max_mem_mhz=ask("max memory clock", lib.nvmlDeviceGetMaxClockInfo, lib.NVML_CLOCK_MEM),
                power_limit_w=limit_mw / 1000 if limit_mw is not None else None,
                driver=driver,
            )
        )
    return gpus


def processes_on(session: Nvml) -> dict[int, list[int]]:
    """Return the GPUs that each process has a context on."""
    found: dict[int, list[int]] = {}
    for index in session.handles:
        running = session.read(index, "processes", session.module.nvmlDeviceGetComputeRunningProcesses)
        for process in running or ():
            found.setdefault(process.pid, []).append(index)
    return found


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
