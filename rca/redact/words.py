"""What single words may be: a host, a file, a model in a folder, or a word like any other."""

from __future__ import annotations

import ipaddress
import re

PATH, HOST, USER, COMMAND, FILE, MODEL = "<path>", "<host>", "<user>", "<command>", "<file>", "<model>"

LOCAL = "localhost"

_WORDS = """
    abnormal admin again all anonymous auto average backend base batch bench bfloat16 bound cache calls capture captures
    cause changed checkpoint checkpoints chrome cluster collect command compare compile completion config context core
    cores counter counters cpu csv cuda cycle cycles data debug decode default dev device devices dict disk docker dtype
    dummy eager engine engines error event events expert expert_parallel faster file files float16 float32 forward full
    function functions git github gitlab gloo gpu gpus graph grid home host hosts html http https hub huggingface image
    info init inspect instance jira job jobs json kernel kernels lab latency layer layers linux list llm loading local
    localhost log logs loop machine main master md memory metric metrics mixed model models module mpi name nccl net
    network nobody node nodes none normal null nvidia off on op open operator operators output page path perfetto phase
    phases pip plots port prefill probe process processes profile profiler prompt proxy python pytorch queue rank ranks
    ray reference report reports request requests rocm root run runs sample samples server servers service serving
    session sglang shape side signal slower source stage start started startup state status step steps stream streams
    sweep sync system task tasks temp test tests text thread threads time tmp token tokens tools torch total trace
    traces train training transformers triton true type ubuntu unit unknown unlogged user users value version vllm
    weights work worker workers x
"""
WORDS = frozenset(_WORDS.split())
"""Words of reports. A host, user or file of such a name cannot be told from the word, so in sentences it stays."""

_NUMBERED_WORD = re.compile(r"(?:rank|tp|dp|pp|ep|cuda|cpu|core|stream|step|sm)[-_]?\d*|[abhglv]\d{1,3}", re.IGNORECASE)

DATA = (
    r"(?:(?:json|jsonl|csv|tsv|txt|ya?ml|parquet|sqlite|rpd|nsys-rep|qdrep|pftrace|safetensors|gguf|tar|zip|tgz)"
    r"(?:\.(?:gz|xz|zst|bz2))?|(?:json|csv|txt|log|tar|sqlite)\.(?:gz|xz|zst|bz2))"
)
"""Ends of names that only files have."""

CONTENTS = r"(?:log|out|err|bin|pth?|ckpt|onnx|so|sh|toml|jinja|pkl|npz|npy)"
"""Ends that operators and functions have, too: ``aten::add.out``."""

_MADE = re.compile(
    r"""(?:(?:normal|abnormal|again|traces|counters|logs)/)*(?:
    capture\.json | [a-z]+\.parquet | collect\.log | result_(?:perf|counters)_data\.csv | server\.log
    | rank_?\d+(?:\.\d+)?\.(?:pt\.trace\.json(?:\.gz|\.xz)?|profiler_out\.txt)
    | \d+(?:\.\d+)?(?:-TP-\d+)?(?:-DP-\d+)?(?:-(?:DECODE|EXTEND))?\.trace\.json(?:\.gz|\.xz)?
    | (?:report|environment|comparison|cycles|phases)\.(?:md|json|csv|html) | (?:runs|trials)\.jsonl | operators\.txt
    )""",
    re.VERBOSE,
)
_PUBLIC = re.compile(
    r"(?:(?:generation_|tokenizer_|preprocessor_|quantize_)?config|tokenizer|index|"
    r"model(?:-\d+-of-\d+)?(?:\.safetensors\.index)?)\.(?:json|safetensors|txt)"
)


def is_word(text: str) -> bool:
    """Tell what cannot be told from a word of reports, or tells nothing."""
    return (
        len(text) < 2
        or text.lower() in WORDS
        or _NUMBERED_WORD.fullmatch(text) is not None
        or not re.search(r"[^\W\d_]", text)
    )


def is_host(text: str) -> bool:
    """Tell what can be a host's name where one is expected: anything but numbers, switches and stand-ins."""
    return (not is_switch(text) or re.search(r"(?:\d\.\d.*){3}|:.*:", text) is not None) and "<" not in text


def is_switch(text: str) -> bool:
    """Tell the value of a setting that is no name: a number, or a word for none."""
    return re.search(r"[^\W\d_]", text) is None or text.lower() in _SWITCHES


_SWITCHES = {"none", "null", "true", "false", "auto", "yes", "no", "on", "off", "default", "unknown", "host", "n/a"}


def is_local(host: str) -> bool:
    """Tell a name or address that is the same on every machine."""
    if host.lower().rstrip(".") in (LOCAL, "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_anywhere(host: str) -> bool:
    """Tell what is local, and ``0.0.0.0`` and ``::``, which mean all addresses of a machine."""
    return is_local(host) or host.strip("[]") in ("0.0.0.0", "::")  # noqa: S104  (told, not listened on)


def is_made(file: str) -> bool:
    """Tell the name of a file as rca or an engine gives it, which says nothing but what it is."""
    return _MADE.fullmatch(file) is not None


def is_public(file: str) -> bool:
    """Tell the name of a file that every model has."""
    return _PUBLIC.fullmatch(file) is not None


def is_placeholder(text: str) -> bool:
    """Tell what stands for something private."""
    return _PLACEHOLDER.fullmatch(text) is not None


_PLACEHOLDER = re.compile(r"<(?:path|host|user|command|file|model)(?: \d+)?>")


def extension(file: str) -> str:
    """Return what the end of a file's name says of its format, ``.json.gz``; empty where it is none that is known."""
    match = re.search(rf"\.(?:{DATA}|{CONTENTS}|md|html)$", file.lower())
    return match[0] if match else ""


def is_local_model(value: str) -> bool:
    """Tell the path of a model from the id of a public one, ``organisation/name``, or a plain name."""
    if (
        re.match(r"[/~.\\]|[A-Za-z]:[\\/]", value)
        or "\\" in value
        or re.search(rf"\.{CONTENTS}$|\.gguf$|\.safetensors$", value)
    ):
        return True
    parts = value.split("/")
    return len(parts) > 2 or (len(parts) == 2 and (not all(parts) or parts[0].lower() in _FOLDERS))


_FOLDERS = {"model", "models", "checkpoint", "checkpoints", "ckpt", "ckpts", "weights", "data", "home", "hub", "output"}
_FOLDERS |= {"outputs", "runs", "snapshots", "llm", "llms", "cache", "tmp", "local", "mnt", "opt", "srv", "root"}
