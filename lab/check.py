"""Which faults this machine can have, before any server is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from collectors.machine import open_gpus
from lab.faults import FAULTS, Situation
from lab.groups import own_groups
from lab.undo import Undo, signals_unwind


def machine_lacks(allowed: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return why this machine cannot have a fault, by its name; of the others nothing is said.

    It is tried: control groups, and a queueing discipline that delays nobody's packets, are made and removed again.
    """
    with signals_unwind(), Undo() as undo, own_groups(undo) as groups:
        here = Situation(
            undo=undo,
            root=os.getpid(),
            may_touch=True,
            groups=groups,
            cores=sorted(os.sched_getaffinity(0)),
            used_cores=0.0,
            port=1,
            scratch=Path(),
            folder=Path(),
            seconds=60.0,
            allowed=allowed,
            python=sys.executable,
            gpu=next((gpu for gpu in open_gpus(lambda _kind, _text: None).facts if gpu.uuid.startswith("GPU-")), None),
        )
        found = {name: fault.unavailable(here) for name, fault in FAULTS.items()}
    return {name: reason for name, reason in found.items() if reason}
