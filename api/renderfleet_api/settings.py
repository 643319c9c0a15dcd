"""What an administrator may change about the API; read once from RENDERFLEET_*."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .keys import Scope


class ApiSettings(BaseSettings):
    """Settings of the API process; secrets have no default."""

    model_config = SettingsConfigDict(env_prefix="RENDERFLEET_", frozen=True, use_attribute_docstrings=True)

    database_url: str
    """Primary, perhaps through PgBouncer in transaction mode: `postgresql+psycopg://user:password@host/database`."""
    database_direct_url: str | None = None
    """Primary without PgBouncer, for LISTEN. Unset: database_url."""
    replica_url: str | None = None
    """A streaming replica for list endpoints. Unset, or while it is away: the primary."""
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = 10

    key_secret: SecretStr = Field(min_length=16)
    """API keys are stored as HMACs under it; with a new one, all keys are void."""
    admin_key: SecretStr | None = Field(default=None, min_length=16)
    """A key that may call the admin routes, to begin with."""
    key_cache_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """For so long a revoked key may still work."""

    oidc_issuer: str | None = None
    """An OpenID Connect issuer whose tokens open doors as API keys do. Unset: API keys only."""
    oidc_audience: str | None = None
    """What a token must be meant for (`aud`). Required with an issuer."""
    oidc_jwks_url: str | None = None
    """Where the issuer's keys are. Unset: as its discovery document says."""
    oidc_tenant_claim: str = "tenant"
    """The claim that names the RenderTenant; a token without it can only be an administrator's."""
    oidc_scope_claim: str = "scope"
    """The claim that holds what the token allows: words in one text, or a list of them, as `groups`."""
    oidc_scopes: dict[str, list[Scope]] = {
        "renderfleet:read": ["read"],
        "renderfleet:write": ["write"],
        "renderfleet:admin": ["admin"],
    }
    """What each of those words allows here: `read`, `write`, `admin`. Others allow nothing."""
    oidc_refresh_seconds: Annotated[float, Field(ge=10, le=86_400)] = 300
    """How old the issuer's keys may be: a key that it withdrew works no longer than this, or up to a day
    (this long, if that is more) while the issuer cannot be asked."""

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
    avatar_hosts: list[str] = []
    """Hosts that `POST /avatars` may fetch pictures from, by public https; `.example.org` means all below it."""
    avatar_trusted_origins: list[str] = []
    """Origins to fetch pictures from although they are private or speak http, as `["http://images.ns.svc:8080"]`."""
    avatar_max_bytes: Annotated[int, Field(ge=1, le=50_000_000)] = 10_000_000
    """Of a picture that is fetched; pixels are limited to what the vendors take."""

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

    @model_validator(mode="after")
    def _tokens_are_meant_for_us(self) -> Self:
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("oidc_audience is needed with oidc_issuer: a token for another service must not open ours")
        return self


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
