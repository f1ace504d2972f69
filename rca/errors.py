"""Every error that `rca` raises on purpose. Each one is one line for the user and knows its exit code.

::

    RcaError                    5
    ├── UsageError              2   the call cannot be carried out as it is written
    ├── InputError              2   a file or folder cannot be used; names the path, the problem and the remedy
    ├── OutputError             2   a result cannot be written
    └── TooLittleDataError      4   readable, but there is nothing to compare

That two captures are not comparable (exit code 3) is a result with a report, not an error: see `rca.verdict`.
"""

from __future__ import annotations

from pathlib import Path


class RcaError(Exception):
    """Base of all errors that carry a message for the user."""

    exit_code = 5


class UsageError(RcaError):
    """The call cannot be carried out as it is written."""

    exit_code = 2


class InputError(RcaError):
    """A file or folder cannot be used: which one, what is wrong, what to do."""

    exit_code = 2

    def __init__(self, path: Path | str, problem: str, remedy: str = "") -> None:
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{path}: {problem}" + (f" ({remedy})" if remedy else ""))


class OutputError(RcaError):
    """A result cannot be written: which file, why."""

    exit_code = 2

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class TooLittleDataError(InputError):
    """The input is readable but holds nothing to compare."""

    exit_code = 4
