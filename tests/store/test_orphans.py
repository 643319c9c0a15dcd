"""Pictures that a crash left without their avatar are found and removed, and no others."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.wire import ObjectStore, object_store_process

from renderfleet_api.janitor import remove_orphans
from renderfleet_crds import meta
from renderfleet_store import avatars, tenants
from renderfleet_store.engine import transaction

NOW, LATER = timedelta(0), timedelta(days=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store_process(tmp_path_factory.mktemp("s3")) as running:
        yield running


async def test_a_picture_that_no_avatar_leads_to_goes_when_it_is_old(engine: AsyncEngine, store: ObjectStore) -> None:
    folder = meta.avatar_prefix("rf-a")
    kept, orphan = f"{folder}kept.png", f"{folder}orphan.png"
    elsewhere = [f"{meta.media_prefix('rf-a')}uploads/x.png", f"{meta.avatar_prefix('rf-unknown')}y.png"]
    for key in (kept, orphan, *elsewhere):
        await store.media.write(key, b"PNG", "image/png")
    async with transaction(engine) as connection:
        await tenants.ensure_tenant(connection, "a", "rf-a")
        row = {"id": "1", "namespace": "rf-a", "key": kept, "content_type": "image/png", "bytes": 3}
        await avatars.save(connection, row, preferred=True)

    young = await remove_orphans(engine, store.media, LATER)
    old = await remove_orphans(engine, store.media, NOW)

    assert (young, old) == (0, 1)
    assert store.read(orphan) is None
    assert [store.read(key) for key in (kept, *elsewhere)] == [b"PNG"] * 3


async def test_more_pictures_than_one_answer_lists(engine: AsyncEngine, store: ObjectStore) -> None:
    folder = store.folder / meta.avatar_prefix("rf-many")
    folder.mkdir(parents=True)
    for number in range(1005):
        (folder / f"{number}.png").write_bytes(b"PNG")
    async with transaction(engine) as connection:
        await tenants.ensure_tenant(connection, "many", "rf-many")

    assert await remove_orphans(engine, store.media, NOW) == 1005
    assert list(folder.glob("*.png")) == []
