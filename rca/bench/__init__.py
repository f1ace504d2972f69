"""Model runs: their records and operator tables are read, summed up and compared.

Public: `read`, `read_all`, `is_bench`, `compare`, `compare_runs`, and what they return.
"""

from rca.bench.compare import BenchComparison, compare, compare_runs
from rca.bench.judge import BenchVerdict
from rca.bench.latency import LatencyComparison, Summary, summaries
from rca.bench.ledger import OperatorLedger
from rca.bench.model import BenchRun, Configuration, Measured, RunRecord
from rca.bench.operators import OperatorTable, read_tables
from rca.bench.read import is_bench, read, read_all
from rca.bench.rows import operators_by_time

__all__ = [
    "BenchComparison",
    "BenchRun",
    "BenchVerdict",
    "Configuration",
    "LatencyComparison",
    "Measured",
    "OperatorLedger",
    "OperatorTable",
    "RunRecord",
    "Summary",
    "compare",
    "compare_runs",
    "is_bench",
    "operators_by_time",
    "read",
    "read_all",
    "read_tables",
    "summaries",
]
