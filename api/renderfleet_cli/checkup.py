"""Judge what `doctor` found: is it well, and if not, what is to be done. Pure.

ok     it is as it should be
warn   it works, or will work again by itself, but somebody should know
fail   renders stand still, or will
skip   not looked at, and why: these credentials may not, or nothing is configured
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from renderfleet_crds import meta
from renderfleet_crds.phases import Phase

from .views import Document, Provider, Render, Tenant
from .words import age, moment, plural, seconds_between

Verdict = Literal["ok", "warn", "fail", "skip"]

OLDEST_KUBERNETES: Final = (1, 31)
"""Selectable fields of custom resources are on by default from there; the chart asks for the same."""
STUCK_SECONDS: Final = 600
"""An archive that works takes a finished render in seconds."""
DEFAULT_LEASE_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    what: str
    detail: str
    cure: str = ""

    def as_document(self) -> dict[str, str]:
        """For json and yaml."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Right:
    """Something that the operator must be allowed to do."""

    group: str
    resource: str
    verb: str
    at_home_only: bool = False
    """In its own namespace; everywhere otherwise."""

    @property
    def words(self) -> str:
        """As `kubectl auth can-i` takes it."""
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {name}"


def _rights() -> Iterable[Right]:
    renders = ("avatarrenders", "voicejobs", "videorenders")
    for name in renders:
        yield from (Right(meta.GROUP, name, verb) for verb in ("list", "watch", "patch", "delete"))
        yield Right(meta.GROUP, f"{name}/status", "patch")
    yield Right(meta.GROUP, "voicejobs", "create")
    for name in ("rendertenants", "renderproviders"):
        yield from (Right(meta.GROUP, name, verb) for verb in ("list", "watch"))
        yield Right(meta.GROUP, f"{name}/status", "patch")
    yield from (Right("batch", "jobs", verb) for verb in ("list", "watch", "create", "delete"))
    yield Right("", "pods", "list")
    for name in ("namespaces", "resourcequotas", "limitranges"):
        yield from (Right("", name, verb) for verb in ("create", "patch"))
    yield from (Right("", "resourcequotas", verb) for verb in ("list", "watch"))
    yield from (Right("networking.k8s.io", "networkpolicies", verb) for verb in ("create", "patch"))
    for name in ("roles", "rolebindings"):
        yield from (Right("rbac.authorization.k8s.io", name, verb) for verb in ("create", "patch"))
    yield from (Right("", "secrets", verb) for verb in ("create", "patch"))
    yield Right("", "secrets", "get", at_home_only=True)
    yield from (Right("coordination.k8s.io", "leases", verb, at_home_only=True) for verb in ("get", "create", "patch"))


OPERATOR_RIGHTS: Final = tuple(_rights())


def kubernetes_version(answer: Document) -> Finding:
    """By the answer to /version."""
    text = str(answer.get("gitVersion") or "unknown")
    try:
        numbers = (int(answer["major"]), int(str(answer["minor"]).rstrip("+")))
    except (KeyError, ValueError):
        return Finding("warn", "cluster", f"its version {text} cannot be read", "none is needed when all else is well")
    if numbers < OLDEST_KUBERNETES:
        wanted = ".".join(map(str, OLDEST_KUBERNETES))
        return Finding("fail", "cluster", f"Kubernetes {text} is too old", f"upgrade it to {wanted} or later")
    return Finding("ok", "cluster", f"Kubernetes {text}")


def crd(name: str, found: Document | None, wanted: Document) -> Finding:
    """A CustomResourceDefinition against the one that this program was made with."""
    what = f"kind {wanted['spec']['names']['kind']}"
    apply = "helm upgrade with this version's chart, or: kubectl apply --server-side -f crds/manifests/"
    if found is None:
        return Finding("fail", what, f"{name} is not installed", apply)
    conditions = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or ()}
    if (conditions.get("Established") or {}).get("status") != "True":
        why_not = (conditions.get("NamesAccepted") or {}).get("message") or "the API server does not serve it yet"
        return Finding("fail", what, why_not, "kubectl describe crd " + name)
    there = next((one for one in found["spec"]["versions"] if one["name"] == meta.VERSION), None)
    if there is None or not there.get("served"):
        return Finding("fail", what, f"{meta.VERSION} is not served", apply)
    differing = _differences(there, wanted["spec"]["versions"][0])
    if differing:
        return Finding("warn", what, f"is of another version than this program: {', '.join(differing)}", apply)
    return Finding("ok", what, f"installed, {meta.VERSION}")


def _differences(there: Document, wanted: Document) -> list[str]:
    """Names of the spec and status fields, and other parts, that are not the same."""
    parts = []
    for part in ("spec", "status"):
        ours = wanted["schema"]["openAPIV3Schema"]["properties"][part].get("properties") or {}
        theirs = there["schema"]["openAPIV3Schema"]["properties"].get(part, {}).get("properties") or {}
        parts += [f"{part}.{name}" for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    rules = "x-kubernetes-validations"
    if _in(there, "spec").get(rules) != _in(wanted, "spec").get(rules):
        parts.append("rules")
    parts += [name for name in ("selectableFields", "additionalPrinterColumns") if there.get(name) != wanted.get(name)]
    return parts if len(parts) <= 5 else [*parts[:5], f"and {len(parts) - 5} more"]


def _in(version: Document, part: str) -> Document:
    found: Document = version["schema"]["openAPIV3Schema"]["properties"].get(part) or {}
    return found


def deployment(what: str, found: Sequence[Document], logs: str) -> Finding:
    """Whether at least one replica of a program is ready."""
    if not found:
        return Finding(
            "warn", what, "no Deployment of it is in this cluster", "install the chart, unless it runs elsewhere"
        )
    body = found[0]
    about, status = body["metadata"], body.get("status") or {}
    ready, wanted = int(status.get("readyReplicas") or 0), int((body.get("spec") or {}).get("replicas") or 0)
    name = f"{about['namespace']}/{about['name']}"
    image = body["spec"]["template"]["spec"]["containers"][0].get("image", "")
    if wanted == 0:
        return Finding("fail", what, f"{name} is scaled to 0", f"kubectl -n {about['namespace']} scale deployment/{about['name']} --replicas=1")  # fmt: skip
    if ready == 0:
        return Finding("fail", what, f"{name} has no ready pod", logs.format(**about))
    detail = f"{name} is ready ({ready}/{wanted}, {image})"
    return Finding("ok" if ready == wanted else "warn", what, detail, "" if ready == wanted else logs.format(**about))


def lease(leases: Sequence[Document], now: datetime) -> Finding:
    """Whether some operator leads, and was heard of just now."""
    what = "operator's lease"
    if not leases:
        return Finding(
            "fail", what, "no operator has ever led in this cluster", "start the operator: install the chart"
        )
    newest = max(leases, key=lambda one: str((one.get("spec") or {}).get("renewTime") or ""))
    spec = newest.get("spec") or {}
    heard = seconds_between(moment(spec.get("renewTime")), now)
    holder = spec.get("holderIdentity") or ""
    where = newest["metadata"]["namespace"]
    if heard is None or not holder:
        return Finding("fail", what, "nobody holds it", f"kubectl -n {where} get pods: is the operator running?")
    if heard > 3 * int(spec.get("leaseDurationSeconds") or DEFAULT_LEASE_SECONDS):
        return Finding("fail", what, f"{holder} was last heard of {age(heard)} ago", f"kubectl -n {where} get pods: is the operator running?")  # fmt: skip
    return Finding("ok", what, f"{holder} leads, heard of {age(heard)} ago")


def rights(account: str, denied: Sequence[Right]) -> Finding:
    """Whether the operator's account may do all that it must."""
    if not denied:
        return Finding("ok", "operator's rights", f"{account} may do all {len(OPERATOR_RIGHTS)} things that it must")
    shown = ", ".join(one.words for one in denied[:4]) + (f" and {len(denied) - 4} more" if len(denied) > 4 else "")
    return Finding(
        "fail",
        "operator's rights",
        f"{account} may not {shown}",
        "helm upgrade: the chart's ClusterRole grants all of it",
    )


_PARTS: Final[Mapping[str, str]] = {
    "database": "check the Secret with its address, and PostgreSQL itself; renders go on meanwhile",
    "storage": "check storage.endpoint and storage.bucket of the chart, the Secret with its keys, and the storage itself",
    "kubernetes": "check the API's ServiceAccount and the network policies between its pod and the API server",
}
"""What the API stands on, and where to look when it does not answer."""


def readiness(status: int, body: Document | str) -> list[Finding]:
    """What the API says of the services behind it, one finding for each."""
    parts = body.get("parts") if isinstance(body, Mapping) else None
    if not isinstance(parts, Mapping):
        said = body if isinstance(body, str) else str(body.get("detail") or body.get("message") or "")
        return [
            Finding(
                "fail",
                "API",
                f"/readyz answered {status}: {said[:200]}",
                "the logs of the API's Deployment say why; is that address the API's?",
            )
        ]
    return [
        Finding("ok", part, "the API reaches it")
        if said == "ok"
        else Finding("fail", part, f"the API does not reach it: {said}", _PARTS.get(part, ""))
        for part, said in parts.items()
        # That the cluster answers is told already, where it could be asked.
        if part != "kubernetes" or said != "ok"
    ]


def provider(one: Provider, secret: bool | None, now: datetime) -> Finding:
    """`secret` says whether its key is where it should be; None when that may not be looked at."""
    what = f"provider {one.name}"
    if secret is False or (secret is None and "secret" in one.trouble.lower()):
        name = one.secret_name or "?"
        return Finding(
            "fail",
            what,
            one.trouble or f"the Secret {name} has no key {one.secret_key}",
            f"kubectl -n SYSTEM_NAMESPACE create secret generic {name} --from-literal={one.secret_key}=…",
        )
    if one.hold:
        return Finding("warn", what, "held by hand: nothing new is sent there", f"kubectl patch rp {one.name} --type=merge -p '{{\"spec\":{{\"hold\":false}}}}'")  # fmt: skip
    if one.held:
        return Finding("fail", what, f"the account is refused: {one.held_reason}", "put its key or its credit right; a new key is noticed by itself")  # fmt: skip
    if one.circuit in {"Open", "HalfOpen"}:
        left = seconds_between(now, one.circuit_until)
        when = f", tried again in {age(left)}" if left else ", being tried again"
        return Finding(
            "warn", what, f"its circuit is {one.circuit}{when}: {one.last_error or 'it keeps failing'}", "nothing, if the vendor is down: it closes by itself; else check spec.baseUrl"
        )  # fmt: skip
    if not one.circuit:
        return Finding("warn", what, "the operator has not looked at it yet", "is the operator running?")
    key = "its key is there" if secret else "its key was not looked at"
    return Finding("ok", what, f"circuit {one.circuit}, {key}, {one.waiting or 0} waiting")


def no_providers() -> Finding:
    """Without any, nothing can be rendered."""
    return Finding("fail", "providers", "there is no RenderProvider", "make one for each vendor: see docs/guides/, `kubectl explain rp.spec`")  # fmt: skip


def tenants(found: Sequence[Tenant]) -> Finding:
    """Whether all tenants have what they need."""
    if not found:
        return Finding("warn", "tenants", "there is no RenderTenant yet", "kubectl apply one, or POST /admin/tenants")
    bad = [one for one in found if not one.ready]
    if bad:
        said = "; ".join(f"{one.name}: {one.trouble or 'not looked at yet'}" for one in bad[:3])
        return Finding("fail", "tenants", f"{len(bad)} of {len(found)} are not ready: {said}", f"kubectl describe rt {bad[0].name}")  # fmt: skip
    return Finding("ok", "tenants", f"{plural(len(found), 'tenant')}, all ready")


def finalizers(renders: Sequence[Render], now: datetime) -> Finding:
    """Objects that cannot go, or should have been let go of long ago."""
    what = "finalizers"
    deleting = [one for one in renders if (seconds_between(one.deleting_since, now) or 0) > STUCK_SECONDS]
    kept = [
        one
        for one in renders
        if one.phase.is_final
        and meta.FINALIZER in one.finalizers
        and (seconds_between(one.finished_at, now) or 0) > STUCK_SECONDS
    ]
    stuck = deleting or kept
    if not stuck:
        return Finding("ok", what, "no object is stuck")
    first = stuck[0]
    others = sorted({name for one in stuck for name in one.finalizers} - {meta.FINALIZER})
    state = "being deleted" if deleting else "finished, and not archived,"
    detail = f"{plural(len(stuck), 'render')} {state} for more than {age(STUCK_SECONDS)}, as {first.namespace}/{first.short_ref}"
    if others:
        detail += f" (held by {', '.join(others)} too)"
    return Finding(
        "fail",
        what,
        detail,
        "the operator lets go once PostgreSQL has their history: mend database or operator first. As a last resort, history "
        f"lost: kubectl -n {first.namespace} patch {first.kind.lower()} {first.name} --type=json "
        """-p '[{"op":"remove","path":"/metadata/finalizers"}]'""",
    )


def held(renders: Sequence[Render], program: str) -> Finding:
    """Renders that wait for a person."""
    found = [one for one in renders if one.phase is Phase.HELD]
    if not found:
        return Finding("ok", "held renders", "none waits for a person")
    first = found[0]
    return Finding(
        "warn",
        "held renders",
        f"{plural(len(found), 'render')} must be decided by a person, as {first.namespace}/{first.short_ref} ({first.reason})",
        f"{program} why {first.short_ref}",
    )


def worst(findings: Iterable[Finding]) -> Verdict:
    """The one that decides the exit code."""
    order: tuple[Verdict, ...] = ("fail", "warn", "ok", "skip")
    seen = {one.verdict for one in findings}
    return next((one for one in order if one in seen), "skip")


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """For json and yaml."""
    return {"verdict": worst(findings), "findings": [one.as_document() for one in findings]}
