"""The outermost layer of each vendor's side: numbers the call, logs it, adds the vendor's headers to every answer."""

import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from renderfleet_standin.core import CallNote, Standin, note_of

HeadersFor = Callable[[CallNote, int, float], Mapping[str, str]]
"""Given the call, the status and the seconds so far: headers that go on this answer."""


class Doorway:
    """ASGI wrapper around one vendor's application."""

    def __init__(self, app: ASGIApp, standin: Standin, vendor: str, headers_for: HeadersFor) -> None:
        self._app = app
        self._standin = standin
        self._vendor = vendor
        self._headers_for = headers_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        retry_count = Headers(scope=scope).get("x-stainless-retry-count")
        note = note_of(self._vendor, scope["method"], scope["path"], retry_count)
        started = time.monotonic()
        self._standin.calls.append(note)
        scope["state"]["note"] = note

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                if headers.get("server") != "cloudflare":  # an edge's page never reached the vendor
                    for name, value in self._headers_for(note, note.status, time.monotonic() - started).items():
                        headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            note.seconds = round(time.monotonic() - started, 3)
