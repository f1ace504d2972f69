"""Faults that can be injected, and changes that are none. Public: `FAULTS`, `Fault`, `FaultError`, `Situation`."""

from lab.faults import changes, cpu, devices, gpu, memory
from lab.faults.model import Fault, FaultError, Parameters, Situation

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*cpu.FAULTS, *memory.FAULTS, *devices.FAULTS, *gpu.FAULTS, *changes.FAULTS)
}

__all__ = ["FAULTS", "Fault", "FaultError", "Parameters", "Situation"]
