"""A decoding LLM server that exists only as numbers: the steps that `make_traces.py` writes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LAYERS, LAUNCHES_PER_LAYER, LAST_LAUNCHES = 40, 24, 40
LAUNCHES = LAYERS * LAUNCHES_PER_LAYER + LAST_LAUNCHES
LAUNCH_NS = 26_000
PID, GPU, STREAM, HOST_NAME = 4242, 3, 7, "node01"
START_NS = 1_790_900_000_123_456_789
BASE_NS = 227 * 7_889_238 * 10**9
"""Kineto counts from such a multiple of three months."""


@dataclass(frozen=True)
class Step:
    """The times of one decode step, in ns since `START_NS`; one item per launch."""

    index: int
    begin: int
    length: int
    op: Ints
    op_dur: Ints
    launch: Ints
    launch_dur: Ints
    kernel: Ints
    kernel_dur: Ints
    first_id: int


class Server:
    """Draws steps: what a launch costs and how long a kernel takes stays the same from step to step, but for noise."""

    def __init__(self, seed: int, slow: float) -> None:
        self.rng = np.random.default_rng(seed)
        layer = self._names(LAUNCHES_PER_LAYER)
        self.names = layer * LAYERS + self._names(LAST_LAUNCHES)
        typical = self.rng.gamma(6.0, 3_000, len(self.names)).clip(2_000, 60_000)
        typical[: LAYERS * LAUNCHES_PER_LAYER] = np.tile(typical[:LAUNCHES_PER_LAYER], LAYERS)
        self.factor = np.array([slow if "gemm" in name else 1.0 for name in self.names])
        self.typical = typical

    def _names(self, count: int) -> list[str]:
        """Return kernel names; their mean length is that of serving traces, about 277 characters."""
        names = []
        for position in range(count):
            tile = [int(value) for value in self.rng.choice([16, 32, 64, 128, 256], 4)]
            names.append(_FAMILIES[position % len(_FAMILIES)](tile))
        return names

    def steps(self, count: int) -> Iterator[Step]:
        begin, first_id = 0, 1
        for index in range(count):
            noise = self.rng.standard_normal(LAUNCHES)
            op = begin + 200_000 + np.arange(LAUNCHES) * LAUNCH_NS + self.rng.integers(0, 2_000, LAUNCHES)
            launch = op + 5_000 + self.rng.integers(0, 3_000, LAUNCHES)
            kernel_dur = (self.typical * self.factor * (1 + 0.03 * noise).clip(0.8, 1.2)).astype(np.int64)
            before = np.cumsum(kernel_dur) - kernel_dur
            kernel = np.maximum.accumulate(launch + 9_000 - before) + before
            length = int(max(op[-1] + LAUNCH_NS, kernel[-1] + kernel_dur[-1]) - begin) + 300_000
            op_dur = np.full(LAUNCHES, LAUNCH_NS - 3_500)
            launch_dur = self.rng.integers(4_000, 9_000, LAUNCHES)
            yield Step(index, begin, length, op, op_dur, launch, launch_dur, kernel, kernel_dur, first_id)
            begin += length + int(self.rng.integers(20_000, 60_000))
            first_id += LAUNCHES


def _elementwise(tile: list[int]) -> str:
    functor = f"at::native::binary_internal::MulFunctor<c10::BFloat16, {tile[0]}>"
    loader = f"TrivialOffsetCalculator<{tile[1] // 16}, unsigned int>, at::native::memory::LoadWithCast<{tile[2] // 16}>"
    caller = f"at::native::gpu_kernel_impl_nocast<{functor} >(at::TensorIteratorBase&, {functor} const&)"
    lambda_ = f"{caller}::{{lambda(int)#{tile[3] // 16}}}"
    return f"void at::native::elementwise_kernel<{tile[0]}, 4, {lambda_}, {loader}>(int, {lambda_}, std::array<char*, 3ul>)"


_FAMILIES: tuple[Callable[[list[int]], str], ...] = (
    lambda t: f"void flashinfer::norm::FusedAddRMSNormKernel<{t[0]}u, __nv_bfloat16>(__nv_bfloat16*, __nv_bfloat16*, float)",
    lambda t: (
        f"sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize{t[0]}x{t[1]}x{t[2]}_warpgroupsize1x1x1_execute_segment_k_off"
    ),
    lambda t: (
        f"void vllm::rotary_embedding_kernel<c10::BFloat16, true, {t[0]}>(long const*, c10::BFloat16*, long, int, int)"
    ),
    _elementwise,
    lambda t: (
        f"void flashinfer::BatchPrefillWithPagedKVCacheKernel<flashinfer::KernelTraits<(flashinfer::MaskMode)0, {t[0]}u, "
        "1u, 2u, 8u, 8u, 1u, 4u, (flashinfer::PosEncodingMode)0, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, int, "
        "flashinfer::DefaultAttention<false, false, false, false> >, batch_prefill_with_kv_cache_dtype_q_bf16_dtype_kv_bf16_"
        "dtype_o_bf16_dtype_idx_i32_head_dim_qk_128_head_dim_vo_128_posenc_0_use_swa_False_use_logits_cap_False_f16qk_False"
        f"::PagedParams>(flashinfer::KernelTraits<(flashinfer::MaskMode)0, {t[1]}u, 1u, 2u, 8u, 8u, 1u, 4u, "
        "(flashinfer::PosEncodingMode)0, __nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, int>::PagedParams)"
    ),
    lambda t: f"nvjet_tst_{t[0]}x{t[1]}_64x{t[2] // 16}_2x1_v_bz_splitK_TNT_gemm",
    lambda t: (
        f"void vllm::act_and_mul_kernel<c10::BFloat16, &(c10::BFloat16 vllm::silu_kernel<{t[0]}>)>(c10::BFloat16*, int)"
    ),
    lambda t: _elementwise(t).replace("MulFunctor", "AddFunctor"),
)


def ids(step: Step) -> Ints:
    return step.first_id + np.arange(LAUNCHES)
