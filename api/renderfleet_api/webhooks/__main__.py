"""`python -m renderfleet_api.webhooks`: deliver webhooks. Settings come from RENDERFLEET_*; run as many as needed."""

import argparse
import asyncio
import signal
import sys

from prometheus_client import start_http_server
from pydantic import ValidationError

from renderfleet_api.logs import log_json
from renderfleet_api.settings import CourierSettings
from renderfleet_providers.guarded import GuardedClient
from renderfleet_store.engine import make_engine

from .deliver import Courier
from .secrets import Safe


async def deliver(settings: CourierSettings) -> None:
    """Deliver until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engine = make_engine(settings.database_url, pooled=True)
    client = GuardedClient.trusting(settings.webhook_trusted_origins)
    courier = Courier(engine, Safe(settings.key_secret.get_secret_value()), client, at_once=settings.webhook_at_once)
    try:
        await courier.run(stop)
    finally:
        await engine.dispose()


def main(arguments: list[str] | None = None) -> int:
    """Deliver until told to stop; returns the exit status."""
    argparse.ArgumentParser(prog="python -m renderfleet_api.webhooks", description=__doc__).parse_args(arguments)
    try:
        settings = CourierSettings()
    except ValidationError as missing:
        for one in missing.errors():
            print(f"RENDERFLEET_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}", file=sys.stderr)
        return 2
    log_json(settings.log_level)
    # Answers /metrics, and as a sign of life any other path.
    start_http_server(settings.webhook_metrics_port)
    asyncio.run(deliver(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
