"""One connection pool to one API server, and the few verbs that we use.

Writes are never repeated here: after a lost answer only the caller knows whether doing it twice would matter.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import aiohttp
import orjson

from .errors import Gone, Unavailable, error_from
from .login import Login, load_login
from .resources import PODS, Resource

PatchKind = Literal["merge", "json", "apply"]
_CONTENT_TYPES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
Body = dict[str, Any]
JsonPatch = list[Body]


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a kind at one resourceVersion, from which a watch may go on."""

    items: list[Body]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object as it is after it."""

    type: str
    object: Body


class Cluster:
    """Asynchronous access to one API server. Create it inside the event loop that uses it, and close it there."""

    def __init__(self, login: Login, *, field_manager: str = "renderfleet", timeout_seconds: float = 30) -> None:
        self.login = login
        self.on_write: Callable[[str, str], None] | None = None
        """Told of every write before it is sent, as (verb, path): write budgets are counted here."""
        self._field_manager = field_manager
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=10)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=login.ssl_context() or True, limit=100, keepalive_timeout=60),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, *, field_manager: str = "renderfleet") -> Self:
        """Access by the pod's service account or a kubeconfig; nothing is sent yet. Raises LoginError."""
        return cls(load_login(kubeconfig), field_manager=field_manager)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Body:
        """One object. Raises NotFound."""
        return await self._call("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = 500,
    ) -> Listing:
        """All objects of a kind, fetched in pages so that no answer grows without bound."""
        items: list[Body] = []
        version = ""
        pages = self.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector, page=page)
        async for one in pages:
            items += one.items
            version = one.resource_version
        return Listing(items, version)

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = 500,
    ) -> AsyncIterator[Listing]:
        """As `list`, page by page: for those who need not hold everything at once. All pages are of one version."""
        params: dict[str, str] = {"limit": str(page)}
        if label_selector:
            params["labelSelector"] = label_selector
        if field_selector:
            params["fieldSelector"] = field_selector
        while True:
            answer = await self._call("GET", resource.path(namespace), params=params)
            at = answer["metadata"]
            yield Listing(answer.get("items") or [], at["resourceVersion"])
            if not at.get("continue"):
                return
            params["continue"] = at["continue"]

    async def create(
        self, resource: Resource, body: Body, namespace: str | None = None, *, dry_run: bool = False
    ) -> Body:
        """The object as stored. Raises AlreadyExists, Invalid, QuotaExceeded, QuotaNotReady, Forbidden."""
        params = {"fieldManager": self._field_manager, "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        return await self._call("POST", resource.path(namespace), params=params, body=body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Body | JsonPatch,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        how: PatchKind = "merge",
        force: bool = True,
    ) -> Body:
        """The object after the patch. A `metadata.resourceVersion` in a merge patch is a precondition: Conflict if stale.

        `force` matters to `apply` only: take over fields that another manager owns.
        """
        params = {"fieldManager": self._field_manager}
        if how == "apply":
            params["force"] = str(force).lower()
        path = resource.path(namespace, name, subresource)
        return await self._call("PATCH", path, params=params, body=patch, content_type=_CONTENT_TYPES[how])

    async def replace(
        self, resource: Resource, name: str, body: Body, namespace: str | None = None, *, subresource: str | None = None
    ) -> Body:
        """The object as stored; Conflict when its resourceVersion is stale."""
        params = {"fieldManager": self._field_manager}
        return await self._call("PUT", resource.path(namespace, name, subresource), params=params, body=body)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion. With `uid`, only of that very object: Conflict when the name belongs to another by now.

        `grace_seconds` is for pods: how long they may take to end; unset, as their spec says.
        """
        body: Body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {key: value for key, value in preconditions.items() if value}:
            body["preconditions"] = given
        await self._call("DELETE", resource.path(namespace, name), body=body)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = 300,
        inactivity_seconds: float | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version` until the server ends the stream; call again from the last one seen.

        Raises Gone when that version is too old, Unavailable when the connection breaks, when a line is no event, as of a
        proxy that apologizes, and when nothing, not even a bookmark, comes for `inactivity_seconds`.
        """
        params = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_seconds)}
        if resource_version:
            params["resourceVersion"] = resource_version
        if label_selector:
            params["labelSelector"] = label_selector
        if field_selector:
            params["fieldSelector"] = field_selector
        url = self.login.server + resource.path(namespace)
        patience = aiohttp.ClientTimeout(total=timeout_seconds + 30, connect=10, sock_read=inactivity_seconds)
        try:
            async with self._session.get(url, params=params, headers=self._headers(), timeout=patience) as answer:
                if answer.status >= 400:
                    raise error_from(answer.status, _parse(await answer.read()), answer.headers.get("Retry-After"))
                async for line in _lines(answer.content):
                    event = _event(line)
                    if event.type == "ERROR":
                        status = event.object
                        if status.get("code") == 410:
                            raise Gone(410, "Expired", status.get("message", ""))
                        raise error_from(int(status.get("code") or 500), status)
                    yield event
        except (aiohttp.ClientError, TimeoutError) as lost:
            raise Unavailable(0, "ConnectionLost", str(lost) or type(lost).__name__) from lost

    async def ask(self, path: str, params: dict[str, str] | None = None) -> tuple[int, bytes]:
        """HTTP status and body of what is no object: a version, a Service's own answer through the API server's proxy.

        No status is an error here; raises Unavailable only when there is no answer at all.
        """
        url = self.login.server + path
        try:
            async with self._session.get(url, params=params, headers=self._headers(), timeout=self._timeout) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as lost:
            raise Unavailable(0, "ConnectionLost", str(lost) or type(lost).__name__) from lost

    async def pod_log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[str]:
        """Lines of a pod's log as they come; with `follow` until its container ends.

        Raises NotFound without the pod, Invalid while its container has not started, Unavailable when the line breaks.
        """
        params = {"follow": str(follow).lower(), "timestamps": str(timestamps).lower()}
        if container:
            params["container"] = container
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        url = self.login.server + PODS.path(namespace, pod, "log")
        patience = aiohttp.ClientTimeout(total=None, connect=10, sock_read=None if follow else 30)
        try:
            async with self._session.get(url, params=params, headers=self._headers(), timeout=patience) as answer:
                if answer.status >= 400:
                    raise error_from(answer.status, _parse(await answer.read()), answer.headers.get("Retry-After"))
                async for line in _lines(answer.content, unfinished_too=True):
                    yield line.decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as lost:
            raise Unavailable(0, "ConnectionLost", str(lost) or type(lost).__name__) from lost

    def _headers(self) -> dict[str, str]:
        token = self.login.token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Body | JsonPatch | None = None,
        content_type: str = "application/json",
    ) -> Body:
        if self.on_write is not None and method != "GET":
            self.on_write(method, path)
        headers = self._headers()
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method, self.login.server + path, params=params, data=data, headers=headers, timeout=self._timeout
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as lost:
            raise Unavailable(0, "ConnectionLost", str(lost) or type(lost).__name__) from lost
        parsed = _parse(raw)
        if answer.status >= 400:
            raise error_from(answer.status, parsed, answer.headers.get("Retry-After"))
        return parsed if isinstance(parsed, dict) else {}


def _event(line: bytes) -> WatchEvent:
    match _parse(line):
        case {"type": str(kind), "object": dict(body)} if kind == "ERROR" or "metadata" in body:
            return WatchEvent(kind, body)
        case _:
            raise Unavailable(0, "NoEvent", "a line of the watch is no event")


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")


async def _lines(stream: aiohttp.StreamReader, *, unfinished_too: bool = False) -> AsyncIterator[bytes]:
    """Whole lines of any length: aiohttp's own readline gives up at 64 KiB, and objects may be larger.

    What follows the last line break is part of an event that was cut off; only a log may end so.
    """
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
    if rest and unfinished_too:
        yield rest
