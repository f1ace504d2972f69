"""Whatever the lab changes is put back: at the end of a block, when it is killed, and when it takes too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lab import actions
from lab.undo import Undo
from rca.errors import RcaError

ROOT = Path(__file__).parents[1]
CORES = sorted(os.sched_getaffinity(0))

SLEEPER = [sys.executable, "-c", "import time; time.sleep(120)"]
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
child = subprocess.Popen([sys.executable, "-c", ignoring])
print(child.pid, flush=True)
time.sleep(120)
"""
HOLDER = """
import os, sys, time
from pathlib import Path
from lab import actions
from lab.undo import Undo

setting, victim = Path(sys.argv[1]), int(sys.argv[2])
with Undo() as undo, undo.running([sys.executable, "-c", "import time; time.sleep(120)"]) as child:
    with undo.holding(actions.write(setting, "before")), undo.holding(actions.nice(victim)):
        setting.write_text("while")
        os.setpriority(os.PRIO_PROCESS, victim, 19)
        print(child.pid, flush=True)
        time.sleep(120)
"""


def wait_until(condition: Callable[[], bool], why: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEPER)
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_a_block_that_ends_puts_things_back_last_change_first(tmp_path: Path) -> None:
    setting = tmp_path / "setting"
    with Undo() as undo:
        with undo.holding(actions.write(setting, "first")), undo.holding(actions.write(setting, "second")):
            setting.write_text("while")
        assert setting.read_text() == "first"
        assert undo.problems == []


def test_an_exception_puts_things_back_too(tmp_path: Path) -> None:
    setting = tmp_path / "setting"

    def interrupted(undo: Undo) -> None:
        with undo.holding(actions.write(setting, "before")):
            setting.write_text("while")
            raise KeyboardInterrupt

    with Undo() as undo, pytest.raises(KeyboardInterrupt):
        interrupted(undo)
    assert setting.read_text() == "before"


def test_what_cannot_be_undone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, not a file"
    folder.mkdir()
    with Undo() as undo:
        with undo.holding(actions.write(folder, "text")):
            pass
        assert len(undo.problems) == 1
        assert "a folder, not a file" in undo.problems[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_its_watchdog_puts_everything_back(tmp_path: Path, sleeper: psutil.Process, number: int) -> None:
    setting = tmp_path / "setting"
    usual = sleeper.nice()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(setting), str(sleeper.pid)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    assert setting.read_text() == "while"
    assert sleeper.nice() == 19
    holder.send_signal(number)
    holder.wait()
    holder.stdout.close()
    wait_until(lambda: setting.read_text() == "before", "the setting was not written back")
    if os.geteuid() == 0:  # others may not
        wait_until(lambda: sleeper.nice() == usual, "the priority was not given back")
    wait_until(lambda: gone(child), "what it ran still runs")


def test_what_takes_too_long_is_put_back_meanwhile(tmp_path: Path) -> None:
    setting = tmp_path / "setting"
    with Undo() as undo, undo.holding(actions.write(setting, "before"), seconds=0.3):
        setting.write_text("while")
        wait_until(lambda: setting.read_text() == "before", "the deadline passed unnoticed")


def test_a_program_gets_a_deadline_too() -> None:
    with Undo() as undo, undo.running(SLEEPER, seconds=0.5) as process:
        wait_until(lambda: process.poll() is not None, "it runs on")


def test_all_of_a_session_is_ended_also_what_ignores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "_GRACE_SECONDS", 0.5)
    with Undo() as undo, undo.running([sys.executable, "-c", STUBBORN]) as process:
        leader = psutil.Process(process.pid)
        wait_until(lambda: bool(leader.children()), "its child did not start")
        child = leader.children()[0].pid
    assert gone(process.pid)
    assert gone(child)


def test_a_number_that_was_given_to_another_process_is_left_alone(sleeper: psutil.Process) -> None:
    usual = sleeper.nice()
    for action in (actions.kill(sleeper.pid), actions.nice(sleeper.pid) | {"of_thread": {}, "otherwise": 19}):
        assert actions.perform(action | {"started": action["started"] - 6000}) is None
    assert sleeper.is_running()
    assert sleeper.nice() == usual


def test_undoing_twice_or_after_the_end_does_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(SLEEPER, start_new_session=True)
    ended = actions.kill(process.pid)
    process.kill()
    process.wait()
    never = tmp_path / "no" / "such" / "file"
    for action in (ended, ended, actions.write(never, "x"), actions.delete(never), actions.remove_group(never)):
        assert actions.perform(action) is None


@pytest.mark.skipif(len(CORES) < 2, reason="one core only")
def test_affinity_is_given_back_to_every_thread() -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        own = psutil.Process(process.pid)
        wait_until(lambda: own.num_threads() == 2, "its thread did not start")
        pinned = next(thread.id for thread in own.threads() if thread.id != own.pid)
        os.sched_setaffinity(pinned, CORES[-1:])
        with Undo() as undo, undo.holding(actions.affinity(own.pid)):
            actions.perform(actions.affinity(own.pid) | {"of_thread": {}, "otherwise": CORES[:1]})
            assert {tuple(os.sched_getaffinity(thread.id)) for thread in own.threads()} == {tuple(CORES[:1])}
        assert os.sched_getaffinity(own.pid) == set(CORES)
        assert os.sched_getaffinity(pinned) == set(CORES[-1:]), "a thread that was pinned is again"
    finally:
        process.kill()
        process.wait()


def test_the_session_of_a_leader_that_is_gone_is_ended_too() -> None:
    code = f"import subprocess; print(subprocess.Popen({SLEEPER!r}).pid, flush=True)"
    leader = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    action = actions.kill(leader.pid)
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    leader.stdout.close()
    leader.wait()
    assert not gone(child)
    assert actions.perform(action) is None
    wait_until(lambda: gone(child), "it runs on")


def test_nothing_is_changed_without_a_watchdog(tmp_path: Path) -> None:
    with Undo() as undo:
        assert undo._watchdog is not None
        undo._watchdog.kill()
        undo._watchdog.wait()
        with pytest.raises(RcaError, match="watchdog is gone"), undo.holding(actions.write(tmp_path / "x", "y")):
            pytest.fail("the block was entered")


def test_a_program_that_does_not_exist_ends_with_what_the_shell_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Undo() as undo, undo.running(["/no/such/program"], log=log) as process:
        assert process.wait(10) == 127
    assert "/no/such/program" in log.read_text()
