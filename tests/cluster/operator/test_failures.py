"""Attempts that fail, pods that vanish, outcomes that nobody knows."""

import asyncio
from pathlib import Path

import pytest
from tests.support.node import Ended, PodRun, Program, broke, real_runner, succeed

from renderfleet_client.errors import NotFound
from renderfleet_client.resources import JOBS
from renderfleet_crds import meta
from renderfleet_crds.contract import ExitCode
from renderfleet_operator.children import names
from renderfleet_store.media import MediaStore

from .conftest import Fleet, eventually

VOICE = "21m00Tcm4TlvDq8ikWAM"
QUICK = {"retryPolicy": {"maxAttempts": 2, "backoffSeconds": 1, "maxBackoffSeconds": 1}}


def failing(*ends: Ended) -> Program:
    """A program that ends like this, one time each, and then works."""
    left = list(ends)

    async def program(pod: PodRun) -> Ended:
        return left.pop(0) if left else await succeed(pod)

    return program


async def test_a_passing_fault_is_tried_again_and_told(fleet: Fleet) -> None:
    fleet.node.program = failing(broke("transient", message="try later"))
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", **QUICK)

    one = await fleet.until("AvatarRender", "face", "Succeeded")

    assert [a.get("category") for a in one["status"]["attempts"]] == ["transient", None]
    assert fleet.node.stages(made["metadata"]["uid"]) == ["generate 0-1", "generate 0-2"]

    async def is_told() -> bool:
        return "BackingOff" in await fleet.events(made["metadata"]["uid"])

    await eventually(is_told)


async def test_who_backs_off_is_told_its_place_and_no_start_before_its_pause_is_over(fleet: Fleet) -> None:
    fleet.node.program = failing(broke("transient", retryAfterSeconds=90))
    await fleet.start()
    await fleet.apply("AvatarRender", "face")
    one = await fleet.until("AvatarRender", "face", "Retrying")
    assert "queue" not in one["status"], "an ordinary failure costs no further write"

    async def is_told() -> bool:
        return "queue" in (await fleet.get("AvatarRender", "face"))["status"]

    await eventually(is_told)
    status = (await fleet.get("AvatarRender", "face"))["status"]
    assert {name: status[name] for name in ("phase", "reason", "message", "retryAt")} == {
        name: one["status"][name] for name in ("phase", "reason", "message", "retryAt")
    }
    queue = status["queue"]
    assert (queue["reason"], queue["position"]) == ("BackingOff", 1)
    assert 60 <= queue["etaSeconds"] <= 90


async def test_a_script_is_paid_for_once_however_often_it_is_spoken(fleet: Fleet, tmp_path: Path) -> None:
    fleet.node.program = real_runner(fleet.cluster, tmp_path)
    fleet.standin.fault("elevenlabs", "text-to-speech", "200_empty_audio", match={"voice_id": VOICE})
    await fleet.start()
    spec = {"text": None, "prompt": "a tour of the harbour", "scriptProvider": fleet.providers["openai"]}
    await fleet.apply("VoiceJob", "tour", voiceId=VOICE, **spec, **QUICK)

    one = await fleet.until("VoiceJob", "tour", "Succeeded", 60)

    assert [attempt.get("category") for attempt in one["status"]["attempts"]] == ["outage", None]
    assert [bill["vendor"] for bill in fleet.standin.billed()] == ["openai", "elevenlabs", "elevenlabs"]
    assert one["status"]["script"]


async def test_attempts_run_out_and_a_redrive_begins_anew(fleet: Fleet) -> None:
    fleet.node.program = failing(*[broke("outage")] * 2)
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", **QUICK)
    dead = await fleet.until("AvatarRender", "face", "DeadLettered")
    assert len(dead["status"]["attempts"]) == 2

    await fleet.edit("AvatarRender", "face", redrive=1)

    again = await fleet.until("AvatarRender", "face", "Succeeded")
    assert (again["status"]["run"], len(again["status"]["attempts"])) == (1, 1)
    assert fleet.node.stages(made["metadata"]["uid"]) == ["generate 0-1", "generate 0-2", "generate 1-1"]


async def test_a_refused_input_is_never_tried_again(fleet: Fleet) -> None:
    fleet.node.program = failing(broke("user", message="too short"))
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", **QUICK)

    one = await fleet.until("AvatarRender", "face", "Failed")

    assert one["status"]["reason"] == "InputRefused"
    assert len(fleet.node.stages(made["metadata"]["uid"])) == 1


async def test_a_refused_key_holds_the_provider_and_uses_no_attempt_until_the_key_is_replaced(fleet: Fleet) -> None:
    fleet.node.program = failing(broke("credential", message="bad key"))
    await fleet.start()
    await fleet.apply("AvatarRender", "face", **QUICK)
    held = await fleet.until(
        "AvatarRender", "face", lambda one: (one.get("status") or {}).get("reason") == "ProviderHeld"
    )
    assert held["status"]["phase"] == "Queued"

    await fleet.edit_provider("openai", callTimeoutSeconds=299)

    one = await fleet.until("AvatarRender", "face", "Succeeded")
    assert len(one["status"]["attempts"]) == 2


async def test_a_throttled_start_waits_as_long_as_the_vendor_said(fleet: Fleet) -> None:
    fleet.node.program = failing(broke("throttled", retryAfterSeconds=2))
    await fleet.start()
    await fleet.apply("AvatarRender", "face", retryPolicy={"maxAttempts": 1})

    one = await fleet.until("AvatarRender", "face", "Succeeded")

    assert [a.get("category") for a in one["status"]["attempts"]] == ["throttled", None]


async def test_a_disrupted_pod_is_replaced_within_its_attempt(fleet: Fleet) -> None:
    disrupted = broke("disrupted")
    disrupted.disrupted = True
    fleet.node.program = failing(disrupted)
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", retryPolicy={"maxAttempts": 1})

    one = await fleet.until("AvatarRender", "face", "Succeeded", 30)

    assert len(one["status"]["attempts"]) == 1
    assert fleet.node.stages(made["metadata"]["uid"]) == ["generate 0-1", "generate 0-1"]


async def test_a_runner_that_dies_before_its_claim_cost_nothing(fleet: Fleet) -> None:
    fleet.node.program = failing(Ended(137, "", "OOMKilled"))
    await fleet.start()
    await fleet.apply("AvatarRender", "face", **QUICK)

    one = await fleet.until("AvatarRender", "face", "Succeeded", 30)

    first = one["status"]["attempts"][0]
    assert (first["category"], first["code"], first["charged"]) == ("internal", "OOMKilled", "false")


async def _claim(media: MediaStore, pod: PodRun, name: str = "claim", text: str = "{}") -> None:
    prefix = meta.run_prefix(pod.task["uid"], pod.task["params"]["stage"], pod.task["run"], pod.task["attempt"])
    await media.write(f"{prefix}{name}.json", text.encode(), "application/json")


async def test_a_runner_that_dies_after_its_claim_leaves_a_question_that_a_person_answers(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("renderfleet_operator.observe.LAST_WORDS_SECONDS", 1.0)

    async def claim_and_die(pod: PodRun) -> Ended:
        await _claim(fleet.object_store.media, pod)
        return Ended(137, "", "Error")

    fleet.node.program = claim_and_die
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", **QUICK)

    one = await fleet.until("AvatarRender", "face", "Held", 30)

    assert (one["status"]["reason"], one["status"]["attempts"][0]["charged"]) == ("OutcomeUnknown", "unknown")
    assert len(fleet.node.stages(made["metadata"]["uid"])) == 1


async def test_a_result_that_outlived_its_pod_is_used(fleet: Fleet) -> None:
    async def work_and_be_deleted(pod: PodRun) -> Ended | None:
        text = '{"outcome":"done","charged":"true","outputs":[]}'
        await _claim(fleet.object_store.media, pod)
        await _claim(fleet.object_store.media, pod, "result", text)
        job = pod.body["metadata"]["ownerReferences"][0]["name"]
        await fleet.cluster.delete(JOBS, job, pod.namespace)
        return None

    fleet.node.program = work_and_be_deleted
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face")

    await fleet.until("AvatarRender", "face", "Succeeded", 30)

    assert len(fleet.node.stages(made["metadata"]["uid"])) == 1


async def test_who_lost_the_claim_has_not_the_last_word(fleet: Fleet) -> None:
    """Two processes of one Job: the loser reports for the pod, a moment before the winner writes down what it made."""
    unknown = '{"outcome":"broke","category":"unknown_outcome","code":"claim_lost","charged":"unknown"}'

    async def lose_to_a_slow_winner(pod: PodRun) -> Ended:
        await _claim(fleet.object_store.media, pod)

        async def win() -> None:
            await asyncio.sleep(1)
            await _claim(fleet.object_store.media, pod, "result", '{"outcome":"done","charged":"true","outputs":[]}')

        winner.append(asyncio.create_task(win()))
        return Ended(ExitCode.CLAIM_LOST, unknown, "Error")

    winner: list[asyncio.Task[None]] = []
    fleet.node.program = lose_to_a_slow_winner
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face", **QUICK)

    one = await fleet.until("AvatarRender", "face", "Succeeded", 30)

    assert one["status"]["attempts"][0]["charged"] == "true"
    assert len(fleet.node.stages(made["metadata"]["uid"])) == 1


async def test_a_pod_that_the_cluster_refuses_is_our_defect_and_told_in_its_words(fleet: Fleet) -> None:
    pool = {"image-gen": {"priorityClassName": "there-is-none"}}
    await fleet.start(pools=pool)
    await fleet.apply("AvatarRender", "face", retryPolicy={"maxAttempts": 1})

    one = await fleet.until("AvatarRender", "face", "DeadLettered", 30)

    assert "there-is-none" in one["status"]["message"]


async def test_a_foreign_job_of_our_name_is_left_alone(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.stop()
    made = await fleet.apply("AvatarRender", "face")
    name = names.job_name("AvatarRender", "face", made["metadata"]["uid"], stage="generate", run=0, attempt=1)
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}
    stranger = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": fleet.namespace},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    await fleet.cluster.create(JOBS, stranger, fleet.namespace)
    await fleet.start()

    one = await fleet.until("AvatarRender", "face", "Held")

    assert one["status"]["reason"] == "NameConflict"
    assert (await fleet.cluster.get(JOBS, name, fleet.namespace))["spec"]["suspend"] is True
    await fleet.cluster.delete(JOBS, name, fleet.namespace)
    await fleet.until("AvatarRender", "face", "Succeeded", 45)


async def test_cancelling_a_running_render_ends_its_pod_first(fleet: Fleet) -> None:
    async def work_for_ever(_: PodRun) -> None:
        return None

    fleet.node.program = work_for_ever
    await fleet.start()
    made = await fleet.apply("AvatarRender", "face")
    await fleet.until("AvatarRender", "face", "Running")
    while not fleet.node.stages(made["metadata"]["uid"]):
        await asyncio.sleep(0.05)

    await fleet.edit("AvatarRender", "face", cancel=True)

    one = await fleet.until("AvatarRender", "face", "Cancelled")
    assert one["status"]["attempts"][0]["charged"] == "false"
    assert await fleet.jobs(made["metadata"]["uid"]) == []


async def test_deleting_a_running_render_leaves_nothing_but_its_history(fleet: Fleet) -> None:
    async def work_for_ever(_: PodRun) -> None:
        return None

    fleet.node.program = work_for_ever
    operator = await fleet.start()
    made = await fleet.apply("AvatarRender", "face")
    await fleet.until("AvatarRender", "face", "Running")

    await fleet.delete("AvatarRender", "face")

    with pytest.raises(NotFound):
        await fleet.until("AvatarRender", "face", "never")
    uid = made["metadata"]["uid"]
    assert await fleet.jobs(uid) == []
    assert await operator.archive.mirror.archived([uid]) == {uid}
