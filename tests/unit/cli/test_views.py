"""The same render, told by a custom resource, by the REST API and by an event, gives the same picture."""

import pytest

from renderfleet_api.views import Presenter
from renderfleet_cli import views
from renderfleet_cli.views import Named
from renderfleet_crds.kinds import RENDERS
from renderfleet_crds.phases import Phase
from renderfleet_store.documents import row_of, snapshot

from .builders import UID, ago, render, resource, stamp

RETRYING = {
    "phase": "Retrying",
    "reason": "BackingOff",
    "message": "attempt 1 of 3 failed; 503",
    "stage": "synthesize",
    "progress": 12,
    "run": 1,
    "attempt": 2,
    "queue": {"position": 4, "since": stamp(ago(200)), "etaSeconds": 30},
    "cost": {"estimatedMicros": 1500, "actualMicros": 700, "currency": "EUR"},
    "startedAt": stamp(ago(100)),
    "attempts": [
        {"run": 1, "number": 1, "stage": "synthesize", "category": "outage", "code": "503", "charged": "unknown"},
        {"run": 1, "number": 2, "stage": "synthesize", "charged": "false"},
    ],
}
BOTH_DOORS = (
    "kind", "name", "namespace", "id", "phase", "seen_by_operator", "reason", "message", "stage", "progress", "attempt",
    "run", "provider", "priority", "position", "eta_seconds", "waiting_since", "created_at", "started_at", "finished_at",
    "estimated_micros", "actual_micros", "currency", "charged", "error", "outputs", "keys",
)  # fmt: skip


class NoLinks:
    """Signs nothing: no test here reads a link."""

    def presign_get(self, key: str, ttl_seconds: int, **_: object) -> str:
        return f"https://media.test/{key}?for={ttl_seconds}"


def job_of(body: dict) -> dict:
    """The job that the real API would show for a custom resource."""
    show = Presenter(NoLinks(), public_url="https://renders.test", ttl_seconds=60)  # type: ignore[arg-type]
    row = {**row_of(body), "deleted_at": None}
    return show.job(row).model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(RETRYING, id="retrying"),
        pytest.param(
            {
                "phase": "Succeeded",
                "reason": "MediaReady",
                "progress": 100,
                "finishedAt": stamp(ago(5)),
                "outputs": [
                    {
                        "name": "speech",
                        "key": "media/a.mp3",
                        "contentType": "audio/mpeg",
                        "bytes": 1,
                        "sha256": "0" * 64,
                    }
                ],
                "attempts": [{"number": 1, "stage": "synthesize", "charged": "true"}],
            },
            id="succeeded",
        ),
        pytest.param({"phase": "Queued", "reason": "Suspended", "message": "spec.suspend is true"}, id="suspended"),
    ],
)
def test_both_doors_show_the_same_render(status: dict) -> None:
    body = resource(status=status, spec={"priority": 700})

    by_cluster, by_rest = views.from_resource(body), views.from_job(job_of(body))

    assert {name: getattr(by_rest, name) for name in BOTH_DOORS} == {
        name: getattr(by_cluster, name) for name in BOTH_DOORS
    }


def test_an_event_moves_the_picture_to_what_the_job_is_now() -> None:
    before = views.from_job(job_of(resource(status={"phase": "Queued", "reason": "Accepted"})))
    body = resource(status=RETRYING)

    after = views.after_event(before, snapshot(row_of(body)))

    for name in (
        "phase",
        "reason",
        "message",
        "stage",
        "progress",
        "attempt",
        "run",
        "position",
        "eta_seconds",
        "error",
        "charged",
    ):
        assert getattr(after, name) == getattr(views.from_resource(body), name), name
    assert after.created_at == before.created_at


def test_a_new_object_has_not_been_seen_by_the_operator() -> None:
    fresh = views.from_resource(resource())

    assert fresh.phase is Phase.QUEUED
    assert not fresh.seen_by_operator


@pytest.mark.parametrize(("word", "said"), [("False", "PostgreSQL is away"), ("True", "")])
def test_what_the_archive_keeps_says_why(word: str, said: str) -> None:
    archived = {"type": "Archived", "status": word, "reason": "x", "message": said}
    body = resource(status={"phase": "Succeeded", "conditions": [archived]})

    assert views.from_resource(body).not_archived == said


def test_an_end_with_a_redrive_that_is_not_taken_up_is_not_over() -> None:
    ended = views.from_resource(resource(spec={"redrive": 2}, status={"phase": "Failed", "run": 1}))
    again = views.from_resource(resource(spec={"redrive": 2}, status={"phase": "Failed", "run": 2}))

    assert not ended.is_over and not ended.ended_badly
    assert again.is_over and again.ended_badly


def test_of_two_providers_the_one_in_the_message_blocks() -> None:
    body = resource(
        spec={"text": None, "prompt": "a warm welcome", "scriptProvider": "openai"}, status={"phase": "Queued"}
    )
    body["status"]["message"] = "openai: 401 invalid key"

    assert views.from_resource(body).blocking_provider == "openai"


def test_every_kind_goes_by_its_kubernetes_names() -> None:
    for kind in RENDERS:
        for word in (kind.kind, kind.plural, kind.singular, kind.short, f"{kind.singular}.renderfleet.dev"):
            assert views.kind_called(word) == kind.kind


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("greeting", Named("greeting")),
        ("vj/greeting", Named("greeting", "VoiceJob")),
        ("video/welcome", Named("welcome", "VideoRender")),
        ("avatarrender.renderfleet.dev/guide", Named("guide", "AvatarRender")),
    ],
)
def test_names(word: str, meant: Named) -> None:
    assert views.parse_names([word]) == [meant]


@pytest.mark.parametrize("word", ["pod/x", "vj/", ""])
def test_what_is_no_name(word: str) -> None:
    with pytest.raises(ValueError, match="KIND is avatar, voice or video"):
        views.parse_names([word])


def test_a_name_means_a_render_by_name_or_id() -> None:
    assert Named("greeting").fits(render())
    assert Named(UID).fits(render())
    assert not Named("greeting", "VideoRender").fits(render())


@pytest.mark.parametrize(("text", "labels"), [("a=b", {"a": "b"}), ("a==b, c=", {"a": "b", "c": ""}), ("", {})])
def test_selectors(text: str, labels: dict[str, str]) -> None:
    assert views.parse_selector(text) == labels


@pytest.mark.parametrize("text", ["a", "a!=b", "a in (b)", "=b"])
def test_selectors_that_rest_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match="only name=value"):
        views.parse_selector(text)
