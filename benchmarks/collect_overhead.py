#!/usr/bin/env python3
"""What `rca collect` costs the machine and the server that it records.

    collect_overhead.py [--seconds 60]                                     its own CPU time and memory, 64 threads watched
    collect_overhead.py --url http://127.0.0.1:8000 [--pairs 60]           the served throughput with and without sampling

The first watches a process of 64 threads, half of which wake up a hundred times a second. The second keeps a real server
busy and compares stretches in which ``rca collect --no-profile`` runs with stretches in which it is stopped, in random order
within each pair; tokens are counted by the server itself. Prints markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
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


def stretch(url: str, seconds: float) -> float:
    """Return tokens per second."""
    before, began = tokens_of(url), time.monotonic()
    time.sleep(seconds)
    return (tokens_of(url) - before) / (time.monotonic() - began)


def served(url: str, pairs: int, seconds: float, clients: int) -> None:
    """Let one collector run, and stop it (SIGSTOP) for every other stretch.

    What the load of others does to this machine changes within a minute: the two of a pair must lie close together.
    """
    order = random.Random(0)
    rates: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder, steady_load(url, clients):
        process = collect(Path(folder, "capture"), 3 * pairs * seconds + 60, "--url", url, "--no-profile")
        time.sleep(5)
        for _ in range(pairs):
            for sampled in order.sample([True, False], 2):
                process.send_signal(signal.SIGCONT if sampled else signal.SIGSTOP)
                time.sleep(0.2)
                rates[sampled].append(stretch(url, seconds))
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()
    ratios = np.array(rates[True]) / np.array(rates[False])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, pairs))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    print("| pairs | s each | tokens/s without | tokens/s with | median ratio | 95 % CI |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    print(
        f"| {pairs} | {seconds:.0f} | {statistics.median(rates[False]):.1f} | {statistics.median(rates[True]):.1f} "
        f"| {np.median(ratios):.4f} | {low:.4f} to {high:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a real server; without it the collector's own cost is measured")
    parser.add_argument("--seconds", type=float, help="of the capture (60), or of each stretch (2)")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args()
    if args.url:
        served(args.url, args.pairs, args.seconds or 2.0, args.clients)
    else:
        own_cost(args.seconds or 60.0)


if __name__ == "__main__":
    main()
