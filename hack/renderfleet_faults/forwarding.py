"""The part that both proxies share: take a request, hand it on unchanged, hand the answer back, or break the connection."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from yarl import URL

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})
NOT_FORWARDED = _HOP_BY_HOP | {"accept-encoding"}
_NOT_RETURNED = _HOP_BY_HOP | {"content-encoding", "date", "server"}


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """Serve on a free loopback port for the time of the block; its URL."""
    # A handler is cancelled when its caller goes away: a watch must end when its reader dies.
    runner = web.ServerRunner(web.Server(handler, access_log=None), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def pass_on(
    session: aiohttp.ClientSession, request: web.BaseRequest, url: URL, raw: bytes, headers: Mapping[str, str]
) -> web.Response:
    """The server's answer, whole. A server that cannot be reached is a 502, as from any gateway."""
    try:
        async with session.request(
            request.method, url, headers=headers, data=raw or None, allow_redirects=False
        ) as answer:
            return web.Response(status=answer.status, headers=returned(answer.headers), body=await answer.read())
    except aiohttp.ClientError as away:
        return web.Response(status=502, text=f"{type(away).__name__}: {away}")


def forwarded(headers: Mapping[str, str], *without: str) -> dict[str, str]:
    """Request headers that go on to the server."""
    return {
        key: value for key, value in headers.items() if key.lower() not in NOT_FORWARDED and key.lower() not in without
    }


def returned(headers: Mapping[str, str]) -> dict[str, str]:
    """Answer headers that go back to the caller."""
    return {key: value for key, value in headers.items() if key.lower() not in _NOT_RETURNED}


def cut(request: web.BaseRequest) -> web.Response:
    """Break the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
