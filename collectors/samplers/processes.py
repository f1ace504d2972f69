"""The watched processes: what the scheduler did with their threads, and their memory, faults and I/O.

``schedstat`` has, per thread, the ns on a core and the ns runnable without one (kernel documentation,
scheduler/sched-stats.rst). The file of a whole process is that of its main thread only, so every thread is read.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from collectors.process_tree import ProcessTree
from collectors.samplers.procfs import text_of
from collectors.sampling import Rate, Sample, sample

_NS_TO_PERCENT = 1e-7
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOOK_NS = 2_000_000_000
"""Looking for new threads costs more than reading those that are known."""

_QUIET_SHARE = 0.02
_RESTS_NS = 240_000_000
"""A thread that lately had, or waited for, less than this share of a core is read only so often: most threads of a server
wait for ever, or wake up for moments. What it had meanwhile counts for the moment in which it is read: sums are right."""

_CLOSE_NS = 20_000_000
"""Where ticks lie closer together than this, single steps are looked at, and every thread is read at every tick."""

MAX_THREADS = 512
"""Where more are watched, quiet ones are read only once in `_MANY_REST_NS`."""
_MANY_REST_NS = 1_000_000_000

_ROLES_NS = 190_000_000
"""Between two samples of the roles of threads: there are many of them, and five a second are enough."""


class _Thread:
    """One thread: its open ``schedstat``, what it said last, when that was, and whether there was little of it."""

    __slots__ = ("content", "file", "on_ns", "quiet", "read_ns", "role", "wait_ns")

    def __init__(self, folder: Path, role: str, now_ns: int) -> None:
        """Open it. Raises OSError where the thread has ended, or too many files are open."""
        self.file = os.open(folder / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self.role = role
        self.content = b""
        self.on_ns = self.wait_ns = 0
        self.quiet = False
        self.read_ns = now_ns

    def gained(self, content: bytes) -> tuple[int, int]:
        """Return the ns on a core and waiting for one since the last time; ``content``: of its file, changed since then."""
        on, waiting, _ = content.split()
        before = self.on_ns, self.wait_ns
        self.content = content
        self.on_ns, self.wait_ns = int(on), int(waiting)
        return self.on_ns - before[0], self.wait_ns - before[1]


Gains = dict[str, list[int]]
"""By role: ns on a core, and ns waiting for one."""


class _Process:
    """The threads of one process. ``at_ns``: of the last reading; ``roles``: gains since ``roles_ns``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.at_ns = self.roles_ns = 0
        self.roles: Gains = {}
        self.threads: dict[str, _Thread] = {}

    def look_for_threads(self, now_ns: int) -> None:
        """Find threads that began. What they ran before they were found counts for the time in which they were found.

        Raises:
            OSError: too many files are open.
        """
        folder = Path(f"/proc/{self.pid}/task")
        first = not self.threads
        try:
            present = os.listdir(folder)
        except OSError:
            return
        for tid in present:
            if tid in self.threads:
                continue
            role = "main thread" if tid == str(self.pid) else f"threads {text_of(folder / tid / 'comm', '?')}"
            try:
                thread = _Thread(folder / tid, role, now_ns)
                if first:
                    thread.gained(os.pread(thread.file, 64, 0))
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                continue
            self.threads[tid] = thread
            self.roles.setdefault(role, [0, 0])

    def read(self, now_ns: int, rests_ns: int) -> tuple[int, int]:
        """Return the ns on a core and waiting of all threads since the last call, and add them to their roles'."""
        total_on = total_waiting = 0
        rested_ns = now_ns - rests_ns
        for tid, thread in list(self.threads.items()):
            if thread.quiet and thread.read_ns > rested_ns:
                continue
            try:
                content = os.pread(thread.file, 64, 0)
            except OSError:
                os.close(thread.file)
                del self.threads[tid]
                continue
            unread_ns, thread.read_ns = now_ns - thread.read_ns, now_ns
            if content == thread.content:
                thread.quiet = True
                continue
            on, waiting = thread.gained(content)
            thread.quiet = on + waiting < _QUIET_SHARE * unread_ns
            total_on += on
            total_waiting += waiting
            role = self.roles[thread.role]
            role[0] += on
            role[1] += waiting
        return total_on, total_waiting

    def close(self) -> None:
        """Close all files."""
        for thread in self.threads.values():
            os.close(thread.file)


class Threads:
    """On-CPU and run-queue time of every watched process, of its main thread, and of its other threads by name.

    Threads of one name are summed: pools have as many as the machine has cores, and thread ids mean nothing on another day.
    """

    name = "threads"

    def __init__(self, hz: float, tree: ProcessTree) -> None:
        self.hz = hz
        self.unavailable: dict[str, str] = {}
        self._tree = tree
        self._processes: dict[int, _Process] = {}
        self._look_ns = 0
        if not Path("/proc/self/schedstat").exists():
            why = "the kernel keeps no schedstat (CONFIG_SCHED_INFO)"
            self.unavailable = dict.fromkeys(("process_cpu_usage", "process_runq_wait"), why)

    def sample(self, now_ns: int) -> list[Sample]:
        """Return rates since the call before."""
        if "process_cpu_usage" in self.unavailable:
            return []
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + _LOOK_NS
            self._look(now_ns)
        samples = []
        watched = sum(len(process.threads) for process in self._processes.values())
        rests_ns = _RESTS_NS if watched <= MAX_THREADS else _MANY_REST_NS
        for process in self._processes.values():
            close = now_ns - process.at_ns < _CLOSE_NS
            gained = process.read(now_ns, 0 if close else rests_ns)
            if process.at_ns:
                samples += _of_process(now_ns, process, *gained)
            process.at_ns = now_ns
            process.roles_ns = process.roles_ns or now_ns
        return samples

    def _look(self, now_ns: int) -> None:
        self._tree.refresh_if_due(now_ns)
        pids = self._tree.pids()
        for pid in self._processes.keys() - set(pids):
            self._processes.pop(pid).close()
        try:
            for pid in pids:
                self._processes.setdefault(pid, _Process(pid)).look_for_threads(now_ns)
        except OSError:
            self.unavailable["thread_cpu_usage"] = "some threads are left out: too many files are open (ulimit -n)"

    def close(self) -> None:
        """Close all files."""
        for process in self._processes.values():
            process.close()


def _of_process(now_ns: int, process: _Process, on_ns: int, waiting_ns: int) -> list[Sample]:
    """Return the sums over all threads and, a few times a second, what those of each role had since the last time."""
    to_percent = 100 / (now_ns - process.at_ns)
    samples = [
        sample(now_ns, "process_cpu_usage", on_ns * to_percent, pid=process.pid),
        sample(now_ns, "process_runq_wait", waiting_ns * to_percent, pid=process.pid),
    ]
    if now_ns - process.roles_ns >= _ROLES_NS:
        to_percent = 100 / (now_ns - process.roles_ns)
        process.roles_ns = now_ns
        for role, gained in process.roles.items():
            samples.append(sample(now_ns, "thread_cpu_usage", gained[0] * to_percent, role, process.pid))
            samples.append(sample(now_ns, "thread_runq_wait", gained[1] * to_percent, role, process.pid))
            gained[:] = (0, 0)
    return samples


class Processes:
    """Memory, faults, switches, I/O and scheduling settings of every watched process."""

    name = "processes"

    def __init__(self, hz: float, tree: ProcessTree) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._tree = tree
        self._rate = Rate()
        if not Path("/proc/self/io").exists():
            why = "the kernel counts no I/O of processes (CONFIG_TASK_IO_ACCOUNTING)"
            self.unavailable |= dict.fromkeys(("process_read_rate", "process_write_rate"), why)
        if text_of("/proc/sys/kernel/task_delayacct") != "1":
            why = "the kernel counts no delays of tasks; sysctl kernel.task_delayacct=1 switches that on"
            self.unavailable["process_blkio_wait"] = why

    def sample(self, now_ns: int) -> list[Sample]:
        """Return amounts, and rates since the call before."""
        self._tree.refresh_if_due(now_ns)
        samples = []
        for pid in self._tree.pids():
            try:
                samples += self._of(now_ns, pid)
            except (OSError, ValueError, IndexError):  # it ended between two reads
                continue
        return samples

    def _of(self, now_ns: int, pid: int) -> list[Sample]:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        fields = stat[stat.rindex(b")") + 2 :].split()  # from field 3 on: names may hold spaces and parentheses
        status = dict(line.split(":", 1) for line in text_of(f"/proc/{pid}/status").splitlines() if ":" in line)
        amounts = {
            "process_threads": int(fields[17]),
            "process_mem_rss": int(fields[21]) * _PAGE_BYTES,
            "process_mem_swap": _kib(status.get("VmSwap", "0 kB")),
            "process_nice": int(fields[16]),
            "process_allowed_cores": len(os.sched_getaffinity(pid)),
        }
        totals: dict[str, tuple[float, float]] = {
            "process_minor_faults": (int(fields[7]), 1.0),
            "process_major_faults": (int(fields[9]), 1.0),
            "process_voluntary_switches": (int(status["voluntary_ctxt_switches"]), 1.0),
            "process_involuntary_switches": (int(status["nonvoluntary_ctxt_switches"]), 1.0),
        }
        if "process_blkio_wait" not in self.unavailable:
            totals["process_blkio_wait"] = (int(fields[39]), 100 / _TICKS_PER_SECOND)
        totals |= self._io(pid)
        samples = [sample(now_ns, metric, value, pid=pid) for metric, value in amounts.items()]
        rates = {metric: self._rate((metric, pid), now_ns, *total) for metric, total in totals.items()}
        return samples + [sample(now_ns, metric, rate, pid=pid) for metric, rate in rates.items() if rate is not None]

    def _io(self, pid: int) -> dict[str, tuple[float, float]]:
        if "process_read_rate" in self.unavailable:
            return {}
        try:
            lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
        except PermissionError:
            why = "/proc/PID/io of another user's processes is readable for root only"
            self.unavailable |= dict.fromkeys(("process_read_rate", "process_write_rate"), why)
            return {}
        counts = dict(line.split(": ", 1) for line in lines)
        return {
            "process_read_rate": (int(counts["read_bytes"]), 1.0),
            "process_write_rate": (int(counts["write_bytes"]), 1.0),
        }

    def close(self) -> None:
        """Nothing is open."""


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024
