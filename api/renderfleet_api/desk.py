"""Where renders are written down: the keys of those that are asked for, and the rows of those that were accepted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_store import idempotency
from renderfleet_store.engine import single, transaction
from renderfleet_store.mirror import RenderSeen, record

from .together import Together

_GATHER_SECONDS: Final = 0.01
"""Those whose keys are reserved together go on to the API server together, which then writes their namespace's quota
once for several of them and not for each."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    body: dict[str, Any]
    key: str | None


class Desk:
    """One for the process: requests of the same moment share its transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._keys = Together(self._reserve, gather_seconds=_GATHER_SECONDS)
        self._rows = Together(self._record)

    async def reserve_new(self, namespace: str, key: str, digest: bytes) -> bool:
        """Reserve the key for this request; False when it was used before. Raises StoreUnavailable."""
        return await self._keys.add(idempotency.Asked(namespace, key, digest))

    async def record(self, body: dict[str, Any], key: str | None) -> None:
        """Store the row of a render that the cluster accepted, and what its key made. Raises StoreUnavailable."""
        await self._rows.add(_Accepted(body, key))

    async def _reserve(self, asked: Sequence[idempotency.Asked]) -> list[bool]:
        async with single(self._engine) as connection:
            return await idempotency.reserve_new(connection, asked)

    async def _record(self, accepted: Sequence[_Accepted]) -> list[None]:
        made = [
            (one.body["metadata"]["namespace"], one.key, one.body["metadata"]["uid"])
            for one in accepted
            if one.key is not None
        ]
        async with transaction(self._engine) as connection:
            await record(connection, [RenderSeen(one.body) for one in accepted])
            if made:
                await idempotency.complete(connection, made)
        return [None] * len(accepted)
