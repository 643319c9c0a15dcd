"""The Task as a Job carries it."""

import subprocess

import pytest

from renderfleet_crds.contract import pack_task, unpack_task


def test_a_task_comes_out_as_it_went_in_and_takes_less_room() -> None:
    text = (
        '{"prompt":"Zoë says: ☕","urls":['
        + ",".join(f'"https://storage/runs/{n}?X-Amz-Expires=1620"' for n in range(9))
        + "]}"
    )

    assert unpack_task(pack_task(text)).decode() == text
    assert pack_task(text) == pack_task(text.encode())
    assert len(pack_task(text)) < len(text) / 2


def test_people_can_read_it_in_a_shell() -> None:
    shown = subprocess.run(
        "base64 -d | gunzip", input=pack_task("{}"), shell=True, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "{}"


@pytest.mark.parametrize("packed", ["{}", "e30=", pack_task("{}")[:-8]])
def test_anything_else_is_refused(packed: str) -> None:
    with pytest.raises(ValueError, match="no packed task"):
        unpack_task(packed)
