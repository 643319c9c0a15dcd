"""Where all parts meet: one application, three vendors, one control door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.responses import RedirectResponse

from renderfleet_standin.control import ControlDoor
from renderfleet_standin.core import Standin
from renderfleet_standin.did_api import errors as did_errors
from renderfleet_standin.did_api import routes as did_routes
from renderfleet_standin.doorway import Doorway
from renderfleet_standin.elevenlabs_api import errors as elevenlabs_errors
from renderfleet_standin.elevenlabs_api import routes as elevenlabs_routes
from renderfleet_standin.openai_api import errors as openai_errors
from renderfleet_standin.openai_api import routes as openai_routes
from renderfleet_standin.settings import StandinSettings


def create_app(settings: StandinSettings) -> FastAPI:
    """The whole stand-in. Serve it with `transport.Protocol`, or the faults that break connections cannot."""
    standin = Standin(
        settings,
        rows={"openai": openai_errors.ROWS, "elevenlabs": elevenlabs_errors.ROWS, "did": did_errors.ROWS},
        operations={
            "openai": openai_errors.OPERATIONS,
            "elevenlabs": elevenlabs_errors.OPERATIONS,
            "did": did_errors.OPERATIONS,
        },
    )
    elevenlabs = elevenlabs_routes.ElevenLabsSide(standin)
    did = did_routes.DidSide(standin)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await did.start()
        yield
        await did.stop()
        standin.close()

    def forget() -> None:
        did.forget_everything()
        elevenlabs.forget_everything()

    app = FastAPI(title="RenderFleet vendor stand-in", lifespan=lifespan)
    app.state.standin = standin

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Ready as soon as it answers."""
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        """People who open the bare address want the ledger."""
        return RedirectResponse("/_standin/")

    app.include_router(ControlDoor(standin, forget).router())
    app.mount(
        "/openai/v1",
        Doorway(openai_routes.OpenAISide(standin).app(), standin, "openai", openai_routes.headers_for(standin)),
    )
    app.mount("/elevenlabs", Doorway(elevenlabs.app(), standin, "elevenlabs", elevenlabs_routes.headers_for(standin)))
    app.mount("/did", Doorway(did.app(), standin, "did", did_routes.headers_for(standin)))
    return app
