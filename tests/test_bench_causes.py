"""What model runs may not be blamed on: tables in which something else looks like the cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_tables import Row, run_lines, table

from rca.bench import BenchComparison, compare
from rca.bench.kinds import is_gemm

MM = Row("aten::mm", 1_000, 1_000, 90_000, 90_000, 800)
MUL = Row("aten::mul", 500, 500, 5_000, 5_000, 1_600)
COPY = Row("aten::copy_", 100, 100, 300, 300, 20)


def compared(tmp_path: Path, normal: list[Row], abnormal: list[Row], head: tuple[str, str] = ("", "")) -> BenchComparison:
    for name, rows, text in (("normal", normal, head[0]), ("abnormal", abnormal, head[1])):
        (tmp_path / f"{name}.txt").write_text(text + table(rows, device_total=sum(row.self_device_us for row in rows)))
    return compare(tmp_path / "normal.txt", tmp_path / "abnormal.txt")


def longer(row: Row, factor: float) -> Row:
    return row._replace(self_device_us=row.self_device_us * factor, device_total_us=row.device_total_us * factor)


def test_one_operator_that_took_everything_is_no_clock(tmp_path: Path) -> None:
    (cause,) = compared(tmp_path, [MM, MUL, COPY], [MM, MUL, longer(COPY, 200)]).verdict.causes
    assert cause.id == "unexplained"
    assert cause.looks_like == ""
    assert cause.evidence_for[0].startswith("aten::copy_ takes")


def test_what_all_operators_share_may_be_a_clock_or_a_larger_batch(tmp_path: Path) -> None:
    found = compared(tmp_path, [MM, MUL], [longer(MM, 2), longer(MUL, 2)])
    (cause,) = found.verdict.causes
    assert cause.evidence_for[0] == "all operators take 2.00 x the time in as many calls"
    assert "lower clock" in cause.looks_like
    assert "a larger batch or a longer prompt" in cause.looks_like
    assert "says nothing of batch and prompt length" in found.work.text


def graph(*kernels: Row) -> list[Row]:
    return [Row("aten::mm", 300, 300, 0, 0, 30), Row("cudaGraphLaunch", 9_000, 9_000, 0, 0, 100), *kernels]


def kernel(name: str, us: float, calls: int = 1_000) -> Row:
    return Row(name, 0, 0, us, us, calls)


def test_kernels_of_another_device_are_no_other_program(tmp_path: Path) -> None:
    normal = graph(kernel("ampere_fp16_s16816gemm_64x64", 90_000), kernel("flash_fwd_sm80", 30_000))
    abnormal = graph(kernel("nvjet_hsh_64x8_sm90", 54_000), kernel("flash_fwd_sm90", 18_000))
    (cause,) = compared(tmp_path, normal, abnormal).verdict.causes
    assert cause.id == "unexplained"
    assert "another device" in cause.looks_like


def test_a_name_that_was_cut_short_is_the_same_kernel(tmp_path: Path) -> None:
    whole = "vectorized_elementwise_kernel<4, add<Half>>"
    normal = graph(kernel(whole[:33] + "...", 90_000), kernel("gemm_a", 30_000))
    abnormal = graph(kernel(whole, 117_000), kernel("gemm_a", 39_000))
    found = compared(tmp_path, normal, abnormal)
    assert {entry.name: entry.why for entry in found.device.entries} == {whole: "duration", "gemm_a": "duration"}


def test_kernels_of_a_captured_graph_are_kernels(tmp_path: Path) -> None:
    captured = Row("triton_poi_fused_add_0", 100, 100, 0, 0, 1)
    sides = [[*graph(kernel("gemm_a", 90_000), kernel(captured.name, us)), captured] for us in (50_000, 100_000)]
    found = compared(tmp_path, *sides)
    assert (found.device.rows, found.device.entries[0].name) == ("kernel", captured.name)
    assert found.device.entries[0].change_us == pytest.approx(50_000)


def test_small_changes_in_calls_are_within_what_starts_differ_by(tmp_path: Path) -> None:
    lines = [run_lines([latency * (1 + 0.001 * noise) for noise in (0, 3, -2, 1, -3, 2, -1, 4)]) for latency in (1.0, 1.02)]
    more = MUL._replace(self_device_us=7_000, device_total_us=7_000, calls=2_240)
    found = compared(tmp_path, [MM, MUL], [MM, more], (lines[0], lines[1]))
    assert found.verdict.status == "no_difference"
    assert found.verdict.causes == ()


def test_copies_from_the_host_are_no_dequantisation(tmp_path: Path) -> None:
    copies = Row("aten::copy_", 100, 100, 60_000, 60_000, 12)
    found = compared(tmp_path, [MM, MUL], [MM, MUL, copies], ("", "Applying int8 quantization using torchao...\n"))
    assert not [text for cause in found.verdict.causes for text in cause.evidence_for if "dequantisation" in text]


def test_calls_over_all_shapes_tell_the_work(tmp_path: Path) -> None:
    rows = [MM, MM._replace(calls=200, self_device_us=9_000, device_total_us=9_000)]
    assert compared(tmp_path, rows, rows[::-1]).work.status == "same"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("gemv2T_kernel_val<int>", True), ("nvjet_hsh_64x8", True), ("fmha_cutlassF_f16", False), ("flash_fwd_kernel", False)],
)
def test_kernels_that_multiply_matrices(name: str, is_one: bool) -> None:
    assert is_gemm(name) is is_one


def test_figures_that_nothing_can_be_are_left_out(tmp_path: Path) -> None:
    text = table([MM, MUL]).replace("1600", "1" * 23)
    for side, latency in (("normal", 1.0), ("abnormal", 1e200)):
        (tmp_path / f"{side}.txt").write_text(run_lines([1.0, 1.1, latency]) + text)
    found = compare(tmp_path / "normal.txt", tmp_path / "abnormal.txt")
    assert (len(found.normal.records), len(found.abnormal.records)) == (3, 2)
