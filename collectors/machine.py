"""Facts of this machine for the manifest, and the samplers that it can run."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from typing import Any

import psutil

from collectors import nvml
from collectors.process_tree import ProcessTree
from collectors.samplers import amd
from collectors.samplers.cgroups import Cgroups
from collectors.samplers.host import Cores, Cpu, Disks, Memory, Network, Sensors
from collectors.samplers.nvidia import NvidiaFast, NvidiaGpm, NvidiaPcie, NvidiaSlow, NvidiaXid
from collectors.samplers.pressure import Pressure
from collectors.samplers.processes import Processes, Threads
from collectors.samplers.procfs import number_of, text_of
from collectors.sampling import Note, Sampler
from rca.capture.manifest import Gpu, Host


def host_facts() -> Host:
    """Return what the manifest says of this machine."""
    cpuinfo = text_of("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    max_khz = number_of("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return Host(
        name=platform.node(),
        kernel=platform.release(),
        cpu=model[1].strip() if model else platform.processor(),
        cores=psutil.cpu_count(),
        cpu_max_mhz=max_khz / 1000 if max_khz else None,
        memory_bytes=psutil.virtual_memory().total,
        virtual=" hypervisor" in cpuinfo,
    )


@dataclass
class Gpus:
    """The GPUs of this machine, by their vendors' libraries. ``unavailable``: why there is nothing to say of a vendor's."""

    nvidia: nvml.Nvml | None = None
    amd: Any = None
    facts: list[Gpu] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)

    def in_use_by(self) -> dict[int, list[int]]:
        """Return the GPUs that each process has a context on."""
        return nvml.processes_on(self.nvidia) if self.nvidia else {}

    def samplers(self, hz: float, note: Note) -> list[Sampler]:
        """Return the samplers of all GPUs."""
        found: list[Sampler] = []
        if self.nvidia:
            found += [NvidiaFast(hz, self.nvidia), NvidiaSlow(hz, self.nvidia), NvidiaPcie(hz, self.nvidia)]
            found += [NvidiaGpm(hz, self.nvidia), NvidiaXid(hz, self.nvidia, note)]
        if self.amd:
            found.append(amd.Amd(hz, self.amd, note))
        return found

    def close(self) -> None:
        """End the session with NVIDIA's library; AMD's ends with its sampler."""
        if self.nvidia:
            self.nvidia.close()


def open_gpus(note: Note) -> Gpus:
    """Look for GPUs."""
    gpus = Gpus()
    nvidia, radeon = nvml.open_nvml(note), amd.open_amdsmi()
    if isinstance(nvidia, nvml.Nvml):
        gpus.nvidia = nvidia
        gpus.facts += nvml.describe(nvidia)
    if not isinstance(radeon, str):
        gpus.amd = radeon
        gpus.facts += amd.describe(radeon)
    if not gpus.facts:
        gpus.unavailable["gpu_*"] = f"NVIDIA: {nvidia}; AMD: {radeon}"
    return gpus


def host_samplers(hz: float, tree: ProcessTree) -> tuple[list[Sampler], list[Sampler]]:
    """Return the samplers of the host and of the watched processes: those that never block, and those that may take long."""
    quick: list[Sampler] = [Cpu(hz), Cores(hz), Memory(hz), Disks(hz), Network(hz), Pressure(hz)]
    slow: list[Sampler] = [Sensors(hz)]  # some sensors are read over a slow bus
    if tree.pids():
        quick += [Cgroups(hz, tree.pids), Processes(hz, tree)]
        slow.append(Threads(hz, tree))
    return quick, slow
