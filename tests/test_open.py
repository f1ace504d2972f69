"""`rca open`: what is served, and to whom."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from opened_reports import PAGE, Client, compared_pair, opened, report_folder, serving  # noqa: F401  (some are fixtures)
from traces import decode_trace, write_pair, write_trace

from rca.cli_open import open_
from rca.errors import InputError, UsageError
from reports.serve.opening import Site
from reports.serve.serving import Answer, Server

ROOT = Path(__file__).parents[1]


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
        assert client("/").headers["Content-Security-Policy"].endswith("; script-src 'sha256-x'")
        for page in (
            "<script>alert(1)</script>",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'unsafe-inline' * https: 'nonce-1'\">",
        ):
            (report / "report.html").write_text(page)
            assert "script-src" not in client("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.", "127.0.0.1:1@x", "localhost:x", "[::1]:80", "", "127.0.0.1.evil.example", "127.1"]
)
def test_other_names_of_this_machine_are_refused(report: Path, host: str) -> None:
    with opened(report) as client:
        reply = client("/", host=host)
        assert reply.status == 403
        assert reply.text.count("\n") == 1
        assert "report" not in reply.text
        for own in (f"localhost:{client.port}", "127.0.0.1:9000", "LOCALHOST"):  # ssh -L 9000:127.0.0.1:PORT
            assert client("/", host=own).status == 200


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
    before = sorted(tmp_path.rglob("*"))
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
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written beside the captures, or into them"


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
    default = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # tests may be run by nohup
    program = f"{default}; import sys; from rca.cli_open import open_; open_(sys.argv[1:], prog_name='rca open')"
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


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
