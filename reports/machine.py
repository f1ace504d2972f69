"""The JSON report, schema ``rca.comparison/1`` (``reports/schema/comparison-1.schema.json``)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from rca.api import Comparison
from rca.capture import Capture
from rca.comparison import RankComparison
from rca.verdict import Ledger, reliability
from rca.version import COMPARISON_SCHEMA, __version__
from reports import document


def comparison_json(result: Comparison) -> str:
    """Return the comparison as indented JSON with a newline at its end; numbers that do not exist are null."""
    return document.json(as_dict(result))


def as_dict(result: Comparison) -> dict[str, Any]:
    """Return the comparison as plain dicts and lists."""
    leading = next((rank for rank in result.ranks if rank.role == result.verdict.role), None)
    verdict = result.verdict
    return {
        "schema": COMPARISON_SCHEMA,
        "verdict": {
            "status": verdict.status,
            "headline": verdict.headline,
            "trust": verdict.trust,
            "work": verdict.work,
            "rank": verdict.role,
            "cycle_time": _cycle_time(leading) if leading else _NO_CYCLES,
            "causes": [asdict(cause) for cause in verdict.causes],
            "not_measured": list(verdict.not_measured),
        },
        "comparability": _comparability(leading) if leading else _NOT_CUT,
        "ledger": _ledger(verdict.ledger) if verdict.ledger else [],
        "calibration": {
            "aa_false_alarm": leading.calibration.false_alarm if leading else None,
            "aa_splits": leading.calibration.splits if leading else 0,
            "noise_floor": leading.calibration.noise_floor if leading else None,
            "any_difference_p": leading.any_difference_p if leading else None,
            "drift": verdict.drift,
            "confidence": reliability.source(),
        },
        "diagnosis": [asdict(one) for one in verdict.judgements],
        "signals": [asdict(one) | {"moved": one.moved} for one in verdict.observations],
        "ranks": [_rank(rank) for rank in result.ranks],
        "functions": [row for rank in result.ranks for row in _functions(rank)],
        "metrics": [{"rank": rank.role, **row} for rank in result.ranks for row in rank.metrics.to_dicts()],
        "places": [asdict(place) for place in result.places],
        "captures": [_capture("normal", result.normal), _capture("abnormal", result.abnormal)],
        "warnings": list(result.warnings),
        "versions": {"rca": __version__},
    }


_NO_CYCLES: dict[str, Any] = {
    **dict.fromkeys(("normal_us", "abnormal_us", "ratio", "p_value")),
    "ci95": [None, None],
    "n": [0, 0],
    "effective_n": [0.0, 0.0],
}
_NOT_CUT: dict[str, Any] = {
    "ok": False,
    "reasons": ["there are no cycles on both sides"],
    "notes": [],
    "stratum": "",
    "anchors": {side: {"name": "", "cycles": 0, "coverage": None} for side in ("normal", "abnormal")},
    "work": {"counted": "", "normal_per_cycle": None, "abnormal_per_cycle": None, "phases": [], "explains": None},
}


def _comparability(rank: RankComparison) -> dict[str, Any]:
    work = rank.workload
    return {
        "ok": rank.gate.ok,
        "reasons": list(rank.gate.reasons),
        "notes": list(rank.gate.notes),
        "stratum": rank.gate.stratum,
        "anchors": {"normal": _anchor(rank, "normal"), "abnormal": _anchor(rank, "abnormal")},
        "work": rank.gate.facts | {"phases": rank.phases.to_dicts(), "explains": asdict(work) if work else None},
    }


def _ledger(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the parts, the residual last, so that the changes sum to that of the mean cycle time."""
    method = "timeline" if ledger.timeline else "summed durations"
    parts = [asdict(entry) for entry in ledger.entries]
    empty = dict.fromkeys(("normal_us", "abnormal_us", "low_us", "high_us"))
    residual = {"part": "residual", "text": "what the parts do not account for", "change_us": ledger.residual_us}
    return [part | {"delta_us": part.pop("change_us"), "method": method} for part in (*parts, empty | residual)]


def _cycle_time(rank: RankComparison) -> dict[str, Any]:
    time = rank.cycle_time
    return {
        "normal_us": time.normal_us,
        "abnormal_us": time.abnormal_us,
        "ratio": time.ratio.estimate if time.ratio else None,
        "ci95": [time.ratio.low, time.ratio.high] if time.ratio else [None, None],
        "p_value": time.p_value,
        "n": [time.n_normal, time.n_abnormal],
        "effective_n": [time.effective_normal, time.effective_abnormal],
    }


def _anchor(rank: RankComparison, side: str) -> dict[str, Any]:
    own = rank.normal if side == "normal" else rank.abnormal
    return {"name": own.anchor, "cycles": own.cycles.height, "coverage": own.coverage}


def _rank(rank: RankComparison) -> dict[str, Any]:
    return {
        "rank": rank.role,
        "pids": [rank.normal.pid, rank.abnormal.pid],
        "comparable": rank.gate.ok,
        "reasons": list(rank.gate.reasons),
        "cycle_time": _cycle_time(rank),
        "any_difference_p": rank.any_difference_p,
    }


def _functions(rank: RankComparison) -> list[dict[str, Any]]:
    best = rank.rows.group_by("function", "device").agg(
        pl.col("suspicion").max(), pl.col("beta_normal").first(), pl.col("beta_abnormal").first()
    )
    table = rank.functions.join(best, on=["function", "device"], how="left", maintain_order="left")
    return [{"rank": rank.role, **row} for row in table.to_dicts()]


def _capture(side: str, capture: Capture) -> dict[str, Any]:
    return {
        "side": side,
        "path": str(capture.path).encode(errors="replace").decode(),
        "files": [asdict(file) | {"facts": meta} for file, meta in zip(capture.files, capture.meta, strict=True)],
        "notes": [str(finding) for finding in capture.findings],
    }
