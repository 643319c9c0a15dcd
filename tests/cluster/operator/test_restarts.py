"""The operator dies, PostgreSQL goes away, watches break: nothing is done twice and nothing is lost."""

import asyncio

import pytest
from tests.support.node import Ended, PodRun, succeed
from tests.support.postgres import Postgres

from renderfleet_client.errors import NotFound
from renderfleet_operator.execute import Executor
from renderfleet_operator.intake import Intake

from .conftest import Fleet, eventually


@pytest.mark.parametrize("moment", ["fenced", "running", "done"])
async def test_a_new_operator_goes_on_where_the_old_one_died(
    fleet: Fleet, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def work(pod: PodRun) -> Ended:
        await gate.wait()
        return await succeed(pod)

    fleet.node.program = work
    await fleet.start()
    if moment == "fenced":

        async def die(*_: object) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(Executor, "_create_job", die)
    made = await fleet.apply("VoiceJob", "hello")
    uid = made["metadata"]["uid"]
    await fleet.until("VoiceJob", "hello", "Running")
    if moment != "fenced":
        await eventually(lambda: fleet.jobs(uid))
    if moment == "done":
        await fleet.kill()
        gate.set()
        await asyncio.sleep(2)
    else:
        await fleet.kill()
        gate.set()
    monkeypatch.undo()

    await fleet.start()

    one = await fleet.until("VoiceJob", "hello", "Succeeded", 30)
    assert len(one["status"]["attempts"]) == 1
    assert fleet.node.stages(uid) == ["synthesize 0-1"]


async def test_a_video_at_its_vendor_survives_a_restart(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.apply("AvatarRender", "face")
    await fleet.apply("VoiceJob", "voice")
    await fleet.until("VoiceJob", "voice", "Succeeded")
    await fleet.until("AvatarRender", "face", "Succeeded")
    made = await fleet.apply("VideoRender", "talk", avatarRef={"name": "face"}, voiceRef={"name": "voice"})
    await fleet.until("VideoRender", "talk", "Waiting")
    await fleet.kill()

    operator = await fleet.start()

    await eventually(lambda: _is_watched(operator.vendor_watch))
    assert fleet.node.stages(made["metadata"]["uid"]) == ["start 0-1"]


async def _is_watched(watch: object) -> bool:
    return bool(len(watch))  # type: ignore[arg-type]


async def test_postgresql_away_holds_finalizers_and_nothing_else(fleet: Fleet, postgres: Postgres) -> None:
    operator = await fleet.start()
    postgres.stop()
    try:
        await fleet.apply("VoiceJob", "hello")
        one = await fleet.until("VoiceJob", "hello", "Succeeded")
        assert one["metadata"]["finalizers"]
    finally:
        postgres.start()

    one = await fleet.until("VoiceJob", "hello", lambda one: not one["metadata"].get("finalizers"), 40)
    uid = one["metadata"]["uid"]
    assert await operator.archive.mirror.archived([uid]) == {uid}


async def test_what_no_watch_told_is_found_by_the_next_list(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intake, "heard", lambda *_: None)
    await fleet.start(resync_seconds=2)

    await fleet.apply("VoiceJob", "hello")

    await fleet.until("VoiceJob", "hello", "Succeeded", 30)


async def test_watches_that_end_in_an_error_are_begun_anew(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    import kopf

    real, calls = kopf.operator, 0

    async def broken_once(**given: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("Error in the watch-stream")
        await real(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(kopf, "operator", broken_once)
    await fleet.start(resync_seconds=600)

    await fleet.apply("VoiceJob", "hello")

    await fleet.until("VoiceJob", "hello", "Succeeded", 20)
    assert calls == 2


async def test_finished_renders_cost_a_restart_no_write_and_go_when_their_time_is_over(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.apply("VoiceJob", "keep")
    await fleet.apply("VoiceJob", "drop", ttlSecondsAfterFinished=3)
    for name in ("keep", "drop"):
        await fleet.until("VoiceJob", name, lambda one: not one["metadata"].get("finalizers"))
    await fleet.stop()

    operator = await fleet.start()
    writes: list[str] = []
    operator.cluster.on_write = lambda method, path: writes.append(f"{method} {path}")

    with pytest.raises(NotFound):
        await fleet.until("VoiceJob", "drop", "never", 20)
    assert [one for one in writes if "/keep" in one] == []


async def test_two_operators_never_lead_together(fleet: Fleet) -> None:
    first = await fleet.start()
    from renderfleet_operator.lease import Lease

    second = Lease(fleet.cluster, first.clock, first.lease.namespace, first.lease.name, 15)
    assert await second._try() is False

    await fleet.stop()

    assert await second._try() is True
    await second.release()
