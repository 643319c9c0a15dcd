"""Object storage as a runner sees it: presigned addresses, no credentials.

A paid answer is in our hands while we store it, so storing is tried again until the caller's deadline, not until a
count. What may not be tried again is a refusal (403: the address has expired), and it is told apart.
"""

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from .clock import Deadline
from .errors import BadInput, LinkExpired, OwnFault

CHUNK_BYTES = 1 << 18
REQUEST_TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
RECORD_LIMIT_BYTES = 1 << 20
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
_WORTH_ANOTHER_TRY = {408, 409, 425, 429, 500, 502, 503, 504}
"""409 is S3's answer when two conditional writes meet; one of them is asked to come again."""


class Storage:
    """Puts and gets of one task."""

    def __init__(self, secure: bool) -> None:
        # Reading the machine's certificates takes time that plain http inside the cluster need not wait for.
        verify: ssl.SSLContext | bool = secure or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx2.AsyncClient(verify=verify, timeout=REQUEST_TIMEOUT, follow_redirects=False, trust_env=False)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def put_file(self, url: str, content_type: str, file: Path, deadline: Deadline) -> None:
        """Store `file`, as often as it takes until `deadline`. Raises OwnFault."""
        size = size_of(file)

        async def chunks() -> AsyncIterator[bytes]:
            with file.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    yield chunk

        for pause in Pauses():
            try:
                response = await self._http.put(
                    url, content=chunks(), headers={"content-type": content_type, "content-length": str(size)}
                )
            except httpx2.HTTPError as failed:
                problem = type(failed).__name__
            else:
                if response.is_success:
                    return
                problem = f"status {response.status_code}"
                if response.status_code not in _WORTH_ANOTHER_TRY:
                    raise OwnFault("storage_refused", f"object storage refused a file ({problem})")
            if deadline.seconds_left() <= pause:
                raise OwnFault("storage_failed", f"object storage did not take a file in time ({problem})")
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")

    async def put_once(self, url: str, body: bytes, deadline: Deadline) -> bool:
        """Write a JSON object if there is none yet; False when there is one. Raises OwnFault.

        False may also mean that an earlier try of this very call was written and its answer lost: where that
        matters, the caller reads the object and looks for its own mark.
        """
        for pause in Pauses():
            try:
                response = await self._http.put(
                    url, content=body, headers={"if-none-match": "*", "content-type": "application/json"}
                )
            except httpx2.HTTPError as failed:
                problem = type(failed).__name__
            else:
                if response.is_success:
                    return True
                if response.status_code == 412:
                    return False
                problem = f"status {response.status_code}"
                if response.status_code not in _WORTH_ANOTHER_TRY:
                    raise OwnFault("storage_refused", f"object storage refused a run record ({problem})")
            if deadline.seconds_left() <= pause:
                raise OwnFault("storage_failed", f"object storage did not take a run record in time ({problem})")
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")

    async def get(self, url: str, deadline: Deadline) -> bytes | None:
        """A small object's content, None when there is none. Raises OwnFault."""
        for pause in Pauses():
            try:
                response = await self._http.get(url)
            except httpx2.HTTPError as failed:
                problem = type(failed).__name__
            else:
                if response.is_success:
                    return response.content[:RECORD_LIMIT_BYTES]
                # S3 says 403 for a missing object when the signer may not list; an expired link says so in words.
                if response.status_code == 404 or (response.status_code == 403 and b"expired" not in response.content):
                    return None
                problem = f"status {response.status_code}"
                if response.status_code not in _WORTH_ANOTHER_TRY:
                    raise OwnFault("storage_refused", f"object storage refused to show a run record ({problem})")
            if deadline.seconds_left() <= pause:
                raise OwnFault("storage_failed", f"object storage did not show a run record in time ({problem})")
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")

    async def get_file(self, url: str, file: Path, max_bytes: int, deadline: Deadline) -> None:
        """Copy an object of ours into `file`. Raises BadInput when missing or too large, LinkExpired, OwnFault."""
        for pause in Pauses():
            try:
                async with self._http.stream("GET", url) as response:
                    if response.is_success:
                        await _save(response, file, max_bytes)
                        return
                    problem = f"status {response.status_code}"
                    if response.status_code == 404:
                        raise BadInput("input_missing", "an input file is no longer in storage")
                    if response.status_code == 403:
                        raise LinkExpired("input_link_refused", "the link to an input file is no longer accepted")
                    if response.status_code not in _WORTH_ANOTHER_TRY:
                        raise OwnFault("storage_refused", f"object storage refused to show a file ({problem})")
            except httpx2.HTTPError as failed:
                problem = type(failed).__name__
            if deadline.seconds_left() <= pause:
                raise OwnFault("storage_failed", f"object storage did not hand out a file in time ({problem})")
            await asyncio.sleep(pause)
        raise AssertionError("the pauses do not end")


async def _save(response: httpx2.Response, file: Path, max_bytes: int) -> None:
    size = 0
    with file.open("wb") as target:
        async for chunk in response.aiter_raw(CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise BadInput("input_too_large", f"an input file is larger than {max_bytes} bytes")
            target.write(chunk)


class Pauses:
    """Endless pauses in seconds: doubling, capped, with jitter so that many runners do not come back as one."""

    def __init__(self) -> None:
        self._bound = FIRST_PAUSE_SECONDS

    def __iter__(self) -> "Pauses":
        return self

    def __next__(self) -> float:
        pause = self._bound * (0.5 + random.random() / 2)  # noqa: S311 -- spreads load, guards nothing
        self._bound = min(self._bound * 2, LONGEST_PAUSE_SECONDS)
        return pause


def size_of(file: Path) -> int:
    """Bytes in a file."""
    return file.stat().st_size


def sha256_of(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
