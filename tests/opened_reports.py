"""A folder of reports as `rca open` finds it, and a client of what it serves."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from traces import write_pair

from rca.api import compare
from reports import machine, perfetto
from reports.serve.opening import Site
from reports.serve.serving import Server

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


@pytest.fixture(scope="module", name="compared")
def compared_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(name="report")
def report_folder(compared: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    shutil.copytree(compared, tmp_path / "copy")
    document = tmp_path / "copy" / "report" / "report.json"
    document.write_text(document.read_text().replace(str(compared), str(tmp_path / "copy")))
    return tmp_path / "copy" / "report"
