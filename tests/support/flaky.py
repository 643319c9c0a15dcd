"""A proxy that loses, refuses and delays requests on their way to a real server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Fault = Literal["503", "403", "lost request", "lost answer"]


@dataclass
class Rule:
    """What happens to requests whose first line holds `text`."""

    text: str
    fault: Fault
    times: int


class FlakyProxy:
    """HTTP/1.1, one request per connection, in a thread of its own."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.removeprefix("http://")
        self.rules: list[Rule] = []
        self.seen: list[str] = []
        """First lines of all requests."""
        self.url = ""

    def fail(self, text: str, fault: Fault, times: int = 1) -> None:
        """Put a rule in force."""
        self.rules.append(Rule(text, fault, times))

    def through(self, url: str) -> str:
        """The same address, by way of this proxy."""
        return url.replace(f"http://{self._upstream}", self.url)

    def _fault_for(self, line: str) -> Fault | None:
        for rule in self.rules:
            if rule.times > 0 and rule.text in line:
                rule.times -= 1
                return rule.fault
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line = head.partition(b"\r\n")[0].decode()
            self.seen.append(line)
            lines = [
                text for text in head[:-4].split(b"\r\n") if not text.lower().startswith((b"host:", b"connection:"))
            ]
            lengths = [int(text.split(b":")[1]) for text in lines if text.lower().startswith(b"content-length:")]
            body = await reader.readexactly(lengths[0]) if lengths else b""
            fault = self._fault_for(line)
            if fault == "lost request":
                return
            if fault in ("503", "403"):
                writer.write(f"HTTP/1.1 {fault} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
                await writer.drain()
                return
            host, _, port = self._upstream.partition(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            up_writer.write(b"\r\n".join([*lines, b"Host: " + self._upstream.encode(), b"Connection: close"]))
            up_writer.write(b"\r\n\r\n" + body)
            answer = await up_reader.read()
            up_writer.close()
            if fault != "lost answer":
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@contextmanager
def flaky_proxy(upstream: str) -> Iterator[FlakyProxy]:
    """A proxy before the server at `upstream` (http://host:port)."""
    proxy = FlakyProxy(upstream)
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, limit=1 << 26)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(run(), loop).result(10)
    started.wait(10)
    yield proxy
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
