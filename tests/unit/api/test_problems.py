"""What refusals by the cluster mean to a caller."""

import pytest

from renderfleet_api.problems import problem_from_cluster
from renderfleet_client.errors import error_from


@pytest.mark.parametrize(
    ("status", "body", "code", "http", "retryable", "charged"),
    [
        pytest.param(
            403,
            {"reason": "Forbidden", "message": 'x is forbidden: exceeded quota: renderfleet, requested: a=1, used: a=2, limited: a=2'},
            "storage_limit_reached", 403, False, "false", id="storage limit",
        ),
        pytest.param(403, {"message": "status unknown for quota: renderfleet"}, "cluster_busy", 503, True, "false", id="quota not counted"),
        pytest.param(409, {"reason": "Conflict", "details": {"kind": "resourcequotas"}}, "cluster_busy", 503, True, "false", id="quota contended"),
        pytest.param(429, {}, "cluster_busy", 503, True, "false", id="API server busy"),
        pytest.param(422, {"message": "no", "details": {"causes": [{"field": "spec.prompt", "message": "too long"}]}}, "invalid_request", 422, False, "false", id="schema"),
        pytest.param(404, {"reason": "NotFound", "details": {"kind": "namespaces"}}, "tenant_not_ready", 409, True, "false", id="no namespace yet"),
        pytest.param(403, {"message": "unable to create new content in namespace x because it is being terminated"}, "tenant_terminating", 409, False, "false", id="namespace going"),
        pytest.param(403, {"message": 'cannot create resource "voicejobs"'}, "cluster_refused", 503, True, "false", id="our own rights"),
        pytest.param(409, {"reason": "AlreadyExists"}, "name_taken", 409, False, "false", id="name taken"),
        pytest.param(409, {"reason": "Conflict"}, "changed_meanwhile", 409, False, "false", id="changed"),
        pytest.param(500, {"message": "etcd"}, "cluster_unavailable", 503, True, "unknown", id="outcome unknown"),
        pytest.param(502, "<html>bad gateway</html>", "cluster_unavailable", 503, True, "unknown", id="a proxy's words"),
    ],
)  # fmt: skip
def test_refusals(status: int, body: object, code: str, http: int, retryable: bool, charged: str) -> None:
    problem = problem_from_cluster(error_from(status, body))

    assert (problem.code, problem.status, problem.retryable, problem.charged) == (code, http, retryable, charged)
    assert ("Retry-After" in problem.headers) == retryable


def test_the_limit_is_named() -> None:
    words = 'voicejobs "a" is forbidden: exceeded quota: renderfleet, requested: n=1, used: n=5, limited: n=5'

    assert "used: n=5, limited: n=5" in problem_from_cluster(error_from(403, {"message": words})).detail


def test_fields_are_named_as_the_caller_wrote_them() -> None:
    causes = [{"field": "spec.retryPolicy.maxAttempts", "message": "must be at most 10"}]

    [error] = problem_from_cluster(error_from(422, {"message": "m", "details": {"causes": causes}})).errors

    assert error.field == "retryPolicy.maxAttempts"
