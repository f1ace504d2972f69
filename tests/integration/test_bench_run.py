"""Real model runs: tiny models with random weights, on the CPU, with a Python that has torch and transformers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collectors import bench
from rca.bench import compare, is_bench, read
from rca.errors import InputError
from reports import bench_data

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("RCA_SERVERS", "/nonexistent")) / "vllm" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no vllm in RCA_SERVERS: its Python has torch and transformers")

TINY = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "eos_token_id": 3,
    "dtype": "float32",
}


def config(folder: Path, **changed: object) -> Path:
    path = folder / "config.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(TINY | changed))
    return path


def plan(folder: Path, **options: object) -> bench.Plan:
    given = {"config": config(folder / "model"), "python": PYTHON, "device": "cpu", "threads": 1, "repeats": 4}
    given |= {"prompt_lengths": (3, 16), "new_tokens": (4, 8)}
    return bench.Plan(**({"output": folder / "out"} | given | options))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = []
    folder = tmp_path_factory.mktemp("bench")
    outcome = bench.run(plan(folder), seen.append)
    assert (outcome.runs, outcome.profiled, outcome.interrupted) == (16, True, False)
    assert (seen[-1].done, seen[-1].total) == (21, 21)
    assert sum(step.record is not None for step in seen) == 16
    return folder / "out"


def test_a_folder_of_runs_is_read(done: Path) -> None:
    assert is_bench(done)
    run = read(done)
    assert run.warnings == ()
    assert [record.run for record in run.records] == [1, 2, 3, 4] * 4
    assert all(record.latency_s.value > 0 and record.memory is not None for record in run.records)
    assert run.memory_of == "process"
    assert run.table is not None
    calls = dict(run.table.rows.select("name", "calls").iter_rows())
    assert calls["aten::argmax"] == 8  # exactly so many new tokens, whatever the model makes of its end token
    assert run.profiled is not None
    assert run.profiled.new_tokens == 8
    assert run.table.self_cpu is not None
    assert run.table.rows["self_cpu_us"].sum() == pytest.approx(run.table.self_cpu.us, rel=1e-6)
    assert (done / "profile.trace.json.gz").stat().st_size > 1000


def test_what_it_ran_on_is_kept_and_nothing_more(done: Path) -> None:
    environment = json.loads((done / "environment.json").read_text())
    assert environment["layers"] == 2
    assert environment["dtype"] == "float32"
    assert environment["threads"] == 1
    import socket

    for path in done.iterdir():
        if path.suffix != ".gz":
            assert socket.gethostname() not in path.read_text()
            assert str(Path.home()) not in path.read_text()


def test_more_layers_are_named(done: Path, tmp_path: Path) -> None:
    bench.run(plan(tmp_path, config=config(tmp_path / "deep", num_hidden_layers=8)))
    found = compare(done, tmp_path / "out")
    assert found.verdict.status == "slower"
    (cause,) = found.verdict.causes
    assert cause.id == "software_change"
    assert "layers: 2 → 8" in cause.evidence_for
    assert json.loads(bench_data.comparison_json(found))["verdict"]["status"] == "slower"
    assert found.host is not None
    mm = next(entry for entry in found.host.entries if entry.name == "aten::mm")
    assert mm.why == "calls"
    assert sum(e.change_us for e in found.host.entries) + found.host.residual_us == pytest.approx(found.host.change_us)


def test_a_checkpoint_is_run(tmp_path: Path) -> None:
    code = (
        "import sys, torch, transformers\n"
        "config = transformers.AutoConfig.from_pretrained(sys.argv[1])\n"
        "transformers.AutoModelForCausalLM.from_config(config).save_pretrained(sys.argv[2])\n"
    )
    model = tmp_path / "checkpoint"
    subprocess.run([PYTHON, "-c", code, config(tmp_path), model], check=True, capture_output=True)
    options = {"config": None, "model": model, "prompt_lengths": (4,), "new_tokens": (4,), "repeats": 2, "profile": False}
    outcome = bench.run(plan(tmp_path, dtype="bfloat16", **options))
    assert (outcome.runs, outcome.profiled) == (2, False)
    run = read(tmp_path / "out")
    assert run.environment["model"] == "checkpoint"
    assert run.environment["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "changed", "problem"),
    [
        ({"quantize": "int8"}, {}, "--quantize int8 needs torchao"),
        ({}, {"model_type": "no-such-model"}, "cannot read this model's configuration"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path: Path, options: dict, changed: dict, problem: str) -> None:
    with pytest.raises(InputError) as refused:
        bench.run(plan(tmp_path, config=config(tmp_path / "odd", **changed), **options))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from collectors import bench\n"
        "plan = bench.Plan(output=Path(sys.argv[1]), config=Path(sys.argv[2]), python=Path(sys.argv[3]), device='cpu',\n"
        "    prompt_lengths=(3,), new_tokens=(8,), repeats=100000)\n"
        "print(bench.run(plan))\n"
    )
    arguments = [sys.executable, "-c", code, out, config(tmp_path), PYTHON]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (out / "runs.jsonl").exists() or (out / "runs.jsonl").read_text().count("\n") < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "interrupted=True" in said, errors
    run = read(out)
    assert len(run.records) >= 3
    assert any("operators.txt is missing" in warning for warning in run.warnings)
