"""Runners and adapters against the stand-in and a real S3 server, over real HTTP. No Kubernetes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.wire import Bench, ObjectStore, Standin, object_store_process, standin_process


@pytest.fixture(scope="session")
def shared_standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """One stand-in for the run; tests get it reset."""
    with standin_process(tmp_path_factory.mktemp("standin"), talk_seconds="0.5", elevenlabs_tier="business") as standin:
        yield standin


@pytest.fixture
def standin(shared_standin: Standin) -> Standin:
    """The vendors, with an empty ledger and no faults."""
    shared_standin.reset()
    return shared_standin


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 server for the run; tests use keys of their own."""
    with object_store_process(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def bench(tmp_path: Path, standin: Standin, store: ObjectStore) -> Bench:
    """Makes tasks and runs them."""
    return Bench(tmp_path, standin, store)
