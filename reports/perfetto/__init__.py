"""A trace per side that Perfetto opens. Public: `write_traces`, or `trace` and `write` of one; `header` reads one back."""

from reports.perfetto.traces import FORMAT, SUFFIX, header, trace, write, write_traces

__all__ = ["FORMAT", "SUFFIX", "header", "trace", "write", "write_traces"]
