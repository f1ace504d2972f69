"""Room 5: comparisons and evidence into a verdict. Public: `decide`, `gather`, `Verdict`, `Cause`."""

from rca.verdict.decide import decide, status_of
from rca.verdict.evidence import Evidence, gather
from rca.verdict.headline import duration
from rca.verdict.ledger import Ledger
from rca.verdict.model import EXIT_CODE, Cause, Status, Verdict
from rca.verdict.recorded import known_cores

__all__ = [
    "EXIT_CODE",
    "Cause",
    "Evidence",
    "Ledger",
    "Status",
    "Verdict",
    "decide",
    "duration",
    "gather",
    "known_cores",
    "status_of",
]
