"""Suites: what is wrong with one is one line; the cases of one are the same each time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lab.faults import FAULTS
from lab.suite import filled_in, plan, read_suite
from rca.errors import InputError

COMPARISON_SCHEMA = Path(__file__).parents[1] / "reports" / "schema" / "comparison-1.schema.json"
SUITE = """
aa_pairs = 3
repeats = 2

[workloads.one]
engine = "vllm"
url = "http://127.0.0.1:1"

[workloads.two]
engine = "loop"
[workloads.two.changes]
copies = ["--copies", "{severity}"]

[[faults]]
fault = "cpu_scalar"
severities = [25, 50]

[[faults]]
fault = "software_change"
change = "copies"
severities = [1, 16]
workloads = ["two"]
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "suite.toml"
    file.write_text(text)
    return file


def test_a_suite_becomes_cases(tmp_path: Path) -> None:
    cases = plan(read_suite(write(tmp_path, SUITE)))
    names = [case.name for case in cases]
    assert len(names) == len(set(names)) == 3 + 2 * 2 * 2 + 2 * 2
    assert {"one.aa.r1", "one.aa.r2", "two.aa.r1", "one.cpu_scalar.25.r2", "two.software_change.copies.16.r1"} <= set(names)
    assert [case.workload for case in cases] == sorted(case.workload for case in cases), "a workload's cases stay together"
    assert next(c for c in cases if c.name == "two.software_change.copies.16.r2").arguments == ("--copies", "16")


def test_the_order_is_random_and_the_same_each_time(tmp_path: Path) -> None:
    suite = read_suite(write(tmp_path, SUITE.replace("repeats = 2", "repeats = 20")))
    cases = plan(suite)
    assert plan(suite) == cases
    own = [case.name for case in cases if case.workload == "one"]
    assert own != sorted(own)
    sides = Counter(case.abnormal_first for case in cases)
    assert min(sides.values()) > len(cases) / 4, "either side is recorded first about as often"
    assert plan(read_suite(write(tmp_path, "seed = 2\n" + SUITE.replace("repeats = 2", "repeats = 20")))) != cases


def test_cases_that_need_another_server_come_last_with_alternate_sides_first(tmp_path: Path) -> None:
    own = [case for case in plan(read_suite(write(tmp_path, SUITE))) if case.workload == "two"]
    changing = [case.fault is not None and case.fault.change for case in own]
    assert changing == sorted(changing)
    assert [case.abnormal_first for case in own if case.arguments] == [False, True, False, True]


@pytest.mark.parametrize("name", ["cpu", "smoke", "gpu"])
def test_the_suites_that_come_along_can_be_read(name: str) -> None:
    assert plan(read_suite(Path(name)))


def test_the_default_suite_is_as_large_as_promised() -> None:
    cases = plan(read_suite(Path("cpu")))
    cells = Counter((case.fault.name, case.change, case.severity) for case in cases if case.fault)
    three = Counter((name, change) for (name, change, _), repeats in cells.items() if repeats >= 3)
    assert sum(severities >= 3 for severities in three.values()) >= 8
    assert sum(case.fault is None for case in cases) >= 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[faults]\n", "is no suite"),
        ("", "workloads"),
        ("[workloads]\n", "names no workload"),
        ('[workloads.a]\nengine = "tgi"\n', "engine"),
        ('[workloads.a]\nengine = "vllm"\n', "needs a command"),
        ('[workloads.a]\nengine = "vllm"\ncommand = ["x"]\nurl = "http://h"\n', "needs a command"),
        ('[workloads."a/b"]\nengine = "loop"\n', "letters"),
        ('[workloads.a]\nengine = "loop"\nconcurency = 2\n', "concurency"),
        ('[workloads.a]\nengine = "loop"\nconcurrency = 0\n', "at least 1"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "gremlins"\n', "rca lab list"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "disk_io"\nworkloads = ["b"]\n', "no workload 'b'"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "software_change"\nchange = "x"\n', "no change 'x'"),
        ('repeats = 0\n[workloads.a]\nengine = "loop"\n', "at least 1"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "cpu_quota"\nseverities = [0]\n', "from 1 to 1000"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "disk_io"\nchange = "x"\n', "has no change"),
        ('[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "disk_io"\nrepeats = 0\n', "at least 1"),
        ('[workloads.a]\nengine = "loop"\nrequests_per_s = 0.0\n', "more than 0"),
        ('settle_seconds = -1\n[workloads.a]\nengine = "loop"\n', "from 0 to 60"),
        (
            '[workloads.a]\nengine = "loop"\n[[faults]]\nfault = "disk_io"\n[[faults]]\nfault = "disk_io"\n',
            "is planned twice",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_suite(write(tmp_path, text))
    assert said in str(error.value)
    assert str(tmp_path / "suite.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_suite_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="suites that come along: cpu, gpu, smoke"):
        read_suite(tmp_path / "none.toml")


def test_commands_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCA_HERE", "/venv")
    monkeypatch.delenv("RCA_NOT_HERE", raising=False)
    words = ["$RCA_HERE/bin/python", "--port", "{port}", '{"folder": "{profile_dir}"}']
    assert filled_in(words, {"port": "1", "profile_dir": "/p"}) == ["/venv/bin/python", "--port", "1", '{"folder": "/p"}']
    with pytest.raises(KeyError, match="RCA_NOT_HERE"):
        filled_in(["${RCA_NOT_HERE}/x"], {})


def test_every_fault_has_a_cause_of_the_catalogue() -> None:
    schema = json.loads(COMPARISON_SCHEMA.read_text())
    catalogue = set(schema["properties"]["verdict"]["properties"]["causes"]["items"]["properties"]["id"]["enum"])
    assert {fault.cause for fault in FAULTS.values()} <= catalogue
    assert all(fault.severities for fault in FAULTS.values())
