"""Who waits for what, and what runs where: by pool, tenant and provider, out of renders, Jobs and quotas. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from renderfleet_crds import meta
from renderfleet_crds.phases import Phase

from .costs import tenant_name
from .tables import Cell, text_table
from .views import Document, Provider, Quota, Render, Tenant
from .words import age, seconds_between

_USUAL_POOLS: Final = {
    "generate": "image-gen",
    "synthesize": "postprocess",
    "start": "video-gen",
    "poll": "postprocess",
    "finalize": "postprocess",
}
"""Where the operator sends a stage unless its settings say otherwise; a video that is polled goes to finalize next."""
_FIRST_STAGES: Final = {"AvatarRender": "generate", "VoiceJob": "synthesize", "VideoRender": "start"}
_WAITING: Final = frozenset({Phase.QUEUED, Phase.RETRYING})
_RUNNING: Final = frozenset({Phase.RUNNING, Phase.FINALIZING})


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the tables are made from; a part is None when these credentials may not see it."""

    renders: Sequence[Render]
    """Those that are not over."""
    providers: Sequence[Provider] | None = None
    tenants: Sequence[Tenant] | None = None
    quotas: Mapping[str, Quota] | None = None
    """By namespace."""
    jobs: Sequence[Document] | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How the tables are shown."""

    wide: bool = False
    headers: bool = True


@dataclass(slots=True)
class Line:
    """The renders of one pool, tenant or provider."""

    running: int = 0
    with_vendor: int = 0
    waiting: int = 0
    held: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    oldest: datetime | None = None

    def add(self, render: Render) -> None:
        """Count one."""
        self.running += render.phase in _RUNNING
        self.with_vendor += render.phase is Phase.WAITING
        self.held += render.phase is Phase.HELD
        if render.phase in _WAITING:
            self.waiting += 1
            self.reasons[render.reason or "New"] += 1
            since = render.waiting_since
            if since and (self.oldest is None or since < self.oldest):
                self.oldest = since

    def reason(self, *, wide: bool) -> str:
        """The commonest reason to wait, and how many have it; `wide`, all of them."""
        said = [
            word if count == self.waiting else f"{word} ({count} of {self.waiting})"
            for word, count in self.reasons.most_common()
        ]
        return ", ".join(said if wide else said[:1])

    def as_document(self) -> dict[str, Any]:
        """For json and yaml."""
        return {
            "running": self.running,
            "withVendor": self.with_vendor,
            "waiting": self.waiting,
            "held": self.held,
            "waitingSince": self.oldest.isoformat().replace("+00:00", "Z") if self.oldest else None,
            "reasons": dict(self.reasons.most_common()),
        }


def pool_of(render: Render) -> str:
    """The pool that its next or present runner belongs to, as a rule."""
    return _USUAL_POOLS.get(render.stage or _FIRST_STAGES.get(render.kind, ""), "?")


def by_pool(fleet: Fleet) -> dict[str, Line]:
    """Runner pods and waiting renders by pool."""
    lines: dict[str, Line] = {name: Line() for name in ("image-gen", "video-gen", "postprocess")}
    for one in fleet.renders:
        lines.setdefault(pool_of(one), Line()).add(one)
    if fleet.jobs is not None:
        # Jobs say for sure; a pool by stage is only the usual one.
        active = Counter(_pool_label(job) for job in fleet.jobs if (job.get("status") or {}).get("active"))
        for name in {*lines, *active}:
            lines.setdefault(name, Line()).running = active[name]
    return lines


def by_tenant(fleet: Fleet) -> dict[str, Line]:
    """Renders by the tenant's namespace, the longest queue first; idle tenants too."""
    lines: dict[str, Line] = {one.namespace: Line() for one in fleet.tenants or ()}
    for one in fleet.renders:
        lines.setdefault(one.namespace, Line()).add(one)
    return dict(sorted(lines.items(), key=lambda item: (-item[1].waiting, -item[1].running, item[0])))


def by_provider(fleet: Fleet) -> dict[str, Line]:
    """Renders by the provider's name, the longest queue first; idle providers too."""
    lines: dict[str, Line] = {one.name: Line() for one in fleet.providers or ()}
    for one in fleet.renders:
        lines.setdefault(one.provider or "?", Line()).add(one)
    return dict(sorted(lines.items(), key=lambda item: (-item[1].waiting, item[0])))


def pools_table(fleet: Fleet, now: datetime, look: Look = Look()) -> str:
    """How each pool is doing."""
    rows: list[list[Cell]] = [
        [name, one.running, one.waiting, age(seconds_between(one.oldest, now)), one.reason(wide=look.wide)]
        for name, one in by_pool(fleet).items()
    ]
    return text_table(["POOL", "RUNNING", "WAITING", "OLDEST", "REASON"], rows, headers=look.headers)


def tenants_table(fleet: Fleet, now: datetime, look: Look = Look()) -> str:
    """How each tenant is doing, against what it may run at a time."""
    known = {one.namespace: one for one in fleet.tenants or ()}
    names = _names(fleet)
    rows: list[list[Cell]] = []
    for namespace, line in by_tenant(fleet).items():
        tenant, quota = known.get(namespace), (fleet.quotas or {}).get(namespace)
        pods = f"{quota.used}/{quota.hard}" if quota else ""
        rows.append(
            [
                tenant_name(namespace, names),
                line.running,
                line.with_vendor,
                line.waiting,
                line.held,
                pods,
                tenant.weight if tenant else "",
                age(seconds_between(line.oldest, now)),
                line.reason(wide=look.wide),
            ]
        )
    heads = ["TENANT", "RUNNING", "WITH VENDOR", "WAITING", "HELD", "PODS", "WEIGHT", "OLDEST", "REASON"]
    return text_table(heads, rows, headers=look.headers)


def providers_table(fleet: Fleet, now: datetime, look: Look = Look()) -> str:
    """How each provider is doing, as far as that may be seen."""
    known = {one.name: one for one in fleet.providers or ()}
    rows: list[list[Cell]] = []
    for name, line in by_provider(fleet).items():
        one_known = known.get(name)
        rows.append(
            [
                name,
                state_of(one_known, now) if one_known else "",
                _in_flight(one_known, line),
                one_known.tokens if one_known else "",
                line.waiting,
                age(seconds_between(line.oldest, now)),
                line.reason(wide=look.wide),
            ]
        )
    heads = ["PROVIDER", "STATE", "IN FLIGHT", "STARTS LEFT", "WAITING", "OLDEST", "REASON"]
    return text_table(heads, rows, headers=look.headers)


def state_of(provider: Provider, now: datetime) -> str:
    """Held, or the circuit, and until when."""
    if provider.hold:
        return "Held by hand"
    if provider.held:
        return "Held"
    if provider.circuit == "Open" and provider.circuit_until:
        return f"Open, {age(seconds_between(now, provider.circuit_until))} left"
    return provider.circuit or "not seen yet"


def _in_flight(provider: Provider | None, line: Line) -> str:
    if provider is None or provider.in_flight is None:
        return str(line.running + line.with_vendor)
    return f"{provider.in_flight}/{provider.in_flight_limit}" if provider.in_flight_limit else str(provider.in_flight)


def _pool_label(job: Document) -> str:
    return str((job["metadata"].get("labels") or {}).get(meta.POOL_LABEL) or "?")


def _names(fleet: Fleet) -> dict[str, str]:
    return {one.namespace: one.name for one in fleet.tenants or ()}


def screen(fleet: Fleet, now: datetime, look: Look = Look()) -> str:
    """All three tables, one under the other."""
    tables = (pools_table, tenants_table, providers_table)
    return "\n\n".join(table(fleet, now, look) for table in tables)


def refs(fleet: Fleet) -> list[str]:
    """Their names, tenants and providers as kubectl takes them."""
    names = _names(fleet)
    return [
        *(f"pool/{name}" for name in by_pool(fleet)),
        *(f"rendertenant.{meta.GROUP}/{tenant_name(namespace, names)}" for namespace in by_tenant(fleet)),
        *(f"renderprovider.{meta.GROUP}/{name}" for name in by_provider(fleet)),
    ]


def document(fleet: Fleet, now: datetime) -> dict[str, Any]:
    """For json and yaml. A number that these credentials may not see is null."""
    names, known = _names(fleet), {one.name: one for one in fleet.providers or ()}
    tenants, providers = [], []
    for namespace, line in by_tenant(fleet).items():
        quota = (fleet.quotas or {}).get(namespace)
        pods = {"podsUsed": quota.used if quota else None, "podsAllowed": quota.hard if quota else None}
        about = {"name": tenant_name(namespace, names), "namespace": namespace}
        tenants.append({**about, **pods, **line.as_document()})
    for name, line in by_provider(fleet).items():
        one = known.get(name)
        state = {
            "state": state_of(one, now) if one else None,
            "inFlight": one.in_flight if one else None,
            "inFlightAllowed": one.in_flight_limit if one else None,
            "startsLeft": one.tokens if one else None,
        }
        providers.append({"name": name, **state, **line.as_document()})
    return {
        "pools": [{"name": name, **line.as_document()} for name, line in by_pool(fleet).items()],
        "tenants": tenants,
        "providers": providers,
    }
