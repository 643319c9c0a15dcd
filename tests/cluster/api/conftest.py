"""One API process for all tests here; each test gets a tenant of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, Tenant, api_environment, api_process, make_tenant
from tests.support.databases import postgres
from tests.support.postgres import Postgres
from tests.support.wire import ObjectStore, object_store_process

from renderfleet_client import Cluster
from renderfleet_store.engine import make_engine
from renderfleet_store.mirror import Mirror

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server."""
    with object_store_process(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def api_database(postgres: Postgres) -> str:
    """Address of the API's database."""
    return postgres.create_database("api", template="migrated")


@pytest.fixture(scope="session")
def api(
    tmp_path_factory: pytest.TempPathFactory, api_database: str, crds_installed: Path, store: ObjectStore
) -> Iterator[Api]:
    """The API, ready to serve."""
    environment = api_environment(api_database, crds_installed, store)
    with api_process(tmp_path_factory.mktemp("api"), environment) as running:
        yield running


@pytest.fixture
async def engine(api_database: str) -> AsyncIterator[AsyncEngine]:
    """Our own access to the API's database."""
    made = make_engine(api_database, pooled=True)
    yield made
    await made.dispose()


@pytest.fixture
async def tenant(api: Api, cluster: Cluster, engine: AsyncEngine) -> AsyncIterator[Tenant]:
    """A tenant of the test's own."""
    made = await make_tenant(api, cluster, Mirror(engine))
    yield made
    await made.http.aclose()


@pytest.fixture
async def other(api: Api, cluster: Cluster, engine: AsyncEngine) -> AsyncIterator[Tenant]:
    """A second tenant, who must see nothing of the first."""
    made = await make_tenant(api, cluster, Mirror(engine))
    yield made
    await made.http.aclose()
