"""`python -m renderfleet_api`: serve. Settings come from RENDERFLEET_*."""

import argparse
import gc
import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from renderfleet_store.media import StorageSettings

from .app import create_app
from .http import BoundedHttp
from .logs import log_json
from .settings import ApiSettings

_SHUTDOWN_SECONDS = 10


class Server(uvicorn.Server):
    """Ends the event streams when it is told to stop: uvicorn would wait for them, and only then tell the application."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams' clients go, then everybody else."""
        app = self.config.app
        if isinstance(app, FastAPI) and (parts := getattr(app.state, "parts", None)):
            parts.hub.end_streams()
        await super().shutdown(sockets)


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m renderfleet_api", description=__doc__)
    parser.parse_args(arguments)
    try:
        settings = ApiSettings()
        storage = StorageSettings()
    except ValidationError as missing:
        for one in missing.errors():
            print(f"{'_'.join(('renderfleet', *map(str, one['loc']))).upper()}: {one['msg']}", file=sys.stderr)
        return 2
    log_json(settings.log_level)
    app = create_app(settings, storage)
    # What is loaded by now stays. A collection that walks over all of it holds up every request and stream meanwhile.
    gc.collect()
    gc.freeze()
    server = Server(
        uvicorn.Config(
            app,
            host=settings.api_host,
            port=settings.api_port,
            http=BoundedHttp,
            log_config=None,
            access_log=False,
            server_header=False,
            # Streams are ended before; this is for requests that hang.
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            timeout_keep_alive=75,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
