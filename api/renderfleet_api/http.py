"""HTTP/1.1 as the API reads it: with the parser in C, which costs a fifth of uvicorn's other one, and with bounds.

A request is read before anybody looks at its key, so whoever reaches the port decides how much there is to keep.
"""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from . import problems

MOST_HEAD_BYTES: Final = 65_536
MOST_BODY_BYTES: Final = 8 * 2**20
"""A bulk submit of a hundred of the longest texts has six, with each character written as an escape."""


class BoundedHttp(HttpToolsProtocol):
    """One connection; closed when the head of a request does not end within MOST_HEAD_BYTES."""

    _head_bytes = 0
    _is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """What follows is its body."""
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()


class BoundedBodyMiddleware:
    """Refuse bodies of more than MOST_BODY_BYTES: at once when they say so, else when that much has come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102  (ASGI)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > MOST_BODY_BYTES:
            await problems.answer(problems.too_large(), Request(scope))(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BODY_BYTES:
                # The one kind of error that FastAPI does not take for a fault in the body.
                raise HTTPException(413)
            return message

        await self._app(scope, bounded, send)
