"""Undoes what the lab changed when the lab is gone, or when a fault lasts longer than it may.

A process of its own, in a session of its own. It reads JSON lines from stdin: what to keep in mind (`lab.undo`) and what is
done; the end of stdin is the end of the lab.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lab.actions import Action, perform
from lab.undo import READY

_LONGEST_SECONDS = 3600.0


def main() -> None:
    """Keep actions until they are done; carry out those that are overdue, and at the end of stdin all that are left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it ends when the lab does, not before
    with contextlib.suppress(OSError):  # if memory runs out, it is needed most
        Path("/proc/self/oom_score_adj").write_text("-1000")
    sys.stdout.buffer.write(READY + b"\n")
    sys.stdout.buffer.flush()
    kept: dict[int, tuple[Action, float | None]] = {}
    rest, ended = b"", False
    while not ended:
        due = [deadline for _, deadline in kept.values() if deadline is not None]
        wait = min([max(0.0, min(due) - time.monotonic())] if due else [_LONGEST_SECONDS])
        if select.select([sys.stdin], [], [], wait)[0]:
            read = os.read(sys.stdin.fileno(), 65536)
            ended = not read
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                _note(kept, json.loads(line))
        for number in [n for n, (_, deadline) in kept.items() if deadline is not None and deadline <= time.monotonic()]:
            perform(kept.pop(number)[0])
    for number in sorted(kept, reverse=True):
        perform(kept[number][0])


def _note(kept: dict[int, tuple[Action, float | None]], message: dict[str, Any]) -> None:
    if "keep" in message:
        kept[message["keep"]] = (message["action"], message["deadline"])
    else:
        kept.pop(message["done"], None)


if __name__ == "__main__":
    main()
