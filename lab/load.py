"""The load: clients that send completions to an engine, and note how long each took."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from collectors.server import Server, ServerError
from lab.priority import clients_first

_WORDS = (
    "def",
    "main(path):",
    "return",
    "open",
    "for",
    "line",
    "in",
    "data",
    "if",
    "not",
    "value",
    "else",
    "import",
    "class",
)
_TIMEOUT_SECONDS = 300.0
_STAGGER_SECONDS = 0.13
"""Clients start out of step, so that not all of a batch is prefilled at once."""


@dataclass(frozen=True)
class Load:
    """What clients ask for.

    Attributes:
        concurrency: clients; each sends its next request when the last one was answered.
        requests_per_s: if given, requests come at random times at this mean rate instead (a Poisson process), from at most
            64 clients at a time.
        prompt_words: length of a prompt; no two are the same.
        output_tokens: length of an answer; the engine is told not to stop earlier.
        seed: of prompts and times.
    """

    concurrency: int = 4
    requests_per_s: float | None = None
    prompt_words: int = 24
    output_tokens: int = 64
    seed: int = 1


@dataclass(frozen=True)
class Request:
    """One request that was answered; times of the monotonic clock, in s."""

    began: float
    ended: float
    tokens: int


@dataclass
class Clients:
    """The clients of one engine while they run.

    Attributes:
        done: the requests that were answered.
        failed: what went wrong, of those that were not.
    """

    server: Server
    model: str
    load: Load
    done: list[Request] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def us_per_token(self, began: float, ended: float) -> tuple[float | None, int]:
        """Return the median over the requests within a time of their time per token, and how many those were."""
        within = [r for r in self.done if began <= r.began and r.ended <= ended]
        return (statistics.median(1e6 * (r.ended - r.began) / r.tokens for r in within) if within else None), len(within)

    def client(self, index: int) -> None:
        """Send requests, one after the other, until told to stop."""
        clients_first()
        words = random.Random(f"{self.load.seed} {index}")  # noqa: S311  (prompts, not secrets)
        rate = self.load.requests_per_s
        clients = _clients(self.load)
        self._stop.wait(index * _STAGGER_SECONDS if rate is None else 0)
        while not self._stop.is_set():
            if rate is not None and self._stop.wait(words.expovariate(rate / clients)):
                return
            prompt = " ".join([f"client {index}:", *words.choices(_WORDS, k=self.load.prompt_words)])
            self._complete(prompt)

    def _complete(self, prompt: str) -> None:
        tokens = self.load.output_tokens
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        began = time.monotonic()
        try:
            reply = self.server.post("/v1/completions", body, _TIMEOUT_SECONDS)
        except ServerError as error:
            self.failed.append(str(error))
            self._stop.wait(0.5)
            return
        if reply.status != 200:
            self.failed.append(f"/v1/completions answered HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}")
            self._stop.wait(0.5)
            return
        self.done.append(Request(began, time.monotonic(), tokens))

    def stop(self) -> None:
        """Let every client end after the request that it waits for."""
        self._stop.set()


def _clients(load: Load) -> int:
    return load.concurrency if load.requests_per_s is None else 64


@contextmanager
def serving(url: str, load: Load) -> Iterator[Clients]:
    """Keep an engine busy until the block ends.

    Raises:
        ServerError: it does not say what model it serves.
    """
    server = Server(url)
    models = server.get("/v1/models", timeout=30).json()
    try:
        model = models["data"][0]["id"]
    except (TypeError, KeyError, IndexError):
        raise ServerError(f"{url}/v1/models names no model: {json.dumps(models)[:200]}") from None
    clients = Clients(server, model, load)
    threads = [threading.Thread(target=clients.client, args=(i,), daemon=True) for i in range(_clients(load))]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stop()
        for thread in threads:
            thread.join(_TIMEOUT_SECONDS)
