"""Functions that were renamed between two versions of the same software."""

from __future__ import annotations

from pathlib import Path

import pytest
from traces import decode_trace, write_trace

from rca.api import compare
from rca.capture.names import family


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("void at::native::add_kernel<float, 4>(int, Op<float>)", "void at::native::add_kernel<bf16, 8>(int, Op<Half<2>>)"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_tn", "ampere_bf16_s16816gemm_bf16_64x64_ldg8_f2f_tn"),
        ("triton_poi_fused_mul_3", "triton_poi_fused_mul_12"),
        ("graph_fud64jsrxcxliekg7lptyw24yz5k3oa65b73", "graph_abc99jsrxcxliekg7lptyw24yz5k3oa65b73"),
    ],
)
def test_family(one: str, two: str) -> None:
    assert family(one) == family(two)


def test_different_functions_are_no_family() -> None:
    names = ["flash_fwd_kernel<64>", "flash_fwd_splitkv_kernel<64>", "aten::add", "aten::add_", "rms_norm", "layer_norm"]
    assert len({family(name) for name in names}) == len(names)


def renamed_pair(folder: Path, *changes: tuple[str, str]) -> tuple[Path, Path]:
    normal = write_trace(folder / "normal" / "t.json", decode_trace(12))
    abnormal = write_trace(folder / "abnormal" / "t.json", decode_trace(12, gpu_slow=1.5, seed=1))
    for old, new in changes:
        abnormal.write_text(abnormal.read_text().replace(old, new))
    return normal.parent, abnormal.parent


def test_a_kernel_of_another_tile_size_is_compared_with_its_predecessor(tmp_path: Path) -> None:
    result = compare(*renamed_pair(tmp_path, ("gemm_64x64", "gemm_128x64")))
    rows = {row["function"]: row for row in result.ranks[0].functions.iter_rows(named=True)}
    assert "ampere_bf16_gemm_128x64" not in rows
    gemm = rows["ampere_bf16_gemm_64x64"]
    assert gemm["normal_us"] > 0
    assert gemm["abnormal_us"] > 1.3 * gemm["normal_us"]
    assert any("ampere_bf16_gemm_128x64 for ampere_bf16_gemm_64x64" in warning for warning in result.warnings)


def test_other_kernels_stay_new_and_gone(tmp_path: Path) -> None:
    result = compare(*renamed_pair(tmp_path, ("ampere_bf16_gemm_64x64", "hopper_fp8_attention")))
    rows = {row["function"]: row for row in result.ranks[0].functions.iter_rows(named=True)}
    assert rows["hopper_fp8_attention"]["normal_us"] == 0
    assert rows["ampere_bf16_gemm_64x64"]["abnormal_us"] == 0
