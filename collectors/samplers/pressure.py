"""Pressure stall information of the host: how much of the time tasks waited for a core, a disk or memory."""

from __future__ import annotations

import re
from pathlib import Path

from collectors.samplers.procfs import KeptOpen
from collectors.sampling import Rate, Sample, sample

PSI_HZ = 0.5
"""The kernel updates its totals every two seconds; reading more often gives zeros and double values in turn."""

_MICROSECONDS_TO_PERCENT = 1e-4
_TOTAL = re.compile(rb"^(some|full).* total=(\d+)", re.MULTILINE)
_WANTED = {"cpu": ("some",), "io": ("some", "full"), "memory": ("some", "full")}


def stall_totals(content: bytes) -> dict[str, int]:
    """Return the µs that tasks were stalled: ``some`` of them, and all (``full``)."""
    return {kind.decode(): int(total) for kind, total in _TOTAL.findall(content)}


class Pressure:
    """PSI of the whole host (kernel documentation, accounting/psi.rst)."""

    name = "pressure"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, PSI_HZ)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._files: dict[str, KeptOpen] = {}
        for resource, kinds in _WANTED.items():
            try:
                self._files[resource] = KeptOpen(Path("/proc/pressure", resource))
                self._files[resource].read()
            except OSError as error:
                self._files.pop(resource, None)
                why = f"the kernel keeps no pressure stall information ({error.strerror}); boot it with psi=1"
                self.unavailable |= {f"pressure_{resource}_{kind}": why for kind in kinds}

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the shares of the time since the call before."""
        samples = []
        for resource, file in self._files.items():
            totals = stall_totals(file.read())
            for kind in _WANTED[resource]:
                share = self._rate((resource, kind), now_ns, totals.get(kind, 0), _MICROSECONDS_TO_PERCENT)
                if share is not None:
                    samples.append(sample(now_ns, f"pressure_{resource}_{kind}", min(share, 100.0)))
        return samples

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
