"""A small web server for one reader: known names only, over loopback only."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rca.errors import RcaError, UsageError

ADDRESS = "127.0.0.1"
HIGHEST_PORT = 65_535
_SECONDS_PER_REQUEST = 60
"""A client that sends nothing for so long is hung up on."""

SHUT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""A Content-Security-Policy that lets nothing in."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_OWN_NAME = re.compile(rf"(?:{re.escape(ADDRESS)}|localhost)(?::[0-9]{{1,5}})?", re.IGNORECASE)
"""Behind a tunnel (``ssh -L``) the port is another one; no page elsewhere can choose the name."""

Query = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What is sent for one name.

    Attributes:
        kind: its media type.
        body: the bytes, or the file that holds them.
        policy: its Content-Security-Policy.
        status: of HTTP.
    """

    kind: str
    body: bytes | Path
    policy: str = SHUT
    status: HTTPStatus = HTTPStatus.OK


Names = Mapping[str, Callable[[Query], Answer]]
"""What there is: from the path of a URL to what makes the answer for its query."""


def line(status: HTTPStatus, text: str) -> Answer:
    """Return an answer of one line."""
    return Answer("text/plain; charset=utf-8", (" ".join(text.split()) + "\n").encode(errors="replace"), status=status)


_NOTHING = line(HTTPStatus.NOT_FOUND, "there is nothing of this name")


class Server:
    """A port of this machine; taken at once, served from by `run`.

    Args:
        port: 0 for any that is free.

    Raises:
        UsageError: the port is not one, is in use or may not be used.
    """

    def __init__(self, port: int = 0) -> None:
        if not 0 <= port <= HIGHEST_PORT:
            raise UsageError(f"port {port} is not one: they go from 1 to {HIGHEST_PORT}")
        try:
            self._http = _Http((ADDRESS, port), _Handler)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror or error}"
            raise UsageError(f"port {port} {why}; without --port any free one is taken") from None
        self.port = int(self._http.server_address[1])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{ADDRESS}:{self.port}/"

    def run(self, names: Names) -> None:
        """Serve until `stop` is called in another thread, or a signal interrupts it."""
        self._http.names = names
        self._http.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Make `run` return."""
        self._http.shutdown()


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.names: Names = {}
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up."""
        if os.environ.get("RCA_DEBUG"):
            super().handle_error(request, client_address)


def _made(make: Callable[[Query], Answer], query: Query) -> Answer:
    try:
        return make(query)
    except RcaError as error:
        return line(HTTPStatus.CONFLICT, str(error))
    except OSError as error:
        return line(HTTPStatus.CONFLICT, f"a file cannot be read: {error.strerror or error}")
    except Exception as error:
        if os.environ.get("RCA_DEBUG"):
            raise
        return line(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error: {type(error).__name__}: {error}")


class _Handler(BaseHTTPRequestHandler):
    timeout = _SECONDS_PER_REQUEST
    server: _Http

    def version_string(self) -> str:
        """Return what the header ``Server`` says: no versions."""
        return "rca"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base class)
        """Print no line per request."""

    def do_GET(self) -> None:
        """Send what the name stands for."""
        self._send(self._answer(), with_body=True)

    def do_HEAD(self) -> None:
        """Send its headers."""
        self._send(self._answer(), with_body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what is no request that is known: other methods, and what is not HTTP."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"
        self.close_connection = True
        self._send(line(status, message or status.phrase), with_body=self.command != "HEAD")

    def _answer(self) -> Answer:
        if not _OWN_NAME.fullmatch(self.headers.get("Host", "")):
            # a page elsewhere may have its own name point here, to read as if it were of the same origin
            return line(HTTPStatus.FORBIDDEN, "this server answers under the name 127.0.0.1 or localhost only")
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, max_num_fields=20))
        except ValueError:
            return line(HTTPStatus.BAD_REQUEST, "this is no address")
        make = self.server.names.get(parts.path)
        return _NOTHING if make is None else _made(make, query)

    def _send(self, answer: Answer, with_body: bool) -> None:
        if isinstance(answer.body, bytes):
            self._head(answer, len(answer.body))
            if with_body:
                self.wfile.write(answer.body)
            return
        try:
            with answer.body.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                self._head(answer, size)
                if with_body:
                    shutil.copyfileobj(stream, self.wfile, 1 << 20)
        except FileNotFoundError:
            self._send(_NOTHING, with_body)

    def _head(self, answer: Answer, size: int) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        if answer.status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(size))
        self.send_header("Content-Security-Policy", answer.policy)
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
