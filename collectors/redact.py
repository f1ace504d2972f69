"""Secrets out of command lines and settings, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "[redacted]"

_WORDS = {"key", "apikey", "token", "secret", "password", "passwd", "passphrase", "pwd", "auth", "authorization", "cookie"}
_WORDS |= {"credential", "credentials", "bearer", "keys", "tokens", "secrets", "passwords", "header", "headers"}
_AMOUNTS = {"max", "min", "num", "total", "batched", "reserved", "new", "per", "budget", "limit", "size", "id", "ids"}
"""Words beside which tokens are an amount: ``--max-total-tokens``, ``--stop-token-ids``."""

_OPTION = re.compile(r"^(--?[A-Za-z][\w.-]*)(?:=(.*))?$", re.DOTALL)
_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.DOTALL)
_IN_JSON = re.compile(r"""(["'])([\w.-]+)\1(\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,}\]]+)""")
_OPTION_IN_TEXT = re.compile(r"(--[A-Za-z][\w.-]*)(=|\s+)((?!--)\S+(?:\s+(?!-)\S+)*)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_HEADER = re.compile(r"(?im)^(\s*[\w-]*(?:authorization|api-key|token|cookie)[\w-]*\s*:).*$")
_URL_SECRET = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_QUERY_SECRET = re.compile(r"(?i)([?&][\w.-]*(?:key|token|secret|password|signature|sig)=)[^&\s\"']+")
_KNOWN_SHAPES = re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|nvapi-|AKIA)[\w-]{8,}")


def is_secret(name: str) -> bool:
    """Tell by its words whether an option, variable or setting may hold a secret: ``--api-key``, ``HF_TOKEN``."""
    words = set(re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    return bool((words & _WORDS) - ({"token", "tokens"} if words & _AMOUNTS else set()))


def redacted(command: Sequence[str]) -> list[str]:
    """Return a command line without the values of options, variables, headers and URLs that may be secrets."""
    shown: list[str] = []
    hiding = False  # until the next option: some take several values
    for word in command:
        option = _OPTION.match(word) or _ASSIGNMENT.match(word)
        if hiding and not word.startswith("--"):
            shown.append(HIDDEN)
        elif option and is_secret(option[1]):
            hiding = option[2] is None
            shown.append(option[1] if hiding else f"{option[1]}={HIDDEN}")
        else:
            hiding = word == "-H"
            shown.append(redacted_text(word))
    return shown


def redacted_text(text: str) -> str:
    """Return a text without secrets that can be told by their shape or by the key before them."""
    text = _URL_SECRET.sub(rf"\1{HIDDEN}@", text)
    text = _QUERY_SECRET.sub(rf"\1{HIDDEN}", text)
    text = _HEADER.sub(rf"\1 {HIDDEN}", text)
    text = _OPTION_IN_TEXT.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) else m[0], text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _KNOWN_SHAPES.sub(HIDDEN, text)
    return _IN_JSON.sub(lambda m: f'{m[1]}{m[2]}{m[1]}{m[3]}"{HIDDEN}"' if is_secret(m[2]) else m[0], text)


def redacted_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a mapping, and of mappings in it, without secrets."""
    shown: dict[str, Any] = {}
    for name, value in settings.items():
        if is_secret(name) and value not in (None, "", False):
            shown[name] = HIDDEN
        elif isinstance(value, Mapping):
            shown[name] = redacted_settings(value)
        elif isinstance(value, str):
            shown[name] = redacted_text(value)
        elif isinstance(value, (int, float, bool)) or value is None:
            shown[name] = value
        elif isinstance(value, list) and all(isinstance(item, (str, int, float, bool)) for item in value):
            shown[name] = [redacted_text(item) if isinstance(item, str) else item for item in value]
    return shown


def redacted_url(url: str) -> str:
    """Return a URL without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
