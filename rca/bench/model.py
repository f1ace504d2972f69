"""What a model run is, however it was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rca.bench.operators import OperatorTable


@dataclass(frozen=True)
class Configuration:
    """What one run computed: its name as the source has it, tokens of the prompt, tokens that were generated."""

    name: str
    prompt_tokens: int | None
    new_tokens: int | None

    @property
    def key(self) -> tuple[str, int | None, int | None]:
        """By what two sides' configurations are matched: both lengths if they are stated, else the name."""
        stated = self.prompt_tokens is not None or self.new_tokens is not None
        return ("", self.prompt_tokens, self.new_tokens) if stated else (self.name, None, None)

    @property
    def title(self) -> str:
        """The configuration in words."""
        parts = [
            f"prompt {self.prompt_tokens:,}" if self.prompt_tokens is not None else "",
            f"new {self.new_tokens:,}" if self.new_tokens is not None else "",
        ]
        return ", ".join(part for part in parts if part) or self.name or "all runs"


@dataclass(frozen=True)
class Measured:
    """A figure, and by how much it may be off because it was written with few digits (0: it was not)."""

    value: float
    error: float = 0.0


@dataclass(frozen=True)
class RunRecord:
    """One timed run.

    Attributes:
        configuration: what it computed.
        run, of: which of its repeats, from 1.
        latency_s: seconds from prompt to last token.
        tokens: that were generated.
        throughput: tokens/s as written; None where it is not.
        memory: at its peak, in ``memory_unit``, which is as written: what a script calls GB may be GiB.
    """

    configuration: Configuration
    run: int
    of: int
    latency_s: Measured
    tokens: int | None
    throughput: Measured | None
    memory: Measured | None
    memory_unit: str


@dataclass(frozen=True)
class BenchRun:
    """A model run: timed runs, one profiled run, and what it ran on.

    Attributes:
        source: the path as it was given, with ``#N`` where the text holds several.
        label: what the source calls it.
        quantised: how, where the source says so (``int8``, ``GPTQ``); empty where it does not.
        records: in the order in which they were made.
        table: of the profiled run.
        profiled: what that run computed, where it is known.
        memory_of: whose peak memory it is; empty where that is not known.
        environment: of our own runner: versions, device, options.
        is_text: read from a text, so that figures are rounded.
        warnings: what was skipped or guessed.
    """

    source: str
    label: str
    quantised: str
    records: tuple[RunRecord, ...]
    table: OperatorTable | None
    profiled: Configuration | None
    memory_of: str
    is_text: bool
    environment: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
