"""From a request to a custom resource, and what the caller is told."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, Tenant, make_tenant

from renderfleet_client import Cluster
from renderfleet_client.resources import Resource
from renderfleet_crds import meta
from renderfleet_crds.kinds import VIDEO_RENDER, VOICE_JOB
from renderfleet_store.engine import transaction

VOICE = {"text": "Welcome", "voiceId": "anna"}


@pytest.mark.parametrize("kind", ["AvatarRender", "VoiceJob", "VideoRender"])
async def test_a_submit_makes_an_object_and_says_where_to_look(tenant: Tenant, kind: str) -> None:
    job = await tenant.submit(kind, priority=200, clientReference="order-7", labels={"team": "red"})

    body = await tenant.object_of(job)
    about = body["metadata"]
    assert about["uid"] == job["id"]
    assert about["finalizers"] == [meta.FINALIZER]
    assert about["labels"] == {"team": "red", meta.TENANT_LABEL: tenant.name}
    assert (body["spec"]["priority"], body["spec"]["clientReference"]) == (200, "order-7")
    assert "name" not in body["spec"]

    found = await tenant.get(job["links"]["self"])
    assert found.json() == job
    assert (job["status"], job["progress"], job["labels"]) == ("Queued", 0, {"team": "red"})


async def test_the_traceparent_goes_on_to_the_object(tenant: Tenant) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await tenant.post("/voice", VOICE, traceparent=f"00-{trace}-b7ad6b7169203331-01")

    job = answer.json()
    passed_on = (await tenant.object_of(job))["metadata"]["annotations"][meta.TRACE_ANNOTATION]
    assert job["traceId"] == trace
    assert passed_on.split("-")[1] == trace
    assert passed_on.split("-")[2] != "b7ad6b7169203331"
    assert answer.headers["traceresponse"].split("-")[1] == trace


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        pytest.param("/voice", {**VOICE, "colour": "red"}, "colour", "unknown field", id="unknown field"),
        pytest.param("/voice", {**VOICE, "voice_id": "x"}, "voice_id", "unknown field", id="snake case"),
        pytest.param("/voice", {**VOICE, "prompt": "a poem"}, "", "exactly one of text and prompt", id="two sources"),
        pytest.param("/voice", {"voiceId": "anna"}, "", "exactly one of text and prompt", id="no source"),
        pytest.param("/voice", {"text": "x"}, "voiceId", "required", id="missing"),
        pytest.param("/avatars/previews", {"prompt": "no"}, "prompt", "at least 3", id="prompt too short"),
        pytest.param("/avatars/previews", {"prompt": "x" * 4001}, "prompt", "at most 4000", id="prompt too long"),
        pytest.param(
            "/avatars/previews",
            {"prompt": "a face", "retryPolicy": {"maxAttempts": 11}},
            "retryPolicy.maxAttempts",
            "less than or equal to 10",
            id="nested",
        ),
        pytest.param(
            "/avatars/previews",
            {"prompt": "a face", "retryPolicy": {"tries": 1}},
            "retryPolicy.tries",
            "unknown field",
            id="nested unknown",
        ),
        pytest.param("/videos", {"script": "Hi", "avatarKey": "media/x/a"}, "", "voiceId", id="script without voice"),
        pytest.param(
            "/videos",
            {"avatarKey": "media/rf-other/a.png", "script": "Hi", "voiceId": "anna"},
            "avatarKey",
            "must begin with",
            id="somebody else's picture",
        ),
        pytest.param(
            "/videos",
            {"avatarKey": "runs/x/result.json", "script": "Hi", "voiceId": "anna"},
            "avatarKey",
            "must begin with",
            id="not a medium",
        ),
        pytest.param("/videos", {"script": "Hi", "voiceId": "anna"}, "avatarId", "prefer one", id="no avatar at all"),
        pytest.param("/voice", {**VOICE, "cancel": True}, "", "POST /jobs/{id}/cancel", id="born cancelled"),
        pytest.param(
            "/voice", {**VOICE, "labels": {meta.TENANT_LABEL: "other"}}, "", "not yours to set", id="forged label"
        ),
        pytest.param("/voice", {**VOICE, "name": "Ümlaut"}, "name", "pattern", id="bad name"),
    ],
)
async def test_a_bad_request_is_refused_by_the_name_of_its_field(
    tenant: Tenant, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    answer = await tenant.post(path, body)

    problem = answer.json()
    assert answer.status_code == 422, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["retryable"], problem["charged"]) == ("invalid_request", False, "false")
    assert problem["traceId"]
    [error] = [one for one in problem["errors"] if one["field"] == field]
    assert words in error["message"]


async def test_both_doors_refuse_the_same(tenant: Tenant, cluster: Cluster) -> None:
    """A request that passes ours meets the same rules again at the API server: it must not know stricter ones."""
    for kind in ("AvatarRender", "VoiceJob", "VideoRender"):
        job = await tenant.submit(kind, retryPolicy={"maxAttempts": 10, "backoffSeconds": 3600}, runDeadlineSeconds=1)
        assert (await tenant.object_of(job))["spec"]["retryPolicy"]["maxAttempts"] == 10


async def test_the_same_key_gives_the_same_job(tenant: Tenant) -> None:
    first = await tenant.post("/voice", VOICE, Idempotency_Key="k1")
    again = await tenant.post("/voice", VOICE, Idempotency_Key="k1")
    other_body = await tenant.post("/voice", {**VOICE, "text": "Else"}, Idempotency_Key="k1")
    other_key = await tenant.post("/voice", VOICE, Idempotency_Key="k2")

    assert first.json()["id"] == again.json()["id"] != other_key.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency_key_reused")


async def test_many_at_once_with_one_key_make_one_object(tenant: Tenant, cluster: Cluster) -> None:
    answers = await asyncio.gather(*(tenant.post("/voice", VOICE, Idempotency_Key="rush") for _ in range(30)))

    made = await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)
    assert len(made.items) == 1
    assert {one.status_code for one in answers} <= {202, 409}
    assert {one.json()["id"] for one in answers if one.status_code == 202} == {made.items[0]["metadata"]["uid"]}
    assert {one.json()["code"] for one in answers if one.status_code == 409} <= {"idempotency_in_flight"}


async def test_while_the_first_request_is_answered_another_with_its_key_is_told_to_wait(
    tenant: Tenant, cluster: Cluster, engine: AsyncEngine
) -> None:
    async with transaction(engine) as connection:
        # The first one's object is made, its row has to wait.
        await connection.execute(text("LOCK TABLE jobs IN SHARE MODE"))
        first = asyncio.create_task(tenant.post("/voice", VOICE, Idempotency_Key="slow"))
        while not (await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items:
            await asyncio.sleep(0.05)
        meanwhile = await tenant.post("/voice", VOICE, Idempotency_Key="slow")
        different = await tenant.post("/voice", {**VOICE, "text": "Else"}, Idempotency_Key="slow")
    done = await first
    again = await tenant.post("/voice", VOICE, Idempotency_Key="slow")

    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "idempotency_in_flight")
    assert (meanwhile.json()["retryable"], int(meanwhile.headers["Retry-After"]) >= 1) == (True, True)
    assert different.status_code == 422
    assert (done.status_code, again.json()["id"]) == (202, done.json()["id"])


async def test_a_try_that_died_half_way_is_found_again(tenant: Tenant, cluster: Cluster, engine: AsyncEngine) -> None:
    """The object was made and the process died before its row: the next try adopts it, a stranger's does not."""
    first = (await tenant.post("/voice", VOICE, Idempotency_Key="half")).json()
    async with transaction(engine) as connection:
        await connection.execute(text("DELETE FROM idempotency WHERE key = 'half'"))

    again = await tenant.post("/voice", VOICE, Idempotency_Key="half")
    stranger = await tenant.post("/voice", {**VOICE, "text": "Else", "name": first["name"]}, Idempotency_Key="new")

    assert again.json()["id"] == first["id"]
    assert len((await cluster.list(Resource.of(VOICE_JOB), tenant.namespace)).items) == 1
    assert (stranger.status_code, stranger.json()["code"]) == (409, "name_taken")


async def test_a_refused_request_gives_its_key_back(tenant: Tenant) -> None:
    await tenant.post("/voice", {**VOICE, "name": "taken"})
    refused = await tenant.post("/voice", {**VOICE, "name": "taken"}, Idempotency_Key="k")
    corrected = await tenant.post("/voice", {**VOICE, "name": "free"}, Idempotency_Key="k")

    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    assert corrected.status_code == 202


async def test_the_storage_limit_is_told_apart_from_other_refusals(api: Api, cluster: Cluster, tenant: Tenant) -> None:
    small = await make_tenant(api, cluster, tenant.mirror, objects=2)

    answers = [await small.post("/voice", VOICE) for _ in range(3)]
    await small.http.aclose()

    assert [one.status_code for one in answers] == [202, 202, 403]
    problem = answers[-1].json()
    assert problem["code"] == "storage_limit_reached"
    assert "limited: count/voicejobs.renderfleet.dev=2" in problem["detail"]


async def test_before_the_namespace_is_there_the_tenant_is_not_ready(api: Api) -> None:
    async with api.client() as admin:
        await admin.post("/admin/tenants", json={"name": "early"})
        key = (await admin.post("/admin/tenants/early/keys", json={})).json()["key"]
    async with api.client(key) as early:
        answer = await early.post("/voice", json=VOICE)

    assert (answer.status_code, answer.json()["code"]) == (409, "tenant_not_ready")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_video_is_made_of_jobs_that_are_not_finished(tenant: Tenant, cluster: Cluster) -> None:
    face, voice = await tenant.submit("AvatarRender"), await tenant.submit("VoiceJob")

    answer = await tenant.post("/videos", {"avatarJobId": face["id"], "avatarIndex": 3, "voiceJobId": voice["id"]})

    spec = (await cluster.get(Resource.of(VIDEO_RENDER), answer.json()["name"], tenant.namespace))["spec"]
    assert spec["avatarRef"] == {"name": face["name"], "index": 3}
    assert spec["voiceRef"] == {"name": voice["name"]}
    assert "avatarKey" not in spec


@pytest.mark.parametrize("field", ["avatarJobId", "voiceJobId"])
async def test_a_video_refuses_ids_that_lead_elsewhere(tenant: Tenant, other: Tenant, field: str) -> None:
    mine = {"avatarJobId": (await tenant.submit("AvatarRender"))["id"], "voiceJobId": (await tenant.submit())["id"]}
    foreign = {"avatarJobId": (await other.submit("AvatarRender"))["id"], "voiceJobId": (await other.submit())["id"]}
    wrong_kind = {"avatarJobId": mine["voiceJobId"], "voiceJobId": mine["avatarJobId"]}

    for given in (foreign, wrong_kind):
        answer = await tenant.post("/videos", {**mine, field: given[field]})
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["errors"]] == [field]


async def test_prefer_wait_answers_at_the_end(tenant: Tenant) -> None:
    async def finish() -> None:
        while not (found := (await tenant.get("/jobs")).json()["items"]):
            await asyncio.sleep(0.05)
        await tenant.succeed(found[0])

    finishing = asyncio.create_task(finish())
    waited = await tenant.post("/voice", VOICE, Prefer="respond-async, wait=20")
    await finishing
    impatient = await tenant.post("/voice", VOICE, Prefer="respond-async, wait=0")
    either = await tenant.post("/voice", VOICE)

    assert (waited.status_code, waited.json()["status"]) == (200, "Succeeded")
    assert waited.headers["Preference-Applied"] == "wait=20"
    assert (impatient.status_code, impatient.json()["status"]) == (202, "Queued")
    assert impatient.headers["Preference-Applied"] == "respond-async, wait=0"
    assert "Preference-Applied" not in either.headers
