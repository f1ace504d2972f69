"""What a person sees while a model is run: a bar on a terminal, and each run's figures as a line that can be read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from collectors.bench import Progress
from reports import progress_bar

_GIB = 1 << 30


class Watch(progress_bar.Watch):
    """Shows what is being done. Lines of runs are those that `rca.bench` reads in a pasted log."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)
        self._configuration: tuple[int, int] | None = None

    def at(self, step: Progress) -> None:
        """Show how far it is; a run that has just ended gets its line."""
        if step.record:
            self._figures(step.record)
        self.move(step.doing, step.done, step.total)

    def _figures(self, record: dict[str, Any]) -> None:
        configuration = record["prompt_tokens"], record["new_tokens"]
        if configuration != self._configuration:
            self._configuration = configuration
            self.line(f"--- Configuration: prompt {configuration[0]}, new {configuration[1]} ---")
        seconds, tokens = record["latency_s"], record["new_tokens"]
        figures = f"latency={seconds:.6f} s, generated {tokens} tokens, throughput={tokens / seconds:.2f} t/s"
        memory = record["peak_memory_bytes"] / _GIB
        self.line(f"Run {record['run']}/{record['of']}: {figures}, peak memory={memory:.3f} GiB")


@contextmanager
def watching(enabled: bool) -> Iterator[Watch]:
    """Watch runs on stderr; without ``enabled`` say nothing."""
    watch = Watch(enabled)
    with watch.bar:
        yield watch
