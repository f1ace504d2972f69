"""Two model runs compared, their reports, and the commands."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import jsonschema
import pytest
from bench_tables import FIXTURES, MODEL, OP_TABLE, Row, run_lines, table, the_seed
from click.testing import CliRunner

from collectors import bench as collecting
from rca.bench import compare, read, read_all
from rca.cli_bench import bench as commands
from rca.errors import InputError, RcaError
from reports import bench as drawn
from reports import bench_data, document

SCHEMAS = Path(drawn.__file__).parent / "schema"


@pytest.fixture
def seed() -> Path:
    return the_seed()


# --- comparing -------------------------------------------------------------------------------------------------------


def pair(tmp_path: Path, normal: str, abnormal: str):
    sides = tmp_path / "normal.log", tmp_path / "abnormal.log"
    for path, text in zip(sides, (normal, abnormal), strict=True):
        path.write_text(text)
    return compare(*sides)


def scaled(rows: list[Row], by: float) -> list[Row]:
    return [Row(r.name, *(by * us for us in r[1:5]), r.calls) for r in rows]


REPEATS = [1.00, 1.01, 0.99, 1.005, 0.995]


def test_the_same_run_twice() -> None:
    found = compare(FIXTURES / "float32", FIXTURES / "float32")
    assert found.verdict.status == "no_difference"
    assert found.verdict.causes == ()
    assert found.verdict.headline.startswith("Both sides are the same run")


def test_a_pair_of_our_own() -> None:
    found = compare(FIXTURES / "float32", FIXTURES / "bfloat16")
    assert found.verdict.status == "slower"
    assert found.device is None
    assert found.host is not None
    assert found.host.entries[0].name == "aten::mm"
    assert "dtype: float32 → bfloat16" in found.verdict.causes[0].evidence_for
    assert abs(found.host.residual_us) < 1
    assert not found.normal.is_text
    assert "≈" not in document.markdown(drawn.comparison_document(found))


def test_one_clock_for_all_is_unexplained_and_says_so(tmp_path: Path) -> None:
    slow = [1.4 * seconds for seconds in REPEATS]
    found = pair(tmp_path, run_lines(REPEATS) + table(MODEL), run_lines(slow) + table(scaled(MODEL, 1.4)))
    (cause,) = found.verdict.causes
    assert cause.id == "unexplained"
    assert "clock" in cause.looks_like
    assert any("counters" in text for text in cause.missing)
    assert found.verdict.status == "slower"


def test_no_copies_are_called_dequantisation_without_a_word_of_it(tmp_path: Path) -> None:
    copies = [*MODEL, Row("aten::copy_", 10_000, 10_000, 1_000_000, 1_000_000, 25_300)]
    slow = [1.5 * seconds for seconds in REPEATS]
    found = pair(tmp_path, run_lines(REPEATS) + table(MODEL), run_lines(slow) + table(copies))
    (cause,) = found.verdict.causes
    assert cause.id == "software_change"
    assert "aten::copy_" in cause.evidence_for[0]
    assert "the normal side has none of it" in cause.evidence_for[0]
    assert not any("quanti" in text for text in cause.evidence_for)
    told = pair(tmp_path, run_lines(REPEATS) + table(MODEL), "Model quantized to int8.\n" + run_lines(slow) + table(copies))
    assert any("dequantisation" in text for text in told.verdict.causes[0].evidence_for)


def test_what_a_row_limit_cut_away_is_not_called_new(tmp_path: Path) -> None:
    rows = sorted([*MODEL[2:], Row("aten::add", 9_000, 9_000, 40_000, 40_000, 900)], key=lambda row: -row.self_device_us)
    cut = table(rows, row_limit=3, device_total=2_040_000)
    found = pair(tmp_path, cut, table(rows, device_total=2_040_000))
    assert found.device is not None
    add = next(entry for entry in found.device.entries if entry.name == "aten::add")
    assert add.why == "unknown"
    assert add.at_most_us >= 40_000
    assert found.device.residual_normal_us == pytest.approx(40_000)
    assert found.verdict.status == "no_difference"


def test_ledgers_sum_to_the_change(tmp_path: Path) -> None:
    longer = [*scaled(MODEL, 1.3)[:3], Row("aten::softmax", 5_000, 5_000, 300_000, 300_000, 50)]
    found = pair(tmp_path, table(MODEL), table(longer, device_total=2_500_000))
    for ledger in (found.device, found.host):
        assert ledger is not None
        assert sum(e.change_us for e in ledger.entries) + ledger.residual_us == pytest.approx(ledger.change_us)


def test_tables_alone_allow_no_test(tmp_path: Path) -> None:
    found = pair(tmp_path, table(MODEL), table(scaled(MODEL, 1.2)))
    assert found.verdict.status == "slower"
    assert found.verdict.by == "table"
    assert "no repeats: no test possible" in found.verdict.headline
    same = pair(tmp_path, table(MODEL), table(MODEL).replace("Self CPU time", "Self CPU time"))
    assert same.verdict.status == "no_difference"


def test_tables_of_other_work_are_not_compared(tmp_path: Path) -> None:
    half = [Row(*row[:5], max(1, row.calls // 2)) for row in scaled(MODEL, 0.5)]
    found = pair(tmp_path, table(MODEL), table(half))
    assert found.verdict.status == "not_comparable"
    assert "25,300 times in one profiled run and 12,650 in the other" in found.verdict.headline
    assert found.device is None


def test_tables_of_unknown_work_make_no_verdict(tmp_path: Path) -> None:
    rows = [Row("a_kernel", 0, 0, 5_000, 5_000, 3), Row("cudaLaunchKernel", 400, 400, 0, 0, 3)]
    found = pair(tmp_path, table(rows, device_total=5_000), table(scaled(rows, 3), device_total=15_000))
    assert found.verdict.status == "not_comparable"
    assert any("whether the profiled runs did the same work" in warning for warning in found.warnings)


def test_device_time_on_one_side_only(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines(REPEATS) + table(MODEL), run_lines(REPEATS) + table(MODEL, device=""))
    assert found.device is None
    assert found.host is not None
    assert any("abnormal side's operator table has no device time" in warning for warning in found.warnings)


def test_one_repeat_has_no_interval(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines([1.0]) + table(MODEL), run_lines([2.0]) + table(scaled(MODEL, 2)))
    assert found.verdict.status == "insufficient_data"
    assert "no interval" in found.verdict.headline
    assert found.latency.overall is not None
    assert math.isnan(found.latency.overall.low)
    assert found.latency.p is None
    assert found.verdict.causes == ()


def test_three_repeats_are_too_few(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines([1.0, 1.1, 1.05]), run_lines([2.0, 2.1, 2.05]))
    assert found.verdict.status == "insufficient_data"
    assert "from 4 repeats a side" in found.verdict.headline


def test_other_configurations_on_both_sides(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines(REPEATS, prompt=3), run_lines(REPEATS, prompt=26))
    assert found.verdict.status == "not_comparable"
    assert any("only the normal side ran prompt 3, new 50" in warning for warning in found.warnings)


def test_runs_here_and_a_table_there(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines(REPEATS), table(MODEL))
    assert found.verdict.status == "insufficient_data"
    assert document.markdown(drawn.comparison_document(found))


def test_without_tables_a_change_is_unexplained(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines(REPEATS), run_lines([2 * seconds for seconds in REPEATS]))
    assert found.verdict.status == "slower"
    assert found.verdict.causes[0].id == "unexplained"
    assert "an operator table on both sides" in found.verdict.causes[0].missing


def test_memory_in_other_units_is_not_compared(tmp_path: Path) -> None:
    found = pair(tmp_path, run_lines(REPEATS), run_lines(REPEATS, memory="7.07GiB"))
    assert any("peak memory is not compared" in warning for warning in found.warnings)


def test_noise_alone_seldom_makes_a_difference(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(40):
        sides = [run_lines(list(np.exp(rng.normal(0, 0.03, 8)))) for _ in range(2)]
        alarms += pair(tmp_path, *sides).verdict.status in ("slower", "faster")
    assert alarms <= 5


def test_the_seed_is_explained(seed: Path) -> None:
    found = compare(f"{seed}#1", f"{seed}#2")
    assert found.verdict.status == "slower"
    assert found.latency.overall is not None
    assert found.latency.overall.estimate == pytest.approx(1.645, abs=0.002)
    assert found.latency.overall.low < 1.645 < found.latency.overall.high
    assert found.work.status == "same"
    ledger = found.device
    assert ledger is not None
    copies = ledger.entries[0]
    assert (copies.name, copies.why, copies.abnormal_us) == ("aten::copy_", "new", 2_406_000)
    assert copies.at_most_us == pytest.approx(134_572)
    assert sum(e.change_us for e in ledger.entries) + ledger.residual_us == pytest.approx(ledger.change_us)
    assert ledger.change_us == pytest.approx(4_192_000 - 2_468_000)
    (cause,) = found.verdict.causes
    assert cause.id == "software_change"
    assert "aten::copy_ takes ≈2.406 s of ≈4.192 s device time (57%)" in cause.evidence_for[0]
    assert "dequantisation" in cause.evidence_for[1]
    assert "25,300 multiplications" in cause.evidence_for[1]
    assert "aten::mm (matrix multiplication) takes ≈656 ms less" in cause.evidence_for[2]
    assert "≈+525 ms" in found.verdict.work


def test_the_seed_the_other_way_round(seed: Path) -> None:
    found = compare(f"{seed}#2", f"{seed}#1")
    assert found.verdict.status == "faster"
    assert found.device is not None
    assert found.device.entries[0].why == "gone"
    assert any("took" in text and "quantised (int8)" not in text for text in found.verdict.causes[0].evidence_for)


def test_a_host_bound_run_is_not_blamed_on_the_device(seed: Path) -> None:
    found = compare(f"{seed}#1", f"{seed}#3")
    assert found.verdict.status == "slower"
    assert any("is time without work on the device" in text for text in found.verdict.causes[0].evidence_against)
    assert "host time in the profiled run" in found.verdict.headline


def test_two_starts_of_the_same_are_no_change(seed: Path) -> None:
    assert compare(f"{seed}#3", f"{seed}#4").verdict.status == "no_difference"


def test_a_profile_of_an_engine(seed: Path) -> None:
    run = read(OP_TABLE)
    assert run.table is not None
    assert run.table.self_device is not None
    kernels = run.table.rows.filter(run.table.rows["kind"] == "kernel")["self_device_us"].sum()
    assert kernels == pytest.approx(run.table.self_device.us, rel=1e-4)
    other = compare(f"{seed}#1", OP_TABLE)
    assert other.verdict.status == "not_comparable"
    assert other.device is None


# --- reports ---------------------------------------------------------------------------------------------------------


def schema(name: str) -> dict:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def check_all_forms(found) -> str:
    jsonschema.validate(json.loads(bench_data.comparison_json(found)), schema("bench-comparison-1"))
    for run in (found.normal, found.abnormal):
        jsonschema.validate(json.loads(bench_data.bench_json(run)), schema("bench-1"))
        assert bench_data.bench_csv(run).startswith("configuration,")
        assert document.markdown(drawn.bench_document(run), "jira")
    assert bench_data.comparison_csv(found).startswith("part,name,unit,")
    document.show(drawn.comparison_document(found))
    return document.markdown(drawn.comparison_document(found))


def test_every_form_of_a_pair_of_our_own() -> None:
    text = check_all_forms(compare(FIXTURES / "float32", FIXTURES / "bfloat16"))
    assert text == document.markdown(drawn.comparison_document(compare(FIXTURES / "float32", FIXTURES / "bfloat16")))


def test_every_form_of_the_seed(seed: Path) -> None:
    text = check_all_forms(compare(f"{seed}#1", f"{seed}#2"))
    assert "≈: read from a text" in text
    assert "**SLOWER.**" in text
    assert "(not in the tables: beyond their row limit)" in text


@pytest.mark.parametrize(
    ("normal", "abnormal"),
    [
        (run_lines(REPEATS), table(MODEL)),
        (table(MODEL), table(MODEL, device="")),
        (run_lines([1.0]), run_lines([2.0])),
        (table(MODEL)[:1500], table(MODEL)),
        (table(MODEL, cpu_total=0.0, device_total=0.0), table(MODEL)),
        (table(MODEL), table(MODEL[:2])),
    ],
)
def test_every_form_of_odd_pairs(tmp_path: Path, normal: str, abnormal: str) -> None:
    check_all_forms(pair(tmp_path, normal, abnormal))


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    hostile = "[link](http://x) <b>|`@all`"
    rows = [*MODEL, Row(hostile, 0, 0, 9_000_000, 9_000_000, 1), Row("aten::x", 5, 5, 9_000_000, 9_000_000, 1)]
    found = pair(tmp_path, table(MODEL), table(rows, device_total=11_000_000))
    text = check_all_forms(found) + document.markdown(drawn.bench_document(found.abnormal))
    outside_code = re.sub(r"`[^`]*`", "", text)
    assert "<b>" not in outside_code
    assert "](http://x)" not in outside_code


def test_one_command_makes_all_tables_of_the_seed(seed: Path) -> None:
    """Every figure of every timed run, and of every summary, in the order of the document."""
    text = document.markdown(drawn.bench_documents(read_all(seed)), "full")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| prompt")
    ]
    runs = [(row[2], row[3], row[4], row[5]) for row in cells if re.fullmatch(r"\d/5", row[1])]
    figures = r"延迟=([\d.]+)s, 生成(\d+) tokens, 吞吐量=([\d.]+) t/s, 显存=([\d.]+)GB"
    assert runs == re.findall(figures, seed.read_text())
    means = [[float(row[i]) for i in (2, 4, 5)] for row in cells if row[1] == "5"]
    written = re.findall(r"^Qwen3-4B_.*? \| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+)$", seed.read_text(), flags=re.MULTILINE)
    assert len(means) == 16
    for found, expected in zip(means, written, strict=True):  # the document's are of times that were not rounded yet
        latency, throughput, memory = map(float, expected)
        assert found == [pytest.approx(latency, abs=1.01e-4), pytest.approx(throughput, abs=0.0101), memory]
    operators = [line for line in text.splitlines() if line.startswith("| `aten::mm` ")]
    assert [re.findall(r"[\d.]+ m?s", line)[0] for line in operators] == ["1.622 s", "966 ms", "1.127 s", "1.118 s"]


def test_tables_of_the_seed_in_english(seed: Path) -> None:
    text = document.markdown(drawn.bench_document(read(f"{seed}#2")))
    for heading in ("## Runs", "## Summary", "## Operators by self device time"):
        assert heading in text
    assert "| prompt 3, new 50   | 1/5   |" in text
    assert "2.2744" in text
    assert not re.search(r"[\u4e00-\u9fff]", text)


def test_the_report_command(tmp_path: Path) -> None:
    ran = CliRunner().invoke(commands, ["report", str(FIXTURES / "float32")])
    assert ran.exit_code == 0
    assert ran.output.startswith("# Model run: qwen3 float32")
    assert CliRunner().invoke(commands, ["report", str(FIXTURES / "float32"), "--format", "csv"]).exit_code == 0
    out = tmp_path / "x.json"
    ran = CliRunner().invoke(commands, ["report", str(FIXTURES / "float32"), "--format", "json", "-o", str(out)])
    assert ran.exit_code == 0
    assert json.loads(out.read_text())["schema"] == "rca.bench/1"
    log = tmp_path / "a.log"
    log.write_text(table(MODEL))
    for target in (log, f"{log}#1"):
        ran = CliRunner().invoke(commands, ["report", str(target), "-o", str(log)])
        assert isinstance(ran.exception, RcaError)
    assert log.read_text() == table(MODEL)


def test_the_run_command_refuses_early(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        ran = CliRunner().invoke(commands, ["run", "-o", str(tmp_path / "out"), *arguments])
        assert ran.exit_code != 0
        assert isinstance(ran.exception, RcaError | SystemExit)
        return f"{ran.exception} {ran.output}"

    assert "either --model" in refused()
    assert "does not exist" in refused("--model", str(tmp_path / "nothing"))
    assert "separated by commas" in refused("--config", __file__, "--prompt-lengths", "3;4")
    assert "separated by commas" in refused("--config", __file__, "--new-tokens", "0")
    assert "cannot be run" in refused("--config", __file__, "--python", str(tmp_path / "no-python"))
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert "--force" in refused("--config", __file__)


def fake_python(folder: Path, script: str) -> Path:
    """A program that is run in the place of a Python with torch."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


LINE = '{"kind": "run", "prompt_tokens": 3, "new_tokens": 4, "run": 1, "of": 2, "latency_s": 0.5, "peak_memory_bytes": 9}'


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo boom >&2; echo last words >&2; exit 1", "last words"),
        (r"""printf '%s\n' '{"kind": "failed", "why": "two\nlines"}'; echo later >&2; exit 2""", "two lines"),
        ("exit 3", "exit code 3 while loading the model"),
        ("kill -9 $$", "signal 9 while loading the model"),
        (f"echo '{LINE}'; echo no memory >&2; exit 1", "no memory"),
    ],
)
def test_a_failing_child_is_one_line(tmp_path: Path, script: str, problem: str) -> None:
    plan = collecting.Plan(tmp_path / "out", config=FIXTURES / "config.json", python=fake_python(tmp_path, script))
    with pytest.raises(InputError) as refused:
        collecting.run(plan)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "out" / "runs.jsonl").read_text().count("\n") == ("latency_s" in script)
    if "latency_s" in script:
        assert "out: 1" in str(refused.value)
        assert len(read(tmp_path / "out").records) == 1


def test_what_a_python_prints_when_it_starts_is_no_record(tmp_path: Path) -> None:
    script = f"echo hello; echo 7; echo '[]'; echo '{{}}'; echo '{LINE}'"
    plan = collecting.Plan(tmp_path / "out", config=FIXTURES / "config.json", python=fake_python(tmp_path, script))
    outcome = collecting.run(plan)
    assert (outcome.runs, outcome.profiled, outcome.interrupted) == (1, False, False)


def test_a_python_without_torch_is_one_line(tmp_path: Path) -> None:
    ran = CliRunner().invoke(commands, ["run", "-q", "-o", str(tmp_path / "out"), "--config", str(FIXTURES / "config.json")])
    assert isinstance(ran.exception, InputError)
    assert "lacks torch or transformers" in str(ran.exception)
    assert "--python" in str(ran.exception)
