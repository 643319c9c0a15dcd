"""Pytest fixtures for a real PostgreSQL; a conftest takes them in by importing them."""

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from renderfleet_store.migrate import migrate

from .postgres import Postgres, postgres_server

_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server with one migrated database, which the others are copied from."""
    with postgres_server() as server:
        migrate(server.create_database("migrated"))
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Address of an empty, migrated database."""
    name = f"test{next(_names)}"
    yield postgres.create_database(name, template="migrated")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
