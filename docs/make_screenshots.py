#!/usr/bin/env python3
"""Makes the pictures of pages in docs/, from fixtures/ alone, in a real browser.

    python docs/make_screenshots.py             # needs Chromium and the extra `dev`
    python docs/make_screenshots.py --to /tmp/pictures

Colours are cut down to a palette, so that a picture is small enough for a repository: letters stay sharp, and at most
`MAX_BYTES` are allowed.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / "browser")]

from browsing import DRAWN, program  # noqa: E402
from pages import make  # noqa: E402

MAX_BYTES = 250_000
SIZE = (1280, 900)
COLOURS = 128


def point_at_a_cycle(page: Any) -> None:
    """Go to one in the middle by keyboard: it is named below the chart, too."""
    page.locator("#cycles-chart").focus()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")


@dataclass(frozen=True)
class Picture:
    """What is shown of which page: the first screen, or from one part's top to another one's bottom."""

    file: str
    of: str
    begin: str = ""
    end: str = ""
    first: Callable[[Any], None] | None = None


PICTURES = (
    Picture("report.png", "contention"),
    Picture("cycles.png", "contention", "#cycles", "#timelines", point_at_a_cycle),
    Picture("functions.png", "contention", "#functions", "#flame"),
    Picture("startup.png", "startup", "header.top", "#pictures"),
)


def taken(page: Any, one: Picture) -> bytes:
    """Take it; the page is drawn."""
    if one.first:
        one.first(page)
    if not one.begin:
        return bytes(page.screenshot())
    page.evaluate("scrollTo(0, 0)")
    top, bottom = page.locator(one.begin).bounding_box(), page.locator(one.end).bounding_box()
    clip = {"x": 0, "y": top["y"], "width": SIZE[0], "height": bottom["y"] + bottom["height"] - top["y"]}
    return bytes(page.screenshot(full_page=True, clip=clip))


def small(png: bytes) -> bytes:
    """Return the picture with as few colours as it needs."""
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        out = io.BytesIO()
        palette.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=HERE, metavar="DIR")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    os.environ["RCA_NO_CACHE"] = "1"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=program(playwright), args=sandbox)
        paths = {name: make(name, Path(folder)).path for name in dict.fromkeys(one.of for one in PICTURES)}
        for one in PICTURES:
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            page.goto(paths[one.of].as_uri())
            page.wait_for_function(DRAWN)
            content = small(taken(page, one))
            page.close()
            if len(content) > MAX_BYTES:
                raise SystemExit(f"{one.file}: {len(content):,} bytes are too many")
            (arguments.to / one.file).write_bytes(content)
            print(f"{one.file}: {len(content):,} bytes")
        browser.close()


if __name__ == "__main__":
    main()
