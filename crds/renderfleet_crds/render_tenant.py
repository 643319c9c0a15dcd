"""RenderTenant: one user of the fleet. The operator makes its namespace, quota, limits, network policy and roles."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .conditions import Condition
from .parts import MicroUnits, Part, immutable


class Member(Part):
    """Somebody of the cluster who may manage this tenant's renders (an RBAC subject)."""

    kind: Literal["User", "Group", "ServiceAccount"]
    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Annotated[str, Field(max_length=63)] | None = None
    """Of a ServiceAccount."""


class RenderTenantSpec(Part):
    """What the tenant may use."""

    model_config = ConfigDict(json_schema_extra=immutable("namespace"))

    display_name: Annotated[str, Field(max_length=128)] | None = None
    """For people."""
    namespace: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = None
    """Its namespace. Unset: `rf-` and the tenant's name. An existing one is taken over only when it carries our label."""
    concurrency: Annotated[int, Field(ge=0, le=10_000)] = 4
    """Initial number of runner pods at a time: the `pods` of the namespace's ResourceQuota. Editing that quota takes effect
    too and is not undone until this number changes."""
    max_objects_per_kind: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Renders of each kind that may be stored at a time, finished ones included."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 100
    """Share among the tenants that wait for the same provider."""
    monthly_budget_micros: MicroUnits | None = None
    """Millionths of a currency unit per calendar month (UTC). Unset: no limit."""
    members: Annotated[list[Member], Field(max_length=64)] = []
    """Who may manage the tenant's renders with kubectl."""


class RenderTenantStatus(Part):
    """What was made for the tenant."""

    observed_generation: int | None = None
    phase: Annotated[str, Field(max_length=32)] | None = None
    namespace: Annotated[str, Field(max_length=63)] | None = None
    applied_concurrency: int | None = None
    """The concurrency last written into the quota; a later edit of the quota is left alone."""
    spent_micros: MicroUnits | None = None
    budget_month: Annotated[str, Field(max_length=7)] | None = None
    """The month that spentMicros counts, as YYYY-MM (UTC)."""
    spent_through: str | None = None
    """finishedAt of the latest render that spentMicros counts: a restart adds what ended later."""
    conditions: Annotated[list[Condition], Field(max_length=8)] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
