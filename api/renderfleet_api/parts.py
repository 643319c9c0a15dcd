"""All that a request may need, made once when the process starts."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_client import Cluster
from renderfleet_store.media import MediaStore
from renderfleet_store.mirror import Mirror

from .keys import KeyRing
from .limits import Limits
from .settings import ApiSettings
from .streams import Hub
from .turns import Turns


@dataclass(frozen=True)
class Parts:
    """The parts of the running API."""

    settings: ApiSettings
    primary: AsyncEngine
    replica: AsyncEngine
    """For lists; the primary when there is no replica."""
    cluster: Cluster
    media: MediaStore
    mirror: Mirror
    keys: KeyRing
    limits: Limits
    hub: Hub
    turns: Turns


def parts_of(request: Request) -> Parts:
    """The parts that the lifespan made."""
    parts: Parts = request.app.state.parts
    return parts


Use = Annotated[Parts, Depends(parts_of)]
