"""The cache of reduced captures: the same result without reading a trace, and never a reason to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from traces import decode_trace, write_counters, write_pair, write_trace

from rca import cache as rca_cache
from rca import side as rca_side
from rca.api import compare
from rca.capture.load import no_progress
from rca.cycles import anchor_named
from rca.side import Side
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


def warnings_of(pair: tuple[Path, Path], cached: bool = True) -> set[str]:
    return set(compare(*pair, cached=cached).warnings)


def test_files_that_are_not_read_are_named_all_the_same(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pair = write_pair(tmp_path)
    before = warnings_of(pair)
    request.getfixturevalue("no_reading")
    (pair[1] / "notes.txt").write_text("hello")
    assert {"abnormal: notes.txt: no format that is known; skipped"} == warnings_of(pair) - before
    (pair[1] / "notes.txt").unlink()
    assert warnings_of(pair) == before


def test_a_tool_that_was_not_there_before_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path)
    (pair[1] / "run.nsys-rep").write_bytes(b"\0\1binary")
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert any("not read; convert it" in text for text in warnings_of(pair))
    (tools / "nsys").write_text("#!/bin/sh\nexit 3\n")
    (tools / "nsys").chmod(0o755)
    assert any("nsys export failed with code 3" in text for text in warnings_of(pair))


@pytest.mark.parametrize("depth", [0, 1])
def test_a_link_leads_nowhere(tmp_path: Path, depth: int) -> None:
    """Whoever made the capture may have left a link: nothing behind it is written or deleted."""
    pair = write_pair(tmp_path)
    compare(*pair)
    place = pair[0] / ".rca-cache"
    if depth:
        (place,) = place.iterdir()
    target = tmp_path / "target"
    place.rename(target)
    place.symlink_to(target)
    for i in range(12):
        (target / f"{i:032x}").mkdir()
    for entry in target.glob("*/facts.json"):
        entry.write_bytes(b"")
    before = sorted(target.rglob("*"))
    assert compare(*pair, cycle="execute").verdict.status == "no_difference"
    assert sorted(target.rglob("*")) == before


def test_only_entries_are_deleted(tmp_path: Path) -> None:
    normal, abnormal = write_pair(tmp_path)
    root = abnormal / ".rca-cache"
    other = tmp_path / "other"
    other.mkdir()
    for i in range(12):
        (root / f"thesis{i}").mkdir(parents=True)
    (root / ("a" * 32)).symlink_to(other)
    (root / ("b" * 32)).write_text("a file")
    for seed in range(10):
        write_trace(abnormal / "rank0.json", decode_trace(6, seed=seed))
        compare(normal, abnormal)
    left = [entry.name for entry in root.iterdir()]
    assert sum(name.startswith("thesis") for name in left) == 12
    assert {"a" * 32, "b" * 32} < set(left)
    assert len(left) == 12 + 2 + 8


def test_a_stored_pattern_that_is_none(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    first = machine.comparison_json(compare(*pair, cycle="execute"))
    stored = [file for file in kept(pair[0]) if file.name.startswith("choice-")]
    for folder in stored:
        facts = folder / "facts.json"
        facts.write_text(
            json.dumps({side: anchor | {"pattern": "("} for side, anchor in json.loads(facts.read_text()).items()})
        )
    assert stored
    assert machine.comparison_json(compare(*pair, cycle="execute")) == first


def test_a_table_that_ends_polars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds")

    pair = write_pair(tmp_path)
    first = machine.comparison_json(compare(*pair))
    monkeypatch.setattr(rca_cache.pl, "read_ipc", panic)
    assert machine.comparison_json(compare(*pair)) == first


@pytest.mark.parametrize(("name", "value"), [("FORMAT", 1_000), ("__version__", "1000.0")])
def test_another_version_remembers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    pair = write_pair(tmp_path)
    compare(*pair)
    assert Side(pair[0], no_progress, cached=True).cache.summary()
    monkeypatch.setattr(rca_cache, name, value)
    assert Side(pair[0], no_progress, cached=True).cache.summary() is None


def test_what_entries_depend_on(tmp_path: Path) -> None:
    normal, abnormal = (Side(path, no_progress, cached=True) for path in write_pair(tmp_path))
    frame = anchor_named("step[…]")
    cache = normal.cache
    cache.keep_profiles(frame, 8, [])
    cache.keep_choice(abnormal.listing, "a", {"normal": frame})
    assert cache.profiles(frame, 8) == []
    assert cache.profiles(frame, 4) is None
    assert cache.profiles(None, 8) is None
    assert cache.choice(abnormal.listing, "a") == {"normal": frame}
    assert cache.choice(abnormal.listing, None) is None
    assert cache.choice(normal.listing, "a") is None


WRITER = """
import sys
from pathlib import Path
from rca.api import compare
from rca.capture.load import no_progress
from rca.side import Side
from reports import machine

normal, abnormal, go = map(Path, sys.argv[1:])
print(flush=True)
while not go.exists():
    pass
cache = Side(normal, no_progress, cached=True).cache
for cores in range(200):
    cache.keep_profiles(None, cores, [])
    assert cache.profiles(None, cores) == []
print(machine.comparison_json(compare(normal, abnormal)))
"""


def test_two_at_once(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, slow=1.3)
    command = [sys.executable, "-c", WRITER, *map(str, pair), str(tmp_path / "go")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for _ in range(2)]
    for process in both:
        assert process.stdout
        process.stdout.readline()
    (tmp_path / "go").touch()
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    expected = str(machine.comparison_json(compare(*pair, cached=False)))
    assert [out.strip() for out, _ in results] == [expected.strip()] * 2
    names = [entry.name for folder in pair for entry in kept(folder)]
    assert len(names) == 200 + 5, "a choice, two summaries, two times profiles; nothing half-written"
    assert all(name.startswith(("choice-", "summary", "profiles-")) for name in names)
