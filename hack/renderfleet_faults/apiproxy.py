"""A proxy between the operator and the API server, which numbers what passes and breaks it where a trap says so.

Plain http on loopback towards the operator, TLS with the administrator's certificate towards the API server. What is
not trapped passes unchanged.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from aiohttp import web
from yarl import URL

from renderfleet_client.login import Login
from renderfleet_faults import traffic
from renderfleet_faults.forwarding import cut, forwarded, listening, pass_on, returned
from renderfleet_faults.traffic import Sort, Target
from renderfleet_faults.traps import WRITES, Fault, Trap, TrapBook, lines_of

_MAX_BODY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Write:
    """One counted write of the operator."""

    at: float
    """Monotonic seconds, when it arrived."""
    subject: str | None
    what: str
    """Verb, kind and name, for people."""
    status: int | None
    """What the API server answered; None when it never saw the request."""
    life: int
    """Which start of the operator it came from."""
    trapped: Fault | None


class ApiProxy:
    """See the module. `kill` ends the operator at once and returns when it is dead."""

    def __init__(self, login: Login, traps: TrapBook, kill: Callable[[], Awaitable[None]]) -> None:
        self.traps = traps
        self.journal: list[Write] = []
        self.killed = asyncio.Event()
        """Set when a trap has killed the operator."""
        self._login = login
        self._kill = kill
        self._life = 0
        self._dead = 0
        self._session: aiohttp.ClientSession
        self._url: str

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on a free loopback port for the time of the block."""
        connector = aiohttp.TCPConnector(ssl=self._login.ssl_context() or True, limit=0, keepalive_timeout=60)
        forever = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=forever) as self._session,
            listening(self._serve) as self._url,
        ):
            yield

    def write_kubeconfig(self, path: Path) -> None:
        """A kubeconfig that leads through here."""
        name = "through-the-fault-proxy"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": name,
                    "clusters": [{"name": name, "cluster": {"server": self._url}}],
                    "users": [{"name": name, "user": {"token": "the-proxy-has-the-certificate"}}],
                    "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                }
            )
        )

    def new_life(self) -> int:
        """The operator is about to be started: requests from now on are another process's."""
        self._life += 1
        return self._life

    def writes(self, *, since: float = 0.0, subject: str | None = None) -> list[Write]:
        """Counted writes that arrived since then, of one subject or of all."""
        return [one for one in self.journal if one.at >= since and subject in (None, one.subject)]

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        life = self._life
        target = traffic.target_of(request.path)
        sort = traffic.sort_of(request.method, target, request.query)
        if sort is Sort.WATCH and target is not None:
            return await self._watch(request, target)
        raw = await request.read() if request.can_read_body else b""
        if len(raw) > _MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_BODY_BYTES, len(raw))
        if sort is Sort.WRITE:
            return await asyncio.shield(self._write(request, target, raw, life))
        return await self._pass_on(request, raw)

    async def _write(
        self, request: web.BaseRequest, target: Target | None, raw: bytes, life: int
    ) -> web.StreamResponse:
        if life <= self._dead:
            return cut(request)
        arrived = time.monotonic()
        body = _object_in(raw)
        subject = traffic.subject_of_request(target, body)
        name = (target.name if target else None) or _name_in(body)
        what = f"{request.method} {target} {name}"
        trap = self.traps.step(subject, WRITES, what) if subject else None
        answer: web.Response | None = None
        if trap is None or trap.point.fault is not Fault.DIE_BEFORE:
            answer = await self._pass_on(request, raw)
        fault = trap.point.fault if trap else None
        self.journal.append(Write(arrived, subject, what, answer.status if answer else None, life, fault))
        if trap is None:
            assert answer is not None
            return answer
        return await self._spring(request, trap, life)

    async def _spring(self, request: web.BaseRequest, trap: Trap, life: int) -> web.StreamResponse:
        if trap.point.fault is Fault.LOSE_REPLY:
            trap.carried_out = True
            return _timed_out()
        if life > self._dead:  # a second one may spring while the first one's victim is dying
            self._dead = life
            await self._kill()
            self.killed.set()
        trap.carried_out = True
        return cut(request)

    async def _pass_on(self, request: web.BaseRequest, raw: bytes) -> web.Response:
        return await pass_on(self._session, request, self._server_url(request), raw, _headers(request))

    def _server_url(self, request: web.BaseRequest) -> URL:
        return URL(self._login.server + request.raw_path, encoded=True)

    async def _watch(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        async with self._session.get(self._server_url(request), headers=_headers(request)) as answer:
            stream = web.StreamResponse(status=answer.status, headers=returned(answer.headers))
            try:
                await stream.prepare(request)
                async for line in whole_lines(answer.content):
                    if answer.status == 200 and self._drops(target, line):
                        continue
                    await stream.write(line + b"\n")
                await stream.write_eof()
            except (aiohttp.ClientError, ConnectionError):
                # Either end is gone; to the operator it looks like any other broken connection.
                return cut(request)
            return stream

    def _drops(self, target: Target, line: bytes) -> bool:
        event = orjson.loads(line)
        if event["type"] in {"BOOKMARK", "ERROR"}:
            return False
        body = event["object"]
        subject = traffic.subject_of_object(body)
        if subject is None:
            return False
        what = f"{event['type']} {target.plural} {_name_in(body)}"
        trap = self.traps.step(subject, lines_of(target.plural), what)
        if trap is None:
            return False
        trap.carried_out = True
        return True


async def whole_lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's own readline gives up at 64 KiB, and a render may be larger."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _headers(request: web.BaseRequest) -> dict[str, str]:
    """The certificate says who we are; the operator's own token is the proxy's invention."""
    return forwarded(request.headers, "host", "authorization")


def _timed_out() -> web.Response:
    """What a load balancer or the API server itself says when an answer took too long."""
    return web.json_response(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "Timeout",
            "message": "the request was carried out, but this answer does not say so",
            "code": 504,
        },
        status=504,
    )


def _object_in(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _name_in(body: Mapping[str, Any] | None) -> str | None:
    about = (body or {}).get("metadata")
    return about.get("name") if isinstance(about, dict) else None
