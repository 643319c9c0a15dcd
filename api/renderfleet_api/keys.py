"""API keys: how they look, and whose they are.

A key is `rf_`, 43 random characters and a checksum of 6, so that a mistyped or truncated one is refused without a look
at the database and a leaked one is found by its form.
"""

import hashlib
import hmac
import secrets
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_store import tenants
from renderfleet_store.engine import StoreUnavailable, transaction

Scope = Literal["read", "write", "admin"]
PREFIX: Final = "rf_"
SHOWN_CHARACTERS: Final = 9
"""How much of a key is kept readable, for people to tell keys apart."""
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM: Final = 43
_CHECK: Final = 6
_CACHED_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it is and what it may do."""

    key_id: str
    scopes: frozenset[str]
    tenant: str | None = None
    namespace: str | None = None
    expires_at: datetime | None = None
    """When the key stops working by itself."""

    @property
    def has_expired(self) -> bool:
        """Whether the time of the key is over."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


def new_key() -> str:
    """A fresh key with 256 bits of randomness."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def looks_like_key(key: str) -> bool:
    """Whether form and checksum are right; says nothing about whether it was ever given out."""
    random, check = key[len(PREFIX) : -_CHECK], key[-_CHECK:]
    return key.startswith(PREFIX) and len(random) == _RANDOM and hmac.compare_digest(_checksum(random), check)


def _checksum(random: str) -> str:
    number = zlib.crc32(random.encode())
    out = ""
    for _ in range(_CHECK):
        number, rest = divmod(number, len(_ALPHABET))
        out = _ALPHABET[rest] + out
    return out


class KeyRing:
    """Look keys up, and remember the answer for a few seconds."""

    def __init__(self, engine: AsyncEngine, secret: str, admin_key: str | None, cache_seconds: float) -> None:
        self._engine = engine
        self._secret = secret.encode()
        self._admin = self.digest(admin_key) if admin_key else None
        self._cache_seconds = cache_seconds
        self._known: dict[bytes, tuple[float, Caller | None]] = {}

    def digest(self, key: str) -> bytes:
        """What is stored of a key."""
        return hmac.new(self._secret, key.encode(), hashlib.sha256).digest()

    async def caller(self, key: str) -> Caller | None:
        """Whose key it is, or None when it is not valid. Raises StoreUnavailable when that cannot be found out."""
        digest = self.digest(key)
        if self._admin and hmac.compare_digest(digest, self._admin):
            return Caller("bootstrap", frozenset({"admin"}))
        if not looks_like_key(key):
            return None
        now = time.monotonic()
        known = self._known.get(digest)
        if known and known[1] and known[1].has_expired:
            return None
        if known and known[0] > now:
            return known[1]
        try:
            found = await self._look_up(digest)
        except StoreUnavailable:
            # A key that was valid a moment ago still opens what needs no database.
            if known and known[1]:
                return known[1]
            raise
        if len(self._known) >= _CACHED_KEYS:
            self._known.clear()
        self._known[digest] = (now + self._cache_seconds, found)
        return found

    def forget(self) -> None:
        """Look every key up again, as after a revocation."""
        self._known.clear()

    async def _look_up(self, digest: bytes) -> Caller | None:
        async with transaction(self._engine) as connection:
            row = await tenants.find_key(connection, digest)
            if row is None:
                return None
            await tenants.note_use(connection, row["id"])
        return Caller(row["id"], frozenset(row["scopes"]), row["tenant"], row["namespace"], row["expires_at"])
