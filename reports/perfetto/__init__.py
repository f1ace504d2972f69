"""A trace per side that Perfetto opens. Public: `write_traces`, or `trace` and `write` of one; `header` reads one back."""

from reports.perfetto.traces import FORMAT, SIDES, SUFFIX, header, trace, write, write_traces

__all__ = ["FORMAT", "SIDES", "SUFFIX", "header", "trace", "write", "write_traces"]
