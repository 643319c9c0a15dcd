"""The small HTTP servers beside the operator, each at a port of its own, so that who may reach one reaches no other.

probes           for the kubelet and Prometheus
  /healthz       fails when the queue or a watch stands still, so that the kubelet starts the process anew
  /readyz        fails between getting the lease and having listed everything; a stand-by replica is ready to take over
  /metrics       for Prometheus
callback door    for vendors, out of the internet
  /callbacks/<uid>/<code>   POST: a vendor says that it has news about this render
"""

from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from .metrics import Metrics

Problem = Callable[[], str | None]
Hear = Callable[[str, str], bool]
"""A callback came, for a render's UID, with a code; False when we gave nobody that address."""


class Listener:
    """Serves some routes at one port."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self._app = web.Application()
        self._app.add_routes(routes)
        self._runner: web.AppRunner | None = None
        self.port = 0
        """Where it listens, once it does."""

    async def start(self, host: str, port: int) -> None:
        """Listen; at any free port when `port` is 0."""
        self._runner = web.AppRunner(self._app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        sockets = getattr(site, "_server", None)
        self.port = sockets.sockets[0].getsockname()[1] if sockets is not None else port

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()


def probes(metrics: Metrics, why_ill: Problem, why_not_ready: Problem) -> Listener:
    """What the cluster asks of this process."""

    async def tell_health(_: web.Request) -> web.Response:
        return _answer(why_ill())

    async def tell_readiness(_: web.Request) -> web.Response:
        return _answer(why_not_ready())

    async def tell_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Listener(
        [web.get("/healthz", tell_health), web.get("/readyz", tell_readiness), web.get("/metrics", tell_metrics)]
    )


def callback_door(hear: Hear) -> Listener:
    """Where vendors tell of their jobs."""

    async def called(request: web.Request) -> web.Response:
        # Its body is not read: what is true of the job, the vendor tells when it is asked.
        known = hear(request.match_info["uid"], request.match_info["code"])
        return web.Response(status=202 if known else 404)

    return Listener([web.post("/callbacks/{uid}/{code}", called)])


def _answer(problem: str | None) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
