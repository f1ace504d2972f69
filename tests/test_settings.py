"""Ranks and settings: within a capture and between two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_captures import capture, event, found

from rca.capture.findings import Finding, Severity
from rca.capture.health import check, compare_settings
from rca.capture.model import Capture


class TestRanksAndSettings:
    def test_missing(self) -> None:
        meta = ({"rank": 0, "world_size": 8}, {"rank": 3, "world_size": 8}, {"host_name": "front"})
        text = found(capture([event("op", "op", 0, 1)], meta=meta))["rank_missing"].text
        assert text.startswith("only ranks 0, 3 of a job of 8")

    def test_complete(self) -> None:
        meta = tuple({"rank": rank, "world_size": 2} for rank in (1, 0))
        assert check(capture([event("op", "op", 0, 1)], meta=meta)) == ()

    @pytest.mark.parametrize("odd", ["8", -1, None, True, 1e9, [8]])
    def test_odd_metadata(self, odd: Any) -> None:
        assert "rank_missing" not in found(capture([event("op", "op", 0, 1)], meta=({"rank": 0, "world_size": odd},)))
        assert check(capture([event("op", "op", 0, 1)], meta=({"rank": odd, "world_size": 1, "gpu_names": odd},))) == ()

    def test_stacks_on_one_rank_only(self) -> None:
        meta = ({"rank": 0, "world_size": 2, "with_stack": True}, {"rank": 1, "world_size": 2})
        text = found(capture([event("op", "op", 0, 1)], meta=meta))["settings_differ"].text
        assert text.startswith("with_stack was on in 1 of 2 traces (rank0.json): ")

    def test_a_front_end_has_switches_of_its_own(self) -> None:
        meta: tuple[dict[str, Any], ...] = ({"rank": 0, "world_size": 1, "record_shapes": True}, {"gpu_names": []})
        assert check(capture([event("op", "op", 0, 1)], meta=meta)) == ()


class TestCompareSettings:
    def side(self, formats: tuple[str, ...] = ("chrome",), **facts: Any) -> Capture:
        return capture([event("op", "op", 0, 1)], meta=({"rank": 0, "gpu_names": ["NVIDIA A100"]} | facts,), formats=formats)

    def test_same(self) -> None:
        assert compare_settings(self.side(with_stack=True), self.side(with_stack=True)) == ()
        assert compare_settings(self.side(with_stack=False), self.side()) == (), "absent is off"

    def test_stacks(self) -> None:
        (finding,) = compare_settings(self.side(), self.side(with_stack=True))
        assert finding.text == (
            "with_stack was off in the normal capture and on in the abnormal one: "
            "recording Python stacks slows host code by much: compare GPU times, not host times"
        )
        assert (finding.code, finding.severity, finding.file) == ("settings_differ", Severity.WARNING, "")

    def test_shapes_are_worth_knowing(self) -> None:
        (finding,) = compare_settings(self.side(record_shapes=True), self.side())
        assert finding.severity is Severity.INFO

    def test_versions_and_devices(self) -> None:
        normal = self.side(cuda_driver_version=12040, cupti_version=24, vllm_version="0.33.0", mast_job_version="1")
        abnormal = self.side(cuda_driver_version=13000, cupti_version=28, gpu_names=["NVIDIA H100"], mast_job_version="2")
        texts = [finding.text.split(":")[0] for finding in compare_settings(normal, abnormal)]
        assert texts == [
            "the GPU is NVIDIA A100 in the normal capture and NVIDIA H100 in the abnormal one",
            "cuda_driver_version is 12040 in the normal capture and 13000 in the abnormal one",
            "cupti_version is 24 in the normal capture and 28 in the abnormal one",
        ]

    def test_formats(self) -> None:
        (finding,) = compare_settings(self.side(), replace(self.side(("nsys-sqlite",)), meta=({},)))
        assert finding.text.startswith(
            "the recording format is chrome in the normal capture and nsys-sqlite in the abnormal"
        )

    def test_graph_level(self) -> None:
        told = replace(self.side(), findings=(Finding("graph_level", "…"),))
        (finding,) = compare_settings(self.side(), told)
        assert finding.text.startswith("CUDA graphs were traced as a whole in the abnormal capture only")
        assert compare_settings(told, told) == ()
        (finding,) = compare_settings(self.side(cuda_graph_trace="graph"), self.side(cuda_graph_trace="node"))
        assert finding.text.startswith("cuda_graph_trace is graph in the normal capture and node in the abnormal one")

    def test_captures_without_events(self) -> None:
        assert compare_settings(capture([], meta=()), self.side(with_stack=True)) == ()
