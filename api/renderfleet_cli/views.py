"""One picture of a render, whichever way it was asked for: a custom resource, a job of the REST API, or an event. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from renderfleet_crds.phases import Phase

from .words import moment

Document = Mapping[str, Any]

_SPELLINGS = {
    "AvatarRender": ("av", "avatar", "avatars", "avatarrender", "avatarrenders"),
    "VoiceJob": ("vj", "voice", "voices", "voicejob", "voicejobs"),
    "VideoRender": ("vr", "video", "videos", "videorender", "videorenders"),
}


@dataclass(frozen=True, slots=True)
class Render:
    """One render as it was when it was asked for."""

    kind: str
    name: str
    namespace: str
    id: str
    """UID of the object, and id of the job."""
    phase: Phase = Phase.QUEUED
    seen_by_operator: bool = True
    """False while the object has no status at all."""
    reason: str = ""
    message: str = ""
    stage: str = ""
    progress: int = 0
    attempt: int = 0
    run: int = 0
    redrive_asked: bool = False
    """Somebody asked to try it again, and the operator has not answered yet."""
    provider: str = ""
    script_provider: str = ""
    """Of a voice whose script is written first: who writes it."""
    priority: int = 100
    position: int | None = None
    eta_seconds: int | None = None
    waiting_since: datetime | None = None
    retry_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deleting_since: datetime | None = None
    not_archived: str = ""
    """Why its history is not in the archive yet, where the operator says so; only the cluster tells, REST is the archive."""
    deleted: bool = False
    """It is in the cluster no more; what is told here is the last that was seen."""
    estimated_micros: int | None = None
    actual_micros: int | None = None
    currency: str = "USD"
    charged: str = "false"
    """`true`, `false` or `unknown`, over all attempts of the run."""
    error: str = ""
    """Code of the last failure."""
    vendor_job: str = ""
    outputs: tuple[str, ...] = ()
    """Names of what was made."""
    keys: tuple[str, ...] = ()
    """Where in the bucket that is."""
    result_url: str = ""
    """A signed link to the main result, which only REST gives."""
    attempts: tuple[Document, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    raw: Document = field(default_factory=dict)
    """The document it was made from."""

    @property
    def is_over(self) -> bool:
        """Nothing more will happen to it by itself."""
        return (self.phase.is_final and not self.redrive_asked) or self.deleted

    @property
    def ended_badly(self) -> bool:
        """It is over and has no media."""
        return self.is_over and self.phase is not Phase.SUCCEEDED

    @property
    def blocking_provider(self) -> str:
        """The one that a wait is about: of two, the one whose name begins the operator's message."""
        if self.script_provider and self.message.startswith((f"{self.script_provider}:", f"{self.script_provider} ")):
            return self.script_provider
        return self.provider

    @property
    def ref(self) -> str:
        """As kubectl spells it with `-o name`."""
        return f"{self.kind.lower()}.renderfleet.dev/{self.name}"

    @property
    def short_ref(self) -> str:
        """What this program takes as a name, whatever else is called so."""
        return f"{self.kind.lower()}/{self.name}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a render would be and cost; nothing was made."""

    kind: str
    spec: Document
    """As the cluster would store it, defaults included."""
    micros: int | None = None
    """None when the provider, or its price list, is not to be seen."""
    currency: str = "USD"
    start_seconds: int | None = None
    """From now to the start, roughly; None when nobody can say."""


def from_resource(body: Document) -> Render:
    """Out of a custom resource."""
    about, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    queue, cost = status.get("queue") or {}, status.get("cost") or {}
    attempts = tuple(status.get("attempts") or ())
    run = int(status.get("run") or 0)
    failed: Document = next((one for one in reversed(attempts) if one.get("category")), {})
    return Render(
        kind=body["kind"],
        name=about["name"],
        namespace=about.get("namespace", ""),
        id=about.get("uid", ""),
        phase=Phase(status.get("phase") or Phase.QUEUED),
        seen_by_operator=bool(status.get("phase")),
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        stage=status.get("stage") or "",
        progress=int(status.get("progress") or 0),
        attempt=int(status.get("attempt") or 0),
        run=run,
        redrive_asked=int(spec.get("redrive") or 0) > run,
        provider=spec.get("provider") or "",
        script_provider=(spec.get("scriptProvider") or "") if spec.get("prompt") else "",
        priority=int(spec.get("priority", 100)),
        position=queue.get("position"),
        eta_seconds=queue.get("etaSeconds"),
        waiting_since=moment(queue.get("since") or status.get("queuedAt") or about.get("creationTimestamp")),
        retry_at=moment(status.get("retryAt")),
        created_at=moment(about.get("creationTimestamp")),
        started_at=moment(status.get("startedAt")),
        finished_at=moment(status.get("finishedAt")),
        deleting_since=moment(about.get("deletionTimestamp")),
        not_archived=_not_archived(status),
        estimated_micros=cost.get("estimatedMicros"),
        actual_micros=cost.get("actualMicros"),
        currency=cost.get("currency") or "USD",
        charged=charged_of(attempts),
        error=failed.get("code") or "",
        vendor_job=(status.get("provider") or {}).get("jobId") or "",
        outputs=tuple(one["name"] for one in status.get("outputs") or ()),
        keys=tuple(one["key"] for one in status.get("outputs") or ()),
        attempts=attempts,
        labels=about.get("labels") or {},
        finalizers=tuple(about.get("finalizers") or ()),
        raw=body,
    )


def _not_archived(status: Document) -> str:
    told = next((one for one in status.get("conditions") or () if one["type"] == "Archived"), None)
    return str(told["message"]) if told and told["status"] == "False" else ""


def from_job(job: Document) -> Render:
    """Out of a job as the REST API shows it."""
    queue, cost, error = job.get("queue") or {}, job.get("cost") or {}, job.get("error") or {}
    attempts = tuple(job.get("attemptLog") or ())
    return Render(
        kind=job["kind"],
        name=job["name"],
        namespace=job.get("namespace") or "",
        id=job["id"],
        phase=Phase(job["status"]),
        seen_by_operator=bool(job.get("reason")),
        reason=job.get("reason") or "",
        message=job.get("message") or "",
        stage=job.get("stage") or "",
        progress=int(job.get("progress") or 0),
        attempt=int(job.get("attempts") or 0),
        run=int(job.get("run") or 0),
        provider=job.get("provider") or "",
        priority=int(job.get("priority", 100)),
        position=queue.get("position"),
        eta_seconds=queue.get("etaSeconds"),
        waiting_since=moment(queue.get("since") or job.get("createdAt")),
        created_at=moment(job.get("createdAt")),
        started_at=moment(job.get("startedAt")),
        finished_at=moment(job.get("finishedAt")),
        deleted=bool(job.get("deletedAt")),
        estimated_micros=cost.get("estimatedMicros"),
        actual_micros=cost.get("actualMicros"),
        currency=cost.get("currency") or "USD",
        charged=error.get("charged") or charged_of(attempts),
        error=error.get("code") or "",
        outputs=tuple(one["name"] for one in job.get("outputs") or ()),
        keys=tuple(one["key"] for one in job.get("outputs") or ()),
        result_url=job.get("resultUrl") or "",
        attempts=attempts,
        labels=job.get("labels") or {},
        raw=job,
    )


def after_event(render: Render, event: Document) -> Render:
    """The render after an event of the REST API, which tells of it in short."""
    told = from_job({"name": render.name, "kind": render.kind, **event})
    return replace(
        render,
        phase=told.phase,
        seen_by_operator=told.seen_by_operator,
        reason=told.reason,
        message=told.message,
        stage=told.stage,
        progress=told.progress,
        attempt=told.attempt,
        run=told.run,
        redrive_asked=render.redrive_asked and told.run <= render.run,
        position=told.position,
        eta_seconds=told.eta_seconds,
        error=told.error,
        charged=told.charged if event.get("error") else render.charged,
    )


def charged_of(attempts: Iterable[Document]) -> str:
    """`true` when an attempt cost money, else `unknown` when one may have, else `false`."""
    said = {one.get("charged", "false") for one in attempts}
    return "true" if "true" in said else "unknown" if "unknown" in said else "false"


@dataclass(frozen=True, slots=True)
class Provider:
    """One vendor account and how the vendor is doing."""

    name: str
    vendor: str = ""
    hold: bool = False
    """Held by hand, in its spec."""
    circuit: str = ""
    circuit_until: datetime | None = None
    held: bool = False
    held_reason: str = ""
    in_flight: int | None = None
    in_flight_limit: int | None = None
    waiting: int | None = None
    tokens: int | None = None
    last_error: str = ""
    last_error_at: datetime | None = None
    trouble: str = ""
    """What its Ready condition says while it is not True."""
    secret_name: str = ""
    secret_key: str = ""
    base_url: str = ""


def provider_from_resource(body: Document) -> Provider:
    """Out of a RenderProvider."""
    spec = body.get("spec") or {}
    secret = spec.get("secretRef") or {}
    return _provider(
        name=body["metadata"]["name"],
        vendor=spec.get("vendor") or "",
        hold=bool(spec.get("hold")),
        limits=spec.get("limits") or {},
        status=body.get("status") or {},
        secret=(secret.get("name") or "", secret.get("key") or "api-key"),
        base_url=spec.get("baseUrl") or "",
    )


def provider_from_api(answer: Document) -> Provider:
    """Out of the REST API's answer to an administrator."""
    return _provider(
        name=answer["name"],
        vendor=answer.get("vendor") or "",
        hold=bool(answer.get("hold")),
        limits=answer.get("limits") or {},
        status=answer.get("status") or {},
    )


def _provider(
    *,
    name: str,
    vendor: str,
    hold: bool,
    limits: Document,
    status: Document,
    secret: tuple[str, str] = ("", ""),
    base_url: str = "",
) -> Provider:
    allowed = [one for one in (limits.get("inFlight"), status.get("learnedInFlight")) if one is not None]
    return Provider(
        name=name,
        vendor=vendor,
        hold=hold,
        circuit=status.get("circuit") or "",
        circuit_until=moment(status.get("circuitUntil")),
        held=bool(status.get("held")),
        held_reason=status.get("heldReason") or "",
        in_flight=status.get("inFlight"),
        in_flight_limit=min(allowed) if allowed else None,
        waiting=status.get("waiting"),
        tokens=status.get("tokens"),
        last_error=status.get("lastError") or "",
        last_error_at=moment(status.get("lastErrorAt")),
        trouble=_not_ready(status)[1],
        secret_name=secret[0],
        secret_key=secret[1],
        base_url=base_url,
    )


@dataclass(frozen=True, slots=True)
class Tenant:
    """One user of the fleet."""

    name: str
    namespace: str
    weight: int = 100
    concurrency: int | None = None
    spent_micros: int | None = None
    budget_micros: int | None = None
    budget_month: str = ""
    ready: bool = False
    trouble: str = ""
    """What its Ready condition says while it is not True."""


def tenant_from(name: str, spec: Document, status: Document) -> Tenant:
    """Out of a RenderTenant's parts, which both doors show alike."""
    ready, trouble = _not_ready(status)
    return Tenant(
        name=name,
        namespace=status.get("namespace") or spec.get("namespace") or f"rf-{name}",
        weight=int(spec.get("weight", 100)),
        concurrency=spec.get("concurrency", 4),
        spent_micros=status.get("spentMicros"),
        budget_micros=spec.get("monthlyBudgetMicros"),
        budget_month=status.get("budgetMonth") or "",
        ready=ready,
        trouble=trouble,
    )


def _not_ready(status: Document) -> tuple[bool, str]:
    """Whether a Ready condition is True, and what it says when it is there and is not."""
    found = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), None)
    if found is None:
        return False, ""
    return found["status"] == "True", "" if found["status"] == "True" else found.get("message") or found["reason"]


@dataclass(frozen=True, slots=True)
class Quota:
    """Runner pods of a tenant: in use, and allowed at a time."""

    used: int
    hard: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else is known; a door shows only what its caller may see, so each may be missing."""

    provider: Provider | None = None
    quota: Quota | None = None
    tenant: Tenant | None = None
    program: str = "renderfleet"
    """How this program is called, for the commands in the text."""


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody typed to name a render."""

    name: str
    kind: str | None = None

    def fits(self, render: Render) -> bool:
        """Whether it may mean this one: by its name, or by its id."""
        return self.kind in {None, render.kind} and self.name in {render.name, render.id}


def kind_called(word: str) -> str | None:
    """The kind that goes by this word: `vj`, `voice`, `voicejobs`, `voicejob.renderfleet.dev` …; None for no kind."""
    plain = word.lower().removesuffix(".renderfleet.dev")
    return next((kind for kind, spellings in _SPELLINGS.items() if plain in spellings), None)


def parse_names(words: Sequence[str]) -> list[Named]:
    """What `greeting`, `vj/greeting` or `voicejob.renderfleet.dev/greeting` mean.

    Raises ValueError for a kind that there is not: taken for a name, it would only ever be "not found".
    """
    out = []
    for word in words:
        kind_word, slash, name = word.rpartition("/")
        kind = kind_called(kind_word) if slash else None
        if (slash and kind is None) or not name:
            raise ValueError(f"{word}: write it as NAME or KIND/NAME, where KIND is avatar, voice or video")
        out.append(Named(name, kind))
    return out


def parse_selector(text: str) -> dict[str, str]:
    """Label requirements that are all equalities: `team=blue,shot==4`. Raises ValueError for any other operator."""
    wanted = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, found, value = part.replace("==", "=").partition("=")
        if not found or not name or name.endswith("!"):
            raise ValueError(f"{part}: over REST only name=value is understood")
        wanted[name.strip()] = value.strip()
    return wanted
