"""The same serving run in every trace format gives the same profile (see `run_formats`)."""

from __future__ import annotations

import itertools
from pathlib import Path

import polars as pl
import pytest
from run_formats import ANCHOR, BASE_NS, CYCLES, LAUNCHES, NVIDIA, Run, Span, serving_run
from run_formats_amd import AMD

from rca.capture import Capture
from rca.capture.discover import discover
from rca.capture.health import check
from rca.capture.load import load
from rca.cycles import choose, cut
from rca.cycles.segment import Rank
from rca.profile.build import Profile, build
from rca.profile.classify import PROFILED_KINDS

FORMATS = NVIDIA | AMD
HAS_COUNTERS = ("kineto", "kineto-legacy", "kunlun", "chrome-pairs", "nsys-2022", "nsys-2025", "nsys-parquet")
"""The others' clocks count from a zero that the counters do not know."""
HAS_BYTES = [name for name in FORMATS if not name.startswith("rocprof-csv")]
"""rocprofv3's CSV has no column for them (FORMATS.md §6.1)."""

Numbers = dict[tuple[int, str, str], tuple[float, int]]
"""(cycle, function, device) -> (µs, count)."""


@pytest.fixture(scope="module")
def run() -> Run:
    return serving_run()


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def capture(form: str, run: Run, tmp_path: Path) -> Capture:
    FORMATS[form](run, tmp_path)
    return load(tmp_path)


def only_rank(capture: Capture) -> Rank:
    (rank,) = cut(capture, choose(capture, capture)["normal"])
    return rank


def profile(capture: Capture) -> Profile:
    return build(capture, only_rank(capture))


def truth(run: Run, form: str) -> Numbers:
    """The same numbers straight from the run: GPU work belongs to the step in which it was launched."""
    steps = run.of("annotation")
    calls = {span.correlation: span for span in run.of("call")}

    def step(span: Span) -> int:
        placed = calls[span.correlation].start if span.on_gpu else span.start
        return sum(step.start <= placed for step in steps)

    numbers: Numbers = {}
    memsets = {span.correlation for span in run.of("memset")} if form in AMD else set()
    for span in run.of("call", "kernel", "HtoD", "DtoH", "memset"):
        if span.correlation in memsets or step(span) >= CYCLES:
            continue
        key = (step(span), plain_name(span), "GPU 0" if span.on_gpu else "Host")
        took, count = numbers.get(key, (0.0, 0))
        numbers[key] = (took + span.dur, count + 1)
    return numbers


def plain_name(span: Span) -> str:
    return {"HtoD": "Memcpy HtoD", "DtoH": "Memcpy DtoH", "memset": "Memset"}.get(span.kind, span.name)


def numbers_of(rows: pl.DataFrame) -> Numbers:
    """Functions of a profile; kinds of memory, and HIP's names of calls, are the format's own."""
    name = pl.col("function").str.replace(r" \(.*->.*\)$| \(Device\)$", "").str.replace("^hip", "cuda")
    kept = rows.with_columns(name).unique(["cycle", "function", "device"], maintain_order=True)
    return {
        (cycle, function, device): (duration, count)
        for cycle, function, device, duration, count in kept.select(
            "cycle", "function", "device", "duration_us", "count"
        ).iter_rows()
    }


def test_the_run_itself(run: Run) -> None:
    """What the equality below rests on: the run is not empty, and work crosses the borders of its steps."""
    assert len(run.of("annotation")) == CYCLES
    assert len(run.of("kernel")) == CYCLES * (LAUNCHES + 1)
    steps = run.of("annotation")
    last = [max(k.end for k in run.of("kernel") if k.start < s.end + 100) for s in steps]
    assert all(end > step.end for end, step in zip(last, steps, strict=True))
    assert serving_run() == run


def test_one_recording(form: str, run: Run, tmp_path: Path) -> None:
    """All files are read, and by one reader but for the counters."""
    FORMATS[form](run, tmp_path)
    listing = discover(tmp_path)
    assert len([found for found in listing.found if found.reader.NAME != "counters"]) == 1
    assert not [finding for finding in listing.findings if "agent_info" not in finding.file]


def test_cycles(capture: Capture, run: Run, form: str) -> None:
    rank = only_rank(capture)
    cycles = rank.cycles
    steps = run.of("annotation")
    assert cycles["start_ns"].diff().drop_nulls().to_list() == [
        (after.start - before.start) * 1000 for before, after in itertools.pairwise(steps)
    ]
    assert cycles["span_us"].to_list() == [step.dur for step in steps]
    assert cycles["phase"].unique().to_list() == ["decode"]
    assert cycles["batch"].unique().to_list() == [4]
    assert cycles["complete"].to_list() == [True] * (CYCLES - 1) + [False]
    if form in HAS_COUNTERS:
        assert cycles["start_ns"][0] == BASE_NS + steps[0].start * 1000


def test_functions(capture: Capture, run: Run, form: str) -> None:
    got, want = numbers_of(profile(capture).rows), truth(run, form)
    assert got.keys() == want.keys()
    for key in want:
        assert got[key] == pytest.approx(want[key]), key


@pytest.mark.parametrize("form", sorted(HAS_BYTES), indirect=True)
def test_bytes(capture: Capture, run: Run) -> None:
    copies = capture.events.filter(pl.col("kind") == "memcpy")
    assert copies["bytes"].to_list() == [span.size for span in run.of("HtoD", "DtoH")]


@pytest.mark.parametrize("form", sorted(HAS_COUNTERS), indirect=True)
def test_counters(capture: Capture, run: Run, tmp_path: Path) -> None:
    """μ of a counter is the same wherever the counter and the trace have one clock."""
    (tmp_path / "reference").mkdir()
    NVIDIA["kineto"](run, tmp_path / "reference")
    key = ["cycle", "device", "metric", "count", "duration_us"]
    rows = [
        profile(side).rows.filter(pl.col("metric") != "N/A").sort(*key).select(*key, "mu_pct", "sigma_pct")
        for side in (load(tmp_path / "reference"), capture)
    ]
    assert rows[0].height > CYCLES
    assert rows[0].select(key).equals(rows[1].select(key))
    for column in ("mu_pct", "sigma_pct"):
        assert rows[1][column].to_list() == pytest.approx(rows[0][column].to_list()), column


def test_healthy(capture: Capture) -> None:
    assert check(capture) == ()


@pytest.mark.parametrize("other", [name for name in NVIDIA if name != "kineto"])
def test_kernel_names_are_equal(run: Run, tmp_path: Path, other: str) -> None:
    names = []
    for form in ("kineto", other):
        (tmp_path / form).mkdir()
        FORMATS[form](run, tmp_path / form)
        events = load(tmp_path / form).events
        names.append(sorted(events.filter(pl.col("kind").is_in(list(PROFILED_KINDS)))["name"].cast(pl.String).to_list()))
        assert (events.filter(pl.col("kind") == "annotation")["name"] == ANCHOR).all()
    assert names[0] == names[1]
