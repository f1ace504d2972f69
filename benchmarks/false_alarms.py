#!/usr/bin/env python3
"""How often does the test on cycle time call two samples different that are not, and how often does it see a real change?

    python benchmarks/false_alarms.py [--trials 400]

Samples are drawn from log-normal cycle times with 5 % spread, independent or serially dependent (AR(1)), at several
lengths; the "changed" columns multiply one side by 1.05 or 1.2. Prints one line per setting.
"""

from __future__ import annotations

import argparse

import numpy as np

from rca.comparison.robust import calibrate, cycle_time, is_called


def series(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    noise = rng.standard_normal(n)
    for i in range(1, n):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return 10_000 * np.exp(0.05 * noise)


def share_called(rng: np.random.Generator, n: int, rho: float, factor: float, trials: int) -> float:
    called = 0
    for _ in range(trials):
        normal, abnormal = series(rng, n, rho), factor * series(rng, n, rho)
        called += is_called(cycle_time(normal, abnormal, comparable=True), calibrate(normal, n))
    return called / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    args = parser.parse_args()
    print(f"share of {args.trials} comparisons called different, by true ratio of cycle times")
    print(f"{'cycles a side':>14} {'AR(1) ρ':>8} {'1.00':>7} {'1.05':>7} {'1.20':>7}")
    for n in (6, 14, 40, 120):
        for rho in (0.0, 0.5, 0.8):
            rng = np.random.default_rng(n * 100 + int(rho * 10))
            shares = [share_called(rng, n, rho, factor, args.trials) for factor in (1.0, 1.05, 1.2)]
            print(f"{n:>14} {rho:>8} " + " ".join(f"{share:>7.1%}" for share in shares))


if __name__ == "__main__":
    main()
