"""Pictures from elsewhere: fetched once, through the guarded client, to be stored as avatars.

The client is told nothing of what is there but whether it is a picture; nothing of it goes back but its size.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final

from renderfleet_providers.guarded import (
    AddressRefused,
    FetchFailed,
    GuardedClient,
    StatusRefused,
    TooLarge,
    origin_of,
)
from renderfleet_providers.pictures import MIN_SIDE_PX, NotAPicture, Picture, check_picture

from .problems import NotNow, invalid_field
from .settings import ApiSettings

FETCH_SECONDS: Final = 20.0
_AT_ONCE: Final = 4
"""Each holds a whole picture in memory."""
_REDIRECTS: Final = 2


@dataclass(frozen=True, slots=True)
class Fetched:
    """A picture that decodes, and its bytes."""

    about: Picture
    data: bytes
    sha256: str


class PictureFetcher:
    """Fetches from the hosts that the administrator allows; all others are refused before any packet leaves."""

    def __init__(self, settings: ApiSettings) -> None:
        self._client = GuardedClient(
            trusted_origins=frozenset(origin_of(one) for one in settings.avatar_trusted_origins),
            allowed_hosts=frozenset(settings.avatar_hosts),
            max_redirects=_REDIRECTS,
        )
        self._max_bytes = settings.avatar_max_bytes
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str, field: str) -> Fetched:
        """The picture at that address. Raises InvalidRequest for `field`, or NotNow when another try may succeed."""
        if self._places.locked():
            raise NotNow("Too many pictures are being fetched just now.", code="busy", retry_after_seconds=2)
        async with self._places:
            data = await self._get(url, field)
            try:
                about = await asyncio.to_thread(check_picture, data)
            except NotAPicture as found:
                raise invalid_field(field, found.message) from found
        if min(about.width_px, about.height_px) < MIN_SIDE_PX:
            raise invalid_field(field, f"the picture is smaller than {MIN_SIDE_PX} pixels on one side")
        return Fetched(about, data, hashlib.sha256(data).hexdigest())

    async def _get(self, url: str, field: str) -> bytes:
        try:
            answer = await self._client.request("GET", url, max_bytes=self._max_bytes, total_seconds=FETCH_SECONDS)
            if not 200 <= answer.status < 300:
                raise StatusRefused(answer.status)
        except (AddressRefused, TooLarge) as refused:
            raise invalid_field(field, refused.message) from refused
        except FetchFailed as failed:
            if isinstance(failed, StatusRefused) and 400 <= failed.status < 500:
                raise invalid_field(field, failed.message) from failed
            raise NotNow(
                f"The picture could not be fetched: {failed.message}.", code="image_unreachable", retry_after_seconds=10
            ) from failed
        return answer.body
