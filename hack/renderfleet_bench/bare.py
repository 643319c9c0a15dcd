"""What `GET /jobs/{id}` is held against: `python -m renderfleet_bench.bare`, one FastAPI route that selects one row.

The same server, the same driver, the same pool and the same table; no key, no tenant, no links, no ETag.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from renderfleet_api.settings import ApiSettings
from renderfleet_store.engine import make_engine
from renderfleet_store.tables import jobs


def create_app(settings: ApiSettings) -> FastAPI:
    """The one route, and one to see whether it serves."""
    engine = make_engine(settings.database_url, pooled=True, size=settings.database_pool_size)
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> str:
        return "ok"

    @app.get("/rows/{uid}")
    async def row(uid: str) -> dict[str, Any]:
        """The row as it is."""
        async with engine.begin() as connection:
            found = await connection.execute(select(jobs).where(jobs.c.uid == uid))
            return dict(found.mappings().one())

    return app


def main() -> int:
    """Serve until told to stop; settings are those of the API."""
    settings = ApiSettings()
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
