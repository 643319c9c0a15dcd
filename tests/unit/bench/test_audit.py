import json

import pytest

from renderfleet_bench.audit import AuditLog, account, writes

OPERATOR = "system:serviceaccount:renderfleet-system:bench-operator"


def line(verb, resource, *, user=OPERATOR, subresource=None, code=200, name="r-1"):
    at = {"resource": resource, "namespace": "rf-bench", "name": name}
    if subresource:
        at["subresource"] = subresource
    event = {
        "kind": "Event",
        "verb": verb,
        "user": {"username": user},
        "objectRef": at,
        "responseStatus": {"code": code},
    }
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def test_counts_what_the_operator_wrote_and_nothing_else():
    log = [
        line("patch", "avatarrenders", subresource="status"),
        line("patch", "avatarrenders", subresource="status"),
        line("create", "jobs", code=201),
        line("get", "pods"),
        line("watch", "jobs"),
        line("create", "pods", user="system:serviceaccount:kube-system:job-controller"),
    ]

    counted = account(OPERATOR, writes(log))

    assert counted.by_what == {"patch avatarrenders/status": 2, "create jobs": 1}
    assert (counted.total, counted.events, counted.refused) == (3, 0, 0)


def test_what_concerns_no_single_render_is_told_apart():
    counted = account(
        OPERATOR, writes([line("patch", "renderproviders", subresource="status"), line("create", "jobs")])
    )

    assert (counted.total, counted.fleet) == (1, {"patch renderproviders/status": 1})


def test_heartbeats_do_not_count_and_events_are_told_apart():
    counted = account(OPERATOR, writes([line("update", "leases"), line("create", "events"), line("patch", "events")]))

    assert (counted.total, counted.events) == (0, 2)


def test_a_refused_write_counts_and_is_seen():
    counted = account(OPERATOR, writes([line("patch", "avatarrenders", subresource="status", code=409)]))

    assert (counted.total, counted.refused) == (1, 1)


def test_a_torn_last_line_waits_for_the_next_slice():
    whole = line("create", "jobs")

    assert [write.resource for write in writes([whole, whole[:40]])] == ["jobs"]


def test_a_slice_begins_where_the_last_one_ended(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    assert log.place() == 0
    log.path.write_bytes(line("create", "jobs", name="before"))
    place = log.place()
    with log.path.open("ab") as file:
        file.write(line("create", "jobs", name="after"))

    assert [write.name for write in log.since(place)] == ["after"]


@pytest.mark.parametrize("verb", ["create", "update", "patch", "delete", "deletecollection"])
def test_every_writing_verb_is_a_write(verb):
    assert [write.verb for write in writes([line(verb, "jobs")])] == [verb]
