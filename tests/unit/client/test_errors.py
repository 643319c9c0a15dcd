"""What the API server means by its answers, as it words them."""

import pytest

from renderfleet_client import errors


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(403, {"reason": "Forbidden", "message": 'pods "x" is forbidden: exceeded quota: renderfleet, requested: pods=1, used: pods=4, limited: pods=4', "details": {"kind": "pods"}}, errors.QuotaExceeded, id="a full quota is a wait"),
        pytest.param(403, {"reason": "Forbidden", "message": 'pods "x" is forbidden: status unknown for quota: renderfleet, resources: pods'}, errors.QuotaNotReady, id="a new quota is not computed yet"),
        pytest.param(409, {"reason": "Conflict", "message": 'Operation cannot be fulfilled on resourcequotas "renderfleet"', "details": {"kind": "resourcequotas"}}, errors.QuotaNotReady, id="two writers meet on the quota object"),
        pytest.param(500, {"reason": "InternalError", "message": "Internal error occurred: resource quota evaluation timed out"}, errors.QuotaNotReady, id="the quota takes too long"),
        pytest.param(403, {"reason": "Forbidden", "message": "User cannot create resource"}, errors.Forbidden, id="RBAC says no"),
        pytest.param(409, {"reason": "AlreadyExists", "details": {"kind": "jobs"}}, errors.AlreadyExists, id="the name is taken"),
        pytest.param(409, {"reason": "Conflict", "details": {"kind": "jobs"}}, errors.Conflict, id="a stale write"),
        pytest.param(422, {"reason": "Invalid"}, errors.Invalid, id="a broken rule"),
        pytest.param(400, {"reason": "BadRequest", "message": 'strict decoding error: unknown field "spec.promt"'}, errors.Invalid, id="an unknown field"),
        pytest.param(503, "<html>gateway</html>", errors.Unavailable, id="a proxy's page"),
        pytest.param(410, {"reason": "Expired"}, errors.Gone, id="too old to go on from"),
    ],
)  # fmt: skip
def test_answers_are_told_apart(status: int, body: object, expected: type[errors.ApiError]) -> None:
    assert type(errors.error_from(status, body)) is expected


def test_pause_is_read_from_the_header_or_the_details() -> None:
    assert errors.error_from(429, {}, "7").retry_after_seconds == 7
    assert errors.error_from(429, {"details": {"retryAfterSeconds": 3}}).retry_after_seconds == 3
    assert errors.error_from(429, {}, "soon").retry_after_seconds is None
