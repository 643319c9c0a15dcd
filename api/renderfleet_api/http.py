"""HTTP/1.1 as the API reads it: with the parser in C, which costs a fifth of uvicorn's other one, and a bound on the head.

That parser keeps whatever comes before the empty line, and nobody has shown a key by then.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES: Final = 65_536


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
        """What follows is its body, of which the routes take no more than they should."""
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()
