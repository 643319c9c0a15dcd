"""What `Prefer` asks for, RFC 7240."""

import pytest

from renderfleet_api.routes.common import prefers_async, wait_seconds


@pytest.mark.parametrize(
    ("prefer", "seconds", "rather_not"),
    [
        pytest.param(None, None, False, id="nothing"),
        pytest.param("wait=20", 20, False, id="so long"),
        pytest.param("respond-async, wait=10", 10, True, id="both"),
        pytest.param("Respond-Async; x=1, WAIT = 5", 5, True, id="however it is spelt"),
        pytest.param("wait=999", 60, False, id="never longer than a minute"),
        pytest.param('wait="7"', 7, False, id="quoted"),
        pytest.param("wait=-1, wait=soon, await=3", None, False, id="no number of seconds"),
        pytest.param("respond-asynchronously", None, False, id="another word"),
    ],
)
def test_prefer(prefer: str | None, seconds: float | None, rather_not: bool) -> None:
    assert (wait_seconds(prefer), prefers_async(prefer)) == (seconds, rather_not)
