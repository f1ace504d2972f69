"""Two sides' start-ups: which is slower, and what made it so."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate
from startup_logs import Log, Vllm, schema, sglang_log, vllm_starts

from rca.errors import TooLittleDataError
from rca.startup import compare_startups
from rca.startup.causes import causes_of
from rca.startup.read import read


def cause_ids(tmp_path: Path, normal: Vllm, abnormal: Vllm, n: int = 5) -> tuple[str, list[str]]:
    one = vllm_starts(tmp_path / "normal", [normal] * n)
    two = vllm_starts(tmp_path / "abnormal", [abnormal] * n)
    result = compare_startups(one, two)
    swapped = compare_startups(two, one)
    opposite = {"slower": "faster", "faster": "slower"}
    assert swapped.compared.status == opposite.get(result.compared.status, result.compared.status)
    assert [cause.id for cause in swapped.causes] == [cause.id for cause in result.causes]
    change = sum(row.change.estimate for row in result.compared.ledger)
    assert change == pytest.approx(result.compared.change_s, abs=0.05)
    return result.compared.status, [f"{cause.id}/{cause.device}" for cause in result.causes]


NORMAL = Vllm()


@pytest.mark.parametrize("n", [5, 3, 2, 1])
@pytest.mark.parametrize(
    ("abnormal", "cause"),
    [
        (replace(NORMAL, load=30.0), "cold_cache/page cache"),
        (replace(NORMAL, compile=38.0, cached=False), "cold_cache/compile cache"),
        (NORMAL.slowed(1.6), "cpu_contention/Host"),
        (replace(NORMAL, download=63.0), "network/Host"),
        (replace(NORMAL, silence=142.0), "cold_cache/kernel cache"),
    ],
)
def test_causes_of_slow_starts(tmp_path: Path, abnormal: Vllm, cause: str, n: int) -> None:
    status, causes = cause_ids(tmp_path, NORMAL, abnormal, n)
    assert status == "slower"
    assert causes == [cause]


def test_a_disk_that_was_read_before_is_a_disk(tmp_path: Path) -> None:
    slow = replace(NORMAL, load=30.0)
    assert cause_ids(tmp_path, slow, replace(slow, load=95.0)) == ("slower", ["disk_io/Disk"])


def test_weights_on_other_machines_come_over_the_network(tmp_path: Path) -> None:
    def on(text: str, load: float) -> Log:
        log = replace(NORMAL, load=load).log()
        at = next(i for i, line in enumerate(log.lines) if "Starting to load model" in line)
        log.lines.insert(at + 1, f"{log.lines[at].split('[')[0]}[weight_utils.py:849] {text}")
        return log

    for text, device in (
        ("Filesystem type for checkpoints: NFS. Checkpoint size: 7.40 GiB.", "NFS"),
        ("Streaming s3://models/qwen/model-00001.safetensors", "object store"),
    ):
        result = sides(tmp_path / device, [on(text, 2.5) for _ in range(3)], [on(text, 30.0) for _ in range(3)])
        assert causes(result) == [f"network/{device}"]


def test_other_versions_are_named_and_blamed_for_nothing_else(tmp_path: Path) -> None:
    assert cause_ids(tmp_path, NORMAL, replace(NORMAL, version="0.11.0", capture=25.0)) == (
        "slower",
        ["software_change/Host", "unexplained/Host"],
    )


def test_starts_that_do_not_differ(tmp_path: Path) -> None:
    assert cause_ids(tmp_path, NORMAL, NORMAL) == ("no_difference", [])


def test_one_start_a_side_acquits_nobody(tmp_path: Path) -> None:
    assert cause_ids(tmp_path, NORMAL, NORMAL.slowed(1.1), 1)[0] == "insufficient_data"


def test_other_models_are_not_compared(tmp_path: Path) -> None:
    status, causes = cause_ids(tmp_path, NORMAL, replace(NORMAL, model="/m/llama-13b", load=60.0))
    assert (status, causes) == ("not_comparable", [])


def test_a_slow_rank_is_named(tmp_path: Path) -> None:
    for side, slow in (("normal", 9.0), ("abnormal", 31.0)):
        for number in range(4):
            log = Vllm(load=slow + 0.01 * number).log()
            at = next(i for i, line in enumerate(log.lines) if "Loading weights took" in line)
            own = [log.lines[at].replace("EngineCore_0 pid=51", f"Worker_TP{i} pid=6{i}") for i in range(4)]
            quick = [line.replace(f"took {slow + 0.01 * number:.2f}", "took 9.00") for line in own]
            log.lines[at : at + 1] = [*quick[:2], own[2], quick[3]]
            log.save(tmp_path / side / f"{number}.log")
    causes = compare_startups(tmp_path / "normal", tmp_path / "abnormal").causes
    assert [(cause.id, cause.device) for cause in causes] == [("straggler_rank", "Worker_TP2")]


def test_sides_without_a_start_say_so(tmp_path: Path, rca) -> None:
    vllm_starts(tmp_path / "normal", [NORMAL])
    Log(lines=NORMAL.log().lines[:9]).save(tmp_path / "abnormal" / "a.log")
    with pytest.raises(TooLittleDataError, match="none of the 1 abnormal start"):
        compare_startups(tmp_path / "normal", tmp_path / "abnormal")
    assert rca("compare", str(tmp_path / "normal"), str(tmp_path / "abnormal")).code == 4


@pytest.mark.parametrize(
    ("pair", "status", "first"),
    [("weights_page_cache_cold__qwen-4b", "slower", "cold_cache"), ("null_no_change__qwen-4b", "no_difference", None)],
)
def test_real_pairs(shared_data: Path, pair: str, status: str, first: str | None) -> None:
    folder = shared_data / "vllm-startup" / pair
    result = compare_startups(folder / "normal", folder / "abnormal")
    assert result.compared.status == status
    assert [cause.id for cause in result.causes][:1] == ([first] if first else [])
    if first:
        assert result.causes[0].metrics[0] == "load_weights"


def test_real_starts_do_not_cry_wolf(shared_data: Path) -> None:
    """Starts of one model under one condition, split into halves at random: they differ by chance only."""
    folder = shared_data / "vllm-startup" / "null_no_change__qwen-4b"
    logs = [read([path]).starts[0] for path in sorted(folder.glob("*/*.txt"))]
    rng = np.random.default_rng(7)
    alarms = []
    for _ in range(40):
        order = rng.permutation(len(logs))
        one, two = ([logs[i] for i in half] for half in (order[:5], order[5:]))
        alarms.append(compared(one, two))
    assert sum(alarms) <= 1


def compared(one: list, two: list) -> bool:
    from rca.startup.compare import compare
    from rca.startup.read import Startups

    result = compare(Startups(tuple(one), ()), Startups(tuple(two), ()))
    assert not isinstance(result, str)
    return result.status in ("slower", "faster") or bool(causes_of(result))


def test_every_output_of_a_comparison(tmp_path: Path, rca) -> None:
    vllm_starts(tmp_path / "normal", [NORMAL] * 3)
    vllm_starts(tmp_path / "abnormal", [replace(NORMAL, load=30.0)] * 3)
    sides = str(tmp_path / "normal"), str(tmp_path / "abnormal")
    ran = rca("compare", *sides, "-o", str(tmp_path / "out"), "--gate")
    assert ran.code == 1
    made = json.loads((tmp_path / "out" / "report.json").read_text())
    validate(made, schema("startup-comparison-1"))
    assert made["verdict"]["causes"][0]["id"] == "cold_cache"
    assert "**SLOWER.**" in (tmp_path / "out" / "report.md").read_text()
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "phases.csv").read_text())))
    assert {row["phase"]: row["sure"] for row in rows}["load_weights"] == "True"
    again = rca("compare", *sides, "--json", "-")
    assert again.out == (tmp_path / "out" / "report.json").read_text()


def test_kinds_are_not_mixed(tmp_path: Path, fixtures: Path, rca) -> None:
    vllm_starts(tmp_path / "logs", [NORMAL])
    ran = rca("compare", str(tmp_path / "logs"), str(fixtures / "normal"))
    assert ran.code == 2
    assert "holds start-up logs" in ran.err
    assert "give two of a kind" in ran.err
    ran = rca("compare", str(tmp_path / "logs"), str(tmp_path / "logs"), "--cycle", "x")
    assert ran.code == 2


def sides(tmp_path: Path, normal: list[Log], abnormal: list[Log]):
    for side, logs in (("normal", normal), ("abnormal", abnormal)):
        for number, log in enumerate(logs):
            log.save(tmp_path / side / f"start{number}.log")
    return compare_startups(tmp_path / "normal", tmp_path / "abnormal")


def causes(result) -> list[str]:
    return [f"{cause.id}/{cause.device}" for cause in result.causes]


def vllm_on_cpu(factor: float = 1.0, compiling: float = 32.0) -> Log:
    """A server of which few lines state a duration: most of its start is silent."""
    log = Log().vllm("vLLM API server version 0.32.0", "APIServer pid=1").wait(8 * factor)
    log.vllm("Using max model len 2048", "APIServer pid=1").wait(14 * factor)
    log.vllm("Initializing a V1 LLM engine (v0.32.0) with config: model='m/tiny'", "EngineCore pid=2").wait(9 * factor)
    log.vllm("Starting to load model m/tiny...", "Worker pid=3").wait(1)
    log.vllm(f"Initializing model took {1.09 * factor:.6f} seconds", "Worker pid=3")
    log.vllm("Warming up model for the compilation...", "Worker pid=3").wait(compiling * factor)
    log.vllm("[backbone] saved AOT compiled function to /cache", "Worker pid=3")
    log.vllm(f"init engine (profile, create kv cache, warmup model) took {compiling * factor + 2:.2f} s", "EngineCore pid=2")
    return log.raw("INFO:     Application startup complete.")


def test_slow_cores_do_not_empty_caches(tmp_path: Path) -> None:
    slow = [vllm_on_cpu(1.6 + 0.01 * n) for n in range(3)]
    result = sides(tmp_path, [vllm_on_cpu(1 + 0.01 * n) for n in range(3)], slow)
    assert result.compared.status == "slower"
    assert "cold_cache" not in {cause.id for cause in result.causes}


def test_a_silence_that_grows_alone_is_a_compilation(tmp_path: Path) -> None:
    result = sides(tmp_path, [vllm_on_cpu() for _ in range(3)], [vllm_on_cpu(compiling=95) for _ in range(3)])
    assert causes(result) == ["cold_cache/compile cache"]


def test_two_troubles_share_the_change(tmp_path: Path) -> None:
    both = NORMAL.slowed(1.6, compile=60.0, cached=False)
    result = sides(tmp_path, [NORMAL.log() for _ in range(3)], [both.log() for _ in range(3)])
    assert causes(result) == ["cold_cache/compile cache", "cpu_contention/Host"]


def test_bars_of_sglang_downloads(tmp_path: Path) -> None:
    downloads = [sglang_log(load=70.0 + n) for n in range(3)]
    for log in downloads:
        at = next(i for i, line in enumerate(log.lines) if "Load weight begin" in line)
        log.lines.insert(at + 2, "model-00001-of-00002.safetensors: 100%|██| 4.9G/4.9G [01:01<00:00, 80MB/s]")
    result = sides(tmp_path, [sglang_log(load=9.0 + n) for n in range(3)], downloads)
    assert causes(result) == ["network/Host"]
    assert sum(row.change.estimate for row in result.compared.ledger) == pytest.approx(result.compared.change_s)


def test_unsteady_disks_are_disks(tmp_path: Path) -> None:
    normal = [replace(NORMAL, load=3.7 + 0.02 * n).log() for n in range(5)]
    busy = [replace(NORMAL, load=load).log() for load in (18.0, 52.0, 32.0, 25.0, 19.0)]
    result = sides(tmp_path, normal, busy)
    assert causes(result)[0] == "disk_io/Disk"
    assert "from start to start it takes 18.0 to 52.0 s: others use the disk, too" in result.causes[0].evidence_for


def test_files_that_were_all_cold_are_one_cause(tmp_path: Path) -> None:
    cold = replace(NORMAL, load=30.0, imports=21.0, model_info=14.0)
    result = sides(tmp_path, [NORMAL.log() for _ in range(3)], [cold.log() for _ in range(3)])
    assert causes(result) == ["cold_cache/page cache"]
    assert [text for text in result.causes[0].evidence_for if "other files took longer, too: imports" in text]


def test_ready_lines_are_no_sign_of_building(tmp_path: Path) -> None:
    def silent(seconds: float) -> Log:
        log = NORMAL.log()
        log.lines[-2:] = []
        log.wait(seconds).vllm("Starting vLLM API server 0 on http://0.0.0.0:8000", source="api_server.py:1794")
        return log.raw("INFO:     Application startup complete.")

    result = sides(tmp_path, [silent(1.0) for _ in range(3)], [silent(90.0) for _ in range(3)])
    assert causes(result) == ["unexplained/Host"]
    assert [text for text in result.causes[0].evidence_for if "without a line between “init engine" in text]


def test_totals_of_different_meaning_are_not_compared(tmp_path: Path) -> None:
    def logs(suffix: str) -> list[Log]:
        made = [replace(NORMAL, load=2.5 + 0.02 * n).log() for n in range(5)]
        for log in made:
            del log.lines[-2:]
            log.lines += [suffix] if suffix else []
        return made

    result = sides(tmp_path, logs("initialize_engine took 39.50 seconds"), logs(""))
    assert result.compared.total == "total_time"
    assert result.compared.status == "no_difference"
    assert [text for text in result.warnings if "total (sum) is compared" in text]


def test_intervals_that_hold_a_change_acquit_nobody(tmp_path: Path) -> None:
    normal = [replace(NORMAL, silence=n).log() for n in (0.0, 0.4, 0.2)]
    abnormal = [replace(NORMAL, silence=n).log() for n in (2.0, 7.0, 4.0)]
    assert sides(tmp_path, normal, abnormal).compared.status == "insufficient_data"


def test_a_start_that_alone_was_slow_is_named(tmp_path: Path) -> None:
    normal = [replace(NORMAL, load=2.5 + 0.1 * n).log() for n in range(5)]
    abnormal = [replace(NORMAL, load=2.5 + 0.1 * n, silence=142.0 * (n == 2)).log() for n in range(5)]
    result = sides(tmp_path, normal, abnormal)
    assert result.compared.status == "insufficient_data"
    assert [text for text in result.warnings if text.startswith("abnormal: start2.log takes 18")]


def test_a_compile_cache_that_was_really_deleted() -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "startup"
    result = compare_startups(folder / "normal", folder / "abnormal")
    assert result.compared.status == "slower"
    assert causes(result) == ["cold_cache/compile cache"]
    assert causes(compare_startups(folder / "abnormal", folder / "normal")) == ["cold_cache/compile cache"]


def test_settings_that_cost_come_before_what_no_line_states(tmp_path: Path) -> None:
    other = replace(NORMAL.slowed(1.6), gpu_memory="0.5")
    result = sides(tmp_path, [NORMAL.log() for _ in range(3)], [other.log() for _ in range(3)])
    assert causes(result) == ["software_change/Host", "cpu_contention/Host"]
    assert result.causes[0].evidence_for == ("gpu_memory_utilization: 0.9 → 0.5",)
    assert "version or settings differ, too: gpu_memory_utilization: 0.9 → 0.5" in result.causes[1].evidence_against


def test_settings_that_vary_within_a_side_explain_nothing(tmp_path: Path) -> None:
    slow = NORMAL.slowed(1.6)
    mixed = [replace(slow, gpu_memory=memory).log() for memory in ("0.5", "0.6", "0.5")]
    assert causes(sides(tmp_path, [NORMAL.log() for _ in range(3)], mixed)) == ["cpu_contention/Host"]


def test_where_kernels_run_first_no_line_need_say_so_but_that_is_said(tmp_path: Path) -> None:
    silent = replace(NORMAL, silence=142.0)
    (cause,) = sides(tmp_path, [NORMAL.log() for _ in range(3)], [silent.log() for _ in range(3)]).causes
    assert cause.evidence_against == ("no line says that kernels were built then: it is what is done at that place",)


def test_a_first_run_that_builds_kernels(tmp_path: Path) -> None:
    def run(silence: float) -> Log:
        log = replace(NORMAL, silence=silence).log()
        at = next(i for i, line in enumerate(log.lines) if "Available KV cache" in line)
        stamp = log.lines[at].split("[")[0]
        log.lines.insert(at, f"{stamp}[monitor.py:81] Initial profiling/warmup run took {1.0 + silence:.2f} s")
        return log

    result = sides(tmp_path, [run(0.01 * n) for n in range(3)], [run(300.0 + n) for n in range(3)])
    (cause,) = result.causes
    assert (cause.id, cause.device, cause.metrics, cause.evidence_against) == (
        "cold_cache",
        "kernel cache",
        ("warmup_run",),
        (),
    )
