"""Every output of every kind of result: nothing private in it once it is redacted, and all figures as before.

What is private is collected here on its own: what was planted, and whatever looks like a path or an address.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import importlib
import inspect
import io
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from startup_logs import Vllm
from traces import decode_trace, span, write_counters, write_trace

import reports
from rca import api, bench, startup, sweep
from rca.api import Comparison
from rca.redact import redacted
from reports import explain, perfetto, ticket

FOLDER = "acme-incident-4711"
PLANTED = ("gpu17", "acme", "alice", "hunter2", "10.20.30.40", "wiki.example.com", "sekret")
"""Hosts, a customer, a user, a password, an address: in every place where such a thing can stand."""

_PATH = re.compile(r"(?<![\w:/<.>\\*)\]-])(?:/[\w.@+-]+){2,}|(?<![\w~])~/[\w.]+|\b[A-Z]:\\\w+")
_ADDRESS = re.compile(r"(?<![\w.+-])[1-9]\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w.-])")
_PUBLIC = re.compile(r"/proc(?:/[\w.-]+)+|/sys/fs/cgroup|~/\.cache(?:/vllm/torch_compile_cache)?")
_CODE = re.compile(r"<script(?![^>]*application/json).*?</script>|<style.*?</style>|</?[a-z][^>]*>", re.DOTALL)


def leaks(text: str, planted: Iterable[str] = PLANTED) -> list[str]:
    """Return what is private in a text."""
    found = [text[max(0, at - 40) : at + 40] for word in planted if (at := text.lower().find(word.lower())) >= 0]
    shaped = [match[0] for pattern in (_PATH, _ADDRESS) for match in pattern.finditer(text)]
    return found + [one for one in shaped if not _PUBLIC.fullmatch(one.rstrip("."))]


def plain(made: Any) -> Iterator[str]:
    """Yield the texts in whatever a report is made of: bytes are unpacked, of pages what is shown and the data remain."""
    if isinstance(made, bytes):
        content = gzip.decompress(made) if made.startswith(b"\x1f\x8b") else made
        yield from plain(content.decode("utf-8", errors="replace")) if not made.startswith(b"\x89PNG") else ()
    elif isinstance(made, (str, Path)):
        yield _CODE.sub(" ", str(made)) if str(made).lstrip().startswith(("<!", "<html", "<svg", "<?xml")) else str(made)
    elif isinstance(made, pl.DataFrame):
        yield from (text for column in made for text in column.cast(pl.String, strict=False) if text)
    elif dataclasses.is_dataclass(made):
        yield from plain([getattr(made, field.name) for field in dataclasses.fields(made)])
    elif isinstance(made, Mapping):
        yield from plain([*made, *made.values()])
    elif isinstance(made, Iterable):
        for one in made:
            yield from plain(one)
    elif isinstance(made, int | float):
        yield str(made)


_FILLED: dict[str, Iterable[Any]] = {"target": ticket.TARGETS, "cause": explain.causes(), "written": [[]]}
_PARTS = {"ledger", "ordered", "outcome", "capture", "side", "sides", "folder"}
"""Parameters of functions that make a part of a report, whole ones of which are called, or are called apart."""


def renderers(kind: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Find whatever in `reports` makes something of a result of a kind; ``kind`` is as its parameter's type is written."""
    for module in sorted(info.name.removeprefix("reports.") for info in pkgutil.walk_packages(reports.__path__, "reports.")):
        for name, function in inspect.getmembers(importlib.import_module(f"reports.{module}"), inspect.isfunction):
            if function.__module__ != f"reports.{module}" or name.startswith("_"):
                continue
            first, *others = [*inspect.signature(function).parameters.values()] or [None]
            if first is None or not re.search(rf"(?:^|[| ]){re.escape(kind)}(?:$|[ |])", str(first.annotation)):
                continue
            needed = [
                other.name for other in others if other.default is inspect.Parameter.empty and other.name not in _FILLED
            ]
            if needed:
                assert set(needed) <= _PARTS, f"{module}.{name} needs {needed}: say here what for"
                continue
            asked = [other.name for other in others if other.name in _FILLED]
            yield f"{module}.{name}", lambda result, f=function, a=asked: list(_all_ways(f, result, a))


def _all_ways(function: Callable[..., Any], result: Any, asked: list[str]) -> Iterator[Any]:
    for value in _FILLED[asked[0]] if asked else [None]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            made = function(result, **({asked[0]: value} if asked else {}))
        yield [said.getvalue(), made]


def rendered(kind: str, result: Any, of: str = "") -> dict[str, str]:
    """Return all that is made of a result, by what makes it; ``of`` finds only some of that."""
    return {name: "\n".join(plain(render(result))) for name, render in renderers(kind) if re.search(of, name)}


def numbers(made: Any) -> Any:
    """Return the numbers of a JSON report, in its shape; of texts only that there is one."""
    if isinstance(made, dict):
        return [numbers(value) for value in made.values()]
    if isinstance(made, list):
        return [numbers(value) for value in made if not isinstance(value, str)]
    return "" if isinstance(made, str) else made


def figures_of_table(text: str) -> list[list[str]]:
    """Return a CSV less its texts."""
    return [[re.sub(r"[^\d.,%+-]+.*", "", cell) for cell in row] for row in csv.reader(io.StringIO(text))]


NO_PICTURES = "^(?!plots)"


def check(kind: str, result: Any, planted: Iterable[str], least: int, of: str = "") -> dict[str, str]:
    """Assert that nothing private is in any output of a redacted result; figures stay, and what is redacted stays so."""
    shown = redacted(result)
    before, after = rendered(kind, result, "_(?:json|csv)$"), rendered(kind, shown, of)
    assert len(after) >= least
    assert {name: leaks(text, planted)[:5] for name, text in after.items() if leaks(text, planted)} == {}
    for name, text in before.items():
        if name.endswith("_json"):
            assert numbers(json.loads(after[name].strip())) == numbers(json.loads(text.strip())), name
        else:
            assert figures_of_table(after[name]) == figures_of_table(text), name
    assert list(plain(redacted(shown))) == list(plain(shown))
    return after


def hostile_trace(seed: int, **more: Any) -> dict[str, Any]:
    trace = decode_trace(seed=seed, host_name="gpu17.acme.example.com", **more)
    frames = (
        "/home/alice/acme/serve.py(12): step",
        "/opt/acme/other/serve.py(12): step",
        "/usr/lib/python3.11/site-packages/vllm/engine.py(7): run",
        "vllm/v1/engine/core.py(3): step",
    )
    odd = ("</script><img src=/home/alice/x onerror=1>", "read /mnt/acme/sekret/llm.bin", "GET http://gpu17:8000/v1/models")
    for step in [event for event in trace["traceEvents"] if event["cat"] == "user_annotation"]:
        at, dur = step["ts"], step["dur"]
        trace["traceEvents"] += [span(name, "python_function", at + i, dur - 2 * i) for i, name in enumerate(frames)]
        trace["traceEvents"] += [span(name, "cpu_op", at + 0.1 * dur * i, 0.05 * dur) for i, name in enumerate(odd, start=1)]
    return trace


def write_hostile(folder: Path, seed: int, ns: int, **more: Any) -> Path:
    """Write a capture that has something private wherever there can be."""
    write_trace(folder / "traces" / f"gpu17_4242.{ns}.pt.trace.json.gz", hostile_trace(seed, **more))
    write_trace(folder / "acme traces" / "alice's copy.json", {"traceEvents": [], "schemaVersion": 1})
    (folder / "acme-notes.txt").write_text("sekret")
    counters = {"host_cpu_usage": 30.0 + 20 * seed, "gpu_sm_frequency": 1400.0, "gpu_usage": 50.0}
    write_counters(folder / "acme.csv", counters, seed=seed)
    now = 1_790_857_026
    series = [
        {
            "metric": {"__name__": "node_load1", "instance": f"{host}:9100", "nodename": host},
            "values": [[now + 0.1 * i, str(1 + seed + 0.01 * i)] for i in range(10)],
        }
        for host in ("gpu17", "gpu17b")
    ]
    (folder / "prometheus.json").write_text(
        json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})
    )
    manifest = {
        "schema": "rca.capture/1",
        "tool": "rca 0.1.0",
        "status": "complete",
        "host": {"name": "gpu17", "kernel": "6.1", "cpu": "Xeon", "cores": 4},
        "engine": {
            "name": "vllm",
            "version": f"0.13.{seed}",
            "url": "http://10.20.30.40:8000",
            "settings": {
                "model": f"/srv/acme/llm-{seed}",
                "download_dir": "acme/cache",
                "host": "10.20.30.40",
                "ssl_keyfile": "/home/alice/keys/prod.key",
                "max_num_seqs": 16 * seed,
                "otlp_traces_endpoint": "http://alice:hunter2@wiki.example.com/x",
            },
        },
        "command": ["/home/alice/bin/serve", "--acme", "hunter2", "sekret mode"],
        "events": [
            {"at_ns": ns, "kind": "trace_missing", "text": "no trace in /home/alice/traces on gpu17"},
            {
                "at_ns": ns,
                "kind": "process_ended",
                "text": "'python serve.py --acme hunter2' ended, said alice@gpu17.example.com",
            },
            {
                "at_ns": ns,
                "kind": "sampler_failed",
                "text": "C:\\Users\\alice\\x failed: ran /home/alice/bin/serve --acme hunter2 sekret mode",
            },
        ],
    }
    (folder / "capture.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    folder = tmp_path_factory.mktemp("captures") / FOLDER
    return {
        "normal": write_hostile(folder / "normal", 1, 1795667654059453394),
        "abnormal": write_hostile(folder / "abnormal", 2, 1795667654059453999, slow=1.6),
    }


@pytest.fixture(scope="module")
def result(sides: dict[Any, Path]) -> Comparison:
    return api.compare(sides["normal"], sides["abnormal"], pictures=True)


class TestCaptures:
    def test_what_was_planted_is_there(self, sides: dict[Any, Path], result: Comparison) -> None:
        outputs = rendered("Comparison", result, "^(?:machine|ticket|tables|terminal)")
        told = {word for word in PLANTED for text in outputs.values() if word in text}
        assert told >= set(PLANTED) - {"sekret"}
        assert any(leaks(text, ["serve.py"]) for text in outputs.values())

    def test_every_output(self, result: Comparison) -> None:
        outputs = check("Comparison", result, PLANTED, least=12)
        assert {"machine.comparison_json", "tables.comparison_csv", "ticket.render", "terminal.summary"} < outputs.keys()
        assert {"page.render.page", "plots.captures", "explain.explanation"} < outputs.keys()

    def test_the_answer_stays(self, result: Comparison) -> None:
        shown = redacted(result)
        assert shown.verdict.status == result.verdict.status
        assert [cause.id for cause in shown.verdict.causes] == [cause.id for cause in result.verdict.causes]
        assert [rank.cycle_time for rank in shown.ranks] == [rank.cycle_time for rank in result.ranks]
        before, after = (own.ranks[0].functions for own in (result, shown))
        assert before.drop("function").equals(after.drop("function"))
        changed = {a: b for a, b in zip(before["function"], after["function"], strict=True) if a != b}
        assert changed == {
            "</script><img src=/home/alice/x onerror=1>": "</script><img src=<path> onerror=1>",
            "read /mnt/acme/sekret/llm.bin": "read <path>",
            "GET http://gpu17:8000/v1/models": "GET http://<host 1>",
        }
        assert [file.sha256 for file in shown.normal.files] == [file.sha256 for file in result.normal.files]

    def test_findings_lead_to_the_same_functions_and_files(self, result: Comparison) -> None:
        shown = redacted(result)
        assert len(shown.places) == len(result.places) > 5
        functions = {f"function:{row['device']}:{row['function']}" for row in shown.ranks[0].functions.to_dicts()}
        assert {place.finding for place in shown.places if place.finding.startswith("function:")} <= functions
        assert {place.file for place in shown.places} <= {file.path for file in (*shown.normal.files, *shown.abnormal.files)}

    def test_frames_lose_their_folders_only(self, result: Comparison) -> None:
        names = {name for rank in redacted(result).pictures.ranks for name in rank.stacks.nodes["name"]}
        assert {
            "serve.py(12): step",
            "serve.py(12): step (2)",
            "engine.py(7): run",
            "vllm/v1/engine/core.py(3): step",
        } <= names

    def test_traces_for_perfetto(self, sides: dict[Any, Path], result: Comparison, tmp_path: Path) -> None:
        written = perfetto.write_traces(redacted(result), sides, tmp_path, shown_as=redacted)
        for path in written:
            text = "\n".join(plain(path.read_bytes()))
            assert "serve.py(12): step" in text
            assert leaks(text) == []

    def test_hosts_alone(self, sides: dict[Any, Path], tmp_path: Path) -> None:
        for side, folder in sides.items():
            own = tmp_path / FOLDER / side
            own.mkdir(parents=True)
            (own / "acme.csv").write_bytes((folder / "acme.csv").read_bytes())
        check("Comparison", api.compare(tmp_path / FOLDER / "normal", tmp_path / FOLDER / "abnormal"), PLANTED, least=12)

    def test_inspections(self, sides: dict[Any, Path]) -> None:
        outputs = check("Inspection", api.inspect(sides["normal"]), PLANTED, least=3)
        assert "inspection.inspection_json" in outputs

    def test_anchors_of_both_sides(self, sides: dict[Any, Path]) -> None:
        found = redacted({side: api.inspect(path) for side, path in sides.items()})
        assert leaks(importlib.import_module("reports.inspection").anchors_text(found)) == []


def write_starts(folder: Path, slow: float) -> Path:
    for number in range(4):
        log = (
            Vllm(model="/srv/acme/qwen-4b", silence=20 * slow)
            .slowed(slow + 0.01 * number)
            .log("EngineCore_0 pid=5 ip=10.20.30.40")
        )
        log.lines = [
            line.replace(
                "Available KV cache memory", "on gpu17.acme.internal, see http://wiki.example.com/~alice, KV cache"
            ).replace(
                "torch.compile takes",
                "from /home/alice/.cache/acme/sekret by python serve.py --acme hunter2; torch.compile takes",
            )
            for line in log.lines
        ]
        log.save(folder / f"acme_start{number}.log")
    (folder / "acme-alice.txt").write_text("nothing\n")
    return folder


class TestStartups:
    def test_reports(self, tmp_path: Path) -> None:
        found = startup.report([write_starts(tmp_path / FOLDER, 1.0)])
        outputs = check("StartupReport", found, PLANTED, least=5)
        assert {"startup.grid_text", "startup.startup_json", "plots.startups"} <= outputs.keys()

    def test_comparisons(self, tmp_path: Path) -> None:
        folder = tmp_path / FOLDER
        found = startup.compare_startups(write_starts(folder / "normal", 1.0), write_starts(folder / "abnormal", 1.5))
        assert any(leaks(text) for text in rendered("StartupComparison", found).values())
        shown = redacted(found)
        assert (shown.compared.status, shown.compared.p) == (found.compared.status, found.compared.p)
        check("StartupComparison", found, PLANTED, least=4)

    def test_failed_starts(self, tmp_path: Path) -> None:
        log = Vllm().log()
        log.lines = [*log.lines[:6], "ValueError: /home/alice/acme/llm has no config.json on gpu17.example.com"]
        found = startup.report([log.save(tmp_path / FOLDER / "acme.log").parent])
        assert found.startups.usable == ()
        assert leaks("\n".join(redacted(found).startups.remarks)) == []


class TestOthers:
    def test_model_runs(self, fixtures: Path, tmp_path: Path) -> None:
        paths = []
        for kind in ("float32", "bfloat16"):
            paths.append(tmp_path / FOLDER / kind)
            paths[-1].mkdir(parents=True)
            for file in (fixtures.parent / "bench" / kind).iterdir():
                if file.is_file():
                    (paths[-1] / file.name).write_bytes(file.read_bytes())
            facts = json.loads((paths[-1] / "environment.json").read_text())
            facts |= {"model": f"acme/models/{kind}", "python": "3.11.7", "host": "gpu17", "command": "serve --acme hunter2"}
            (paths[-1] / "environment.json").write_text(json.dumps(facts))
        check("BenchRun", bench.read(paths[0]), PLANTED, least=3)
        check("BenchComparison", bench.compare(*paths), PLANTED, least=4)

    def test_sweeps(self, fixtures: Path, tmp_path: Path) -> None:
        folder = tmp_path / FOLDER
        folder.mkdir()
        for file in (fixtures.parent / "sweep").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        facts = json.loads((folder / "environment.json").read_text()) | {"host": "gpu17", "python": "/home/alice/bin/python"}
        (folder / "environment.json").write_text(json.dumps(facts))
        check("Result", sweep.sweep(folder), PLANTED, least=4)


REAL = (
    "own/vllm/stack-eager-4steps",
    "own/sglang/stack-4steps.1795221621.9017775-TP-0.trace.json.gz",
    "sglang-a100/cpu_compute_squeeze_out/normal",
    "traces/kineto/b200_eager.json.gz",
    "traces/kineto/sglang_decode_qwen3_30b_MI300.json.gz",
    "traces/kineto/negative_queue_length_rank0.json.gz",
    "traces/nsys/perlmutter-cloverleaf-cuda.sqlite",
)


@pytest.mark.parametrize("path", REAL)
def test_real_captures(shared_data: Path, path: str) -> None:
    """Each against itself: what matters is what is in it."""
    capture = shared_data / path
    private = [
        str(shared_data),
        "vm_",
        "sgl-workspace",
        "facebook",
        "/root",
        *({capture.name} - {"normal"}),
        Path.cwd().name + "/",
    ]
    check("Comparison", api.compare(capture, capture, pictures=True), private, least=12, of=NO_PICTURES)
    check("Inspection", api.inspect(capture), private, least=3)


def test_fixtures(fixtures: Path) -> None:
    private = [str(fixtures), "vm_25006", "/srv/llm", "tiny-model", "vllm-cpu-contention"]
    check("Comparison", api.compare(fixtures / "normal", fixtures / "abnormal", pictures=True), private, least=12)


@pytest.mark.parametrize("folder", ["own/sglang", "own/vllm", "traces/startup-logs", "vllm-startup"])
def test_real_startups(shared_data: Path, folder: str) -> None:
    logs = sorted(file for file in (shared_data / folder).rglob("*") if file.suffix in (".log", ".txt"))
    found = startup.report(logs)
    private = [
        str(shared_data),
        "/home/",
        "stefano",
        "/opt/server",
        *(log.name for log in logs if not log.name.startswith(("server.", "rank0."))),
    ]
    check("StartupReport", found, private, least=5)


def test_the_command_line(rca: Any, sides: dict[Any, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = rca("compare", sides["normal"], sides["abnormal"], "--redact", "-o", out)
    assert ran.code == 0, ran.err
    texts = [ran.err, *(text for file in out.iterdir() for text in plain(file.read_bytes()))]
    assert [leak for text in texts for leak in leaks(text)] == []
    for command in (["inspect"], ["inspect", "--json", "-"]):
        ran = rca(*command, sides["normal"], "--redact")
        assert ran.code == 0, ran.err
        assert leaks(ran.out + ran.err) == []
    missing = tmp_path / FOLDER / "gone"
    ran = rca("compare", missing, sides["abnormal"], "--redact")
    assert ran.code == 2
    assert leaks(ran.err) == []
    assert ran.err.startswith("rca: <path>: ")
