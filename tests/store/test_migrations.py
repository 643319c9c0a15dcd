"""The migrations make exactly the tables that the code expects."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from tests.support.postgres import Postgres

from renderfleet_store.migrate import latest_revision, migrate
from renderfleet_store.tables import metadata


def test_migrated_tables_are_those_of_the_code(database: str) -> None:
    with create_engine(database).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_several_replicas_may_migrate_at_once(postgres: Postgres) -> None:
    url = postgres.create_database("at_once")

    with ThreadPoolExecutor() as pool:
        versions = list(pool.map(lambda _: migrate(url), range(4)))

    assert versions == [latest_revision()] * 4
    assert "jobs" in inspect(create_engine(url)).get_table_names()


def test_migrating_down_leaves_nothing(postgres: Postgres) -> None:
    from alembic import command

    from renderfleet_store.migrate import alembic_config

    url = postgres.create_database("down_again")
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_the_command_says_what_it_did_or_what_is_missing(database: str) -> None:
    command = [sys.executable, "-m", "renderfleet_store", "migrate", "--wait", "0"]

    done = subprocess.run(
        command, env={"RENDERFLEET_DATABASE_DIRECT_URL": database}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"tables are at version {latest_revision()}\n")

    unset = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert unset.returncode == 2
    assert "RENDERFLEET_DATABASE_DIRECT_URL" in unset.stderr

    away = {"RENDERFLEET_DATABASE_DIRECT_URL": "postgresql+psycopg://x@127.0.0.1:1/x"}
    gone = subprocess.run(command, env=away, capture_output=True, text=True, check=False)
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stderr
