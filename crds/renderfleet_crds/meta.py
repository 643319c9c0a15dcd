"""Every shared string of the API group, once: a label spelled twice is a label spelled differently one day."""

from typing import Final

GROUP: Final = "renderfleet.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "renderfleet"

FINALIZER: Final = f"{GROUP}/archive"
"""Held until the render's end is in the archive, so that deleting an object never deletes its history."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "renderfleet"

KIND_LABEL: Final = f"{GROUP}/kind"
"""On runner Jobs: the kind of the render they work for. The operator watches Jobs by it."""
UID_LABEL: Final = f"{GROUP}/render-uid"
NAME_LABEL: Final = f"{GROUP}/render"
STAGE_LABEL: Final = f"{GROUP}/stage"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
POOL_LABEL: Final = f"{GROUP}/pool"
PROVIDER_LABEL: Final = f"{GROUP}/provider"
TENANT_LABEL: Final = f"{GROUP}/tenant"
"""On a tenant's namespace and all that is in it: the RenderTenant's name."""

TRACE_ANNOTATION: Final = f"{GROUP}/traceparent"
"""W3C traceparent of the request that made the render."""
ARCHIVED_ANNOTATION: Final = f"{GROUP}/archived-at"
"""When the end was known to be in the archive; set in the write that takes the finalizer off (RFC 3339)."""
IDEMPOTENCY_ANNOTATION: Final = f"{GROUP}/idempotency-digest"

TENANT_NAMESPACE_PREFIX: Final = "rf-"
QUOTA_NAME: Final = "renderfleet"
"""The one ResourceQuota of a tenant's namespace: two quotas in one namespace can drift apart (kubernetes#133274)."""


def tenant_namespace(tenant: str) -> str:
    """Name of the namespace in which a tenant's renders live."""
    return TENANT_NAMESPACE_PREFIX + tenant


def media_prefix(namespace: str) -> str:
    """Where in the bucket the media of one tenant namespace live; a key outside of it is somebody else's."""
    return f"media/{namespace}/"


def avatar_prefix(namespace: str) -> str:
    """Where the pictures of saved avatars live: each belongs to one row of the database, or to nobody."""
    return f"{media_prefix(namespace)}avatars/"


def run_prefix(uid: str, stage: str, run: int, attempt: int) -> str:
    """Where in the bucket the run record of one stage attempt lives.

    `run` counts redrives, `attempt` the starts within a run; together they never repeat for one object.
    """
    return f"runs/{uid}/{stage}/{run}-{attempt}/"
