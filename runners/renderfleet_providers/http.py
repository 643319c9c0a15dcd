"""How every vendor call travels: one total deadline, capped bodies, and the one fact that decides about money:
whether the request had left when it failed.

no connection            -> VendorDown       nothing was sent, nothing can be charged
failed after it had left -> OutcomeUnknown   for a call that costs money
                         -> VendorDown       for a read, which may be repeated
an endless body          -> BrokenAnswer     it did answer

Neither the SDK's nor the transport's own retries are used: an attempt is the operator's to spend.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import httpx2

from .errors import BrokenAnswer, OutcomeUnknown, VendorDown

CONNECT_TIMEOUT_SECONDS = 10.0
JSON_BODY_LIMIT_BYTES = 1 << 20
TIMED_OUT = "timed_out"
"""Code of a call that used up its time."""
_HEADERS_START_TO_LEAVE = ("http11.send_request_headers.started", "http2.send_request_headers.started")


class BodyTooLarge(httpx2.ReadError):
    """The answer is longer than anything this vendor has a reason to send."""


class _Call:
    """One call on its way; a call may be several requests."""

    def __init__(self) -> None:
        self.left = False
        """Whether the first byte of a request has been written to a connection."""


_current_call: ContextVar[_Call | None] = ContextVar("current_vendor_call", default=None)


class VendorTransport(httpx2.AsyncBaseTransport):
    """Bodies cut off at `body_limit_bytes`, and a fresh connection for each paid call.

    A request on a kept connection that the server has just closed fails in a way that cannot be told from a lost
    answer. Reads do keep connections: an operator that looks at hundreds of jobs should not shake hands each time.
    """

    def __init__(self, base_url: str, body_limit_bytes: int) -> None:
        self._body_limit_bytes = body_limit_bytes
        # Reading the machine's certificates takes time that a plain http stand-in does not need to wait for.
        secure = base_url.startswith("https:")
        verify = httpx2.create_ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        fresh = httpx2.Limits(max_connections=100, max_keepalive_connections=0)
        kept = httpx2.Limits(max_connections=100, max_keepalive_connections=20)
        self._for_paid = httpx2.AsyncHTTPTransport(verify=verify, limits=fresh, retries=0)
        self._for_reads = httpx2.AsyncHTTPTransport(verify=verify, limits=kept, retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it, noting when it leaves."""
        call = _current_call.get()
        if call is None:
            response = await self._for_reads.handle_async_request(request)
        else:
            request.extensions = {**request.extensions, "trace": _note_when_it_leaves(call)}
            response = await self._for_paid.handle_async_request(request)
        response.stream = _Capped(cast(httpx2.AsyncByteStream, response.stream), self._body_limit_bytes)
        return response

    async def aclose(self) -> None:
        """Close what is open."""
        await self._for_paid.aclose()
        await self._for_reads.aclose()


def _note_when_it_leaves(call: _Call) -> Any:
    async def trace(event_name: str, _info: dict[str, Any]) -> None:
        if event_name in _HEADERS_START_TO_LEAVE:
            call.left = True

    return trace


class _Capped(httpx2.AsyncByteStream):
    """A body that fails at its limit instead of filling the memory."""

    def __init__(self, inner: httpx2.AsyncByteStream, limit_bytes: int) -> None:
        self._inner = inner
        self._limit_bytes = limit_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > self._limit_bytes:
                raise BodyTooLarge(f"body over {self._limit_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def vendor_client(
    base_url: str, *, headers: dict[str, str] | None = None, body_limit_bytes: int = JSON_BODY_LIMIT_BYTES
) -> httpx2.AsyncClient:
    """A client for one vendor. It follows no redirect: a vendor API that redirects is not the one we configured."""
    return httpx2.AsyncClient(
        transport=VendorTransport(base_url, body_limit_bytes),
        base_url=base_url.rstrip("/") + "/",
        headers=headers,
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS),
        follow_redirects=False,
        trust_env=False,
    )


@asynccontextmanager
async def paid_call(vendor: str, total_seconds: float, *wrappers: type[Exception]) -> AsyncIterator[None]:
    """Around a call that costs money: from the first connection to the last byte, `total_seconds` at most.

    Raises VendorDown when nothing had left, else OutcomeUnknown. `wrappers` are an SDK's own names for lost calls.
    """
    lost_in_transit: tuple[type[Exception], ...] = (TimeoutError, httpx2.HTTPError, *wrappers)
    call = _Call()
    token = _current_call.set(call)
    try:
        async with asyncio.timeout(total_seconds):
            yield
    except lost_in_transit as lost:
        code = _lost_code(lost, "answer_lost")
        if code == "body_too_large":
            raise BrokenAnswer(code, f"{vendor}'s answer is too long to be real") from lost
        if call.left:
            raise OutcomeUnknown(
                code,
                f"{vendor} was called, but no complete answer came; it may have been charged",
            ) from lost
        raise _unreachable(vendor, lost) from lost
    finally:
        _current_call.reset(token)


@asynccontextmanager
async def free_call(vendor: str, total_seconds: float) -> AsyncIterator[None]:
    """Around a call that may be repeated at will. Raises VendorDown when no complete answer comes in time."""
    try:
        async with asyncio.timeout(total_seconds):
            yield
    except (TimeoutError, httpx2.HTTPError) as lost:
        raise _unreachable(vendor, lost) from lost


def _unreachable(vendor: str, lost: Exception) -> VendorDown:
    return VendorDown(_lost_code(lost, "unreachable"), f"{vendor} could not be reached")


def _lost_code(lost: Exception, default: str) -> str:
    cause = lost.__cause__ if isinstance(lost.__cause__, BodyTooLarge) else lost
    if isinstance(cause, BodyTooLarge):
        return "body_too_large"
    return TIMED_OUT if isinstance(lost, TimeoutError | httpx2.TimeoutException) else default


def json_of(response: httpx2.Response) -> Any:
    """The parsed body, or None when it is not JSON (an edge's HTML page, a cut answer)."""
    try:
        return response.json()
    except ValueError:
        return None
