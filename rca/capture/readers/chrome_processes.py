"""Whose work a row of a Chrome trace is: the process that launched it and its rank, also in merged files."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rca.capture.findings import Finding
from rca.capture.tables import KINDS

Array = NDArray[Any]

_RANK_LABEL = re.compile(r"^\[((?:[A-Z]+-?\d+[-_ ]?)+)\]")
"""SGLang's merged files put the rank before each pid: ``[TP01] 8752`` (FORMATS.md §2.1)."""
_NUMBER = re.compile(r"\d+")
_MOSTLY = 0.9
_HOST_KINDS = [KINDS.index(name) for name in ("op", "runtime", "annotation", "python")]
_CALLS = [KINDS.index(name) for name in ("runtime", "driver")]


def ranks_of_rows(pids: list[Any], pid_code: Array, stated: list[Any], stated_code: Array) -> Array | None:
    """Return the rank of each row of a merged file; None for a file of one rank.

    Args:
        pids: distinct pids as the file has them, ``pid_code`` into them one per row.
        stated: distinct ranks that events state in their args (TraceLens' fused files), ``stated_code`` likewise.
    """
    labels = [match.group(1) if (match := _RANK_LABEL.match(str(pid))) else None for pid in pids]
    if any(labels):
        return _by_label(labels)[pid_code]
    ranks = np.array([rank if isinstance(rank, int) and rank >= 0 else -1 for rank in stated], dtype=np.int64)
    of_rows = ranks[stated_code]
    if len(set(ranks) - {-1}) > 1 and (of_rows >= 0).mean() >= _MOSTLY:
        return of_rows
    return None


def _by_label(labels: list[str | None]) -> Array:
    """Return the first number of each label; their order where that does not tell them apart (TP00-DP00, TP00-DP01)."""
    distinct = sorted({label for label in labels if label})
    numbers = [int(_NUMBER.findall(label)[0]) for label in distinct]
    if len(set(numbers)) < len(numbers):
        numbers = list(range(len(distinct)))
    number_of = dict(zip(distinct, numbers, strict=True))
    return np.array([-1 if label is None else number_of[label] for label in labels], dtype=np.int64)


def launching_pid(
    pid: Array,
    kind: Array,
    gpu_without_process: Array,
    rank: Array | None,
    correlation: tuple[Array, Array],
    findings: list[Finding],
) -> Array:
    """Return the pid of each row, for GPU rows that of the process that launched them.

    Kineto writes the device there. Of a merged file, the rows of one rank belong together, or else the launching call's
    correlation tells; ids that several processes used say nothing, and their rows stay with the process that has most.

    Args:
        gpu_without_process: which rows are GPU work whose pid is none.
        rank: of each row, where the file is of several ranks.
        correlation: ids, and which rows have one.
    """
    wanted = gpu_without_process
    result = pid.copy()
    if rank is not None:
        for own in np.unique(rank):
            of_rank = rank == own
            result[wanted & of_rank] = _main_pid(pid[of_rank], kind[of_rank])
        return result
    main_pid = _main_pid(pid, kind)
    result[wanted] = main_pid
    ids, has_id = correlation
    calls = np.isin(kind, _CALLS) & has_id
    if len(np.unique(pid[calls])) > 1:
        launched = wanted & has_id
        result[launched] = _launcher(pid[calls], ids[calls], ids[launched], main_pid, findings)
    return result


def _main_pid(pid: Array, kind: Array) -> int:
    pids, rows = np.unique(pid[np.isin(kind, _HOST_KINDS)], return_counts=True)
    return int(pids[np.argmax(rows)]) if len(pids) else -1


def _launcher(pid: Array, correlation: Array, wanted: Array, main_pid: int, findings: list[Finding]) -> Array:
    pairs = np.unique(np.stack([correlation, pid], axis=1), axis=0)
    ids, first, processes = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    if shared := int((processes > 1).sum()):
        text = f"{shared:,} correlation ids are used by several processes; their GPU work is counted for one of them"
        findings.append(Finding("shared_ids", text))
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    known = (ids[at] == wanted) & (processes[at] == 1)
    return np.where(known, pairs[first[at], 1], main_pid)
