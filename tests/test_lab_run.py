"""A suite from beginning to end, with a stand-in for the engine and real faults; killed, resumed, refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab import serving as serving_of_lab
from lab.case import read_truth
from lab.load import Load, serving
from lab.run import RECORD, Run
from lab.suite import read_suite
from rca.errors import UsageError

ROOT = Path(__file__).parents[1]
BRISK = {"_WARM_SECONDS": 0.3, "_LOOK_SECONDS": 0.5}
"""A stand-in has no first requests that are unlike others, so nobody waits until they are over."""
LAB = [
    sys.executable,
    "-c",
    f"from lab import serving; from rca.cli import main; vars(serving).update({BRISK!r}); main()",
    "lab",
    "run",
]
FAKE = Path(__file__).with_name("fake_engine.py")
SUITE = f"""
aa_pairs = 1
repeats = 1
capture_seconds = 3
steps = 20
settle_seconds = 0.3

[workloads.fake]
engine = "vllm"
output_tokens = 20
concurrency = 2
command = [
    "{sys.executable}", "{FAKE}", "{{port}}", "{{profile_dir}}", "BEHAVIOUR",
    "--profiler-config", '{{"torch_profiler_dir": "{{profile_dir}}"}}',
]
[workloads.fake.changes]
eager = ["--enforce-eager"]

[[faults]]
fault = "cpu_scalar"
severities = [20]
[[faults]]
fault = "more_clients"
severities = [2]
[[faults]]
fault = "software_change"
change = "eager"
[[faults]]
fault = "nvlink_saturation"
severities = [100]
"""


def write(folder: Path, behaviour: str = "fine", more: str = "") -> Path:
    file = folder / "suite.toml"
    file.write_text(more + SUITE.replace("BEHAVIOUR", behaviour))
    return file


def ours() -> list[psutil.Process]:
    """Processes of a lab: engines, hogs, watchdogs."""
    words = {str(FAKE), "lab.hogs", "lab.watchdog"}
    found = psutil.process_iter(["cmdline", "status"])
    return [p for p in found if words.intersection(p.info["cmdline"] or ()) and p.info["status"] != psutil.STATUS_ZOMBIE]


def groups() -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").rglob("rca-lab-*") if path.is_dir()]


def nothing_left() -> bool:
    return not ours() and not groups()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in BRISK.items():
        monkeypatch.setattr(serving_of_lab, name, seconds)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("lab")
    command = [*LAB, str(write(folder)), "-o", str(folder / "cases")]
    return folder / "cases", subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_every_case_is_there_with_its_truth(ran) -> None:
    cases, done = ran
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in cases.iterdir() if path.is_dir())
    assert names == ["fake.aa.r1", "fake.cpu_scalar.20.r1", "fake.more_clients.2.r1", "fake.software_change.eager.1.r1"]
    truths = {name: read_truth(cases / name) for name in names}
    assert {name: truth.cause for name, truth in truths.items()} == {
        "fake.aa.r1": None,
        "fake.cpu_scalar.20.r1": "cpu_contention",
        "fake.more_clients.2.r1": "workload_shift",
        "fake.software_change.eager.1.r1": "software_change",
    }
    for truth in truths.values():
        assert truth.effect.n_normal > 10
        assert 1000 < (truth.effect.normal_us or 0) < 20_000
    more = truths["fake.more_clients.2.r1"].effect
    assert 1.2 < more.n_abnormal / more.n_normal < 3.5, "twice the clients, as the engine has no limit"
    for name in names:
        for side in ("normal", "abnormal"):
            manifest = json.loads((cases / name / side / "capture.json").read_text())
            assert manifest["status"] == "complete"
            assert list((cases / name / side / "traces").glob("*.json.gz"))
    assert json.loads((cases / "fake.software_change.eager.1.r1/abnormal/capture.json").read_text())["engine"]["settings"][
        "enforce_eager"
    ]


def test_what_the_machine_cannot_have_is_said(ran) -> None:
    cases, done = ran
    record = json.loads((cases / RECORD).read_text())
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    assert "no GPU" in record["unavailable"]["fake"]["nvlink_saturation"]
    assert "nvlink_saturation is not available" in done.stderr
    assert "nvlink_saturation" in done.stdout


def test_nothing_is_left_behind(ran) -> None:
    assert nothing_left()


def test_what_is_there_is_not_run_again(ran) -> None:
    cases, _ = ran
    before = {path: path.stat().st_mtime_ns for path in cases.rglob("truth.json")}
    began = time.monotonic()
    done = Run(read_suite(cases.parent / "suite.toml"), cases).run()
    assert time.monotonic() - began < 20
    assert (done.cases, done.left) == (4, 0)
    assert {path: path.stat().st_mtime_ns for path in cases.rglob("truth.json")} == before


def test_the_cases_can_be_scored(ran, rca) -> None:
    cases, _ = ran
    scored = rca("lab", "score", cases)
    assert scored.code == 0, scored.err
    assert "# Scores of 4 cases" in scored.out
    as_json = rca("lab", "score", cases, "--json", "-")
    assert json.loads(as_json.out)["schema"] == "rca.lab.scores/1"


def test_another_suite_in_the_same_folder_is_refused(ran, tmp_path: Path) -> None:
    cases, _ = ran
    with pytest.raises(UsageError, match="another suite"):
        Run(read_suite(write(tmp_path, more="seed = 7\n")), cases).run()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="not empty"):
        Run(read_suite(write(tmp_path)), tmp_path / "full").run()
    with pytest.raises(UsageError, match="no such fault"):
        Run(read_suite(write(tmp_path)), tmp_path / "out", only=frozenset({"gremlins"})).run()


def test_killed_while_a_fault_runs_everything_is_put_back_and_it_goes_on_later(tmp_path: Path) -> None:
    command = [*LAB, str(write(tmp_path)), "-o", str(tmp_path / "cases")]
    command += ["--only", "cpu_scalar"]
    lab = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any("lab.hogs" in process.info["cmdline"] for process in ours()):
        assert time.monotonic() < deadline, "the fault was not injected"
        time.sleep(0.05)
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    deadline = time.monotonic() + 30
    while not nothing_left():
        assert time.monotonic() < deadline, [*ours(), *groups()]
        time.sleep(0.1)
    assert not list((tmp_path / "cases").rglob("truth.json"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert read_truth(tmp_path / "cases" / "fake.cpu_scalar.20.r1").fault == "cpu_scalar"


def test_interrupted_it_ends_cleanly(tmp_path: Path) -> None:
    command = [*LAB, str(write(tmp_path)), "-o", str(tmp_path / "cases")]
    lab = subprocess.Popen([*command, "--only", "cpu_scalar"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any("lab.hogs" in process.info["cmdline"] for process in ours()):
        assert time.monotonic() < deadline, "the fault was not injected"
        time.sleep(0.05)
    lab.send_signal(signal.SIGTERM)
    _, said = lab.communicate(timeout=60)
    assert lab.returncode == 130
    assert "Traceback" not in said
    assert nothing_left()


def test_a_server_that_fails_is_tried_again_and_then_said(tmp_path: Path) -> None:
    command = [*LAB, str(write(tmp_path, "dies")), "-o", str(tmp_path / "cases")]
    done = subprocess.run([*command, "--only", "aa"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4
    assert "(tried again)" in done.stderr
    assert "failed: fake.aa.r1" in done.stdout
    assert nothing_left()


def test_a_workload_that_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RCA_NOT_SET", raising=False)
    file = tmp_path / "suite.toml"
    file.write_text(
        'aa_pairs = 4\n[workloads.a]\nengine = "vllm"\ncommand = ["$RCA_NOT_SET/python"]\n'
        '[workloads.b]\nengine = "sglang"\ncommand = ["/no/such/program"]\n'
        f'[workloads.c]\nengine = "sglang"\ncommand = ["{sys.executable}", "-c", "raise SystemExit(\'no model\')"]\n'
        '[workloads.d]\nengine = "vllm"\nurl = "http://127.0.0.1:9"\n'
    )
    notes: list[str] = []
    done = Run(read_suite(file), tmp_path / "cases", on_note=notes.append).run()
    assert done.cases == 0
    reasons = {name: why["*"] for name, why in done.record.unavailable.items()}
    assert "RCA_NOT_SET is not set" in reasons["a"]
    assert "no such program" in reasons["b"]
    assert "no model" in reasons["c"]
    assert "no server answers" in reasons["d"]
    assert len(notes) == 4


def test_the_time_can_be_up(tmp_path: Path) -> None:
    done = Run(read_suite(write(tmp_path, more="limit_minutes = 0\n")), tmp_path / "cases").run()
    assert done.cases == 0
    assert done.left == 4


@pytest.fixture
def engine(tmp_path: Path):
    """An engine that somebody else started."""
    config = json.dumps({"torch_profiler_dir": str(tmp_path / "traces")})
    command = [sys.executable, str(FAKE), "0", str(tmp_path / "traces"), "fine", "--profiler-config", config]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    yield f"http://127.0.0.1:{port}", process
    process.stdout.close()
    process.kill()
    process.wait()


def test_a_server_of_somebody_else_is_loaded_and_left_as_it_was(engine, tmp_path: Path) -> None:
    url, process = engine
    head = SUITE[: SUITE.index("[workloads.fake]")]
    workload = f'[workloads.theirs]\nengine = "vllm"\nurl = "{url}"\noutput_tokens = 20\n'
    names = ("lower_priority", "fewer_cores", "cpu_quota")
    faults = "".join(f'[[faults]]\nfault = "{name}"\n' for name in names)
    file = tmp_path / "suite.toml"
    file.write_text(head + workload + faults)
    done = Run(read_suite(file), tmp_path / "cases").run()
    assert done.cases == 1, "the pair of undisturbed captures"
    reasons = done.record.unavailable["theirs"]
    assert set(reasons) == set(names)
    assert all(re.search("did not start this server|one core|CAP_SYS_NICE", reason) for reason in reasons.values())
    assert process.poll() is None
    usual = os.sched_getaffinity(process.pid)
    file.write_text(head + workload + f"pid = {process.pid}\n" + '[[faults]]\nfault = "fewer_cores"\n')
    done = Run(read_suite(file), tmp_path / "told", only=frozenset({"fewer_cores"})).run()
    assert done.cases == (1 if len(usual) > 1 else 0)
    assert os.sched_getaffinity(process.pid) == usual


def test_requests_can_come_at_random_times(engine) -> None:
    url, _ = engine
    with serving(url, Load(requests_per_s=40, output_tokens=4)) as clients:
        began = time.monotonic()
        time.sleep(2.5)
        ended = time.monotonic()
    median, n = clients.us_per_token(began, ended)
    assert 50 < n < 160
    assert median is not None
    assert clients.failed == []
