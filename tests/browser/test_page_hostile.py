"""Names that want to be markup stay text, wherever they come from and wherever they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browsing import FITS, NARROW, Opens
from startup_logs import Vllm
from traces import KERNELS, decode_trace, write_counters, write_trace

from rca.api import compare
from rca.startup import compare_startups
from reports import startup_html
from reports.page import page as page_of

IMAGE = "<img src=x onerror=\"window.harm='{}'\">"
KERNEL = "</script>" + IMAGE.format("kernel") + "<style>*{display:none}</style>'`${1}\u2028&lt;"
LONG = "void " + "template<" * 180 + "int" + ">" * 180 + "(float)"
HARM = "window.harm || document.querySelectorAll('img').length || null"


def pair(folder: Path) -> tuple[Path, Path]:
    """A pair whose kernels, operators, marks, threads, files, counters and devices have such names."""
    for side, slow in (("normal", 1.0), ("abnormal", 1.4)):
        trace = decode_trace(slow=slow, gpu_slow=slow, seed=len(side), anchor=f"step {IMAGE.format('anchor')}")
        trace["deviceProperties"][0]["name"] = IMAGE.format("device")
        renamed = {KERNELS[0]: KERNEL, KERNELS[1]: LONG, "aten::op": IMAGE.format("operator")}
        for event in trace["traceEvents"]:
            event["name"] = renamed.get(event["name"], event["name"])
        name = {"ph": "M", "name": "thread_name", "pid": 100, "tid": 100, "args": {"name": IMAGE.format("thread")}}
        write_trace(
            folder / side / "rank0<img src=x onerror=1>.json", {**trace, "traceEvents": [name, *trace["traceEvents"]]}
        )
        write_counters(
            folder / side / "c.csv", {"host_cpu_usage": 40 * slow, IMAGE.format("counter").replace('"', ""): slow}
        )
    return folder / "normal", folder / "abnormal"


def everywhere(page: Any) -> None:
    """Look at all there is: open what folds, point at what shows names, search for them."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.locator("#timeline-which [data-value=all]").click()
    for name in page.locator("#function-rows button.name").all()[:6]:
        name.click()
        name.click()
    page.locator("#function-search").fill("img")
    assert page.locator("#function-rows button.name").count() >= 2
    page.locator("#function-rows button.name").first.click()
    page.locator(".timeline-canvas").first.focus()
    for _ in range(12):
        page.keyboard.press("n")
    for canvas in (".timeline-canvas canvas:not(.timeline-axis)", "#flame-graph canvas", "#cycles-chart .u-over"):
        found = page.locator(canvas)
        if not found.count():
            continue
        found.first.scroll_into_view_if_needed()
        box = found.first.bounding_box()
        for share in range(1, 30):
            page.mouse.move(box["x"] + box["width"] * share / 30, box["y"] + min(box["height"] / 2, 40 + share))


def test_hostile_names_are_text(tmp_path: Path, opens: Opens) -> None:
    path = tmp_path / "page <b> & 'quotes' %41#1?.html"
    path.write_text(page_of(compare(*pair(tmp_path), cycle="step", pictures=True)), encoding="utf-8")
    with opens(path) as page:
        everywhere(page)
        assert page.evaluate(HARM) is None
        said = page.evaluate("document.body.textContent")
        for one in (KERNEL, *map(IMAGE.format, ("operator", "anchor"))):
            assert one in said, one[:40]
        assert page.locator("h1").is_visible(), "no style of theirs is in force"
        page.locator("#function-search").fill("template<")
        page.locator("#function-rows button.name").first.click()
        assert page.locator("code.full-name").inner_text() == LONG
        assert page.evaluate(FITS)
    with opens(path, NARROW) as page:
        assert page.evaluate(FITS), "a name of 1,800 letters breaks"
    with opens(path, drawn=False, java_script_enabled=False) as page:
        assert page.locator("img").count() == 0
        assert page.locator("h1").is_visible()


def test_hostile_logs_are_text(tmp_path: Path, opens: Opens) -> None:
    for side, download in (("normal", 3.0), ("abnormal", 30.0)):
        for n in range(4):
            log = Vllm(model=f"/models/{KERNEL}", download=download + n).log()
            log.vllm(f"Using {IMAGE.format('line')}")
            log.save(tmp_path / side / f"start-{n}<img src=x onerror=1>.log")
    path = tmp_path / "starts.html"
    path.write_text(
        startup_html.comparison_page(compare_startups(tmp_path / "normal", tmp_path / "abnormal")), encoding="utf-8"
    )
    with opens(path, drawn=False) as page:
        assert page.evaluate(HARM) is None
        assert page.locator("h1").is_visible()
        assert page.evaluate(FITS)
