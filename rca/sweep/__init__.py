"""Benchmark grids: one table of trials over sizes, lengths and warm-ups becomes tables and what they mean."""
