"""What model runs come to, as CSV and JSON. Computes no statistic."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import polars as pl

from rca.bench import BenchComparison, BenchRun, Measured, OperatorLedger, RunRecord, Summary, operators_by_time, summaries
from rca.verdict import Cause
from rca.version import BENCH_COMPARISON_SCHEMA, BENCH_SCHEMA, __version__
from reports.document import json, separated


def bench_csv(run: BenchRun) -> str:
    """Return the timed runs, one a row."""
    headers = (
        *("configuration", "prompt_tokens", "new_tokens", "run", "of", "latency_s", "latency_rounding_s"),
        *("tokens", "throughput_tokens_per_s", "peak_memory", "peak_memory_unit"),
    )
    rows = [
        (
            *(record.configuration.name, record.configuration.prompt_tokens, record.configuration.new_tokens),
            *(record.run, record.of, record.latency_s.value, record.latency_s.error, record.tokens),
            *(_value(record.throughput), _value(record.memory), record.memory_unit),
        )
        for record in run.records
    ]
    return separated(headers, rows)


def comparison_csv(found: BenchComparison) -> str:
    """Return latencies (seconds, n) and operators (µs, calls), one a row."""
    headers = (
        *("part", "name", "unit", "normal", "abnormal", "change", "rounding"),
        *("ratio", "ratio_low", "ratio_high", "q", "n_normal", "n_abnormal", "why"),
    )
    rows: list[tuple[Any, ...]] = [
        (
            *("latency", row.normal.configuration.title, "s", row.normal.mean_s, row.abnormal.mean_s),
            *(row.abnormal.mean_s - row.normal.mean_s, row.rounding * row.normal.mean_s, row.ratio.estimate),
            *(_or_none(row.ratio.low), _or_none(row.ratio.high), row.q, row.normal.n, row.abnormal.n, ""),
        )
        for row in found.latency.rows
    ]
    for ledger in filter(None, (found.device, found.host)):
        rows += [
            (
                *(ledger.time, entry.name, "us", entry.normal_us, entry.abnormal_us, entry.change_us),
                *(entry.error_us, None, None, None, None, entry.normal_calls, entry.abnormal_calls, entry.why),
            )
            for entry in ledger.entries
        ]
    return separated(headers, rows)


def bench_json(run: BenchRun) -> str:
    """Return one model run as JSON, schema ``rca.bench/1``."""
    return json({"schema": BENCH_SCHEMA, **_run_json(run), "operators": _operators_json(run), "version": __version__})


def comparison_json(found: BenchComparison) -> str:
    """Return the comparison as JSON, schema ``rca.bench-comparison/1``."""
    verdict = found.verdict
    return json(
        {
            "schema": BENCH_COMPARISON_SCHEMA,
            "verdict": {
                "status": verdict.status,
                "by": verdict.by,
                "headline": verdict.headline,
                "work": verdict.work,
                "trust": verdict.trust,
                "latency": _overall_json(found),
                "causes": [_cause_json(cause) for cause in verdict.causes],
            },
            "latency": [
                {
                    "configuration": _configuration_json(row.normal),
                    "normal": _summary_json(row.normal),
                    "abnormal": _summary_json(row.abnormal),
                    "ratio": row.ratio.estimate,
                    "ci95": [row.ratio.low, row.ratio.high],
                    "p_value": row.p,
                    "q": row.q,
                    "rounding": row.rounding,
                }
                for row in found.latency.rows
            ],
            "device": _ledger_json(found.device),
            "host": _ledger_json(found.host),
            "work": asdict(found.work),
            "differences": [asdict(difference) for difference in found.differences],
            "normal": _run_json(found.normal),
            "abnormal": _run_json(found.abnormal),
            "warnings": list(found.warnings),
            "version": __version__,
        }
    )


def _overall_json(found: BenchComparison) -> dict[str, Any] | None:
    seen = found.latency
    if seen.overall is None:
        return None
    return {
        "ratio": seen.overall.estimate,
        "ci95": [seen.overall.low, seen.overall.high],
        "p_value": seen.p,
        "n": list(seen.n),
        "effective_n": list(seen.effective),
    }


def _cause_json(cause: Cause) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(cause).items()}


def _ledger_json(ledger: OperatorLedger | None) -> dict[str, Any] | None:
    if ledger is None:
        return None
    names = ("time", "rows", "normal_us", "abnormal_us", "change_us", "error_us", "stated")
    residual = ("residual_normal_us", "residual_abnormal_us", "residual_us", "by_calls_us")
    return {
        **{name: getattr(ledger, name) for name in (*names, *residual)},
        "entries": [{**asdict(entry), "change_us": entry.change_us} for entry in ledger.entries],
    }


def _configuration_json(row: Summary) -> dict[str, Any]:
    return asdict(row.configuration)


def _summary_json(row: Summary) -> dict[str, Any]:
    return {
        "n": row.n,
        "mean_s": row.mean_s,
        "ci95_s": list(row.ci_s) if row.ci_s else None,
        "throughput": row.throughput,
        "peak_memory": row.memory,
        "peak_memory_unit": row.memory_unit,
    }


def _run_json(run: BenchRun) -> dict[str, Any]:
    return {
        "source": run.source,
        "label": run.label,
        "quantised": run.quantised,
        "rounded": run.is_text,
        "memory_of": run.memory_of,
        "environment": run.environment,
        "runs": [_record_json(record) for record in run.records],
        "summary": [{"configuration": _configuration_json(row), **_summary_json(row)} for row in summaries(run.records)],
        "warnings": list(run.warnings),
    }


def _record_json(record: RunRecord) -> dict[str, Any]:
    return {
        "prompt_tokens": record.configuration.prompt_tokens,
        "new_tokens": record.configuration.new_tokens,
        "run": record.run,
        "of": record.of,
        "latency_s": record.latency_s.value,
        "latency_rounding_s": record.latency_s.error,
        "tokens": record.tokens,
        "throughput": _value(record.throughput),
        "peak_memory": _value(record.memory),
        "peak_memory_unit": record.memory_unit,
    }


def _operators_json(run: BenchRun) -> dict[str, Any] | None:
    if run.table is None:
        return None
    time, rows = operators_by_time(run.table)
    totals = {"self_cpu": run.table.self_cpu, "self_device": run.table.self_device}
    return {
        "device": run.table.device,
        "by": time,
        **{f"{name}_us": figure.us if figure else None for name, figure in totals.items()},
        "rows": rows.select(pl.exclude("share")).to_dicts(),
    }


def _value(figure: Measured | None) -> float | None:
    return figure.value if figure else None


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
