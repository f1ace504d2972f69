"""Time a Hugging Face model: greedy generation over prompt lengths and new tokens, then one profiled run.

Run by path, with a Python that has torch and transformers, by `collectors.bench`: ``python collectors/bench_model.py
--folder DIR --config config.json``. It needs nothing else of this project, and so it is one file.

On stdout it writes one JSON object a line: ``environment`` first, then ``progress`` before and ``run`` after each run, at
last ``profile``, or ``failed`` with the reason. The trace and the operator table it writes into the folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # run by path: what lies beside this file is no library, whatever its name

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

try:
    import torch
    import transformers  # type: ignore[import-not-found]
    from torch.profiler import ProfilerActivity, record_function

    _lacking = ""
except (ImportError, OSError) as error:  # a torch without its CUDA libraries ends in an OSError
    _lacking = f"this Python lacks torch or transformers: {error}"

TRACE = "profile.trace.json.gz"
OPERATORS = "operators.txt"
_SPAN = "model_run"
_NAME_WIDTH = 240
_FIRST_WITH_DTYPE = (4, 56)
"""The version of transformers that renamed ``torch_dtype``."""


class RefusedError(Exception):
    """What was asked for cannot be done here: why."""


class Bench:
    """A loaded model, and what is done with it."""

    def __init__(self, options: argparse.Namespace, say: Callable[[dict[str, Any]], None]) -> None:
        """Load the model. Raises `RefusedError`."""
        self._options = options
        self._say = say
        self._device = _device(options.device)
        self._on_gpu = self._device == "cuda"
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self._config = _config(options)
        self._dtype = _dtype(options, self._config)
        self._model = self._quantised(self._loaded()).eval()
        self._model.generation_config = transformers.GenerationConfig()  # a checkpoint's own may sample, or stop early
        self._vocabulary = int(self._config.get_text_config().vocab_size)
        if options.compile:
            self._model.forward = torch.compile(self._model.forward)

    def run(self) -> None:
        """Do all runs, and the profiled one."""
        self._say({"kind": "environment", **self._environment()})
        options = self._options
        prompts = {length: self._prompt(length) for length in options.prompt_lengths}
        for length, new in itertools.product(options.prompt_lengths, options.new_tokens):
            asked = {"prompt_tokens": length, "new_tokens": new}
            for i in range(options.warmups):
                self._say({"kind": "progress", "doing": "warm-up", **asked, "run": i + 1, "of": options.warmups})
                self._generate(prompts[length], new)
            for i in range(options.repeats):
                self._say({"kind": "progress", "doing": "run", **asked, "run": i + 1, "of": options.repeats})
                seconds = self._timed(prompts[length], new)
                memory, whose = self._peak_memory()
                measured = {"latency_s": round(seconds, 9), "peak_memory_bytes": memory, "memory_of": whose}
                self._say({"kind": "run", **asked, "run": i + 1, "of": options.repeats, **measured})
        if not options.no_profile:
            self._say({"kind": "progress", "doing": "profiled run", **asked})
            self._profile(prompts[length], new)
            self._say({"kind": "profile", **asked, "trace": TRACE, "operators": OPERATORS})

    def _timed(self, prompt: Any, new: int) -> float:
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._synchronize()
        began = time.perf_counter()
        self._generate(prompt, new)
        self._synchronize()
        return time.perf_counter() - began

    def _synchronize(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()

    def _generate(self, prompt: Any, new: int) -> None:
        length = {"max_new_tokens": new, "min_new_tokens": new}
        asked = transformers.GenerationConfig(**length, do_sample=False, num_beams=1, eos_token_id=None, pad_token_id=0)
        written = self._model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=asked)
        if written.shape[1] != prompt.shape[1] + new:
            raise RefusedError(f"the model wrote {written.shape[1] - prompt.shape[1]} tokens instead of {new}")

    def _prompt(self, length: int) -> Any:
        generator = torch.Generator().manual_seed(self._options.seed + length)
        return torch.randint(self._vocabulary, (1, length), generator=generator).to(self._device)

    def _peak_memory(self) -> tuple[int, str]:
        if self._on_gpu:
            return int(torch.cuda.max_memory_allocated()), "device"
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "process"

    def _profile(self, prompt: Any, new: int) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._on_gpu else [])
        with torch.profiler.profile(activities=activities):  # the first use of it takes time of its own
            torch.ones(1, device=self._device).add_(1)
        with torch.profiler.profile(activities=activities) as profiler:
            with record_function(_SPAN):
                self._generate(prompt, new)
            self._synchronize()
        sort_by = "self_cuda_time_total" if self._on_gpu else "self_cpu_time_total"
        layout = {"sort_by": sort_by, "row_limit": -1, "max_name_column_width": _NAME_WIDTH}
        averages = profiler.key_averages()
        try:
            table = averages.table(**layout, time_unit="us")  # three decimals of a µs: nothing is rounded away
        except TypeError:  # an old torch
            table = averages.table(**layout)
        folder = Path(self._options.folder)
        (folder / OPERATORS).write_text(table, encoding="utf-8")
        profiler.export_chrome_trace(str(folder / TRACE))

    def _loaded(self) -> Any:
        version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
        dtype = {"dtype" if version >= _FIRST_WITH_DTYPE else "torch_dtype": self._dtype}
        if not self._options.model:
            return transformers.AutoModelForCausalLM.from_config(self._config, **dtype).to(self._device)
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(self._options.model, local_files_only=True, **dtype)
        except ImportError as error:
            how = _quantisation(self._config)
            what = f"this checkpoint is quantised with {how}, for which" if how else "for this checkpoint"
            raise RefusedError(f"{what} a package is missing: {_one_line(error)}") from error
        return model.to(self._device)

    def _quantised(self, model: Any) -> Any:
        if self._options.quantize == "none":
            return model
        try:
            from torchao import quantization  # type: ignore[import-not-found]  # noqa: PLC0415  (only where asked for)
        except ImportError as error:
            raise RefusedError(f"--quantize int8 needs torchao, which this Python lacks: {_one_line(error)}") from error
        config = getattr(quantization, "Int8WeightOnlyConfig", None) or quantization.int8_weight_only
        quantization.quantize_(model, config())
        return model

    def _environment(self) -> dict[str, Any]:
        options, config = self._options, self._config.get_text_config()
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "device": self._device,
            "device_name": torch.cuda.get_device_name() if self._on_gpu else _processor(),
            "runtime": _runtime() if self._on_gpu else "",
            "virtual": _is_virtual(),
            "threads": torch.get_num_threads(),
            "model": Path(options.model).resolve().name if options.model else str(config.model_type),
            "weights": "of the checkpoint" if options.model else f"random, seed {options.seed}",
            "layers": getattr(config, "num_hidden_layers", None),
            "hidden_size": getattr(config, "hidden_size", None),
            "parameters": sum(parameter.numel() for parameter in self._model.parameters()),
            "dtype": str(self._dtype).removeprefix("torch."),
            "attention": str(getattr(config, "_attn_implementation", "")),
            "quantized": _quantisation(self._config) or (options.quantize if options.quantize != "none" else ""),
            "compiled": options.compile,
            "warmups": options.warmups,
            "seed": options.seed,
        }


def _device(asked: str) -> str:
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise RefusedError("--device cuda: this torch sees no GPU")
    return asked if asked != "auto" else "cuda" if has_gpu else "cpu"


def _config(options: argparse.Namespace) -> Any:
    path = options.model or options.config
    try:
        return transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RefusedError(f"transformers cannot read this model's configuration: {_one_line(error)}") from error


def _dtype(options: argparse.Namespace, config: Any) -> Any:
    if options.dtype != "auto":
        return getattr(torch, options.dtype)
    own = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    return getattr(torch, own) if isinstance(own, str) else own or torch.float32


def _quantisation(config: Any) -> str:
    """Name the method of a quantised checkpoint; empty for another."""
    found = getattr(config, "quantization_config", None)
    method = found.get("quant_method", "") if isinstance(found, dict) else getattr(found, "quant_method", "")
    return str(getattr(method, "value", method) or "")


def _runtime() -> str:
    return f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"


def _processor() -> str:
    names = _cpuinfo("model name")
    return names[0] if names else platform.machine()


def _is_virtual() -> bool:
    """Tell a virtual machine, on which two runs of the same differ more: its cores are shared with others."""
    return any("hypervisor" in flags.split() for flags in _cpuinfo("flags"))


def _cpuinfo(what: str) -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return [line.partition(":")[2].strip() for line in lines if line.startswith(what)]
    except OSError:
        return []


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="for the trace and the operator table")
    parser.add_argument("--model", help="folder of a Hugging Face checkpoint")
    parser.add_argument("--config", help="config.json of a model that gets random weights")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--dtype", choices=["auto", "float32", "float16", "bfloat16"], default="auto")
    parser.add_argument("--quantize", choices=["none", "int8"], default="none")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--prompt-lengths", type=_numbers, required=True)
    parser.add_argument("--new-tokens", type=_numbers, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmups", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of torch, on the CPU; 0: as many as it takes")
    parser.add_argument("--seed", type=int, default=1, help="of random weights and prompts")
    parser.add_argument("--no-profile", action="store_true")
    return parser


def main() -> None:
    """Parse the command line and do the runs; whatever goes wrong ends as one line."""
    options = _parser().parse_args()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the lines

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    try:
        if _lacking:
            raise RefusedError(_lacking)
        with torch.inference_mode():
            Bench(options, say).run()
    except RefusedError as error:
        say({"kind": "failed", "why": str(error)})
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        say({"kind": "failed", "why": f"{type(error).__name__}: {_one_line(error)}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
