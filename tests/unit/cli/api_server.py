"""A small REST API that really listens: what of RenderFleet's a command line can see, kept in memory.

It answers as api/renderfleet_api does (test_views.py holds its jobs against the real views), and can be told to misbehave.
"""

import json
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TENANT_KEY, ADMIN_KEY = "rf_tenant", "rf_admin"
KINDS = {"/avatars/previews": "AvatarRender", "/voice": "VoiceJob", "/videos": "VideoRender"}

Job = dict[str, Any]
Fault = Callable[["Handler"], None]


class Api:
    """The state behind the server, for tests to set and to look at."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.providers: list[dict[str, Any]] = []
        self.tenants: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.by_key: dict[str, str] = {}
        self.faults: list[Fault] = []
        """The next requests meet these, one each, before anything is done."""
        self.after: list[Fault] = []
        """The next requests meet these after all is done and before the answer is sent."""
        self.ready: tuple[int, Any] = (
            200,
            {"ready": True, "parts": dict.fromkeys(("database", "kubernetes", "storage"), "ok")},
        )
        self.media_status = 206
        self.media_headers: dict[str, str] = {}
        self.on_submit: Callable[[Job], None] = lambda job: None
        self.on_watch: Callable[[], None] = lambda: None
        """Called when an event stream has been opened."""
        self.streams: list[queue.Queue[tuple[int, str, Any] | None]] = []
        self.history: list[tuple[int, str, Any]] = []
        self.url = ""

    def add(self, kind: str = "VoiceJob", name: str = "greeting", **told: Any) -> Job:
        job: Job = {
            "id": str(uuid.uuid4()), "kind": kind, "name": name, "namespace": "rf-acme", "provider": "elevenlabs",
            "status": "Queued", "reason": None, "message": None, "stage": None, "progress": 0, "attempts": 0, "run": 0,
            "attemptLog": [], "queue": None, "cost": None, "error": None, "resultUrl": None, "outputs": [],
            "labels": {}, "priority": 100, "createdAt": datetime.now(UTC).isoformat(), "startedAt": None,
            "finishedAt": None, "deletedAt": None, **told,
        }  # fmt: skip
        self.jobs[job["id"]] = job
        return job

    def change(self, job: Job, **told: Any) -> None:
        """Change a job and tell all who listen, in short, as the real events do."""
        job.update(told)
        kind = "end" if job["finishedAt"] else "changed"
        short = (
            "id",
            "kind",
            "namespace",
            "name",
            "status",
            "reason",
            "message",
            "stage",
            "progress",
            "attempts",
            "run",
            "queue",
            "error",
        )
        self.tell(kind, {name: job[name] for name in short if job[name] is not None})

    def succeed(self, job: Job) -> None:
        self.change(
            job,
            status="Succeeded",
            reason="MediaReady",
            progress=100,
            finishedAt=datetime.now(UTC).isoformat(),
            resultUrl=f"{self.url}/media/{job['name']}.mp3",
            outputs=[{"name": "speech", "key": f"media/{job['name']}.mp3"}],
        )

    def tell(self, kind: str, data: Any) -> None:
        event = (len(self.history) + 1, kind, data)
        self.history.append(event)
        for one in list(self.streams):
            one.put(event)

    def cut_streams(self) -> None:
        """Break all connections of listeners."""
        for one in list(self.streams):
            one.put(None)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, *_: Any) -> None:
        """Tests read answers, not access logs."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        self.api.requests.append((self.command, self.path))
        if self.api.faults:
            self.api.faults.pop(0)(self)
            return
        try:
            status, answer = self._answer(split.path, parse_qsl(split.query), body)
        except Refusal as refused:
            status, answer = refused.status, refused.problem
        if self.api.after:
            self.api.after.pop(0)(self)
            return
        if status:
            self.send(status, answer)

    def send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        is_text = isinstance(answer, str)
        raw = answer.encode() if is_text else json.dumps(answer).encode()
        kind = "text/plain" if is_text else "application/problem+json" if status >= 400 else "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def _answer(self, path: str, query: list[tuple[str, str]], body: dict[str, Any]) -> tuple[int, Any]:
        api = self.api
        if path == "/readyz":
            return api.ready
        if path.startswith("/media/"):
            api.media_headers = dict(self.headers)
            return api.media_status, "x"
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if key not in {TENANT_KEY, ADMIN_KEY}:
            raise Refusal(401, "unauthenticated", "The API key is not valid: mistyped, expired or revoked.")
        if path.startswith("/admin/"):
            return self._admin(path, query, body, key)
        if key == ADMIN_KEY:
            raise Refusal(403, "tenant_key_needed", "This is a tenant's route; use a key of the tenant.")
        match self.command, path.strip("/").split("/"):
            case "GET", ["jobs"]:
                return 200, self._page([one for one in reversed(api.jobs.values()) if _fits(one, query)], query)
            case "GET", ["events"]:
                self._stream()
                return 0, None
            case "GET", ["jobs", job_id]:
                return 200, self._job(job_id)
            case "POST", ["jobs", job_id, "cancel"]:
                job = self._job(job_id)
                if job["finishedAt"]:
                    raise Refusal(409, "job_over", f"The job is over: {job['status']}.")
                api.change(job, status="Aborted", reason="CancelledByUser", finishedAt=datetime.now(UTC).isoformat())
                return 202, job
            case "POST", ["jobs", job_id, "retry"]:
                job = self._job(job_id)
                if job["status"] not in {"Failed", "DeadLettered", "Cancelled", "Aborted", "Held"}:
                    raise Refusal(409, "not_retryable", f"Only a job that ended badly or is held can be retried; this one is {job['status']}.")  # fmt: skip
                return 202, job
            case "POST", _ if path in KINDS:
                return self._submit(KINDS[path], body, dry_run=("dryRun", "true") in query)
        raise Refusal(404, "not_found", "Not Found")

    def _submit(self, kind: str, body: dict[str, Any], *, dry_run: bool) -> tuple[int, Any]:
        api = self.api
        if kind == "VoiceJob" and ("text" in body) == ("prompt" in body):
            problem = Refusal(422, "invalid_request", "give exactly one of text and prompt")
            problem.problem["errors"] = [{"field": "", "message": "give exactly one of text and prompt"}]
            raise problem
        if dry_run:
            cost = {"estimatedMicros": 63_405, "actualMicros": None, "currency": "USD"}
            return 200, {"dryRun": True, "kind": kind, "spec": body, "cost": cost, "usage": {}, "startSeconds": 90}
        key = self.headers.get("Idempotency-Key") or str(uuid.uuid4())
        if key not in api.by_key:
            api.bodies.append(body)
            name = body.get("name") or f"{kind[:2].lower()}-{len(api.jobs)}"
            job = api.add(kind, name, labels=body.get("labels") or {})
            api.by_key[key] = job["id"]
            api.on_submit(job)
        return 202, api.jobs[api.by_key[key]]

    def _admin(self, path: str, query: list[tuple[str, str]], body: dict[str, Any], key: str) -> tuple[int, Any]:
        api = self.api
        if key != ADMIN_KEY:
            raise Refusal(403, "admin_key_needed", "This needs an administrator's key.")
        dead = [one for one in api.jobs.values() if one["status"] == "DeadLettered"]
        match path:
            case "/admin/providers/did/hold" | "/admin/providers/did/release":
                return 200, {"name": "did", "hold": path.endswith("hold")}
            case "/admin/tenants":
                return 200, {"items": api.tenants}
            case "/admin/providers":
                return 200, {"items": api.providers}
            case "/admin/dead-letters":
                return 200, self._page(list(reversed(dead)), query)
            case "/admin/dead-letters/redrive":
                api.bodies.append(body)
                ids = {one["id"] for one in dead}
                return 200, {
                    "redriven": [one for one in body["ids"] if one in ids],
                    "failed": {one: "not_a_dead_letter" for one in body["ids"] if one not in ids},
                }
        raise Refusal(404, "not_found", "Not Found")

    def _page(self, jobs: list[Job], query: list[tuple[str, str]]) -> dict[str, Any]:
        given = dict(query)
        start, size = int(given.get("cursor", 0)), int(given.get("limit", 50))
        rest = len(jobs) > start + size
        return {"items": jobs[start : start + size], "nextCursor": str(start + size) if rest else None}

    def _job(self, job_id: str) -> Job:
        if job_id not in self.api.jobs:
            raise Refusal(404, "not_found", "There is no job of that id.")
        return self.api.jobs[job_id]

    def _stream(self) -> None:
        api = self.api
        mine: queue.Queue[tuple[int, str, Any] | None] = queue.Queue()
        last = self.headers.get("Last-Event-ID")
        start = int(last) if last else len(api.history)
        api.streams.append(mine)
        for event in api.history[start:]:
            mine.put(event)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self._event(start, "hello", {"cursor": start})
            self.wfile.write(b": keep-alive\n\n")
            api.on_watch()
            while (event := mine.get(timeout=20)) is not None:
                self._event(*event)
        except (OSError, queue.Empty):
            pass
        finally:
            api.streams.remove(mine)

    def _event(self, number: int, kind: str, data: Any) -> None:
        self.wfile.write(f"id: {number}\nevent: {kind}\nretry: 1000\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


class Refusal(Exception):
    """An answer that is a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.problem: dict[str, Any] = {
            "title": detail, "status": status, "detail": detail, "code": code, "retryable": False, "traceId": "t" * 32,
        }  # fmt: skip


def _fits(job: Job, query: list[tuple[str, str]]) -> bool:
    phases = [value for name, value in query if name == "status"]
    kinds = [value for name, value in query if name == "kind"]
    labels = dict(value.split("=", 1) for name, value in query if name == "label")
    return (
        (not phases or job["status"] in phases)
        and (not kinds or job["kind"] in kinds)
        and all(job["labels"].get(name) == value for name, value in labels.items())
    )


def refuse(status: int, code: str = "unavailable", headers: dict[str, str] | None = None) -> Fault:
    """Answer with this problem."""
    return lambda handler: handler.send(status, Refusal(status, code, "Not now.").problem, headers)


def hang_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def speak_html(handler: Handler) -> None:
    """Answer as a proxy does that knows nothing of us."""
    handler.send(502, "<html>bad gateway</html>")


@contextmanager
def running() -> Iterator[Api]:
    """An API on a free port of loopback."""
    api = Api()
    handler = type("BoundHandler", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        api.cut_streams()
        server.shutdown()
        server.server_close()
        thread.join()
