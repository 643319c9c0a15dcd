"""All that a request may need, made once when the process starts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from renderfleet_client import Cluster
from renderfleet_store.engine import StoreUnavailable, transaction
from renderfleet_store.media import MediaStore

from .desk import Desk
from .keys import KeyRing
from .limits import Limits
from .oidc import TokenDoor
from .pictures import PictureFetcher
from .readiness import Readiness
from .settings import ApiSettings
from .streams import Hub
from .tenancy import Tenancy
from .turns import Turns

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of the running API."""

    settings: ApiSettings
    primary: AsyncEngine
    replica: AsyncEngine
    """For lists; the primary when there is no replica."""
    cluster: Cluster
    media: MediaStore
    pictures: PictureFetcher
    desk: Desk
    keys: KeyRing
    tokens: TokenDoor | None
    """None when no issuer is configured."""
    tenancy: Tenancy
    limits: Limits
    readiness: Readiness
    hub: Hub
    turns: Turns

    @asynccontextmanager
    async def for_lists(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on the replica, which may be a moment behind; on the primary while that one is away.

        Raises StoreUnavailable.
        """
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(transaction(self.replica))
            except StoreUnavailable as away:
                if self.replica is self.primary:
                    raise
                log.warning("lists come from the primary", error=str(away))
                connection = await stack.enter_async_context(transaction(self.primary))
            yield connection


async def parts_of(request: Request) -> Parts:
    """The parts that the lifespan made."""
    parts: Parts = request.app.state.parts
    return parts


Use = Annotated[Parts, Depends(parts_of)]
