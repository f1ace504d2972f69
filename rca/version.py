"""The version of the tool and of the formats that it writes."""

__version__ = "0.1.0"

COMPARISON_SCHEMA = "rca.comparison/1"
INSPECTION_SCHEMA = "rca.inspection/1"
STARTUP_SCHEMA = "rca.startup/1"
STARTUP_COMPARISON_SCHEMA = "rca.startup-comparison/1"
BENCH_SCHEMA = "rca.bench/1"
BENCH_COMPARISON_SCHEMA = "rca.bench-comparison/1"
SWEEP_SCHEMA = "rca.sweep/1"
