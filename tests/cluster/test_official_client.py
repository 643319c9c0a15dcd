"""Our resources as others see them: through the official `kubernetes` client, which shares no code with ours."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from renderfleet_crds import meta


@pytest.fixture
def objects(crds_installed: Path) -> Any:
    return client.CustomObjectsApi(config.new_client_from_config(str(crds_installed)))


def test_create_watch_and_delete(objects: Any) -> None:
    name = f"official-{uuid.uuid4().hex[:8]}"
    place = (meta.GROUP, meta.VERSION, "default", "voicejobs")
    body = {
        "apiVersion": meta.API_VERSION,
        "kind": "VoiceJob",
        "metadata": {"name": name},
        "spec": {"text": "Ahoy", "voiceId": "v1"},
    }

    made = objects.create_namespaced_custom_object(*place, body)
    assert made["spec"]["provider"] == "elevenlabs", "defaults are the server's, whoever writes"

    objects.delete_namespaced_custom_object(*place, name)
    since = made["metadata"]["resourceVersion"]
    seen = watch.Watch().stream(
        objects.list_namespaced_custom_object,
        *place,
        resource_version=since,
        field_selector=f"metadata.name={name}",
        timeout_seconds=5,
    )
    assert next(one["type"] for one in seen) == "DELETED"


def test_a_refusal_names_the_field(objects: Any) -> None:
    body = {
        "apiVersion": meta.API_VERSION,
        "kind": "AvatarRender",
        "metadata": {"name": "bad"},
        "spec": {"prompt": "x"},
    }

    with pytest.raises(client.ApiException) as refusal:
        objects.create_namespaced_custom_object(meta.GROUP, meta.VERSION, "default", "avatarrenders", body)

    assert refusal.value.status == 422
    assert "spec.prompt" in refusal.value.body
