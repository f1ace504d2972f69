"""Room 5: comparisons into a verdict. Public: `decide`, `Verdict`, `Cause`."""

from rca.verdict.artifact import Recording
from rca.verdict.decide import decide, duration, status_of
from rca.verdict.model import EXIT_CODE, Cause, Status, Verdict

__all__ = ["EXIT_CODE", "Cause", "Recording", "Status", "Verdict", "decide", "duration", "status_of"]
