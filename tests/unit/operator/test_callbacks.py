"""Vendors' callbacks: an address for each render, known again, guessed by nobody, and never more than a hint."""

import aiohttp
import pytest

from renderfleet_operator.callbacks import Callbacks
from renderfleet_operator.http import callback_door, probes
from renderfleet_operator.metrics import Metrics

from .builders import UID

OURS = Callbacks("https://callbacks.example/fleet/", b"a secret of ours")
CODE = OURS.url(UID).rpartition("/")[2]


def test_an_address_is_known_again_and_by_nobody_else() -> None:
    assert OURS.url(UID) == f"https://callbacks.example/fleet/callbacks/{UID}/{CODE}"
    assert len(CODE) == 24
    assert OURS.is_ours(UID, CODE)
    assert not Callbacks(OURS.base_url, b"another secret").is_ours(UID, CODE)


@pytest.mark.parametrize(
    ("uid", "code"),
    [(UID.replace("0", "1"), CODE), (UID, CODE[:-1]), (UID, CODE + "A"), (UID, CODE.swapcase()), (UID, "é"), (UID, "")],
)
def test_what_is_no_address_of_ours(uid: str, code: str) -> None:
    assert not OURS.is_ours(uid, code)


@pytest.mark.parametrize(
    ("path", "status", "looks"),
    [
        pytest.param(f"/callbacks/{UID}/{CODE}", 202, [UID], id="a hint"),
        pytest.param(f"/callbacks/{UID}/{CODE[::-1]}", 404, [], id="a guess"),
        pytest.param(f"/callbacks/{UID}", 404, [], id="no code"),
    ],
)
async def test_a_callback_makes_us_look_whatever_it_says(path: str, status: int, looks: list[str]) -> None:
    looked: list[str] = []

    def hear(uid: str, code: str) -> bool:
        if not OURS.is_ours(uid, code):
            return False
        looked.append(uid)
        return True

    door = callback_door(hear)
    await door.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{door.port}") as session:
            for body in (b"", b'{"status": "done", "result_url": "https://evil.example/x.mp4"}', b"\xff" * 100_000):
                async with session.post(path, data=body) as answer:
                    assert answer.status == status
    finally:
        await door.stop()
    assert looked == 3 * looks


async def test_who_may_call_back_reaches_nothing_else() -> None:
    door, inner = callback_door(lambda uid, code: True), probes(Metrics(), lambda: None, lambda: None)
    found: dict[str, list[int]] = {}
    for name, listener in (("door", door), ("inner", inner)):
        await listener.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:
                gets = [(await session.get(path)).status for path in ("/healthz", "/readyz", "/metrics", "/")]
                found[name] = [*gets, (await session.post(f"/callbacks/{UID}/{CODE}")).status]
        finally:
            await listener.stop()

    assert found == {"door": [404, 404, 404, 404, 202], "inner": [200, 200, 200, 404, 404]}
