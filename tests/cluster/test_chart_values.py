"""Values of the chart: what is wrong is refused by its name before anything is installed, and what is right is not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from tests.support.chart import CHART, helm_template, named, refusal, render

from renderfleet_api.settings import ApiSettings
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds.contract import Pool
from renderfleet_operator.settings import OperatorSettings, PoolSettings

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"env", "nodeSelector", "requests", "limits", "affinity"}
"""Maps whose names are the installer's."""


@pytest.mark.parametrize(
    ("value", "place", "said"),
    [
        ("operator.replica=2", "/operator", "'replica'"),
        ("databse.url=postgresql://x", "", "'databse'"),
        ("operator.replicas=two", "/operator/replicas", "want integer"),
        ("api.service.port=70000", "/api/service/port", "65,535"),
        ("api.service.type=Ingress", "/api/service/type", "'LoadBalancer'"),
        ("api.logLevel=verbose", "/api/logLevel", "'info'"),
        ("database.url=mysql://x", "/database/url", "postgresql"),
        ("storage.endpoint=s3.example", "/storage/endpoint", "https?://"),
        ("operator.callbacks.url=http://plain.example", "/operator/callbacks/url", "https://"),
        ("images.pullPolicy=always", "/images/pullPolicy", "'IfNotPresent'"),
        ("images.runner=", "/images/runner", "minLength"),
        ("pools.video-gn.priorityClassName=high", "/pools", "'video-gn'"),
        ("pools.video-gen.resources.request.cpu=1", "/pools/video-gen/resources", "'request'"),
        ("autoscaling.keda.pools.video-gen.max=3", "/autoscaling/keda/pools/video-gen", "'waitingEach'"),
        ("api.env.NOT-A-NAME=1", "/api/env", "NOT-A-NAME"),
        ("operator.env.RENDERFLEET_WROKERS=8", "/operator/env", "RENDERFLEET_WROKERS"),
        ("courier.env.RENDERFLET_LOG_LEVEL=debug", "/courier/env", "RENDERFLET_LOG_LEVEL"),
        ("api.env.RENDERFLEET_S3_BUCKET=mine", "/api/env", "RENDERFLEET_S3_BUCKET"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, place: str, said: str) -> None:
    told = refusal(value)

    assert f"at '{place}" in told
    assert said in told


def test_what_the_chart_can_do_is_taken() -> None:
    taken = helm_template(
        "operator.replicas=0",
        "operator.callbacks.url=https://hooks.example.com/fleet",
        "api.env.RENDERFLEET_OIDC_REFRESH_SECONDS=300",
        "operator.env.HTTPS_PROXY=http://proxy.example",
        "pools.video-gen.scratchSize=8Gi",
        "pools.video-gen.resources.limits.nvidia\\.com/gpu=1",
        "images.pullSecrets[0].name=mine",
        "global.anything=x",
    )

    assert taken.returncode == 0, taken.stderr


def test_the_values_in_the_oidc_guide_are_taken_by_chart_and_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (REPOSITORY / "docs/guides/sign-in-with-oidc.md").read_text()
    [block] = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "values.yaml").write_text(block)

    taken = helm_template(more=("--values", str(tmp_path / "values.yaml")))

    assert taken.returncode == 0, taken.stderr
    deployment = named([one for one in yaml.safe_load_all(taken.stdout) if one], "Deployment", "rf-api")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    for one in container["env"]:
        monkeypatch.setenv(one["name"], one.get("value", "postgresql://renderfleet@database/x"))
    settings = ApiSettings()
    assert settings.oidc_audience == "renderfleet"
    assert settings.oidc_scopes["fleet-users"] == ["read", "write"]


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every named place of the values but those within free maps."""
    if isinstance(value, dict) and path[-1:] and path[-1] in FREE:
        return
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, name)
        yield from places(inner, (*path, name))


def schema_places(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if path[-1:] and path[-1] in FREE:
        return
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name)
        yield from schema_places(inner, (*path, name))


def test_the_schema_knows_each_value_and_makes_none_up() -> None:
    optional = {("global",)}
    optional |= {("pools", pool.value, name) for pool in Pool for name in ("affinity", "scratchSize")}
    keda = ("autoscaling", "keda", "pools")
    optional |= {one for one in schema_places(SCHEMA) if one[:3] == keda and len(one) > 3}

    assert set(schema_places(SCHEMA)) - optional == set(places(VALUES))


def test_pools_are_those_of_the_operator_and_as_it_takes_them() -> None:
    assert set(SCHEMA["properties"]["pools"]["properties"]) == {one.value for one in Pool}
    fields = {field.alias for field in PoolSettings.model_fields.values()}
    assert set(SCHEMA["definitions"]["pool"]["properties"]) == fields


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


def test_no_variable_is_there_twice() -> None:
    """The chart's own and those of `env`: the API server would take one of the two, without a word."""
    for part in ("operator", "api", "courier"):
        settings = SCHEMA["definitions"][f"{part}Env"]["properties"]
        bodies = render("operator.callbacks.url=https://x.example", *(f"{part}.env.{name}=1" for name in settings))
        pod = named(bodies, "Deployment", f"rf-{part}")["spec"]["template"]["spec"]
        names = [one["name"] for one in pod["containers"][0]["env"]]
        assert settings
        assert sorted(set(names)) == sorted(names)
        assert set(settings) <= set(names)


def test_callbacks_have_a_port_of_their_own() -> None:
    bodies = render("operator.callbacks.url=https://hooks.example.com")

    [port] = named(bodies, "Service", "rf-callbacks")["spec"]["ports"]
    [container] = named(bodies, "Deployment", "rf-operator")["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    probes = {container[kind]["httpGet"]["port"] for kind in ("livenessProbe", "readinessProbe")}
    assert port["targetPort"] == "callbacks"
    assert ports["callbacks"] == OperatorSettings.model_fields["callback_port"].default
    assert ports["http"] == OperatorSettings.model_fields["http_port"].default
    assert probes == {"http"}


def test_without_an_address_for_callbacks_there_is_no_way_in() -> None:
    bodies = render()

    assert [one for one in bodies if one["metadata"]["name"] == "rf-callbacks"] == []
    [container] = named(bodies, "Deployment", "rf-operator")["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in container["ports"]] == ["http"]
