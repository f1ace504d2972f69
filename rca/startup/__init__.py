"""Start-ups of vLLM and SGLang: logs become phases, phases are compared, and related to what was varied."""

from rca.startup.evaluate import StartupComparison, StartupReport, compare_startups, report
from rca.startup.model import Gap, Phase, Startup
from rca.startup.read import is_startup_log

__all__ = [
    "Gap",
    "Phase",
    "Startup",
    "StartupComparison",
    "StartupReport",
    "compare_startups",
    "is_startup_log",
    "report",
]
