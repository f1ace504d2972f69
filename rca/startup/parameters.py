"""What was asked of the server: from the log's name and from its own lines."""

from __future__ import annotations

import re
from pathlib import PurePath

from rca.startup.lines import Line

_PAIR = re.compile(r"[\"']?([A-Za-z][\w.-]{0,60})[\"']?\s*[=:]\s*('[^']*'|\"[^\"]*\"|[^\s,(){}\[\]]+)")
_ARGUMENTS = re.compile(r"non-default args: (.*)|server_args=(.*)|LLM engine \(v\S+\) with config: (.*)")
_RUN = re.compile(
    r"^(?:iter|run|rep|repeat|trial|try)[-_]?\d+_*|_*(?:iter|run|rep|repeat|trial|try)[-_]?\d+$", re.IGNORECASE
)
_NAMED = re.compile(r"([A-Za-z][A-Za-z._-]*)=([\w.-]+)")
_LONE = re.compile(r".*-.*|tp|pp|dp|ep|bs|batch|concurrency|len|seqs|gpus", re.IGNORECASE)
"""A word and a number that stand alone are a parameter if the word is one's name; else they number a file (``node_7``)."""

_IGNORED = re.compile(
    r"port|host|seed|address|path|uid|uuid|token$|_id$|url|log|time|dir|template|api_key|instance|zmq|ipc|served_model|^tokenizer"
)
_MODEL = ("model", "model_path", "model_tag")


def from_name(name: str) -> dict[str, str]:
    """Return the parameters in a file's name: ``…_model_qwen-4b_gpu-memory-utilization_0.3.txt``, ``tp=2_bs=64.log``.

    Words that stand in pairs are name and value; numbers of repeats are left out.
    """
    stem = re.sub(r"\.(?:txt|log|out|err|gz|zst)+$", "", PurePath(name).name)
    while (without := _RUN.sub("", stem)) != stem:
        stem = without
    if pairs := _NAMED.findall(stem):
        return {normalised(key): value for key, value in pairs}
    words = [word for word in stem.split("_") if word]
    if words and words[0].lower() in ("output", "log", "startup", "server"):
        words = words[1:]
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or not all(re.match(r"[A-Za-z]", key) for key, _ in pairs):
        return {}
    if not any(normalised(key) in _MODEL or (_is_number(value) and _LONE.fullmatch(key)) for key, value in pairs):
        return {}
    return {normalised(key): value for key, value in pairs}


def from_lines(lines: list[Line]) -> dict[str, str]:
    """Return the settings that the engine writes of itself: its arguments, or its configuration."""
    found: dict[str, str] = {}
    for line in lines:
        if said := _ARGUMENTS.search(line.text):
            for key, value in _PAIR.findall(next(group for group in said.groups() if group is not None)):
                name = normalised(key)
                if not _IGNORED.search(name):
                    found.setdefault(name, value.strip("'\""))
    return {("model" if name in _MODEL else name): value for name, value in found.items()} if found else found


def normalised(name: str) -> str:
    """Write a name as the engines' Python does: ``--gpu-memory-utilization`` is ``gpu_memory_utilization``."""
    return name.lstrip("-").replace("-", "_").lower()


def model_name(value: str) -> str:
    """Return a model's name without the folder that it lies in."""
    return PurePath(value.rstrip("/")).name


def _is_number(value: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(?:\.\d+)?", value))
