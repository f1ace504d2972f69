"""Signals into observations: how far each moved between the sides, how surely, and whether that matters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from rca.capture.tables import HOST
from rca.comparison import RankComparison
from rca.profile import Profile
from rca.profile.timeline import COMMUNICATION
from rca.stats.robust import benjamini_hochberg, column_shifts, dependence, effective_n, two_sample_test
from rca.verdict.recorded import Recorded, Samples
from rca.verdict.signals import SIGNALS, Signal

Floats = NDArray[np.float64]

MAX_Q = 0.05
MIN_CLIFFS_DELTA = 0.474
"""A "large" effect (Romano et al., 2006)."""
MIN_APART = {2: math.inf, 3: 2.0}
"""Few values are too few for a rank test, and counters that drift slowly are worth few. But sides that lie further apart
than this many times the wider one's range, 1.0 from 4 values a side on, come of one distribution in less than 0.2 % of the
cases: simulated for independent normal, Laplace, lognormal and Student-t values. And where every value of one side is beyond
every value of the other by more than what matters, it differs, whatever makes it drift."""
MIN_SAMPLES = 4

MIN_KERNELS = 4
ALWAYS, NEVER = 0.9, 0.1
"""Shares of the cycles of a side that have a function which it has always, or never."""
SAME_CALLS = 0.1
"""Calls per cycle that differ by less are the same work."""


@dataclass(frozen=True)
class Observation:
    """One signal on one device, on both sides.

    Attributes:
        signal: its id.
        device: ``Host`` or a GPU.
        text: what the signal is.
        unit: of the numbers.
        metrics: the counters, or what else it was read from, the telling one first.
        normal: median of the normal side.
        abnormal: of the abnormal one.
        shift: Hodges-Lehmann; with ``low`` and ``high``, its 95 % block-bootstrap interval.
        delta: Cliff's δ.
        n: values of each side; ``effective`` what they are worth.
        p: of the rank test; ``q`` after Benjamini-Hochberg over all observations of a comparison.
        gap: how far the sides lie apart, 0 where they overlap.
        apart: the same in units of the wider one's range.
        least: smallest change that matters, in ``unit``.
    """

    signal: str
    device: str
    text: str
    unit: str
    metrics: tuple[str, ...]
    normal: float
    abnormal: float
    shift: float
    low: float
    high: float
    delta: float
    n: tuple[int, int]
    effective: tuple[float, float]
    p: float
    q: float
    gap: float
    apart: float
    least: float

    @property
    def moved(self) -> int:
        """+1 or −1 where it moved by chance hardly, and by as much as matters; else 0."""
        tested = self.q < MAX_Q and abs(self.delta) >= MIN_CLIFFS_DELTA
        beyond = self.least > 0 and self.gap >= self.least and min(self.n) >= MIN_SAMPLES
        sure = tested or beyond or self.apart >= MIN_APART.get(min(self.n), 1.0)
        return int(math.copysign(1, self.shift)) if sure and self.strength >= 1 else 0

    @property
    def stayed(self) -> bool:
        """Whether a change as large as matters can be excluded: that, too, is evidence."""
        return -self.least < self.low and self.high < self.least

    @property
    def strength(self) -> float:
        """How many times the smallest change that matters it moved by."""
        return abs(self.shift) / self.least if self.least > 0 else (math.inf if self.shift else 0.0)


Observations = Mapping[tuple[str, str], Observation]
"""By (signal, device)."""


def observe(normal: Recorded, abnormal: Recorded, rank: RankComparison | None) -> Observations:
    """Return every signal that was recorded on both sides, as one rank sees them."""
    found = [*_of_counters(normal, abnormal)]
    if rank is not None:
        found += _of_cycles(rank, *rank.profiles)
        found += _of_functions(rank, *rank.profiles)
        found += _kernel_cycles(found)
    q = benjamini_hochberg(np.array([one.p for one in found]))
    return {(one.signal, one.device): replace(one, q=float(value)) for one, value in zip(found, q, strict=True)}


def _of_counters(normal: Recorded, abnormal: Recorded) -> Iterable[Observation]:
    normal.share_with(abnormal)
    gpus = paired(normal.gpus(), abnormal.gpus())
    for signal in SIGNALS:
        for of_normal, device in gpus if signal.per_gpu else [(HOST, HOST)]:
            before, after = signal.read(normal, of_normal), signal.read(abnormal, device)
            if before is not None and after is not None:
                about = (signal.id, device, signal.text, _unit(signal, before, after), signal.metrics)
                if one := compared(about, before, after, signal.least, signal.least_share):
                    yield one


def paired(normal: list[str], abnormal: list[str]) -> list[tuple[str, str]]:
    """Return which GPU of the normal side is which of the other: of one name or, after a restart elsewhere, in order."""
    if normal != abnormal and len(normal) == len(abnormal):
        return list(zip(normal, abnormal, strict=True))
    return [(device, device) for device in normal if device in abnormal]


def _unit(signal: Signal, normal: Samples, abnormal: Samples) -> str:
    """Return the unit; profiles that were cut before may state clocks and memory as shares of what the machine has."""
    largest = max(float(normal.value.max()), float(abnormal.value.max()))
    return "of the largest" if signal.unit in ("MHz", "bytes") and 0 < largest <= 1 else signal.unit


def compared(
    about: tuple[str, str, str, str, tuple[str, ...]], x: Samples, y: Samples, least: float, least_share: float = 0.0
) -> Observation | None:
    """Compare the values of a signal; None where a side has fewer than two."""
    if min(len(x.value), len(y.value)) < 2:
        return None
    rho = dependence(x.value, y.value)
    worth = min(effective_n(len(x.value), rho), x.worth), min(effective_n(len(y.value), rho), y.worth)
    shift, low, high = (float(v[0]) for v in column_shifts(x.value[:, None], y.value[:, None], rho))
    test = two_sample_test(x.value, y.value, *worth)
    normal, abnormal = float(np.median(x.value)), float(np.median(y.value))
    gap = max(float(y.value.min() - x.value.max()), float(x.value.min() - y.value.max()), 0.0)
    widest = max(float(np.ptp(x.value)), float(np.ptp(y.value)))
    return Observation(
        *about,
        normal=normal,
        abnormal=abnormal,
        shift=shift,
        low=low,
        high=high,
        delta=float(test.delta[0]),
        n=(len(x.value), len(y.value)),
        effective=worth,
        p=float(test.p[0]),
        q=math.nan,
        gap=gap,
        apart=gap / widest if widest > 0 else (math.inf if gap > 0 else 0.0),
        least=max(least, least_share * min(abs(normal), abs(abnormal))),  # the same when the sides are swapped
    )


def _of_cycles(rank: RankComparison, normal: Profile, abnormal: Profile) -> Iterable[Observation]:
    """Compare what cycles did, and how long they waited for a core."""
    both = [profile.rank.cycles.filter("complete") for profile in (normal, abnormal)]
    decode = [cycles.filter(pl.col("phase") == "decode") for cycles in both]
    own = decode if all(cycles.height for cycles in decode) else both
    for column, text in (("batch", "requests of a cycle"), ("tokens", "tokens of a cycle")):
        sides = [
            Samples(c[column].drop_nulls().cast(pl.Float64).to_numpy(), c.height)
            for c in (own if column == "batch" else both)
        ]
        about = (column, HOST, text, column if column == "tokens" else "requests", (column,))
        if one := compared(about, sides[0], sides[1], 0.5, 0.1):
            yield one
    if any(cycles["phase"].is_in(["prefill", "mixed"]).any() for cycles in both):
        new = [c["phase"].is_in(["prefill", "mixed"]).cast(pl.Float64).to_numpy() * 100 for c in both]
        about = ("prefills", HOST, "cycles that compute prompts", "% of the cycles", ("phase",))
        share = [Samples(values, len(values)) for values in new]
        if one := compared(about, share[0], share[1], 10):
            mean = [float(values.mean()) for values in new]  # of zeros and ones the median tells nothing
            change = mean[1] - mean[0]
            sign = math.copysign(1.0, change)  # δ of shares is their difference: never "large"
            yield replace(one, normal=mean[0], abnormal=mean[1], shift=change, low=change, high=change, delta=sign)
    waits = [_part_share(rank, side, "runq") for side in ("normal", "abnormal")]
    if any(values.any() for values in waits):
        about = (
            "cycle_waiting",
            HOST,
            "part of the cycle spent waiting for a core",
            "% of the cycle",
            ("process_runq_wait",),
        )
        sides = [Samples(values, len(values)) for values in waits]
        if one := compared(about, sides[0], sides[1], 5):
            yield one


def _part_share(rank: RankComparison, side: str, part: str) -> Floats:
    """Return one part of every compared cycle in % of the cycle."""
    cycles = rank.compared.filter(pl.col("side") == side).select("cycle", "duration_us")
    own = rank.parts.filter((pl.col("side") == side) & (pl.col("part") == part)).select("cycle", "us")
    joined = cycles.join(own, on="cycle", how="left", maintain_order="left")
    share: Floats = 100 * joined["us"].fill_null(0.0).to_numpy() / joined["duration_us"].to_numpy()
    return share


def _of_functions(rank: RankComparison, normal: Profile, abnormal: Profile) -> Iterable[Observation]:
    for device in sorted(d for d in rank.functions["device"].unique() if d.startswith("GPU")):
        if one := _kernel_stretch(rank.functions.filter(pl.col("device") == device), device):
            yield one
        yield from _copies(normal, abnormal, device)
    if one := _changed_work(rank, normal, abnormal):
        yield one
    totals = [_total_calls(profile, rank, side) for side, profile in (("normal", normal), ("abnormal", abnormal))]
    if one := compared(
        ("call_count", HOST, "calls of a cycle", "calls", ("calls per cycle",)), totals[0], totals[1], 1.0, 0.02
    ):
        yield one
    if one := _allocations(rank, normal, abnormal):
        yield one


def _kernel_stretch(functions: pl.DataFrame, device: str) -> Observation | None:
    """Return how many times longer each kernel takes: one value per kernel, those that wait for other GPUs left out."""
    known = functions.filter(
        (pl.col("class") == "gpu_compute")
        & ~pl.col("function").str.contains(COMMUNICATION)
        & (pl.min_horizontal("normal_count", "abnormal_count") > 0)
        & (pl.min_horizontal("normal_mean_us", "abnormal_mean_us") > 0)
    )
    if known.height < MIN_KERNELS:
        return None
    each = [known[f"{side}_mean_us"].to_numpy() / known[f"{side}_count"].to_numpy() for side in ("normal", "abnormal")]
    stretch = each[1] / each[0]
    low, middle, high = np.quantile(stretch, [0.25, 0.5, 0.75])
    moved = (stretch > 1).mean()
    return Observation(
        *("kernel_stretch", device, "time of a kernel, each against itself", "times", ("kernel time",)),
        normal=1.0,
        abnormal=float(middle),
        shift=math.log(middle),  # so that the effect is mirrored when the sides are swapped
        low=math.log(low),
        high=math.log(high),
        delta=float(2 * moved - 1),
        n=(known.height, known.height),
        effective=(float(known.height), float(known.height)),
        p=_sign_p(int((stretch > 1).sum()), known.height),
        q=math.nan,
        gap=0.0,
        apart=0.0,
        least=math.log(1.05),
    )


def _kernel_cycles(found: list[Observation]) -> list[Observation]:
    """Return time × clock of kernels: what is left of a longer time is more work, or other work on the GPU beside it."""
    clocks = {one.device: one for one in found if one.signal == "gpu_clock"}
    cycles = []
    for one in found:
        clock = clocks.get(one.device) if one.signal == "kernel_stretch" else None
        if clock and clock.normal > 0 and clock.abnormal > 0:
            factor = clock.abnormal / clock.normal
            low, middle, high = (value + math.log(factor) for value in (one.low, one.shift, one.high))
            agree = (low > 0) == (high > 0)  # else some kernels take more clock cycles and some fewer
            cycles.append(
                replace(
                    one,
                    signal="kernel_cycles",
                    text="clock cycles of a kernel, each against itself",
                    abnormal=math.exp(middle),
                    shift=middle,
                    low=low,
                    high=high,
                    delta=math.copysign(1.0, middle) if agree else 0.0,
                    p=one.p if agree else 1.0,
                    least=math.log(1.15),
                )
            )
    return cycles


def _sign_p(longer: int, n: int) -> float:
    """Return the two-sided p-value of the sign test."""
    return float(scipy_stats.binomtest(longer, n).pvalue)


def _copies(normal: Profile, abnormal: Profile, device: str) -> Iterable[Observation]:
    """Compare the time of one copy over the link to the host, by direction."""
    for class_, direction in (("gpu_memcpy_h2d", "to the GPU"), ("gpu_memcpy_d2h", "from the GPU")):
        sides = [_copy_time(profile, class_, device) for profile in (normal, abnormal)]
        about = (f"copy_time_{class_[-3:]}", device, f"time of one copy {direction}", "µs", ("memcpy",))
        if one := compared(about, sides[0], sides[1], 2.0, 0.25):
            yield one


def _copy_time(profile: Profile, class_: str, device: str) -> Samples:
    """Return µs per copy in each cycle that has any."""
    own = profile.rows.filter(
        (pl.col("class") == class_) & (pl.col("device") == device) & pl.col("function").str.contains("(?i)copy")
    )
    single = own.unique(["cycle", "function"], keep="first")
    each = (
        single.group_by("cycle").agg(us=pl.col("duration_us").sum() / pl.col("count").sum()).sort("cycle")["us"].drop_nulls()
    )
    return Samples(each.to_numpy(), float(len(each)))


def _changed_work(rank: RankComparison, normal: Profile, abnormal: Profile) -> Observation | None:
    """Return the calls of a cycle that are there on one side only, or a different number of times in every cycle, in %.

    How often a program calls what is its own doing: no clock, no other program and no link changes that. Work that differs
    in size is another matter, so only cycles of one phase and, where it is known, of one batch are looked at.
    """
    cycles = [rank.compared.filter(pl.col("side") == side)["cycle"].to_list() for side in ("normal", "abnormal")]
    on_gpu = [profile.rows["device"].str.starts_with("GPU").any() for profile in (normal, abnormal)]
    unlike = normal.rank.anchor != abnormal.rank.anchor or rank.gate.stratum == "all" or on_gpu[0] != on_gpu[1]
    if unlike or min(map(len, cycles)) < MIN_SAMPLES:
        return None
    sides = [_calls(profile, own) for profile, own in zip((normal, abnormal), cycles, strict=True)]
    both = sides[0].join(sides[1], on="function", how="full", coalesce=True, suffix="_2").fill_null(0)
    total = max(float((both["calls"] * both["present"]).sum()), float((both["calls_2"] * both["present_2"]).sum()))
    if total == 0:
        return None
    here, there = pl.col("present"), pl.col("present_2")
    one_sided = ((here >= ALWAYS) & (there <= NEVER)) | ((there >= ALWAYS) & (here <= NEVER))
    most, least = pl.max_horizontal("calls", "calls_2"), pl.min_horizontal("calls", "calls_2")
    steady = (here >= ALWAYS) & (there >= ALWAYS) & (pl.max_horizontal("spread", "spread_2") <= (most - least) / 2)
    changed = both.filter(one_sided | (steady & (most - least >= SAME_CALLS * most)))
    share = 100 * float((changed["calls_2"] - changed["calls"]).abs().sum()) / total
    n = (len(cycles[0]), len(cycles[1]))
    return Observation(
        *("changed_calls", HOST, "calls per cycle that are other or more than before", "% of the calls"),
        metrics=("calls per cycle",),
        normal=0.0,
        abnormal=share,
        shift=share,
        low=share,
        high=share,
        delta=1.0 if share else 0.0,
        n=n,
        effective=(float(n[0]), float(n[1])),
        p=2 / math.comb(sum(n), n[0]) if share else 1.0,
        q=math.nan,
        gap=0.0,
        apart=0.0,
        least=2.0,
    )


_ALLOCATES = r"^(cuda|hip)(Malloc|Free)(Async|Host)?(_v\d+)?$|^cuMem(Alloc|Free|Create|Release|Map|Unmap)"


def _allocations(rank: RankComparison, normal: Profile, abnormal: Profile) -> Observation | None:
    """Compare how often a cycle asks the driver for GPU memory, or gives it back; engines do that before they serve."""
    sides = []
    for side, profile in (("normal", normal), ("abnormal", abnormal)):
        cycles = rank.compared.filter(pl.col("side") == side).select("cycle")
        own = profile.rows.filter(pl.col("function").str.contains(_ALLOCATES)).unique(["cycle", "function"], keep="first")
        calls = cycles.join(own.group_by("cycle").agg(pl.col("count").sum()), on="cycle", how="left", maintain_order="left")
        sides.append(Samples(calls["count"].fill_null(0).cast(pl.Float64).to_numpy(), float(cycles.height)))
    if not any(one.value.any() for one in sides):
        return None
    return compared(
        ("allocations", HOST, "allocations of GPU memory per cycle", "calls", ("cudaMalloc",)), sides[0], sides[1], 1.0
    )


_WORK = (
    "cpu_op",
    "cpu_runtime",
    "cpu_sync",
    "gpu_compute",
    "gpu_comm",
    "gpu_memcpy_h2d",
    "gpu_memcpy_d2h",
    "gpu_memcpy_d2d",
)


def _total_calls(profile: Profile, rank: RankComparison, side: str) -> Samples:
    """Return the number of calls in each compared cycle."""
    cycles = rank.compared.filter(pl.col("side") == side).select("cycle")
    own = profile.rows.filter(pl.col("class").is_in(list(_WORK))).unique(["cycle", "function", "device"], keep="first")
    calls = cycles.join(own.group_by("cycle").agg(pl.col("count").sum()), on="cycle", how="left", maintain_order="left")
    return Samples(calls["count"].fill_null(0).cast(pl.Float64).to_numpy(), float(cycles.height))


def _calls(profile: Profile, cycles: list[int]) -> pl.DataFrame:
    """Return calls per cycle of each function: median, spread (half the range of nine in ten), share of cycles with it."""
    own = profile.rows.filter(pl.col("cycle").is_in(cycles) & pl.col("class").is_in(list(_WORK)))
    single = own.unique(["cycle", "function", "device"], keep="first")
    per_cycle = single.group_by("cycle", "function").agg(pl.col("count").sum())  # a restarted server may sit on other GPUs
    count = pl.col("count").cast(pl.Float64)
    return per_cycle.group_by("function").agg(
        calls=count.median(),
        spread=(count.quantile(0.95) - count.quantile(0.05)) / 2,
        present=pl.len().cast(pl.Float64) / len(cycles),
    )
