"""The load: clients that send completions to an engine, and note how long each took."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
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
_TIMEOUT_SECONDS = 60.0
_STAGGER_SECONDS = 0.13
"""Clients start out of step, so that not all of a batch is prefilled at once."""

_MOST_AT_A_TIME = 256
"""Requests that arrive while so many wait are not sent: a server that does not keep up would be given ever more of them."""


@dataclass(frozen=True)
class Load:
    """What clients ask for.

    Attributes:
        concurrency: clients; each sends its next request when the last one was answered.
        requests_per_s: if given, requests come at random times at this mean rate instead (a Poisson process), whether the
            ones before were answered or not.
        prompt_words: length of a prompt.
        output_tokens: length of an answer; the engine is told not to stop earlier.
        seed: of prompts and times.
        name: begins every prompt: prompts of different names share nothing that an engine could have cached.
    """

    concurrency: int = 4
    requests_per_s: float | None = None
    prompt_words: int = 24
    output_tokens: int = 64
    seed: int = 1
    name: str = ""


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
    _threads: list[threading.Thread] = field(default_factory=list)

    def us_per_token(self, began: float, ended: float) -> tuple[float | None, int]:
        """Return the median time per token of the requests that were under way within a time, and how many those were.

        Ask when the clients have ended: slow requests are answered late, and leaving them out would make a fault look small.
        """
        within = [r for r in self.done if r.began < ended and r.ended > began]
        return (statistics.median(1e6 * (r.ended - r.began) / r.tokens for r in within) if within else None), len(within)

    def start(self) -> None:
        """Begin to send requests."""
        if self.load.requests_per_s is None:
            for index in range(self.load.concurrency):
                self._spawn(self._one_after_the_other, index)
        else:
            self._spawn(self._as_they_arrive, self.load.requests_per_s)

    def end(self, seconds: float) -> None:
        """Send no more, and wait for the answers that are still to come, so long at most."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        def first() -> None:
            clients_first()
            work(*arguments)

        thread = threading.Thread(target=first, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _one_after_the_other(self, index: int) -> None:
        self._stop.wait(index * _STAGGER_SECONDS)
        for turn in itertools.count():
            if self._stop.is_set():
                return
            self._complete(f"{index}.{turn}")

    def _as_they_arrive(self, rate: float) -> None:
        arrivals = random.Random(self.load.seed)  # noqa: S311  (times, not secrets)
        due = time.monotonic()
        for turn in itertools.count():
            due += arrivals.expovariate(rate)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._threads[1:] = [thread for thread in self._threads[1:] if thread.is_alive()]
            if len(self._threads) <= _MOST_AT_A_TIME:
                self._spawn(self._complete, str(turn))

    def _complete(self, name: str) -> None:
        words = random.Random(f"{self.load.seed} {name}").choices(_WORDS, k=self.load.prompt_words)  # noqa: S311
        prompt = " ".join([f"{self.load.name} {name}:", *words])
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


@contextmanager
def serving(url: str, load: Load) -> Iterator[Clients]:
    """Keep an engine busy until the block ends; then wait for the last answers, but not if the block failed.

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
    clients.start()
    try:
        yield clients
    except BaseException:
        clients.end(0.0)
        raise
    clients.end(_TIMEOUT_SECONDS)
