"""What a try of a delivery means."""

from datetime import UTC, datetime, timedelta

import pytest

from renderfleet_api.webhooks.schedule import PAUSES_SECONDS, Verdict, judge, retry_after
from renderfleet_api.webhooks.secrets import Safe, new_secret, valid_secrets

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "tries", "asked", "expected"),
    [
        pytest.param(204, 0, None, Verdict("delivered"), id="any 2xx is success"),
        pytest.param(500, 0, None, Verdict("pending", after(5)), id="first pause"),
        pytest.param(None, 1, None, Verdict("pending", after(300)), id="no answer"),
        pytest.param(302, 2, None, Verdict("pending", after(1800)), id="a redirect is a failure"),
        pytest.param(429, 0, 120.0, Verdict("pending", after(120)), id="the receiver asks for longer"),
        pytest.param(429, 1, 1.0, Verdict("pending", after(300)), id="but not for shorter"),
        pytest.param(503, 0, 1e9, Verdict("pending", after(86_400)), id="nor for ever"),
        pytest.param(410, 0, None, Verdict("failed", disable="The endpoint answered 410 Gone."), id="gone"),
        pytest.param(500, len(PAUSES_SECONDS), None, Verdict("failed"), id="schedule used up"),
    ],
)
def test_verdict(status: int | None, tries: int, asked: float | None, expected: Verdict) -> None:
    assert judge(status=status, tries_before=tries, now=NOW, chance=0, retry_after_seconds=asked) == expected


def test_jitter_lengthens_a_pause_by_a_fifth_at_most() -> None:
    assert judge(status=500, tries_before=0, now=NOW, chance=1).next_at == after(6)


@pytest.mark.parametrize(("days", "disabled"), [(4, False), (6, True)])
def test_an_endpoint_that_never_answers_is_given_up(days: int, disabled: bool) -> None:
    verdict = judge(status=500, tries_before=9, now=NOW, chance=0, failing_since=NOW - timedelta(days=days))

    assert (verdict.disable is not None) == disabled


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("Tue, 24 Nov 2026 12:01:00 GMT", 60.0), ("soon", None), (None, None), ("-3", None)],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after(header, NOW) == expected


def test_the_old_secret_signs_for_a_day_after_the_rotation() -> None:
    safe = Safe("the server's own secret")
    new, old = new_secret(), new_secret()
    sealed = [safe.seal(new), safe.seal(old)]

    assert new.encode() not in sealed[0]
    assert valid_secrets(sealed, NOW - timedelta(hours=23), NOW, safe) == [new, old]
    assert valid_secrets(sealed, NOW - timedelta(hours=25), NOW, safe) == [new]
    assert valid_secrets(sealed[:1], None, NOW, safe) == [new]
