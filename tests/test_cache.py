"""The cache of reduced captures: the same result without reading a trace, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from traces import decode_trace, write_counters, write_pair, write_trace

from rca import side as rca_side
from rca.api import compare
from reports import machine


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RCA_NO_CACHE")


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a trace was read")

    monkeypatch.setattr(rca_side, "read", refuse)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / ".rca-cache").glob("*/*"))


@pytest.mark.parametrize("anchor", ["execute_context_0(0)_generation_4(4)", "nothing that recurs by name"])
def test_the_second_comparison_reads_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, anchor: str
) -> None:
    pair = write_pair(tmp_path, slow=1.3, anchor=anchor)
    write_counters(pair[0] / "counters.csv", {"host_cpu_usage": 50.0})
    first = machine.comparison_json(compare(*pair))
    request.getfixturevalue("no_reading")
    assert machine.comparison_json(compare(*pair)) == first


def test_a_baseline_is_read_once_for_many_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normal, abnormal = write_pair(tmp_path)
    compare(normal, abnormal)
    other = tmp_path / "other"
    other.mkdir()
    write_trace(other / "rank0.json", decode_trace(12, slow=1.5, seed=9))
    read = []
    real = rca_side.read
    monkeypatch.setattr(rca_side, "read", lambda listing, *rest: read.append(listing.path) or real(listing, *rest))
    assert compare(normal, other).verdict.status == "slower"
    assert read == [other]


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    assert compare(normal, abnormal).verdict.status == "no_difference"
    write_trace(abnormal / "rank0.json", decode_trace(12, slow=1.5, seed=9))
    assert compare(normal, abnormal).verdict.status == "slower"


def test_without_cache_nothing_is_written(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    compare(*pair, cached=False)
    assert not any((folder / ".rca-cache").exists() for folder in pair)


@pytest.mark.parametrize("damage", [b"", b"{", b"ARROW1 and then nothing", b"[]", b"null"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    pair = write_pair(tmp_path, slow=1.3)
    first = machine.comparison_json(compare(*pair))
    for folder in pair:
        for entry in kept(folder):
            for file in entry.iterdir():
                file.write_bytes(damage)
    assert machine.comparison_json(compare(*pair)) == first


def test_a_folder_that_cannot_be_written_to_is_no_problem(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    (pair[0] / ".rca-cache").write_text("a file where the folder should be")
    assert compare(*pair).verdict.status == "no_difference"


def test_old_entries_go(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    for seed in range(12):
        write_trace(abnormal / "rank0.json", decode_trace(6, seed=seed))
        compare(normal, abnormal)
    assert len(list((abnormal / ".rca-cache").iterdir())) == 8
