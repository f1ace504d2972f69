"""Agents of ROCm, CPUs and GPUs in one list, as GPU numbers."""

from __future__ import annotations

import polars as pl

from rca.capture.readers.nsys_store import categorical
from rca.capture.tables import HOST


class Agents:
    """Which agents of a recording are GPUs.

    The files of 2024 name an agent by its node (``4``), later ones by ``Agent <logical node>``, or with
    ``--agent-index=type-relative`` by ``GPU <n>``. GPU n is the n-th GPU in order of the nodes; where ``agent_info`` is
    missing, the number of the agent stands for it.

    Args:
        table: rows of ``agent_info``: ``node``, ``type``, and if known ``logical`` and ``product``.
    """

    def __init__(self, table: pl.DataFrame | None) -> None:
        self.gpu_names: list[str] = []
        self._by_node: dict[int, int] = {}
        self._by_logical: dict[int, int] = {}
        if table is None:
            return
        gpus = table.filter((pl.col("type") == "GPU") & pl.col("node").is_not_null())
        gpus = gpus.unique("node", keep="first").sort("node")
        self._by_node = {node: index for index, node in enumerate(gpus["node"])}
        if "logical" in gpus.columns:
            self._by_logical = {node: index for index, node in enumerate(gpus["logical"]) if node is not None}
        if "product" in gpus.columns:
            self.gpu_names = sorted({name for name in gpus["product"] if name})

    def devices(self, agents: pl.Series) -> pl.Series:
        """Return the devices of agents as categories; ``Host`` for what names none."""
        return categorical(agents, lambda distinct: pl.Series([self._device(text) for text in distinct], dtype=pl.String))

    def _device(self, text: str | None) -> str:
        kind, _, number = (text or "").strip().rpartition(" ")
        if not (number.isascii() and number.isdecimal() and len(number) < 19) or kind == "CPU":
            return HOST
        node = int(number)
        if kind == "GPU":
            return f"GPU {node}"
        orders = (self._by_logical, self._by_node) if kind else (self._by_node, self._by_logical)
        return f"GPU {next((order[node] for order in orders if node in order), node)}"
