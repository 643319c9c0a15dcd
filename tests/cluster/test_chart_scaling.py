"""Scaling by KEDA: off unless asked for, and what is rendered fits the kinds as KEDA itself ships them."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import psycopg
import pytest
import yaml
from tests.support.chart import Body, named, refusal, render
from tests.support.databases import database, postgres

__all__ = ["database", "postgres"]

KEDA = "github.com/kedacore/keda/v2@v2.21.0"
ON = ("autoscaling.keda.enabled=true",)
POOL = tuple(f"autoscaling.keda.pools.video-gen.{one}" for one in ("min=0", "max=20", "waitingEach=2"))


@cache
def keda_schema(kind: str) -> Body:
    """The kind's schema out of KEDA's own module, which refuses fields that it does not know."""
    answer = subprocess.run(["go", "mod", "download", "-json", KEDA], capture_output=True, check=True, cwd="/")
    bases = Path(json.loads(answer.stdout)["Dir"]) / "config/crd/bases"
    crd = yaml.safe_load((bases / f"keda.sh_{kind.lower()}s.yaml").read_text())
    schema: Body = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    made: Body = strict(schema)
    return made


def strict(schema: Any) -> Any:
    """The API server prunes unknown fields; here they are an error."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: strict(one) for name, one in schema.items()}
    if "properties" in inner and not inner.get("x-kubernetes-preserve-unknown-fields"):
        inner.setdefault("additionalProperties", False)
    return inner


def test_without_being_asked_nothing_of_keda_is_in_the_chart() -> None:
    bodies = render()

    assert not [one for one in bodies if one["apiVersion"].startswith("keda.sh")]
    assert named(bodies, "Deployment", "rf-courier")["spec"]["replicas"] == 1


def test_what_scales_fits_keda_s_own_schema() -> None:
    bodies = render(*ON, *POOL)

    ours = [one for one in bodies if one["apiVersion"].startswith("keda.sh")]
    assert {one["metadata"]["name"] for one in ours} == {"rf-database", "rf-courier", "rf-api", "rf-place-video-gen"}
    for one in ours:
        jsonschema_rs.validate(keda_schema(one["kind"]), one)
        # KEDA takes all metadata of a trigger as text.
        for trigger in one["spec"].get("triggers", ()):
            assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_the_schema_s_strictness_can_fail() -> None:
    wrong = named(render(*ON, *POOL), "ScaledObject", "rf-courier")
    wrong["spec"]["minReplicas"] = 1

    with pytest.raises(jsonschema_rs.ValidationError, match="minReplicas"):
        jsonschema_rs.validate(keda_schema("ScaledObject"), wrong)


def test_each_target_is_there_and_leaves_its_replicas_to_keda() -> None:
    bodies = render(*ON, *POOL)

    for one in bodies:
        if one["kind"] == "ScaledObject":
            target = named(bodies, "Deployment", one["spec"]["scaleTargetRef"]["name"])
            assert "replicas" not in target["spec"]
            requests = target["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
            assert "cpu" in requests, "KEDA's cpu trigger, and the autoscaler of nodes, count by requests"


def test_placeholders_have_the_shape_of_the_runners_and_yield_to_them() -> None:
    bodies = render(*ON, *POOL)

    pod = named(bodies, "Deployment", "rf-place-video-gen")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"renderfleet.dev/pool-video-gen": "true"}
    assert pod["tolerations"][0]["key"] == "renderfleet.dev/pool"
    priority = named(bodies, "PriorityClass", pod["priorityClassName"])
    assert -10 <= priority["value"] < 0, "below -10 no autoscaler makes a node for it"
    assert priority["preemptionPolicy"] == "Never"
    told = named(bodies, "ScaledObject", "rf-place-video-gen")["spec"]["triggers"][0]["metadata"]
    assert told["valueLocation"] == 'renderfleet_pool_waiting{pool="video-gen"}'
    service = named(bodies, "Service", "rf-operator")
    assert told["url"] == f"http://{service['metadata']['name']}.rfs.svc:{service['spec']['ports'][0]['port']}/metrics"


def test_a_second_operator_and_scaling_by_its_queues_exclude_each_other() -> None:
    assert "operator.replicas 1" in refusal(*ON, *POOL, "operator.replicas=2")
    assert render(*ON, "operator.replicas=2"), "courier and API scale by other numbers"


def test_the_query_counts_what_is_due(database: str) -> None:
    trigger = named(render(*ON), "ScaledObject", "rf-courier")["spec"]["triggers"][0]

    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        assert connection.execute(trigger["metadata"]["query"]).fetchall() == [(0,)]
        connection.execute(
            "INSERT INTO webhook_endpoints (id, namespace, url, types, secrets) VALUES ('e', 'n', 'u', '{}', '{}')"
        )
        for event, state, minutes in [("a", "pending", -1), ("b", "pending", 5), ("c", "delivered", -1)]:
            connection.execute("INSERT INTO outbox (id, namespace, type, data) VALUES (%s, 'n', 't', '{}')", [event])
            connection.execute(
                "INSERT INTO deliveries (endpoint_id, event_id, state, next_at)"
                " VALUES ('e', %s, %s, now() + make_interval(mins => %s))",
                [event, state, minutes],
            )
        assert connection.execute(trigger["metadata"]["query"]).fetchall() == [(1,)]


def test_the_database_s_address_is_one_that_keda_reads() -> None:
    bodies = render(*ON)

    secret = named(bodies, "Secret", "rf-keda-database")
    assert secret["stringData"]["connection"].startswith("postgresql://")
    own = render(*ON, "autoscaling.keda.databaseSecret=mine")
    [reference] = named(own, "TriggerAuthentication", "rf-database")["spec"]["secretTargetRef"]
    assert reference == {"parameter": "connection", "name": "mine", "key": "connection"}
