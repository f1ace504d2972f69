"""One file per trace or counter format: modules that follow the protocol `rca.capture.source.Reader`."""

from rca.capture.readers import counters, cycle_profile, kineto
from rca.capture.source import Reader

READERS: tuple[Reader, ...] = (kineto, cycle_profile, counters)
"""Asked in this order; the first that claims a file reads it."""
