"""Model runs as they stand in texts and folders: operator tables, lines of runs, what is cut off or odd."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench_tables import FIXTURES, MODEL, Row, run_lines, table, the_seed

from rca.bench import is_bench, read, read_tables
from rca.bench.operators import plain
from rca.errors import InputError


@pytest.fixture
def seed() -> Path:
    return the_seed()


def one_table(text: str):
    found = read_tables(plain(text))
    assert len(found) == 1
    return found[0]


def by_name(found, kind: str | None = None) -> dict[str, dict]:
    rows = found.rows.to_dicts()
    return {row["name"]: row for row in rows if kind is None or row["kind"] == kind}


# --- tables ---------------------------------------------------------------------------------------------------------


def test_figures_keep_unit_and_resolution() -> None:
    found = one_table(table(MODEL))
    row = by_name(found)["aten::mm"]
    assert (row["self_device_us"], row["self_device_error_us"]) == (1_500_000, 500)
    assert (row["self_cpu_us"], row["self_cpu_error_us"]) == (400_000, 0.5)
    assert row["calls"] == 25_300
    assert found.device == "CUDA"
    assert found.self_cpu is not None
    assert found.self_device is not None
    assert found.self_device.us == 2_000_000


def test_nothing_is_counted_twice() -> None:
    found = one_table(table(MODEL))
    kinds = [(row["name"], row["kind"]) for row in found.rows.to_dicts()]
    assert kinds[0] == kinds[1] == ("model_inference", "annotation")
    assert [kind for _, kind in kinds[2:]] == ["operator", "kernel", "operator"]
    for kind in ("operator", "kernel"):
        assert sum(r["self_device_us"] for r in found.rows.to_dicts() if r["kind"] == kind) <= found.self_device.us


def test_a_triton_function_and_its_kernel_are_no_annotation() -> None:
    rows = [
        *MODEL,
        Row("triton_poi_fused_0", 10_000, 10_000, 900_000, 900_000, 7),
        Row("triton_poi_fused_0", 0, 0, 900_000, 900_000, 7),
    ]
    found = one_table(table(rows, device_total=2_900_000))
    assert [r["kind"] for r in found.rows.to_dicts() if r["name"] == "triton_poi_fused_0"] == ["operator", "kernel"]


def test_a_span_whose_namesake_is_cut_away_is_known_by_its_siblings() -> None:
    rows = [
        Row("execute_new_0_cached_4", 0, 0, 900_000, 900_000, 4),
        Row("a_kernel", 0, 0, 800_000, 800_000, 4),
        Row("execute_new_1_cached_0", 5_000, 10_000, 0, 100_000, 1),
        Row("execute_new_1_cached_0", 0, 0, 90_000, 90_000, 1),
    ]
    found = one_table(table(rows, device_total=800_000))
    assert {r["name"]: r["kind"] for r in found.rows.to_dicts()} == {
        "execute_new_0_cached_4": "annotation",
        "a_kernel": "kernel",
        "execute_new_1_cached_0": "annotation",
    }


@pytest.mark.parametrize("device", ["CUDA", "XPU", "MTIA", "HPU", "PRIVATEUSEONE", ""])
@pytest.mark.parametrize("more", [{}, {"memory": True}, {"shapes": True}, {"stack": True}, {"memory": True, "shapes": True}])
def test_any_set_of_columns(device: str, more: dict) -> None:
    found = one_table(table(MODEL, device=device, **more))
    assert found.rows.height == len(MODEL)
    assert by_name(found)["aten::mul"]["calls"] == 47_400
    assert by_name(found)["aten::mul"]["self_cpu_us"] == 200_000
    assert by_name(found)["aten::mul"]["self_device_us"] == (500_000 if device else None)
    assert found.device == device
    assert found.problems == ()


@pytest.mark.parametrize("unit", ["us", "ms", "s"])
def test_one_unit_for_all(unit: str) -> None:
    row = by_name(one_table(table(MODEL, unit=unit)))["aten::mm"]
    size = {"us": 1, "ms": 1e3, "s": 1e6}[unit]
    assert row["self_device_us"] == 1_500_000
    assert row["self_device_error_us"] == pytest.approx(0.0005 * size)


def test_units_that_torch_does_not_write_itself() -> None:
    text = (
        table(MODEL)
        .replace("1.500s", "1500.000ms")
        .replace("200.000ms", "200000000.000ns")
        .replace(" 500.000ms", " 0.00833min")
    )
    rows = by_name(one_table(text))
    assert rows["aten::mm"]["self_device_us"] == 1_500_000
    assert rows["aten::mul"]["self_cpu_us"] == pytest.approx(200_000)
    assert rows["aten::mul"]["self_device_us"] == pytest.approx(0.00833 * 60e6)


def test_old_spellings() -> None:
    text = table(MODEL).replace("Self CPU  ", "Self CPU total  ").replace("# of Calls", "Number of Calls")
    assert one_table(text).rows.height == len(MODEL)


@pytest.mark.parametrize(
    "around",
    [
        lambda text: f"log\n```\n{text}```\nmore\n",
        lambda text: "".join(f"\x1b[32m{line}\x1b[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"(Worker pid=12) {line}\n" for line in text.splitlines()),
        lambda text: "".join(f"2026-01-01 00:00:{i:02} INFO {line}\n" for i, line in enumerate(text.splitlines())),
        lambda text: "".join(f"> {line}\n" for line in text.splitlines()),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: re.sub(r"[ ]{2,}", "  ", text),
        lambda text: "\n".join(line.rstrip() for line in text.splitlines()),
    ],
)
def test_whatever_stands_around_a_table(around) -> None:
    found = one_table(around(table(MODEL)))
    assert found.rows.height == len(MODEL)
    assert found.self_device is not None
    assert by_name(found)["aten::mm"]["self_device_us"] == 1_500_000


@pytest.mark.parametrize("width", [60, 80, 100, 132, 160])
@pytest.mark.parametrize("trimmed", [False, True])
def test_a_narrow_terminal(width: int, trimmed: bool) -> None:
    pieces = [line[i : i + width] for line in table(MODEL).splitlines() for i in range(0, max(len(line), 1), width)]
    text = "\n".join(piece.rstrip() if trimmed else piece for piece in pieces)
    rows = by_name(one_table(text))
    assert rows["aten::mm"]["self_device_us"] == 1_500_000
    assert rows["aten::mul"]["calls"] == 47_400


def test_lines_of_others_between_rows_are_skipped_and_said() -> None:
    lines = table(MODEL).splitlines()
    lines.insert(5, "[W1014 07:30:38 collection.cpp:1116] Warning: ROCTracer produced duplicate flow start: 1")
    found = one_table("\n".join(lines))
    assert found.rows.height == len(MODEL)
    assert "1 lines that are no rows" in found.problems[0]
    assert not any("Warning" in name for name in found.rows["name"])


def test_a_table_that_is_cut_off() -> None:
    text = table(MODEL)
    found = one_table(text[: text.index("aten::mul") + 60])
    assert found.rows.height == 4
    assert found.self_device is None
    assert "cut off after 4 rows" in found.problems[0]


def test_a_cut_table_does_not_swallow_the_next() -> None:
    whole = table(MODEL)
    cut = "\n".join(whole.splitlines()[:6]) + "\n"
    first, second = read_tables(plain(cut + whole))
    assert (first.rows.height, second.rows.height) == (3, len(MODEL))


@pytest.mark.parametrize("bad", ["-1.500s", "nan", "inf", "1.5.0s"])
def test_figures_that_no_time_can_be(bad: str) -> None:
    found = one_table(table(MODEL).replace("1.500s", f"{bad:>6}"))
    assert by_name(found)["aten::mm"]["self_device_us"] is None
    assert any("negative or no numbers" in problem for problem in found.problems)


def test_names_are_what_they_are() -> None:
    name = "void (anonymous namespace)::k<int>(f*, |[red]`"
    found = one_table(table([*MODEL, Row(name, 0, 0, 5, 5, 1)]))
    assert name in list(found.rows["name"])


def test_every_cut_and_mutation_is_survived(tmp_path: Path) -> None:
    text = run_lines([1.0, 1.1]) + table(MODEL) + run_lines([2.0, 2.1]) + table(MODEL[2:])
    path = tmp_path / "log.txt"
    for at in range(0, len(text), 37):
        for broken in (text[:at], text[at:], text[:at] + "\x00" + text[at:], text[:at] + "---  ---" + text[at + 50 :]):
            path.write_text(broken)
            try:
                read(path)
            except InputError as error:
                assert "\n" not in str(error)


def test_of_a_large_log_only_the_head_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "large.log"
    noise = "INFO 11-26 07:00:00 [loggers.py:116] Engine 000: Avg prompt throughput: 10.0 tokens/s --- step 12/40\n"
    path.write_text(noise * 20_000 + run_lines([1.0, 1.1, 1.0, 1.2]) + table(MODEL))
    assert not is_bench(path)
    assert len(read(path).records) == 4


# --- texts and folders -----------------------------------------------------------------------------------------------


def test_the_seed_holds_four_runs(seed: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds 4 model runs: #1 Qwen3-4B, #2 Qwen3-4B int8, #3 Qwen3-4B GPTQ.*#1\)"
    ) as refused:
        read(seed)
    assert "\n" not in str(refused.value)
    runs = [read(f"{seed}#{number}") for number in range(1, 5)]
    assert [len(run.records) for run in runs] == [20] * 4
    assert [run.quantised for run in runs] == ["", "int8", "GPTQ", ""]
    assert all(run.table is not None and run.table.rows.height == 10 for run in runs)
    assert any("NotImplementedError: GPTQ quantization not implemented" in warning for warning in runs[1].warnings)
    first = runs[0].records[0]
    assert (first.latency_s.value, first.latency_s.error) == (1.3832, pytest.approx(5e-5))
    assert (first.configuration.prompt_tokens, first.configuration.new_tokens, first.tokens) == (3, 50, 50)
    with pytest.raises(InputError, match="has no model run #5"):
        read(f"{seed}#5")


def test_what_is_a_model_run(tmp_path: Path, fixtures: Path) -> None:
    assert is_bench(FIXTURES / "float32")
    assert not is_bench(fixtures / "normal")
    assert not is_bench(tmp_path / "missing")
    assert not is_bench(tmp_path)
    (tmp_path / "a.log").write_text(table(MODEL))
    assert is_bench(tmp_path)
    assert is_bench(tmp_path / "a.log")
    (tmp_path / "a.log").write_text("[load] Loading model\n" + (tmp_path / "a.log").read_text())
    assert is_bench(tmp_path / "a.log")  # a bracket does not make it JSON
    assert is_bench(Path(f"{tmp_path / 'a.log'}#1"))
    (tmp_path / "trace.json").write_text('{"traceEvents": []}')
    assert not is_bench(tmp_path)  # a capture whose engine printed a table
    (tmp_path / "quoted.json").write_text(json.dumps({"text": table(MODEL)}))
    assert not is_bench(tmp_path / "quoted.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x00\x01\x02" * 100, "is no text"),
        (b"\x1f\x8b\x08abc", "is no text"),
        (b"hello\n", "holds no model run"),
        (table(MODEL, row_limit=0).encode(), "holds no model run"),
        (run_lines([0.0, 0.0]).encode(), "no positive number"),
        (run_lines([1.0]).replace("1.0000", "nan").encode(), "no positive number"),
        (run_lines([1.0]).replace("1.0000", "-1.0").encode(), "no positive number"),
    ],
)
def test_bad_texts_get_one_clear_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as refused:
        read(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_bad_folders_get_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no model run"):
        read(tmp_path)
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "runs.jsonl").write_text("")
    with pytest.raises(InputError, match="ended before the first"):
        read(folder)
    (folder / "runs.jsonl").write_text("{nonsense\n")
    with pytest.raises(InputError, match="line 1 is no record"):
        read(folder)
    line = json.loads((FIXTURES / "float32" / "runs.jsonl").read_text().splitlines()[0])
    (folder / "runs.jsonl").write_text(json.dumps(line | {"schema": "rca.bench/9"}) + "\n")
    with pytest.raises(InputError, match="schema 'rca.bench/9'"):
        read(folder)


def test_a_folder_that_was_ended_early_is_read(tmp_path: Path) -> None:
    lines = (FIXTURES / "float32" / "runs.jsonl").read_text().splitlines()
    (tmp_path / "runs.jsonl").write_text("\n".join(lines[:3]) + "\n" + lines[3][:40])
    run = read(tmp_path)
    assert len(run.records) == 3
    assert any("line 4 is no record" in warning for warning in run.warnings)
    assert any("operators.txt is missing" in warning for warning in run.warnings)
    assert any("environment.json is missing" in warning for warning in run.warnings)


def test_odd_values_in_our_own_lines_are_skipped(tmp_path: Path) -> None:
    line = json.loads((FIXTURES / "float32" / "runs.jsonl").read_text().splitlines()[0])
    odd = [line | {"latency_s": value} for value in (-1.0, 0, "fast", None)]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [line, *odd]))
    run = read(tmp_path)
    assert len(run.records) == 1
    assert any("3 more like it" in warning for warning in run.warnings)


def test_a_text_is_cut_into_runs_by_what_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        run_lines([1.0, 1.1]) + run_lines([1.0, 1.1], new=100) + run_lines([2.0, 2.1]) + run_lines([2.0], new=100)
    )
    assert len(read(f"{path}#1").records) == 4
    assert len(read(f"{path}#2").records) == 3
    path.write_text(table(MODEL) + table(MODEL[::-1]))  # one profile, sorted in two ways
    assert read(path).table is not None
    path.write_text(table(MODEL) + table(MODEL[2:], cpu_total=9.0))
    with pytest.raises(InputError, match="holds 2 model runs"):
        read(path)


def test_the_lines_that_rca_prints_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        "--- Configuration: prompt 8, new 16 ---\n"
        "Run 1/2: latency=0.039612 s, generated 16 tokens, throughput=201.96 t/s, peak memory=0.420 GiB\n"
        "Run 2/2: latency=0.044878 s, generated 16 tokens, throughput=178.26 t/s, peak memory=0.420 GiB\n"
    )
    first, second = read(path).records
    assert (first.configuration.prompt_tokens, first.configuration.new_tokens) == (8, 16)
    assert (second.latency_s.value, second.memory_unit) == (0.044878, "GiB")


def test_several_texts_in_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(table(MODEL))
    with pytest.raises(InputError, match=r"holds 2 texts with model runs: a.log, b.log \(name one of them\)"):
        read(tmp_path)
