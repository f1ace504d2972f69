"""Runs samplers, each in a thread of its own and at its own rate, and keeps what they say in journals."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from collectors.clocks import CaptureClock
from collectors.journal import Journal
from collectors.sampling import Note, Sampler
from rca.capture.manifest import Gap, SamplerFacts

FLUSH_SECONDS = 0.5
"""How often journals are written: a collector that is killed loses no more than a second with that."""

MAX_SHARE = 0.003
"""CPU time that one sampler may take, as a share of one core; one that needs more is called less often."""

MIN_HZ = 0.5
"""No sampler gets slower than this, or a short capture would have nothing of it."""

GAP_FACTOR = 5
"""Periods without a call that make a gap: what `rca.capture.counter_health` calls a hole."""

_MAX_GAPS = 50
_COST_WEIGHT = 0.2


class SamplerThread:
    """One sampler at work.

    Ticks lie on a grid; those that a stall made impossible are left out, not made up for in a burst, whose differences over
    a moment would say nothing.
    """

    def __init__(self, sampler: Sampler, folder: Path, clock: CaptureClock, note: Note) -> None:
        self.sampler = sampler
        self.journal = Journal(folder, sampler.name, note)
        self.hz = sampler.hz
        self.ticks = 0
        self.cpu_ns = 0
        self.gaps: list[Gap] = []
        self._cost_ns = 0.0
        self._boosted = False
        self._clock = clock
        self._note = note
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._ended: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"rca-{sampler.name}", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def boost(self, hz: float | None) -> None:
        """Sample at another rate, whatever it costs, until called with None."""
        self._boosted = hz is not None
        self.hz = hz or self.sampler.hz

    def stop(self, timeout: float) -> bool:
        """End sampling; return whether the sampler came back from its last call."""
        self._stop.set()
        self._thread.join(timeout)
        finished = not self._thread.is_alive()
        if finished:
            self.sampler.close()
        else:
            self._note("sampler_failed", f"{self.sampler.name}: its last call did not come back; left behind")
        self.journal.close()
        return finished

    def facts(self) -> SamplerFacts:
        """Return what the manifest says of it."""
        seconds = (self._ended or time.monotonic()) - self._began
        return SamplerFacts(
            name=self.sampler.name,
            hz_wanted=self.sampler.hz,
            hz_achieved=round(self.ticks / seconds, 3) if seconds > 0 else 0.0,
            ticks=self.ticks,
            samples=self.journal.samples,
            lost=self.journal.lost,
            cpu_seconds=round(self.cpu_ns / 1e9, 6),
            gaps=self.gaps,
        )

    def _run(self) -> None:
        last = due = time.monotonic()
        usual = self._period()
        while not self._stop.is_set():
            began_cpu = time.thread_time_ns()
            try:
                self.journal.add(self.sampler.sample(self._clock.now_ns()))
            except Exception as error:
                self._note("sampler_failed", f"{self.sampler.name} ended: {type(error).__name__}: {error}")
                break
            self.ticks += 1
            cost = time.thread_time_ns() - began_cpu
            self.cpu_ns += cost
            self._cost_ns += _COST_WEIGHT * (cost - self._cost_ns)
            now = time.monotonic()
            period = self._period()
            if now - last > GAP_FACTOR * max(period, usual) and self.ticks > 1 and len(self.gaps) < _MAX_GAPS:
                self.gaps.append(Gap(self._clock.now_ns() - int((now - last) * 1e9), round(now - last, 3)))
            last, usual = now, period
            due += period * max(1, math.ceil((now - due) / period))
            if self._stop.wait(max(0.0, due - time.monotonic())):
                break
        self._ended = time.monotonic()

    def _period(self) -> float:
        if self._boosted:
            return 1 / self.hz
        affordable = self._cost_ns / 1e9 / MAX_SHARE
        return max(1 / self.hz, min(affordable, 1 / MIN_HZ))


class Recorder:
    """All samplers of a capture, and the thread that writes their samples.

    Use it as a context manager: leaving it ends all threads and closes all files, whatever happened.
    """

    def __init__(self, samplers: Sequence[Sampler], folder: Path, clock: CaptureClock, note: Note) -> None:
        self.threads = {sampler.name: SamplerThread(sampler, folder, clock, note) for sampler in samplers}
        self._stop = threading.Event()
        self._flusher = threading.Thread(target=self._flush_until_stopped, name="rca-flush", daemon=True)

    def __enter__(self) -> Recorder:
        for thread in self.threads.values():
            thread.start()
        self._flusher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._flusher.join()
        for thread in self.threads.values():
            thread.stop(timeout=2.0)

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return sum(thread.journal.samples for thread in self.threads.values())

    @property
    def unavailable(self) -> dict[str, str]:
        """Metrics that this machine lacks, with the reason."""
        return {
            metric: why for thread in self.threads.values() for metric, why in sorted(thread.sampler.unavailable.items())
        }

    def _flush_until_stopped(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            for thread in self.threads.values():
                thread.journal.flush()
