"""The page's routes: whole pages, and the fragments that htmx puts into them."""

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, select_autoescape
from sqlalchemy import RowMapping

from renderfleet_api.auth import TenantCaller
from renderfleet_api.keys import Caller
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotFound, Problem, problem_of
from renderfleet_api.routes import admin, events
from renderfleet_api.routes.common import Show, find_job
from renderfleet_api.routes.jobs import cancel_job, retry_job
from renderfleet_api.schemas import JobId
from renderfleet_api.tenancy import TENANTS
from renderfleet_api.views import page_of, place_of
from renderfleet_client.errors import ApiError
from renderfleet_crds.kinds import BY_KIND
from renderfleet_crds.phases import FINAL, Phase
from renderfleet_store import jobs
from renderfleet_store.engine import transaction

from . import words
from .session import SIGN_IN, SignInNeeded, TenantVisitor, Visitor, begin, end, same_site, to_sign_in


class PageRoute(APIRoute):
    """A route whose refusals are pages too: a person can do little with JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler; it still raises SignInNeeded, which leads elsewhere."""
        handle = super().get_route_handler()

        async def handle_for_people(request: Request) -> Response:
            try:
                return await handle(request)
            except SignInNeeded:
                raise
            except RequestValidationError:
                # Whoever types an address wants no lecture on its pattern.
                return _refusal(request, NotFound("There is no such page."))
            except Exception as trouble:
                return _refusal(request, problem_of(trouble))

        return handle_for_people


router = APIRouter(include_in_schema=False, route_class=PageRoute)
_HERE: Final = Path(__file__).parent
_PAGE: Final = 30
_HEADERS: Final = {
    # Media come from wherever the storage is; scripts and styles from here only.
    "Content-Security-Policy": "default-src 'self'; img-src * data:; media-src *; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_environment = Environment(
    loader=PackageLoader("renderfleet_api.pages"), autoescape=select_autoescape(default=True), trim_blocks=True
)
_environment.filters.update(
    tone=words.tone,
    money=words.money,
    length=words.length,
    spell=words.spell,
    clock=words.clock,
    charged=words.charged,
)
_environment.globals.update(
    explanation=words.explanation,
    phases=[one.value for one in Phase],
    ends=[one.value for one in FINAL],
    waits=[Phase.QUEUED.value, Phase.RETRYING.value],
    kinds=[kind for kind, about in BY_KIND.items() if about.stages],
)
templates = Jinja2Templates(env=_environment)

Filter = Annotated[str, Query(max_length=32)]


def install(app: FastAPI) -> None:
    """Add the page to the application."""
    app.include_router(router)
    app.mount("/ui/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.add_exception_handler(SignInNeeded, to_sign_in)


def _page(request: Request, name: str, caller: Caller | TenantCaller | None, **given: Any) -> Response:
    return templates.TemplateResponse(request, name, {"caller": caller, **given}, headers=_HEADERS)


def _refusal(request: Request, problem: Problem) -> Response:
    """A page that says why; htmx puts none of it into the page that it has, so a line of text does."""
    if _wants_fragment(request):
        return PlainTextResponse(problem.detail, problem.status, headers=problem.headers)
    page = _page(request, "error.html", None, problem=problem.told())
    page.status_code = problem.status
    page.headers.update(problem.headers)
    return page


@router.get("/")
async def root() -> Response:
    """People who open the bare address want the page."""
    return Response(status_code=307, headers={"Location": "/ui"})


@router.get(SIGN_IN)
async def sign_in_form(request: Request) -> Response:
    """Ask for a key."""
    return _page(request, "sign_in.html", None, wrong=False)


@router.post(SIGN_IN, dependencies=[Depends(same_site)])
async def sign_in(request: Request, parts: Use, key: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Begin a session."""
    caller = await parts.keys.caller(key.strip())
    if caller is None:
        answer = _page(request, "sign_in.html", None, wrong=True)
        answer.status_code = 401
        return answer
    answer = Response(status_code=303, headers={"Location": "/ui" if caller.tenant else "/ui/fleet"})
    begin(parts, request, answer, key.strip())
    return answer


@router.post("/ui/sign-out", dependencies=[Depends(same_site)])
async def sign_out() -> Response:
    """End the session."""
    answer = Response(status_code=303, headers={"Location": SIGN_IN})
    end(answer)
    return answer


@router.get("/ui")
async def overview(
    *,
    request: Request,
    caller: Visitor,
    parts: Use,
    show: Show,
    kind: Filter = "",
    status: Filter = "",
    cursor: str = "",
) -> Response:
    """All jobs of the tenant, live."""
    if caller.tenant is None or caller.namespace is None:
        return Response(status_code=303, headers={"Location": "/ui/fleet"})
    whose = TenantCaller(caller.key_id, caller.tenant, caller.namespace)
    news_after = await _latest_event(parts, whose)
    shown = await _jobs(whose, parts, show, kind=kind, status=status, cursor=cursor)
    name = "_jobs.html" if _wants_fragment(request) else "jobs.html"
    return _page(request, name, whose, kind=kind, status=status, cursor=cursor, news_after=news_after, **shown)


@router.get("/ui/jobs/{job_id}")
async def one_job(request: Request, job_id: JobId, caller: TenantVisitor, parts: Use, show: Show) -> Response:
    """One job: what it made, why it waits, what went wrong."""
    news_after = await _latest_event(parts, caller)
    row = await find_job(parts, caller, job_id)
    name = "_job.html" if _wants_fragment(request) else "job.html"
    return _page(request, name, caller, news_after=news_after, **_one(row, show))


@router.post("/ui/jobs/{job_id}/{action}", dependencies=[Depends(same_site)])
async def act_on_job(
    *, request: Request, job_id: JobId, action: str, caller: TenantVisitor, parts: Use, show: Show
) -> Response:
    """Cancel or retry, and show the job as it is then."""
    trouble = None
    try:
        if action == "cancel":
            await cancel_job(job_id, caller, parts, show)
        elif action == "retry":
            await retry_job(job_id, caller, parts, show)
    except Problem as refused:
        trouble = refused.detail
    row = await find_job(parts, caller, job_id)
    if not request.headers.get("hx-request"):
        return Response(status_code=303, headers={"Location": f"/ui/jobs/{job_id}"})
    return _page(request, "_job.html", caller, **_one(row, show), trouble=trouble)


@router.get("/ui/events", response_class=EventSourceResponse)
async def live(
    *,
    caller: TenantVisitor,
    parts: Use,
    after: Annotated[str, Query(max_length=20)] = "",
    last_event_id: events.LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """The tenant's events since the page was rendered, for the page's own script."""
    async for event in events.follow_tenant(caller, parts, last_event_id or after):
        yield event


@router.get("/ui/fleet")
async def fleet(request: Request, caller: Visitor, parts: Use) -> Response:
    """Providers' circuits and the tenant's limits; for administrators, all tenants and the switches."""
    is_admin = "admin" in caller.scopes
    trouble, providers, tenants = None, [], []
    try:
        providers = [admin.provider_view(one) for one in (await parts.cluster.list(admin.PROVIDERS)).items]
        found = (
            (await parts.cluster.list(TENANTS)).items
            if is_admin
            else [await parts.cluster.get(TENANTS, caller.tenant or "")]
        )
        tenants = [admin.tenant_view(one) for one in found]
    except ApiError as refused:
        trouble = f"The cluster does not answer: {refused.reason or refused.status}."
    async with parts.for_lists() as connection:
        counts = await jobs.counts(connection, None if is_admin else caller.namespace)
    name = "_fleet.html" if _wants_fragment(request) else "fleet.html"
    given = {"providers": providers, "tenants": tenants, "counts": counts, "is_admin": is_admin, "trouble": trouble}
    return _page(request, name, caller, **given)


@router.post("/ui/providers/{name}/{action}", dependencies=[Depends(same_site)])
async def switch_provider(request: Request, name: str, action: str, caller: Visitor, parts: Use) -> Response:
    """Hold or release a provider; for administrators."""
    if "admin" in caller.scopes and action in {"hold", "release"}:
        await admin.set_hold(parts, name, hold=action == "hold")
    return await fleet(request, caller, parts)


async def _latest_event(parts: Parts, caller: TenantCaller) -> int:
    """Where the page's stream begins. Read before what the page shows, so that nothing falls between the two."""
    async with transaction(parts.primary) as connection:
        return await jobs.latest_event(connection, caller.namespace)


async def _jobs(
    caller: TenantCaller, parts: Parts, show: Show, *, kind: str, status: str, cursor: str
) -> dict[str, Any]:
    wanted = jobs.JobFilter(
        namespace=caller.namespace,
        kind=kind if kind in BY_KIND else None,
        phases=[status] if status in set(Phase) else [],
    )
    # Events come from the primary, and a replica that lags would show the state before the event.
    async with transaction(parts.primary) as connection:
        rows = await jobs.page(connection, wanted, limit=_PAGE + 1, after=place_of(cursor or None))
    return dict(page_of(rows, _PAGE, "uid", show.job))


def _one(row: RowMapping, show: Show) -> dict[str, Any]:
    return {"job": show.job(row), "spec": _told(row), "asked": row["spec"].get("redrive", 0) > row["run"]}


def _wants_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page; going back in history it wants the whole, though."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def _told(row: RowMapping) -> dict[str, Any]:
    """What the client asked for, without the switches that every render has."""
    usual = {"priority", "suspend", "cancel", "redrive", "retryPolicy", "runDeadlineSeconds", "queueDeadlineSeconds"}
    return {
        name: words.in_words(value)
        for name, value in row["spec"].items()
        if name not in usual and value not in (None, "", [])
    }
