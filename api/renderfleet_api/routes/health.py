"""Health and metrics, for the cluster."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from renderfleet_api.parts import Use

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def alive() -> PlainTextResponse:
    """The process answers. Says nothing of what it depends on: a restart would not bring that back."""
    return PlainTextResponse("ok")


@router.get("/readyz")
async def ready(parts: Use) -> JSONResponse:
    """What answers and what does not. 503 only without the database, for then no key can be looked up.

    Without the others much still works, and a replica taken out of service would serve nothing at all.
    """
    found = await parts.readiness.look()
    is_ready = found["database"] == "ok"
    return JSONResponse({"ready": is_ready, "parts": found}, 200 if is_ready else 503)


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus text."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
