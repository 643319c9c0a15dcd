"""The tables. A row of `jobs` mirrors one custom resource and outlives it; the resource is the truth, the row a copy.

Tenants are told apart by namespace: a name that Kubernetes gives out once and no label can forge.
`alembic` compares these definitions with the migrations in a test.
"""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _time(name: str, *, now: bool = False, **more: Any) -> Column[Any]:
    if now:
        more |= {"server_default": func.now(), "nullable": False}
    return Column(name, DateTime(timezone=True), **more)


users: Final = Table(
    "users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("namespace", Text, nullable=False, unique=True),
    _time("created_at", now=True),
    comment="Tenants, one row per RenderTenant that ever got a key",
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("users.name", ondelete="CASCADE"), index=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, comment="The first characters, for people to know a key by"),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="HMAC-SHA256 under the server's secret"),
    Column("scopes", ARRAY(Text), nullable=False),
    _time("created_at", now=True),
    _time("expires_at"),
    _time("last_used_at"),
    _time("retired_at"),
    _time("revoked_at"),
    comment="A key without a tenant belongs to an administrator",
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("uid", Text, comment="The render that the first request made; empty while it is in flight"),
    _time("created_at", now=True),
    _time("locked_until", nullable=False, comment="Past it, a request in flight counts as dead and may be taken over"),
    Index(None, "created_at"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("reason", Text),
    Column("message", Text),
    Column("stage", Text),
    Column("progress", Integer, nullable=False),
    Column("run", Integer, nullable=False, comment="How often it was redriven"),
    Column("attempt", Integer, nullable=False),
    Column("queue_position", Integer),
    Column("client_reference", Text),
    Column("trace_id", Text),
    Column("labels", JSONB, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("status", JSONB, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    _time("created_at", nullable=False),
    _time("started_at"),
    _time("finished_at"),
    _time("deleted_at", comment="When the custom resource was seen to be gone"),
    _time("updated_at", now=True),
    Column("phase_before", Text, comment="Phase before the latest write"),
    Column("looks_new", Boolean, nullable=False, server_default=text("true"), comment="Whether that write can be seen"),
    Index("ix_jobs_page", "namespace", "created_at", "uid"),
    Index("ix_jobs_page_by_kind", "namespace", "kind", "created_at", "uid"),
    Index("ix_jobs_page_by_phase", "namespace", "phase", "created_at", "uid"),
    Index(
        "ix_jobs_under_way", "namespace", "phase", postgresql_where=text("finished_at IS NULL AND deleted_at IS NULL")
    ),
    Index("ix_jobs_present", "uid", postgresql_where=text("deleted_at IS NULL")),
    Index("ix_jobs_dead_letters", "created_at", "uid", postgresql_where=text("phase = 'DeadLettered'")),
    Index("ix_jobs_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
)

job_ends: Final = Table(
    "job_ends",
    metadata,
    Column("uid", Text, ForeignKey("jobs.uid", ondelete="CASCADE"), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("phase", Text, nullable=False),
    _time("finished_at", nullable=False),
    _time("recorded_at", now=True),
    Index(None, "recorded_at"),
    comment="The end of each run, written once, together with its event, outbox and usage rows",
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True, comment="Also the id of a server-sent event"),
    Column("namespace", Text, nullable=False),
    Column("uid", Text, ForeignKey("jobs.uid", ondelete="CASCADE"), nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False, comment="What the job looked like then"),
    _time("created_at", now=True),
    Index(None, "namespace", "seq"),
    Index(None, "uid", "seq"),
    Index(None, "created_at"),
    comment="Within one namespace, numbers become visible in their order: writers hold its advisory lock",
)

avatars: Final = Table(
    "avatars",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text),
    Column("preferred", Boolean, nullable=False, server_default=text("false")),
    Column("key", Text, nullable=False, unique=True),
    Column("content_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("job_uid", Text, comment="The AvatarRender it was chosen from"),
    Column("job_index", Integer),
    _time("created_at", now=True),
    Index("ix_avatars_page", "namespace", "created_at", "id"),
    Index("uq_avatars_preferred", "namespace", unique=True, postgresql_where=text("preferred")),
)

voice_assets: Final = Table(
    "voice_assets",
    metadata,
    Column("uid", Text, ForeignKey("jobs.uid", ondelete="CASCADE"), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("duration_seconds", Double),
    Column("loudness_lufs", Double),
    Column("voice_id", Text),
    Column("script", Text),
    _time("created_at", nullable=False),
    Index("ix_voice_assets_page", "namespace", "created_at", "uid"),
    comment="Speech of succeeded VoiceJobs",
)

videos: Final = Table(
    "videos",
    metadata,
    Column("uid", Text, ForeignKey("jobs.uid", ondelete="CASCADE"), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("duration_seconds", Double),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("poster_key", Text),
    _time("created_at", nullable=False),
    Index("ix_videos_page", "namespace", "created_at", "uid"),
    comment="Results of succeeded VideoRenders",
)

usage: Final = Table(
    "usage",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("micros", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    _time("finished_at", nullable=False),
    Index(None, "namespace", "finished_at"),
    comment="What each run cost, in millionths of its currency",
)

webhook_endpoints: Final = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("description", Text),
    Column("types", ARRAY(Text), nullable=False, comment="Event types to send; empty means all"),
    Column("secrets", ARRAY(LargeBinary), nullable=False, comment="Sealed; the first signs, older ones sign along"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),
    _time("failing_since", comment="Since when no delivery has succeeded"),
    _time("secret_rotated_at", comment="The older secret signs along for a day from then"),
    _time("created_at", now=True),
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True, comment="Sent as webhook-id; the same over all tries"),
    Column("namespace", Text, nullable=False),
    Column("uid", Text),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    _time("created_at", now=True),
    Index(None, "namespace", "created_at"),
    comment="What happened, for those who want to be told",
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("endpoint_id", Text, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", Text, ForeignKey("outbox.id", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    _time("next_at", now=True),
    Column(
        "log", JSONB, nullable=False, server_default=text("'[]'"), comment="Each try: when, status or error, how long"
    ),
    _time("created_at", now=True),
    CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state"),
    Index("ix_deliveries_due", "next_at", postgresql_where=text("state = 'pending'")),
    Index(None, "endpoint_id", "id"),
    Index(None, "event_id"),
    comment="One event on its way to one endpoint",
)
