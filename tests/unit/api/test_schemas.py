"""Request bodies take JSON at its word."""

from typing import Any

import pytest
from pydantic import ValidationError

from renderfleet_api.schemas import (
    AvatarPreviewRequest,
    AvatarSave,
    Body,
    KeyRequest,
    Replay,
    TenantChange,
    TenantRequest,
    VideoRequest,
    VoiceRequest,
    _Named,
)

VOICE = {"text": "Hello", "voiceId": "anna"}
JOB = "0a1b2c3d-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("model", "good", "field", "bad"),
    [
        (VoiceRequest, VOICE, "priority", [True, "5", 5.5]),
        (VoiceRequest, VOICE, "suspend", [1, "true", "yes"]),
        (VoiceRequest, VOICE, "retryPolicy", [{"maxAttempts": True}, {"maxAttempts": "3"}]),
        (VoiceRequest, VOICE, "settings", [{"stability": True}, {"stability": "0.5"}]),
        (AvatarPreviewRequest, {"prompt": "a face"}, "count", [True, "2"]),
        (VideoRequest, {"script": "Hi", "voiceId": "anna"}, "avatarRef", [{"name": "a", "index": True}]),
        (AvatarSave, {"jobId": JOB}, "preferred", [0, "no"]),
        (KeyRequest, {}, "expiresInDays", [True, "7"]),
        (TenantRequest, {"name": "a"}, "concurrency", [True, "7"]),
        (TenantRequest, {"name": "a"}, "monthlyBudgetMicros", [False, 2**63, "1"]),
        (TenantChange, {}, "monthlyBudgetMicros", [False, 2**63]),
    ],
)
def test_a_number_is_a_number(model: type[Body | _Named], good: dict[str, Any], field: str, bad: list[Any]) -> None:
    model.model_validate(good)
    for value in bad:
        with pytest.raises(ValidationError) as refused:
            model.model_validate({**good, field: value})
        assert {error["loc"][0] for error in refused.value.errors()} == {field}, value


def test_whole_numbers_are_numbers_with_a_fraction_too() -> None:
    assert VoiceRequest.model_validate({**VOICE, "settings": {"stability": 1}}).settings is not None
    assert Replay.model_validate({"since": "2026-11-24T12:00:00Z"}).since.year == 2026
