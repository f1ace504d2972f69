#!/usr/bin/env python3
"""How long pages take to open in a real browser, and how large they are: of every pair in fixtures/ and ../shared/data.

    python benchmarks/page.py                       # needs Chromium, and playwright from the extra `dev`
    python benchmarks/page.py --runs 9 --only contention mfu

Each page is opened from disk in a context of its own. Times are ms from the start of the navigation, medians and the
longest of some runs: `DOM` until DOMContentLoaded (the overview and the tables are there), `drawn` until the last of the
views that its script draws. The target, 2 s, is printed beside what was measured and never asserted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "browser")]

from browsing import DRAWN, WIDE, program  # noqa: E402
from pages import DOCUMENTS, PAIRS, absent, make  # noqa: E402

TARGET_MS = 2000

WATCH = f"""addEventListener("DOMContentLoaded", () => {{
  const isDrawn = {DRAWN};
  const look = () => {{
    if (!isDrawn()) requestAnimationFrame(look);
    else requestAnimationFrame(() => {{ window.drawnAt = performance.now(); }});
  }};
  look();
}});"""
TIMES = """() => [performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd, window.drawnAt]"""


def opened(browser: Any, path: Path) -> tuple[float, float]:
    """Open a page once; return ms until it was read and until all was drawn."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_function("() => window.drawnAt")
    read, drawn = page.evaluate(TIMES)
    context.close()
    return read, drawn


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"among {', '.join([*PAIRS, *DOCUMENTS])}")
    arguments = parser.parse_args()
    os.environ["RCA_NO_CACHE"] = "1"
    print("| page | KB | DOM, ms | drawn, ms | longest | under 2 s |")
    print("|---|--:|--:|--:|--:|---|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=program(playwright), args=sandbox)
        for name in arguments.only or [*PAIRS, *DOCUMENTS]:
            if absent(name):
                print(f"| {name} | its captures are not here | | | | |")
                continue
            path = make(name, Path(folder)).path
            times = [opened(browser, path) for _ in range(arguments.runs)]
            read, drawn = (median(each) for each in zip(*times, strict=True))
            longest = max(drawn for _, drawn in times)
            size = path.stat().st_size / 1000
            verdict = "yes" if longest < TARGET_MS else "NO"
            print(f"| {name} | {size:,.0f} | {read:.0f} | {drawn:.0f} | {longest:.0f} | {verdict} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
