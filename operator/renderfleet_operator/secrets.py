"""The vendors' keys: read by name at home, copied into the namespaces of tenants whose renders use them.

A key is read again every half minute, so a rotated one is used without a restart. A copy is written when it differs from
what this process wrote last, when its namespace was made anew, and every ten minutes in use, since nobody tells whether it
is still there: no right to read or list Secrets of tenants is needed.
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
COPY_FRESH_SECONDS = 600.0


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
    _copied: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    """Version of the copy of a provider's key in a namespace, and when it was written."""
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
            if self._is_copied(place, key):
                continue
            async with self._locks.setdefault(place, asyncio.Lock()):
                if self._is_copied(place, key):
                    continue
                await self.cluster.patch(
                    SECRETS,
                    names.provider_secret(provider),
                    _copy(provider, namespace, key.value),
                    namespace,
                    how="apply",
                )
                self._copied[place] = (key.version, self.clock.monotonic())

    def _is_copied(self, place: tuple[str, str], key: VendorKey) -> bool:
        version, at = self._copied.get(place, (None, 0.0))
        return version == key.version and self.clock.monotonic() - at < COPY_FRESH_SECONDS

    def forget_copies(self, namespace: str) -> None:
        """A namespace was made: nothing is in it yet."""
        for place in [one for one in self._copied if one[1] == namespace]:
            del self._copied[place]


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
