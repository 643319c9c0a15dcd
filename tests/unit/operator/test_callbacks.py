"""Vendors' callbacks: an address for each render, known again, guessed by nobody, and never more than a hint."""

import aiohttp
import pytest

from renderfleet_operator.callbacks import Callbacks
from renderfleet_operator.http import Probes
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

    probes = Probes(Metrics(), lambda: None, lambda: None, hear)
    await probes.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{probes.port}") as session:
            for body in (b"", b'{"status": "done", "result_url": "https://evil.example/x.mp4"}', b"\xff" * 100_000):
                async with session.post(path, data=body) as answer:
                    assert answer.status == status
    finally:
        await probes.stop()
    assert looked == 3 * looks
