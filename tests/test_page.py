"""The page of a comparison: what it says is what was computed, what came from a capture is text, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import KERNELS, decode_trace, span, write_counters, write_pair, write_trace

from rca.api import Comparison, compare
from rca.pictures import SideCurve, distributions
from rca.pictures.metrics import counters_of, signals_of
from rca.verdict import Ledger, duration
from rca.verdict.ledger import Entry
from reports import machine
from reports.page import figures as page_figures
from reports.page.data import page_data
from reports.page.limits import MAX_BYTES, Limits
from reports.page.metrics import unit_for
from reports.page.render import SCRIPTS, STYLES, assets, embedded, in_one_unit, page

HOSTILE = "</script><img src=x onerror=alert(1)><style>*{display:none}</style> \"'`"
VOID = {"meta", "link", "br", "wbr", "img", "input", "hr", "line", "rect", "circle", "path"}


class Read(HTMLParser):
    """The page as a browser's parser sees it: tags with their attributes, text outside of scripts and styles."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.raw: list[tuple[str, dict[str, str], str]] = []
        self.open: list[str] = []
        self.bits: list[str] = []
        self.feed(markup)
        self.close()
        self.text = " ".join(" ".join(self.bits).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {key: value or "" for key, value in attrs}
        self.tags.append((tag, own))
        if tag in ("script", "style"):
            self.raw.append((tag, own, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            tag, own, text = self.raw[-1]
            self.raw[-1] = (tag, own, text + data)
        else:
            self.bits.append(data)

    def of(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [own for name, own in self.tags if name == tag and wanted.items() <= own.items()]


@pytest.fixture(scope="module")
def slower(fixtures: Path) -> Comparison:
    return compare(fixtures / "normal", fixtures / "abnormal", pictures=True)


@pytest.fixture(scope="module")
def read(slower: Comparison) -> Read:
    return Read(page(slower))


@pytest.fixture(scope="module")
def hosts(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("hosts")
    for side in ("normal", "abnormal"):
        shutil.copytree(fixtures / side / "counters", folder / side / "counters")
        shutil.copy(fixtures / side / "capture.json", folder / side)
    return compare(folder / "normal", folder / "abnormal")


def hostile_pair(folder: Path) -> tuple[Path, Path]:
    for side, slow in (("normal", 1.0), ("abnormal", 1.3)):
        trace = decode_trace(slow=slow, gpu_slow=slow, seed=len(side))
        for event in trace["traceEvents"]:
            if event["name"] == KERNELS[1]:
                event["name"] = HOSTILE
        write_trace(folder / side / "rank0<img src=x>.json", trace)
        write_counters(folder / side / "c.csv", {"host_cpu_usage": 40 * slow, "<img src=x onerror=alert(2)>": 3})
    return folder / "normal", folder / "abnormal"


# what the page is made of


def test_policy_allows_what_is_in_the_page_and_nothing_else(read: Read) -> None:
    policy = read.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    code = [text for tag, own, text in read.raw if tag == "script" and own.get("type") != "application/json"]
    styles = [text for tag, _, text in read.raw if tag == "style"]
    assert len(code) == len(styles) == 1
    hashes = ["'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'" for text in code + styles]
    allowed = f"script-src {hashes[0]}; style-src {hashes[1]}"
    assert policy == f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def test_nothing_inline_and_nothing_fetched(read: Read) -> None:
    for tag, own in read.tags:
        assert "style" not in own, (tag, own)
        assert not [key for key in own if key.startswith("on")], (tag, own)
        assert not {"src", "srcset"} & own.keys(), (tag, own)
        assert tag not in ("link", "img", "iframe", "object", "embed", "form", "base", "audio", "video", "use", "image"), tag
        if "href" in own:
            assert own["href"].startswith("#") or "perfetto" in own.get("class", ""), own
    css = assets().style
    assert "url(" not in css
    assert "@import" not in css


def test_every_script_is_carried() -> None:
    folder = Path(machine.__file__).parent / "assets"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.js")} == {*SCRIPTS, "handover.js"}
    assert all((folder / name).is_file() for name in STYLES)


def test_links_lead_somewhere_and_ids_are_unique(read: Read) -> None:
    ids = [own["id"] for _, own in read.tags if "id" in own]
    assert len(ids) == len(set(ids))
    targets = [own["href"][1:] for own in read.of("a") if own["href"].startswith("#")]
    assert set(targets) <= set(ids)
    assert {"overview", "cycles", "functions", "metrics", "capture", "warnings"} <= set(targets)
    named = [name for _, own in read.tags for name in own.get("aria-labelledby", "").split()]
    assert set(named) <= set(ids)
    assert {"cycles-plot", "timelines", "function-table", "flame"} <= set(ids), "the scripts' hosts"


def test_drawings_have_words(read: Read) -> None:
    drawn = [own for own in read.of("svg") if "role" in own or "aria-hidden" in own]
    assert drawn
    for own in drawn:
        assert own.get("aria-hidden") == "true" or (own["role"] == "img" and own["aria-labelledby"])
    for own in read.of("div", **{"class": "scroll"}):
        assert own["tabindex"] == "0"
        assert own["role"] == "region"
        assert own["aria-label"]


def test_same_input_same_page(slower: Comparison, fixtures: Path) -> None:
    again = compare(fixtures / "normal", fixtures / "abnormal", pictures=True)
    assert page(again) == page(slower)


def test_it_is_small(slower: Comparison) -> None:
    assert len(page(slower).encode()) < 1_000_000


def _large(folder: Path) -> tuple[Path, Path]:
    """Eight ranks with thousands of long kernel names and many counters."""
    filler = "std::tuple<int, float, at::Half>, " * 20
    for side, slow in (("normal", 1.0), ("abnormal", 1.3)):
        for rank in range(8):
            trace = decode_trace(8, slow=slow, seed=rank, rank=rank, distributedInfo={"rank": rank, "world_size": 8})
            starts = [event["ts"] for event in trace["traceEvents"] if event["cat"] == "user_annotation"]
            own = {"pid": 0, "tid": 9, "args": {"stream": 9, "device": 0}}
            trace["traceEvents"] += [
                {**span(f"void kernel_{i % 300}<{filler}>({i % 1200})", "kernel", start + 10 * i, 8 * slow), **own}
                for start in starts
                for i in range(600)
            ]
            write_trace(folder / side / f"rank{rank}.json", trace)
        write_counters(folder / side / "c.csv", {f"counter_{n}": 40 for n in range(40)}, seconds=0.15, hz=3000)
    return folder / "normal", folder / "abnormal"


def test_a_page_of_a_large_capture_opens_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    result = compare(*_large(tmp_path), pictures=True, cached=False)
    data = page_data(result)
    assert len(embedded(data).encode()) <= MAX_BYTES
    markup = page(result)
    assert len(markup.encode()) < 3_000_000
    assert data["limits"] in Read(markup).text
    longest = max(len(own["events"]["dur"]) for own in data["ranks"][0]["timelines"])
    for said in (f"the {longest:,} longest events", "samples of each counter", "characters of each name"):
        assert said in data["limits"]
    for drawn, excerpt in zip(data["ranks"][0]["timelines"], result.pictures.ranks[0].excerpts, strict=True):
        assert len(drawn["events"]["dur"]) + drawn["left_out"] == excerpt.events.height + excerpt.left_out
        assert min(drawn["events"]["dur"]) >= excerpt.events["dur_ns"].sort(descending=True)[longest - 1] / 1000


def test_long_names_lose_their_middle(tmp_path: Path) -> None:
    assert Limits(name=10).cut("void gemm<128>(x)") == "void …>(x)"
    for side in ("normal", "abnormal"):
        trace = decode_trace(seed=len(side))
        for event in trace["traceEvents"]:
            event["name"] = event["name"] if event["name"] != KERNELS[1] else "k" * 1_000_000
        write_trace(tmp_path / side / "rank0.json", trace)
    assert len(page(compare(tmp_path / "normal", tmp_path / "abnormal", pictures=True)).encode()) < 300_000


def test_a_path_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"odd\xff")
    try:
        sides = write_pair(folder)
    except OSError:
        pytest.skip("this file system takes only text as names")
    assert page(compare(*sides)).encode()


# what comes from a capture is text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    markup = page(compare(*hostile_pair(tmp_path), pictures=True))
    read = Read(markup)
    assert not read.of("img")
    assert len(read.of("style")) == 1
    assert len(read.of("script")) == 2
    assert read.open == []
    assert "<img src=x onerror=alert(1)>" in read.text
    assert "<img src=x onerror=alert(2)>" in read.text
    assert "rank0<img src=x>.json" in read.text
    data = next(text for tag, own, text in read.raw if own.get("id") == "data")
    assert HOSTILE in json.loads(data)["names"]


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_embedded_json_cannot_end_its_element(value: Any) -> None:
    text = embedded(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


# its figures are the JSON's


def test_overview_says_what_the_json_says(slower: Comparison, read: Read) -> None:
    verdict = machine.as_dict(slower)["verdict"]
    assert "SLOWER" in read.text
    assert verdict["headline"] in read.text
    time = verdict["cycle_time"]
    low, high = time["ci95"]
    assert f"{time['ratio'] - 1:+.1%} (95 % interval {low - 1:+.1%} to {high - 1:+.1%})" in read.text
    for side, n in zip(("normal", "abnormal"), time["n"], strict=True):
        assert f"n = {n}, median {duration(time[f'{side}_us'])}" in read.text
    for cause in verdict["causes"]:
        assert cause["id"] in read.text
        assert cause["next_check"] in read.text
        for item in (*cause["evidence_for"][:4], *cause["evidence_against"][:4]):
            assert item in read.text


def test_ledger_says_what_the_json_says(slower: Comparison, read: Read) -> None:
    ledger = machine.as_dict(slower)["ledger"]
    for part in ledger[:-1]:
        change, low, high = in_one_unit(part["delta_us"], part["low_us"], part["high_us"])
        assert f"{part['text']} " in read.text
        assert f"{change} {low} to {high}" in read.text


def test_metrics_say_what_the_json_says(slower: Comparison, read: Read) -> None:
    values = counters_of(slower.ranks[0])
    for row in machine.as_dict(slower)["metrics"]:
        own = values[row["metric"], row["device"]]
        assert float(np.median(own.normal)) == row["normal"]
        assert float(np.median(own.abnormal)) == row["abnormal"]
        assert (len(own.normal), len(own.abnormal)) == (row["n_normal"], row["n_abnormal"])
        figure = page_figures.small(own)
        unit = unit_for(own.unit, max(abs(figure.low), abs(figure.high)))
        numbers = f"{unit.text(row['normal'])} {unit.text(row['abnormal'])} {unit.signed(row['shift'])}"
        interval = f"{unit.signed(row['shift_low'])} to {unit.signed(row['shift_high'])}"
        assert f"{numbers} {interval}" in read.text


def test_functions_say_what_the_json_says(slower: Comparison, read: Read) -> None:
    for row in machine.as_dict(slower)["functions"][:25]:
        change, low, high = in_one_unit(row["shift_us"], row["shift_low_us"], row["shift_high_us"])
        assert f"{change} {low} to {high}" in read.text
        assert read.of("code", title=row["function"])


def test_places_are_said_and_linked(slower: Comparison, read: Read) -> None:
    assert slower.places
    links = {own["href"]: own for own in read.of("a", **{"class": "perfetto"})}
    for place in slower.places:
        if place.finding.startswith(("headline", "cause", "ledger", "outlier")):
            own = links[f"perfetto/{place.side}?ts={place.ts_ns}&dur={place.dur_ns}&file={place.file_sha256}"]
            assert "hidden" in own
            assert place.file in read.text
            assert f"{place.file_ts_us / 1000:,.3f} ms" in read.text if place.file_ts_us else True


def test_signals_are_drawn_from_what_was_judged(hosts: Comparison) -> None:
    values = signals_of(hosts.normal, hosts.abnormal, None)
    assert hosts.verdict.observations
    for one in hosts.verdict.observations:
        own = values[one.signal, one.device]
        assert np.isclose(np.median(own.normal), one.normal)
        assert np.isclose(np.median(own.abnormal), one.abnormal)
        assert (len(own.normal), len(own.abnormal)) == one.n


# what does not exist is said to be missing, with the reason


def test_counters_only(hosts: Comparison) -> None:
    read = Read(page(hosts))
    assert "TOO LITTLE DATA" in read.text
    assert "No cycle times: nothing was cut into cycles on both sides" in read.text
    assert "No ledger: it needs traces of both sides" in read.text
    assert "No functions" in read.text
    for one in hosts.verdict.observations:
        assert one.text in read.text
    assert read.of("svg", **{"class": "pic small"})


def test_not_comparable(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, anchor="execute_context_2(900)_generation_0(0)"))
    assert result.verdict.status == "not_comparable"
    read = Read(page(result))
    assert "NOT COMPARABLE" in read.text
    assert "No ratio: " in read.text
    assert "No ledger: the cycles of the two sides are not the same work" in read.text
    assert "no evidence of a change" in read.text
    assert all(reason in read.text for rank in result.ranks for reason in rank.gate.reasons)


def test_no_cause(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path))
    read = Read(page(result))
    assert result.verdict.causes == ()
    assert "None is named" in read.text or "Not judged" in read.text
    assert "No counter was sampled during the cycles of both sides." in read.text


def test_few_cycles_are_dots(tmp_path: Path) -> None:
    result = compare(*write_pair(tmp_path, cycles=6))
    (drawn,) = (page_figures.distribution(one) for one in distributions(result.ranks[0]))
    assert len(drawn.abnormal.dots) == len(result.ranks[0].compared.filter(side="abnormal"))
    assert drawn.abnormal.line == ""
    assert drawn.normal.line.startswith("M")


def test_several_ranks_can_be_chosen(shared_data: Path) -> None:
    folder = shared_data / "sglang-a100" / "gpu_memory_squeeze_out_NVLink"
    result = compare(folder / "normal", folder / "abnormal")
    read = Read(page(result))
    assert len(result.ranks) == 2
    assert read.of("select", id="rank")
    assert len(read.of("option")) == 2
    assert all(f"Counters of {rank.role}" in read.text for rank in result.ranks)


# geometry


def test_the_waterfall_leads_from_one_mean_to_the_other(slower: Comparison) -> None:
    ledger = slower.verdict.ledger
    assert ledger is not None
    drawn = page_figures.waterfall(ledger)
    mean = slower.ranks[0].distribution.row(-1, named=True)
    assert np.isclose(drawn.normal_us, mean["normal_us"])
    assert np.isclose(drawn.abnormal_us, mean["abnormal_us"])
    for above, below in zip(drawn.bars, drawn.bars[1:], strict=False):
        assert above.leaves == below.enters
    assert [bar.kind for bar in drawn.bars[1:-1]] == ["more" if entry.change_us > 0 else "less" for entry in ledger.entries]
    for bar, entry in zip(drawn.bars[1:-1], ledger.entries, strict=True):
        shown = float(bar.width.rstrip("%")) / float(drawn.bars[0].width.rstrip("%"))
        assert shown == pytest.approx(abs(entry.change_us) / drawn.normal_us, abs=1e-3)


def test_bars_of_a_waterfall_begin_at_zero_where_whiskers_go_below() -> None:
    entries = (
        Entry("gpu", "GPU", 80.0, 5.0, -75.0, -160.0, -10.0),
        Entry("host", "host", 20.0, 25.0, 5.0, 1.0, 9.0),
    )
    drawn = page_figures.waterfall(Ledger(entries, -70.0, 0.0, timeline=True))
    zero = next(tick.x for tick in drawn.ticks if tick.text == "0")
    assert drawn.ticks[0].text.startswith("−")
    assert [bar.x for bar in (drawn.bars[0], drawn.bars[-1])] == [zero, zero]
    widths = [float(bar.width.rstrip("%")) for bar in drawn.bars]
    assert widths[0] / widths[-1] == pytest.approx(100 / 30, rel=1e-2)
    assert widths[1] / widths[0] == pytest.approx(0.75, rel=1e-2)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_axes_have_round_ticks_inside(low: float, span: float, most: int) -> None:
    scale = page_figures.Scale(low, low + span)
    marks = page_figures.ticks(scale, most)
    assert len(marks) <= most + 1
    assert all(scale.low - 1e-6 * span - 1e-6 <= mark <= scale.high + 1e-6 * span + 1e-6 for mark in marks)


def test_stragglers_do_not_stretch_the_axis() -> None:
    values = [100.0 + i % 7 for i in range(60)]
    strayed = SideCurve((*values, 9000.0), (), (), 103.0, 102.0, 104.0)
    plain = SideCurve(tuple(values), (), (), 103.0, 102.0, 104.0)
    drawn = page_figures.distribution(page_figures.Distribution("rank 0", "decode", plain, strayed))
    assert "1 beyond the axis" in drawn.beyond
    assert "9 ms" in drawn.beyond
    assert float(drawn.normal.median.rstrip("%")) > 10


def test_units_of_a_row() -> None:
    assert unit_for("bytes/s", 3e9).label == "GB/s"
    assert unit_for("s", 0.02).text(0.0123) == "12.3"
    assert unit_for("%", 5).signed(-0.5) == "−0.5"
    assert in_one_unit(0.0)[0] == "0 µs"
