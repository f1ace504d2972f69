"""Which engine answers at a URL, with which settings, and which process it is (FORMATS.md §2.1, §3.1)."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from collectors.redact import redacted_settings
from collectors.server import API_KEY_VARIABLE, Server, ServerError
from rca.errors import RcaError

ENGINES = ("sglang", "vllm")


class NoServerError(RcaError):
    """Nothing that can be recorded answers at the URL."""

    exit_code = 2


@dataclass(frozen=True)
class Engine:
    """A serving engine. ``settings``: what it states of itself, secrets redacted."""

    name: str
    version: str
    settings: dict[str, Any] = field(default_factory=dict)


def detect(server: Server, wanted: str = "auto") -> Engine:
    """Ask a server what it is.

    Raises:
        NoServerError: nothing answers, or it is neither engine.
    """
    try:
        found = _sglang(server) if wanted != "vllm" else None
        found = found or (_vllm(server) if wanted != "sglang" else None)
        refused = not found and server.get("/server_info").status in (401, 403)
    except ServerError as error:
        raise NoServerError(f"{error}; is the server up?") from None
    if found:
        return found
    if refused:
        raise NoServerError(f"{server.url}: wants a key: put it into the environment variable {API_KEY_VARIABLE}")
    raise NoServerError(f"{server.url}: is {'neither SGLang nor vLLM' if wanted == 'auto' else f'no {wanted} server'}")


def _sglang(server: Server) -> Engine | None:
    for path in ("/server_info", "/get_server_info"):
        reply = server.get(path)
        info = reply.json() if reply.status == 200 else None
        if isinstance(info, dict) and "model_path" in info and "tp_size" in info:
            state = ("internal_states", "version", "startup_time")
            settings = {key: value for key, value in info.items() if key not in state}
            return Engine("sglang", str(info.get("version") or ""), redacted_settings(settings))
    return None


def _vllm(server: Server) -> Engine | None:
    reply = server.get("/version")
    info = reply.json() if reply.status == 200 else None
    if isinstance(info, dict) and isinstance(info.get("version"), str):
        return Engine("vllm", info["version"])
    return None


def serving_process(server: Server) -> int | str:
    """Return the pid of the server's topmost process on this machine, or why it cannot be told."""
    if not _is_here(server):
        return f"{server.host} is another machine: run the collector there"
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "only root may ask which process listens on a port"
    listening = [c for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == server.port]
    pids = sorted({c.pid for c in listening if c.pid})
    if not pids:
        why = (
            "its process is another user's, or in another network namespace" if listening else "nobody on this machine does"
        )
        return f"which process listens on port {server.port} cannot be told ({why}): give it with --pid"
    process = psutil.Process(pids[0])
    if process.name() in ("docker-proxy", "rootlessport", "conmon", "slirp4netns"):
        return f"{process.name()} listens on port {server.port} for a container: give the server's own process with --pid"
    return _topmost(process).pid


def _is_here(server: Server) -> bool:
    addresses = server.addresses()
    own = {str(address.address).split("%")[0] for nic in psutil.net_if_addrs().values() for address in nic}
    return any(ipaddress.ip_address(address.split("%")[0]).is_loopback or address in own for address in addresses)


def _topmost(process: psutil.Process) -> psutil.Process:
    """Return the ancestor that is still the same server: front ends of several workers are its children."""
    for parent in process.parents():
        try:
            if not _is_engine(parent.cmdline()):
                break
        except psutil.Error:
            break
        process = parent
    return process


def _is_engine(command: list[str]) -> bool:
    """Tell a server's command line: ``python -m vllm.…``, ``vllm serve``, ``sglang::…``; not one that speaks of it."""
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1].partition(".")[0] in ENGINES
    names = (Path(word).name.lower().partition("::")[0] for word in command[:2])
    return any(name in ENGINES for name in names)


def vllm_profile_folder(pid: int) -> Path | None:
    """Return where a vLLM server writes its traces: from its command line or, of old versions, its environment.

    Of the environment this one variable is looked at, and nothing of it is recorded.
    """
    try:
        process = psutil.Process(pid)
        command, variables, cwd = process.cmdline(), process.environ(), process.cwd()
    except psutil.Error:
        return None
    told = _profiler_dir(command) or variables.get("VLLM_TORCH_PROFILER_DIR")
    return from_here(pid, Path(cwd, told)) if told and "://" not in told else None


def _profiler_dir(command: list[str]) -> str | None:
    for at, word in enumerate(command):
        option, given, value = word.partition("=")
        value = value if given else (command[at + 1] if at + 1 < len(command) else "")
        option = option.replace("_", "-")
        if option == "--profiler-config.torch-profiler-dir":
            return value
        if option == "--profiler-config":
            try:
                config = json.loads(value)
            except ValueError:
                continue
            if isinstance(config, dict) and isinstance(config.get("torch_profiler_dir"), str):
                return str(config["torch_profiler_dir"])
    return None


def from_here(pid: int, path: Path) -> Path:
    """Return a process' path as it can be opened from here: a container has a file system of its own."""
    return path if same_files(pid) else Path(f"/proc/{pid}/root") / path.relative_to("/")


def same_files(pid: int) -> bool:
    """Tell whether a process sees the file system that we see."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return True


def expected_traces(engine: str, tree: list[str]) -> int:
    """Return how many processes will write a trace, from the names of the server's processes: one per rank."""
    pattern = re.compile(r"^sglang::sched" if engine == "sglang" else r"^VLLM::Worker|^VllmWorker")
    return max(1, sum(bool(pattern.match(name)) for name in tree))
