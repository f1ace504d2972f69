"""The host: cores, clocks, memory, disks, network, heat and power. Sources and units: FORMATS.md §5.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from collectors.samplers.procfs import KeptOpen, number_of, text_of
from collectors.sampling import Rate, Sample, rated, sample

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CPUS = Path("/sys/devices/system/cpu")
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
_KERNEL = (2, 5, 6)
"""Columns of /proc/stat: user nice system idle iowait irq softirq steal; guests are in user already."""


class Cpu:
    """All cores together. The kernel counts in ticks of 10 ms, so shorter intervals would be coarse."""

    name = "cpu"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 10.0)
        self.unavailable: dict[str, str] = {}
        self._stat = KeptOpen("/proc/stat")
        self._before: list[int] | None = None
        self._rate = Rate()

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the shares of all cores' time since the call before, and the tasks of this moment."""
        content = self._stat.read()
        times = [int(ticks) for ticks in content[: content.index(b"\n")].split()[1:9]]
        now = {name: int(content[at:].split(None, 2)[1]) for name in _STAT if (at := content.find(b"\n" + name + b" ") + 1)}
        samples = []
        # iowait may fall: it is the one column that does not only grow
        spent = [max(after - before, 0) for after, before in zip(times, self._before or times, strict=True)]
        if (total := sum(spent)) > 0:
            shares = {
                "host_cpu_usage": total - spent[_IDLE] - spent[_IOWAIT] - spent[_STEAL],
                "host_cpu_system": sum(spent[at] for at in _KERNEL),
                "host_cpu_iowait": spent[_IOWAIT],
                "host_cpu_steal": spent[_STEAL],
            }
            samples = [sample(now_ns, metric, 100 * ticks / total) for metric, ticks in shares.items()]
        self._before = times
        if switches := now.get(b"ctxt"):
            samples += rated(self._rate, now_ns, {"host_ctx_switches": (switches, 1)})
        for metric, name in (("host_procs_running", b"procs_running"), ("host_procs_blocked", b"procs_blocked")):
            if name in now:
                samples.append(sample(now_ns, metric, now[name]))
        return samples

    def close(self) -> None:
        """Close /proc/stat."""
        self._stat.close()


_STAT = (b"ctxt", b"procs_running", b"procs_blocked")


class Cores:
    """Each core: how busy, and its clock."""

    name = "cores"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 2.0)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._stat = KeptOpen("/proc/stat")
        self._clocks = dict(_clock_files())
        self._cpuinfo = KeptOpen("/proc/cpuinfo") if not self._clocks and _cpuinfo_is_measured() else None
        if not self._clocks and not self._cpuinfo:
            why = "the kernel offers no cpufreq here (usual in virtual machines), and /proc/cpuinfo repeats a constant"
            self.unavailable["cpu_frequency"] = why

    def sample(self, now_ns: int) -> list[Sample]:
        """Return usage since the call before, and clocks, core by core."""
        samples = []
        for core, busy in self._busy_ticks():
            share = self._rate(core, now_ns, busy, 100 / _TICKS_PER_SECOND)
            if share is not None:
                samples.append(sample(now_ns, "core_usage", min(share, 100.0), f"CPU {core}"))
        return samples + [sample(now_ns, "cpu_frequency", mhz, f"CPU {core}") for core, mhz in self._mhz()]

    def _busy_ticks(self) -> Iterator[tuple[int, int]]:
        for line in self._stat.read().split(b"\n"):
            if line.startswith(b"cpu") and not line.startswith(b"cpu "):
                name, *times = line.split()
                ticks = [int(time) for time in times[:8]]
                yield int(name[3:]), sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT] - ticks[_STEAL]

    def _mhz(self) -> Iterator[tuple[int, float]]:
        for core, file in self._clocks.items():
            try:
                yield core, int(file.read()) / 1000
            except (OSError, ValueError):  # the core is offline now
                continue
        if self._cpuinfo:
            found = re.findall(rb"^cpu MHz\s*:\s*([\d.]+)", self._cpuinfo.read(1 << 20), re.MULTILINE)
            yield from enumerate(float(mhz) for mhz in found)

    def close(self) -> None:
        """Close all files."""
        for file in (self._stat, self._cpuinfo, *self._clocks.values()):
            if file:
                file.close()


def _clock_files() -> Iterator[tuple[int, KeptOpen]]:
    for path in sorted(_CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")):
        try:
            yield int(path.parts[-3][3:]), KeptOpen(path)
        except OSError:
            continue


def _cpuinfo_is_measured() -> bool:
    """Tell whether "cpu MHz" is measured: the kernel does so by APERF/MPERF, and repeats a constant without them."""
    return re.search(r"^flags\s*:.*\baperfmperf\b", text_of("/proc/cpuinfo"), re.MULTILINE) is not None


class Memory:
    """Memory, swap and reclaim of the host."""

    name = "memory"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._vmstat = KeptOpen("/proc/vmstat")
        if psutil.swap_memory().total == 0:
            self.unavailable["host_swap_used"] = "this machine has no swap"

    def sample(self, now_ns: int) -> list[Sample]:
        """Return amounts, and rates since the call before."""
        memory = psutil.virtual_memory()
        samples = [
            sample(now_ns, "host_mem_usage", memory.percent),
            sample(now_ns, "host_mem_available", memory.available),
            sample(now_ns, "host_mem_cache", memory.cached),
        ]
        if "host_swap_used" not in self.unavailable:
            samples.append(sample(now_ns, "host_swap_used", psutil.swap_memory().used))
        lines = (line.split() for line in self._vmstat.read().splitlines())
        counts = {name.decode(): int(value) for name, value in lines}
        direct = sum(value for name, value in counts.items() if name.startswith("pgscan_direct") and "throttle" not in name)
        background = sum(value for name, value in counts.items() if name.startswith(("pgscan_kswapd", "pgscan_khugepaged")))
        totals = {
            "host_swap_in": (counts.get("pswpin", 0), _PAGE_BYTES),
            "host_swap_out": (counts.get("pswpout", 0), _PAGE_BYTES),
            "host_major_faults": (counts.get("pgmajfault", 0), 1),
            "host_direct_reclaim": (direct, 1),
            "host_background_reclaim": (background, 1),
        }
        return samples + rated(self._rate, now_ns, totals)

    def close(self) -> None:
        """Close /proc/vmstat."""
        self._vmstat.close()


class Disks:
    """Whole disks, not their partitions."""

    name = "disks"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._disks = [disk for disk in sorted(psutil.disk_io_counters(perdisk=True) or {}) if _is_disk(disk)]
        if not self._disks:
            self.unavailable["disk_busy"] = "the kernel lists no disk"

    def sample(self, now_ns: int) -> list[Sample]:
        """Return rates since the call before; the latency only where there were requests."""
        samples = []
        counters = psutil.disk_io_counters(perdisk=True) or {}
        for disk in self._disks:
            if (now := counters.get(disk)) is None:
                continue
            totals = {
                "disk_busy": (now.busy_time, 0.1),  # ms per second in percent
                "disk_read_rate": (now.read_bytes, 1),
                "disk_write_rate": (now.write_bytes, 1),
            }
            device = f"disk {disk}"
            samples += rated(self._rate, now_ns, totals, device)
            requests = self._rate((disk, "requests"), now_ns, now.read_count + now.write_count)
            waited = self._rate((disk, "ms"), now_ns, now.read_time + now.write_time)
            if requests and waited is not None:
                samples.append(sample(now_ns, "disk_latency", waited / requests, device))
        return samples

    def close(self) -> None:
        """Nothing is open."""


def _is_disk(name: str) -> bool:
    block = Path("/sys/block", name.replace("/", "!"))
    return block.exists() and not name.startswith(("loop", "ram", "zram", "sr", "fd")) and number_of(block / "size") != 0


class Network:
    """Network devices, and TCP's own counts; InfiniBand where there is some."""

    name = "network"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._snmp = KeptOpen("/proc/net/snmp")
        self._ports = sorted(Path("/sys/class/infiniband").glob("*/ports/*/counters"))

    def sample(self, now_ns: int) -> list[Sample]:
        """Return rates since the call before, of each device and, without loopback, of the host."""
        samples = []
        devices = psutil.net_io_counters(pernic=True)
        for name, now in devices.items():
            if now.bytes_recv + now.bytes_sent == 0:  # there are many that nothing uses
                continue
            totals = {"net_rx_rate": (now.bytes_recv, 1.0), "net_tx_rate": (now.bytes_sent, 1.0)}
            samples += rated(self._rate, now_ns, totals, f"net {name}")
        outer = [now for name, now in devices.items() if name != "lo"]
        host: dict[str, tuple[float, float]] = {
            "net_rx_rate": (sum(now.bytes_recv for now in outer), 1.0),
            "net_tx_rate": (sum(now.bytes_sent for now in outer), 1.0),
            "net_drops": (sum(now.dropin + now.dropout for now in devices.values()), 1.0),
            "net_errors": (sum(now.errin + now.errout for now in devices.values()), 1.0),
        }
        if (sent_again := self._retransmits()) is not None:
            host["tcp_retransmits"] = (sent_again, 1.0)
        samples += rated(self._rate, now_ns, host)
        for port in self._ports:
            device = f"ib {port.parts[-4]}/{port.parts[-2]}"
            words = {"net_rx_rate": number_of(port / "port_rcv_data"), "net_tx_rate": number_of(port / "port_xmit_data")}
            data = {metric: (value, 4.0) for metric, value in words.items() if value is not None}
            samples += rated(self._rate, now_ns, data, device)
        return samples

    def _retransmits(self) -> int | None:
        lines = [line.split() for line in self._snmp.read().splitlines() if line.startswith(b"Tcp:")]
        return int(dict(zip(*lines, strict=True))[b"RetransSegs"]) if len(lines) == 2 else None

    def close(self) -> None:
        """Close /proc/net/snmp."""
        self._snmp.close()


class Sensors:
    """Heat and power of the CPU."""

    name = "sensors"

    def __init__(self, hz: float) -> None:
        self.hz = min(hz, 1.0)
        self.unavailable: dict[str, str] = {}
        self._rate = Rate()
        self._energy = sorted(Path("/sys/class/powercap").glob("intel-rapl:[0-9]*"))
        self._energy = [path for path in self._energy if path.name.count(":") == 1]  # packages, not their parts
        self._throttles = sorted(_CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        if self._temperature() is None:
            self.unavailable["cpu_temp"] = "the kernel shows no temperature sensor of a CPU"
        if not self._energy:
            self.unavailable["cpu_power"] = "the kernel offers no RAPL counters"
        elif any(number_of(path / "energy_uj") is None for path in self._energy):
            self.unavailable["cpu_power"] = "RAPL counters are readable for root only"
            self._energy = []
        if not self._throttles:
            self.unavailable["cpu_throttle_events"] = "the kernel counts no thermal throttling"

    def sample(self, now_ns: int) -> list[Sample]:
        """Return the temperature, and power and throttling since the call before."""
        samples = []
        if "cpu_temp" not in self.unavailable and (celsius := self._temperature()) is not None:
            samples.append(sample(now_ns, "cpu_temp", celsius))
        watts = [self._rate(path, now_ns, number_of(path / "energy_uj") or 0, 1e-6) for path in self._energy]
        if watts and None not in watts:  # a counter that wrapped in this interval says nothing
            samples.append(sample(now_ns, "cpu_power", sum(w for w in watts if w is not None)))
        if self._throttles:
            total = sum(number_of(path) or 0 for path in self._throttles)
            samples += rated(self._rate, now_ns, {"cpu_throttle_events": (total, 1)})
        return samples

    @staticmethod
    def _temperature() -> float | None:
        chips = psutil.sensors_temperatures()
        found = [one.current for chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal") for one in chips.get(chip, [])]
        return max(found, default=None)

    def close(self) -> None:
        """Nothing is open."""
