"""One sample of everything: what can be measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from collectors.clocks import CaptureClock
from collectors.machine import host_samplers, open_gpus
from collectors.process_tree import ProcessTree
from collectors.samplers.engine import EngineMetrics
from collectors.samplers.pressure import PSI_HZ
from collectors.sampling import Sample, Sampler
from collectors.targets import find_target


@dataclass(frozen=True)
class Once:
    """The last value of every counter, in the order of the samplers, and why others are missing."""

    samples: list[Sample]
    unavailable: dict[str, str]


def sample_once(url: str | None = None, engine: str = "auto", pids: Sequence[int] = ()) -> Once:
    """Call every sampler twice, two seconds apart: rates need that.

    Raises:
        UsageError: a pid is of no process.
        NoServerError: no engine answers at the URL.
    """
    clock = CaptureClock()
    target = find_target(url, engine, pids)
    gpus = open_gpus(lambda *_: None)
    tree = ProcessTree(target.roots, clock, lambda *_: None)
    quick, slow = host_samplers(1.0, tree)
    samplers: list[Sampler] = [*quick, *slow, *gpus.samplers(1.0, lambda *_: None)]
    if target.server:
        samplers.append(EngineMetrics(1.0, target.server, clock.now_ns, lambda *_: None))
    found: list[Sample] = []
    try:
        for sampler in samplers:
            sampler.sample(clock.now_ns())
        time.sleep(1 / PSI_HZ)
        for sampler in samplers:
            found += sampler.sample(clock.now_ns())
    finally:
        for sampler in samplers:
            sampler.close()
        gpus.close()
    missing = gpus.unavailable | target.unavailable
    return Once(found, missing | {metric: why for sampler in samplers for metric, why in sampler.unavailable.items()})
