"""`doctor`: gather facts by both ways, have them judged, and print what to fix."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from renderfleet_cli import checkup, profiles
from renderfleet_cli.checkup import Finding
from renderfleet_cli.cluster import PROVIDERS, TENANTS, ClusterDoor
from renderfleet_cli.door import Target, Wanted, has_kubeconfig
from renderfleet_cli.errors import CliError, Failed, Misused, NotAllowed, NotThere, Unreachable
from renderfleet_cli.output import DocumentForm, print_document
from renderfleet_cli.rest import RestDoor
from renderfleet_cli.views import Provider, provider_from_resource, tenant_from
from renderfleet_cli.words import utc_now
from renderfleet_client import Resource, resources
from renderfleet_client.errors import ApiError, Forbidden, NotFound
from renderfleet_crds import kinds, meta, openapi

_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)
_NAME, _COMPONENT = "app.kubernetes.io/name=renderfleet", "app.kubernetes.io/component"
_LEASE = "renderfleet-operator"
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL", "skip": "skip"}
_COLOURS = {"ok": "32", "warn": "33", "fail": "31", "skip": "2"}


def doctor(target: Target, *, form: DocumentForm | None) -> None:
    """Print all findings. Raises Failed when something is broken, Unreachable when nobody answers at all."""
    findings: list[Finding] = []
    answered = 0
    by_cluster = target.via != "rest" and (target.kubeconfig is not None or has_kubeconfig())
    profile = profiles.find(target.profile) if target.via != "cluster" else None
    if not by_cluster and profile is None:
        raise Misused("nothing is configured to look at", "`renderfleet login URL`, or set KUBECONFIG")
    if by_cluster:
        found, reached = _by_cluster(target)
        findings, answered = findings + found, answered + reached
    if profile is not None:
        found, reached = _by_rest(profile, target.program, providers_too=not by_cluster)
        findings, answered = findings + found, answered + reached
    _print(findings, form)
    if not answered:
        raise Unreachable("nobody answers", "the first line above says where it was tried")
    if checkup.worst(findings) == "fail":
        bad = sum(one.verdict == "fail" for one in findings)
        raise Failed(f"{bad} of {len(findings)} things are broken", "what to do stands under each")


def _print(findings: Sequence[Finding], form: DocumentForm | None) -> None:
    if form is not None:
        print_document(checkup.document(findings), form)
        return
    width = max(len(one.what) for one in findings)
    colourful = sys.stdout.isatty()
    for one in findings:
        mark = _MARKS[one.verdict]
        if colourful:
            mark = f"\x1b[{_COLOURS[one.verdict]}m{mark}\x1b[0m"
        print(f"{mark}  {one.what:<{width}}  {one.detail}")
        if one.cure and one.verdict in {"warn", "fail"}:
            print(f"      {'':<{width}}  fix: {one.cure}")


# By the cluster


def _by_cluster(target: Target) -> tuple[list[Finding], bool]:
    try:
        door = ClusterDoor(target)
    except CliError as away:
        return [Finding("fail", "cluster", away.what, away.cure)], False
    try:
        return door.run(_Examination(door, target.program).all()), True
    except Unreachable as away:
        return [Finding("fail", "cluster", away.what, away.cure)], False
    except CliError as refused:
        return [Finding("fail", "cluster", refused.what, refused.cure)], True
    finally:
        door.close()


class _Examination:
    """One look at a cluster."""

    def __init__(self, door: ClusterDoor, program: str) -> None:
        self._door = door
        self._cluster = door.cluster
        self._program = program
        self._now = utc_now()
        self._system: str | None = None
        """The operator's namespace, once it is known."""

    async def all(self) -> list[Finding]:
        """Everything, in the order in which one thing rests on the other."""
        status, body = await self._cluster.ask("/version")
        if status == 401:
            raise ApiError(401, "Unauthorized", "these credentials are not accepted")
        findings = [checkup.kubernetes_version(json.loads(body) if status == 200 else {})]
        findings += await self._crds()
        if any(one.verdict == "fail" for one in findings):
            return findings
        findings += await self._operator()
        findings += await self._api()
        findings += await self._vendors()
        findings += await self._objects()
        return findings

    async def _crds(self) -> list[Finding]:
        async def one(kind: kinds.ResourceKind) -> Finding:
            name = f"{kind.plural}.{meta.GROUP}"
            try:
                found: dict[str, Any] | None = await self._cluster.get(resources.CRDS, name)
            except NotFound:
                found = None
            return checkup.crd(name, found, openapi.crd(kind))

        try:
            return list(await asyncio.gather(*(one(kind) for kind in kinds.ALL)))
        except Forbidden:
            return [_not_allowed("kinds", "CustomResourceDefinitions")]

    async def _operator(self) -> list[Finding]:
        findings = []
        found: list[dict[str, Any]] = []
        try:
            found = await self._deployments("operator")
            findings.append(
                checkup.deployment("operator", found, "kubectl -n {namespace} logs deployment/{name} --tail=50")
            )
        except Forbidden:
            findings.append(_not_allowed("operator", "Deployments"))
        try:
            leases = (await self._cluster.list(resources.LEASES, None, field_selector=f"metadata.name={_LEASE}")).items
            findings.append(checkup.lease(leases, self._now))
        except Forbidden:
            leases = []
            findings.append(_not_allowed("operator's lease", "Leases"))
        for one in [*found, *leases]:
            self._system = self._system or one["metadata"]["namespace"]
        if found:
            findings.append(await self._rights(found[0]))
        return findings

    async def _deployments(self, component: str) -> list[dict[str, Any]]:
        selector = f"{_NAME},{_COMPONENT}={component}"
        return (await self._cluster.list(resources.DEPLOYMENTS, None, label_selector=selector)).items

    async def _rights(self, deployment: dict[str, Any]) -> Finding:
        home = deployment["metadata"]["namespace"]
        account = deployment["spec"]["template"]["spec"].get("serviceAccountName") or "default"
        user = f"system:serviceaccount:{home}:{account}"

        async def is_allowed(right: checkup.Right) -> bool:
            name, _, part = right.resource.partition("/")
            attributes = {
                "group": right.group,
                "resource": name,
                "subresource": part,
                "verb": right.verb,
                "namespace": home if right.at_home_only else "",
            }
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user,
                    "groups": ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"],
                    "resourceAttributes": attributes,
                },
            }
            answer = await self._cluster.create(_REVIEWS, review)
            return bool(answer["status"].get("allowed"))

        try:
            allowed = await asyncio.gather(*(is_allowed(one) for one in checkup.OPERATOR_RIGHTS))
        except Forbidden:
            return _not_allowed("operator's rights", "SubjectAccessReviews")
        denied = [right for right, yes in zip(checkup.OPERATOR_RIGHTS, allowed, strict=True) if not yes]
        return checkup.rights(user, denied)

    async def _api(self) -> list[Finding]:
        try:
            found = await self._deployments("api")
        except Forbidden:
            return [_not_allowed("API", "Deployments")]
        findings = [checkup.deployment("API", found, "kubectl -n {namespace} logs deployment/{name} --tail=50")]
        if findings[0].verdict in {"ok", "warn"} and found:
            findings += await self._readiness(found[0]["metadata"])
        return findings

    async def _readiness(self, about: dict[str, Any]) -> list[Finding]:
        """Asked through the API server, so that no port of the API needs to be open to us."""
        selector = (
            f"app.kubernetes.io/instance={about['labels'].get('app.kubernetes.io/instance', '')},{_COMPONENT}=api"
        )
        services = (await self._cluster.list(resources.SERVICES, about["namespace"], label_selector=selector)).items
        name = services[0]["metadata"]["name"] if services else about["name"]
        status, body = await self._cluster.ask(
            resources.SERVICES.path(about["namespace"], f"{name}:http", "proxy/readyz")
        )
        if status in {401, 403}:
            return [_not_allowed(part, "services/proxy") for part in ("database", "storage")]
        return checkup.readiness(status, _json_or_text(body))

    async def _vendors(self) -> list[Finding]:
        providers = await self._providers()
        if providers is None:
            return [_not_allowed("providers", "RenderProviders")]
        if not providers:
            return [checkup.no_providers()]
        findings = []
        for one in providers:
            found = checkup.provider(one, await self._has_key(one.secret_name, one.secret_key), self._now)
            cure = found.cure.replace("SYSTEM_NAMESPACE", self._system or "SYSTEM_NAMESPACE")
            findings.append(replace(found, cure=cure))
        return findings

    async def _providers(self) -> list[Provider] | None:
        try:
            return [provider_from_resource(one) for one in (await self._cluster.list(PROVIDERS)).items]
        except Forbidden:
            return None

    async def _has_key(self, secret: str, key: str) -> bool | None:
        """Whether the key is there; it is looked for, never shown. None when that may not be looked at."""
        if self._system is None or not secret:
            return None
        try:
            body = await self._cluster.get(resources.SECRETS, secret, self._system)
        except NotFound:
            return False
        except Forbidden:
            return None
        return bool((body.get("data") or {}).get(key))

    async def _objects(self) -> list[Finding]:
        findings = []
        try:
            listed = (await self._cluster.list(TENANTS)).items
            findings.append(
                checkup.tenants(
                    [
                        tenant_from(one["metadata"]["name"], one.get("spec") or {}, one.get("status") or {})
                        for one in listed
                    ]
                )
            )
        except Forbidden:
            findings.append(_not_allowed("tenants", "RenderTenants"))
        try:
            renders = await self._door.list_renders(Wanted(everywhere=True))
        except Forbidden:
            return [*findings, _not_allowed("finalizers", "renders of all namespaces")]
        return [*findings, checkup.finalizers(renders, self._now), checkup.held(renders, self._program)]


def _not_allowed(what: str, which: str) -> Finding:
    return Finding("skip", what, f"these credentials may not look at {which}")


def _json_or_text(body: bytes) -> Any:
    try:
        parsed = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return parsed if isinstance(parsed, dict) else str(parsed)


# By REST


def _by_rest(profile: profiles.Profile, program: str, *, providers_too: bool) -> tuple[list[Finding], bool]:
    door = RestDoor(profile, program=program, timeout_seconds=10)
    try:
        status, body = door.look("/readyz")
        if status == 404:
            return [
                Finding("fail", "REST API", f"{profile.url} is not the RenderFleet API", "renderfleet login URL")
            ], True
        findings = [
            Finding("ok", "REST API", f"{profile.url} answers"),
            *checkup.readiness(status, _json_or_text(body)),
        ]
        return [*findings, *_by_key(door, providers_too)], True
    except Unreachable as away:
        return [Finding("fail", "REST API", away.what, away.cure)], False
    finally:
        door.close()


def _by_key(door: RestDoor, providers_too: bool) -> list[Finding]:
    findings: list[Finding] = []
    now = utc_now()
    try:
        done = door.renders(Wanted(phases=("Succeeded",), limit=1))
        findings += [Finding("ok", "API key", "valid"), _results(door, done[0].raw.get("resultUrl") if done else None)]
    except NotAllowed:
        findings.append(Finding("ok", "API key", "valid, an administrator's"))
    except (Misused, NotThere) as refused:
        return [Finding("fail", "API key", refused.what, refused.cure)]
    except Unreachable as away:
        return [Finding("fail", "API key", f"cannot be tried: {away.what}", away.cure)]
    if providers_too:
        providers = door.providers()
        if providers is None:
            findings.append(Finding("skip", "providers", "only an administrator's key may look at them"))
        elif not providers:
            findings.append(checkup.no_providers())
        else:
            findings += [checkup.provider(one, None, now) for one in providers]
    return findings


def _results(door: RestDoor, link: str | None) -> Finding:
    """Fetch one byte of the latest result by its signed link, as any client would."""
    if link is None:
        return Finding("skip", "results", "no render has succeeded yet, so there is no link to try")
    try:
        status = door.first_byte(link)
    except Unreachable as away:
        return Finding(
            "fail", "results", away.what, "clients reach storage at RENDERFLEET_S3_PUBLIC_ENDPOINT: check it"
        )
    if status in {200, 206}:
        return Finding("ok", "results", "the signed link of the latest result opens")
    return Finding(
        "fail",
        "results",
        f"the signed link of the latest result answers {status}",
        "check the bucket, its keys and the clocks",
    )
