"""What the chart lets the operator do is what it does: it works with these rights, and has no others."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import yaml
from tests.support.node import Ended, PodRun, broke, succeed

from renderfleet_client import Cluster
from renderfleet_client.cluster import WatchEvent
from renderfleet_client.errors import Forbidden, NotFound, QuotaExceeded
from renderfleet_client.login import Login
from renderfleet_client.resources import (
    JOBS,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)
from renderfleet_cluster.places import REPOSITORY
from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDER_PROVIDER, RENDER_TENANT, RENDERS
from renderfleet_operator.children import tenant as children

from . import conftest
from .conftest import SYSTEM, TENANTS, Body, Fleet, eventually

RBAC = "rbac.authorization.k8s.io"
QUICK = {"retryPolicy": {"maxAttempts": 5, "backoffSeconds": 1, "maxBackoffSeconds": 1}}
VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


class Right(NamedTuple):
    """One thing that somebody may do."""

    group: str
    resource: str
    """With its subresource."""
    verb: str


def by_kopf() -> Iterator[Right]:
    """What kopf asks with a connection of its own."""
    for kind in (RENDER_TENANT, RENDER_PROVIDER, *RENDERS):
        yield from (Right(meta.GROUP, kind.plural, verb) for verb in ("list", "watch"))


def by_the_server() -> Iterator[Right]:
    """What the API server asks for besides the verb: an apply may have to create."""
    yield Right("", "secrets", "create")


def passed_on() -> Iterator[Right]:
    """What members of a tenant get: nobody can give more than they have."""
    for rule in children.role({"metadata": {"name": "x"}, "spec": {}})["rules"]:
        yield from granted_by([rule])


def granted_by(rules: list[Body]) -> Iterator[Right]:
    """Each right of these rules."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Right(group, resource, verb) for verb in rule["verbs"])


def right_of(method: str, path: str) -> Right:
    """What a request needs."""
    _, *parts = path.strip("/").split("/")
    group = "" if path.startswith("/api/") else parts.pop(0)
    rest = parts[1:]
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    verb = VERBS.get(method) or ("get" if len(rest) > 1 else "list")
    return Right(group, "/".join([rest[0], *rest[2:]]), verb)


class Recorder(Cluster):
    """Access that remembers what it was used for, and what it was refused."""

    used: set[Right] = set()
    refused: list[str] = []

    async def _call(self, method: str, path: str, **more: Any) -> Body:
        self.used.add(right_of(method, path))
        try:
            return await super()._call(method, path, **more)
        except QuotaExceeded:
            raise
        except Forbidden as refused:
            self.refused.append(f"{method} {path}: {refused.message}")
            raise

    async def watch(self, resource: Resource, *about: Any, **more: Any) -> AsyncIterator[WatchEvent]:
        self.used.add(Right(resource.group, resource.plural, "watch"))
        async for event in super().watch(resource, *about, **more):
            yield event


def chart(release: str) -> list[Body]:
    """The operator's roles as the chart has them."""
    text = (REPOSITORY / "charts/renderfleet/templates/operator-rbac.yaml").read_text()
    text = text.replace("{{ .Release.Name }}", release).replace("{{ .Release.Namespace }}", SYSTEM)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(labels: )?\{\{", line)]
    return [one for one in yaml.safe_load_all("\n".join(lines)) if one]


async def login_of(cluster: Cluster, release: str) -> Login:
    """The operator's own, with the rights that the chart gives it."""
    for body in chart(release):
        is_home = body["kind"] in ("Role", "RoleBinding")
        resource = Resource(RBAC, "v1", f"{body['kind'].lower()}s", namespaced=is_home)
        await cluster.create(resource, body, SYSTEM if is_home else None)
    account = f"{release}-operator"
    await cluster.create(Resource("", "v1", "serviceaccounts"), {"metadata": {"name": account}}, SYSTEM)
    answer = await cluster.create(
        Resource("", "v1", f"serviceaccounts/{account}/token"),
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {}},
        SYSTEM,
    )
    about = cluster.login
    return Login(
        server=about.server, ca_data=about.ca_data, insecure=about.insecure, static_token=answer["status"]["token"]
    )


async def test_the_operator_works_with_the_charts_rights_and_has_no_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = await login_of(fleet.cluster, fleet.tenant)
    monkeypatch.setattr(conftest, "Cluster", lambda _, **more: Recorder(login, **more))
    monkeypatch.setattr(Recorder, "used", set())
    monkeypatch.setattr(Recorder, "refused", [])
    fails = iter([broke("transient")] * 3)

    async def work(pod: PodRun) -> Ended | None:
        if "for-ever" in pod.name:
            return None
        return next(fails, None) or await succeed(pod)

    fleet.node.program = work
    await fleet.start()
    await _disturb(fleet)
    await fleet.apply("VoiceJob", "told-again", **QUICK)
    await fleet.until("VoiceJob", "told-again", "Succeeded", 40)
    await fleet.apply("VoiceJob", "gone-soon", finalizers=[], ttlSecondsAfterFinished=1)
    await _video_that_is_cancelled(fleet)
    await _job_that_is_deleted(fleet)
    with pytest.raises(NotFound):
        await fleet.until("VoiceJob", "gone-soon", "never", 30)
    await fleet.stop()  # and the next one takes the lease
    operator = await fleet.start()
    await fleet.apply("VoiceJob", "last")
    await fleet.until("VoiceJob", "last", "Succeeded")

    assert Recorder.refused == []
    assert operator.events.dropped == 0
    granted = {right for one in chart("x") if "rules" in one for right in granted_by(one["rules"])}
    needed = Recorder.used | {*by_kopf(), *by_the_server(), *passed_on()}
    assert needed - granted == set(), "asked for by nobody else than this test, or it would have been refused"
    assert granted - needed == set(), "granted, and needed by nobody"


async def _disturb(fleet: Fleet) -> None:
    """Somebody takes our mark off all that the tenant has; it comes back."""
    marked = (
        (NAMESPACES, fleet.namespace, None),
        (RESOURCE_QUOTAS, meta.QUOTA_NAME, fleet.namespace),
        (LIMIT_RANGES, children.POLICY_NAME, fleet.namespace),
        (NETWORK_POLICIES, children.POLICY_NAME, fleet.namespace),
        (ROLES, children.ROLE_NAME, fleet.namespace),
        (ROLE_BINDINGS, children.ROLE_NAME, fleet.namespace),
    )
    for resource, name, namespace in marked:
        unmarked = {"metadata": {"labels": {meta.MANAGED_BY_LABEL: None}}}
        await fleet.cluster.patch(resource, name, unmarked, namespace)
    await fleet.cluster.patch(TENANTS, fleet.tenant, {"spec": {"weight": 101}})

    async def all_are_marked() -> bool:
        found = [await fleet.cluster.get(*one) for one in marked]
        return all(meta.MANAGED_BY_LABEL in one["metadata"]["labels"] for one in found)

    await eventually(all_are_marked, 20)


async def _video_that_is_cancelled(fleet: Fleet) -> None:
    await fleet.apply("AvatarRender", "face")
    await fleet.until("AvatarRender", "face", "Succeeded")
    face = {"name": "face"}
    await fleet.apply("VideoRender", "spoken", avatarRef=face, script="Welcome.", voiceId="21m00Tcm4TlvDq8ikWAM")
    await fleet.until("VideoRender", "spoken", "Waiting", 30)
    await fleet.edit("VideoRender", "spoken", cancel=True)
    await fleet.until("VideoRender", "spoken", "Cancelled")
    await fleet.apply("VoiceJob", "for-ever")
    await fleet.until("VoiceJob", "for-ever", "Running")
    await fleet.edit("VoiceJob", "for-ever", cancel=True)
    await fleet.until("VoiceJob", "for-ever", "Cancelled", 40)


async def _job_that_is_deleted(fleet: Fleet) -> None:
    made = await fleet.apply("VoiceJob", "for-ever-2")
    [job] = await eventually(lambda: fleet.jobs(made["metadata"]["uid"]))
    await fleet.cluster.delete(JOBS, job["metadata"]["name"], fleet.namespace)

    async def there_is_another() -> bool:
        found = await fleet.jobs(made["metadata"]["uid"])
        return bool(found) and found[0]["metadata"]["uid"] != job["metadata"]["uid"]

    await eventually(there_is_another)
