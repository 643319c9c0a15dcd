"""The kinds of object we touch, by their place in the API server's paths."""

from dataclasses import dataclass
from typing import Final, Self

from renderfleet_crds import meta
from renderfleet_crds.kinds import ResourceKind


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind of object lives."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @classmethod
    def of(cls, kind: ResourceKind) -> Self:
        """The place of one of our own kinds."""
        return cls(meta.GROUP, meta.VERSION, kind.plural, kind.scope == "Namespaced")

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of a part of it."""
        parts = ["/api" if not self.group else f"/apis/{self.group}", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


JOBS: Final = Resource("batch", "v1", "jobs")
PODS: Final = Resource("", "v1", "pods")
SECRETS: Final = Resource("", "v1", "secrets")
SERVICES: Final = Resource("", "v1", "services")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
NAMESPACES: Final = Resource("", "v1", "namespaces", namespaced=False)
NODES: Final = Resource("", "v1", "nodes", namespaced=False)
RESOURCE_QUOTAS: Final = Resource("", "v1", "resourcequotas")
LIMIT_RANGES: Final = Resource("", "v1", "limitranges")
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies")
ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
EVENTS: Final = Resource("", "v1", "events")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
