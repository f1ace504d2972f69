"""NVIDIA's management library: one session, and reads that know that any counter may be missing and any GPU may be lost."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from collectors.sampling import Note
from rca.capture.manifest import Gpu

Value = TypeVar("Value")

_PASSING = (
    "NVML_SUCCESS",  # raised by the binding for an empty list
    "NVML_ERROR_NOT_FOUND",
    "NVML_ERROR_INSUFFICIENT_SIZE",
    "NVML_ERROR_TIMEOUT",
    "NVML_ERROR_RESET_REQUIRED",
    "NVML_ERROR_IN_USE",
    "NVML_ERROR_NO_DATA",
    "NVML_ERROR_NOT_READY",
)
"""Errors that say nothing about the next call: no new samples, a list that grew while it was read, a lock held by another
client."""

_NARROW = ("NVML_VALUE_TYPE_UNSIGNED_INT", "NVML_VALUE_TYPE_SIGNED_INT", "NVML_VALUE_TYPE_UNSIGNED_SHORT")


class Nvml:
    """An open session. ``module`` is `pynvml`; ``handles``: by index of the GPU, as in the device names ``GPU <index>``.

    Attributes:
        unavailable: metrics that no GPU here has, with the reason of the last one that was asked.
        lost: indices of GPUs that do not answer any more.
        gpm: indices of GPUs whose links GPM measures where they have no counters for them.
    """

    def __init__(self, module: Any, note: Note) -> None:
        self.module = module
        self.handles: dict[int, Any] = {}
        self.unavailable: dict[str, str] = {}
        self.lost: set[int] = set()
        self.gpm: set[int] = set()
        self._absent: dict[str, dict[int, str]] = {}
        self._note = note
        self._lock = threading.Lock()
        self._passing = {getattr(module, name) for name in _PASSING if hasattr(module, name)}
        self._narrow = {getattr(module, name) for name in _NARROW if hasattr(module, name)}
        for index in range(module.nvmlDeviceGetCount()):
            try:
                self.handles[index] = module.nvmlDeviceGetHandleByIndex(index)
            except module.NVMLError as error:
                self._lose(index, error)

    def read(self, index: int, metric: str | Sequence[str], call: Callable[..., Value], *arguments: Any) -> Value | None:
        """Return ``call(handle, *arguments)`` for a GPU; None where the GPU, the driver or the binding lacks it.

        ``metric``: what is lacking then; several that come of one call are lacking together.
        """
        metrics = (metric,) if isinstance(metric, str) else metric
        if index in self.lost or not self.has(index, metrics[0]):
            return None
        try:
            return call(self.handles[index], *arguments)
        except AttributeError as error:
            for one in metrics:
                self.refuse(index, one, f"this version of pynvml lacks it ({error})")
        except self.module.NVMLError as error:
            self.failed(index, error, *metrics)
        return None

    def fields(self, index: int, wanted: dict[str, tuple[int, int]], wide: bool = False) -> dict[str, float]:
        """Return field values by metric, of those that the GPU has; ``wanted`` has field and scope of each.

        ``wide`` leaves out counts of 32 bits: of bytes over PCIe they wrap within a tenth of a second.
        """
        asked = {metric: ids for metric, ids in wanted.items() if self.has(index, metric)}
        if not asked:
            return {}
        answers = self.read(index, "field values", self.module.nvmlDeviceGetFieldValues, list(asked.values()))
        if (why := self.why(index, "field values")) is not None:
            for metric in asked:
                self.refuse(index, metric, why)
        found = {}
        for metric, answer in zip(asked, answers or (), strict=False):
            if answer.nvmlReturn != self.module.NVML_SUCCESS:
                self.failed(index, self.module.NVMLError(answer.nvmlReturn), metric)
            elif wide and answer.valueType in self._narrow:
                self.refuse(index, metric, "its counter has 32 bits and wraps too fast")
            else:
                found[metric] = self._number(answer)
        return found

    def has(self, index: int, metric: str) -> bool:
        """Tell whether a GPU did not refuse a metric yet."""
        return self.why(index, metric) is None

    def why(self, index: int, metric: str) -> str | None:
        """Return why a GPU lacks a metric; None if it did not refuse it yet."""
        return self._absent.get(metric, {}).get(index)

    def refuse(self, index: int, metric: str, why: str) -> None:
        """Remember that a GPU lacks a metric."""
        with self._lock:
            refused = self._absent.setdefault(metric, {})
            refused.setdefault(index, why)
            if len(refused) == len(self.handles):
                self.unavailable[metric] = why

    def failed(self, index: int, error: Any, *metrics: str) -> None:
        """Conclude from an error of the library that a GPU is lost, or lacks metrics, or only that it said nothing now."""
        if error.value == self.module.NVML_ERROR_GPU_IS_LOST:
            self._lose(index, error)
        elif error.value not in self._passing:
            for metric in metrics:
                self.refuse(index, metric, str(error))

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(self.module.NVMLError):
            self.module.nvmlShutdown()

    def _number(self, answer: Any) -> float:
        kinds = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
        return float(getattr(answer.value, kinds.get(answer.valueType, "ullVal")))

    def _lose(self, index: int, error: Exception) -> None:
        with self._lock:
            first = index not in self.lost
            self.lost.add(index)
        if first:
            self._note("gpu_lost", f"GPU {index}: {error}")


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
        return "no NVIDIA GPU answers" if session.lost else "the NVIDIA driver lists no GPU"
    return session


def describe(session: Nvml) -> list[Gpu]:
    """Return what the manifest says of the GPUs."""
    lib = session.module
    driver = ""
    with contextlib.suppress(lib.NVMLError):
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
