"""The run record as the operator reads it, and the one thing it writes there: a claim that shuts the door.

The operator never guesses whether a vanished runner paid. It tries to take the attempt's claim itself: got it, and nobody
has paid or ever will; not got it, and the record (or the vendor) says what came of it.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp

from renderfleet_crds import meta
from renderfleet_store.media import MediaStore

from .clock import Clock
from .errors import NotYet
from .times import whole_seconds

OPERATOR: Final = "renderfleet-operator"
"""Holder of claims that the operator took to end an attempt."""
_PUT_SECONDS = 15.0


class Signer:
    """Addresses for one attempt's runner, all good for the same time."""

    def __init__(self, media: MediaStore, ttl_seconds: float) -> None:
        self._media = media
        self._ttl_seconds = int(ttl_seconds)

    def put(self, key: str, content_type: str | None = None, *, once: bool = False) -> str:
        """Where `key` may be written."""
        return self._media.presign_put(key, self._ttl_seconds, content_type=content_type, if_none_match=once)

    def get(self, key: str, audience: Literal["internal", "vendor"] = "internal") -> str:
        """Where `key` may be read."""
        return self._media.presign_get(key, self._ttl_seconds, audience=audience)


@dataclass(slots=True)
class RunRecords:
    """Records of all attempts."""

    media: MediaStore
    clock: Clock
    _session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def result(self, prefix: str) -> dict[str, Any] | None:
        """How the attempt ended. Raises MediaUnavailable."""
        return await self.media.read_json(f"{prefix}result.json")

    async def accepted(self, prefix: str) -> dict[str, Any] | None:
        """What the vendor answered. Raises MediaUnavailable."""
        return await self.media.read_json(f"{prefix}accepted.json")

    async def claim(self, prefix: str) -> dict[str, Any] | None:
        """Who holds the claim. Raises MediaUnavailable."""
        return await self.media.read_json(f"{prefix}claim.json")

    async def shut(self, prefix: str) -> bool:
        """Take the claim: True when it is the operator's, so that nobody can pay in this attempt any more.

        Raises NotYet while object storage does not answer.
        """
        key = f"{prefix}claim.json"
        url = self.media.presign_put(key, 300, content_type="application/json", if_none_match=True)
        claim = {"holder": OPERATOR, "claimedAt": whole_seconds(self.clock.now())}
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PUT_SECONDS))
        headers = {"If-None-Match": "*", "Content-Type": "application/json"}
        try:
            async with self._session.put(url, json=claim, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as away:
            raise NotYet(f"object storage does not answer: {type(away).__name__}", 2) from away
        if status in (200, 201, 204):
            return True
        if status == 412:
            held = await self.claim(prefix)
            return (held or {}).get("holder") == OPERATOR
        raise NotYet(f"object storage answers {status} to a claim", 2)


def prefix_of(uid: str, stage: str, run: int, attempt: int) -> str:
    """Where an attempt's record is."""
    return meta.run_prefix(uid, stage, run, attempt)
