"""The vendors' keys: read by name at home, copied into the namespaces of tenants whose renders use them.

A key is read again every half minute, so a rotated one is used without a restart, and a copy is written only when it
differs from what this process wrote last. No right to list Secrets is needed anywhere.
"""

import asyncio
import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import NotFound
from renderfleet_client.resources import SECRETS
from renderfleet_crds import meta

from .cache import Cache
from .children import names
from .children.job import KEY_ENTRY
from .clock import Clock
from .errors import CredentialsMissing

FRESH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class VendorKey:
    """A key as it was read."""

    value: str = field(repr=False)
    version: str
    """Changes when the Secret does; says nothing about the key."""
    read_at: float


@dataclass(slots=True)
class VendorKeys:
    """Keys of all RenderProviders."""

    cluster: Cluster
    cache: Cache
    clock: Clock
    system_namespace: str
    _known: dict[str, VendorKey] = field(default_factory=dict)
    _copied: dict[tuple[str, str], str] = field(default_factory=dict)
    _locks: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    async def read(self, provider: str, *, fresh: bool = False) -> VendorKey:
        """A provider's key, at most half a minute old. Raises CredentialsMissing."""
        known = self._known.get(provider)
        if known is not None and not fresh and self.clock.monotonic() - known.read_at < FRESH_SECONDS:
            return known
        body = self.cache.providers.get(provider)
        if body is None:
            raise CredentialsMissing(f"there is no RenderProvider {provider}", 10)
        ref = body["spec"]["secretRef"]
        entry = ref.get("key", "api-key")
        try:
            secret = await self.cluster.get(SECRETS, ref["name"], self.system_namespace)
        except NotFound:
            self._known.pop(provider, None)
            raise CredentialsMissing(f"Secret {self.system_namespace}/{ref['name']} does not exist", 10) from None
        packed = (secret.get("data") or {}).get(entry)
        if not packed:
            self._known.pop(provider, None)
            raise CredentialsMissing(f"Secret {self.system_namespace}/{ref['name']} has no {entry}", 10)
        value = base64.b64decode(packed).decode().strip()
        digest = hashlib.sha256(f"{secret['metadata']['uid']}{value}".encode()).hexdigest()[:16]
        made = self._known[provider] = VendorKey(value, digest, self.clock.monotonic())
        return made

    def version(self, provider: str) -> str | None:
        """Version of the key in use, if one was read."""
        known = self._known.get(provider)
        return known.version if known else None

    async def ensure(self, providers: tuple[str, ...], namespace: str) -> None:
        """Have copies of these providers' keys in a tenant's namespace. Raises CredentialsMissing."""
        for provider in providers:
            key = await self.read(provider)
            place = (provider, namespace)
            if self._copied.get(place) == key.version:
                continue
            async with self._locks.setdefault(place, asyncio.Lock()):
                if self._copied.get(place) == key.version:
                    continue
                await self.cluster.patch(
                    SECRETS,
                    names.provider_secret(provider),
                    _copy(provider, namespace, key.value),
                    namespace,
                    how="apply",
                )
                self._copied[place] = key.version

    def forget_copy(self, provider: str, namespace: str) -> None:
        """A copy turned out to be missing: write it again next time."""
        self._copied.pop((provider, namespace), None)


def _copy(provider: str, namespace: str, value: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": names.provider_secret(provider),
            "namespace": namespace,
            "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.PROVIDER_LABEL: provider[:63]},
        },
        "data": {KEY_ENTRY: base64.b64encode(value.encode()).decode()},
    }
