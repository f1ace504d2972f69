"""Benchmark grids: one table of trials over sizes, lengths and warm-ups becomes tables and what they mean."""

from rca.sweep.evaluate import sweep
from rca.sweep.meaning import explain
from rca.sweep.model import Result, Sweep
from rca.sweep.read import read
from rca.sweep.tables import derive

__all__ = ["Result", "Sweep", "derive", "explain", "read", "sweep"]
