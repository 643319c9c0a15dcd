"""The flags of `submit` are the fields of the models, none forgotten and none made up."""

from pathlib import Path
from typing import Any

import pytest

from renderfleet_cli.errors import Misused
from renderfleet_cli.spec_flags import Flag, flags_of, spec_from
from renderfleet_crds.kinds import AVATAR_RENDER, RENDERS, VIDEO_RENDER, VOICE_JOB, ResourceKind
from renderfleet_crds.openapi import structural_schema


def options(kind: ResourceKind) -> dict[str, Flag]:
    return {one.option: one for one in flags_of(kind)}


@pytest.mark.parametrize("kind", RENDERS, ids=lambda kind: kind.kind)
def test_every_field_of_the_crd_has_a_flag(kind: ResourceKind) -> None:
    fields = set(structural_schema(kind.spec)["properties"]) - {"cancel", "redrive"}

    assert {one.path[0] for one in flags_of(kind)} == fields


@pytest.mark.parametrize("kind", RENDERS, ids=lambda kind: kind.kind)
def test_no_two_flags_are_called_the_same_and_each_says_something(kind: ResourceKind) -> None:
    flags = flags_of(kind)

    assert len({one.option for one in flags}) == len(flags)
    assert {one.option for one in flags if not one.help} == set()


def test_the_help_tells_the_limits_of_numbers() -> None:
    told = {flag.option: flag.help for kind in RENDERS for flag in flags_of(kind)}

    assert "0 to 1000." in told["--priority"]
    assert "0.7 to 1.2." in told["--speed"], "of a field that may be absent as well"
    assert "At least" in told["--seed"] or "0 to" in told["--seed"]


def test_flags_fill_the_spec_that_the_model_reads() -> None:
    given = {
        "text": "Welcome aboard.",
        "voice_id": "v1",
        "max_attempts": 5,
        "backoff_seconds": 7,
        "stability": 0.4,
        "priority": 900,
        "suspend": False,
    }

    spec = spec_from(flags_of(VOICE_JOB), given)

    assert spec == {
        "text": "Welcome aboard.",
        "voiceId": "v1",
        "retryPolicy": {"maxAttempts": 5, "backoffSeconds": 7},
        "settings": {"stability": 0.4},
        "priority": 900,
        "suspend": False,
    }
    VOICE_JOB.spec.model_validate(spec)


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({"avatar_ref": "guide"}, {"avatarRef": {"name": "guide"}}),
        ({"avatar_ref": "guide:3"}, {"avatarRef": {"name": "guide", "index": 3}}),
        ({"voice_ref": "greeting"}, {"voiceRef": {"name": "greeting"}}),
        ({}, {}),
    ],
)
def test_a_reference_is_one_word(given: dict[str, Any], spec: dict[str, Any]) -> None:
    assert spec_from(flags_of(VIDEO_RENDER), given) == spec


@pytest.mark.parametrize(
    "given", [{"avatar_ref": "guide:x"}, {"avatar_ref": ":2"}, {"voice_ref": "greeting:2"}, {"voice_ref": "a/b"}]
)
def test_a_reference_that_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(Misused, match="not the name of a render"):
        spec_from(flags_of(VIDEO_RENDER), given)


def test_a_long_text_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("A friendly harbour guide\n")

    assert spec_from(flags_of(AVATAR_RENDER), {"prompt": f"@{file}"}) == {"prompt": "A friendly harbour guide"}


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(Misused, match=r"--prompt @/nowhere/prompt\.txt: .*No such file"):
        spec_from(flags_of(AVATAR_RENDER), {"prompt": "@/nowhere/prompt.txt"})


def test_choices_ranges_and_defaults_reach_the_help() -> None:
    avatar = options(AVATAR_RENDER)

    assert "1024x1536" in str(avatar["--size"].kind)
    assert avatar["--count"].help.endswith("[default: 4]")
    assert options(VIDEO_RENDER)["--stitch"].help.endswith("[default: true]")
    assert options(VIDEO_RENDER)["--avatar-ref"].reference == "NAME[:INDEX]"
