"""What a request is, and whose."""

import pytest

from renderfleet_faults.traffic import Sort, Target, sort_of, subject_of_object, subject_of_request, target_of, token


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/api/v1/namespaces", Target("", "namespaces"), id="all namespaces"),
        pytest.param("/api/v1/namespaces/rf-a", Target("", "namespaces", None, "rf-a"), id="one namespace"),
        pytest.param(
            "/api/v1/namespaces/rf-a/status", Target("", "namespaces", None, "rf-a", "status"), id="its own subresource"
        ),
        pytest.param("/api/v1/namespaces/rf-a/secrets", Target("", "secrets", "rf-a"), id="a kind in a namespace"),
        pytest.param(
            "/apis/batch/v1/namespaces/rf-a/jobs/one", Target("batch", "jobs", "rf-a", "one"), id="a named object"
        ),
        pytest.param(
            "/apis/renderfleet.dev/v1alpha1/namespaces/rf-a/voicejobs/v/status",
            Target("renderfleet.dev", "voicejobs", "rf-a", "v", "status"),
            id="its status",
        ),
        pytest.param(
            "/apis/renderfleet.dev/v1alpha1/rendertenants/t",
            Target("renderfleet.dev", "rendertenants", None, "t"),
            id="a cluster-scoped object",
        ),
        pytest.param("/apis", None, id="no object"),
        pytest.param("/apis/batch/v1", None, id="a group is no object"),
        pytest.param("/version", None, id="not of the API's objects"),
    ],
)
def test_target_of_a_path(path: str, expected: Target | None) -> None:
    assert target_of(path) == expected


JOBS = Target("batch", "jobs", "rf-c0001")


@pytest.mark.parametrize(
    ("method", "target", "query", "expected"),
    [
        pytest.param("POST", JOBS, {}, Sort.WRITE, id="making an object"),
        pytest.param("DELETE", JOBS, {}, Sort.WRITE, id="deleting one"),
        pytest.param("POST", JOBS, {"dryRun": "All"}, Sort.QUIET, id="trying changes nothing"),
        pytest.param("GET", JOBS, {}, Sort.READ, id="listing"),
        pytest.param("GET", JOBS, {"watch": "true"}, Sort.WATCH, id="watching"),
        pytest.param("GET", JOBS, {"watch": "false"}, Sort.READ, id="not watching"),
        pytest.param("PATCH", Target("coordination.k8s.io", "leases", "system", "l"), {}, Sort.QUIET, id="a heartbeat"),
        pytest.param("POST", Target("events.k8s.io", "events", "rf-c0001"), {}, Sort.QUIET, id="an event"),
        pytest.param(
            "POST", Target("authorization.k8s.io", "selfsubjectaccessreviews"), {}, Sort.QUIET, id="a question"
        ),
    ],
)
def test_sort_of_a_request(method: str, target: Target, query: dict[str, str], expected: Sort) -> None:
    assert sort_of(method, target, query) is expected


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        pytest.param(JOBS, {"metadata": {"name": "x-c0002"}}, "c0001", id="the namespace decides"),
        pytest.param(Target("", "namespaces"), {"metadata": {"name": "rf-c0003"}}, "c0003", id="the body, for a POST"),
        pytest.param(
            Target("renderfleet.dev", "renderproviders", None, "did-m0004", "status"), None, "m0004", id="the name"
        ),
        pytest.param(Target("", "secrets", "renderfleet-system"), None, None, id="nobody's"),
        pytest.param(Target("", "secrets", "rf-abc0001"), None, None, id="a longer word is no token"),
        pytest.param(Target("", "secrets", "rf-c00011"), None, None, id="a longer number is no token"),
        pytest.param(None, None, None, id="nothing at all"),
    ],
)
def test_subject_of_a_request(target: Target | None, body: dict[str, object] | None, expected: str | None) -> None:
    assert subject_of_request(target, body) == expected


def test_every_token_is_known_again() -> None:
    for number in (0, 7, 9999):
        made = token("c", number)
        assert subject_of_object({"metadata": {"namespace": f"rf-{made}", "name": "x"}}) == made


@pytest.mark.parametrize(("letter", "number"), [("x", 1), ("c", 10_000), ("c", -1)])
def test_a_token_that_would_not_be_known_again_is_refused(letter: str, number: int) -> None:
    with pytest.raises(ValueError, match="not a token"):
        token(letter, number)
