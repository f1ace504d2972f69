"""How far a long run is: a bar on a terminal, a line for each new thing elsewhere; all of it on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Watch:
    """Shows a run."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.bar = Bar(*columns, console=self._console, transient=True, disable=not enabled or not sys.stderr.isatty())
        self._task = self.bar.add_task("", total=None)
        self._doing = ""

    def show(self, doing: str, done: int, of: int) -> None:
        """Say what is done now, and how much of all is behind; where there is no bar, in a line."""
        self.move(doing, done, of)
        if not sys.stderr.isatty() and doing != self._doing:
            self.line(f"{done}/{of} {doing}")
        self._doing = doing

    def move(self, doing: str, done: int, of: int) -> None:
        """Move the bar."""
        self.bar.update(self._task, description=escape(doing), completed=done, total=of)

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        if self._enabled:
            self._console.print(escape(text))

    def note(self, text: str) -> None:
        """Say what went otherwise than planned."""
        if self._enabled:
            self._console.print(f"[yellow]note:[/] {escape(text)}")


@contextmanager
def progress(enabled: bool) -> Iterator[Watch]:
    """Show a run on stderr while it lasts."""
    watch = Watch(enabled)
    with watch.bar:
        yield watch
