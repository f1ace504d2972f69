"""Conditions of the catalogue's signs: what a machine must be like for a sign to mean what it seems to."""

from __future__ import annotations

from rca.verdict.scene import Scene

CROWDED = 45.0
"""% of logical cores: with two hardware threads a core, every core has work from 50 % on, and each thread slows its twin."""
WAITS = 10.0
"""% of the time that threads could run: from here on it matters who comes first."""
TURBO = 0.6
"""A clock that is limited by the number of active cores, or by vector code, keeps more than this of what one core has."""
POWER_SHARED = 0.5
"""Where two processes share a GPU's power, its clock keeps more than this; less is a lock, or heat."""
CLOCK_MARGIN = 1.25
"""Kernels may take this much longer than the ratio of the clocks says, for the clock to be all there is to it."""
LEAP = 10.0
"""A load seldom grows this many times between two captures that somebody compares."""
WAITED_SHARE = 0.3
"""Share of the change that lies where a cause makes the cycle wait."""
LOADED = 30.0
"""% of the time with a kernel: below, links and clocks of a GPU rest for lack of work."""

LENGTHS = ("prompt_length", "answer_length", "context_length")
HOST_PARTS = ("runq", "host_calls", "host_python", "between", "host", "sync", "io")
GPU_PARTS = ("gpu_compute", "gpu_comm", "gpu_copy", "gpu_other", "gpu_gaps")
"""Parts of the ledger in which a host, or a GPU, takes its time."""


def waits_more(s: Scene) -> bool:
    """The server waits longer for a core."""
    return s.up("waiting", "cycle_waiting")


def crowded(s: Scene) -> bool:
    """Cores are scarce: all physical ones are busy, or the server waits for one."""
    return s.on_worse("host_busy", 0) >= CROWDED or waits_more(s)


def tasks_wait_for_disks(s: Scene) -> bool:
    """Nothing excludes that tasks wait longer for disks."""
    return not s.stayed("io_pressure") or s.up("disk_latency")


def network_is_waited_for(s: Scene) -> bool:
    """The time was lost where a cycle would wait for the network, as far as a ledger tells."""
    return s.ledger is None or s.ledger.share("gpu_comm", "sync", "between") > WAITED_SHARE


def lowers_the_clock(s: Scene) -> bool:
    """The same work at a lower clock, or at one that nobody recorded."""
    return s.same_work and (s.down("gpu_clock") or not s.seen("gpu_clock"))


def someone_else(s: Scene) -> bool:
    """Others took half a core more, of a machine on which that is little."""
    return s.grew("others_cpu") * s.cores / 100 >= 0.5 and not s.up("throttled") and s.same_work


def clock_while_busy(s: Scene) -> bool:
    """Kernels took longer, or the GPU was as busy as before: the clock is not that of a GPU at rest."""
    return s.up("kernel_stretch") or (s.seen("gpu_usage") is not None and not s.down("gpu_usage"))


def not_its_own(s: Scene, signal: str) -> bool:
    """Bytes that the server did not send: its work is the same or, where that is not known, they grew as no load grows."""
    leap = s.on_worse(signal, 0) >= LEAP * s.on_better(signal, 1)
    return s.same_work or (not s.work_known and leap)


def copies_not_kernels(s: Scene) -> bool:
    """Nothing says that kernels of another process ran."""
    return not s.up("gpu_others", "sm_activity")


def other_sizes(s: Scene) -> bool:
    """Requests or batches are of other sizes."""
    return any(s.moved(signal) for signal in ("batch", "tokens", "running", *LENGTHS))


def clock_explains(s: Scene) -> bool:
    """Kernels, and the SMs' activity, grew by no more than the clock fell: the same work, slower."""
    clock = s.on_better("gpu_clock", 1) / max(s.on_worse("gpu_clock", 1), 1e-9)
    longer = s.on_worse("kernel_stretch", 1) / max(s.on_better("kernel_stretch", 1), 1e-9)
    busier = s.on_worse("sm_activity", 1) / max(s.on_better("sm_activity", 1), 1e-9)
    return s.down("gpu_clock", "gpu_mem_clock") and max(longer, busier) <= CLOCK_MARGIN * clock


def power_shared(s: Scene) -> bool:
    """The clock is no lower than sharing power makes it."""
    return s.on_worse("gpu_clock", 1) >= POWER_SHARED * s.on_better("gpu_clock", 1)


def clock_known(s: Scene) -> bool:
    """The clock was recorded, and is not lower."""
    return s.seen("gpu_clock") is not None and not s.down("gpu_clock", "gpu_mem_clock")
