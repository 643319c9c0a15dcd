"""Who waits for what, and what runs where: three small tables out of renders, Jobs, quotas and providers. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

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

    def reason(self) -> str:
        """The commonest reason to wait, and how many have it."""
        if not self.reasons:
            return ""
        word, count = self.reasons.most_common(1)[0]
        return word if count == self.waiting else f"{word} ({count} of {self.waiting})"


def pool_of(render: Render) -> str:
    """The pool that its next or present runner belongs to, as a rule."""
    return _USUAL_POOLS.get(render.stage or _FIRST_STAGES.get(render.kind, ""), "?")


def pools_table(fleet: Fleet, now: datetime) -> str:
    """Runner pods and waiting renders by pool."""
    lines: dict[str, Line] = {name: Line() for name in ("image-gen", "video-gen", "postprocess")}
    for one in fleet.renders:
        lines.setdefault(pool_of(one), Line()).add(one)
    if fleet.jobs is not None:
        # Jobs say for sure; a pool by stage is only the usual one.
        active = Counter(_pool_label(job) for job in fleet.jobs if (job.get("status") or {}).get("active"))
        for name in {*lines, *active}:
            lines.setdefault(name, Line()).running = active[name]
    rows: list[list[Cell]] = [
        [name, one.running, one.waiting, age(seconds_between(one.oldest, now)), one.reason()]
        for name, one in lines.items()
    ]
    return text_table(["POOL", "RUNNING", "WAITING", "OLDEST", "REASON"], rows)


def tenants_table(fleet: Fleet, now: datetime) -> str:
    """Renders by tenant, against what each may run at a time; the longest queue first."""
    known = {one.namespace: one for one in fleet.tenants or ()}
    names = {namespace: one.name for namespace, one in known.items()}
    lines: dict[str, Line] = {namespace: Line() for namespace in known}
    for one in fleet.renders:
        lines.setdefault(one.namespace, Line()).add(one)
    rows: list[list[Cell]] = []
    for namespace, line in sorted(lines.items(), key=lambda item: (-item[1].waiting, -item[1].running, item[0])):
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
                line.reason(),
            ]
        )
    heads = ["TENANT", "RUNNING", "WITH VENDOR", "WAITING", "HELD", "PODS", "WEIGHT", "OLDEST", "REASON"]
    return text_table(heads, rows)


def providers_table(fleet: Fleet, now: datetime) -> str:
    """Renders by provider, and how the provider is doing where that may be seen."""
    known = {one.name: one for one in fleet.providers or ()}
    lines: dict[str, Line] = {name: Line() for name in known}
    for one in fleet.renders:
        lines.setdefault(one.provider or "?", Line()).add(one)
    rows: list[list[Cell]] = []
    for name, line in sorted(lines.items(), key=lambda item: (-item[1].waiting, item[0])):
        one_known = known.get(name)
        rows.append(
            [
                name,
                state_of(one_known, now) if one_known else "",
                _in_flight(one_known, line),
                one_known.tokens if one_known else "",
                line.waiting,
                age(seconds_between(line.oldest, now)),
                line.reason(),
            ]
        )
    return text_table(["PROVIDER", "STATE", "IN FLIGHT", "STARTS LEFT", "WAITING", "OLDEST", "REASON"], rows)


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


def screen(fleet: Fleet, now: datetime) -> str:
    """All three, one under the other."""
    return "\n\n".join((pools_table(fleet, now), tenants_table(fleet, now), providers_table(fleet, now)))
