"""Runs samplers, each at its own rate, and keeps what they say in journals. What may block has a thread of its own."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from collectors.clocks import CaptureClock
from collectors.journal import Journal
from collectors.sampling import Note, Sampler
from rca.capture.manifest import Gap, SamplerFacts

FLUSH_SECONDS = 0.5
"""How often journals are written: a collector that is killed loses no more than a second with that."""

MAX_SHARE = 0.0025
"""CPU time that one sampler may take, as a share of one core; one that needs more is called less often."""

MIN_HZ = 0.5
"""No sampler gets slower than this, or a short capture would have nothing of it."""

GAP_FACTOR = 5
"""Periods without a call that make a gap: what `rca.capture.counter_health` calls a hole."""

_MAX_GAPS = 50
_COST_WEIGHT = 0.2


class Alarm:
    """Lets a thread sleep until it rings.

    What `threading.Event` does in many lines of Python is one system call here: samplers wake up often, from cold caches.
    """

    def __init__(self) -> None:
        self._file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.rung = False

    def ring(self) -> None:
        """Wake all sleepers, now and for ever."""
        self.rung = True
        os.eventfd_write(self._file, 1)

    def nudge(self) -> None:
        """Wake the sleeper once."""
        os.eventfd_write(self._file, 1)

    def sleeper(self) -> Callable[[float], bool]:
        """Return a function for one thread that sleeps for some seconds, and tells whether the alarm rang."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)

        def sleep(seconds: float) -> bool:
            if seconds < _LEAST_POLL_SECONDS:  # poll counts in whole milliseconds
                time.sleep(max(0.0, seconds))
            else:
                poll.poll(1000 * seconds)
                with contextlib.suppress(BlockingIOError):  # nobody nudged
                    os.eventfd_read(self._file)
            return self.rung

        return sleep

    def close(self) -> None:
        """Give it back, when nobody sleeps any more."""
        os.close(self._file)


_LEAST_POLL_SECONDS = 0.01


class Task:
    """One sampler, its journal, and how well it does.

    Ticks lie on a grid; those that a stall made impossible are left out, not made up for in a burst, whose differences over
    a moment would say nothing.
    """

    def __init__(self, sampler: Sampler, folder: Path, clock: CaptureClock, note: Note) -> None:
        self.sampler = sampler
        self.journal = Journal(folder, sampler.name, note)
        self.hz = sampler.hz
        self.due = self._last = self._began = time.monotonic()
        self.failed = False
        self.ticks = 0
        self.cpu_ns = 0
        self.gaps: list[Gap] = []
        self._ended: float | None = None
        self._cost_ns = 0.0
        self._boosted = False
        self._clock = clock
        self._note = note
        self._usual = self._period()

    def boost(self, hz: float | None) -> None:
        """Sample at another rate, whatever it costs, until called with None."""
        self._boosted = hz is not None
        self.hz = hz or self.sampler.hz
        self.due = time.monotonic()

    def tick(self) -> None:
        """Sample once, and choose when to do so again. A sampler that fails is not asked again."""
        began_cpu = time.thread_time_ns()
        try:
            self.journal.add(self.sampler.sample(self._clock.now_ns()))
        except Exception as error:  # (one sampler's trouble must not end the capture)
            self.failed = True
            self._note("sampler_failed", f"{self.sampler.name} ended: {type(error).__name__}: {error}")
            return
        self.ticks += 1
        cost = time.thread_time_ns() - began_cpu
        self.cpu_ns += cost
        self._cost_ns += _COST_WEIGHT * (cost - self._cost_ns)
        now, period = time.monotonic(), self._period()
        silence = now - self._last
        if silence > GAP_FACTOR * max(period, self._usual) and self.ticks > 1 and len(self.gaps) < _MAX_GAPS:
            self.gaps.append(Gap(self._clock.now_ns() - int(silence * 1e9), round(silence, 3)))
        self._last, self._usual = now, period
        self.due += period * max(1, math.ceil((now - self.due) / period))

    def end(self) -> None:
        """Say that it will not be asked again."""
        self._ended = self._ended or time.monotonic()

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

    def _period(self) -> float:
        if self._boosted:
            return 1 / self.hz
        affordable = self._cost_ns / 1e9 / MAX_SHARE
        return max(1 / self.hz, min(affordable, 1 / MIN_HZ))


class Lane:
    """A thread that runs one task, or several that never block and whose ticks coincide: waking up is what costs most."""

    def __init__(self, tasks: Sequence[Task], note: Note) -> None:
        self._tasks = tasks
        self._note = note
        self._alarm = Alarm()
        name = "+".join(task.sampler.name for task in tasks)
        self._thread = threading.Thread(target=self._run, name=f"rca-{name}", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def boost(self, task: Task, hz: float | None) -> None:
        """Change a task's rate at once."""
        task.boost(hz)
        self._alarm.nudge()

    def stop(self, timeout: float) -> None:
        """End sampling, and close samplers and journals. A sampler that does not come back from its call is left behind."""
        self._alarm.ring()
        self._thread.join(timeout)
        stuck = self._thread.is_alive()
        if stuck:
            names = ", ".join(task.sampler.name for task in self._tasks)
            self._note("sampler_failed", f"{names}: the last call did not come back; left behind")
        else:
            self._alarm.close()
        for task in self._tasks:
            if not stuck:
                task.sampler.close()
            task.end()
            task.journal.close()

    def _run(self) -> None:
        sleep = self._alarm.sleeper()
        begin = time.monotonic()
        for task in self._tasks:
            task.due = begin
        running = list(self._tasks)
        while running and not self._alarm.rung:
            now = time.monotonic()
            for task in running:
                if task.due <= now and not self._alarm.rung:
                    task.tick()
                if task.failed:
                    task.end()
            running = [task for task in running if not task.failed]
            if running:
                sleep(min(task.due for task in running) - time.monotonic())
        for task in self._tasks:
            task.end()


class Recorder:
    """All samplers of a capture, and the thread that writes their samples.

    Use it as a context manager: leaving it ends all threads and closes all files, whatever happened.

    Args:
        samplers: each gets a thread of its own: it may block.
        folder: of the journals.
        clock: of the capture.
        note: called with what happens.
        together: samplers that never block; they share one thread.
    """

    def __init__(
        self, samplers: Sequence[Sampler], folder: Path, clock: CaptureClock, note: Note, together: Sequence[Sampler] = ()
    ) -> None:
        lanes = [
            [Task(sampler, folder, clock, note) for sampler in lane] for lane in (together, *([s] for s in samplers)) if lane
        ]
        self.tasks = {task.sampler.name: task for lane in lanes for task in lane}
        self._lanes = [Lane(tasks, note) for tasks in lanes]
        self._lane_of = {task.sampler.name: lane for tasks, lane in zip(lanes, self._lanes, strict=True) for task in tasks}
        self._stop = threading.Event()
        self._flusher = threading.Thread(target=self._flush_until_stopped, name="rca-flush", daemon=True)

    def __enter__(self) -> Recorder:
        for lane in self._lanes:
            lane.start()
        self._flusher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._flusher.join()
        for lane in self._lanes:
            lane.stop(timeout=2.0)

    def boost(self, name: str, hz: float | None) -> None:
        """Let a sampler, if there is one of that name, sample at another rate, whatever it costs, until called with None."""
        if name in self.tasks:
            self._lane_of[name].boost(self.tasks[name], hz)

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return sum(task.journal.samples for task in self.tasks.values())

    @property
    def unavailable(self) -> dict[str, str]:
        """Metrics that this machine lacks, with the reason."""
        found = [dict(task.sampler.unavailable) for task in self.tasks.values()]
        return {metric: why for own in found for metric, why in sorted(own.items())}

    def _flush_until_stopped(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            for task in self.tasks.values():
                task.journal.flush()
