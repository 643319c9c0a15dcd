"""The least HTTP/1.1 client that can measure: requests as bytes made before, answers read no further than needed.

A load generator that shares two cores with what it measures must cost next to nothing, and the same for every server it
is pointed at; a full client would be the largest part of what a bare route costs.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from renderfleet_cluster.say import Trouble

OPEN_WITHIN_SECONDS = 10.0
ANSWER_WITHIN_SECONDS = 30.0
AGAIN_AFTER_SECONDS = 0.05
BUSY = frozenset({409, 429, 503})
"""Answers that ask to come again: a quota that is being written by somebody else, a full queue."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")


@dataclass(frozen=True)
class Target:
    """A server, and what every request to it carries."""

    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """The bytes of a request; underscores in header names stand for hyphens."""
        named = {"Host": f"{self.host}:{self.port}", **self.headers}
        named.update({name.replace("_", "-"): value for name, value in headers.items()})
        if body:
            named |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    async def connect(self) -> Connection:
        """A connection of one's own. Raises OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(OPEN_WITHIN_SECONDS):
            _, connection = await loop.create_connection(Connection, self.host, self.port, ssl=self.tls)
        return connection

    async def ask(self, request: bytes) -> Answer:
        """One answer over a connection that is closed after it."""
        connection = await self.connect()
        try:
            return await connection.ask(request)
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; a body that came in chunks still has their lengths in it."""

    status: int
    body: bytes


def whole_answer(raw: bytes | bytearray) -> Answer | None:
    """The answer that `raw` holds; None as long as a part of it is missing."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = bytes(raw[:end]).lower(), end + 4
    status = int(head[9:12])
    if found := _LENGTH.search(head):
        length = int(found[1])
        return Answer(status, bytes(raw[start : start + length])) if len(raw) >= start + length else None
    if status in {204, 304}:
        return Answer(status, b"")
    # JSON holds no bare line break, so this can only be the chunk that ends it.
    return Answer(status, bytes(raw[start:])) if raw.endswith(b"0\r\n\r\n", start) else None


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one question at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are ones by what they do, not by what they are derived from.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed instead of answering"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = whole_answer(self._received)
        if answer and self._waiting and not self._waiting.done():
            self._received.clear()
            self._waiting.set_result(answer)

    async def ask(self, request: bytes) -> Answer:
        """The answer. Raises OSError when the connection breaks, TimeoutError when none comes."""
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            return await self._waiting

    def close(self) -> None:
        if self._transport:
            self._transport.close()


@dataclass(frozen=True)
class Volley:
    """What a time of asking came to."""

    count: int
    """Requests that were answered as wanted."""
    seconds: float
    asked_again: int = 0

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


async def fire(
    target: Target,
    requests: Iterator[bytes],
    *,
    seconds: float,
    concurrency: int,
    wanted: int,
    see: Callable[[Answer], None] = lambda answer: None,
) -> Volley:
    """Ask for so long, over so many connections, each with the next request as soon as it has its answer.

    `see` is shown every answer with the status `wanted`. What was under way when the time is over still counts, and so
    does the time it took. Raises Trouble for an answer that is neither wanted nor BUSY.
    """
    connections = [await target.connect() for _ in range(concurrency)]
    count = again = 0
    began = time.monotonic()
    until = began + seconds

    async def keep_asking(connection: Connection) -> None:
        nonlocal count, again
        for request in requests:
            while (answer := await connection.ask(request)).status in BUSY:
                again += 1
                await asyncio.sleep(AGAIN_AFTER_SECONDS)
            if answer.status != wanted:
                raise Trouble(
                    f"{request[:80]!r} was answered {answer.status}: {answer.body[:500]!r}", "see the logs in out/bench"
                )
            count += 1
            see(answer)
            if time.monotonic() >= until:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(keep_asking(connection))
        return Volley(count, time.monotonic() - began, again)
    finally:
        for connection in connections:
            connection.close()


OPEN, DONE = "open", "done"
"""Marks that every stream gets: its first event, which is sent after the listener was subscribed; and its last."""


class Arrivals:
    """When marked events reached each of many listeners."""

    def __init__(self) -> None:
        self.lost = 0
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._moved = asyncio.Event()

    def note(self, mark: str) -> None:
        """One more listener has it now."""
        self._times[mark].append(time.monotonic())
        self._moved.set()

    def delays(self, mark: str, since: float) -> list[float]:
        """Seconds from `since` to each listener that has it."""
        return [at - since for at in self._times[mark]]

    async def until_all_have(self, mark: str, listeners: int, seconds: float) -> None:
        """Wait for it. Raises Trouble when it takes longer than that."""
        try:
            async with asyncio.timeout(seconds):
                while len(self._times[mark]) < listeners:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise Trouble(
                f"{len(self._times[mark])} of {listeners} listeners have {mark} after {seconds:.0f} s; {self.lost} streams"
                " have ended",
                "see api.log in out/bench/logs",
            ) from None


_KIND = re.compile(rb"(?:^|\n)event: *(\w+)")
_MARK = re.compile(rb'"(mark-\d+)"')


def marks_in(received: bytearray) -> list[str]:
    """The marks of all events that `received` holds whole, which are taken out of it; `mark-7`, or DONE."""
    end = received.rfind(b"\n\n")
    if end < 0:
        return []
    found = []
    for event in bytes(received[:end]).split(b"\n\n"):
        kind = _KIND.search(event)
        if kind and kind[1].decode() == DONE:
            found.append(DONE)
        elif said := _MARK.search(event):
            found.append(said[1].decode())
    del received[: end + 2]
    return found


class Stream(asyncio.Protocol):
    """One listener on a stream of server-sent events."""

    def __init__(self, request: bytes, arrivals: Arrivals) -> None:
        self._request, self._arrivals = request, arrivals
        self._received = bytearray()
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_open and _KIND.search(self._received):
            self._is_open = True
            self._arrivals.note(OPEN)
        for mark in marks_in(self._received):
            self._arrivals.note(mark)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrivals.lost += 1


async def listen(target: Target, request: bytes, arrivals: Arrivals) -> asyncio.BaseTransport:
    """Open a stream; close what is returned to end it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(OPEN_WITHIN_SECONDS):
        transport, _ = await loop.create_connection(lambda: Stream(request, arrivals), target.host, target.port)
    return transport
