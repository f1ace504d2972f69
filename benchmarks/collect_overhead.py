#!/usr/bin/env python3
"""What `rca collect` costs the machine and the server that it records.

    collect_overhead.py [--seconds 60]                                     its own CPU time and memory, 64 threads watched
    collect_overhead.py --url http://127.0.0.1:8000 [--pairs 15]           the served throughput with and without sampling

The first watches a process of 64 threads, half of which wake up a hundred times a second. The second keeps a real server
busy and alternates stretches with and without ``rca collect --no-profile``, in random order within each pair; tokens are
counted by the server itself. Prints markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil

from collectors.samplers.engine import totals_of
from fixtures.make_serving_pair import steady_load

SUBJECT = """
import threading, time
def wake():
    while True: time.sleep(0.01)
def rest():
    while True: time.sleep(1)
for n in range(63): threading.Thread(target=wake if n % 2 else rest, daemon=True).start()
print("ready", flush=True)
time.sleep(3600)
"""
TOKENS = ("vllm:generation_tokens_total", "sglang:realtime_tokens_total")


def collect(out: Path, seconds: float, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rca.cli", "collect", "-q", "-o", str(out), "--duration", str(seconds), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def own_cost(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen([sys.executable, "-c", SUBJECT], stdout=-1) as subject:
        assert subject.stdout
        subject.stdout.readline()
        out = Path(folder, "capture")
        process = collect(out, seconds, "--pid", str(subject.pid))
        watched = psutil.Process(process.pid)
        time.sleep(3)  # imports are done
        before, began = sum(watched.cpu_times()[:2]), time.monotonic()
        time.sleep(seconds - 6)
        sampling = (sum(watched.cpu_times()[:2]) - before) / (time.monotonic() - began)
        memory = watched.memory_info().rss
        _, _, usage = os.wait4(process.pid, 0)
        subject.kill()
        facts = json.loads((out / "capture.json").read_text())
    print("| sampler | rate | CPU per call | of one core |\n| --- | ---: | ---: | ---: |")
    for sampler in facts["samplers"]:
        per_call = sampler["cpu_seconds"] / max(sampler["ticks"], 1)
        print(
            f"| `{sampler['name']}` | {sampler['hz_achieved']:.1f} Hz | {1e6 * per_call:.0f} µs "
            f"| {100 * sampler['cpu_seconds'] / seconds:.3f} % |"
        )
    whole = usage.ru_utime + usage.ru_stime
    print(f"\nWhile it samples: **{100 * sampling:.2f} % of one core**, {memory / 1e6:.0f} MB resident.")
    print(
        f"The whole command of {seconds:.0f} s, start and end included: {whole:.2f} s of CPU time, "
        f"{usage.ru_maxrss / 1e3:.0f} MB at most."
    )


def tokens_of(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:
        totals = totals_of(page.read().decode())
    return next(totals[name] for name in TOKENS if name in totals)


def stretch(url: str, seconds: float, sampled: bool) -> float:
    """Return tokens per second; the collector starts before the stretch and ends after it."""
    with tempfile.TemporaryDirectory() as folder:
        process = collect(Path(folder, "capture"), seconds + 3, "--url", url, "--no-profile") if sampled else None
        time.sleep(2)
        before, began = tokens_of(url), time.monotonic()
        time.sleep(seconds)
        rate = (tokens_of(url) - before) / (time.monotonic() - began)
        if process:
            process.wait()
        else:
            time.sleep(1.5)
    return rate


def served(url: str, pairs: int, seconds: float, clients: int) -> None:
    order = random.Random(0)
    ratios, with_it, without = [], [], []
    with steady_load(url, clients):
        time.sleep(5)
        for _ in range(pairs):
            rates = {}
            for sampled in order.sample([True, False], 2):
                rates[sampled] = stretch(url, seconds, sampled)
            with_it.append(rates[True])
            without.append(rates[False])
            ratios.append(rates[True] / rates[False])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, pairs))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    print("| pairs | s each | tokens/s without | tokens/s with | median ratio | 95 % CI |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    print(
        f"| {pairs} | {seconds:.0f} | {statistics.median(without):.1f} | {statistics.median(with_it):.1f} "
        f"| {statistics.median(ratios):.4f} | {low:.4f} to {high:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a real server; without it the collector's own cost is measured")
    parser.add_argument("--seconds", type=float, help="of the capture (60), or of each stretch (12)")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args()
    if args.url:
        served(args.url, args.pairs, args.seconds or 12.0, args.clients)
    else:
        own_cost(args.seconds or 60.0)


if __name__ == "__main__":
    main()
