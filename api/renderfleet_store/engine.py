"""One way to reach PostgreSQL, and one error for every way in which it can be away.

Pooled engines go through PgBouncer in transaction mode, from version 1.18 on: no prepared statements, no session
state. LISTEN and migrations need a direct address.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_SECONDS = 3
POOL_WAIT_SECONDS = 5
TRANSACTION_SECONDS = 15.0
"""A server that is stopped rather than dead accepts connections and never answers; nobody waits longer than this."""

_READ_ONLY = "25006"
"""SQLSTATE of a write that reached a standby, as right after a failover."""


class StoreUnavailable(Exception):
    """PostgreSQL is away, or not able to serve just now. Nothing was stored as far as the caller may assume: try again."""


def make_engine(url: str, *, pooled: bool, size: int = 5) -> AsyncEngine:
    """An engine for `url` (`postgresql+psycopg://…`); nothing is connected yet.

    `pooled` says that PgBouncer may stand in between, where one server connection serves many clients in turn.
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    connect: dict[str, object] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(TRANSACTION_SECONDS * 1000),
    }
    if pooled:
        connect["prepare_threshold"] = None
    return create_async_engine(
        address,
        pool_size=size,
        max_overflow=size,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        pool_recycle=600,
        # Parameters are prompts and keys; errors quote them and end in logs.
        hide_parameters=True,
        connect_args=connect,
    )


@asynccontextmanager
async def transaction(
    engine: AsyncEngine, *, limit_seconds: float = TRANSACTION_SECONDS
) -> AsyncIterator[AsyncConnection]:
    """A transaction that commits when the block ends well. Raises StoreUnavailable when PostgreSQL cannot serve it."""
    async with _served(limit_seconds), engine.begin() as connection:
        yield connection


@asynccontextmanager
async def single(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """For one statement, which is a transaction by itself: no BEGIN and no COMMIT, so a third of the round trips.

    Several that must be of one moment, or happen all or none, need a `transaction`. Raises StoreUnavailable as that does.
    """
    async with _served(TRANSACTION_SECONDS), engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def _served(limit_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_seconds):
            yield
    except (OperationalError, InterfaceError, PoolTimeout, OSError) as away:
        raise StoreUnavailable(_first_line(away)) from away
    except DBAPIError as failed:
        if failed.connection_invalidated or getattr(failed.orig, "sqlstate", None) == _READ_ONLY:
            raise StoreUnavailable(_first_line(failed)) from failed
        raise


def _first_line(error: BaseException) -> str:
    """Enough to tell what happened; the rest of SQLAlchemy's text holds the statement and its parameters."""
    origin = getattr(error, "orig", None) or error
    return (str(origin) or type(origin).__name__).splitlines()[0][:300]
