"""Secrets out of command lines and settings, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "[redacted]"

_WORDS = {"key", "keys", "apikey", "token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "passphrase"}
_WORDS |= {"pwd", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "header", "headers"}
_WORDS |= {"sig", "signature"}
_AMOUNTS = {"max", "min", "num", "total", "batched", "reserved", "new", "per", "budget", "limit", "size", "count", "length"}
_AMOUNTS |= {"ratio", "threshold", "details"}
"""Words beside which tokens are an amount: ``--max-total-tokens``."""

_OPTION = re.compile(r"^(--?[A-Za-z][\w.-]*)(?:=(.*))?$", re.DOTALL)
_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.DOTALL)
_KEY = re.compile(r"""(?<![\w.-])([\w.-]{1,128})([\\"']*\s{0,8}[:=]\s{0,8})""")
_QUOTED = re.compile(
    r"""(?P<escaped>\\["'])(?:(?!(?P=escaped)).)*(?:(?P=escaped)|$) | "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'?""",
    re.DOTALL | re.VERBOSE,
)
_BARE = re.compile(r"""[^\s,;&}\])"'\\]*""")
_SHELL_WORD = re.compile(r"""(?:\\.|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s;&|"'\\])*""", re.DOTALL)
_STRING_OR_BRACKET = re.compile(r"""\\?"(?:[^"\\]|\\.)*"?|[][{}]""", re.DOTALL)
_OPTION_IN_TEXT = re.compile(r"(--[A-Za-z][\w.-]*)(\s+)((?!--)\S+(?:\s+(?!-)\S+)*)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_HEADER = re.compile(r"(?im)^([ \t]{0,32}[\w-]{0,64}(?:authorization|api-key|token|cookie)[\w-]{0,64}[ \t]{0,8}:).*$")
_URL_SECRET = re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,32}://)[^/\s]+@", re.IGNORECASE)
_KNOWN_SHAPES = re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[abp]-|nvapi-|AKIA)[\w-]{8,}")


def is_secret(name: str) -> bool:
    """Tell by its words whether an option, variable or setting may hold a secret: ``--api-key``, ``HF_TOKEN``."""
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    amount = _AMOUNTS.intersection(words) or re.search(r"tokens?_ids?$", "_".join(words))
    return bool(_WORDS.intersection(words) - ({"token", "tokens"} if amount else set()))


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
    text = _HEADER.sub(rf"\1 {HIDDEN}", text)
    text = _OPTION_IN_TEXT.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) else m[0], text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _without_values(_KNOWN_SHAPES.sub(HIDDEN, text))


def _without_values(text: str) -> str:
    """Hide what follows the keys of secrets; keys within what follows other keys count too."""
    parts, at = [], 0
    for key in _KEY.finditer(text):
        if key.start() >= at and is_secret(key[1]):
            quote, end = _value(text, key)
            if end > key.end():
                parts.append(f"{text[at : key.end()]}{quote}{HIDDEN}{quote}")
                at = end
    return "".join(parts) + text[at:]


def _value(text: str, key: re.Match[str]) -> tuple[str, int]:
    """Return the quotes of what follows a key, and where it ends: a string, list, mapping of JSON, or a word of a shell."""
    at = key.end()
    in_json = '"' if '"' in key[2] else ""
    if text[at : at + 1] in ("[", "{"):
        return in_json, _closing(text, at)
    if "=" in key[2]:
        word = _SHELL_WORD.match(text, at)
        return "", word.end() if word else at
    if quoted := _QUOTED.match(text, at):
        return quoted["escaped"] or text[at], quoted.end()
    bare = _BARE.match(text, at)
    return in_json, bare.end() if bare else at


def _closing(text: str, at: int) -> int:
    """Return where the brackets that open at ``at`` are closed; the end of the text where they are not."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text, at):
        depth += (found[0] in "[{") - (found[0] in "]}")
        if depth == 0:
            return found.end()
    return len(text)


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
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            shown[name] = redacted(value)
        elif isinstance(value, list) and all(isinstance(item, (str, int, float, bool)) for item in value):
            shown[name] = [redacted_text(item) if isinstance(item, str) else item for item in value]
    return shown
