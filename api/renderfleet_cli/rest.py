"""The fleet by its REST API: one tenant's renders, or an administrator's view of tenants and providers."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2

from .door import Via, Wanted, Wish
from .errors import CliError, Failed, Misused, NotAllowed, NotThere, Unreachable
from .profiles import Profile
from .views import (
    Estimate,
    Named,
    Provider,
    Render,
    Surroundings,
    Tenant,
    after_event,
    from_job,
    parse_selector,
    provider_from_api,
    tenant_from,
)

ROUTES: Final = {"AvatarRender": "/avatars/previews", "VoiceJob": "/voice", "VideoRender": "/videos"}
Params = list[tuple[str, str | int | float | bool | None]]
_PAGE: Final = 200
_SEARCHED: Final = 25
"""Pages looked through for a name; older jobs are found by their id."""
_TRIES: Final = 4
_LONGEST_PAUSE_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 45.0
"""The server lets something be heard every 15 seconds; three times that is a dead line."""


class RestDoor:
    """The REST API with one key."""

    via: Via = "rest"

    def __init__(self, profile: Profile, *, program: str = "renderfleet", timeout_seconds: float = 30) -> None:
        self.where = profile.url
        self._program = program
        self._http = httpx2.Client(
            base_url=profile.url,
            headers={"Authorization": f"Bearer {profile.key}", "User-Agent": "renderfleet-cli"},
            timeout=timeout_seconds,
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def renders(self, wanted: Wanted) -> list[Render]:
        """The tenant's jobs, newest first. Raises Misused for a selector that is more than equalities."""
        params = _query(wanted)
        found: list[Render] = []
        for job in self._pages("/jobs", params, wanted.limit):
            render = from_job(job)
            if wanted.provider in {None, render.provider}:
                found.append(render)
            if wanted.limit is not None and len(found) >= wanted.limit:
                break
        return found

    def find(self, name: Named, *, everywhere: bool = False) -> list[Render]:
        """The job of that id, or the newest of that name. A key sees one namespace, so `everywhere` adds nothing."""
        del everywhere
        if _is_id(name.name):
            try:
                return [from_job(self.call("GET", f"/jobs/{name.name}"))]
            except NotThere:
                return []
        params: Params = [("kind", name.kind)] if name.kind else []
        for job in self._pages("/jobs", params, _PAGE * _SEARCHED):
            render = from_job(job)
            if name.fits(render):
                return [render]
        return []

    def submit(self, wish: Wish) -> Render:
        """The job that was accepted. A lost answer is asked for again with the same key, so that it is made once."""
        headers = {"Idempotency-Key": f"cli-{uuid.uuid4()}"}
        return from_job(self.call("POST", ROUTES[wish.kind], _body(wish), headers=headers, may_repeat=True))

    def estimate(self, wish: Wish) -> Estimate:
        """What the API says that it would be, cost, and have to wait."""
        answer = self.call("POST", ROUTES[wish.kind], _body(wish), params=[("dryRun", "true")], may_repeat=True)
        return Estimate(
            kind=answer["kind"],
            spec=answer["spec"],
            micros=answer["cost"].get("estimatedMicros"),
            currency=answer["cost"].get("currency") or "USD",
            start_seconds=answer.get("startSeconds"),
        )

    def hold(self, provider: str, *, held: bool) -> None:
        """For administrators."""
        self.call("POST", f"/admin/providers/{provider}/{'hold' if held else 'release'}", may_repeat=True)

    def cancel(self, render: Render) -> Render:
        """The job after it was told to stop."""
        return from_job(self.call("POST", f"/jobs/{render.id}/cancel", may_repeat=True))

    def retry(self, render: Render) -> Render:
        """The job after it was told to begin anew; asking twice counts once."""
        job = from_job(self.call("POST", f"/jobs/{render.id}/retry", may_repeat=True))
        return replace(job, redrive_asked=job.run <= render.run)

    def redrive_dead_letters(self, ids: Sequence[str], tenant: str | None) -> tuple[list[str], dict[str, str]]:
        """Ids of what is tried again, and reasons by id of what is not. For administrators."""
        body = {"ids": list(ids), "limit": len(ids), **({"tenant": tenant} if tenant else {})}
        answer = self.call("POST", "/admin/dead-letters/redrive", body)
        return list(answer["redriven"]), dict(answer.get("failed") or {})

    def dead_letters(self, tenant: str | None) -> list[Render]:
        """Renders whose retries are used up, of all tenants or one. For administrators."""
        return [
            from_job(one) for one in self._pages("/admin/dead-letters", [("tenant", tenant)] if tenant else [], None)
        ]

    def providers(self) -> list[Provider] | None:
        """All vendor accounts, None without an administrator's key."""
        try:
            return [provider_from_api(one) for one in self.call("GET", "/admin/providers")["items"]]
        except NotAllowed:
            return None

    def tenants(self) -> list[Tenant] | None:
        """All tenants, None without an administrator's key."""
        try:
            found = self.call("GET", "/admin/tenants")["items"]
        except NotAllowed:
            return None
        return [tenant_from(one["name"], one.get("spec") or {}, one.get("status") or {}) for one in found]

    def surroundings(self, render: Render) -> Surroundings:
        """A tenant's key sees nothing but its own jobs; the operator's message in them says the rest."""
        del render
        return Surroundings(program=self._program)

    def follow(self, renders: Sequence[Render], timeout_seconds: float | None = None) -> Iterator[Render]:
        """Each change of these jobs until all are over. A broken stream goes on from the last event that arrived."""
        pending = {one.id: one for one in renders}
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        last_id = ""
        failures = 0
        while pending:
            try:
                for event_id, kind, data in self._events(last_id, deadline):
                    failures = 0
                    last_id = event_id or last_id
                    if kind in {"hello", "reset"}:
                        # What happened before the stream stood is in the jobs themselves.
                        changed = [from_job(self.call("GET", f"/jobs/{one}")) for one in pending]
                    else:
                        changed = self._changed(pending, kind, data)
                    for render in changed:
                        pending[render.id] = render
                        yield render
                        if render.is_over:
                            del pending[render.id]
                    if not pending:
                        return
                    _check(deadline, pending)
            except Unreachable as lost:
                failures += 1
                _check(deadline, pending)
                if failures >= _TRIES:
                    raise lost
            else:
                _check(deadline, pending)
            time.sleep(min(0.5 * 2**failures, 5))

    def _changed(self, pending: dict[str, Render], kind: str, data: dict[str, Any]) -> list[Render]:
        before = pending.get(data.get("id", ""))
        if before is None:
            return []
        if kind in {"end", "deleted"}:
            # Events tell of a job in short; its end is worth the whole of it.
            return [from_job(self.call("GET", f"/jobs/{before.id}"))]
        return [after_event(before, data)]

    def _events(self, last_id: str, deadline: float | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        silence = _SILENCE_SECONDS
        if deadline is not None:
            silence = min(silence, max(0.1, deadline - time.monotonic()))
        timeout = httpx2.Timeout(10, read=silence)
        try:
            with self._http.stream("GET", "/events", headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer, self.where)
                yield from parse_events(answer.iter_lines())
        except httpx2.TransportError as lost:
            raise _unreachable(self.where, lost) from lost

    def _pages(self, path: str, params: Params, most: int | None) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        seen = 0
        while True:
            size = _PAGE if most is None else max(1, min(_PAGE, most - seen))
            here = [*params, ("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
            page = self.call("GET", path, params=here)
            yield from page["items"]
            seen += len(page["items"])
            cursor = page.get("nextCursor")
            if not cursor or (most is not None and seen >= most):
                return

    def look(self, path: str) -> tuple[int, bytes]:
        """HTTP status and body of a GET, whatever they are. Raises Unreachable without an answer."""
        try:
            answer = self._http.get(path)
        except httpx2.TransportError as lost:
            raise _unreachable(self.where, lost) from lost
        return answer.status_code, answer.content

    def first_byte(self, link: str) -> int:
        """HTTP status of a signed link, which must not see our key. Raises Unreachable without an answer."""
        try:
            with httpx2.stream("GET", link, headers={"Range": "bytes=0-0"}, timeout=10) as answer:
                return answer.status_code
        except (httpx2.TransportError, httpx2.InvalidURL) as lost:
            raise Unreachable(f"storage does not answer: {str(lost) or type(lost).__name__}") from lost

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        params: Params | None = None,
        headers: dict[str, str] | None = None,
        may_repeat: bool = False,
    ) -> Any:
        """The answer's JSON. Raises CliError in the API's own words.

        Asked again after a short pause when the API says "not now", and after a lost answer only where that is harmless.
        """
        harmless = method == "GET" or may_repeat
        for attempt in range(1, _TRIES + 1):
            last = attempt == _TRIES
            try:
                answer = self._http.request(method, path, json=body, params=params, headers=headers)
            except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as wrong:
                raise Misused(f"{self.where} is no address of an API", "it begins with https://") from wrong
            except httpx2.ConnectError as lost:
                raise _unreachable(self.where, lost) from lost
            except httpx2.TransportError as lost:
                if last or not harmless:
                    raise _unreachable(self.where, lost) from lost
                time.sleep(0.3 * 2**attempt)
                continue
            pause = _pause_of(answer)
            if pause is not None and pause <= _LONGEST_PAUSE_SECONDS and not last:
                time.sleep(pause)
                continue
            if not answer.is_success:
                raise error_of(answer, self.where)
            return _json_of(answer, self.where)
        raise AssertionError("the last try returns or raises")


def _body(wish: Wish) -> dict[str, Any]:
    return {
        **wish.spec,
        **({"name": wish.name} if wish.name else {}),
        **({"labels": dict(wish.labels)} if wish.labels else {}),
    }


def parse_events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Server-sent events as (id, type, data); comments, which only keep the line open, are skipped."""
    event_id, kind, data = "", "message", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                event_id = value
            case "event":
                kind = value
            case "data":
                data += value
            case "" if not line:
                if data:
                    yield event_id, kind, json.loads(data)
                event_id, kind, data = "", "message", ""


def error_of(answer: httpx2.Response, where: str) -> CliError:
    """What a refusal means to the person at the terminal."""
    problem = _problem_of(answer)
    if problem is None:
        kind = Unreachable if answer.status_code >= 500 else Misused
        return kind(
            f"{where} answered {answer.status_code} and not in the words of this API",
            "check the address: it is that of the RenderFleet API, without a path",
        )
    said = str(problem.get("detail") or problem.get("title") or answer.status_code)
    trace = f" (trace {problem['traceId']})" if problem.get("traceId") else ""
    match answer.status_code:
        case 401:
            return Misused(said, f"`renderfleet login {where}` with a valid key")
        case 403 if problem.get("code") == "tenant_key_needed":
            return NotAllowed(said, "log in with a key of a tenant, or go by the cluster: --via cluster")
        case 403:
            return NotAllowed(said, "ask an administrator for a key, or a limit, that allows it")
        case 404:
            return NotThere(said, "`renderfleet list` shows what there is")
        case 409:
            return Failed(said + trace)
        case 400 | 405 | 413 | 415 | 422:
            lines = [
                f"{one['field']}: {one['message']}" if one["field"] else one["message"]
                for one in problem.get("errors") or ()
            ]
            return Misused("; ".join(lines) or said, "`renderfleet submit KIND --help` lists what each field takes")
        case 429 | 502 | 503 | 504:
            return Unreachable(said + trace, "try again in a moment; `renderfleet doctor` says what is away")
        case _:
            return Unreachable(said + trace, "the trace id finds it in the API's log")


def _problem_of(answer: httpx2.Response) -> dict[str, Any] | None:
    if "json" not in answer.headers.get("content-type", ""):
        return None
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and ("code" in body or "detail" in body) else None


def _json_of(answer: httpx2.Response, where: str) -> Any:
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError:
        raise Misused(
            f"{where} answered {answer.status_code} without JSON",
            "check the address: it is that of the RenderFleet API",
        ) from None


def _pause_of(answer: httpx2.Response) -> float | None:
    """Seconds to wait when the API asks to be asked again; it has done nothing then."""
    if answer.status_code not in {429, 503}:
        return None
    try:
        return max(0.1, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _unreachable(where: str, lost: Exception) -> Unreachable:
    return Unreachable(
        f"{where} does not answer: {str(lost) or type(lost).__name__}",
        "check the address and your network; RENDERFLEET_URL or `renderfleet login URL` set it",
    )


def _check(deadline: float | None, pending: dict[str, Render]) -> None:
    """Raises Failed once the time to wait is over."""
    if deadline is not None and pending and time.monotonic() >= deadline:
        raise still_going(list(pending.values()))


def still_going(renders: Sequence[Render]) -> Failed:
    """The error for a wait that was given up; the renders themselves go on."""
    first = renders[0]
    others = f" and {len(renders) - 1} more" if len(renders) > 1 else ""
    return Failed(
        f"{first.short_ref}{others} not over in time; the last seen of it: {first.phase} {first.reason}".rstrip(),
        f"it goes on; `renderfleet why {first.short_ref}` says what it waits for",
    )


def _query(wanted: Wanted) -> Params:
    params: Params = [("status", phase) for phase in wanted.phases]
    if wanted.kind:
        params.append(("kind", wanted.kind))
    if wanted.selector:
        try:
            params += [("label", f"{name}={value}") for name, value in parse_selector(wanted.selector).items()]
        except ValueError as wrong:
            raise Misused(str(wrong), "use equalities, or go by the cluster with --via cluster") from None
    if wanted.since_seconds is not None:
        start = datetime.now(UTC) - timedelta(seconds=wanted.since_seconds)
        params.append(("createdAfter", start.isoformat(timespec="seconds").replace("+00:00", "Z")))
    return params


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
