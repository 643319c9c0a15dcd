"""Avatars from elsewhere: fetched once from where the administrator allows, and never anything but a picture."""

import asyncio
import io
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, Tenant, api_process
from tests.support.wire import ObjectStore

from renderfleet_store.engine import TRANSACTION_SECONDS, transaction


def picture(kind: str = "PNG", size: tuple[int, int] = (320, 240)) -> bytes:
    """A picture that decodes."""
    made = io.BytesIO()
    Image.new("RGB", size, "teal").save(made, kind)
    return made.getvalue()


@dataclass
class Gallery:
    """A web server on loopback with files, redirects and bad days."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    origin: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
        body = self.files.get(path, b"")
        status = self.statuses.get(path, 302 if path in self.redirects else 200 if body else 404)
        more = f"location: {self.redirects[path]}\r\n" if path in self.redirects else ""
        # A lie: what counts is the content.
        head = f"HTTP/1.1 {status} X\r\ncontent-type: image/webp\r\ncontent-length: {len(body)}\r\n{more}"
        writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def gallery() -> AsyncIterator[Gallery]:
    made = Gallery()
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
async def allowed() -> AsyncIterator[Gallery]:
    async with gallery() as made:
        yield made


@pytest.fixture
async def forbidden() -> AsyncIterator[Gallery]:
    async with gallery() as made:
        yield made


@pytest.fixture
async def client(api: Api, tenant: Tenant, allowed: Gallery, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The tenant's access to an API that may fetch from one gallery."""
    environment = {
        **api.environment,
        "RENDERFLEET_AVATAR_TRUSTED_ORIGINS": json.dumps([allowed.origin]),
        "RENDERFLEET_AVATAR_HOSTS": '["images.example.test"]',
        "RENDERFLEET_AVATAR_MAX_BYTES": "60000",
    }
    with api_process(tmp_path, environment) as running:
        async with running.client(tenant.key) as made:
            yield made


async def test_a_picture_from_an_allowed_place_becomes_an_avatar(
    client: httpx2.AsyncClient, tenant: Tenant, allowed: Gallery, store: ObjectStore
) -> None:
    allowed.files = {"/face": picture("JPEG"), "/copy": picture("JPEG"), "/other.png": picture()}
    allowed.redirects = {"/moved": "/face"}

    async def save(path: str, **more: Any) -> dict[str, Any]:
        answer = await client.post("/avatars", json={"imageUrl": allowed.origin + path, **more})
        assert answer.status_code == 201, answer.text
        saved: dict[str, Any] = answer.json()
        assert answer.headers["Location"] == f"/avatars/{saved['id']}"
        return saved

    first = await save("/face", name="Guide", preferred=True)
    again = [await save(path) for path in ("/face", "/copy", "/moved")]
    other = await save("/other.png", preferred=True)

    assert (first["contentType"], first["widthPx"], first["heightPx"]) == ("image/jpeg", 320, 240)
    assert (first["name"], first["preferred"], first["bytes"]) == ("Guide", True, len(allowed.files["/face"]))
    assert first["key"].startswith(f"media/{tenant.namespace}/avatars/")
    assert first["key"].endswith(".jpg")
    assert store.read(first["key"]) == allowed.files["/face"]
    assert {one["id"] for one in again} == {first["id"]}
    assert {one["key"] for one in again} == {first["key"]}
    kept = (await client.get("/avatars")).json()["items"]
    assert [one["id"] for one in kept if one["preferred"]] == [other["id"]]
    assert (await save("/face", preferred=True))["preferred"] is True


async def test_what_is_no_picture_is_refused(client: httpx2.AsyncClient, allowed: Gallery) -> None:
    whole = picture("PNG", (2000, 2000))
    claims_much = bytearray(picture())
    claims_much[16:24] = (3300).to_bytes(4, "big") * 2
    claims_much[29:33] = zlib.crc32(claims_much[12:29]).to_bytes(4, "big")
    allowed.files = {
        "/text": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "/gif": picture("GIF"),
        "/cut": whole[: len(whole) // 2],
        "/bomb": bytes(claims_much),
        "/small": picture(size=(159, 400)),
        "/long": picture() + b"\0" * 60_000,
    }

    for path, words in {
        "/text": "neither png nor jpeg",
        "/gif": "neither png nor jpeg",
        "/cut": "cannot be decoded",
        "/bomb": "pixels",
        "/small": "smaller than 160",
        "/long": "larger than 60000 bytes",
        "/nothing": "status 404",
    }.items():
        answer = await client.post("/avatars", json={"imageUrl": allowed.origin + path})
        assert answer.status_code == 422, (path, answer.text)
        [error] = answer.json()["errors"]
        assert error["field"] == "imageUrl"
        assert words in error["message"], path
    allowed.statuses = {"/late": 503}
    later = await client.post("/avatars", json={"imageUrl": allowed.origin + "/late"})
    assert (later.status_code, later.json()["code"], later.json()["retryable"]) == (503, "image_unreachable", True)
    assert (await client.get("/avatars")).json()["items"] == []


async def test_no_other_place_is_ever_connected_to(
    client: httpx2.AsyncClient, tenant: Tenant, allowed: Gallery, forbidden: Gallery
) -> None:
    forbidden.files = {"/face": picture()}
    allowed.redirects = {"/away": f"{forbidden.origin}/face", "/round": "/round"}

    for url in (
        f"{forbidden.origin}/face",
        f"{allowed.origin}/away",
        f"{allowed.origin}/round",
        f"{allowed.origin.replace('http:', 'https:')}/face",
        "https://elsewhere.example.test/face.png",
        "https://127.0.0.1/face.png",
        "https://[::1]/face.png",
        "https://2130706433/face.png",
    ):
        answer = await client.post("/avatars", json={"imageUrl": url})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "imageUrl"), url
    assert forbidden.connections == 0
    assert allowed.connections == 4
    by_default = await tenant.post("/avatars", {"imageUrl": f"{allowed.origin}/face"})
    assert by_default.status_code == 422
    for body in ({}, {"imageUrl": "https://a.example.test/x.png", "jobId": "0" * 8 + "-0000-0000-0000-" + "0" * 12}):
        assert "exactly one of jobId and imageUrl" in (await client.post("/avatars", json=body)).text


async def test_saving_and_deleting_at_once_leaves_no_avatar_without_its_picture(
    tenant: Tenant, store: ObjectStore
) -> None:
    job = await tenant.submit("AvatarRender")
    await store.media.write(f"media/{tenant.namespace}/{job['id']}/image-1.png", b"PNG face", "image/png")
    await tenant.succeed(job)
    identity = (await tenant.post("/avatars", {"jobId": job["id"]})).json()["id"]

    for _ in range(5):
        saves = [tenant.post("/avatars", {"jobId": job["id"]}) for _ in range(4)]
        answers = await asyncio.gather(*saves, *(tenant.http.delete(f"/avatars/{identity}") for _ in range(4)))
        assert {one.status_code for one in answers} <= {201, 204, 404}
        for kept in (await tenant.get("/avatars")).json()["items"]:
            assert store.read(kept["key"]) == b"PNG face"
    await tenant.http.delete(f"/avatars/{identity}")
    left = list((store.folder / f"media/{tenant.namespace}/avatars").glob("*.png"))
    assert left == []


async def test_an_avatar_that_cannot_be_stored_leaves_no_picture(
    tenant: Tenant, store: ObjectStore, engine: AsyncEngine
) -> None:
    job = await tenant.submit("AvatarRender")
    await store.media.write(f"media/{tenant.namespace}/{job['id']}/image-1.png", b"PNG face", "image/png")
    await tenant.succeed(job)

    async with transaction(engine, limit_seconds=2 * TRANSACTION_SECONDS) as connection:
        # Others may read, and wait with their writes for longer than the API does.
        await connection.execute(text("LOCK TABLE avatars IN SHARE MODE"))
        refused = await tenant.post("/avatars", {"jobId": job["id"]})

    assert (refused.status_code, refused.json()["retryable"]) == (503, True)
    assert list((store.folder / f"media/{tenant.namespace}/avatars").glob("*.png")) == []
    saved = (await tenant.post("/avatars", {"jobId": job["id"]})).json()
    assert store.read(saved["key"]) == b"PNG face"
