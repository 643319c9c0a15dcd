"""Probes and metrics.

/healthz   fails when the queue or a watch stands still, so that the kubelet starts the process anew
/readyz    fails between getting the lease and having listed everything; a stand-by replica is ready to take over
/metrics   for Prometheus
/look/<uid>  POST: the vendor may have news about this render (from the API's webhook door)
"""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from .metrics import Metrics


@dataclass(slots=True)
class Probes:
    """The small HTTP server beside the operator."""

    metrics: Metrics
    why_ill: Callable[[], str | None]
    why_not_ready: Callable[[], str | None]
    look_now: Callable[[str], bool]
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` says where afterwards."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.post("/look/{uid}", self._look),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        sockets = getattr(site, "_server", None)
        self.port = sockets.sockets[0].getsockname()[1] if sockets is not None else port

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self.why_ill())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self.why_not_ready())

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _look(self, request: web.Request) -> web.Response:
        # Whoever calls learns nothing and can do no more than hasten a look that would come anyway.
        self.look_now(request.match_info["uid"])
        return web.Response(status=202)


def _answer(problem: str | None) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
