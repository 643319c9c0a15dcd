"""Where all parts of the API meet."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import FastAPI
from prometheus_client import Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from renderfleet_client import Cluster
from renderfleet_store.engine import make_engine
from renderfleet_store.media import MediaStore, StorageSettings

from . import problems
from .conditional import Unchanged, answer_unchanged
from .desk import Desk
from .http import BoundedBodyMiddleware
from .janitor import keep_clean
from .keys import KeyRing
from .limits import Limits
from .oidc import token_door
from .pages import routes as pages
from .parts import Parts
from .pictures import PictureFetcher
from .readiness import Readiness
from .routes import admin, avatars, bulk, events, health, jobs, uploads, videos, voice, webhooks
from .settings import ApiSettings
from .streams import Hub
from .tenancy import Tenancy
from .trace import TraceMiddleware
from .turns import Turns

REQUESTS: Final = Histogram(
    "renderfleet_api_request_seconds",
    "Time to the answer's first byte",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DESCRIPTION: Final = (
    "Avatars, voices and talking videos as jobs. Submit, get a job, follow it by GET or server-sent events, "
    "and read the result from its signed link. Every refusal is an RFC 9457 problem."
)


def create_app(settings: ApiSettings, storage: StorageSettings, *, cluster: Cluster | None = None) -> FastAPI:
    """The application; connections are made when it starts. Tests may pass a cluster of their own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.parts = await _make_parts(settings, storage, cluster, stack)
            yield

    app = FastAPI(
        title="RenderFleet",
        version="v1alpha1",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    app.add_exception_handler(Unchanged, answer_unchanged)
    for routes in (avatars, voice, videos, bulk, jobs, events, uploads, webhooks, admin, health):
        app.include_router(routes.router)
    pages.install(app)
    app.add_middleware(PlainAddressMiddleware)
    app.add_middleware(BoundedBodyMiddleware)
    app.add_middleware(MeasureMiddleware)
    app.add_middleware(TraceMiddleware)
    return app


async def _make_parts(
    settings: ApiSettings, storage: StorageSettings, cluster: Cluster | None, stack: AsyncExitStack
) -> Parts:
    primary = make_engine(settings.database_url, pooled=True, size=settings.database_pool_size)
    stack.push_async_callback(primary.dispose)
    replica = primary
    if settings.replica_url:
        replica = make_engine(settings.replica_url, pooled=True, size=settings.database_pool_size)
        stack.push_async_callback(replica.dispose)
    if cluster is None:
        cluster = await Cluster.connect(settings.kubeconfig, field_manager="renderfleet-api")
        stack.push_async_callback(cluster.close)
    hub = Hub(primary, settings.database_direct_url or settings.database_url)
    await hub.start()
    stack.push_async_callback(hub.close)
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key else None
    tenancy = Tenancy(cluster, settings.key_cache_seconds)
    media = MediaStore(storage)
    cleaning = asyncio.create_task(keep_clean(primary, media, settings))
    stack.callback(cleaning.cancel)
    return Parts(
        settings=settings,
        primary=primary,
        replica=replica,
        cluster=cluster,
        media=media,
        pictures=PictureFetcher(settings),
        desk=Desk(primary),
        keys=KeyRing(primary, settings.key_secret.get_secret_value(), admin_key, settings.key_cache_seconds),
        tokens=token_door(settings, tenancy, primary),
        tenancy=tenancy,
        readiness=Readiness(primary, cluster, media),
        limits=Limits(settings.rate_per_second, settings.rate_burst),
        hub=hub,
        turns=Turns(),
    )


class PlainAddressMiddleware:
    """Refuse addresses that hold U+0000: no name or id does, and PostgreSQL cannot even compare with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\x00" in scope["path"] or b"%00" in scope["query_string"]):
            refused = problems.InvalidRequest("An address may not hold the character U+0000.")
            await problems.answer(refused, Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)


class MeasureMiddleware:
    """Time each request by its route, and send the RateLimit fields that its key earned."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unmatched")
                status = str(message["status"])
                REQUESTS.labels(scope["method"], route, status).observe(time.perf_counter() - began)
                fields = scope.get("state", {}).get("rate_fields")
                if fields:
                    headers = MutableHeaders(scope=message)
                    for name, value in fields.items():
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, measured)


__all__ = ["create_app"]
