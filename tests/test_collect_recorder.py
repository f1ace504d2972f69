"""What becomes of samples: threads at their rates, journals on disks that fill up, the clock, and the capture's folder."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest
from traces import read_with

from collectors import clocks, journal
from collectors.clocks import CaptureClock, read_clocks
from collectors.folder import CaptureFolder
from collectors.journal import Journal
from collectors.recorder import MAX_SHARE, Lane, Recorder, Task
from collectors.sampling import FIELDS, Sample, sample
from rca.capture import manifest as manifests
from rca.capture.manifest import SCHEMA, Clocks, Event, Manifest
from rca.capture.metrics import HOST, METRICS
from rca.capture.readers import counters
from rca.errors import OutputError

AT = 1_790_857_026_000_000_000


class Notes(list[tuple[str, str]]):
    def __call__(self, kind: str, text: str) -> None:
        self.append((kind, text))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


class Fake:
    """A sampler that does what it is told in every call; its samples are the calls' numbers."""

    def __init__(self, name: str = "fake", hz: float = 20, act: Callable[[int], None] = lambda call: None) -> None:
        self.name, self.hz, self.act = name, hz, act
        self.unavailable: dict[str, str] = {}
        self.calls: list[float] = []
        self.closed = 0

    def sample(self, now_ns: int) -> list[Sample]:
        self.calls.append(time.monotonic())
        self.act(len(self.calls))
        return [sample(now_ns, "host_procs_running", len(self.calls))]

    def close(self) -> None:
        self.closed += 1


def patiently(folder: Path, check: Callable[[Path], None], attempts: int = 6) -> None:
    """Measure and check again where that fails: other jobs may take all of this machine for a second or two."""
    for attempt in range(1, attempts):
        with contextlib.suppress(AssertionError):
            return check(new_folder(folder / str(attempt)))
    return check(new_folder(folder / "last"))


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def run(folder: Path, seconds: float, *samplers: Fake, notes: Notes | None = None) -> Recorder:
    with Recorder(samplers, folder, CaptureClock(), notes if notes is not None else Notes()) as recorder:
        time.sleep(seconds)
    return recorder


def stall(call: int, seconds: float) -> Callable[[int], None]:
    return lambda number: time.sleep(seconds if number == call else 0)


def spin(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def table(path: Path) -> pl.DataFrame:
    return read_with(counters, path).counters.with_columns(pl.col("metric", "device", "unit").cast(pl.String))


def rows(count: int, first: int = 0) -> list[Sample]:
    return [sample(AT + i, "host_procs_running", i) for i in range(first, first + count)]


class TestJournal:
    def test_every_metric_is_read_back_as_it_was_written(self, tmp_path: Path) -> None:
        book = Journal(tmp_path, "all", Notes())
        written = [sample(AT + i, metric, 1234.5 + i, pid=i or None) for i, metric in enumerate(METRICS)]
        book.add(written[:10])
        book.flush()
        book.add(written[10:])
        book.close()
        read = table(book.path).select("ts_ns", "metric", "device", "value", "unit", "pid").rows()
        assert sorted(read) == sorted(tuple(one) for one in written)
        assert book.path.read_text().splitlines()[0].split(",") == list(FIELDS)
        assert (book.samples, book.lost) == (len(METRICS), 0)
        assert stat.S_IMODE(book.path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "device", ["threads a,b", 'threads "q"', 'threads ",', "threads a\nb", "threads a\r", "net eth0", "threads é", ","]
    )
    def test_names_of_devices_survive(self, tmp_path: Path, device: str) -> None:
        book = Journal(tmp_path, "x", Notes())
        book.add([sample(AT, "thread_cpu_usage", 1.0, device, 7), sample(AT, "thread_cpu_usage", 2.0, HOST, 8)])
        book.close()
        assert table(book.path).select("device", "value", "pid").rows() == [(device.strip(), 1.0, 7), (HOST, 2.0, 8)]

    def test_a_name_that_is_no_text_is_written_nevertheless(self, tmp_path: Path) -> None:
        book = Journal(tmp_path, "x", Notes())
        book.add([sample(AT, "thread_cpu_usage", 1.0, "threads \udcff")])
        book.close()
        assert table(book.path)["device"].to_list() == ["threads ?"]

    def test_without_samples_there_is_no_file(self, tmp_path: Path) -> None:
        book = Journal(tmp_path, "x", Notes())
        book.add([])
        book.flush()
        book.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_waited_for(self, tiny_disk: Callable[[str], Path]) -> None:
        notes, disk = Notes(), tiny_disk("64k")
        book = Journal(disk, "x", notes)
        book.add(rows(10))
        book.flush()
        filler = fill(disk)
        for first in range(10, 1010, 100):
            book.add(rows(100, first))
        book.flush()
        written = book.path.stat().st_size
        assert written % os.sysconf("SC_PAGE_SIZE") == 0, "the last page was filled, most likely within a line"
        book.add(rows(10, 1010))
        book.flush()
        assert notes == [("disk_full", "x.csv cannot be written: No space left on device; its samples wait in memory")], (
            "it is noted once"
        )
        assert book.path.stat().st_size == written
        filler.unlink()
        book.flush()
        assert notes[1:] == [("disk_full", "x.csv can be written again; 0 samples were lost")]
        book.add(rows(10, 1020))
        book.close()
        assert table(book.path)["value"].to_list() == list(range(1030))
        assert book.lost == 0

    def test_beyond_the_memory_set_aside_the_oldest_are_lost_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "MAX_WAITING", 1000)
        notes, folder = Notes(), tmp_path / "not yet there"
        book = Journal(folder, "x", notes)
        for i in range(100):
            book.add(rows(1, i))
            book.flush()
        assert 0 < book.lost < 100
        folder.mkdir()
        book.close()
        kept = table(book.path)["value"].to_list()
        assert len(kept) + book.lost == 100
        assert kept == [0, *range(book.lost + 1, 100)], "the first lines may be half written, and stay"
        assert book.path.stat().st_size < 1100
        assert notes.kinds() == ["disk_full", "disk_full"]
        assert notes[1][1] == f"x.csv can be written again; {book.lost:,} samples were lost"

    def test_what_cannot_be_written_to_the_end_is_counted(self, tiny_disk: Callable[[str], Path]) -> None:
        disk = tiny_disk("64k")
        book = Journal(disk, "x", Notes())
        book.add(rows(10))
        book.flush()
        fill(disk)
        book.add(rows(1000, 10))
        book.close()
        kept = table(book.path)["value"].to_list()
        assert kept == list(range(len(kept)))
        assert (book.samples, book.lost) == (1010, 1010 - len(kept))

    def test_where_the_disk_was_full_before_all_samples_are_lost_and_no_more(self, tiny_disk: Callable[[str], Path]) -> None:
        disk = tiny_disk("64k")
        fill(disk)
        book = Journal(disk, "x", Notes())
        book.add(rows(5))
        book.close()
        assert book.path.stat().st_size == 0
        assert book.lost == 5

    def test_where_nothing_can_be_written_all_samples_are_lost_and_no_more(self, tmp_path: Path) -> None:
        book = Journal(tmp_path / "not there", "x", Notes())
        book.add(rows(5))
        book.close()
        assert book.lost == 5


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of the size that is asked for."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "rca-test", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk to fill")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte; return the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out:
        for _ in range(1 << 20):
            try:
                out.write(b"x" * 4096)
            except OSError:
                return filler
    raise AssertionError("the disk did not fill")


class TestRecorder:
    def test_samples_reach_the_disk_and_are_read_back(self, tmp_path: Path) -> None:
        first, second = Fake("a"), Fake("b", hz=50)
        notes = Notes()
        recorder = run(tmp_path, 0.5, first, second, notes=notes)
        for sampler in (first, second):
            assert table(tmp_path / f"{sampler.name}.csv")["value"].to_list() == list(range(1, len(sampler.calls) + 1))
            assert sampler.closed == 1
            facts = recorder.tasks[sampler.name].facts()
            assert facts.ticks == facts.samples == len(sampler.calls)
            assert (facts.name, facts.hz_wanted, facts.lost) == (sampler.name, sampler.hz, 0)
            assert 0 < facts.hz_achieved <= facts.ticks / 0.5
        assert recorder.samples == len(first.calls) + len(second.calls)
        assert notes == []

    def test_times_are_those_of_the_capture(self, tmp_path: Path) -> None:
        before = time.time_ns()
        run(tmp_path, 0.2, Fake())
        times = table(tmp_path / "fake.csv")["ts_ns"].to_list()
        assert before - 10**7 < times[0] < times[-1] < time.time_ns() + 10**7

    def test_samples_are_on_the_disk_before_the_end(self, tmp_path: Path) -> None:
        with Recorder([Fake()], tmp_path, CaptureClock(), Notes()):
            wait_for(lambda: (tmp_path / "fake.csv").exists() and (tmp_path / "fake.csv").stat().st_size > 0)
            assert table(tmp_path / "fake.csv").height > 0

    def test_a_sampler_that_fails_is_noted_and_the_others_go_on(self, tmp_path: Path) -> None:
        def fails(call: int) -> None:
            if call == 3:
                raise ZeroDivisionError("oh")

        bad, good, notes = Fake("bad", act=fails), Fake("good"), Notes()
        with Recorder([bad, good], tmp_path, CaptureClock(), notes) as recorder:
            wait_for(lambda: len(bad.calls) == 3)
            then = len(good.calls)
            wait_for(lambda: len(good.calls) > then + 3)
        assert notes == [("sampler_failed", "bad ended: ZeroDivisionError: oh")]
        assert len(bad.calls) == 3
        assert table(tmp_path / "bad.csv")["value"].to_list() == [1, 2], "what it said before is kept"
        assert (bad.closed, good.closed) == (1, 1)
        assert recorder.tasks["bad"].facts().ticks == 2

    def test_a_sampler_that_blocks_delays_no_other(self, tmp_path: Path) -> None:
        def check(folder: Path) -> None:
            slow, fast = Fake("slow", act=lambda call: time.sleep(0.5)), Fake("fast")
            run(folder, 1.0, slow, fast)
            assert len(slow.calls) <= 3
            assert sum(slow.calls[0] < call < slow.calls[0] + 0.5 for call in fast.calls) >= 6

        patiently(tmp_path, check)

    def test_ticks_that_a_stall_made_impossible_are_left_out(self, tmp_path: Path) -> None:
        sampler = Fake(act=stall(3, 0.4))
        with Recorder([sampler], tmp_path, CaptureClock(), Notes()):
            wait_for(lambda: len(sampler.calls) > 8)
        assert max(b - a for a, b in zip(sampler.calls, sampler.calls[1:], strict=False)) >= 0.4
        possible = (sampler.calls[-1] - sampler.calls[0]) * sampler.hz + 1
        assert len(sampler.calls) < possible - 6

    def test_gaps_are_recorded_with_their_begin(self, tmp_path: Path) -> None:
        sampler = Fake(act=stall(3, 1.5))  # far longer than what a busy machine may hold the calls before it up
        with Recorder([sampler], tmp_path, CaptureClock(), Notes()) as recorder:
            wait_for(lambda: len(sampler.calls) > 4)
        second, third = table(tmp_path / "fake.csv")["ts_ns"].to_list()[1:3]
        gaps = recorder.tasks["fake"].facts().gaps
        assert any(gap.seconds >= 1.5 and second - 10**8 < gap.at_ns <= third for gap in gaps), (second, third, gaps)

    def test_without_a_stall_there_is_no_gap(self, tmp_path: Path) -> None:
        def check(folder: Path) -> None:
            recorder = run(folder, 0.5, Fake(hz=10))
            assert recorder.tasks["fake"].facts().gaps == []

        patiently(tmp_path, check)

    def test_a_costly_sampler_is_called_less_often(self, tmp_path: Path) -> None:
        def check(folder: Path) -> None:
            costly, cheap = Fake("costly", act=lambda call: spin(0.002)), Fake("cheap")
            recorder = run(folder, 2.0, costly, cheap)
            affordable = 2.0 * MAX_SHARE / 0.002
            assert 2 <= len(costly.calls) <= 3 * affordable, "at first its cost is not known"
            assert len(cheap.calls) > 2 * len(costly.calls)
            facts = recorder.tasks["costly"].facts()
            assert facts.cpu_seconds == pytest.approx(0.002 * facts.ticks, rel=0.5)
            assert facts.gaps == [], "called seldom is not stalled"

        patiently(tmp_path, check)

    def test_a_boost_holds_until_it_is_taken_back(self, tmp_path: Path) -> None:
        def check(folder: Path) -> None:
            costly, cheap = Fake("costly", hz=5, act=lambda call: spin(0.001)), Fake("cheap", hz=5)

            def calls_in(seconds: float) -> list[int]:
                before = [len(costly.calls), len(cheap.calls)]
                time.sleep(seconds)
                return [len(costly.calls) - before[0], len(cheap.calls) - before[1]]

            with Recorder([costly, cheap], folder, CaptureClock(), Notes()) as recorder:
                assert max(calls_in(0.4)) <= 4
                for thread in recorder.tasks.values():
                    thread.boost(100)
                time.sleep(0.4)  # the sleep that has begun goes on
                assert min(calls_in(0.4)) >= 15, "whatever it costs"
                for thread in recorder.tasks.values():
                    thread.boost(None)
                time.sleep(0.1)
                assert max(calls_in(0.4)) <= 4
            assert recorder.tasks["cheap"].facts().hz_wanted == 5

        patiently(tmp_path, check)

    def test_a_last_call_that_does_not_come_back_is_left_behind(self, tmp_path: Path) -> None:
        released, notes = threading.Event(), Notes()
        sampler = Fake(act=lambda call: None if call < 3 else released.wait(60) and None)
        lane = Lane([Task(sampler, tmp_path, CaptureClock(), notes)], notes)
        lane.start()
        try:
            wait_for(lambda: len(sampler.calls) == 3)
            lane.stop(timeout=0.1)
            assert notes == [("sampler_failed", "fake: the last call did not come back; left behind")]
            assert sampler.closed == 0, "closing it would pull its files from under it"
            assert table(tmp_path / "fake.csv")["value"].to_list() == [1, 2]
        finally:
            released.set()

    def test_samplers_that_share_a_thread_keep_their_rates_and_fail_alone(self, tmp_path: Path) -> None:
        def act(call: int) -> None:
            if call == 3:
                raise ValueError("broken")

        fast, slow, bad = Fake("fast", hz=40), Fake("slow", hz=5), Fake("bad", hz=20, act=act)
        notes = Notes()
        with Recorder([], tmp_path, CaptureClock(), notes, together=[fast, slow, bad]):
            assert "rca-fast+slow+bad" in {thread.name for thread in threading.enumerate()}
            time.sleep(1)
        assert len(fast.calls) > 2 * len(slow.calls) > 4
        assert len(bad.calls) == 3
        assert notes == [("sampler_failed", "bad ended: ValueError: broken")]
        assert (fast.closed, slow.closed, bad.closed) == (1, 1, 1)

    def test_what_is_missing_is_known_with_the_reason(self, tmp_path: Path) -> None:
        sampler = Fake()
        sampler.unavailable["cpu_power"] = "no RAPL"
        recorder = run(tmp_path, 0, sampler)
        assert recorder.unavailable == {"cpu_power": "no RAPL"}

    def test_threads_end_also_when_the_capture_fails(self, tmp_path: Path) -> None:
        sampler = Fake("fake-that-ends")
        with pytest.raises(KeyError), Recorder([sampler], tmp_path, CaptureClock(), Notes()):
            raise KeyError
        assert sampler.closed == 1
        assert "rca-fake-that-ends" not in {thread.name for thread in threading.enumerate()}


class TestClock:
    def test_it_is_the_wall_clock_as_long_as_nobody_sets_that(self) -> None:
        clock = CaptureClock()
        assert abs(clock.now_ns() - time.time_ns()) < 10**9
        assert clock.started.boottime_ns >= (clock.started.monotonic_ns or 0) > 0

    @pytest.mark.parametrize("seconds", [5, -3600])
    def test_a_wall_clock_that_is_set_is_seen_and_moves_no_sample(
        self, monkeypatch: pytest.MonkeyPatch, seconds: int
    ) -> None:
        clock = CaptureClock()
        before = clock.now_ns()

        def stepped() -> Clocks:
            real = read_clocks()
            return Clocks(real.realtime_ns + seconds * 10**9, real.boottime_ns, real.monotonic_ns)

        monkeypatch.setattr(clocks, "read_clocks", stepped)
        assert clock.step_ns() == pytest.approx(seconds * 1e9, abs=1e8)
        assert 0 <= clock.now_ns() - before < 10**9
        monkeypatch.setattr(clocks, "read_clocks", read_clocks)
        assert abs(clock.step_ns()) < 1e8

    def test_a_thread_that_loses_its_core_sees_no_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def loses_its_core() -> Clocks:
            read = read_clocks()
            time.sleep(0.02)
            return read

        clock = CaptureClock()
        monkeypatch.setattr(clocks, "read_clocks", loses_its_core)
        assert abs(clock.step_ns()) < 1_000_000, "what collect notes as a step"


MANIFEST = Manifest(SCHEMA, "rca 0", "recording")


class TestFolder:
    def test_only_the_owner_can_read_it(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            folder = CaptureFolder(tmp_path / "deep" / "capture")
            folder.write_manifest(MANIFEST)
            folder.log("hello")
        finally:
            os.umask(before)
        paths = [folder.path, *folder.path.rglob("*")]
        assert {path.name for path in paths} >= {"capture", "counters", "traces", "logs", "collect.log", "capture.json"}
        for path in paths:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_a_manifest_is_replaced_and_read_back(self, tmp_path: Path) -> None:
        folder = CaptureFolder(tmp_path / "capture")
        for status in ("recording", "complete"):
            folder.write_manifest(Manifest(SCHEMA, "rca 0", status, events=[Event(AT, "clock_step", "é")]))
            read = manifests.read(folder.path / "capture.json")
            assert read is not None
            assert (read.status, read.events) == (status, [Event(AT, "clock_step", "é")])

    def test_at_the_end_nothing_is_left_that_holds_nothing(self, tmp_path: Path) -> None:
        folder = CaptureFolder(tmp_path / "capture")
        (folder.counters / "cpu.csv").write_text("x")
        folder.log("one")
        folder.log("two")
        folder.write_manifest(MANIFEST)
        folder.finish()
        left = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*")}
        assert left == {"capture.json", "counters", "counters/cpu.csv", "logs", "logs/collect.log"}
        assert (folder.logs / "collect.log").read_text() == "one\ntwo\n"

    def test_an_empty_folder_will_do(self, tmp_path: Path) -> None:
        CaptureFolder(tmp_path)
        assert (tmp_path / "counters").is_dir()

    def test_a_folder_that_holds_something_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("x")
        with pytest.raises(OutputError, match="exists and is not empty; --force"):
            CaptureFolder(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize("content", [None, "{}", '{"schema": "of/others"}', "no JSON"])
    def test_force_replaces_nothing_but_captures(self, tmp_path: Path, content: str | None) -> None:
        (tmp_path / "counters").mkdir()
        (tmp_path / "counters" / "mine.csv").write_text("x")
        if content is not None:
            (tmp_path / "capture.json").write_text(content)
        with pytest.raises(OutputError, match="holds no capture of this tool"):
            CaptureFolder(tmp_path, force=True)
        assert (tmp_path / "counters" / "mine.csv").exists()

    def test_force_replaces_a_capture_and_leaves_what_is_not_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / "capture"
        first = CaptureFolder(path)
        first.write_manifest(MANIFEST)
        first.log("old")
        for folder in (first.counters, first.traces):
            (folder / "old").write_text("x")
        (path / "notes.txt").write_text("mine")
        with pytest.raises(OutputError):
            CaptureFolder(path)
        second = CaptureFolder(path, force=True)
        assert not (path / "capture.json").exists()
        assert list(second.counters.iterdir()) == list(second.traces.iterdir()) == []
        assert (second.logs / "collect.log").read_text() == ""
        assert (path / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("force", [False, True])
    def test_a_file_is_no_folder(self, tmp_path: Path, force: bool) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="is a file, not a folder"):
            CaptureFolder(tmp_path / "file", force)
        with pytest.raises(OutputError, match="cannot be made"):
            CaptureFolder(tmp_path / "file" / "below", force)
        assert (tmp_path / "file").read_text() == "x"

    def test_a_disk_without_room_for_a_capture_is_refused(self, tiny_disk: Callable[[str], Path]) -> None:
        with pytest.raises(OutputError, match="cannot be made: No space left on device"):
            CaptureFolder(tiny_disk("64k") / "capture")

    def test_a_manifest_is_written_on_a_full_disk(self, tiny_disk: Callable[[str], Path]) -> None:
        disk = tiny_disk("512k")
        folder = CaptureFolder(disk / "capture")
        folder.write_manifest(MANIFEST)
        fill(disk)
        folder.log("lost without a word")
        folder.write_manifest(Manifest(SCHEMA, "rca 0", "complete", command=["x" * 100_000]))
        read = manifests.read(folder.path / "capture.json")
        assert read is not None
        assert (read.status, len(read.command[0])) == ("complete", 100_000)

    def test_samples_do_not_take_the_room_that_is_the_manifests(self, tiny_disk: Callable[[str], Path]) -> None:
        disk = tiny_disk("512k")
        folder = CaptureFolder(disk / "capture")
        book = Journal(folder.counters, "x", Notes())
        book.add(rows(20_000))
        for _ in range(3):
            book.flush()
            with pytest.raises(OSError, match="No space"):
                folder.write_manifest(MANIFEST, last=False)
        book.close()
        folder.write_manifest(MANIFEST)
        assert manifests.read(folder.path / "capture.json") is not None

    def test_a_name_that_is_no_text_can_be_logged(self, tmp_path: Path) -> None:
        folder = CaptureFolder(tmp_path / "capture")
        folder.log("process_started: caf\udce9 (pid 7)")
        assert "pid 7" in (folder.logs / "collect.log").read_text()


def test_the_manifest_of_a_recording_says_how_well_it_went(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path / "capture")
    recorder = run(folder.counters, 0.3, Fake())
    folder.write_manifest(Manifest(SCHEMA, samplers=[thread.facts() for thread in recorder.tasks.values()]))
    [facts] = msgspec.json.decode((folder.path / "capture.json").read_bytes(), type=Manifest).samplers
    assert facts.samples == table(folder.counters / "fake.csv").height > 0
    assert 0 < facts.cpu_seconds < 0.3
