"""Make what a RenderTenant gets: namespace, quota, limits, network policy, and rights for its members. Pure.

Members may do everything with renders of their namespace but write their status, and nothing else: who may create pods or
read Secrets there could read the vendors' keys.
"""

from typing import Any, Final

from renderfleet_crds import meta
from renderfleet_crds.kinds import RENDERS
from renderfleet_operator.decide.view import Body

from . import names
from .job import label_value

ROLE_NAME: Final = "renderfleet-member"
POLICY_NAME: Final = "renderfleet"
_FACTORS: Final = {"k": 10**3, "M": 10**6, "G": 10**9}
"""Decimal suffixes of a Kubernetes quantity, as far as a number of objects may need them."""
_METADATA_SERVICES: Final = ("169.254.169.254/32", "fd00:ec2::254/128")


def namespace_of(tenant: Body) -> str:
    """The tenant's namespace, whether it exists yet or not."""
    return str(tenant["spec"].get("namespace") or meta.tenant_namespace(tenant["metadata"]["name"]))


def labels_of(tenant: Body) -> dict[str, str]:
    """Labels of everything that is made for a tenant."""
    return {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.TENANT_LABEL: label_value(tenant["metadata"]["name"])}


def namespace(tenant: Body) -> Body:
    """Its namespace, in which only pods of the restricted profile are let in; deleting the tenant deletes it."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace_of(tenant),
            "labels": {
                **labels_of(tenant),
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
                "pod-security.kubernetes.io/warn": "restricted",
            },
            "ownerReferences": [names.owner_reference(tenant, blocks=False)],
        },
    }


def quota(tenant: Body, *, with_concurrency: bool) -> Body:
    """Its ResourceQuota. Without `with_concurrency`, `pods` is left as somebody may have edited it."""
    spec = tenant["spec"]
    most = quantity(int(spec.get("maxObjectsPerKind", 5000)))
    hard: dict[str, str] = {f"count/{kind.plural}.{meta.GROUP}": most for kind in RENDERS}
    if with_concurrency:
        hard["pods"] = quantity(int(spec.get("concurrency", 4)))
    return _namespaced(tenant, "v1", "ResourceQuota", meta.QUOTA_NAME, {"spec": {"hard": hard}})


def quantity(count: int) -> str:
    """A number as the API server spells it: 5000 comes back as `5k`, and other words for it would look like an edit."""
    for suffix, factor in reversed(_FACTORS.items()):
        if count and count % factor == 0:
            return f"{count // factor}{suffix}"
    return str(count)


def pods_of(quota: Body | None) -> tuple[int | None, int | None]:
    """(pods that a ResourceQuota allows, pods that it counts); None for what it does not say."""
    hard = (((quota or {}).get("spec") or {}).get("hard") or {}).get("pods")
    used = (((quota or {}).get("status") or {}).get("used") or {}).get("pods")
    return None if hard is None else count_of(hard), None if used is None else count_of(used)


def count_of(written: str | int) -> int:
    """The number that a quota's value says; an administrator may have written `10k` or `2e3`, pods come whole.

    Raises ValueError for a value that the API server would not have taken either.
    """
    digits, factor = str(written), 1
    if digits[-1:] in _FACTORS:
        factor = _FACTORS[digits[-1]]
        digits = digits[:-1]
    return int(float(digits) * factor)


def limit_range(tenant: Body) -> Body:
    """Limits for runner containers that no pool setting gives any."""
    limits = {
        "type": "Container",
        "defaultRequest": {"cpu": "50m", "memory": "128Mi"},
        "default": {"memory": "1Gi"},
    }
    return _namespaced(tenant, "v1", "LimitRange", POLICY_NAME, {"spec": {"limits": [limits]}})


def network_policy(tenant: Body) -> Body:
    """Nobody reaches a runner; a runner reaches everything but the cloud's metadata service."""
    v4, v6 = _METADATA_SERVICES
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [
            {
                "to": [
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": [v4]}},
                    {"ipBlock": {"cidr": "::/0", "except": [v6]}},
                    {"namespaceSelector": {}},
                ]
            }
        ],
    }
    return _namespaced(tenant, "networking.k8s.io/v1", "NetworkPolicy", POLICY_NAME, {"spec": spec})


def role(tenant: Body) -> Body:
    """What its members may do."""
    rules = [
        {
            "apiGroups": [meta.GROUP],
            "resources": [kind.plural for kind in RENDERS],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        },
        {"apiGroups": [""], "resources": ["events", "resourcequotas"], "verbs": ["get", "list", "watch"]},
    ]
    return _namespaced(tenant, "rbac.authorization.k8s.io/v1", "Role", ROLE_NAME, {"rules": rules})


def role_binding(tenant: Body) -> Body:
    """Who its members are."""
    subjects = []
    for member in tenant["spec"].get("members") or ():
        subject = {"kind": member["kind"], "name": member["name"]}
        if member["kind"] == "ServiceAccount":
            subject["namespace"] = member.get("namespace") or namespace_of(tenant)
        else:
            subject["apiGroup"] = "rbac.authorization.k8s.io"
        subjects.append(subject)
    made = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE_NAME},
        "subjects": subjects,
    }
    return _namespaced(tenant, "rbac.authorization.k8s.io/v1", "RoleBinding", ROLE_NAME, made)


def _namespaced(tenant: Body, api_version: str, kind: str, name: str, rest: dict[str, Any]) -> Body:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace_of(tenant), "labels": labels_of(tenant)},
        **rest,
    }


def covers(actual: Any, wanted: Any) -> bool:
    """True when everything wanted is there; what others added does not matter."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            key in actual and covers(actual[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(covers(one, other) for one, other in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted)
