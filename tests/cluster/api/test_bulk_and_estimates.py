"""Many at once, none at all, and the same as before."""

from typing import Any

from tests.support.api import Tenant

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import AVATAR_RENDER, RENDER_PROVIDER, VOICE_JOB

VOICE = {"kind": "VoiceJob", "text": "Welcome", "voiceId": "anna"}


async def test_each_item_of_a_list_stands_for_itself(tenant: Tenant, cluster: Cluster) -> None:
    items: list[dict[str, Any]] = [
        VOICE,
        {**VOICE, "colour": "red"},
        {"kind": "AvatarRender", "prompt": "a face", "name": "bulk-face"},
        {"kind": "Teapot"},
        {"kind": "AvatarRender", "prompt": "a face", "name": "bulk-face"},
        {"kind": "VideoRender", "script": "Hi", "voiceId": "anna", "avatarKey": "media/rf-other/x.png"},
    ]

    answer = (await tenant.post("/jobs", {"items": items})).json()

    results = answer["results"]
    assert answer["accepted"] == 2
    assert results[0]["job"]["kind"] == "VoiceJob"
    assert results[1]["problem"]["errors"] == [{"field": "colour", "message": "unknown field"}]
    assert results[3]["problem"]["errors"][0]["field"] == "kind"
    assert sorted(results[place]["status"] for place in (2, 4)) == [202, 409]
    assert results[5]["problem"]["errors"][0]["field"] == "avatarKey"
    assert len((await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items) == 1


async def test_the_document_says_what_an_item_is(tenant: Tenant) -> None:
    schemas = (await tenant.get("/openapi.json")).json()["components"]["schemas"]

    item = schemas["BulkRequest"]["properties"]["items"]["items"]

    assert item["discriminator"]["propertyName"] == "kind"
    assert set(item["discriminator"]["mapping"]) == {"AvatarRender", "VoiceJob", "VideoRender"}
    for alone, many in (("VoiceRequest", "VoiceItem"), ("AvatarPreviewRequest", "AvatarPreviewItem")):
        assert schemas[many]["properties"].keys() - schemas[alone]["properties"].keys() == {"kind"}


async def test_a_list_that_is_sent_again_makes_nothing_twice(tenant: Tenant, cluster: Cluster) -> None:
    body = {"items": [{**VOICE, "text": f"number {number}"} for number in range(12)]}

    first = (await tenant.post("/jobs", body, Idempotency_Key="list-1")).json()
    again = (await tenant.post("/jobs", body, Idempotency_Key="list-1")).json()

    assert first["accepted"] == again["accepted"] == 12
    assert [one["job"]["id"] for one in first["results"]] == [one["job"]["id"] for one in again["results"]]
    assert len((await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items) == 12


async def test_a_list_has_its_limits(tenant: Tenant) -> None:
    for items in ([], [VOICE] * 101):
        assert (await tenant.post("/jobs", {"items": items})).status_code == 422


async def test_a_dry_run_checks_and_estimates_and_makes_nothing(tenant: Tenant, cluster: Cluster) -> None:
    providers = Resource.of(RENDER_PROVIDER)
    spec = {
        "vendor": "openai",
        "baseUrl": "https://api.example",
        "secretRef": {"name": "x"},
        "limits": {"perMinute": 30},
        "prices": [{"unit": "images", "micros": 40_000}],
    }
    await cluster.create(
        providers,
        {"apiVersion": meta.API_VERSION, "kind": "RenderProvider", "metadata": {"name": "dry"}, "spec": spec},
    )
    await cluster.patch(providers, "dry", {"status": {"waiting": 15, "circuit": "Closed"}}, subresource="status")
    body = {"prompt": "a friendly face", "count": 3, "provider": "dry"}

    answer = await tenant.post("/avatars/previews?dryRun=true", body)
    told = answer.json()
    await cluster.patch(providers, "dry", {"status": {"circuit": "Open"}}, subresource="status")
    broken = (await tenant.post("/avatars/previews?dryRun=true", body)).json()
    unknown = (await tenant.post("/avatars/previews?dryRun=true", {**body, "provider": "nobody"})).json()
    invalid = await tenant.post("/avatars/previews?dryRun=true", {**body, "count": 11})

    assert answer.status_code == 200
    assert told["cost"] == {"estimatedMicros": 120_000, "actualMicros": None, "currency": "USD"}
    assert (told["usage"]["images"], told["startSeconds"], told["spec"]["quality"]) == (3, 30, "medium")
    assert broken["startSeconds"] is None
    assert unknown["cost"]["estimatedMicros"] is None
    assert invalid.status_code == 422
    assert (await cluster.list(Resource.of(AVATAR_RENDER), tenant.namespace)).items == []
    assert (await tenant.get("/jobs")).json()["items"] == []


async def test_what_has_not_changed_is_not_sent_again(tenant: Tenant) -> None:
    job = await tenant.submit()
    first = await tenant.get(f"/jobs/{job['id']}")
    tag = first.headers["etag"]

    async def ask() -> int:
        answer = await tenant.http.get(f"/jobs/{job['id']}", headers={"If-None-Match": f'"other", {tag}'})
        return answer.status_code

    assert await ask() == 304
    await tenant.report(job, "Running")
    assert await ask() == 200


async def test_every_list_says_when_it_has_not_changed(tenant: Tenant) -> None:
    job = await tenant.submit()
    await tenant.succeed(job)
    for path in ("/jobs", "/voice", "/videos", "/avatars", "/webhooks"):
        first = await tenant.get(path)
        same = await tenant.http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"]), path
    tag = (await tenant.get("/jobs")).headers["etag"]
    await tenant.submit()
    assert (await tenant.http.get("/jobs", headers={"If-None-Match": tag})).status_code == 200
