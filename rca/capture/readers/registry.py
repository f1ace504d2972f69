"""All readers, in the order in which they are asked."""

from __future__ import annotations

from rca.capture.readers import chrome, counters, cycle_profile
from rca.capture.source import Reader

READERS: tuple[Reader, ...] = (chrome, cycle_profile, counters)
"""The first that claims a file reads it."""
