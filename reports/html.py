"""What all pages share: templates that escape what they are given, and styles and scripts that a policy allows by hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def templates() -> Environment:
    """Return the templates of pages."""
    return Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@cache
def joined(*names: str) -> str:
    """Return files of ``reports/assets`` as the text of one element."""
    folder = resources.files("reports") / "assets"
    text = "\n".join((folder / name).read_text(encoding="utf-8").strip() for name in names) + "\n"
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError(f"{', '.join(names)}: would end the element that it stands in")
    return text


def policy(style: str, script: str = "", more: Sequence[str] = ()) -> str:
    """Return a Content-Security-Policy that allows one style element, one script element if there is one, and ``more``."""
    scripts = [f"script-src {_source(script)}"] if script else []
    rules = ["default-src 'none'", *scripts, f"style-src {_source(style)}", *more, "base-uri 'none'", "form-action 'none'"]
    return "; ".join(rules)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
