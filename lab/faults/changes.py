"""Changes that are no fault of a machine: other work, other software, another way of recording."""

from __future__ import annotations

from dataclasses import replace

from lab.faults.model import Fault
from lab.load import Load


def _more_clients(load: Load, severity: float) -> Load:
    rate = load.requests_per_s
    return replace(
        load,
        concurrency=max(1, round(load.concurrency * severity)),
        requests_per_s=None if rate is None else rate * severity,
    )


def _longer_prompts(load: Load, severity: float) -> Load:
    return replace(load, prompt_words=max(1, round(load.prompt_words * severity)))


def _shorter_answers(load: Load, severity: float) -> Load:
    return replace(load, output_tokens=max(1, round(load.output_tokens / severity)))


FAULTS = (
    Fault(
        name="more_clients",
        cause="workload_shift",
        text="more requests at a time: larger batches",
        unit="times the clients",
        severities=(1.5, 2, 4),
        least=0.1,
        most=100,
        load=_more_clients,
    ),
    Fault(
        name="longer_prompts",
        cause="workload_shift",
        text="longer prompts",
        unit="times the words",
        severities=(4, 16, 48),
        least=0.1,
        most=1000,
        load=_longer_prompts,
    ),
    Fault(
        name="shorter_answers",
        cause="workload_shift",
        text="shorter answers: more prefill among the decoding",
        unit="times fewer tokens",
        severities=(2, 4, 16),
        least=0.1,
        most=1000,
        load=_shorter_answers,
    ),
    Fault(
        name="software_change",
        cause="software_change",
        text="the server is started with other arguments: the workload's `changes` of that name",
        unit="",
        severities=(1,),
        least=0,
        most=1000000,
        change=True,
    ),
    Fault(
        name="profiler",
        cause="capture_artifact",
        text="the abnormal side is recorded with shapes (1), or with shapes and stacks (2)",
        unit="level",
        severities=(1, 2),
        least=1,
        most=2,
        recording=True,
    ),
)
