"""A proxy between the runners on one side and vendors and storage on the other: numbers a runner's steps, breaks them.

A runner touches the world by requests only, so its requests are its steps. What goes where:

/<token>/<vendor>/…    to the stand-in; the token in a RenderProvider's base URL tells whose call it is
/shared/<vendor>/…     the same for a provider that all trials share; the token in the words sent tells
/<bucket>/…            to object storage, under the host name that the address was signed for; the key tells whose it is
/…                     to the stand-in, uncounted: links that a vendor handed out

The operator uses the same addresses. Counted are only requests made while a runner of the subject lives, and of those to
storage only the ones with a presigned address, which is all that a runner has.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from renderfleet_faults.backends import BUCKET, Backends
from renderfleet_faults.forwarding import cut, forwarded, listening, pass_on
from renderfleet_faults.traffic import TOKEN
from renderfleet_faults.traps import Fault, Trap, TrapBook, steps_of

_REQUEST_ID_HEADERS = ("x-request-id", "x-trace-id", "x-amzn-requestid")
"""Where the three vendors say which request an answer is about; the ledger knows the same ids."""
SHARED = "shared"
_RUN_RECORD = re.compile(r"/runs/([^/]+)/")
_PRESIGNED = "X-Amz-Signature"


class Runners(Protocol):
    """What the proxy must know of the runners that live now, and be able to do to them."""

    def stage_of(self, subject: str) -> str | None:
        """Stage of the subject's living runner, if it has one."""

    def subject_of_uid(self, uid: str) -> str | None:
        """Whose render this is."""

    async def kill(self, subject: str) -> None:
        """SIGKILL every runner of a subject; returns when they are dead."""

    async def remove_pod(self, subject: str) -> None:
        """Delete the pod of a subject's runner; returns when the runner was told to end."""


class StepProxy:
    """See the module. `runners` is filled in by the node once that exists."""

    runners: Runners
    url: str

    def __init__(self, backends: Backends, traps: TrapBook) -> None:
        self.traps = traps
        self.request_ids: defaultdict[str, set[str]] = defaultdict(set)
        """Subject -> ids of the vendor requests that were made for it."""
        self._backends = backends
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on a free loopback port for the time of the block."""
        connector = aiohttp.TCPConnector(limit=0)
        forever = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=forever) as self._session,
            listening(self._serve) as self.url,
        ):
            yield

    def vendor_url(self, subject: str, vendor_path: str) -> str:
        """Base URL of a vendor for the RenderProvider of one subject, or of all (SHARED)."""
        return f"{self.url}/{subject}/{vendor_path}"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read() if request.can_read_body else b""
        # What a caller has sent goes on even if the caller dies meanwhile; only a trap holds it back.
        return await asyncio.shield(self._step(request, raw))

    async def _step(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        first, _, rest = request.raw_path.removeprefix("/").partition("/")
        if first == SHARED:
            found = TOKEN.search(raw.decode(errors="replace"))
            first = found[0] if found else ""
        if TOKEN.fullmatch(first):
            return await self._vendor_step(request, raw, first, rest)
        if first == BUCKET:
            return await self._storage_step(request, raw)
        return await self._to_standin(
            request, raw, "/" + request.raw_path.removeprefix(f"/{SHARED}/").removeprefix("/")
        )

    async def _vendor_step(self, request: web.BaseRequest, raw: bytes, subject: str, rest: str) -> web.StreamResponse:
        trap = self._trap(subject, f"{request.method} {rest.partition('?')[0]}")
        if trap is not None and trap.point.fault is Fault.DIE_BEFORE:
            return await self._die(request, subject)
        await self._before(trap, subject)
        answer = await self._to_standin(request, raw, f"/{rest}")
        for header in _REQUEST_ID_HEADERS:
            if given := answer.headers.get(header):
                self.request_ids[subject].add(given)
        return await self._after(request, trap, subject, answer)

    async def _storage_step(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        subject = self._owner(request.path)
        trap = None
        if subject is not None and _PRESIGNED in request.query:
            trap = self._trap(subject, f"{request.method} {request.path.rpartition('/')[2]}")
        if trap is not None and subject is not None and trap.point.fault is Fault.DIE_BEFORE:
            return await self._die(request, subject)
        if subject is not None:
            await self._before(trap, subject)
        url = URL(self._backends.storage_url + request.raw_path, encoded=True)
        answer = await pass_on(self._session, request, url, raw, forwarded(request.headers))
        return await self._after(request, trap, subject, answer)

    def _owner(self, path: str) -> str | None:
        if record := _RUN_RECORD.search(path):
            return self.runners.subject_of_uid(record[1])
        found = TOKEN.search(path)
        return found[0] if found else None

    def _trap(self, subject: str, what: str) -> Trap | None:
        stage = self.runners.stage_of(subject)
        return self.traps.step(subject, steps_of(stage), what) if stage else None

    async def _before(self, trap: Trap | None, subject: str) -> None:
        if trap is not None and trap.point.fault is Fault.REMOVE_POD:
            await self.runners.remove_pod(subject)

    async def _after(
        self, request: web.BaseRequest, trap: Trap | None, subject: str | None, answer: web.Response
    ) -> web.StreamResponse:
        if trap is None or subject is None:
            return answer
        match trap.point.fault:
            case Fault.DIE_AFTER:
                return await self._die(request, subject)
            case Fault.LOSE_REPLY:
                return web.Response(status=504, text="carried out, but this answer does not say so")
            case _:
                return answer

    async def _die(self, request: web.BaseRequest, subject: str) -> web.Response:
        await self.runners.kill(subject)
        return cut(request)

    async def _to_standin(self, request: web.BaseRequest, raw: bytes, path: str) -> web.Response:
        url = URL(self._backends.standin_url + path, encoded=True)
        return await pass_on(self._session, request, url, raw, forwarded(request.headers))
