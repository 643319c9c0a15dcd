"""Which of the services that we depend on answer just now."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_client import Cluster
from renderfleet_client.errors import ApiError
from renderfleet_store.engine import StoreUnavailable, transaction
from renderfleet_store.media import MediaStore, MediaUnavailable

PATIENCE_SECONDS: Final = 0.8
"""A kubelet gives a probe one second."""
_FRESH_SECONDS: Final = 1.0

Question = Callable[[], Awaitable[str]]


class Check:
    """Asks one service; however many want to know, and however long it hangs, one question is on its way at a time."""

    def __init__(self, ask: Question, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._ask = ask
        self._patience_seconds = patience_seconds
        self._asking: asyncio.Task[str] | None = None
        self._began = 0.0

    async def look(self) -> str:
        """`ok`, or what is wrong."""
        is_old = time.monotonic() - self._began > _FRESH_SECONDS
        if self._asking is None or (self._asking.done() and is_old):
            self._asking, self._began = asyncio.ensure_future(self._ask()), time.monotonic()
        done, _ = await asyncio.wait({self._asking}, timeout=self._patience_seconds)
        return self._asking.result() if done else "does not answer"


class Readiness:
    """Of all services that the API needs."""

    def __init__(self, database: AsyncEngine, cluster: Cluster, media: MediaStore) -> None:
        async def ask_database() -> str:
            try:
                async with transaction(database) as connection:
                    await connection.execute(text("SELECT 1"))
            except StoreUnavailable as away:
                return str(away)
            return "ok"

        async def ask_kubernetes() -> str:
            try:
                status, _ = await cluster.ask("/readyz")
            except ApiError as away:
                return away.message or "away"
            return "ok" if status == 200 else f"answers {status}"

        async def ask_storage() -> str:
            try:
                await media.ping()
            except MediaUnavailable as away:
                return str(away)
            return "ok"

        self._checks: Mapping[str, Check] = {
            "database": Check(ask_database),
            "kubernetes": Check(ask_kubernetes),
            "storage": Check(ask_storage),
        }

    async def look(self) -> dict[str, str]:
        """By service, `ok` or what is wrong."""
        found = await asyncio.gather(*(check.look() for check in self._checks.values()))
        return dict(zip(self._checks, found, strict=True))
