"""What `rca compare` writes besides text: the page, pictures, traces; and what it refuses to write over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from traces import decode_trace, write_pair, write_trace

PICTURES = {f"{name}.{kind}" for name in ("verdict", "cycles", "functions", "metrics") for kind in ("svg", "png")}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, slow=1.3)


def test_the_page_is_one_file(pair: tuple[Path, Path], tmp_path: Path, rca) -> None:
    ran = rca("compare", *pair, "--html", tmp_path / "page.html")
    assert ran.code == 0
    assert f"written: {tmp_path / 'page.html'}" in ran.out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert rca("compare", *pair, "--html", "-").out == (tmp_path / "page.html").read_text()


def test_the_page_in_the_folder_shows_single_events(pair: tuple[Path, Path], tmp_path: Path, rca) -> None:
    rca("compare", *pair)  # afterwards all but the events is in the cache
    rca("compare", *pair, "-o", tmp_path / "out", "--html", tmp_path / "page.html")
    text = (tmp_path / "out" / "report.html").read_text()
    assert text == (tmp_path / "page.html").read_text()
    data = text.partition('id="data">')[2].partition("</script>")[0]
    timelines = json.loads(data)["ranks"][0]["timelines"]
    assert len(timelines) == 4
    assert all(timeline["events"]["lane"] for timeline in timelines)


def test_pictures_and_traces_have_their_folders(pair: tuple[Path, Path], tmp_path: Path, rca) -> None:
    out = tmp_path / "out"
    ran = rca("compare", *pair, "-o", out, "--plots", out / "plots", "--perfetto", out / "perfetto")
    assert ran.code == 0
    assert {path.name for path in (out / "plots").iterdir()} == PICTURES
    names = {
        event["name"] for event in json.loads(gzip.decompress((out / "perfetto/normal.json.gz").read_bytes()))["traceEvents"]
    }
    assert "ampere_bf16_gemm_64x64" in names
    assert all(f"written: {path}" in ran.out for path in (out / "plots/verdict.svg", out / "perfetto/abnormal.json.gz"))


@pytest.mark.parametrize("option", ["--plots", "--perfetto"])
def test_a_folder_that_is_not_empty_is_refused(pair: tuple[Path, Path], tmp_path: Path, rca, option: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    ran = rca("compare", *pair, option, out)
    assert ran.code == 2
    assert "--force" in ran.err
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert rca("compare", *pair, option, out, "--force").code == 0
    assert (out / "mine.txt").read_text() == "keep"


def test_one_folder_may_hold_all(pair: tuple[Path, Path], tmp_path: Path, rca) -> None:
    out = tmp_path / "out"
    ran = rca("compare", *pair, "-o", out, "--plots", out, "--perfetto", out, "--csv", out / "mine.csv")
    assert ran.code == 0
    assert {path.name for path in out.iterdir()} > PICTURES | {"report.md", "normal.json.gz", "mine.csv"}
    assert rca("compare", *pair, "--md", tmp_path / "new" / "a.md", "--plots", tmp_path / "new").code == 0


@pytest.mark.parametrize(("option", "name"), [("--md", "report.html"), ("--csv", "plots/verdict.svg"), ("--md", "")])
def test_no_file_is_taken_for_two(pair: tuple[Path, Path], tmp_path: Path, rca, option: str, name: str) -> None:
    out = tmp_path / "out"
    if not name:
        out.mkdir()
    ran = rca("compare", *pair, "-o", out, "--plots", out / "plots", option, out / name)
    assert ran.code == 2
    assert ran.err.count("named for two reports" if name else "is a folder, not a file") == 1
    assert not list(tmp_path.glob("out/*")), "nothing is half-written"
    assert rca("compare", *pair, "-o", out, "--html", out / "report.html").code == 0


@pytest.mark.parametrize("option", ["-o", "--plots", "--perfetto"])
def test_stdout_is_no_folder(pair: tuple[Path, Path], rca, option: str) -> None:
    ran = rca("compare", *pair, option, "-")
    assert (ran.code, ran.out) == (2, "")
    assert "is stdout" in ran.err


def test_pages_lie_beside_pictures(tmp_path: Path, rca, fixtures: Path) -> None:
    out = tmp_path / "out"
    assert rca("startup", fixtures.parent / "startup/normal", "--html", out / "page.html", "--plots", out).code == 0
    assert {path.name for path in out.iterdir()} == {"page.html", "starts.svg", "starts.png"}


@pytest.mark.parametrize("option", ["--plots", "--perfetto", "--html"])
def test_nothing_is_written_into_a_capture(pair: tuple[Path, Path], rca, option: str) -> None:
    ran = rca("compare", *pair, option, pair[0] / "out")
    assert ran.code == 2
    assert "lies in a capture" in ran.err
    assert not (pair[0] / "out").exists()


def test_only_captures_have_traces(tmp_path: Path, rca, fixtures: Path) -> None:
    ran = rca(
        "compare", fixtures.parent / "bench/float32", fixtures.parent / "bench/bfloat16", "--perfetto", tmp_path / "out"
    )
    assert ran.code == 2
    assert "--perfetto" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["startup", "bench"])
def test_start_ups_and_model_runs_have_pages_and_pictures(tmp_path: Path, rca, fixtures: Path, kind: str) -> None:
    sides = ("normal", "abnormal") if kind == "startup" else ("float32", "bfloat16")
    folder = fixtures.parent / kind
    ran = rca("compare", *(folder / side for side in sides), "-o", tmp_path / "out", "--plots", tmp_path / "plots")
    assert ran.code == 0
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".svg", ".png"}


def test_redacted_output_names_neither_host_nor_place(tmp_path: Path, rca) -> None:
    host = "gpu-node-17.corp.example"
    sides = []
    for number, side in enumerate(("good-day", "incident-4711")):
        path = tmp_path / "customers" / side / f"{host}_{900 + number}.179566{number}.pt.trace.json"
        sides.append(write_trace(path, decode_trace(seed=number, slow=1 + number)).parent)
    out = tmp_path / "out"
    ran = rca("compare", *sides, "-o", out, "--plots", out / "plots", "--perfetto", out / "perfetto", "--redact")
    assert ran.code == 0
    written = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert len(written) > 10
    texts = [path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes()) for path in written]
    for private in (host, "gpu-node-17", "customers", "incident-4711", str(tmp_path)):
        assert private not in ran.out + ran.err
        assert not [path.name for path, text in zip(written, texts, strict=True) if private.encode() in text]
    missing = rca("compare", sides[0], tmp_path / "customers" / "no-such-day", "--redact")
    assert missing.code == 2
    assert "no-such-day" not in missing.err
    assert "does not exist" in missing.err
