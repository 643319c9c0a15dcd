"""Health and metrics, for the cluster."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from renderfleet_api.parts import Use
from renderfleet_store.engine import transaction

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def alive() -> PlainTextResponse:
    """The process answers. Says nothing of what it depends on: a restart would not bring that back."""
    return PlainTextResponse("ok")


@router.get("/readyz")
async def ready(parts: Use) -> PlainTextResponse:
    """Able to serve: keys can be looked up. Raises StoreUnavailable, which answers 503."""
    async with transaction(parts.primary, limit_seconds=3) as connection:
        await connection.execute(text("SELECT 1"))
    return PlainTextResponse("ok")


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus text."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
