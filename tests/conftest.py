"""Where the data are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

SHARED = ROOT.parent / "shared"

os.environ["RCA_NO_CACHE"] = "1"
"""Tests read what they say they read; those of the cache switch it on."""


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return ROOT / "fixtures" / "vllm-cpu-contention"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("../shared/data, the captures made by others, is not beside this checkout")
    return data
