"""Scoring of the lab: measures by hand, baselines on small tables, cases that count and cases that cannot."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import baselines, measures
from lab import score as scoring
from lab.case import Effect, Truth, write_truth
from lab.score import BASELINES, ERROR, METHODS, NO_FAULT, NONE_NAMED, RANDOM, RCA, Case, Named, Scores, score, summarise
from rca.capture.metrics import METRICS
from rca.capture.tables import COUNTERS
from rca.errors import InputError, OutputError
from reports.lab_plot import plot_scores
from reports.lab_scores import scores_json, scores_markdown

CAUSES = set(baselines.CAUSE_OF_METRIC.values())


def label(fault: str | None = None, cause: str | None = None, severity: float | None = None, **more: Any) -> Truth:
    """A label; ``ratio`` is what clients measured, ``times`` both of theirs."""
    times = more.pop("times", (100.0, 100.0 * more.pop("ratio", 1.0)))
    settings = {"case": "c", "suite": "s", "workload": "w", "engine": "vllm", "severity_unit": "%", "device": "Host"}
    settings |= {"parameters": {}, "first": "normal", "repeat": 1, "host": "made", **more}
    completed = [9 if time else 0 for time in times]
    return Truth(fault=fault, cause=cause, severity=severity, effect=Effect("us per token", *times, *completed), **settings)


def case(name: str, truth: Truth, *named: str | Named, status: str = "slower", others: tuple[str, ...] = ()) -> Case:
    """A case; every baseline names ``others``."""
    causes = tuple(Named(one, False, None) if isinstance(one, str) else one for one in named)
    ranking = tuple((cause, 9.0 - place) for place, cause in enumerate(others))
    return Case(name, truth, status, "broken" if status == ERROR else None, causes, dict.fromkeys(BASELINES, ranking))


# measures


def test_accuracy_is_what_one_counts_by_hand() -> None:
    assert measures.accuracy([1, 2, 4, None]) == measures.Accuracy(4, 0.25, 0.5, (1 + 1 / 2 + 1 / 4) / 4)
    assert math.isnan(measures.accuracy([]).top1)


@given(st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=1))
def test_accuracies_are_ordered(positions: list[int | None]) -> None:
    own = measures.accuracy(positions)
    assert 0 <= own.top1 <= own.top3 <= 1
    assert own.top1 <= own.mrr <= own.top1 + (1 - own.top1) / 2


@pytest.mark.parametrize("n", range(1, 8))
def test_random_accuracy_is_the_mean_over_all_positions(n: int) -> None:
    own, every = measures.random_accuracy(5, n), measures.accuracy(list(range(1, n + 1)))
    assert own.n == 5
    assert (own.top1, own.top3, own.mrr) == pytest.approx((every.top1, every.top3, every.mrr))


def test_share_has_wilsons_interval() -> None:
    own = measures.share(8, 10)  # Wilson: (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)
    z = 1.959963984540054
    middle, half = 0.8 + z**2 / 20, z * math.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert (own.low, own.high) == pytest.approx(((middle - half) / (1 + z**2 / 10), (middle + half) / (1 + z**2 / 10)))
    assert measures.share(0, 0) == measures.Share(0, 0, 0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_share(counts: tuple[int, int]) -> None:
    own = measures.share(*counts)
    assert -1e-12 <= own.low <= own.value + 1e-12
    assert own.value - 1e-12 <= own.high <= 1 + 1e-12


def test_calibration_by_hand() -> None:
    own = measures.calibration([0.7, 0.65, 0.2, 1.0], [True, False, False, True])
    assert own is not None
    assert [(one.low, one.high, one.right.n) for one in own.bins] == [(0.1, 0.2, 1), (0.6, 0.7, 2), (0.9, 1.0, 1)]
    assert own.bins[1].confidence == pytest.approx(0.675)
    assert own.error == pytest.approx((0.2 + 2 * 0.175 + 0) / 4)
    assert measures.calibration([], []) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_calibration_counts_everything_once(pairs: list[tuple[float, bool]]) -> None:
    own = measures.calibration([confidence for confidence, _ in pairs], [right for _, right in pairs])
    assert own is not None
    assert sum(one.right.n for one in own.bins) == own.n == len(pairs)
    assert sum(one.right.hits for one in own.bins) == sum(right for _, right in pairs)
    assert all(one.low - 1e-9 <= one.confidence <= one.high + 1e-9 for one in own.bins)
    assert 0 <= own.error <= 1


def test_noise_is_a_pair_that_was_seen() -> None:
    assert measures.noise([]) is None
    assert measures.noise([1.1, 0.8, 1.0]) == pytest.approx(math.log(1.25))
    many = np.exp(np.arange(100) / 100)
    assert measures.noise(many.tolist()) == pytest.approx(0.95)


# baselines


def counters(
    *series: tuple[str, list[float]] | tuple[str, list[float], str] | tuple[str, list[float], str, int],
) -> pl.DataFrame:
    """A table of counters from (metric, values, unit, pid), sampled once a second."""
    rows = []
    for metric, values, *rest in series:
        unit, pid = (*rest, "%", None)[:2] if len(rest) != 1 else (rest[0], None)
        device = "GPU 0" if metric.startswith("gpu_") else "Host"
        rows += [(second * 10**9, metric, device, pid, value, unit) for second, value in enumerate(values)]
    return pl.DataFrame(rows, schema=COUNTERS, orient="row")


def test_every_cause_of_the_table_is_of_the_catalogue() -> None:
    catalogue = (
        "cpu_frequency cpu_contention cpu_quota host_memory_pressure disk_io network gpu_clock gpu_contention "
        "gpu_memory_pressure pcie_contention nvlink_contention straggler_rank workload_shift software_change "
        "hardware_change cold_cache capture_artifact unexplained"
    )
    assert set(catalogue.split()) >= CAUSES
    engines = {metric for metric in baselines.CAUSE_OF_METRIC if ":" in metric}
    assert set(METRICS) >= set(baselines.CAUSE_OF_METRIC) - engines


def test_n_sigma_and_the_robust_scorer_by_hand() -> None:
    normal = counters(("process_runq_wait", [10, 20, 30, 40]), ("gpu_sm_frequency", [1000, 1010, 990, 1000]))
    abnormal = counters(("process_runq_wait", [35, 75]), ("gpu_sm_frequency", [980]))
    sd, clock_sd = math.sqrt(125), math.sqrt(50)
    assert dict(baselines.n_sigma(normal, abnormal)) == pytest.approx(
        {"cpu_contention": 50 / sd, "gpu_clock": 20 / clock_sd}
    )
    assert baselines.robust_scorer(normal, abnormal) == (("gpu_clock", 20 / 5), ("cpu_contention", 50 / 15))


def test_a_counter_without_spread_is_measured_in_its_unit() -> None:
    normal = counters(("cgroup_cpu_throttled", [0, 0, 0]), ("gpu_mem_used", [5e9] * 3, "bytes"))
    abnormal = counters(("cgroup_cpu_throttled", [0, 30, 60]), ("gpu_mem_used", [5.002e9] * 3, "bytes"))
    for rank in (baselines.n_sigma, baselines.robust_scorer):
        assert rank(normal, abnormal) == (("cpu_quota", 60.0), ("gpu_memory_pressure", pytest.approx(2.0)))


def test_processes_are_averaged_and_what_did_not_move_names_nothing() -> None:
    normal = counters(
        ("process_runq_wait", [0, 10], "%", 1), ("process_runq_wait", [10, 0], "%", 2), ("host_mem_usage", [5, 5])
    )
    abnormal = counters(
        ("process_runq_wait", [9, 9], "%", 3), ("process_runq_wait", [0, 2], "%", 4), ("host_mem_usage", [5])
    )
    assert baselines.n_sigma(normal, abnormal) == (("cpu_contention", 0.5),)


def test_rankings_leave_out_what_cannot_be_scored() -> None:
    normal = counters(("host_cpu_usage", [math.nan, 1, 1]), ("vllm:generation_tokens_total", [1, 2]), ("disk_busy", [1]))
    abnormal = counters(("host_cpu_usage", [1, 3, math.inf]), ("vllm:generation_tokens_total", [900]))
    assert baselines.n_sigma(normal, abnormal) == (("cpu_contention", 2.0),)
    assert baselines.n_sigma(counters(), abnormal) == ()


def test_suspicion_takes_the_best_row_of_all_ranks() -> None:
    tables = [
        pl.DataFrame({"metric": ["host_cpu_usage", "N/A", "net_tx_rate"], "suspicion": [1.0, 99.0, 3.0]}),
        pl.DataFrame({"metric": ["process_runq_wait", "disk_busy"], "suspicion": [5.0, 3.0]}),
    ]
    assert baselines.suspicion(tables) == (("cpu_contention", 5.0), ("disk_io", 3.0), ("network", 3.0))


# which cases count


def made() -> list[Case]:
    """Two workloads: one with five A/A pairs of its own, up to 4 % apart, one with none."""
    pairs = [case(f"aa{i}", label(ratio=1 + i / 100), status="no_difference") for i in range(5)]
    pairs[4] = case("aa4", label(ratio=1.04), Named("disk_io", True, None), status="slower", others=("disk_io",))
    quota = {"fault": "quota", "cause": "cpu_quota", "severity": 50.0}
    clock = {"fault": "clock", "cause": "gpu_clock", "severity": 80.0}
    return [
        *pairs,
        case("q1", label(**quota, ratio=1.55), "cpu_quota", "disk_io", others=("disk_io", "cpu_quota")),
        case("q2", label(**quota, ratio=1.4), "disk_io", "cpu_quota", others=("disk_io",)),
        case("q3", label(**quota, ratio=1.6), status=ERROR),
        case(
            "k1", label(**clock, ratio=1.03), Named("gpu_clock", True, None), status="no_difference", others=("gpu_clock",)
        ),
        case("k2", label(**clock, ratio=0.99), status="slower"),
        case("o1", label(**clock, ratio=0.4, workload="other"), "gpu_clock", status="faster"),
    ]


def test_measurable_cells_count_and_others_are_listed() -> None:
    scores = summarise(made())
    assert scores.scored == ("o1", "q1", "q2", "q3")
    assert scores.overall.methods[RCA] == measures.Accuracy(4, 0.5, 0.75, (1 + 1 + 1 / 2) / 4)
    assert scores.overall.methods[BASELINES[0]] == measures.Accuracy(4, 0.0, 0.25, 0.5 / 4)
    assert scores.overall.methods[RANDOM].top1 == 1 / len(CAUSES)
    assert (scores.top1[RCA].hits, scores.top1[RCA].n) == (2, 4)
    assert {group.name: group.methods[RCA].n for group in scores.by_cause} == {"cpu_quota": 3, "gpu_clock": 1}
    assert [group.name for group in scores.by_severity] == ["clock, 80 %", "quota, 50 %"]
    assert [group.name for group in scores.by_workload] == ["other", "w"]
    hidden = next(cell for cell in scores.cells if (cell.workload, cell.fault) == ("w", "clock"))
    assert not hidden.measurable
    assert hidden.log_ratio == pytest.approx(math.log(1.03 * 0.99) / 2)
    assert (hidden.right, hidden.latent_right) == (1, 1)
    assert hidden.named == {NONE_NAMED: 1, "gpu_clock": 1}
    assert "| `w` | `clock` | 80 % | 2 | +1.0% | ±4.0% |" in scores_markdown(scores)
    assert "latent, right × 1" in scores_markdown(scores)


def test_noise_is_borrowed_where_a_workload_has_few_pairs() -> None:
    other, own = summarise(made()).noise
    assert (other.workload, other.borrowed, other.pairs) == ("other", True, 5)
    assert (own.workload, own.borrowed, own.pairs) == ("w", False, 5)
    assert own.limit == other.limit == pytest.approx(math.log(1.04))


def test_without_pairs_every_fault_counts() -> None:
    scores = summarise([one for one in made() if one.truth.fault])
    assert len(scores.scored) == 6
    assert all(one.limit is None for one in scores.noise)
    assert "every fault counts as measurable" in scores_markdown(scores)
    assert "false alarms are not known" in scores_markdown(scores)


def test_a_side_that_completed_nothing_is_measurable() -> None:
    truth = label("freeze", "cpu_quota", 1.0, times=(100.0, None))
    assert scoring.log_ratio(truth) == math.inf
    assert scoring.log_ratio(label("freeze", "cpu_quota", 1.0, times=(None, None))) is None
    scores = summarise([*made(), case("f1", truth, "cpu_quota"), case("f2", truth)])
    assert {"f1", "f2"} <= set(scores.scored)
    assert scores.curve[-1].low == 1.0
    assert scores.curve[-1].changed.n == 3  # o1 among them
    assert "nothing completed" in scores_markdown(scores)
    json.loads(scores_json(scores))


def test_alarms_confusion_and_detection() -> None:
    scores = summarise([*made(), case("aa9", label(), status=ERROR)])
    alarms = scores.alarms
    assert [(own.hits, own.n) for own in (alarms.status, alarms.cause, alarms.any_cause)] == [(1, 5), (0, 5), (1, 5)]
    assert scores.confusion.rows == ("cpu_quota", "gpu_clock", NO_FAULT)
    assert scores.confusion.columns == ("cpu_quota", "disk_io", "gpu_clock", NONE_NAMED, ERROR)
    assert scores.confusion.counts == ((1, 1, 0, 0, 1), (0, 0, 1, 0, 0), (0, 1, 0, 4, 1))
    found = {one.fault: (one.changed.hits, one.changed.n) for one in scores.detection}
    assert found == {"clock": (2, 3), "quota": (2, 3)}  # o1 was expected to be faster, k2 slower
    assert sum(point.changed.n for point in scores.curve) == 6
    assert [(point.low, point.changed.n) for point in scores.curve] == [(0.0, 1), (0.02, 1), (0.2, 1), (0.5, 2), (1.0, 1)]


def test_confidences_of_scored_cases_and_pairs_are_calibrated() -> None:
    assert summarise(made()).calibration is None
    sure, unsure = Named("cpu_quota", False, 0.9), Named("cpu_quota", True, 0.3)
    quota = label("quota", "cpu_quota", 50.0, ratio=2)
    scores = summarise([case("a", quota, sure), case("b", quota, "disk_io", sure), case("z", label(), unsure)])
    assert scores.calibration is not None
    assert scores.calibration.n == 2  # of b the first cause has none
    assert scores.calibration.error == pytest.approx((0.1 + 0.3) / 2)
    assert "Expected calibration error 0.200" in scores_markdown(scores)


# whole cases, from captures


@pytest.fixture(scope="module")
def cases(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contention, an A/A pair, and a case whose abnormal side is damaged."""
    folder = tmp_path_factory.mktemp("lab") / "cases"
    for name, side, truth in (
        ("busy", "abnormal", label("rivals", "cpu_contention", 100.0, ratio=4.5)),
        ("same", "again", label(ratio=1.03)),
        ("torn", None, label("rivals", "cpu_contention", 100.0, ratio=4.2, repeat=2)),
    ):
        own = folder / "suite" / name
        shutil.copytree(fixtures / "normal", own / "normal")
        if side:
            shutil.copytree(fixtures / side, own / "abnormal")
        else:
            (own / "abnormal").mkdir()
        write_truth(own, truth)
    return folder


@pytest.fixture(scope="module")
def scores(cases: Path) -> Scores:
    return score(cases, cached=False)


def test_cases_are_compared_and_scored(cases: Path, scores: Scores) -> None:
    busy, same, torn = scores.cases
    assert [busy.name, same.name, torn.name] == ["suite/busy", "suite/same", "suite/torn"]
    assert busy.position(RCA) == 1
    assert busy.status == "slower"
    assert all(busy.position(method) is not None for method in BASELINES)
    assert (same.status, same.causes) == ("no_difference", ())
    assert torn.status == ERROR
    assert str(cases) not in (torn.error or str(cases))
    assert scores.scored == ("suite/busy", "suite/torn")
    assert scores.overall.methods[RCA] == measures.Accuracy(2, 0.5, 0.5, 0.5)
    assert all(scores.overall.methods[method].n == 2 for method in METHODS)


def test_progress_counts_the_cases(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*sides: Path, cached: bool) -> None:
        raise InputError(sides[0], "is not read here")

    monkeypatch.setattr(scoring.api, "compare", fails)
    seen: list[tuple[str, int, int]] = []
    score(cases, lambda *step: seen.append(step))
    assert seen == [("suite/busy", 0, 3), ("suite/same", 1, 3), ("suite/torn", 2, 3), ("suite/torn", 3, 3)]


def test_a_folder_without_cases_or_with_a_damaged_label_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no case") as error:
        score(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"is no folder"):
        score(tmp_path / "nowhere")
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(InputError, match=r"no label of a case"):
        score(tmp_path)


# reports


def test_reports_are_the_same_each_time_and_name_no_folder(cases: Path, scores: Scores) -> None:
    again = summarise(reversed(scores.cases))
    text, document = scores_markdown(scores), scores_json(scores)
    assert (text, document) == (scores_markdown(again), scores_json(again))
    assert str(cases) not in text + document
    assert text.index("## Methods") < text.index("## By cause") < text.index("## Detection") < text.index("## A/A pairs")
    assert "names the true cause first in 50% (95 % CI 9% to 91%, n = 2)" in text
    assert "Expected calibration error" in text
    assert "`suite/torn`" in text


def test_markdown_tables_are_well_formed() -> None:
    odd = label("a|b\n`c`", "cpu_quota", 1.0, ratio=1.001, workload="x|y")
    lines = scores_markdown(summarise([*made(), case("odd", odd, "disk_io")])).splitlines()
    found = 0
    for i, line in enumerate(lines):
        if line.startswith("|:--"):
            found += 1
            assert lines[i - 2] == ""
            block = [lines[i - 1], *lines[i + 1 :][: next(k for k, row in enumerate([*lines[i + 1 :], ""]) if row == "")]]
            assert {row.replace("\\|", "").count("|") for row in block} == {line.count("|")}
    assert found == 11


def test_json_has_the_numbers(scores: Scores) -> None:
    document = json.loads(scores_json(scores))
    assert document["schema"] == "rca.lab.scores/1"
    assert [own["scored"] for own in document["cases"]] == [True, False, True]
    assert document["cases"][0]["truth"]["cause"] == "cpu_contention"
    assert document["cases"][0]["log_ratio"] == pytest.approx(math.log(4.5), abs=1e-5)
    assert document["overall"]["methods"][RCA]["top1"] == 0.5
    assert document["alarms"]["status"] == {"hits": 0, "n": 1, "low": 0.0, "high": 0.793451, "share": 0.0}
    assert document["calibration"]["n"] == 1  # of the pair and of the damaged case no cause is named


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots_are_the_same_each_time(scores: Scores, tmp_path: Path, suffix: str) -> None:
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    plot_scores(scores, one)
    plot_scores(scores, two)
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size > 5_000


def test_plots_of_everything_and_of_nothing(tmp_path: Path) -> None:
    quota = label("quota", "cpu_quota", 50.0, ratio=2)
    plot_scores(summarise([*made(), case("a", quota, Named("cpu_quota", False, 0.9))]), tmp_path / "all.svg")
    plot_scores(summarise([case("aa", label())]), tmp_path / "pairs.svg")
    plot_scores(summarise([case("f", label("quota", "cpu_quota", 1.0, times=(None, None)))]), tmp_path / "unknown.svg")
    scores_markdown(summarise([case("aa", label())]))
    with pytest.raises(OutputError, match=r"cannot be written"):
        plot_scores(summarise(made()), tmp_path / "no" / "such.svg")
