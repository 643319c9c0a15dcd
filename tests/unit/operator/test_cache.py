"""Only newer news counts, and the dead stay dead."""

from typing import Any

import pytest

from renderfleet_crds import meta
from renderfleet_operator.cache import Cache, Key, pod_end

from .builders import UID, body, ended, running

KEY = Key("AvatarRender", "rf-acme", "one")


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def cache(told: list[tuple[str, str]]) -> Cache:
    def note(_: Key, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        told.append((_word(old), _word(new)))

    return Cache(on_render=note)


def _word(one: dict[str, Any] | None) -> str:
    return one["metadata"]["resourceVersion"] if one else "-"


def test_an_older_state_changes_nothing(cache: Cache, told: list[tuple[str, str]]) -> None:
    cache.put_render(body(version=7))

    assert cache.put_render(body(version=7)) is None
    assert cache.put_render(body(version=6)) is None
    assert told == [("-", "7")]


def test_versions_are_numbers_not_words(cache: Cache) -> None:
    cache.put_render(body(version=9))

    assert cache.put_render(body(version=10)) == KEY


def test_an_object_made_again_under_its_name_is_another_one(cache: Cache, told: list[tuple[str, str]]) -> None:
    cache.put_render(body(version=5))
    cache.put_render(body(version=9, uid="other"))

    assert told == [("-", "5"), ("5", "-"), ("-", "9")]
    assert cache.key_of(UID) is None
    assert cache.put_render(body(version=6)) is None, "late news of the first one"


def test_a_deleted_object_does_not_come_back_by_late_news(cache: Cache) -> None:
    cache.put_render(body(version=5))
    assert cache.remove_render(KEY, UID)

    assert cache.put_render(body(version=6)) is None
    assert cache.render(KEY) is None


def test_late_news_of_a_deletion_spares_the_new_object(cache: Cache) -> None:
    cache.put_render(body(version=9, uid="other"))

    assert not cache.remove_render(KEY, UID)
    assert cache.render(KEY) is not None


def test_finished_renders_are_kept_small_and_whole(cache: Cache) -> None:
    made = body(status=ended(), version=5)
    cache.put_render(made)

    assert cache.render(KEY) == made
    assert list(cache.live()) == []
    assert list(cache.kinds_and_phases()) == [("AvatarRender", "Succeeded")]


def test_a_redriven_render_lives_again(cache: Cache) -> None:
    cache.put_render(body(status=ended(), version=5))
    cache.put_render(body(status=running(), version=6))

    assert [key for key, _ in cache.live()] == [KEY]
    assert len(cache) == 1


def job(version: int = 1, uid: str = "j1", **status: Any) -> dict[str, Any]:
    labels = {meta.UID_LABEL: UID}
    about = {"name": "job", "namespace": "rf-acme", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": about, "spec": {"template": {"big": "thing"}}, "status": status}


def test_jobs_are_found_by_their_render_and_kept_without_their_template(cache: Cache) -> None:
    assert cache.put_job(job(2)) == (UID, True)
    assert cache.put_job(job(1)) is None

    found = cache.job(UID, "job")
    assert found is not None
    assert "spec" not in found


ENDED = {"conditions": [{"type": "Complete", "status": "True"}]}


@pytest.mark.parametrize(
    ("before", "after", "matters"),
    [
        pytest.param({}, {"startTime": "t", "active": 1}, False, id="its pod was made"),
        pytest.param(
            {"startTime": "t", "active": 1}, {"startTime": "t", "succeeded": 1}, False, id="it counts its pod"
        ),
        pytest.param({}, {"startTime": "t"}, True, id="it got no pod"),
        pytest.param({"startTime": "t", "succeeded": 1}, ENDED, True, id="it has ended"),
    ],
)
def test_most_of_a_jobs_news_is_its_controllers_own(
    cache: Cache, before: dict[str, Any], after: dict[str, Any], matters: bool
) -> None:
    cache.put_job(job(1, **before))

    assert cache.put_job(job(2, **after)) == (UID, matters)
    found = cache.job(UID, "job")
    assert found is not None
    assert found["status"] == after


def test_runners_of_a_finished_render_are_not_kept(cache: Cache) -> None:
    cache.put_render(body(status=running(), version=4))
    cache.put_job(job(2))
    cache.put_pod(pod())
    assert cache.pod_ends("j1")

    cache.put_render(body(status=ended(), version=5))

    assert (cache.job(UID, "job"), cache.pod_ends("j1")) == (None, [])
    assert (cache.put_job(job(6)), cache.put_pod(pod())) == (None, None)


def test_a_jobs_deletion_counts_for_that_job_only(cache: Cache) -> None:
    cache.put_job(job(2, uid="j2"))

    assert cache.remove_job(job(1, uid="j1")) is None
    assert cache.job(UID, "job") is not None


def pod(phase: str = "Succeeded", **status: Any) -> dict[str, Any]:
    about = {"name": "pod", "labels": {meta.UID_LABEL: UID}, "ownerReferences": [{"kind": "Job", "uid": "j1"}]}
    return {"metadata": about, "status": {"phase": phase, **status}}


def test_a_pod_tells_how_it_ended() -> None:
    terminated = {"exitCode": 137, "reason": "OOMKilled", "message": "m"}
    conditions = [{"type": "DisruptionTarget", "status": "True"}]

    end = pod_end(pod("Failed", containerStatuses=[{"state": {"terminated": terminated}}], conditions=conditions))

    assert end is not None
    assert (end.job_uid, end.exit_code, end.reason, end.message, end.is_disrupted) == (
        "j1",
        137,
        "OOMKilled",
        "m",
        True,
    )


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_pod_that_lives_has_not_ended(phase: str) -> None:
    assert pod_end(pod(phase)) is None


def test_an_evicted_pod_has_a_reason_but_no_container() -> None:
    end = pod_end(pod("Failed", reason="Evicted"))

    assert end is not None
    assert (end.reason, end.exit_code) == ("Evicted", None)
