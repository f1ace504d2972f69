"""Writes start-up logs as engines write them, phase by phase, on a clock that goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

BEGIN = datetime(2025, 7, 17, 13, 40, 56)


@dataclass
class Log:
    """A log that is being written; times in seconds."""

    ms: bool = False
    now: datetime = BEGIN
    lines: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> Log:
        """Let time pass in silence."""
        self.now += timedelta(seconds=seconds)
        return self

    def vllm(self, text: str, process: str = "", source: str = "core.py:1", level: str = "INFO") -> Log:
        """Write a line of vLLM."""
        stamp = f"{self.now:%m-%d %H:%M:%S}" + (f".{self.now.microsecond // 1000:03d}" if self.ms else "")
        self.lines.append(f"{f'({process}) ' if process else ''}{level} {stamp} [{source}] {text}")
        return self

    def sglang(self, text: str, rank: str = "") -> Log:
        """Write a line of SGLang."""
        self.lines.append(f"[{self.now:%Y-%m-%d %H:%M:%S}{f' {rank}' if rank else ''}] {text}")
        return self

    def raw(self, text: str) -> Log:
        """Write text without a stamp."""
        self.lines.append(text)
        return self

    def save(self, path: Path) -> Path:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + "\n")
        return path


@dataclass(frozen=True)
class Vllm:
    """How long the phases of a vLLM start take, and what its log says of it."""

    version: str = "0.10.1.1"
    model: str = "/models/qwen-4b"
    imports: float = 6.0
    model_info: float = 5.3
    tokenizer: float = 0.5
    worker: float = 2.0
    download: float = 0.0
    model_init: float = 0.6
    load: float = 2.5
    dynamo: float = 7.0
    compile: float = 5.6
    cached: bool = True
    silence: float = 0.0
    capture: float = 12.0
    weights_gib: float = 7.4152
    gpu_memory: str = "0.9"

    def slowed(self, factor: float, **others: float) -> Vllm:
        """Return the same start on cores that are slower."""
        busy = ("imports", "model_info", "tokenizer", "worker", "model_init", "load", "dynamo", "compile", "capture")
        return Vllm(**{**self.__dict__, **{name: getattr(self, name) * factor for name in busy}, **others})

    def log(self, process: str = "EngineCore_0 pid=51") -> Log:
        """Return the log of `vllm serve`, with milliseconds."""
        log = Log(ms=True)
        log.vllm("No plugins for group vllm.platform_plugins found.", level="DEBUG").wait(0.03)
        log.vllm("Automatically detected platform cuda.", source="__init__.py:241").wait(self.imports)
        log.vllm(f"vLLM API server version {self.version}", source="api_server.py:1711")
        arguments = f"{{'model': '{self.model}', 'gpu_memory_utilization': {self.gpu_memory}}}"
        log.vllm(f"non-default args: {arguments}", source="utils.py:326").wait(self.model_info)
        log.vllm("Using max model len 32768", source="__init__.py:1750").wait(self.tokenizer)
        log.vllm(f"Init Tokenizer took {self.tokenizer:.2f} seconds", source="llm_engine.py:95").wait(self.worker)
        log.vllm(
            f"Initializing a V1 LLM engine (v{self.version}) with config: model='{self.model}', dtype=bfloat16", process
        )
        log.vllm(f"Starting to load model {self.model}...", process).wait(self.download)
        if self.download:
            log.vllm(f"Time spent downloading weights for {self.model}: {self.download:.6f} seconds", process)
        log.wait(self.model_init).vllm(f"Initializing model took {self.model_init:.6f} seconds", process)
        log.wait(self.load).vllm(f"Loading weights took {self.load:.2f} seconds", process)
        loading = self.download + self.model_init + self.load
        log.vllm(f"Model loading took {self.weights_gib} GiB and {loading:.6f} seconds", process).wait(self.dynamo)
        log.vllm(f"Dynamo bytecode transform time: {self.dynamo:.2f} s", process).wait(self.compile)
        if self.cached:
            text = f"Directly load the compiled graph(s) for dynamic shape from the cache, took {self.compile:.3f} s"
            total = self.dynamo
        else:
            text = f"Compiling a graph for dynamic shape takes {self.compile:.2f} s"
            total = self.dynamo + self.compile
        log.vllm(text, process).wait(0.5).vllm(f"torch.compile takes {total:.2f} s in total", process).wait(
            1.2 + self.silence
        )
        log.vllm("Available KV cache memory: 75.57 GiB", process)
        log.wait(self.capture).vllm(f"Graph capturing finished in {self.capture:.0f} secs, took 0.35 GiB", process)
        engine = self.dynamo + self.compile + 1.7 + self.silence + self.capture
        log.vllm(f"init engine (profile, create kv cache, warmup model) took {engine:.2f} seconds", process).wait(1.0)
        log.vllm("Starting vLLM API server 0 on http://0.0.0.0:8000", source="api_server.py:1794")
        return log.raw("INFO:     Application startup complete.")


def vllm_starts(folder: Path, starts: list[Vllm]) -> Path:
    """Write one log per start, which differ a little, as starts do."""
    for number, start in enumerate(starts):
        start.slowed(1 + 0.004 * (number % 3)).log(f"EngineCore_0 pid={500 + number}").save(folder / f"start{number}.log")
    return folder


def sglang_log(load: float = 9.0, capture: float = 20.0, warm_up: float = 2.0, version: str = "0.5.9") -> Log:
    """Return the log of an SGLang server with two ranks; ``version`` 0.4.6 states no durations."""
    log = Log()
    log.sglang(f"server_args=ServerArgs(model_path='m/tiny', tp_size=2, mem_fraction_static=0.8, version='{version}')").wait(
        8
    )
    ranks = ("TP0", "TP1")
    stated = version != "0.4.6"
    for rank in ranks:
        log.sglang("Init torch distributed begin.", rank)
    log.wait(1)
    for rank in ranks:
        log.sglang(f"Init torch distributed ends. {'elapsed=1.00 s, ' if stated else ''}mem usage=0.1 GB", rank)
        log.sglang("Load weight begin. avail mem=70 GB", rank)
    log.wait(load)
    for rank in ranks:
        log.sglang(f"Load weight end. {f'elapsed={load:.2f} s, ' if stated else ''}type=Qwen3, mem usage=7.50 GB.", rank)
    log.wait(2)
    for rank in ranks:
        log.sglang("Memory pool end. avail mem=9 GB", rank)
        log.sglang("Capture cuda graph begin. This can take up to several minutes. avail mem=9 GB", rank)
    log.wait(capture)
    for rank in ranks:
        log.sglang(f"Capture cuda graph end. Time elapsed: {capture:.2f} s. mem usage=1 GB. avail mem=8 GB.", rank)
        log.sglang("max_total_num_tokens=100, chunked_prefill_size=4096, context_len=4096, available_gpu_mem=8 GB", rank)
    log.sglang("INFO:     Application startup complete.").wait(warm_up)
    return log.sglang("The server is fired up and ready to roll!")


def schema(name: str) -> dict:
    """Return one of the JSON Schemas that come with the reports."""
    return json.loads(resources.files("reports").joinpath(f"schema/{name}.schema.json").read_text())
