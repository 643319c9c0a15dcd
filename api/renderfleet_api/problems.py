"""Every refusal of this API, as RFC 9457 problem details.

Problem
├─ Unauthenticated  401       the caller must send a key
├─ NotAllowed       403       the key may not do this
├─ NotFound         404       no such thing, or somebody else's: not told apart
├─ Refused          409, 422  the request does not fit the state of things, or cannot be understood
├─ LimitReached     403, 429  the tenant's limit
└─ NotNow           503, 409  ours to solve: try again after Retry-After

`charged` says whether money may have been spent by this request: always `false`, unless the outcome is unknown.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException

from renderfleet_client import errors as cluster
from renderfleet_store.engine import StoreUnavailable
from renderfleet_store.media import MediaUnavailable

from .trace import trace_id

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field of the request."""

    field: str
    """Its path, as `retryPolicy.maxAttempts`; empty for the body as a whole."""
    message: str


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True)

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str
    """Stable, for programs."""
    retryable: bool
    """True when the same request may succeed later."""
    charged: str = "false"
    """Whether this request cost money: `true`, `false` or `unknown`."""
    job_id: str | None = None
    trace_id: str | None = None
    errors: list[FieldError] | None = None


class Problem(Exception):
    """A refusal with everything that its reader needs to go on."""

    status = 500
    code = "internal"
    title = "Something broke on our side"
    retryable = False

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: float | None = None,
        job_id: str | None = None,
        charged: str = "false",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.status = status or self.status
        self.errors = list(errors)
        self.job_id = job_id
        self.charged = charged
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_after_seconds)))
            self.retryable = True

    def told(self, instance: str | None = None) -> ProblemBody:
        """The problem as its reader gets it."""
        return ProblemBody(
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            retryable=self.retryable,
            charged=self.charged,
            job_id=self.job_id,
            trace_id=trace_id(),
            errors=self.errors or None,
        )

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The JSON that is sent."""
        return self.told(instance).model_dump(by_alias=True, exclude_none=True)


class Unauthenticated(Problem):
    """No key, or none that is valid."""

    status, code, title = 401, "unauthenticated", "A valid API key or token is needed"

    def __init__(self, detail: str, *, code: str | None = None, presented: bool = True) -> None:
        # RFC 6750: an error code only when credentials were presented.
        challenge = 'Bearer realm="renderfleet"' + (', error="invalid_token"' if presented else "")
        super().__init__(detail, code=code, headers={"WWW-Authenticate": challenge})


class NotAllowed(Problem):
    """The key is valid and may not do this."""

    status, code, title = 403, "not_allowed", "This key may not do that"


class NotFound(Problem):
    """Nothing there that this caller may see."""

    status, code, title = 404, "not_found", "Not found"


class Refused(Problem):
    """The request does not fit the state of things."""

    status, code, title = 409, "conflict", "Not in this state"


class InvalidRequest(Problem):
    """The request cannot be understood, or breaks a rule."""

    status, code, title = 422, "invalid_request", "The request is not valid"


class LimitReached(Problem):
    """A limit of the tenant's is used up."""

    status, code, title = 403, "limit_reached", "A limit is reached"


class TooManyRequests(Problem):
    """Slower, please."""

    status, code, title, retryable = 429, "rate_limited", "Too many requests", True


class NotNow(Problem):
    """Something that we depend on is away; nothing is wrong with the request."""

    status, code, title, retryable = 503, "unavailable", "Not available just now", True


def too_large() -> Problem:
    """A refusal of a body of which the rest is thrown away as it comes."""
    made = InvalidRequest("The body is too large.", code="body_too_large", status=413)
    made.title = "Too large"
    return made


def invalid_field(field: str, message: str) -> InvalidRequest:
    """A refusal for one field."""
    return InvalidRequest(f"{field}: {message}", errors=[FieldError(field=field, message=message)])


def responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """What a route declares in OpenAPI: these refusals, besides those that any route may give."""
    always: tuple[type[Problem], ...] = (Unauthenticated, NotAllowed, InvalidRequest, TooManyRequests, NotNow)
    made: dict[int | str, dict[str, Any]] = {}
    for kind in (*always, *kinds):
        made[kind.status] = {"description": kind.title, "model": ProblemBody}
    return made


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document in which problems have their own media type, of which FastAPI knows only one per application,
    and all that take a body refuse one without end.
    """
    problem = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation.get("responses", {}).values():
                if any(one.get("schema") == problem for one in answer.get("content", {}).values()):
                    answer["content"] = {CONTENT_TYPE: {"schema": problem}}
            if "requestBody" in operation:
                refused = {"description": "The body is too large", "content": {CONTENT_TYPE: {"schema": problem}}}
                operation["responses"]["413"] = refused
    return document


def problem_from_cluster(error: cluster.ApiError) -> Problem:
    """What a refusal by the API server means to our caller."""
    match error:
        case cluster.QuotaExceeded():
            return LimitReached(
                f"The tenant holds as many of these objects as it may: {_quota_words(error.message)}. "
                "Delete finished ones, or ask for a higher maxObjectsPerKind.",
                code="storage_limit_reached",
            )
        case cluster.QuotaNotReady() | cluster.TooManyRequests():
            return NotNow(
                "The cluster is busy.", code="cluster_busy", retry_after_seconds=error.retry_after_seconds or 2
            )
        case cluster.Invalid():
            found = [
                FieldError(field=one.get("field", "").removeprefix("spec."), message=one.get("message", ""))
                for one in error.causes
            ]
            return InvalidRequest(error.message[:500] or "The cluster refuses this object.", errors=found)
        case cluster.NotFound() if error.details.get("kind") == "namespaces":
            return Refused("The tenant's namespace is not ready yet.", code="tenant_not_ready", retry_after_seconds=2)
        case cluster.Forbidden() if "being terminated" in error.message:
            return Refused("The tenant is being deleted.", code="tenant_terminating")
        case cluster.NotFound():
            return NotFound("The object is no longer in the cluster.", code="object_gone")
        case cluster.AlreadyExists():
            return Refused("An object of that name exists.", code="name_taken")
        case cluster.Conflict():
            return Refused("Somebody changed it at the same moment; look again.", code="changed_meanwhile")
        case cluster.Unavailable():
            return NotNow(
                "The cluster did not answer; whether the request took effect is not known. "
                "With the same Idempotency-Key it is safe to repeat.",
                code="cluster_unavailable",
                charged="unknown",
                retry_after_seconds=3,
            )
    log.error("cluster refused", status=error.status, reason=error.reason, message=error.message[:300])
    return NotNow("The cluster refuses this service.", code="cluster_refused", retry_after_seconds=30)


def _quota_words(message: str) -> str:
    """`used: …, limited: …` out of the API server's sentence."""
    _, found, rest = message.partition("exceeded quota: ")
    return rest.partition(", ")[2] if found else message[:200]


def field_errors(error: RequestValidationError | ValidationError) -> list[FieldError]:
    """Pydantic's findings with paths as the caller wrote them."""
    found = []
    for one in error.errors():
        path = [str(part) for part in one["loc"] if part not in {"body", "query", "path", "header"}]
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            message = "unknown field"
        found.append(FieldError(field=".".join(path), message=message))
    return found


def invalid_request(error: RequestValidationError | ValidationError) -> InvalidRequest:
    """A refusal that names every field at fault."""
    found = field_errors(error)
    said = "; ".join(f"{one.field}: {one.message}" if one.field else one.message for one in found[:5])
    return InvalidRequest(said or "The request is not valid.", errors=found)


def answer(problem: Problem, request: Request) -> JSONResponse:
    """The response that carries a problem."""
    return JSONResponse(
        problem.body(request.url.path), problem.status, headers=problem.headers, media_type=CONTENT_TYPE
    )


def install(app: FastAPI) -> None:
    """Let every error leave as problem details, and say so in OpenAPI."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(plain())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        problem = problem_of(error)
        if problem.status == 405:
            # Each route knows only its own methods, and the first one that fits the path has answered.
            problem.headers["Allow"] = ", ".join(sorted(_methods_at(app, request)))
        return answer(problem, request)

    for kind in (
        Problem,
        RequestValidationError,
        cluster.ApiError,
        StoreUnavailable,
        MediaUnavailable,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, on_problem)


def _methods_at(app: FastAPI, request: Request) -> set[str]:
    known = app.openapi()["paths"]
    here = request.url.path
    fitting = (
        [here] if here in known else [one for one in known if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", one), here)]
    )
    return {method.upper() for path in fitting for method in known[path]}


def problem_of(error: Exception) -> Problem:
    """What any error means to our caller; what is not known is logged and told as an internal one."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return invalid_request(error)
        case cluster.ApiError():
            return problem_from_cluster(error)
        case StoreUnavailable():
            log.warning("database away", error=str(error))
            return NotNow("The database is away.", code="database_unavailable", retry_after_seconds=5)
        case MediaUnavailable():
            log.warning("object storage away", error=str(error))
            return NotNow("The media storage is away.", code="storage_unavailable", retry_after_seconds=5)
        case HTTPException(status_code=400):
            return InvalidRequest("The body is not JSON in UTF-8.")
        case HTTPException(status_code=413):
            return too_large()
        case HTTPException():
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
            made = Problem(str(error.detail), code=code, status=error.status_code, headers=error.headers)
            made.title = str(error.detail)
            return made
    log.error("request failed", exc_info=error)
    return Problem("The request failed; the trace id finds it in the logs.")
