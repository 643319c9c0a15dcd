"""W3C trace context: one id from the caller's request through the render to the runner's log."""

import re
import secrets
from contextvars import ContextVar

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def traceparent() -> str:
    """The traceparent to hand on from this request."""
    return _current.get() or new_traceparent(None)


def trace_id() -> str | None:
    """The trace id of this request, or None outside of one."""
    now = _current.get()
    return now.split("-")[1] if now else None


def new_traceparent(received: str | None) -> str:
    """A child of the received one, or the start of a new trace when that is absent or malformed."""
    found = _TRACEPARENT.match(received or "")
    if found and found[1] != "0" * 32 and found[2] != "0" * 16:
        return f"00-{found[1]}-{secrets.token_hex(8)}-{found[3]}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


class TraceMiddleware:
    """Give each request a trace context, and its answer a `traceresponse`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102  (ASGI)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        made = new_traceparent(received)
        # Never reset: each request has a context of its own, and the outermost error handler still wants the id.
        _current.set(made)

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["traceresponse"] = made
            await send(message)

        structlog.contextvars.bind_contextvars(trace_id=made.split("-")[1])
        await self._app(scope, receive, traced)
