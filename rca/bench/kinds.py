"""What the rows of an operator table are, so that no time is counted twice.

A table mixes three kinds of rows that hold the same time:

``operator``
    What the CPU called: ``aten::mm``, a compiled Triton function, ``cudaLaunchKernel``. Its self device time is that of the
    kernels which it launched itself, so over operators self device times add up; the total of an outer one
    (``aten::linear``) holds that of the inner ones.
``kernel``
    What ran on the device: kernels, copies, fills. Such a row has no CPU time at all, and its self device time is its device
    total. Over kernels the times add up too, but it is the same time again that stands at the operators.
``annotation``
    A span with a name that holds everything within it: ``ProfilerStep*``, ``record_function("model_inference")``. On the
    device's side it is printed as a row that looks like a kernel, with the time from its first to its last kernel, gaps
    included; that is no work, and no total counts it. On the CPU's side its self time is what no operator within it took
    (Python), and does add up with the other rows.

So a sum of device times goes over operators or over kernels, never over both, and a sum of self CPU times over all rows.

How they are told apart (the table does not say): a row with CPU time is an operator, one without a kernel. Both are
annotations where

- a row without CPU time has a namesake with CPU time but without self device time: a span is seen on both sides, while an
  operator with the name of its kernel (Triton) has the kernel's time itself. Names count as the same if only digits
  differ, as in ``execute_new_0_cached_4``: a row limit often cuts the namesake away, rarely all its siblings;
- the name is one that profilers and engines are known to write (`rca.cycles.grammar`);
- the row alone is longer than all kernels together (a share above 100 %);
- a row with CPU time and a name that no operator has (no ``::``) holds all of the CPU's time.
"""

from __future__ import annotations

import re

import polars as pl

from rca.cycles.grammar import GRAMMAR

OPERATOR, KERNEL, ANNOTATION = "operator", "kernel", "annotation"

_HOLDS_ALL = 0.95
_MORE_THAN_ALL = 1.001
"""Beyond what rounding can do to a figure of four digits."""

_KNOWN = tuple(anchor.pattern for anchor in GRAMMAR if anchor.pattern)


def classified(rows: pl.DataFrame, self_cpu_us: float | None, self_device_us: float | None) -> pl.DataFrame:
    """Add the column ``kind``.

    Args:
        rows: columns of `rca.bench.operators.SCHEMA`.
        self_cpu_us: all self CPU time, as the line below the table states it.
        self_device_us: the same of the device.
    """
    zero = {time: pl.col(f"{time}_us").fill_null(0.0) == 0 for time in ("self_cpu", "cpu_total", "self_device")}
    on_device = zero["self_cpu"] & zero["cpu_total"] & ~zero["self_device"] & ~pl.col("name").str.starts_with("aten::")
    family = pl.col("name").str.replace_all(r"\d+", "#")
    rows = rows.with_columns(family.alias("family"), on_device.alias("on_device"))
    seen_on_device = rows.filter("on_device")["family"]
    spans = rows.filter(~on_device & zero["self_device"] & pl.col("family").is_in(seen_on_device.implode()))["family"]
    known = [name for name in rows["name"] if is_known_span(name)]
    annotated = pl.col("family").is_in(spans.implode())
    if self_device_us:
        annotated |= pl.col("on_device") & (pl.col("self_device_us") > _MORE_THAN_ALL * self_device_us)
    if self_cpu_us:
        holds_all = pl.col("cpu_total_us").fill_null(0.0) >= _HOLDS_ALL * self_cpu_us
        annotated |= holds_all & ~pl.col("name").str.contains("::", literal=True)
    annotated = (annotated & ~pl.col("name").str.contains(_NO_SPAN)) | pl.col("name").is_in(known)
    kind = pl.when(annotated).then(pl.lit(ANNOTATION)).when("on_device").then(pl.lit(KERNEL)).otherwise(pl.lit(OPERATOR))
    return rows.with_columns(kind.alias("kind")).drop("family", "on_device")


def is_known_span(name: str) -> bool:
    """Tell a name that a profiler or an engine gives to a span of work."""
    return bool(_SPAN.match(name)) or any(pattern.match(name) for pattern in _KNOWN)


_SPAN = re.compile(r"ProfilerStep|(?:nccl|gloo|mpi|c10d):|DistributedDataParallel\.|Optimizer\.|## ")
_NO_SPAN = r"^(?:triton_|cuda[A-Z]|hip[A-Z]|cu[A-Z])"
"""Kernels that a compiler makes have the name of their operator; calls of the driver may hold all the time of a host."""

_GEMM = re.compile(
    r"gemm|gemv|nvjet|xmma|splitKreduce|Cijk_|cutlass|marlin|^aten::(mm|bmm|addmm|baddbmm|matmul|linear|_scaled_mm|_int_mm|_weight_int8pack_mm)$",
    re.IGNORECASE,
)
_MODEL_CALLS = re.compile(r"^aten::(mm|addmm|bmm|linear|matmul|embedding|scaled_dot_product_attention|argmax)$")
_COPY = re.compile(r"^aten::(copy_|to|_to_copy|clone|contiguous)$")


def is_gemm(name: str) -> bool:
    """Tell matrix multiplications: aten's, and kernels of cuBLAS, CUTLASS, Marlin, rocBLAS and hipBLASLt (``Cijk_…``)."""
    return bool(_GEMM.search(name)) and not re.search(r"fmha|flash", name, re.IGNORECASE)


def is_copy(name: str) -> bool:
    """Tell operators that copy, among which are all conversions of a type (``aten::to`` ends in ``aten::copy_``)."""
    return bool(_COPY.match(name))


def is_model_call(name: str) -> bool:
    """Tell operators of which a model makes a fixed number per token or layer, so that their calls measure the work."""
    return bool(_MODEL_CALLS.match(name))
