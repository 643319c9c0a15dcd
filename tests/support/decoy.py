"""A listener that nobody may reach, on loopback: it counts who does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Decoy:
    """Where it listens, and how many connections it has had."""

    port: int = 0
    connections: int = 0


@asynccontextmanager
async def decoy() -> AsyncIterator[Decoy]:
    """Listen on 127.0.0.1, and hang up on whoever comes."""
    made = Decoy()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
