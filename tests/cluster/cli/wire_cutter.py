"""A stretch of wire between a client and a server, which a test may cut: bytes pass as they are, TLS and all."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Wire:
    """Accepts connections on loopback and carries them to one server."""

    def __init__(self, server: str) -> None:
        split = urlsplit(server)
        self._upstream = (split.hostname or "", split.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.connections = 0
        self.url = f"{split.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break everything that is open now; new connections are carried as before."""
        while self._open:
            _close(self._open.pop())

    def serve(self) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._upstream)
                self.connections += 1
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and break those that are open."""
        _close(self._listener)
        self.cut()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _close(source)
    _close(sink)


def _close(one: socket.socket) -> None:
    # Only a shutdown wakes a thread that waits in recv or accept.
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def wire_to(server: str) -> Iterator[Wire]:
    """A wire that carries from now on."""
    wire = Wire(server)
    threading.Thread(target=wire.serve, daemon=True).start()
    try:
        yield wire
    finally:
        wire.close()
