"""A real PostgreSQL, and an empty, migrated database for each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.databases import database, postgres

from renderfleet_store.engine import make_engine
from renderfleet_store.mirror import Mirror

__all__ = ["database", "postgres"]


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """As the services make it."""
    made = make_engine(database, pooled=True)
    yield made
    await made.dispose()


@pytest.fixture
def mirror(engine: AsyncEngine) -> Mirror:
    """The one writer of jobs."""
    return Mirror(engine)
