"""Pages of start-ups, grids and model runs: nothing is fetched or run, every name is text, figures are those of the JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from startup_logs import Vllm, vllm_starts

from rca.bench import compare as compare_runs
from rca.bench import read_all
from rca.startup import compare_startups, report
from rca.sweep import sweep
from reports import bench_html, document_html, startup, startup_html, sweep_html
from reports.charts import html as charts_html
from reports.charts.model import Axis, Line, LineChart, Mark, Panel, Point, Row, RowChart
from reports.document import Document

ROOT = Path(__file__).parents[1]
EVIL = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    VOID = frozenset(("meta", "img", "br", "link", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def checked(text: str) -> Page:
    """Hold a page against what every page promises."""
    page = Page(text)
    assert page.open == []
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(tags)
    assert tags.count("style") == tags.count("main") == tags.count("h1") == 1
    names = {name for _, attributes in page.elements for name in attributes}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    metas = [own for tag, own in page.elements if tag == "meta"]
    assert [own["content"] for own in metas if own.get("http-equiv") == "Content-Security-Policy"] == [policy]
    assert "@import" not in page.style
    assert all(own.startswith("#") for own in re.findall(r"url\(([^)]*)\)", page.style))
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert len(ids) == len(set(ids))
    for tag, own in page.elements:
        for name in ("aria-labelledby", "href"):
            for target in (own.get(name) or "").replace("#", "").split():
                assert target in ids, (tag, own)
        if tag == "svg" and own.get("role") == "img":
            assert own.get("aria-labelledby")
        if "scroll" in (own.get("class") or "").split():
            assert (own.get("tabindex"), own.get("role")) == ("0", "region")
            assert own.get("aria-label")
    return page


def test_pages_of_startups(tmp_path: Path) -> None:
    found = compare_startups(
        vllm_starts(tmp_path / "normal", [Vllm()] * 3), vllm_starts(tmp_path / "abnormal", [Vllm(load=9.0)] * 3)
    )
    page = checked(startup_html.comparison_page(found))
    stated = json.loads(startup.comparison_json(found))
    for row in stated["ledger"]:
        low, high = row["ci95_s"]
        assert f"{row['change_s']:+.2f} ({low:+.2f} to {high:+.2f}) s" in page.text
    assert stated["verdict"]["headline"] in page.text
    assert "normal, the start with the middle total" in page.text
    assert checked(startup_html.report_page(report([tmp_path]))).text.count("All starts") == 1


def test_hostile_logs_are_text(tmp_path: Path) -> None:
    log = Vllm(silence=50.0, model=f"/m/{EVIL}").log()
    at = next(i for i, line in enumerate(log.lines) if "torch.compile takes" in line)
    log.lines[at] += f" {EVIL}"
    log.save(tmp_path / "logs" / "<b onclick=x>&.log")
    page = checked(startup_html.report_page(report([tmp_path / "logs"])))
    assert "<b onclick=x>&.log" in page.text
    assert EVIL in page.text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    header = "model_size,context_length,num_warmups,forward_only,mean_time_ms,std_time_ms\n"
    (tmp_path / "g.csv").write_text(f'{header}"{EVIL}",64,1,True,1.5,0.1\n"{EVIL}",128,1,True,2.5,0.1\n')
    assert EVIL in checked(sweep_html.page(sweep(tmp_path / "g.csv"))).text
    row = Row(EVIL, EVIL, (Mark("bar", "more", 0, 1), Mark("whisker", "rest", -1, 3), Mark("dot", "a", 1, 1)), EVIL)
    axis = Axis(0, 2, ((1, EVIL),), EVIL)
    lines = LineChart(EVIL, EVIL, (Panel(EVIL, axis, axis, (Line(0, (Point(1, 1, 0, 2),)),)),), ((0, EVIL),))
    charts = [RowChart(EVIL, EVIL, (row,), axis, 1, (("more", EVIL),)), lines]
    page = checked(document_html.page(Document(EVIL, (EVIL,), (), (EVIL,), EVIL), charts, left_out=EVIL))
    assert page.text.count(EVIL) >= 15


def test_page_of_a_grid() -> None:
    found = sweep(ROOT / "fixtures" / "sweep")
    page = checked(sweep_html.page(found))
    panels = [own for tag, own in page.elements if tag == "svg" and own.get("role") == "img"]
    assert len(panels) == 4 + 4 + 4 + 4
    for effect in found.meaning.backward:
        assert f"{effect.estimate:.3f} ({effect.low:.3f} to {effect.high:.3f})" in page.text
    assert "Complete Results" in page.text


def test_pages_of_model_runs() -> None:
    checked(bench_html.report_page(read_all(ROOT / "fixtures" / "bench" / "float32")))
    found = compare_runs(ROOT / "fixtures" / "bench" / "float32", ROOT / "fixtures" / "bench" / "bfloat16")
    page = checked(bench_html.comparison_page(found))
    for row in found.latency.rows:
        assert f"{row.ratio.estimate:.3f} ({row.ratio.low:.3f} to {row.ratio.high:.3f})" in page.text
    assert "normal, all" in page.text
    assert found.verdict.headline in page.text


def test_geometry() -> None:
    axis = Axis(0.0, 10.0, ((0.0, "0"), (5.0, "5"), (10.0, "10")), "x")
    marks = (Mark("bar", "part", 2.5, 5.0), Mark("whisker", "part", -5.0, 7.5), Mark("bar", "part", 10.0, 10.0))
    view = charts_html.drawn(RowChart("t", "", (Row("r", "s", marks, end=5.0), Row("q", "", ())), axis, 5.0))
    assert isinstance(view, charts_html.RowsView)
    bar, whisker, last = view.rows[0].shapes
    assert (bar.x, bar.width) == ("25%", "25%")
    assert (whisker.x, whisker.end, whisker.cut) == ("0%", "75%", {"low"})
    assert (last.x, last.width) == ("99.6%", "0.4%")  # it is seen, and not beyond the edge
    assert (view.rows[0].end, view.rows[1].before, view.rows[1].end) == ("50%", "50%", "")
    assert [tick.anchor for tick in view.ticks] == ["start", "middle", "end"]
    line = Line(0, (Point(0, 0), Point(10, 10, 5, 12)))
    lines = charts_html.drawn(LineChart("t", "", (Panel("p", axis, axis, (line,)),), ((0, "all"),)))
    assert isinstance(lines, charts_html.LinesView)
    (drawn,) = lines.panels[0].lines
    assert drawn.path == "M48 190L350 16"
    assert drawn.whiskers == "M350 103V16"
    assert "all: from 0 at 0 to 10 at 10" in lines.panels[0].about


def test_equal_results_make_equal_pages(tmp_path: Path) -> None:
    here = sweep_html.page(sweep(ROOT / "fixtures" / "sweep"))
    here += startup_html.report_page(report([ROOT / "fixtures" / "startup"]))
    script = (
        "import sys; from pathlib import Path; from rca.sweep import sweep; from rca.startup import report;"
        "from reports import startup_html, sweep_html; root = Path(sys.argv[1]);"
        "sys.stdout.reconfigure(encoding='utf-8', newline='');"
        "sys.stdout.write(sweep_html.page(sweep(root / 'fixtures' / 'sweep')));"
        "sys.stdout.write(startup_html.report_page(report([root / 'fixtures/startup'])))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", script, str(ROOT)]
    ran = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=True)
    assert ran.stdout.decode() == here
