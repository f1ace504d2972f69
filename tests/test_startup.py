"""Start-up logs: phases, silences, starts within a file, and what responds to what."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate
from startup_logs import BEGIN, Log, Vllm, schema, sglang_log, vllm_starts

from rca.errors import InputError
from rca.startup import report
from rca.startup.lines import Clock, split_lines
from rca.startup.parameters import from_name
from rca.startup.read import read

SEEDS = Path(__file__).parents[2] / "shared" / "seeds"


NORMAL = Vllm()


def only(path: Path):
    (start,) = read([path]).starts
    return start


def test_phases_of_vllm(tmp_path: Path) -> None:
    start = only(Vllm(download=3.0).log().save(tmp_path / "a.log"))
    said = {id_: round(phase.seconds, 2) for id_, phase in start.phases.items()}
    assert said == {
        "bootstrap": 13.33,
        "detect_platform": 0.03,
        "imports": 6.0,
        "model_info": 5.3,
        "worker_init": 2.0,
        "tokenizer_init": 0.5,
        "download_weights": 3.0,
        "model_init": 0.6,
        "load_weights": 2.5,
        "model_loading": 6.1,
        "dynamo_transform_time": 7.0,
        "graph_compile_cached": 5.6,
        "torch.compile": 7.0,
        "kv_cache_profiling": 14.3,
        "graph_capturing": 12.0,
        "init_engine": 26.3,
        "server_start": 1.0,
        "total_time": 32.9,
        "unlogged": 1.7,
        "actual_total_time": 47.23,
    }
    assert (start.engine, start.version, start.outcome) == ("vllm", "0.10.1.1", "ready")
    assert start.parameters == {"dtype": "bfloat16", "gpu_memory_utilization": "0.9", "model": "qwen-4b"}
    assert start.facts == {
        "platform": "cuda",
        "weights_gib": "7.4152",
        "graphs": "0.35 GiB",
        "compile_cache": "hit",
        "download": "yes",
        "log_level": "DEBUG",
    }


@pytest.mark.parametrize("version", ["0.4.6", "0.5.9"])
def test_phases_of_sglang(tmp_path: Path, version: str) -> None:
    start = only(sglang_log(version=version).save(tmp_path / "a.log"))
    said = {id_: round(phase.seconds, 2) for id_, phase in start.phases.items() if id_ != "distributed_init"}
    assert said == {
        "bootstrap": 9.0,
        "imports": 0.0,
        "worker_init": 9.0,
        "load_weights": 9.0,
        "model_loading": 9.0,
        "kv_cache_init": 2.0,
        "graph_capturing": 20.0,
        "init_engine": 22.0,
        "server_start": 2.0,
        "total_time": 31.0,
        "unlogged": 0.0,
        "actual_total_time": 42.0,
    }
    assert dict(start.phases["load_weights"].by_process) == {"TP0": 9.0, "TP1": 9.0}
    assert start.phases["load_weights"].source == ("stamps" if version == "0.4.6" else "logged")
    assert start.facts["weights_gib"] == "7.50"


@pytest.mark.parametrize(
    ("line", "phase", "seconds"),
    [
        ("Loading weights took 1.50 seconds", "load_weights", 1.5),
        ("Time spent downloading weights for a/b: 63.100000 seconds", "download_weights", 63.1),
        ("Model loading took 7.4152 GiB and 5.072830 seconds", "model_loading", 5.07283),
        ("Model loading took 23.45 GiB memory and 125.681271 seconds", "model_loading", 125.681271),
        ("Compiling a graph for general shape takes 30.10 s", "graph_compile_general_shape", 30.1),
        ("Compiling a graph for dynamic shape takes 30.10 s", "graph_compile_general_shape", 30.1),
        ("Compiling a graph for compile range (1, 2496) takes 21.03 s", "graph_compile_general_shape", 21.03),
        ("Compiling a graph for shape 8 takes 21.03 s", "graph_compile_general_shape", 21.03),
        ("Directly load the compiled graph(s) for shape None from the cache, took 9.436 s", "graph_compile_cached", 9.436),
        ("Directly load the compiled graph for dynamic shape from the cache, took 4.1 s", "graph_compile_cached", 4.1),
        (
            "Directly load the compiled graph(s) for compile range (1, 8) from the cache, took 4.1 s",
            "graph_compile_cached",
            4.1,
        ),
        ("torch.compile takes 11.03 s in total", "torch.compile", 11.03),
        ("torch.compile took 34.77 s in total", "torch.compile", 34.77),
        ("[backbone] Initial profiling/warmup run took 621.57 s", "warmup_run", 621.57),
        ("Memory profiling takes 24.00 seconds. Total non KV cache memory: 8.21GiB", "kv_cache_profiling", 24.0),
        ("Graph capturing finished in 22 secs, took 0.59 GiB", "graph_capturing", 22.0),
        ("init engine (profile, create kv cache, warmup model) took 46.35 seconds", "init_engine", 46.35),
        ("init engine (profile, create kv cache, warmup model) took 755.17 s (compilation: 40.93 s)", "init_engine", 755.17),
        ("Load weight end. elapsed=109.33 s, type=Laguna, avail mem=47.80 GB", "load_weights", 109.33),
        ("Capture cuda graph end. Time elapsed: 20.53 s. mem usage=1 GB.", "graph_capturing", 20.53),
        ("Capture target prefill CUDA graph end. elapsed=216.19 s, mem usage=5.24 GB", "graph_capturing", 216.19),
        ("Multi-modal warmup completed in 12.712s", "other: Multi-modal warmup", 12.712),
        ("Autotuning of kernels took 340 ms", "other: Autotuning of kernels", 0.34),
    ],
)
def test_wordings(tmp_path: Path, line: str, phase: str, seconds: float) -> None:
    log = Log().vllm("vLLM API server version 0.1.0").wait(700).vllm(line).raw("INFO:     Application startup complete.")
    assert only(log.save(tmp_path / "a.log")).phases[phase].seconds == seconds


def test_the_slowest_process_counts_and_its_parts_add_up(tmp_path: Path) -> None:
    log = Vllm().log()
    at = next(i for i, line in enumerate(log.lines) if "Loading weights took" in line)
    one, two = (log.lines[at].replace("EngineCore_0 pid=51", f"Worker_TP{i} pid=6{i}") for i in range(2))
    log.lines[at : at + 1] = [one, one.replace("2.50", "1.00"), two.replace("2.50", "3.20")]
    phase = only(log.save(tmp_path / "a.log")).phases["load_weights"]
    assert phase.seconds == 3.5
    assert dict(phase.by_process) == {"Worker_TP0 pid=60": 3.5, "Worker_TP1 pid=61": 3.2}


def test_colours_bars_and_what_container_runtimes_add(tmp_path: Path) -> None:
    plain = Vllm().log()
    odd = [f"2025-07-17T13:40:56.123Z stdout F \x1b[1;36m{line}\x1b[0;0m" for line in plain.lines]
    at = next(i for i, line in enumerate(odd) if "Loading weights took" in line)
    odd[at] = "Loading shards:   0%|  | 0/2\rLoading shards: 100%|██| 2/2 " + odd[at] + "\r"
    Log(lines=odd).save(tmp_path / "b.log")
    expected, found = only(plain.save(tmp_path / "a.log")), only(tmp_path / "b.log")
    assert {id_: p.seconds for id_, p in found.phases.items()} == {id_: p.seconds for id_, p in expected.phases.items()}


def test_several_messages_in_one_line() -> None:
    text = "bar: 7%[2026-08-01 23:37:54 TP1] one[2026-08-01 23:37:55 TP1] two"
    lines = list(split_lines(text, 1, Clock()))
    assert [(line.process, line.text, line.at is None) for line in lines] == [
        ("", "bar: 7%", True),
        ("TP1", "one", False),
        ("TP1", "two", False),
    ]
    assert lines[2].at - lines[1].at == 1


def test_january_follows_december(tmp_path: Path) -> None:
    log = Vllm().log()
    log.lines.clear()
    late = replace_now(Log(ms=True), datetime(2025, 12, 31, 23, 59, 50))
    late.vllm("vLLM API server version 0.10.0").wait(20).vllm("Loading weights took 20.00 seconds")
    late.raw("INFO:     Application startup complete.")
    assert only(late.save(tmp_path / "a.log")).phases["actual_total_time"].seconds == 20.0


def replace_now(log: Log, now: datetime) -> Log:
    log.now = now
    return log


def test_a_silence_is_placed(tmp_path: Path) -> None:
    start = only(Vllm(silence=142.0).log().save(tmp_path / "a.log"))
    gap = start.gaps[0]
    assert round(gap.seconds) == 143
    assert gap.before == "torch.compile takes 7.00 s in total"
    assert gap.after == "Available KV cache memory: 75.57 GiB"
    assert gap.phase == "kv_cache_profiling"
    assert start.phases["unlogged"].seconds == pytest.approx(143.7, abs=0.1)


def test_the_longest_silence_leads_the_report(tmp_path: Path, rca) -> None:
    text = rca("startup", Vllm(silence=142.0).log().save(tmp_path / "a.log")).out
    lead = "The longest stretch that no line explains: 143 s in KV-cache profiling of `a.log`, between"
    assert f"{lead} `torch.compile takes 7.00 s in total` (line 14) and `Available KV cache memory: 75.57 GiB`." in text


def test_heartbeats_break_no_silence(tmp_path: Path) -> None:
    log = Vllm(silence=100.0).log()
    at = next(i for i, line in enumerate(log.lines) if "torch.compile takes" in line)
    stamp = log.lines[at].split("[")[0]
    log.lines.insert(at + 1, f"{stamp}[utils.py:475] Waiting for 1 local, 0 remote core engine proc(s) to start.")
    assert round(only(log.save(tmp_path / "a.log")).gaps[0].seconds) == 101


def test_starts_that_fail_say_why(tmp_path: Path) -> None:
    log = Vllm().log()
    cut = next(i for i, line in enumerate(log.lines) if "Loading weights" in line)
    del log.lines[cut:]
    cut_off = only(Log(lines=list(log.lines)).save(tmp_path / "cut.log"))
    log.raw("Traceback (most recent call last):").raw("torch.OutOfMemoryError: CUDA out of memory.")
    log.raw("RuntimeError: Engine core initialization failed. See root cause above.")
    failed = only(log.save(tmp_path / "failed.log"))
    assert (cut_off.outcome, failed.outcome) == ("cut", "failed")
    assert failed.problem == "torch.OutOfMemoryError: CUDA out of memory."
    found = report([tmp_path])
    assert not found.startups.usable
    assert [text for text in found.startups.remarks if "OutOfMemoryError" in text]


def test_two_starts_in_one_log(tmp_path: Path) -> None:
    killed = Vllm().log("EngineCore_0 pid=51")
    del killed.lines[9:]
    again = Vllm(load=4.0).log("EngineCore_0 pid=99")
    served = ["(APIServer pid=1) INFO 07-17 13:50:00 [loggers.py:1] Engine 000: Avg prompt throughput: 1.0 tokens/s"] * 5
    third = Vllm(load=6.0).log("EngineCore_0 pid=120")
    Log(lines=[*killed.lines, *again.lines, *served, *third.lines]).save(tmp_path / "a.log")
    starts = read([tmp_path / "a.log"]).starts
    assert [start.name for start in starts] == ["a.log", "a.log#2", "a.log#3"]
    assert [start.outcome for start in starts] == ["cut", "ready", "ready"]
    assert [start.seconds("load_weights") for start in starts] == [None, 4.0, 6.0]


def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "binary.log").write_bytes(bytes(range(256)) * 99)
    (tmp_path / "other.log").write_text("hello\n")
    for path in (tmp_path, tmp_path / "empty.log", tmp_path / "none.log"):
        with pytest.raises(InputError):
            report([path])
    Vllm().log().save(tmp_path / "good.log")
    found = report([tmp_path])
    assert len(found.startups.starts) == 1
    assert len(found.startups.remarks) == 3


def test_compressed_and_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress(Vllm().log().save(tmp_path / "a.log").read_bytes())
    (tmp_path / "a.log").unlink()
    (tmp_path / "b.log.gz").write_bytes(whole)
    (tmp_path / "c.log.gz").write_bytes(whole[: len(whole) * 2 // 3])
    starts = read([tmp_path]).starts
    assert [start.outcome for start in starts] == ["ready", "cut"]


def test_a_phase_that_responds_is_named_and_no_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for model, factor in (("a-7b", 1.0), ("b-4b", 0.5)):
        for size in (1, 8, 32, 128, 256, 512):
            noise = {
                name: value * float(rng.normal(1, 0.01))
                for name, value in (("load", 4.0), ("dynamo", 9.0), ("compile", 5.0))
            }
            start = Vllm(model=f"/m/{model}", capture=factor + 0.043 * size, **noise)
            start.log().save(tmp_path / f"output_model_{model}_cuda-graph-sizes_{size}.txt")
    found = report([tmp_path])
    assert {r.phase for r in found.responses if r.responds} == {
        "graph_capturing",
        "init_engine",
        "total_time",
        "actual_total_time",
    }
    capture = next(r for r in found.responses if r.phase == "graph_capturing")
    assert capture.slope.low < 0.043 < capture.slope.high
    assert [name for name, _ in capture.slopes] == ["a-7b", "b-4b"]


def test_outliers_are_named_once(tmp_path: Path) -> None:
    for number in range(7):
        Vllm(model_init=0.59 if number == 4 else 0.24).log().save(tmp_path / f"model_q_gpu-memory_{number / 10}.txt")
    (outlier,) = report([tmp_path]).outliers
    assert (outlier.phase, outlier.seconds, outlier.median) == ("model_init", 0.59, 0.24)
    assert "0.4" in outlier.start


@pytest.mark.parametrize("name", ["vllm_startup_by_gpu_memory_utilization.txt", "vllm_startup_by_cuda_graph_sizes.txt"])
def test_seed_tables_come_out_as_they_went_in(name: str, rca) -> None:
    if not SEEDS.is_dir():
        pytest.skip("../shared/seeds is not beside this checkout")
    ran = rca("startup", str(SEEDS / name), "--format", "grid")
    assert ran.code == 0
    assert ran.out == (SEEDS / name).read_text()


def test_seed_table_is_made_from_the_raw_logs(shared_data: Path, rca) -> None:
    ran = rca("startup", str(shared_data / "vllm-startup" / "gpu_memory_utilization"), "--format", "grid")
    assert ran.out == (SEEDS / "vllm_startup_by_gpu_memory_utilization.txt").read_text()


def test_what_the_seed_tables_mean(shared_data: Path, rca) -> None:
    ran = rca("startup", str(shared_data / "vllm-startup" / "gpu_memory_utilization"))
    assert "No phase responds to `gpu_memory_utilization` (n = 14)." in ran.out
    assert "`output_model_qwen-4b_gpu-memory-utilization_0.7.txt` sticks out: model init takes 0.59 s" in ran.out
    ran = rca("startup", str(SEEDS / "vllm_startup_by_cuda_graph_sizes.txt"))
    expected = (
        "Only graph capturing and what contains it (init engine, total (sum), actual total) respond to `cuda_graph_sizes`"
    )
    assert f"{expected}: 41.5 to 45.2 ms per unit (n = 16)." in ran.out


def test_every_output_of_a_report(tmp_path: Path, rca) -> None:
    vllm_starts(tmp_path / "logs", [NORMAL] * 3)
    logs = str(tmp_path / "logs")
    validate(json.loads(rca("startup", logs, "--format", "json").out), schema("startup-1"))
    rows = list(csv.DictReader(io.StringIO(rca("startup", logs, "--format", "csv").out)))
    assert {row["start"] for row in rows} == {"start0.log", "start1.log", "start2.log"}
    assert rca("startup", logs, "--for", "jira").out.startswith("h1. Start-up phases")
    assert rca("startup", logs, "--html", str(tmp_path / "page.html"), "-o", str(tmp_path / "page.md")).out == ""
    assert (tmp_path / "page.md").read_text() == rca("startup", logs).out


def test_hostile_lines_are_text(tmp_path: Path, rca) -> None:
    evil = "</script><img src=x onerror=alert(1)>|`_*"
    log = Vllm(silence=50.0).log()
    at = next(i for i, line in enumerate(log.lines) if "torch.compile takes" in line)
    log.lines[at] += f" {evil}"
    log.save(tmp_path / "logs" / "<b>x&.log")
    rca("startup", str(tmp_path / "logs"), "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page
    assert "<b>x" not in page
    assert "default-src 'none'" in page
    written = rca("startup", str(tmp_path / "logs")).out
    assert "<img" in written
    assert "<img" not in re.sub(r"`[^`\n]*`", "", written)  # within code it is text


def test_bars_of_files_that_are_there_are_no_download(tmp_path: Path) -> None:
    log = NORMAL.log()
    log.lines[10:10] = ["Fetching 4 files: 100%|██████| 4/4 [00:00<00:00, 52428.80it/s]"]
    assert "download" not in only(log.save(tmp_path / "a.log")).facts


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vllm_1.log", {}),
        ("node_7.log", {}),
        ("slurm_12345.out", {}),
        ("tp=2,dp=1.log", {"tp": "2", "dp": "1"}),
        ("max_num_seqs=64.log", {"max_num_seqs": "64"}),
        ("tp_8.log", {"tp": "8"}),
        ("output_model_qwen-4b_gpu-memory-utilization_0.3.txt", {"model": "qwen-4b", "gpu_memory_utilization": "0.3"}),
        ("iter3__output_model_qwen-4b.txt", {"model": "qwen-4b"}),
    ],
)
def test_parameters_in_names(name: str, parameters: dict[str, str]) -> None:
    assert from_name(name) == parameters


@pytest.mark.parametrize("process", ["", "APIServer pid=1"])
def test_crash_loops_are_told_apart(tmp_path: Path, process: str) -> None:
    """The first process of a container has the same pid each time, older versions write none."""

    def crash() -> Log:
        log = Log().vllm("Automatically detected platform cuda.", process).wait(6)
        log.vllm("vLLM API server version 0.8.5", process).wait(3)
        return log.raw("Traceback (most recent call last):").raw("ValueError: Invalid repository ID")

    good = Log()
    good.now = BEGIN.replace(hour=15)
    good.vllm("Automatically detected platform cuda.", process).wait(6).vllm("vLLM API server version 0.8.5", process).wait(
        9
    )
    good.vllm("Starting to load model m...", process).wait(5).vllm("Model loading took 1.0 GiB and 4.9 seconds", process)
    good.wait(4).vllm("init engine (profile, create kv cache, warmup model) took 3.9 seconds", process)
    good.raw("INFO:     Application startup complete.")
    second = crash()
    second.lines = [line.replace("13:40", "13:59").replace("13:41", "13:59") for line in second.lines]
    Log(lines=[*crash().lines, *second.lines, *good.lines]).save(tmp_path / "a.log")
    starts = read([tmp_path / "a.log"]).starts
    assert [(start.outcome, start.problem) for start in starts] == [
        ("failed", "ValueError: Invalid repository ID"),
        ("failed", "ValueError: Invalid repository ID"),
        ("ready", ""),
    ]
    assert starts[-1].seconds("actual_total_time") == 24.0


def test_a_clock_that_is_set_back_does_not_turn_time_round(tmp_path: Path) -> None:
    log = NORMAL.log()
    at = next(i for i, line in enumerate(log.lines) if "Dynamo" in line)
    log.lines[at:] = [line.replace(" 13:41:", " 12:41:") for line in log.lines[at:]]
    found = read([log.save(tmp_path / "a.log")])
    assert 35 < found.starts[0].seconds("actual_total_time") < 60
    assert [text for text in found.remarks if "set back" in text]


def test_other_formatters_stamp_lines_too(tmp_path: Path) -> None:
    plain = NORMAL.log()
    made = []
    for line in plain.lines:
        found = re.match(r"(?:\((.*?)\) )?[A-Z]+ (\d\d)-(\d\d) (\S+) \[.*?\] (.*)", line)
        made.append(
            json.dumps({"timestamp": f"2025-{found[2]}-{found[3]}T{found[4]}Z", "message": found[5]}) if found else line
        )
    expected = only(plain.save(tmp_path / "a.log"))
    found = only(Log(lines=made).save(tmp_path / "b.log"))
    assert found.seconds("actual_total_time") == pytest.approx(expected.seconds("actual_total_time"), abs=0.01)
    assert found.seconds("load_weights") == 2.5


def test_stray_stamps_make_no_total(tmp_path: Path) -> None:
    log = NORMAL.log()
    log.lines = [re.sub(r"INFO 07-17 \S+ \[.*?\] ", "", line) if i else line for i, line in enumerate(log.lines)]
    start = only(log.save(tmp_path / "a.log"))
    assert start.seconds("actual_total_time") is None
    assert [text for text in start.warnings if "no total is given" in text]


def test_a_server_that_dies_after_its_engine_failed(tmp_path: Path) -> None:
    log = NORMAL.log()
    del log.lines[-1:]
    log.raw("Traceback (most recent call last):").raw("OSError: [Errno 98] Address already in use")
    assert only(log.save(tmp_path / "a.log")).problem == "OSError: [Errno 98] Address already in use"


def test_nested_durations_count_once(tmp_path: Path) -> None:
    log = NORMAL.log()
    del log.lines[-2:]
    log.wait(46).vllm("Multi-modal warmup completed in 45.200s").vllm("Starting vLLM API server 0").raw(
        "INFO:     Application startup complete."
    )
    start = only(log.save(tmp_path / "a.log"))
    assert start.seconds("unlogged") == pytest.approx(1.7, abs=0.1)


def test_draft_models_are_loaded_within_the_engine(tmp_path: Path) -> None:
    log = Log().sglang("server_args=ServerArgs(model_path='m')").wait(5).sglang("Load weight begin. avail mem=9 GB").wait(10)
    log.sglang("Load weight end. type=A, avail mem=9 GB, mem usage=5.00 GB.").wait(2).sglang(
        "Memory pool end. avail mem=1 GB"
    )
    log.sglang("Capture cuda graph begin.").wait(20).sglang("Capture cuda graph end. Time elapsed: 20.00 s.")
    log.sglang("Load weight begin. avail mem=9 GB").wait(4).sglang("Load weight end. type=B, mem usage=1.00 GB.").wait(1)
    log.sglang("max_total_num_tokens=100, context_len=4096").wait(1).sglang("The server is fired up and ready to roll!")
    start = only(log.save(tmp_path / "a.log"))
    assert {id_: start.seconds(id_) for id_ in ("load_weights", "kv_cache_init", "graph_capturing", "init_engine")} == {
        "load_weights": 14.0,
        "kv_cache_init": 2.0,
        "graph_capturing": 20.0,
        "init_engine": 23.0,
    }
    assert start.seconds("total_time") == 37.0


def test_a_rotated_log_begins_with_zeros(tmp_path: Path) -> None:
    text = "\n".join(NORMAL.log().lines)
    (tmp_path / "rotated.log").write_bytes(b"\0" * 500 + text.encode())
    (tmp_path / "wide.log").write_bytes(text.encode("utf-16"))
    assert [start.seconds("load_weights") for start in read([tmp_path]).starts] == [2.5, 2.5]


def test_the_real_starts_of_the_fixture() -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "startup"
    starts = read([folder]).starts
    assert [(start.engine, start.outcome) for start in starts] == [("vllm", "ready")] * 6 + [("sglang", "ready")]
    assert {start.version for start in starts[:6]} == {"0.32.0"}
    sglang = starts[-1]
    assert (sglang.seconds("load_weights"), sglang.seconds("kv_cache_init")) == (0.13, 0.54)
    assert sglang.gaps[0].before == "No chat template found, defaulting to 'string' content format"
    assert sglang.gaps[0].after == "Init parallel begin."


def test_real_logs_of_many_kinds(shared_data: Path) -> None:
    starts = {start.name.rpartition("/")[2]: start for start in read([shared_data / "own", shared_data / "traces"]).starts}
    outcomes = {name: start.outcome for name, start in starts.items() if name.endswith(".log")}
    failed = {name for name, outcome in outcomes.items() if outcome == "failed"}
    assert failed == {
        "startup-crash-layerwise-nvtx.log",
        "startup-fails-no-cpu-engine-env.log",
        "startup-fails-no-sgl_kernel.log",
    }
    assert starts["startup-fails-no-sgl_kernel.log"].problem == "ModuleNotFoundError: No module named 'sgl_kernel'"
    slow = starts["qwen36.log"]
    assert (slow.seconds("warmup_run"), slow.seconds("init_engine"), slow.version) == (622.2, 755.17, "0.25.1")
    assert slow.seconds("actual_total_time") == pytest.approx(943, abs=1)
    assert abs(slow.seconds("unlogged")) < 60
