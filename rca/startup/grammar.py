"""What the engines' start-up lines mean, by version (FORMATS.md §2.3 and §3.3).

Wordings change ("takes", "took", "seconds", "s", "secs"), so a number is looked for after a stem that has not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"(\d+(?:\.\d+)?)"
_SECONDS = _NUMBER + r"\s*(?:s|secs?|seconds)\b"


@dataclass(frozen=True)
class Stated:
    """A line that states how long a phase took; the phase ended when it was written."""

    phase: str
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Landmark:
    """A line that stands at the border of phases."""

    id: str
    pattern: re.Pattern[str]


def _stated(phase: str, pattern: str) -> Stated:
    return Stated(phase, re.compile(pattern))


STATED = (
    # vLLM 0.8 to 0.33
    _stated("tokenizer_init", rf"[Ii]nit(?:ializing)? [Tt]okenizer took {_SECONDS}"),
    _stated("download_weights", rf"Time spent downloading weights for .*?: {_SECONDS}"),
    _stated("model_init", rf"Initializing [Mm]odel took {_SECONDS}"),
    _stated("load_weights", rf"Loading weights took {_SECONDS}"),
    _stated("model_loading", rf"Model loading took .*?and {_SECONDS}"),
    _stated("dynamo_transform_time", rf"Dynamo bytecode transform time: {_SECONDS}"),
    _stated("graph_compile_general_shape", rf"Compiling a graph for .*? takes {_SECONDS}"),
    _stated("graph_compile_cached", rf"Directly load the compiled graph\(?s?\)? for .*?from the cache, took {_SECONDS}"),
    _stated("torch.compile", rf"torch\.compile (?:takes|took) {_SECONDS} in total"),
    _stated("warmup_run", rf"Initial profiling/warmup run took {_SECONDS}"),
    _stated("kv_cache_profiling", rf"Memory profiling takes {_SECONDS}"),
    _stated("kv_cache_init", rf"Initializing KV [Cc]ache took {_SECONDS}"),
    _stated("graph_capturing", rf"Graph capturing finished in {_SECONDS}"),
    _stated("init_engine", rf"init engine \(.*?\) took {_SECONDS}"),
    _stated("actual_total_time", rf"initialize_engine took {_SECONDS}"),
    # SGLang 0.4 to 0.5.23
    _stated("load_weights", rf"Load weight end\..*?elapsed={_NUMBER} s"),
    _stated("graph_capturing", rf"Capture .*?(?:cuda|CUDA) graph end\..*?(?:Time elapsed: |elapsed=){_NUMBER} s"),
    _stated("kv_cache_init", rf"Engine startup timings .*?kv_cache_allocation={_NUMBER}"),
    _stated("distributed_init", rf"Init (?:torch distributed|parallel) ends\..*?elapsed={_NUMBER} s"),
)

LANDMARKS = (
    Landmark("platform_probe", re.compile(r"platform_plugins|Checking if .* platform is available")),
    Landmark("platform_detected", re.compile(r"Automatically detected platform (\w+)")),
    Landmark(
        "imported", re.compile(r"plugins for group vllm\.general_plugins|non-default args:|API server version|server_args=")
    ),
    Landmark("model_known", re.compile(r"Using max model len")),
    Landmark("load_begins", re.compile(r"Starting to load model|Load weight begin\.")),
    Landmark("load_ends", re.compile(r"Load weight end\.")),
    Landmark("pool_ends", re.compile(r"Memory pool end\.")),
    Landmark("capture_begins", re.compile(r"Capture .*?(?:cuda|CUDA) graph begin\.")),
    Landmark("capture_ends", re.compile(r"Capture .*?(?:cuda|CUDA) graph end\.")),
    Landmark("memory_known", re.compile(r"Available KV cache memory|# (?:GPU|CPU|TPU) blocks|KV cache size:")),
    Landmark("autotune_begins", re.compile(r"Autotuning process starts")),
    Landmark("autotune_ends", re.compile(r"Autotuning process ends")),
    Landmark("engine_begins", re.compile(r"Init (?:torch distributed|parallel) begin\.")),
    Landmark("engine_ready", re.compile(r"max_total_num_tokens=\d+|init engine \(.*?\) took")),
)

OTHER_STATED = re.compile(
    r"^(?P<what>[^=:{}\[\]]{4,80}?)\s+(?:took|takes|completed in|finished in|done in|elapsed[:=]?)\s*"
    + _NUMBER
    + r"\s*(?P<unit>ms|milliseconds|s|secs?|seconds|min|minutes)\b"
)
"""A duration in a wording that nothing above knows: it explains its time all the same."""

UNIT_SECONDS = {"ms": 1e-3, "milliseconds": 1e-3, "min": 60.0, "minutes": 60.0}

ENGINES = {
    "vllm": re.compile(
        r"\bvLLM\b|\bvllm\.|V[01] LLM engine|\[(?:core|gpu_model_runner|default_loader|api_server|launcher)\.py"
    ),
    "sglang": re.compile(r"server_args=|\bsglang\b|Load weight begin\.|Init torch distributed begin|max_total_num_tokens="),
}

VERSION = re.compile(
    r"LLM engine \(v([\w.+-]+)\)|vLLM API server version (\d[\w.+-]*)|\bversion (\d+\.\d+\.\d+[\w.+-]*)"
    r"|'?sglang(?:_version)?'?[=:]\s*'?(\d[\w.+-]*)"
)

BEGINS = re.compile(r"API server version|\bversion \d+\.\d+\.\d+\S*$|^server_args=")
"""Only the first process of a server writes these, once."""

BEGINS_OFFLINE = re.compile(r"Initializing an? (?:V1 )?LLM engine|Automatically detected platform|platform_plugins")

ENDS = re.compile(r"initialize_engine took|EngineCore exiting|Shutting down|Application shutdown complete")

READY = {
    "vllm": re.compile(r"Application startup complete"),
    "sglang": re.compile(r"The server is fired up and ready to roll"),
}
"""SGLang's own start-up is complete only after a request of its own."""

HEARTBEAT = re.compile(
    r"Waiting for \d+ (?:local|remote)|Waiting for .* to (?:start|be ready)|No available shared memory broadcast|GET /health"
)
"""Lines that say only that time passes: they break no silence."""

FAILURE = re.compile(
    r"Engine (?:core )?(?:process )?(?:initialization )?failed|EngineCore failed to start|Received sigquit from a child"
    r"|SIGQUIT received|WorkerProc initialization failed|Scheduler hit an exception|kill_process_tree called"
)

EXCEPTION = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Exit))(?:: (?P<what>.+))?$")
"""The last line of a traceback."""
