"""Let requests that come at the same time share one transaction.

A transaction costs its round trips however much is in it, and writers of one namespace wait for each other anyway, since
its events are numbered in order. So what came while the database was busy is written next, all at once. Who comes alone
is served at once, and unless told otherwise nobody waits for others to come.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from renderfleet_store.engine import StoreUnavailable

Given = TypeVar("Given")
Made = TypeVar("Made")

_MOST: int = 100
"""Keeps a transaction short."""


class Together(Generic[Given, Made]):
    """Collects what callers give while one function is at work, and calls it again with all of that."""

    def __init__(
        self, work: Callable[[Sequence[Given]], Awaitable[Sequence[Made]]], *, gather_seconds: float = 0
    ) -> None:
        """`work` gives one result for each thing it is given, in their order, or raises and has done nothing.

        With `gather_seconds`, a crowd waits for those who are about to come: so long passes between two batches when the
        first was of several.
        """
        self._work = work
        self._gather_seconds = gather_seconds
        self._waiting: list[tuple[Given, asyncio.Future[Made]]] = []
        self._at_work: asyncio.Task[None] | None = None

    async def add(self, given: Given) -> Made:
        """The result for `given`. Raises what `work` raises for it; the error of another caller's is not told here.

        A caller that gives up waiting does not stop the work.
        """
        waiting: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._waiting.append((given, waiting))
        if self._at_work is None:
            # What is bound to a request, as its trace id, does not belong to a work that many share.
            self._at_work = asyncio.create_task(self._run(), context=contextvars.Context())
        return await waiting

    async def _run(self) -> None:
        batch: list[tuple[Given, asyncio.Future[Made]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                try:
                    await self._serve(batch)
                except StoreUnavailable as away:
                    # Who came meanwhile would wait as long again for the same answer.
                    _fail([*batch, *self._waiting], away)
                    self._waiting = []
                if len(batch) > 1:
                    await asyncio.sleep(self._gather_seconds)
        finally:
            self._at_work = None
            for _, waiting in [*batch, *self._waiting]:
                waiting.cancel()
            self._waiting = []

    async def _serve(self, batch: list[tuple[Given, "asyncio.Future[Made]"]]) -> None:
        """Raises StoreUnavailable, with those of the batch that had no answer before left without one."""
        try:
            made = await self._work([given for given, _ in batch])
        except StoreUnavailable:
            raise
        except Exception as failed:
            if len(batch) == 1:
                _fail(batch, failed)
            else:
                # One odd thing among many: each for itself, then.
                for one in batch:
                    await self._serve([one])
            return
        for (_, waiting), one_made in zip(batch, made, strict=True):
            if not waiting.done():
                waiting.set_result(one_made)


def _fail(those: Sequence[tuple[Any, "asyncio.Future[Any]"]], error: Exception) -> None:
    for _, waiting in those:
        if not waiting.done():
            waiting.set_exception(error)
