"""HTTP to one server, and to nothing else: no proxy, no redirect, no retry."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rca.errors import UsageError

API_KEY_VARIABLE = "RCA_API_KEY"
"""Environment variable with the key of servers that want one: command lines can be seen by everybody on a machine."""

_MAX_BYTES = 64 << 20


class Reply(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body decoded; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class ServerError(Exception):
    """The server did not answer: refused, timed out, or broke off."""


class Server:
    """A server at ``url``. Safe to use from several threads: every request has a connection of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"--url {url}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--url {url}: expected http://HOST:PORT")
        self.host = parts.hostname
        self.port = port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        host = self.host if ":" not in self.host else f"[{self.host}]"
        self.url = f"{parts.scheme}://{host}:{self.port}{self._prefix}"
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._headers = {"Accept": "*/*", "Connection": "close"}
        if key := os.environ.get(API_KEY_VARIABLE):
            self._headers["Authorization"] = f"Bearer {key}"

    def get(self, path: str, timeout: float = 5.0) -> Reply:
        """Return the answer to a GET request. Raises `ServerError`."""
        return self._ask("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout: float = 30.0) -> Reply:
        """Return the answer to a POST request with a JSON body, or none. Raises `ServerError`."""
        return self._ask("POST", path, body, timeout)

    def addresses(self) -> set[str]:
        """Return the addresses that the host's name stands for; empty where it stands for none."""
        try:
            return {str(info[4][0]) for info in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)}
        except OSError:
            return set()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> Reply:
        connection = self._connect(self.host, self.port, timeout=timeout)
        content = json.dumps(body).encode() if body is not None else None
        headers = self._headers | ({"Content-Type": "application/json"} if content else {})
        try:
            connection.request(method, self._prefix + path, content, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(_MAX_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}{path}: {error or type(error).__name__}") from None
        finally:
            connection.close()
