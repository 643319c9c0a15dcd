"""What the API server accepts and refuses, and that the models agree with it.

Each file in tests/data/input/accepted is taken as it stands; each in .../refused names in its first line what the
refusal must say, so that a user reads which field is wrong.
"""

import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from renderfleet_client import Cluster, Resource, errors
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds import kinds, meta

INPUT = REPOSITORY / "tests/data/input"


def files(folder: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((INPUT / folder).glob("*.yaml"))]


async def try_create(cluster: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    kind = kinds.BY_KIND[manifest["kind"]]
    return await cluster.create(
        Resource.of(kind), manifest, "default" if kind.scope == "Namespaced" else None, dry_run=True
    )


@pytest.mark.parametrize("path", files("accepted"))
async def test_accepts(cluster: Cluster, path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())

    stored = await try_create(cluster, manifest)

    kinds.BY_KIND[manifest["kind"]].spec.model_validate(stored["spec"])


@pytest.mark.parametrize("path", files("refused"))
async def test_refuses_and_names_the_field(cluster: Cluster, path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# refused: ")
    manifest = yaml.safe_load(path.read_text())

    with pytest.raises(errors.Invalid) as refusal:
        await try_create(cluster, manifest)

    assert expected in refusal.value.message


IMMUTABLE = [
    pytest.param(kinds.AVATAR_RENDER, {"prompt": "a sailor"}, {"prompt": "a baker"}, "prompt cannot be changed", id="prompt"),
    pytest.param(kinds.VOICE_JOB, {"text": "Ahoy", "voiceId": "v"}, {"voiceId": "w"}, "voiceId cannot be changed", id="voice"),
    pytest.param(kinds.VIDEO_RENDER, {"avatarKey": "a.png", "audioKey": "b.mp3"}, {"audioKey": None, "audioUrl": "https://x.test/b.mp3"}, "audioKey cannot be changed", id="swapping the audio"),
    pytest.param(kinds.AVATAR_RENDER, {"prompt": "a sailor", "redrive": 3}, {"redrive": 2}, "redrive only grows", id="redrive downwards"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "change", "expected"), IMMUTABLE)
async def test_what_was_paid_for_cannot_be_changed(
    cluster: Cluster, kind: kinds.ResourceKind, spec: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    name = f"fixed-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": meta.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
    await cluster.create(Resource.of(kind), body, "default")

    with pytest.raises(errors.Invalid) as refusal:
        await cluster.patch(Resource.of(kind), name, {"spec": change}, "default")
    await cluster.patch(
        Resource.of(kind), name, {"spec": {"priority": 900, "suspend": True, "cancel": True, "redrive": 7}}, "default"
    )

    assert expected in refusal.value.message


async def test_renders_can_be_selected_by_phase_and_provider(cluster: Cluster) -> None:
    name = f"pick-{uuid.uuid4().hex[:8]}"
    body = {
        "apiVersion": meta.API_VERSION,
        "kind": "VoiceJob",
        "metadata": {"name": name},
        "spec": {"text": "Hi", "voiceId": "v", "provider": name},
    }
    await cluster.create(Resource.of(kinds.VOICE_JOB), body, "default")
    await cluster.patch(
        Resource.of(kinds.VOICE_JOB), name, {"status": {"phase": "Held"}}, "default", subresource="status"
    )

    found = await cluster.list(
        Resource.of(kinds.VOICE_JOB), "default", field_selector=f"status.phase=Held,spec.provider={name}"
    )

    assert [one["metadata"]["name"] for one in found.items] == [name]


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
words = st.one_of(
    st.none(), text, st.sampled_from(["sailor", "a.mp3", "https://x.test/a.mp3", "http://x.test/a.mp3", "../up", "v1"])
)
numbers = st.one_of(st.none(), st.integers(-5, 1200))
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "AvatarRender": {"prompt": words, "count": numbers, "size": st.sampled_from([None, "1024x1024", "1x1"]), "priority": numbers, "baseImageKey": words},
    "VoiceJob": {"text": words, "prompt": words, "voiceId": words, "languageCode": st.sampled_from([None, "en", "EN"]), "seed": numbers},
    "VideoRender": {
        "avatarKey": words, "audioKey": words, "audioUrl": words, "script": words, "voiceId": words,
        "avatarRef": st.one_of(st.none(), st.fixed_dictionaries({"name": st.sampled_from(["face", "Face!"]), "index": st.integers(0, 11)})),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", kinds.RENDERS, ids=lambda kind: kind.kind)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_models_and_api_server_agree(cluster: Cluster, kind: kinds.ResourceKind, data: st.DataObject) -> None:
    """One rule, two readers: whatever REST would take, kubectl takes, and the other way round."""
    spec = {name: value for name, how in FIELDS[kind.kind].items() if (value := data.draw(how, label=name)) is not None}
    try:
        kind.spec.model_validate(spec)
        accepted_by_model = True
    except ValidationError:
        accepted_by_model = False
    try:
        await try_create(
            cluster,
            {"apiVersion": meta.API_VERSION, "kind": kind.kind, "metadata": {"generateName": "x-"}, "spec": spec},
        )
        accepted_by_server = True
    except errors.Invalid:
        accepted_by_server = False

    assert accepted_by_model == accepted_by_server
