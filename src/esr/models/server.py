"""Model servers over HTTP: asked with patience, never believed, and never waited for without end."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from esr.console import say
from esr.console.foreign import brief
from esr.errors import RunStopped, UserError
from esr.runs.files import loads

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before each further try."""
LIMIT = 600.0
"""Seconds after which a question is given up, all tries together."""
CONNECT = 10.0
"""Seconds in which a connection must be made."""
PASSING = (408, 425, 429)
"""Answers with these status codes, and all from 500 on, may be others when asked again."""
NO_ROUTE = b'{"detail":"Not Found"}'
"""What a server says to a path that it does not have: it was started for other work, or without an option."""
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=64)
T = TypeVar("T")
R = TypeVar("R")


class ServerLost(RunStopped):
    """A server does not answer, or not what was asked, after all tries."""


class Refused(ServerLost):
    """A server says that the question is wrong (an HTTP status of 400 to 499): asking again would not help."""


class WrongAnswer(Exception):
    """An answer that does not fit the question: which way, in words."""


@dataclass(frozen=True)
class Servers:
    """One or several servers of the same model, and the key of the configuration that names them."""

    key: str
    urls: tuple[str, ...]
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, limits=UNLIMITED), repr=False)

    def each(self) -> Iterator["Servers"]:
        """Every server by itself."""
        for url in self.urls:
            yield Servers(self.key, (url,), self.client)

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[bytes], R],
        turn: int = 0,
        waits: Sequence[float] | None = None,
    ) -> R:
        """What `read` makes of the answer to a POST of `body` (None: a GET).

        Questions with different `turn` go to different servers. Whatever passes (no connection, an error inside the server,
        half an answer, one for which `read` raises `WrongAnswer`) is tried again, after longer and longer `waits`
        (default: `WAITS`), on the next server. Raises `ServerLost`, at the latest after `LIMIT` seconds, and `Refused` at once.
        """
        until = time.monotonic() + LIMIT
        for number, wait in enumerate((*(WAITS if waits is None else waits), None)):
            url = self.urls[(turn + number) % len(self.urls)]
            try:
                return read(self._exchange(url + path, body, until))
            except (httpx.HTTPError, httpx.InvalidURL, WrongAnswer) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
            if wait is None or time.monotonic() + wait > until:
                break
            if number == 0:
                say(f"{self.key}: {url} fails ({reason}); asked again.")
            time.sleep(wait)
        raise ServerLost(f"{self.key}: {url} fails after {number + 1} tries ({reason}).")

    def _exchange(self, url: str, body: dict[str, Any] | None, until: float) -> bytes:
        """The whole body of an answer without error. A server that sends it drop by drop is cut off too."""
        left = max(0.1, until - time.monotonic())
        content = bytearray()
        options: dict[str, Any] = {} if body is None else {"json": body}
        with self.client.stream(
            "GET" if body is None else "POST", url, timeout=httpx.Timeout(left, connect=min(left, CONNECT)), **options
        ) as answer:
            for part in answer.iter_bytes():
                content += part
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("it is too slow")
        if answer.is_error:
            said = f"HTTP {answer.status_code}: {brief(content[:300].decode('utf-8', 'replace'), 200)}"
            if answer.status_code < 500 and answer.status_code not in PASSING:
                hint = " Start it with the command that `esr serve` prints." if content == NO_ROUTE else ""
                raise Refused(f"{self.key}: {url} refuses ({said}).{hint}")
            raise WrongAnswer(said)
        return bytes(content)


def as_json(content: bytes) -> dict[str, Any]:
    """An answer that is a JSON object. Raises `WrongAnswer` if it is none."""
    try:
        value = loads(content.decode())
    except (ValueError, RecursionError):
        raise WrongAnswer("its answer is no JSON") from None
    if not isinstance(value, dict):
        raise WrongAnswer("its answer is no JSON object")
    return value


@dataclass(frozen=True)
class Served:
    """A model that a server says it has."""

    name: str
    """What requests call it."""
    root: str
    """Where it was loaded from."""
    parent: str | None
    """The base of an adapter."""
    longest: int | None
    """Tokens of the longest row that it takes, if it says so."""


def served(servers: Servers, waits: Sequence[float] | None = None) -> list[Served]:
    """The models and adapters of a server."""

    def read(content: bytes) -> list[Served]:
        rows = as_json(content).get("data")
        if not isinstance(rows, list) or not all(isinstance(r, dict) and isinstance(r.get("id"), str) for r in rows):
            raise WrongAnswer("its list of models is none")
        return [Served(r["id"], str(r.get("root") or ""), r.get("parent"), r.get("max_model_len")) for r in rows]

    return servers.ask("/v1/models", None, read, waits=waits)


def the_model(servers: Servers) -> Served:
    """The one base model that all servers have, with the shortest limit of their rows.

    Raises `UserError` if they do not answer, or have not one model.
    """
    try:
        found = [model for one in servers.each() for model in served(one, waits=(1.0,)) if model.parent is None]
    except ServerLost as error:
        raise UserError(f"{error} Start it with `esr serve` (docs/servers.md), or correct the address.") from None
    if len({model.name for model in found}) != 1:
        names = ", ".join(sorted({brief(model.name) for model in found})) or "none"
        raise UserError(f"{servers.key}: all addresses must serve one and the same model; they serve {names}.")
    return min(found, key=lambda model: model.longest or math.inf)


def require_length(servers: Servers, model: Served, tokens: int) -> None:
    """Raise `UserError` if the servers do not take rows of so many tokens."""
    if model.longest is not None and tokens > model.longest:
        raise UserError(
            f"{servers.key}: it takes rows of {model.longest} tokens, and prompt and response may have {tokens}; start it with "
            f"--max-model-len {tokens}."
        )


def ahead(work: Callable[[T], R], items: Sequence[T], width: int) -> Iterator[R]:
    """`work` of each item, in their order, done by `width` threads that begin now.

    An exception comes out at its item's turn. The threads end with the process, whatever they wait for, and take no further
    item once the iterator is closed.
    """
    results: list[Future[R]] = [Future() for _ in items]
    places, lock, ended = iter(range(len(items))), threading.Lock(), threading.Event()

    def labour() -> None:
        while not ended.is_set():
            with lock:
                place = next(places, None)
            if place is None:
                return
            try:
                results[place].set_result(work(items[place]))
            except BaseException as error:
                results[place].set_exception(error)

    for _ in range(min(width, len(items))):
        threading.Thread(target=labour, daemon=True).start()

    def given() -> Iterator[R]:
        try:
            for result in results:
                yield result.result()
        finally:
            ended.set()

    return given()
