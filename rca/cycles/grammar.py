"""What engines write around one step, version by version: annotations, NVTX ranges and Python frames as patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from rca.cycles.sequence import Mark

PREFILL, DECODE, MIXED, IDLE, TRAIN, UNKNOWN = "prefill", "decode", "mixed", "idle", "train", "unknown"
VERIFY, DRAFT = "verify", "draft"
"""The two halves of a speculative step: the target model checks what a draft model proposed."""


@dataclass(frozen=True)
class Work:
    """What one cycle did, as far as its annotation says: phase, requests in the batch, tokens computed."""

    phase: str = UNKNOWN
    batch: int | None = None
    tokens: int | None = None


class AnchorKind(StrEnum):
    """How an anchor was found, best first."""

    USER = "named by the user"
    ANNOTATION = "annotation"
    FRAME = "known frame"
    RECURRING = "recurring span"
    SEQUENCE = "repeating sequence"


def _no_work(_match: re.Match[str]) -> Work:
    return Work()


@dataclass(frozen=True)
class Anchor:
    """What starts a cycle.

    Attributes:
        name: what reports print; two sides are cut alike if their anchors have the same name.
        pattern: of the spans' names; None for a repeating sequence.
        work: reads a span's own name.
        kind: how it was found.
        event_kinds: kinds of events that may be its spans.
        mark: of a repeating sequence.
    """

    name: str
    pattern: re.Pattern[str] | None
    work: Callable[[re.Match[str]], Work] = _no_work
    kind: AnchorKind = AnchorKind.ANNOTATION
    event_kinds: tuple[str, ...] = ("annotation", "op")
    mark: Mark | None = None


def _engine_step(match: re.Match[str]) -> Work:
    """``execute_context_<n>(<tokens>)_generation_<n>(<tokens>)``, or the detailed form that leads with all tokens."""
    total, context_requests, context, generation_requests, generation = match.groups()
    n_context, n_generation = int(context_requests), int(generation_requests)
    if total is None and context.isdigit() and generation.isdigit():
        total = int(context) + int(generation)
    return Work(_phase(n_context, n_generation), n_context + n_generation, None if total is None else int(total))


def _phase(context_requests: int, generation_requests: int) -> str:
    if context_requests and generation_requests:
        return MIXED
    if context_requests:
        return PREFILL
    return DECODE if generation_requests else IDLE


_SGLANG_PHASE = {
    "DECODE": DECODE,
    "EXTEND": PREFILL,
    "SPLIT_PREFILL": PREFILL,
    "DLLM_EXTEND": PREFILL,
    "MIXED": MIXED,
    "IDLE": IDLE,
    "DUMMY_FIRST": IDLE,
    "TARGET_VERIFY": VERIFY,
    "VERIFY": VERIFY,
    "DRAFT": DRAFT,
    "DRAFT_EXTEND": DRAFT,
    "DRAFT_EXTEND_V2": DRAFT,
}


def _sglang_step(match: re.Match[str]) -> Work:
    mode, batch, tokens = match.groups()
    phase = _SGLANG_PHASE.get(mode, UNKNOWN)
    n_batch = int(batch) if batch else None
    if tokens:
        return Work(phase, n_batch, int(tokens))
    return Work(phase, n_batch, n_batch if phase == DECODE else None)


def _tensorrt_step(match: re.Match[str]) -> Work:
    context, context_tokens, generation = match.groups()
    tokens = int(context_tokens) + int(generation) if context_tokens else None
    return Work(_phase(int(context), int(generation)), int(context) + int(generation), tokens)


GRAMMAR = (
    # vLLM 0.14 to 0.33; the detailed form also in SGLang of mid-2026 (FORMATS.md §3.2, §2.2)
    Anchor(
        "execute_context_…_generation_…",
        re.compile(r"^execute_(?:(\d+)_)?context_(\d+)\(([^)]*)\)_generation_(\d+)\(([^)]*)\)"),
        _engine_step,
    ),
    # SGLang 0.5.12 and later (FORMATS.md §2.2)
    Anchor("step[…]", re.compile(r"^step\[(\w+)(?: bs=(\d+))?(?: toks=(\d+))?"), _sglang_step),
    # TensorRT-LLM 0.17 and later, NVTX (tensorrt_llm/_torch/pyexecutor/py_executor.py)
    Anchor(
        "[Executor] _forward_step",
        re.compile(r"^\[Executor\] _forward_step\b[^:]*: (\d+) ctx reqs,(?: (\d+) ctx tokens,)? (\d+) gen reqs"),
        _tensorrt_step,
    ),
    # SGLang 0.5.14 and later, scheduler stages (FORMATS.md §2.2)
    Anchor("scheduler.run_batch", re.compile(r"^scheduler\.run_batch$")),
    # torch.profiler.schedule, any program
    Anchor("ProfilerStep#", re.compile(r"^ProfilerStep#\d+$")),
    # numbered by hand: Megatron-LM, NVIDIA's examples and most NVTX users
    Anchor("iteration <n>", re.compile(r"^(?:iteration|iter|step|train_step|batch)[ _#:=-]*\d+$", re.IGNORECASE)),
)
"""Tried in this order. A new engine or wording is one more row."""

NUMBERED = tuple(anchor for anchor in GRAMMAR if anchor.name in ("ProfilerStep#", "iteration <n>"))
"""Those that any program may write, whatever it calls a step."""


def _frame(name: str, pattern: str) -> Anchor:
    return Anchor(name, re.compile(pattern), kind=AnchorKind.FRAME, event_kinds=("python",))


KNOWN_FRAMES = (
    # kunlun names frames by class (FORMATS.md §7.4)
    _frame("Scheduler.run_batch", r"^Scheduler\.run_batch$"),
    _frame("EngineCoreProc._process_engine_step", r"^EngineCore(?:Proc)?\._process_engine_step$"),
    # torch.profiler names them by file (FORMATS.md §2.2, §3.2); the one that the engine's own annotation wraps comes first
    _frame("model_runner.py: forward", r"sglang/srt/model_executor/model_runner\.py\(\d+\): forward$"),
    _frame("gpu_model_runner.py: execute_model", r"vllm/v1/worker/gpu/?_?model_runner\.py\(\d+\): execute_model$"),
    _frame("gpu_worker.py: execute_model", r"vllm/v1/worker/(?:gpu|cpu|xpu|tpu)_worker\.py\(\d+\): execute_model$"),
    _frame("scheduler.py: run_batch", r"sglang/srt/managers/scheduler\.py\(\d+\): run_batch$"),
    _frame("core.py: step", r"vllm/v1/engine/core\.py\(\d+\): (?:_process_engine_step|step_with_batch_queue|step)$"),
)
"""Frames of the engines that run once a step."""

IDLE_MARKS = re.compile(r"^scheduler\.idle$")
"""Spans that an engine writes while it has nothing to do."""
