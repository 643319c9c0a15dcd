"""What an administrator may change about the API; read once from RENDERFLEET_*."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ApiSettings(BaseSettings):
    """Settings of the API process; secrets have no default."""

    model_config = SettingsConfigDict(env_prefix="RENDERFLEET_", frozen=True, use_attribute_docstrings=True)

    database_url: str
    """Primary, perhaps through PgBouncer in transaction mode: `postgresql+psycopg://user:password@host/database`."""
    database_direct_url: str | None = None
    """Primary without PgBouncer, for LISTEN. Unset: database_url."""
    replica_url: str | None = None
    """A streaming replica for list endpoints. Unset: the primary."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 10

    key_secret: SecretStr = Field(min_length=16)
    """API keys are stored as HMACs under it; with a new one, all keys are void."""
    admin_key: SecretStr | None = Field(default=None, min_length=16)
    """A key that may call the admin routes, to begin with."""
    key_cache_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """For so long a revoked key may still work."""

    kubeconfig: str | None = None
    """Unset: the pod's service account, else $KUBECONFIG."""

    api_host: str = "0.0.0.0"  # noqa: S104  (a pod listens to its Service)
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    public_url: str = ""
    """Prefix of links in answers, e.g. `https://renders.example.org`. Unset: links are relative."""
    link_ttl_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """How long signed media links live; each GET makes new ones."""
    tenant_ready_seconds: Annotated[float, Field(ge=0, le=60)] = 15
    """How long creating a tenant may wait for its namespace."""
    upload_max_bytes: Annotated[int, Field(ge=1)] = 52_428_800
    upload_ttl_seconds: Annotated[int, Field(ge=60, le=3600)] = 900

    rate_per_second: Annotated[float, Field(gt=0)] = 50
    """Requests per second and key that each replica of the API serves, over time."""
    rate_burst: Annotated[int, Field(ge=1)] = 200
    """Requests that may come at once after a quiet time."""

    webhook_trusted_origins: list[str] = []
    """As for the delivering process: origins that endpoints may have although they are private or speak http."""

    idempotency_days: Annotated[int, Field(ge=1)] = 7
    event_days: Annotated[int, Field(ge=1)] = 14
    """How long events can be resumed from."""
    outbox_days: Annotated[int, Field(ge=1)] = 30
    """How long webhook events can be sent again, and their deliveries looked at."""
    log_level: str = "info"


class CourierSettings(BaseSettings):
    """Settings of the process that delivers webhooks."""

    model_config = SettingsConfigDict(env_prefix="RENDERFLEET_", frozen=True, use_attribute_docstrings=True)

    database_url: str
    """As for the API."""
    key_secret: SecretStr = Field(min_length=16)
    """As for the API: endpoint secrets are sealed under it."""
    webhook_trusted_origins: list[str] = []
    """Origins that may be reached although they are private or speak http, as `["http://receiver.ns.svc:8080"]`."""
    webhook_at_once: Annotated[int, Field(ge=1, le=500)] = 32
    """Deliveries on their way at a time."""
    webhook_metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9090
    log_level: str = "info"
