#!/usr/bin/env python3
"""Load one Kineto trace with Meta's HolisticTraceAnalysis and ask for two breakdowns; print how many events it holds.

    HTA_PYTHON benchmarks/hta_load.py trace.json.gz

Runs with the Python that has HTA 0.5, not with rca's: `benchmarks/readers.py --hta-python` calls it.
"""

from __future__ import annotations

import json
import sys

from hta.trace_analysis import TraceAnalysis  # type: ignore[import-not-found]


def main() -> None:
    analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/")
    analysis.get_gpu_kernel_breakdown(visualize=False)
    analysis.get_temporal_breakdown(visualize=False)
    print(json.dumps({"events": len(analysis.t.get_trace(0))}))


if __name__ == "__main__":
    main()
