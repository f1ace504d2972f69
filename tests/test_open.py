"""`rca open`: what is served, to whom, and which traces can be handed over."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from traces import BASE_NS, decode_trace, write_pair, write_trace

from rca.api import compare
from rca.cli_open import open_
from rca.errors import InputError, UsageError
from reports import machine, perfetto
from reports.opening import Site
from reports.serving import Answer, Server

ROOT = Path(__file__).parents[1]
PAGE = (
    "<!doctype html><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-x'\">"
    "<title>report</title>"
)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, target: str, method: str = "GET", host: str | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_host=True)
            if host != "":
                connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            connection.endheaders()
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def page(self, target: str) -> Page:
        reply = self(target)
        assert reply.status == 200, reply.text
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', reply.text, re.DOTALL)
        assert data
        return Page(reply, json.loads(data[1]))


class Page(NamedTuple):
    reply: Reply
    data: dict[str, Any]

    @property
    def text(self) -> str:
        return self.reply.text


@contextmanager
def serving(names: Any) -> Iterator[Client]:
    with Server() as server:
        thread = threading.Thread(target=server.run, args=(names,))
        thread.start()
        try:
            yield Client(server.port)
        finally:
            server.stop()
            thread.join()


@contextmanager
def opened(path: Path) -> Iterator[Client]:
    with Site(path) as names, serving(names) as client:
        yield client


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captures, and a folder of reports beside them with traces."""
    base = tmp_path_factory.mktemp("compared")
    sides: Any = dict(zip(("normal", "abnormal"), write_pair(base, slow=1.3), strict=True))
    result = compare(**sides)
    folder = base / "report"
    folder.mkdir()
    (folder / "report.html").write_text(PAGE)
    (folder / "report.json").write_text(machine.comparison_json(result))
    (folder / "report.md").write_text("# report\n")
    perfetto.write_traces(result, sides, folder / "perfetto")
    return base


@pytest.fixture
def report(compared: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    shutil.copytree(compared, tmp_path / "copy")
    document = tmp_path / "copy" / "report" / "report.json"
    document.write_text(document.read_text().replace(str(compared), str(tmp_path / "copy")))
    return tmp_path / "copy" / "report"


def test_the_report_and_what_lies_beside_it(report: Path) -> None:
    with opened(report) as client:
        page = client("/")
        assert (page.status, page.text) == (200, PAGE)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Content-Length"] == str(len(page.body))
        assert client("/report.md").text == "# report\n"
        assert json.loads(client("/report.json").body)["schema"] == "rca.comparison/1"
        assert client("/comparison.csv").status == 404
        assert client("/favicon.ico").status == 204
        (report / "report.html").write_text("<p>made anew</p>")
        assert client("/").text == "<p>made anew</p>"


def test_nothing_is_kept_guessed_framed_or_told(report: Path) -> None:
    with opened(report) as client:
        for target in ("/", "/report.json", "/perfetto/normal", "/perfetto/normal/trace?n=0", "/nothing"):
            headers = client(target).headers
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "Access-Control-Allow-Origin" not in headers
            assert headers["Server"] == "rca"
            assert "Cross-Origin-Opener-Policy" not in headers, "the tab of Perfetto could not answer"


def test_scripts_run_only_in_pages_that_name_them(report: Path) -> None:
    with opened(report) as client:
        assert "script-src" in client("/").headers["Content-Security-Policy"]
        (report / "report.html").write_text("<script>alert(1)</script>")
        assert "script-src" not in client("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]", "", "127.0.0.1.evil.example"]
)
def test_other_names_of_this_machine_are_refused(report: Path, host: str) -> None:
    with opened(report) as client:
        reply = client("/", host=host)
        assert reply.status == 403
        assert reply.text.count("\n") == 1
        assert "report" not in reply.text
        assert client("/", host=f"localhost:{client.port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "NONSENSE"])
def test_other_methods_are_refused(report: Path, method: str) -> None:
    with opened(report) as client:
        reply = client("/", method)
        assert (reply.status, reply.text) == (405, "only GET and HEAD\n")
        assert reply.headers["Allow"] == "GET, HEAD"


def test_head_has_the_headers_alone(report: Path) -> None:
    with opened(report) as client:
        for target in ("/", "/perfetto/abnormal/trace?n=0"):
            whole, head = client(target), client(target, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == str(len(whole.body))


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/report.html/../../secret.txt",
        "//secret.txt",
        "/perfetto/../../secret.txt",
        "/perfetto/normal.json.gz",
        "/perfetto/normal/trace/../../../secret.txt",
        "/perfetto/other",
        "/secret.txt",
        "/report.html%00",
        "http://127.0.0.1/secret.txt",
    ],
)
def test_no_other_name_leads_to_a_file(report: Path, target: str) -> None:
    (report.parent / "secret.txt").write_text("secret")
    (report / "secret.txt").write_text("secret")
    with opened(report) as client:
        reply = client(target)
        assert reply.status == 404
        assert b"secret" not in reply.body


def test_odd_requests_do_not_end_the_server(report: Path) -> None:
    with opened(report) as client:
        for sent in (
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"GET /" + b"x" * 70_000,
        ):
            with socket.create_connection(("127.0.0.1", client.port)) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(10)
                while connection.recv(4096):
                    pass
        assert client("/?" + "&".join(f"a{i}=1" for i in range(50))).status == 400
        assert client("/").status == 200


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
    import lzma

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


def test_a_single_report(report: Path, tmp_path: Path) -> None:
    with opened(report / "report.html") as client:
        assert client("/").text == PAGE
        assert len(client.page("/perfetto/normal").data["traces"]) == 1
    alone = tmp_path / "alone" / "mine.html"
    alone.parent.mkdir()
    alone.write_text("<p>mine</p>")
    (alone.parent / "report.json").write_text((report / "report.json").read_text())
    with opened(alone) as client:
        assert client("/").text == "<p>mine</p>"
        assert client("/report.json").status == 404
        page = client.page("/perfetto/normal")
        assert page.data["traces"] == []
        assert "rca compare NORMAL ABNORMAL" in page.text


def test_two_captures_are_compared_first(tmp_path: Path) -> None:
    write_pair(tmp_path, slow=1.3)
    before = sorted(path.name for path in tmp_path.iterdir())
    with opened(tmp_path) as client:
        page = client("/")
        assert page.status == 200
        assert "SLOWER" in page.text.upper()
        handed = client.page("/perfetto/abnormal")
        (trace,) = handed.data["traces"]
        body = client("/perfetto/" + trace["href"]).body
        assert len(json.loads(gzip.decompress(body))["traceEvents"]) > 120
        write_trace(tmp_path / "normal" / "rank0.json", decode_trace(seed=7))
        assert "has changed since it was compared" in client("/perfetto/normal").text
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "nothing is written beside the captures"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("nothing", "does not exist"),
        ("empty", "holds no report.html, and no normal and abnormal"),
        ("half", "holds no report.html, and no normal and abnormal"),
        ("json", "has no report.html (rca compare NORMAL ABNORMAL -o DIR writes it)"),
        ("text", "is not a report (expected an .html file"),
    ],
)
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, made: str, message: str) -> None:
    path = tmp_path / "x"
    if made == "text":
        path.write_text("")
    elif made != "nothing":
        path.mkdir()
    if made == "half":
        (path / "normal").mkdir()
    if made == "json":
        (path / "report.json").write_text("{}")
    with pytest.raises(InputError) as raised:
        Site(path)
    assert message in str(raised.value)
    assert raised.value.exit_code == 2


def test_captures_that_cannot_be_compared_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for side in ("normal", "abnormal"):
        (tmp_path / "pair" / side).mkdir(parents=True)
    with pytest.raises(InputError):
        Site(tmp_path / "pair")
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]


@pytest.mark.parametrize("port", [-1, 65_536, 10**9])
def test_ports_out_of_range_are_refused(port: int) -> None:
    with pytest.raises(UsageError, match=f"port {port} is not one"):
        Server(port)


def test_a_port_in_use_is_refused() -> None:
    with Server() as server, pytest.raises(UsageError, match=f"port {server.port} is in use; without --port"):
        Server(server.port)


def test_it_listens_on_this_machine_only() -> None:
    with Server() as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        assert server._http.socket.getsockname()[0] == "127.0.0.1"


def test_an_error_within_is_one_line() -> None:
    def broken(_: object) -> Answer:
        raise ZeroDivisionError("oh\nno")

    with serving({"/": broken}) as client:
        reply = client("/")
        assert (reply.status, reply.text) == (500, "internal error: ZeroDivisionError: oh no\n")


def test_help_tells_what_is_sent_where() -> None:
    text = CliRunner().invoke(open_, ["--help"]).output
    assert "nothing is sent anywhere before that, or without it" in " ".join(text.split())
    assert "Examples:" in text
    assert "Exit codes:" in text


@pytest.fixture
def started(report: Path) -> Iterator[subprocess.Popen[str]]:
    program = "import sys; from rca.cli_open import open_; open_(sys.argv[1:], prog_name='rca open')"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"BROWSER": "false"},
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_the_address_and_ends_quietly(started: subprocess.Popen[str], ended_by: int) -> None:
    assert started.stdout
    url = started.stdout.readline().strip()
    match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)
    assert match
    assert Client(int(match[1]))("/").text == PAGE
    time.sleep(0.2)
    started.send_signal(ended_by)
    out, err = started.communicate(timeout=20)
    assert (started.returncode, out, err) == (0, "", "Ctrl-C ends it.\n")


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(open_, [str(argument) for argument in arguments], standalone_mode=False)


def test_errors_of_the_command(tmp_path: Path, report: Path) -> None:
    assert isinstance(invoke(tmp_path / "none").exception, InputError)
    assert isinstance(invoke(report, "--port", "70000").exception, UsageError)
    assert isinstance(invoke(report, "--port", "x").exception, click.BadParameter)
    with Server() as server:
        assert isinstance(invoke(report, "--port", str(server.port)).exception, UsageError)


@pytest.mark.parametrize(
    ("arguments", "terminal", "screen", "opens"),
    [((), True, True, True), (("--no-browser",), True, True, False), ((), False, True, False), ((), True, False, False)],
)
def test_the_browser_opens_at_a_terminal(
    report: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], terminal: bool, screen: bool, opens: bool
) -> None:
    seen: list[str] = []
    for name in ("WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0" if screen else "")
    monkeypatch.setattr("webbrowser.open", seen.append)
    monkeypatch.setattr("rca.cli_open._at_a_terminal", lambda: terminal)
    monkeypatch.setattr(Server, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    ran = invoke(report, *arguments)
    assert ran.exit_code == 0
    assert len(seen) == opens
    assert all(url.startswith("http://127.0.0.1:") for url in seen)
