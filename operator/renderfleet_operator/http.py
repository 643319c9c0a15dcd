"""Probes and metrics.

/healthz   fails when the queue or a watch stands still, so that the kubelet starts the process anew
/readyz    fails between getting the lease and having listed everything; a stand-by replica is ready to take over
/metrics   for Prometheus
/callbacks/<uid>/<code>   POST: a vendor says that it has news about this render
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
    hear: Callable[[str, str], bool]
    """A callback came, for a render's UID, with a code; False when we gave nobody that address."""
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
                web.post("/callbacks/{uid}/{code}", self._callback),
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

    async def _callback(self, request: web.Request) -> web.Response:
        # Its body is not read: what is true of the job, the vendor tells when it is asked.
        known = self.hear(request.match_info["uid"], request.match_info["code"])
        return web.Response(status=202 if known else 404)


def _answer(problem: str | None) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
