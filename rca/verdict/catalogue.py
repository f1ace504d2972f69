"""The catalogue of causes: one entry each, its physical reason, its signs, what makes it a mere symptom, what refutes it.

The ids are those of DESIGN.md. A *decisive* sign is one that, where its condition holds, only this trouble (or what causes
it) brings about; one is enough to name the cause. Other signs support it. ``symptom_of`` says which other cause brings the
same signs about by itself: where that is named, this one follows it and is ranked below. Rules see the sides as better and
worse (`rca.verdict.scene`), so the same entries judge a capture that got faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rca.verdict.rules import (
    GPU_PARTS,
    HOST_PARTS,
    LENGTHS,
    LOADED,
    TURBO,
    WAITED_SHARE,
    WAITS,
    clock_explains,
    clock_known,
    clock_while_busy,
    copies_not_kernels,
    crowded,
    lowers_the_clock,
    network_is_waited_for,
    not_its_own,
    other_sizes,
    power_shared,
    someone_else,
    tasks_wait_for_disks,
)
from rca.verdict.scene import Scene

Rule = Callable[[Scene], bool]

UP, DOWN, EITHER = 1, -1, 0


@dataclass(frozen=True)
class Sign:
    """A signal that moves when a cause is at work; ``when`` narrows a decisive sign, ``otherwise`` says what else it is."""

    signal: str
    direction: int
    decisive: bool = False
    when: Rule | None = None
    otherwise: str = ""


@dataclass(frozen=True)
class Refutation:
    """What speaks against a cause, in words, where a rule holds. ``final`` ones let it not be named."""

    rule: Rule
    text: str
    final: bool = False


@dataclass(frozen=True)
class Parent:
    """Another cause that brings about the signs of this one, where a rule holds."""

    cause: str
    rule: Rule
    text: str


@dataclass(frozen=True)
class Entry:
    """One cause.

    Attributes:
        id: of the closed list.
        why: how it makes a server slow.
        signs: what moves.
        facts: kinds of `Fact` that are decisive.
        refuted_by: what speaks against it.
        symptom_of: what it may follow from.
        parts: of the ledger, in which its time is lost; empty where any may be.
        looks_like: other explanations of the same signs, in words.
        next_check: a command that would decide.
        per_gpu: judged for each GPU in use.
        facts_when: where the facts are decisive; that two versions differ explains nothing where nothing differs.
    """

    id: str
    why: str
    signs: tuple[Sign, ...]
    next_check: str
    facts: tuple[str, ...] = ()
    refuted_by: tuple[Refutation, ...] = ()
    symptom_of: tuple[Parent, ...] = ()
    parts: tuple[str, ...] = ()
    looks_like: str = ""
    per_gpu: bool = False
    facts_when: Rule = lambda s: s.shows or s.unlike


def _decisive(signal: str, direction: int, when: Rule | None = None, otherwise: str = "") -> Sign:
    return Sign(signal, direction, True, when, otherwise)


def _supports(signal: str, direction: int) -> Sign:
    return Sign(signal, direction)


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        id="hardware_change",
        why="another GPU, CPU or number of cores: every time is of another machine",
        signs=(),
        facts=("hardware",),
        facts_when=lambda _: True,
        next_check="compare captures of the same machine model, or accept the new one's as the normal side",
    ),
    Entry(
        id="software_change",
        why="other code does other work: more launches, other kernels, copies or waits, graphs switched off",
        signs=(
            _decisive(
                "changed_calls",
                EITHER,
                lambda s: not other_sizes(s) and (s.shows or s.unlike or s.moved("call_count") != 0),
                "the requests are of other sizes, or as many calls of other names take the same time",
            ),
        ),
        facts=("software", "engine_settings"),
        facts_when=lambda s: s.shows or s.unlike or s.moved("changed_calls") != 0,
        refuted_by=(
            Refutation(
                lambda s: s.states("software", "engine_settings") and s.stayed("changed_calls"),
                "every cycle makes the calls it made before",
            ),
        ),
        symptom_of=(
            Parent("hardware_change", lambda _: True, "libraries choose other kernels for another device"),
            Parent("capture_artifact", lambda _: True, "another way of recording sees other calls"),
        ),
        looks_like="a changed workload whose size no annotation states",
        next_check="diff the versions and start-up settings of both sides; pip freeze; git log of the deployment",
    ),
    Entry(
        id="workload_shift",
        why="more requests, longer prompts or contexts, another mix of phases: the same server has more to do",
        signs=(
            _decisive("prompt_length", EITHER),
            _decisive("answer_length", EITHER),
            _decisive("context_length", EITHER),
            _decisive("batch", EITHER),
            _decisive("tokens", EITHER),
            _decisive("prefills", EITHER),
            _decisive("running", EITHER),
            _supports("cache_share", EITHER),
            _supports("queued", UP),
        ),
        symptom_of=tuple(
            Parent(
                cause,
                lambda s: (s.shows or s.unlike) and not any(s.moved(signal) for signal in ("prefills", *LENGTHS)),
                "requests pile up where a server is slow (Little's law)",
            )
            for cause in (
                *("cpu_contention", "cpu_quota", "cpu_frequency", "host_memory_pressure", "disk_io", "network"),
                *("gpu_clock", "gpu_contention", "gpu_memory_pressure", "pcie_contention", "nvlink_contention"),
            )
        ),
        looks_like="a slow server under a load that does not wait: its batch grows by itself",
        next_check="request rate, prompt and answer lengths at the gateway, for both times",
    ),
    Entry(
        id="capture_artifact",
        why="the profiler takes time itself: stacks, shapes and stalls of its own lengthen what it measures",
        signs=(),
        facts=("recording",),
        parts=HOST_PARTS,
        next_check="record both sides again with the same profiler settings, without stacks, and compare those",
    ),
    Entry(
        id="cpu_quota",
        why="a control group that has used up its CPU time stops until the next period; fewer allowed cores do the same",
        signs=(
            _decisive("throttled", UP),
            _decisive("throttled_periods", UP),
            _decisive(
                "cpu_limit",
                DOWN,
                lambda s: s.on_worse("own_cpu", 0) >= 0.8 * s.on_worse("cpu_limit", 1e9),
                "the limit was lowered, but is not reached",
            ),
            _decisive("allowed_cores", DOWN),
            _supports("waiting", UP),
            _supports("cycle_waiting", UP),
            _supports("own_cpu", DOWN),
        ),
        parts=HOST_PARTS,
        looks_like="",
        next_check="cat /sys/fs/cgroup/<group>/cpu.stat cpu.max; taskset -p <pid>; kubectl describe pod",
    ),
    Entry(
        id="host_memory_pressure",
        why="a task that needs memory must free some first, or read back what was dropped or swapped out",
        signs=(
            _decisive("memory_pressure", UP),
            _decisive("swapping", UP),
            _decisive("reclaim", UP),
            _decisive("swapped_out", UP),
            _decisive(
                "major_faults",
                UP,
                lambda s: s.down("memory_left", "memory_limit"),
                "memory was left: a file was read for the first time",
            ),
            _decisive(
                "memory_limit",
                DOWN,
                lambda s: s.up("major_faults", "memory_pressure"),
                "a lower limit that nothing runs into",
            ),
            _supports("memory_left", DOWN),
            _supports("memory_used", UP),
        ),
        refuted_by=(Refutation(lambda s: s.stayed("memory_pressure"), "no task waited for memory more than before"),),
        parts=HOST_PARTS,
        looks_like="",
        next_check="vmstat 1; cat /proc/pressure/memory; grep -E 'pgscan|pswp|pgmajfault' /proc/vmstat",
    ),
    Entry(
        id="disk_io",
        why="requests queue at a disk; whoever reads or writes waits, and writing takes CPU time in the kernel",
        signs=(
            _decisive("io_pressure", UP),
            _decisive("own_io_wait", UP),
            _decisive("iowait", UP),
            _decisive("blocked", UP),
            _decisive("disk_busy", UP, tasks_wait_for_disks, "no task waited for it"),
            _supports("disk_latency", UP),
            _supports("disk_bytes", UP),
            _supports("host_system", UP),
        ),
        refuted_by=(Refutation(lambda s: s.stayed("io_pressure"), "no task waited for a disk more than before"),),
        symptom_of=(
            Parent(
                "host_memory_pressure",
                lambda s: s.up("major_faults", "swapping", "reclaim", "memory_pressure"),
                "what was dropped or swapped out for lack of memory is read back from the disk",
            ),
            Parent("cold_cache", lambda s: s.up("own_reads"), "it is the server's own reading"),
        ),
        parts=HOST_PARTS,
        next_check="iostat -x 1; pidstat -d 1; cat /proc/pressure/io",
    ),
    Entry(
        id="cpu_contention",
        why="others take cores, their twin hardware threads, caches and turbo clock; the server waits or runs slower",
        signs=(
            _decisive(
                "others_cpu",
                UP,
                crowded,
                "enough cores stayed free, and the server did not wait for one",
            ),
            _decisive(
                "all_cpu",
                UP,
                lambda s: s.same_work and crowded(s),
                "the CPU time may be the server's own, or enough cores stayed free",
            ),
            _decisive("steal", UP),
            _decisive(
                "cycle_waiting", UP, someone_else, "the server's own threads, a quota or more work may be what it waits for"
            ),
            _decisive("nice", UP, lambda s: s.on_worse("waiting", 0) >= WAITS, "a lower priority that nothing makes use of"),
            _supports("waiting", UP),
            _supports("cpu_pressure", UP),
            _supports("own_cpu", DOWN),
        ),
        refuted_by=(
            Refutation(
                lambda s: s.stayed("others_cpu") and not s.up("steal", "nice", "cycle_waiting", "waiting"),
                "other programs took no more CPU time than before",
                final=True,
            ),
        ),
        symptom_of=(
            Parent(
                "host_memory_pressure",
                lambda s: s.up("reclaim", "swapping", "memory_pressure"),
                "freeing and reading back memory takes CPU time of the kernel",
            ),
            Parent(
                "disk_io",
                lambda s: s.up("disk_bytes", "disk_busy") and s.grew("host_system") >= 0.3 * s.grew("others_cpu"),
                "the CPU time that others took is the kernel's, spent on their reading and writing",
            ),
        ),
        parts=HOST_PARTS,
        looks_like="memory bandwidth taken by the same programs (host_memory_pressure): no counter here tells them apart",
        next_check="pidstat -u -w 1; cat /proc/pressure/cpu; top -H -p <pid>",
    ),
    Entry(
        id="cpu_frequency",
        why="at a lower clock everything that the CPU does takes longer, by the ratio of the clocks",
        signs=(_decisive("cpu_clock", DOWN), _supports("cpu_heat", UP)),
        refuted_by=(
            Refutation(
                lambda s: s.down("host_busy"),
                "the cores had less to do: idle cores rest at a low clock",
                final=True,
            ),
        ),
        symptom_of=(
            Parent(
                "cpu_contention",
                lambda s: s.on_worse("cpu_clock", 0) >= TURBO * s.on_better("cpu_clock", 1),
                "more busy cores, and vector code on them, leave less turbo clock",
            ),
            Parent("hardware_change", lambda _: True, "another CPU has another clock"),
        ),
        parts=HOST_PARTS,
        next_check="cpupower frequency-info; turbostat --show Core,Bzy_MHz,CoreTmp,PkgWatt",
    ),
    Entry(
        id="network",
        why="segments that were lost are sent again after a timeout; a full link queues",
        signs=(
            _decisive("retransmits", UP, network_is_waited_for, "communication and gaps take no more of the cycle"),
            _decisive("drops", UP, network_is_waited_for, "communication and gaps take no more of the cycle"),
            _decisive(
                "net_bytes",
                UP,
                lambda s: s.ledger is not None and s.ledger.share("gpu_comm") > WAITED_SHARE,
                "more traffic, but communication takes no more of the cycle",
            ),
        ),
        parts=("gpu_comm", "sync", "between", "host_python", "host"),
        next_check="ss -ti; nstat -az TcpRetransSegs; ethtool -S <device>",
    ),
    Entry(
        id="gpu_clock",
        why="at a lower clock kernels take longer; the cycle does as soon as it waits for the GPU",
        signs=(
            _decisive(
                "gpu_clock", DOWN, clock_while_busy, "an idle GPU lowers its clock, and nothing says that it was busy"
            ),
            _decisive(
                "gpu_mem_clock", DOWN, clock_while_busy, "an idle GPU lowers its clock, and nothing says that it was busy"
            ),
            _decisive("gpu_heat", UP, lowers_the_clock, "the clock is what it was, or the server has more to do"),
            _decisive("gpu_power_cap", UP, lowers_the_clock, "the clock is what it was, or the server has more to do"),
            _supports("gpu_power_limit", DOWN),
            _supports("kernel_stretch", UP),
            _supports("gpu_usage", UP),
            _supports("gpu_temp", UP),
        ),
        refuted_by=(
            Refutation(lambda s: s.stayed("kernel_stretch"), "kernels take no longer than before", final=True),
            Refutation(lambda s: s.up("kernel_cycles"), "kernels take longer than the clock explains"),
        ),
        symptom_of=(
            Parent("hardware_change", lambda _: True, "another GPU has another clock"),
            Parent(
                "gpu_contention",
                lambda s: s.up("gpu_others", "sm_activity") and power_shared(s) and not clock_explains(s),
                "another process on the GPU uses up its power",
            ),
            Parent(
                "workload_shift",
                lambda s: s.other_work and power_shared(s),
                "more work draws more power, and the power limit lowers the clock",
            ),
        ),
        parts=GPU_PARTS,
        per_gpu=True,
        next_check="nvidia-smi -q -d CLOCK,PERFORMANCE,POWER; nvidia-smi -rgc where a lock was left behind",
    ),
    Entry(
        id="pcie_contention",
        why="a link carries so many bytes a second; what others send over it makes copies and peer access wait",
        signs=(
            _decisive("pcie_bytes", UP, lambda s: not_its_own(s, "pcie_bytes"), "the bytes may be the server's own"),
            _decisive("pcie_replays", UP),
            _decisive("pcie_width", DOWN, lambda s: s.on_worse("gpu_usage", 0) >= LOADED, "an idle link rests"),
            _decisive("pcie_generation", DOWN, lambda s: s.on_worse("gpu_usage", 0) >= LOADED, "an idle link rests"),
            _supports("copy_time_h2d", UP),
            _supports("copy_time_d2h", UP),
        ),
        parts=("gpu_copy", "gpu_comm", "gpu_compute", "sync"),
        per_gpu=True,
        next_check="nvidia-smi dmon -s t; nvidia-smi topo -m; nvidia-smi -q -d PERFORMANCE,PAGE_RETIREMENT; lspci -vv",
    ),
    Entry(
        id="nvlink_contention",
        why="peers share the links; what others copy over them makes collectives wait",
        signs=(_decisive("link_bytes", UP, lambda s: not_its_own(s, "link_bytes"), "the bytes may be the server's own"),),
        parts=("gpu_comm", "gpu_compute", "gpu_copy"),
        per_gpu=True,
        next_check="nvidia-smi nvlink -gt d; nvidia-smi pmon -s um",
    ),
    Entry(
        id="gpu_contention",
        why="another process takes turns on the GPU, or shares its SMs, caches and memory bandwidth",
        signs=(
            _decisive("gpu_others", UP),
            _decisive("sm_activity", UP, lambda s: s.same_work, "the server's own work changed"),
            _decisive(
                "kernel_stretch",
                UP,
                lambda s: s.same_work and s.up("gpu_usage", "gpu_bandwidth", "gpu_memory") and clock_known(s),
                "kernels take longer, but nothing says that another process ran (a lower clock does the same)",
            ),
            _supports("gpu_usage", UP),
            _supports("occupancy", UP),
            _supports("gpu_bandwidth", UP),
            _supports("gpu_memory", UP),
        ),
        refuted_by=(
            Refutation(lambda s: s.stayed("kernel_stretch"), "kernels take no longer than before"),
            Refutation(lambda s: s.stayed("sm_activity"), "the SMs had no more to do than before"),
        ),
        symptom_of=(
            Parent(
                "pcie_contention",
                copies_not_kernels,
                "whoever copies over the link uses the GPU's memory and copy engines too",
            ),
            Parent(
                "nvlink_contention",
                copies_not_kernels,
                "whoever copies over the links uses the GPU's memory and copy engines too",
            ),
            Parent(
                "gpu_clock", lambda s: not s.up("gpu_others"), "at a lower clock the same work keeps the GPU busy for longer"
            ),
        ),
        parts=GPU_PARTS,
        per_gpu=True,
        next_check="nvidia-smi pmon -s um; nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
    ),
    Entry(
        id="gpu_memory_pressure",
        why="without free memory requests are put back and computed again, or blocks are freed and allocated in mid-step",
        signs=(
            _decisive("preemptions", UP, lambda s: not s.up("running", *LENGTHS), "the load grew"),
            _decisive("allocations", UP, lambda s: s.up("gpu_memory"), "nothing says that more memory was in use"),
            _supports("gpu_memory", UP),
        ),
        parts=("host_calls", "sync", "gpu_gaps"),
        per_gpu=True,
        next_check="nvidia-smi --query-compute-apps=pid,used_memory --format=csv; the engine's KV cache size at start-up",
    ),
    Entry(
        id="straggler_rank",
        why="all ranks wait in collectives for the one that comes last: it is the one that waits least",
        signs=(_decisive("lag", UP),),
        symptom_of=tuple(
            Parent(cause, lambda _: True, "it is why this rank comes last")
            for cause in ("gpu_clock", "gpu_contention", "pcie_contention", "cpu_contention", "cpu_quota", "cpu_frequency")
        ),
        next_check="compare this rank's host and GPU with its peers': clocks, temperature, CPU pinning, PCIe link",
    ),
    Entry(
        id="cold_cache",
        why="what was in memory on the better side (weights, files, compiled kernels) has to be read or made again",
        signs=(
            _decisive(
                "own_reads",
                UP,
                lambda s: s.down("page_cache") or s.up("major_faults", "own_io_wait"),
                "the server reads more, but nothing waits for it",
            ),
        ),
        symptom_of=(
            Parent(
                "host_memory_pressure",
                lambda s: s.up("reclaim", "swapping"),
                "memory was short: what was cached was dropped",
            ),
        ),
        parts=("io", "host_calls", "host_python", "between", "host"),
        next_check="run the same again at once: a warm cache makes it go away; vmtouch <files>",
    ),
)
"""In the order in which causes are judged: what makes the sides two experiments, then what causes more than one sign."""

BY_ID = {entry.id: entry for entry in CATALOGUE}
UNEXPLAINED = "unexplained"
