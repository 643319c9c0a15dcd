"""Looking at jobs, changing their course, and what they leave behind."""

import asyncio
import itertools
import json
import re
from typing import Any

import httpx2
import pytest
from tests.support.api import Api, Tenant
from tests.support.wire import ObjectStore

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import VOICE_JOB


async def test_a_finished_job_leads_to_its_result(tenant: Tenant, store: ObjectStore) -> None:
    job = await tenant.submit("VoiceJob")
    key = f"media/{tenant.namespace}/{job['id']}/speech.mp3"
    await store.media.write(key, b"ID3 sound", "audio/mpeg")
    await tenant.succeed(job, cost={"actualMicros": 1200, "currency": "USD"}, script="Hello")

    done = (await tenant.get(f"/jobs/{job['id']}")).json()
    async with httpx2.AsyncClient() as anybody:
        fetched = await anybody.get(done["resultUrl"])

    assert (done["status"], done["progress"], done["attempts"]) == ("Succeeded", 100, 1)
    assert (done["cost"]["actualMicros"], done["script"]) == (1200, "Hello")
    assert done["resultUrlExpiresAt"] > done["finishedAt"]
    assert done["error"] is None
    assert fetched.content == b"ID3 sound"
    assert "attachment" in fetched.headers["content-disposition"]
    [recording] = (await tenant.get("/voice")).json()["items"]
    assert (recording["id"], recording["key"], recording["durationSeconds"]) == (job["id"], key, 2.5)


async def test_a_failure_says_who_must_act_and_whether_it_cost_money(tenant: Tenant) -> None:
    job = await tenant.submit()
    attempts = [
        {"number": 1, "stage": "synthesize", "category": "outage", "code": "503", "message": "down", "charged": "unknown"},
        {"number": 2, "stage": "synthesize", "category": "moderation", "code": "unsafe", "message": "no", "charged": "false"},
    ]  # fmt: skip
    await tenant.report(job, "Failed", reason="Moderated", message="The text is refused.", attempt=2, attempts=attempts)

    failed = (await tenant.get(f"/jobs/{job['id']}")).json()

    assert failed["error"] == {
        "code": "unsafe",
        "category": "moderation",
        "message": "The text is refused.",
        "retryable": False,
        "charged": "unknown",
    }
    assert failed["resultUrl"] is None
    assert [one["number"] for one in failed["attemptLog"]] == [1, 2]


async def test_a_waiting_job_says_where_it_stands(tenant: Tenant) -> None:
    job = await tenant.submit()
    await tenant.report(job, "Queued", reason="QuotaExhausted", queue={"position": 3, "etaSeconds": 40})

    waiting = (await tenant.get(f"/jobs/{job['id']}")).json()

    assert (waiting["reason"], waiting["queue"]["position"], waiting["queue"]["etaSeconds"]) == (
        "QuotaExhausted",
        3,
        40,
    )


async def test_a_render_made_with_kubectl_appears_too(tenant: Tenant, cluster: Cluster) -> None:
    made = await cluster.create(
        Resource.of(VOICE_JOB),
        {
            "apiVersion": meta.API_VERSION,
            "kind": "VoiceJob",
            "metadata": {"name": "from-git", "labels": {meta.TENANT_LABEL: "somebody-else"}},
            "spec": {"text": "Hello", "voiceId": "anna"},
        },
        tenant.namespace,
    )
    await tenant.report({"kind": "VoiceJob", "name": "from-git", "id": made["metadata"]["uid"]}, "Running")

    [shown] = (await tenant.get("/jobs")).json()["items"]
    assert (shown["name"], shown["status"]) == ("from-git", "Running")


async def test_cancel_reaches_the_object_once(tenant: Tenant) -> None:
    job = await tenant.submit()

    asked = await tenant.post(f"/jobs/{job['id']}/cancel")
    assert asked.status_code == 202
    assert (await tenant.object_of(job))["spec"]["cancel"] is True

    await tenant.report(job, "Aborted", reason="CancelledByUser")
    again = await tenant.post(f"/jobs/{job['id']}/cancel")
    assert (again.status_code, again.json()["status"]) == (202, "Aborted")


async def test_a_job_that_is_over_cannot_be_cancelled(tenant: Tenant) -> None:
    job = await tenant.submit()
    await tenant.succeed(job)

    refused = await tenant.post(f"/jobs/{job['id']}/cancel")

    assert (refused.status_code, refused.json()["code"], refused.json()["jobId"]) == (409, "job_over", job["id"])


@pytest.mark.parametrize("phase", ["Failed", "DeadLettered", "Cancelled", "Aborted", "Held"])
async def test_retry_starts_one_new_run_however_often_it_is_asked_for(tenant: Tenant, phase: str) -> None:
    job = await tenant.submit()
    await tenant.post(f"/jobs/{job['id']}/cancel")
    await tenant.report(job, phase)

    answers = [await tenant.post(f"/jobs/{job['id']}/retry") for _ in range(2)]

    assert [one.status_code for one in answers] == [202, 202]
    spec = (await tenant.object_of(job))["spec"]
    assert (spec["redrive"], spec["cancel"]) == (1, False)


@pytest.mark.parametrize("phase", ["Queued", "Running", "Retrying", "Succeeded"])
async def test_retry_is_for_what_ended_badly(tenant: Tenant, phase: str) -> None:
    job = await tenant.submit()
    await tenant.report(job, phase)

    refused = await tenant.post(f"/jobs/{job['id']}/retry")

    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")


async def test_an_object_that_is_gone_is_not_mistaken_for_its_successor(tenant: Tenant, cluster: Cluster) -> None:
    job = await tenant.submit(name="same-name")
    voice_jobs = Resource.of(VOICE_JOB)
    await cluster.patch(voice_jobs, "same-name", {"metadata": {"finalizers": None}}, tenant.namespace)
    await cluster.delete(voice_jobs, "same-name", tenant.namespace)

    gone = await tenant.post(f"/jobs/{job['id']}/cancel")
    successor = await tenant.submit(name="same-name")
    still_gone = await tenant.post(f"/jobs/{job['id']}/cancel")

    assert [(one.status_code, one.json()["code"]) for one in (gone, still_gone)] == [(409, "object_gone")] * 2
    assert (await tenant.object_of(successor))["spec"].get("cancel") is not True


async def test_lists_are_cut_into_pages_and_filtered(tenant: Tenant) -> None:
    made = [(await tenant.submit(labels={"n": str(number % 2)}))["id"] for number in range(5)]
    await tenant.succeed((await tenant.get(f"/jobs/{made[0]}")).json())

    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (await tenant.get("/jobs", limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)

    async def ids(**query: Any) -> set[str]:
        return {one["id"] for one in (await tenant.get("/jobs", **query)).json()["items"]}

    assert await ids(status="Succeeded") == {made[0]}
    assert await ids(label="n=1") == {made[1], made[3]}
    assert await ids(kind="VideoRender") == set()
    for bad in ({"cursor": "nonsense"}, {"label": "n"}, {"limit": 0}, {"status": "Nope"}):
        assert (await tenant.get("/jobs", **bad)).status_code == 422


async def test_saving_a_preview_copies_it_and_moves_the_preference(tenant: Tenant, store: ObjectStore) -> None:
    job = await tenant.submit("AvatarRender")
    early = await tenant.post("/avatars", {"jobId": job["id"]})
    key = f"media/{tenant.namespace}/{job['id']}/image-1.png"
    await store.media.write(key, b"PNG face", "image/png")
    await tenant.succeed(job)

    saved = await tenant.post("/avatars", {"jobId": job["id"], "index": 1, "name": "Guide", "preferred": True})
    again = await tenant.post("/avatars", {"jobId": job["id"], "index": 1, "name": "Other name"})
    missing = await tenant.post("/avatars", {"jobId": job["id"], "index": 2})

    assert (early.status_code, early.json()["code"]) == (409, "not_finished")
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "index")
    avatar = saved.json()
    assert saved.status_code == 201
    assert again.json()["id"] == avatar["id"]
    assert avatar["key"].startswith(f"media/{tenant.namespace}/avatars/")
    assert store.read(avatar["key"]) == b"PNG face"
    video = await tenant.post("/videos", {"script": "Hello", "voiceId": "anna"})
    assert (await tenant.object_of(video.json()))["spec"]["avatarKey"] == avatar["key"]

    changed = await tenant.http.patch(f"/avatars/{avatar['id']}", json={"name": "New", "preferred": False})
    assert (changed.json()["name"], changed.json()["preferred"]) == ("New", False)
    assert (await tenant.http.delete(f"/avatars/{avatar['id']}")).status_code == 204
    assert store.read(avatar["key"]) is None
    assert (await tenant.get(f"/avatars/{avatar['id']}")).status_code == 404


async def test_fifty_saves_at_once_leave_one_preferred(tenant: Tenant, store: ObjectStore) -> None:
    job = await tenant.submit("AvatarRender", count=10)
    outputs = []
    for index in range(1, 11):
        key = f"media/{tenant.namespace}/{job['id']}/image-{index}.png"
        await store.media.write(key, b"PNG", "image/png")
        outputs.append(
            {"name": f"image-{index}", "key": key, "contentType": "image/png", "bytes": 3, "sha256": "0" * 64}
        )
    await tenant.report(job, "Succeeded", outputs=outputs)

    answers = await asyncio.gather(
        *(tenant.post("/avatars", {"jobId": job["id"], "index": 1 + n % 10, "preferred": True}) for n in range(50))
    )

    assert {one.status_code for one in answers} == {201}
    saved = (await tenant.get("/avatars", limit=100)).json()["items"]
    assert len(saved) == 10
    assert len([one for one in saved if one["preferred"]]) == 1


async def test_an_upload_takes_what_was_announced_and_no_more(tenant: Tenant, store: ObjectStore) -> None:
    form = (await tenant.post("/uploads", {"contentType": "image/png", "bytes": 10})).json()

    async def send(content: bytes, **fields: str) -> int:
        async with httpx2.AsyncClient() as anybody:
            sent = await anybody.post(form["url"], data={**form["fields"], **fields}, files={"file": content})
        return sent.status_code

    assert await send(b"x" * 11) == 400
    assert await send(b"x" * 10, key=f"media/{tenant.namespace}/elsewhere.png") == 403
    assert await send(b"x" * 10) in {200, 201, 204}
    assert store.read(form["key"]) == b"x" * 10
    assert (await tenant.post("/uploads", {"contentType": "text/html"})).status_code == 422
    assert (await tenant.post("/uploads", {"contentType": "image/png", "bytes": 10**12})).status_code == 422


async def everything_of(api: Api, tenant: Tenant, store: ObjectStore) -> dict[str, list[str]]:
    """By path parameter, the ids of all that a tenant may own."""
    face, voice = await tenant.submit("AvatarRender"), await tenant.submit("VoiceJob")
    await tenant.succeed(voice)
    await store.media.write(f"media/{tenant.namespace}/{face['id']}/image-1.png", b"PNG face", "image/png")
    await tenant.succeed(face)
    avatar = (await tenant.post("/avatars", {"jobId": face["id"]})).json()
    endpoint = (await tenant.post("/webhooks", {"url": "https://hooks.example.com/renders"})).json()
    await tenant.post(f"/webhooks/{endpoint['id']}/test")
    [delivery] = (await tenant.get(f"/webhooks/{endpoint['id']}/deliveries")).json()["items"]
    async with api.client() as admin:
        keys = (await admin.get(f"/admin/tenants/{tenant.name}/keys")).json()["items"]
    return {
        "job_id": [face["id"], voice["id"]],
        "avatar_id": [avatar["id"]],
        "endpoint_id": [endpoint["id"]],
        "delivery_id": [str(delivery["id"])],
        "name": [tenant.name],
        "key_id": [one["id"] for one in keys],
    }


BODIES: dict[str, dict[str, Any]] = {
    "change_avatar": {"name": "mine", "preferred": True},
    "change_endpoint": {"enabled": False},
    "replay_events": {"since": "2020-01-01T00:00:00Z"},
    "change_tenant": {"concurrency": 1},
}
"""What an operation would do harm with, if it let a stranger in."""


async def test_a_second_tenant_finds_nothing_by_any_route_and_id(
    api: Api, tenant: Tenant, other: Tenant, store: ObjectStore
) -> None:
    """Walks every route that OpenAPI knows, with every id of somebody else's, and with a key of another tenant."""
    owned = await everything_of(api, tenant, store)
    mine = [tenant.namespace, *(one for name in owned if name != "delivery_id" for one in owned[name])]
    seen_before = [(await tenant.get(path)).json()["items"] for path in ("/webhooks", "/avatars")]
    document = (await other.get("/openapi.json")).json()
    walked = set()
    for path, operations in document["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        for values in itertools.product(*(owned[name] for name in names)):
            place = path.format(**dict(zip(names, values, strict=True)))
            for method, operation in operations.items():
                if place == "/events":
                    continue  # without end; its own test shows that it holds nothing of others
                body = BODIES.get(operation["operationId"], {}) if method in {"post", "patch"} else None
                answer = await other.http.request(method.upper(), place, json=body)
                walked.add(operation["operationId"])
                told = answer.text.replace(place, "").replace(f'"jobId":"{values[0] if values else None}"', "")
                assert not [one for one in mine if one in told], (method, place, told)
                if path.startswith("/admin"):
                    assert answer.status_code == 403, (method, place, told)
                elif names:
                    assert answer.status_code == 404, (method, place, told)
    everything = {one["operationId"] for operations in document["paths"].values() for one in operations.values()}
    assert everything - walked == {"follow_tenant"}
    for identity in owned["job_id"]:
        job = (await tenant.get(f"/jobs/{identity}")).json()
        untouched = (await tenant.object_of(job))["spec"]
        assert (untouched.get("cancel", False), untouched.get("redrive", 0)) == (False, 0)
    links = re.compile(r'"https?://[^"]*"|"urlExpiresAt": "[^"]*"')
    seen_after = [(await tenant.get(path)).json()["items"] for path in ("/webhooks", "/avatars")]
    assert [links.sub("", json.dumps(one)) for one in seen_after] == [
        links.sub("", json.dumps(one)) for one in seen_before
    ]
    assert len((await tenant.get(f"/webhooks/{owned['endpoint_id'][0]}/deliveries")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 401, "unauthenticated"),
        ("rf_" + "a" * 49, 401, "unauthenticated"),
        ("hello", 401, "unauthenticated"),
        ("admin-key-of-the-tests", 403, "tenant_key_needed"),
    ],
)
async def test_a_key_is_needed(api: Api, key: str | None, status: int, code: str) -> None:
    async with api.client(key) as client:
        answer = await client.get("/jobs")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_a_key_may_do_what_its_scopes_say_until_it_is_revoked(api: Api, tenant: Tenant) -> None:
    async with api.client() as admin:
        made = (await admin.post(f"/admin/tenants/{tenant.name}/keys", json={"scopes": ["read"]})).json()
        async with api.client(made["key"]) as client:
            assert (await client.get("/jobs")).status_code == 200
            assert (await client.post("/voice", json={"text": "x", "voiceId": "y"})).json()["code"] == "scope_missing"
            assert (await client.get("/admin/tenants")).json()["code"] == "admin_key_needed"
            listed = (await admin.get(f"/admin/tenants/{tenant.name}/keys")).json()["items"]
            assert [one["prefix"] for one in listed if one["id"] == made["id"]] == [made["key"][:9]]
            assert made["key"] not in str(listed)
            gone = await admin.delete(f"/admin/tenants/{tenant.name}/keys/{made['id']}")
            assert gone.status_code == 204
            assert (await client.get("/jobs")).status_code == 401
