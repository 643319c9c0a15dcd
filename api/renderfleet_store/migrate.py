"""Bring the tables to the version that this code needs.

Runs on a direct connection, not through PgBouncer. Two at once are harmless: the second waits for the first's
transaction-level advisory lock and then finds nothing to do.
"""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

_LOCK = 0x52464D47
_PAUSE_SECONDS = 1.0


def migrate(url: str, *, revision: str = "head", wait_seconds: float = 60) -> str | None:
    """Upgrade to `revision`, waiting for a database that is still starting; returns the version it is at then.

    Raises OperationalError when it cannot be reached in that time. Nothing is changed when a step fails.
    """
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    _await_server(engine, wait_seconds)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        return MigrationContext.configure(connection).get_current_revision()


def alembic_config() -> Config:
    """Alembic's settings; there is no ini file, since nothing in it would ever be changed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def latest_revision() -> str | None:
    """The version that this code needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def _await_server(engine: Engine, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with engine.connect():
                return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
