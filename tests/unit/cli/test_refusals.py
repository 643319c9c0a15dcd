"""What each refusal of the API server means at the terminal: its exit code, and words that lead on."""

from typing import Any

import pytest

from renderfleet_cli.cluster import error_of
from renderfleet_client.errors import error_from

SERVER = "https://10.0.0.1:6443"


def status(reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": message, "details": details}


REFUSALS = [
    pytest.param(
        403,
        status("Forbidden", "forbidden: exceeded quota: renderfleet, requested: count/voicejobs.renderfleet.dev=1"),
        1,
        ("the tenant's quota is used up", "maxObjectsPerKind"),
        id="quota",
    ),
    pytest.param(
        403, status("Forbidden", "status unknown for quota: renderfleet"), 3, ("is busy", "again"), id="new quota"
    ),
    pytest.param(
        403,
        status("Forbidden", "unable to create new content in namespace x because it is being terminated"),
        1,
        ("being deleted", "-n NAMESPACE"),
        id="namespace on its way out",
    ),
    pytest.param(
        403,
        status("Forbidden", "voicejobs is forbidden: cannot list"),
        1,
        ("cannot list", "kubectl auth can-i"),
        id="rights",
    ),
    pytest.param(401, status("Unauthorized", "Unauthorized"), 2, ("does not accept", "kubeconfig"), id="credentials"),
    pytest.param(
        404,
        status("NotFound", 'namespaces "rf-x" not found', kind="namespaces", name="rf-x"),
        1,
        ("rf-x", "kubectl get rendertenants"),
        id="namespace",
    ),
    pytest.param(
        404,
        status("NotFound", 'voicejobs "x" not found', kind="voicejobs", name="x"),
        1,
        ("not found", "`list`"),
        id="object",
    ),
    pytest.param(
        404, "404 page not found", 1, ("does not know RenderFleet's kinds", "install the chart"), id="no CRDs"
    ),
    pytest.param(
        409, status("AlreadyExists", 'voicejobs "x" already exists'), 1, ("already exists", "--name"), id="name taken"
    ),
    pytest.param(409, status("Conflict", "the object has been modified"), 1, ("same moment", "repeat"), id="conflict"),
    pytest.param(
        422,
        status("Invalid", "…", causes=[{"field": "metadata.uid", "message": "field is immutable"}]),
        1,
        ("replaced", "repeat"),
        id="another object of that name",
    ),
    pytest.param(
        422,
        status(
            "Invalid",
            "…",
            causes=[
                {"field": "spec.voiceId", "message": "Required value"},
                {"field": "<nil>", "message": "Invalid value: null: some validation rules were not checked because …"},
            ],
        ),
        2,
        ("voiceId: Required value", "--help"),
        id="schema",
    ),
    pytest.param(429, status("TooManyRequests", "slow down"), 3, ("is busy", "again"), id="throttled"),
    pytest.param(503, "upstream connect error", 3, ("does not answer", "--context"), id="away"),
    pytest.param(405, status("MethodNotAllowed", "not here"), 1, ("not here",), id="anything else"),
]


@pytest.mark.parametrize(("code", "body", "exit_code", "said"), REFUSALS)
def test_refusals(code: int, body: Any, exit_code: int, said: tuple[str, ...]) -> None:
    error = error_of(error_from(code, body), SERVER)

    assert error.exit_code == exit_code
    for words in said:
        assert words in f"{error.what} | {error.cure}"
    assert "not checked" not in error.what
