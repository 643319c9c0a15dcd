"""What clients see: rows as JSON, with links to media that are signed at this moment."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import RowMapping

from renderfleet_crds.phases import Phase
from renderfleet_store.documents import PRIMARY_OUTPUT, error_of
from renderfleet_store.jobs import Place
from renderfleet_store.media import MediaStore

from .problems import invalid_field

T = TypeVar("T")
Row = Mapping[str, Any] | RowMapping


class View(BaseModel):
    """The base of answers."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True)


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    # Attribute docstrings are read from a class statement, which Page[Job] in a signature is not.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    items: list[T]
    next_cursor: Annotated[
        str | None, Field(description="Give it back as `cursor` for the next part; absent at the end.")
    ] = None


class JobError(View):
    """What went wrong."""

    code: str
    """Stable, for programs: the vendor's code or our reason."""
    category: str | None = None
    message: str
    retryable: bool
    """False when the same input would fail again."""
    charged: str
    """Whether the run cost money: `true`, `false` or `unknown`."""


class Media(View):
    """A stored file and where to read it for a while."""

    name: str
    """`image-1`, `thumbnail-1`, `speech`, `video`, `poster` …"""
    key: str
    """Its place in the bucket; stays valid, unlike the link."""
    content_type: str
    bytes: int
    sha256: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    duration_seconds: float | None = None
    loudness_lufs: float | None = None
    provenance: str | None = None
    url: str
    url_expires_at: datetime


class JobLinks(View):
    """Where to go from here."""

    self: str
    events: str
    cancel: str
    retry: str


class QueueView(View):
    """Where a waiting job stands."""

    position: int | None = None
    since: str | None = None
    eta_seconds: int | None = None
    reason: str | None = None


class CostView(View):
    """Money, in millionths of a currency unit."""

    estimated_micros: int | None = None
    actual_micros: int | None = None
    currency: str = "USD"


class AttemptView(View):
    """One start of one stage."""

    run: int = 0
    number: int
    stage: str
    started_at: str | None = None
    ended_at: str | None = None
    category: str | None = None
    code: str | None = None
    message: str | None = None
    charged: str = "false"


class Job(View):
    """One render, as it is now."""

    id: str
    kind: str
    name: str
    namespace: str
    provider: str
    status: Annotated[str, Field(json_schema_extra={"enum": [one.value for one in Phase]})]
    reason: str | None = None
    """Why it is in this status: one word for programs."""
    message: str | None = None
    stage: str | None = None
    progress: int
    """Per cent; 100 only at success."""
    attempts: int
    """Starts of the current stage."""
    run: int
    """How often it was tried again after an end."""
    attempt_log: list[AttemptView] = []
    queue: QueueView | None = None
    cost: CostView | None = None
    error: JobError | None = None
    result_url: str | None = None
    """The main result, readable until resultUrlExpiresAt; each GET signs a new one."""
    result_url_expires_at: datetime | None = None
    outputs: list[Media] = []
    script: str | None = None
    """What was spoken, when it was written from a prompt."""
    labels: dict[str, str] = {}
    client_reference: str | None = None
    priority: int
    trace_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deleted_at: datetime | None = None
    """When the object left the cluster; what is told here outlives it."""
    links: JobLinks


class Estimate(View):
    """What a request would do; nothing was made."""

    dry_run: bool = True
    kind: str
    spec: dict[str, Any]
    """As the cluster would store it, defaults included: the request is valid."""
    cost: CostView
    usage: dict[str, int]
    """What the vendor would probably count, by its units."""
    start_seconds: int | None = None
    """From now to the start, roughly; absent when nobody can say."""


class Avatar(View):
    """A saved face."""

    id: str
    name: str | None = None
    preferred: bool
    key: str
    content_type: str
    bytes: int
    width_px: int | None = None
    height_px: int | None = None
    job_id: str | None = None
    job_index: int | None = None
    url: str
    url_expires_at: datetime
    created_at: datetime


class Recording(View):
    """Finished speech."""

    id: str
    """Its job's id: usable as voiceJobId."""
    name: str
    key: str
    content_type: str
    bytes: int
    sha256: str
    duration_seconds: float | None = None
    loudness_lufs: float | None = None
    voice_id: str | None = None
    script: str | None = None
    url: str
    url_expires_at: datetime
    created_at: datetime


class Video(View):
    """A finished talking video."""

    id: str
    """Its job's id."""
    name: str
    key: str
    content_type: str
    bytes: int
    sha256: str
    duration_seconds: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    url: str
    poster_url: str | None = None
    url_expires_at: datetime
    created_at: datetime


class Presenter:
    """Turns rows into views; holds what links need."""

    def __init__(self, media: MediaStore, *, public_url: str, ttl_seconds: int) -> None:
        self._media = media
        self._base = public_url.rstrip("/")
        self._ttl = ttl_seconds

    def job(self, row: Row) -> Job:
        """One job with fresh links."""
        status = row["status"]
        until = self._until()
        is_final = Phase(row["phase"]).is_final
        outputs = [self._output(row, one, until) for one in status.get("outputs") or []]
        main = PRIMARY_OUTPUT.get(row["kind"])
        result = next((one.url for one in outputs if one.name == main), None)
        error = error_of(dict(row))
        here = f"{self._base}/jobs/{row['uid']}"
        return Job(
            id=row["uid"],
            kind=row["kind"],
            name=row["name"],
            namespace=row["namespace"],
            provider=row["provider"],
            status=row["phase"],
            reason=row["reason"],
            message=row["message"],
            stage=row["stage"],
            progress=row["progress"],
            attempts=row["attempt"],
            run=row["run"],
            attempt_log=[AttemptView.model_validate(one) for one in status.get("attempts") or []],
            queue=QueueView.model_validate(status["queue"]) if status.get("queue") and not is_final else None,
            cost=CostView.model_validate(status["cost"]) if status.get("cost") else None,
            error=JobError.model_validate(error) if error else None,
            result_url=result,
            result_url_expires_at=until if result else None,
            outputs=outputs,
            script=status.get("script"),
            labels={k: v for k, v in row["labels"].items() if not k.startswith("renderfleet.dev/")},
            client_reference=row["client_reference"],
            priority=row["spec"].get("priority", 100),
            trace_id=row["trace_id"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            deleted_at=row.get("deleted_at"),
            links=JobLinks(self=here, events=f"{here}/events", cancel=f"{here}/cancel", retry=f"{here}/retry"),
        )

    def avatar(self, row: Row) -> Avatar:
        """One avatar with a fresh link."""
        until = self._until()
        return Avatar(
            **{name: row[name] for name in ("id", "name", "preferred", "key", "content_type", "bytes")},
            **{name: row[name] for name in ("width_px", "height_px", "job_index", "created_at")},
            job_id=row["job_uid"],
            url=self._media.presign_get(row["key"], self._ttl),
            url_expires_at=until,
        )

    def recording(self, row: Row) -> Recording:
        """One recording with a fresh link."""
        known = {name: row[name] for name in Recording.model_fields if name in row and name != "id"}
        return Recording(
            id=row["uid"], url=self._media.presign_get(row["key"], self._ttl), url_expires_at=self._until(), **known
        )

    def video(self, row: Row) -> Video:
        """One video with fresh links."""
        known = {name: row[name] for name in Video.model_fields if name in row and name != "id"}
        poster = row["poster_key"]
        return Video(
            id=row["uid"],
            url=self._media.presign_get(row["key"], self._ttl),
            poster_url=self._media.presign_get(poster, self._ttl) if poster else None,
            url_expires_at=self._until(),
            **known,
        )

    def _output(self, row: Row, output: dict[str, Any], until: datetime) -> Media:
        suffix = PurePosixPath(output["key"]).suffix
        name = f"{row['name']}-{output['name']}{suffix}"
        return Media.model_validate(
            {
                **output,
                "url": self._media.presign_get(output["key"], self._ttl, download_name=name),
                "urlExpiresAt": until,
            }
        )

    def _until(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self._ttl)


def version_of(row: Row) -> list[Any]:
    """What changes whenever a job does."""
    return [row["uid"], row["resource_version"], row["deleted_at"]]


def cursor_of(row: Row, identity: str) -> str:
    """An opaque text that says where a page ended."""
    return base64.urlsafe_b64encode(orjson.dumps([row["created_at"], row[identity]])).decode().rstrip("=")


def place_of(cursor: str | None) -> Place | None:
    """What cursor_of said. Raises InvalidRequest for a cursor that is none of ours."""
    if cursor is None:
        return None
    try:
        at, identity = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return Place(datetime.fromisoformat(at), str(identity))
    except (ValueError, TypeError, binascii.Error) as broken:
        raise invalid_field("cursor", "not a cursor that this API gave out") from broken


def page_of(rows: Sequence[Row], limit: int, identity: str, make: Any) -> Any:
    """A page of `limit` items out of up to `limit + 1` rows; the extra one only says that there is more."""
    shown = rows[:limit]
    more = len(rows) > limit
    return {"items": [make(row) for row in shown], "next_cursor": cursor_of(shown[-1], identity) if more else None}
