"""Answers that misbehave on the wire: reset, hang, drip, cut short, flood.

They need the socket itself, which ASGI hides: `Protocol` puts the connection's transport into the request's state.
"""

import asyncio
import socket
import struct

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "standin_transport"


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with the connection's transport in reach of the application."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the transport in the state that every request of this connection copies."""
        self.app_state = {**self.app_state, TRANSPORT: transport}
        super().connection_made(transport)


async def reset_connection(scope: Scope) -> None:
    """Send a TCP reset: what is in the buffers is thrown away, the caller sees ECONNRESET."""
    transport: asyncio.Transport = scope["state"][TRANSPORT]
    if transport.is_closing():  # the caller has gone by itself
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(0.01)  # let connection_lost run, or uvicorn would try to answer 500


async def wait_for_hangup(receive: Receive, seconds: float) -> None:
    """Keep the caller waiting until it gives up or the time is over."""

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(hung_up(), seconds)
    except TimeoutError:
        return


class ResetConnection(Response):
    """No answer at all: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await reset_connection(scope)


class Wrapped(Response):
    """Base of answers that take a good answer and spoil it on its way out."""

    def __init__(self, inner: Response) -> None:
        super().__init__()
        self._inner = inner


class SlowDrip(Wrapped):
    """The good answer, a few bytes at a time."""

    def __init__(self, inner: Response, *, chunk_bytes: int, interval_seconds: float) -> None:
        super().__init__(inner)
        self._chunk_bytes = chunk_bytes
        self._interval_seconds = interval_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def drip(message: Message) -> None:
            body: bytes = message.get("body", b"")
            if message["type"] != "http.response.body" or not body:
                await send(message)
                return
            for start in range(0, len(body), self._chunk_bytes):
                last = start + self._chunk_bytes >= len(body)
                chunk = body[start : start + self._chunk_bytes]
                await send({**message, "body": chunk, "more_body": message.get("more_body", False) or not last})
                if not last:
                    await asyncio.sleep(self._interval_seconds)

        await self._inner(scope, receive, drip)


class _CutHere(Exception):
    """Internal: the point of truncation is reached."""


class Truncated(Wrapped):
    """The good answer up to a point, then the connection is dropped.

    The announced Content-Length is the whole one, so a careful caller notices.
    """

    def __init__(self, inner: Response, *, keep_bytes: int | None) -> None:
        super().__init__(inner)
        self._keep_bytes = keep_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keep = self._keep_bytes
        sent = 0

        async def cut(message: Message) -> None:
            nonlocal keep, sent
            if message["type"] == "http.response.start":
                if keep is None:
                    lengths = [int(value) for key, value in message["headers"] if key.lower() == b"content-length"]
                    keep = lengths[0] // 2 if lengths else 1000
                await send(message)
                return
            body: bytes = message.get("body", b"")
            assert keep is not None
            await send({"type": "http.response.body", "body": body[: keep - sent], "more_body": True})
            sent += len(body)
            if sent >= keep or not message.get("more_body", False):
                raise _CutHere

        try:
            await self._inner(scope, receive, cut)
        except _CutHere:
            await asyncio.sleep(0.1)  # the part that counts must have left before the connection goes
            scope["state"][TRANSPORT].close()
            await asyncio.sleep(0.01)


class Garbled(Wrapped):
    """The good answer's first half, announced as if it were whole: JSON that does not parse, audio that stops."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        body = bytearray()

        async def collect(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            assert start is not None
            half = bytes(body[: len(body) // 2])
            headers = [(key, value) for key, value in start["headers"] if key.lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(half)).encode())]})
            await send({"type": "http.response.body", "body": half})

        await self._inner(scope, receive, collect)


class HugeBody(Wrapped):
    """The good answer's status and headers, then far more bytes than anybody should read into memory."""

    def __init__(self, inner: Response, *, total_bytes: int) -> None:
        super().__init__(inner)
        self._total_bytes = total_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        flooded = False

        async def flood(message: Message) -> None:
            nonlocal flooded
            if message["type"] == "http.response.start":
                headers = [(key, value) for key, value in message["headers"] if key.lower() != b"content-length"]
                await send({**message, "headers": headers})
                return
            if flooded:
                return
            flooded = True
            chunk = b"A" * 65_536
            await send({"type": "http.response.body", "body": b'{"data":[{"b64_json":"', "more_body": True})
            for _ in range(self._total_bytes // len(chunk)):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b'"}]}'})

        await self._inner(scope, receive, flood)


def html_page(status: int, title: str) -> Response:
    """An edge's own error page: HTML where JSON was expected."""
    page = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n<center><h1>{status} {title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    return Response(
        page,
        status_code=status,
        media_type="text/html",
        headers={"server": "cloudflare", "cf-ray": "8f00d00d5ca1ab1e-FRA"},
    )
