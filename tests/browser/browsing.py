"""What the tests of pages share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from pages import Made

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

WIDE, NARROW = (1280, 900), (390, 844)

DRAWN = """() => ["cycles-plot", "timelines", "function-table", "flame"].every((id) => {
  const host = document.getElementById(id);
  return !host || "drawn" in host.dataset;
})"""
"""All that the page's script draws is there."""

CSP = "addEventListener('securitypolicyviolation', (e) => console.error(`${e.violatedDirective} forbids ${e.blockedURI}`))"

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
"""Nothing is beside the screen: wide tables scroll by themselves."""

Opens = Callable[..., AbstractContextManager[Any]]
Makes = Callable[[str], Made]
Pictures = Callable[[Any, str], None]


def program(playwright: Any) -> Path:
    """Return the browser to run: what RCA_CHROMIUM names, the system's, or playwright's own; it may not be there."""
    found = os.environ.get("RCA_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    return Path(found or playwright.chromium.executable_path)


def accessible(page: Any) -> None:
    """Let axe-core look for what shuts people out: contrast, names, roles, order, language."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
