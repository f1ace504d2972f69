"""What the keys of settings and facts say of the texts behind them, and fields of results of the texts in them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Kind = Literal["command", "version", "host", "model", "path", "user", "name", "file", ""]

NAME = ".name"

_FIELDS: dict[str, Kind] = {
    **dict.fromkeys((NAME, ".function", ".anchor", ".device", ".metric"), "name"),
    **dict.fromkeys((".path", ".file", ".source", ".label"), "file"),
}
"""Fields of dataclasses; names are what columns of tables hold, too."""

_HOSTS = r"hosts?|host_?names?|nodes?|node_?name|nodelist|instance|pod|pod_name|server|server_name"
_KEYS: tuple[tuple[Kind, str], ...] = (
    ("command", r"(?:^|_)(?:cmd|cmd_?line|command|command_?line|argv|args|arguments|executable|exe)$"),
    ("version", r"version|revision|driver|^torch$|^transformers$"),
    ("host", rf"(?:^|[_.])(?:{_HOSTS}|fqdn|domain|addr|address|ip|endpoint|url)$"),
    ("model", r"(?:^|_)(?:model|tokenizer|checkpoint|weights|lora|adapter)(?:_path|_dir|_name_or_path)?$"),
    ("path", r"(?:^|_)(?:path|dir|directory|folder|cwd|workdir)$"),
    ("user", r"(?:^|_)(?:user|user_?name|owner|login)$"),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KEYS)


def field(name: str) -> str:
    """Return the key of a dataclass's field."""
    return f".{name}"


@lru_cache(maxsize=4096)
def kind_of(key: str) -> Kind:
    """Return what stands behind a key, or in a `field`; empty for any other text."""
    if key.startswith("."):
        return _FIELDS.get(key, "")
    return next((kind for kind, pattern in _PATTERNS if pattern.search(key)), "")
