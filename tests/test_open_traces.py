"""`rca open`: which traces of a side can be handed over, and where a place lies in them."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from opened_reports import PAGE, compared_pair, opened, report_folder  # noqa: F401  (fixtures)
from traces import BASE_NS, decode_trace, write_pair, write_trace

from rca.api import compare
from reports import machine, perfetto


def test_the_traces_that_were_written_are_handed_over(report: Path) -> None:
    with opened(report) as client:
        page = client.page("/perfetto/abnormal")
        (trace,) = page.data["traces"]
        assert page.data["ui"] == "https://ui.perfetto.dev"
        assert (trace["name"], trace["hash"]) == ("abnormal.json.gz", "")
        assert "abnormal.json.gz" in page.text
        assert "120 events" in page.text
        path = report / "perfetto" / "abnormal.json.gz"
        assert client("/perfetto/" + trace["href"]).body == path.read_bytes()
        policy = page.reply.headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy
        assert re.search(r"script-src 'sha256-[^']+'; style-src 'sha256-[^']+';", policy)
        assert "unsafe" not in policy


def test_a_place_is_found_in_the_trace(report: Path) -> None:
    about = perfetto.header(report / "perfetto" / "abnormal.json.gz")
    at, dur = 20_000_000, 4_000_000
    with opened(report) as client:
        (trace,) = client.page(f"/perfetto/abnormal?ts={about['origin_ns'] + at}&dur={dur}").data["traces"]
        assert trace["hash"] == f"visStart={at - dur // 4}&visEnd={at + dur + dur // 4}&ts={at}&dur={dur}"
        file = about["files"][0]["path"]
        ts_us = (about["origin_ns"] + at - BASE_NS) / 1000
        (same,) = client.page(f"/perfetto/abnormal?file={file}&ts_us={ts_us}&dur_us={dur / 1000}").data["traces"]
        assert same["hash"] == trace["hash"]
        page = client.page(f"/perfetto/abnormal?ts={about['origin_ns']}&dur={about['length_ns']}")
        assert page.data["traces"][0]["hash"].startswith(f"visStart=0&visEnd={about['length_ns']}&"), "never beyond its ends"
        assert "It opens at the place of the link, 1" in page.text


@pytest.mark.parametrize(
    "query", ["ts=x", "ts=1e3", "ts=" + "9" * 30, "ts_us=nan", "ts_us=1&dur_us=inf", "ts=1&dur=-", "ts=1%00", "ts=%C2%B2"]
)
def test_places_that_cannot_be_read_are_said(report: Path, query: str) -> None:
    with opened(report) as client:
        page = client.page(f"/perfetto/normal?{query}")
        assert page.data["traces"][0]["hash"] == ""
        assert "names no moment that can be read" in page.text


def test_a_place_of_an_unknown_file_is_said(report: Path) -> None:
    with opened(report) as client:
        page = client.page("/perfetto/normal?file=other.json&ts_us=5")
        assert page.data["traces"][0]["hash"] == ""
        assert "is not known, so the whole trace is shown" in page.text


@pytest.mark.parametrize("number", ["1", "-1", "x", "9" * 5000, "%C2%B2"])
def test_other_numbers_of_traces_are_refused(report: Path, number: str) -> None:
    with opened(report) as client:
        assert client(f"/perfetto/normal/trace?n={number}").status == 409


def test_without_written_traces_the_captures_own_files_are_handed_over(report: Path) -> None:
    shutil.rmtree(report / "perfetto")
    with opened(report) as client:
        page = client.page(f"/perfetto/normal?ts={BASE_NS + 7_000_000}&dur=1000")
        (trace,) = page.data["traces"]
        assert (trace["name"], trace["hash"]) == ("rank0.json", "visStart=7000000&visEnd=7001000")
        assert client("/perfetto/" + trace["href"]).body == (report.parent / "normal" / "rank0.json").read_bytes()
        (same,) = client.page("/perfetto/normal?file=rank0.json&ts_us=7000&dur_us=1").data["traces"]
        assert same["hash"] == trace["hash"]


@pytest.mark.parametrize("given", [".", "report.html", "../report"])
def test_they_are_found_from_within_the_folder_of_reports(report: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    shutil.rmtree(report / "perfetto")
    document = report / "report.json"
    document.write_text(document.read_text().replace(f"{report.parent}/", ""))  # as compared in the folder around it
    monkeypatch.chdir(report)
    with opened(Path(given)) as client:
        assert [trace["name"] for trace in client.page("/perfetto/normal").data["traces"]] == ["rank0.json"]


def test_what_is_written_for_a_redacted_report_is_redacted(tmp_path: Path, rca: Any) -> None:
    for redact in ([], ["--redact"]):
        out = tmp_path / f"report{len(redact)}"
        rca("compare", *write_pair(tmp_path), "-o", out, *redact)
        shutil.move(tmp_path / "normal", tmp_path / "elsewhere")
        with opened(out) as client:
            remedy = re.search("rca compare NORMAL [^<]*", client("/perfetto/normal").text)
        assert remedy
        assert ("--redact" in remedy[0]) == bool(redact)
        shutil.rmtree(tmp_path / "elsewhere")


def test_of_several_files_the_one_with_the_place_is_chosen(tmp_path: Path) -> None:
    for side, seed in (("normal", 1), ("abnormal", 3)):
        for rank in (0, 1):
            write_trace(tmp_path / side / f"rank{rank}.json.gz", decode_trace(rank=rank, seed=seed + rank))
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text(PAGE)
    (report / "report.json").write_text(machine.comparison_json(compare(tmp_path / "normal", tmp_path / "abnormal")))
    with opened(report) as client:
        page = client.page("/perfetto/normal?file=rank1.json.gz&ts_us=2000&dur_us=100")
        assert [trace["name"] for trace in page.data["traces"]] == ["rank0.json.gz", "rank1.json.gz"]
        assert [bool(trace["hash"]) for trace in page.data["traces"]] == [False, True]
        assert re.search(r'value="1" checked', page.text)
        assert not re.search(r'value="0" checked', page.text)


def test_files_that_changed_or_are_gone_are_not_handed_over(report: Path) -> None:
    shutil.rmtree(report / "perfetto")
    normal, abnormal = report.parent / "normal" / "rank0.json", report.parent / "abnormal" / "rank0.json"
    content = normal.read_bytes()
    with opened(report) as client:
        client.page("/perfetto/normal")
        normal.write_bytes(content + b" ")
        assert client("/perfetto/normal/trace?n=0").status == 409
        normal.write_bytes(content.replace(b"aten::op", b"aten::no", 1))
        page = client.page("/perfetto/normal")
        assert page.data["traces"] == []
        assert "has changed since it was compared" in page.text
        abnormal.unlink()
        page = client.page("/perfetto/abnormal")
        assert page.data["traces"] == []
        assert "is not where it was" in page.text
        assert f"--perfetto {report / 'perfetto'}" in page.text


def test_what_perfetto_does_not_read_is_not_handed_over(tmp_path: Path) -> None:
    """rca reads traces that are compressed by xz, Perfetto does not."""
    for side, seed in (("normal", 1), ("abnormal", 2)):
        path = write_trace(tmp_path / side / "rank0.json", decode_trace(seed=seed))
        path.with_suffix(".json.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    (tmp_path / "report.html").write_text(PAGE)
    (tmp_path / "report.json").write_text(machine.comparison_json(compare(tmp_path / "normal", tmp_path / "abnormal")))
    with opened(tmp_path) as client:
        page = client.page("/perfetto/normal")
        assert page.data["traces"] == []
        assert "compressed in a way that Perfetto does not read" in page.text


def test_a_report_names_no_file_that_its_writer_does_not_know(report: Path) -> None:
    shutil.rmtree(report / "perfetto")
    secret = report.parent / "secret.json"
    secret.write_text('{"key": 1}')
    document = json.loads((report / "report.json").read_text())
    capture = next(one for one in document["captures"] if one["side"] == "normal")
    capture["path"] = str(secret)
    capture["files"] = [{"path": "secret.json", "format": "chrome", "size_bytes": secret.stat().st_size, "sha256": "0" * 64}]
    (report / "report.json").write_text(json.dumps(document))
    with opened(report) as client:
        page = client.page("/perfetto/normal")
        assert page.data["traces"] == []
        assert client("/perfetto/normal/trace?n=0").status == 409


@pytest.mark.parametrize("text", ["", "[]", "{", '{"captures": 5}', '{"captures": [{"side": "normal", "files": [1, {}]}]}'])
def test_a_broken_report_json_is_no_reason_to_fail(report: Path, text: str) -> None:
    (report / "report.json").write_text(text)
    with opened(report) as client:
        assert len(client.page("/perfetto/normal").data["traces"]) == 1
        shutil.rmtree(report / "perfetto")
        assert client.page("/perfetto/normal").data["traces"] == []


def test_a_trace_of_other_captures_is_said(report: Path) -> None:
    shutil.copy(report / "perfetto" / "normal.json.gz", report / "perfetto" / "abnormal.json.gz")
    with opened(report) as client:
        assert "written from other files than this report" in client.page("/perfetto/abnormal").text
        assert "other files" not in client.page("/perfetto/normal").text
        (report / "perfetto" / "normal.json.gz").write_bytes(gzip.compress(b"[]"))
        page = client.page("/perfetto/normal")
        assert "is not a trace that rca wrote" in page.text
        (report / "perfetto" / "normal.json.gz").write_bytes(b"no gzip")
        assert "normal.json.gz is not a trace that rca wrote" in client.page("/perfetto/normal").text
        about = b'{"otherData":{"rca":{"format":1,"eras":[[0,1e999]],"length_ns":1}},\n'
        (report / "perfetto" / "normal.json.gz").write_bytes(gzip.compress(about))
        assert "is not known" in client.page("/perfetto/normal?ts=5&dur=1").text
        assert [trace["name"] for trace in page.data["traces"]] == ["rank0.json"]


def test_names_of_files_are_text(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>.json"
    for side, seed in (("normal", 1), ("abnormal", 2)):
        write_trace(tmp_path / side / name, decode_trace(seed=seed))
    (tmp_path / "report.html").write_text(PAGE)
    (tmp_path / "report.json").write_text(machine.comparison_json(compare(tmp_path / "normal", tmp_path / "abnormal")))
    with opened(tmp_path) as client:
        page = client.page("/perfetto/normal")
        assert page.data["traces"][0]["name"] == name
        assert "<img" not in page.text
