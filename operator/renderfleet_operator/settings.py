"""Everything an administrator may change. Read once from RENDERFLEET_*, then passed to those who need it."""

from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from renderfleet_crds.contract import Pool, Stage
from renderfleet_crds.parts import Part

from .errors import SettingsWrong

SHORTEST_SECRET = 16


class PoolSettings(Part):
    """Where a pool's pods go and what they get; as in a pod's spec."""

    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    resources: dict[str, Any] = {}
    priority_class_name: str = ""
    affinity: dict[str, Any] = {}
    scratch_size: str = "4Gi"
    """Largest size of the pod's scratch space."""


class OperatorSettings(BaseSettings):
    """The operator's environment."""

    model_config = SettingsConfigDict(env_prefix="RENDERFLEET_", frozen=True, use_attribute_docstrings=True)

    system_namespace: Annotated[str, Field(min_length=1)]
    """The operator's own namespace: its Lease and the vendors' Secrets are here."""
    runner_image: Annotated[str, Field(min_length=1)]
    database_url: SecretStr
    """PostgreSQL for the archive (postgresql+psycopg://…), PgBouncer in transaction mode allowed. Required: without an
    archive no render could ever be let go of."""

    @field_validator("database_url")
    @classmethod
    def _names_a_database(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith("postgresql"):
            raise ValueError("give the address of a PostgreSQL database, as postgresql+psycopg://user@host/name")
        return value

    runner_image_pull_policy: str = "IfNotPresent"
    runner_env: dict[str, str] = {}
    """More environment for runner pods, e.g. proxies."""
    pools: dict[Pool, PoolSettings] = {}
    stage_pools: dict[Stage, Pool] = {}
    """Pool by stage, where it is another one than usual, e.g. {"synthesize": "video-gen"}."""
    job_ttl_seconds: Annotated[int, Field(ge=0)] = 900
    """How long a finished runner Job stays to be looked at."""
    ttl_succeeded_seconds: Annotated[float, Field(ge=0)] = 7 * 86_400
    ttl_failed_seconds: Annotated[float, Field(ge=0)] = 30 * 86_400
    """Of Failed and DeadLettered renders."""
    ttl_cancelled_seconds: Annotated[float, Field(ge=0)] = 86_400
    """Of Cancelled and Aborted renders."""
    archive_deadline_seconds: Annotated[float, Field(gt=0)] = 7 * 86_400
    """How long a finished render waits for an archive that does not answer; then it is let go of, and counted."""
    callback_url: str | None = None
    """Public https address that leads to /callbacks/ at the callback port: there D-ID may tell that a video is done.
    Unset: we only poll."""
    callback_secret: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """Makes the paths of callbacks unguessable; needed with an address for them."""

    lease_name: str = "renderfleet-operator"
    lease_seconds: Annotated[int, Field(ge=5)] = 15
    identity: str = ""
    """Name of this replica in the Lease. Empty: the host name."""
    workers: Annotated[int, Field(ge=1, le=256)] = 64
    """Objects looked at side by side. A worker mostly waits for the API server, so many cost little."""
    resync_seconds: Annotated[float, Field(ge=1)] = 120
    """How often everything is listed anew, in case a watch lost something."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 9090
    """For /healthz, /readyz and /metrics."""
    callback_port: Annotated[int, Field(ge=0, le=65_535)] = 9091
    """For /callbacks/ and nothing else, as the internet may reach it; listened at when there is an address for them."""
    http_host: str = "0.0.0.0"  # noqa: S104  (the kubelet's probes come from outside of the pod)
    log_level: str = "INFO"
    fair_half_life_seconds: Annotated[float, Field(gt=0)] = 600
    """How fast a tenant's use of a provider is forgotten when it is weighed against the others'."""
    pod_patience_seconds: Annotated[float, Field(gt=0)] = 5
    """A Job that gets no pod for this long is taken back into our queue."""
    wait_reports_per_second: Annotated[float, Field(gt=0)] = 5
    """Writes per second for positions of waiting renders and for progress; few while the API server is busy."""

    @field_validator("callback_secret")
    @classmethod
    def _callbacks_need_a_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("callback_url") and (value is None or len(value.get_secret_value()) < SHORTEST_SECRET):
            raise ValueError(f"callbacks need a secret of at least {SHORTEST_SECRET} characters")
        return value


def load() -> OperatorSettings:
    """The settings of this process. Raises SettingsWrong, whose message names each variable that is missing or bad."""
    try:
        return OperatorSettings()
    except ValidationError as wrong:
        lines = [
            f"RENDERFLEET_{'_'.join(str(part) for part in one['loc']).upper()}: {one['msg']}" for one in wrong.errors()
        ]
        raise SettingsWrong("; ".join(lines)) from None
