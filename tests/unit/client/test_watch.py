"""A watch's lines as a server, or something between, sends them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import ApiError, Gone, Unavailable
from renderfleet_client.login import Login
from renderfleet_client.resources import PODS

GOOD = b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"7"}}}\n'


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    """Answers a watch with what its namespace stands for in LINES."""

    async def watch(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(GOOD + LINES[request.match_info["namespace"]])
        await asyncio.sleep(0)
        return answer

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", watch)
    made = TestServer(app)
    async with made:
        yield made


LINES = {
    "fine": b"",
    "garbage": b"<html>the proxy is sorry</html>\n",
    "no-event": b"[1, 2]\n",
    "no-object": b'{"type":"MODIFIED"}\n',
    "too-old": b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n',
    "broken": b'{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n',
    "cut-off": b'{"type":"MODI',
}


@pytest.mark.parametrize(
    ("lines", "raised"),
    [
        ("fine", None),
        ("cut-off", None),
        ("garbage", Unavailable),
        ("no-event", Unavailable),
        ("no-object", Unavailable),
        ("broken", Unavailable),
        ("too-old", Gone),
    ],
)
async def test_a_line_that_is_no_event_is_an_error_of_the_api_server(
    server: TestServer, lines: str, raised: type[ApiError] | None
) -> None:
    """So that who watches begins anew, and does not end for a proxy's manners."""
    seen: list[str] = []
    failed: ApiError | None = None
    async with Cluster(Login(server=str(server.make_url("")).rstrip("/"))) as cluster:
        try:
            async for one in cluster.watch(PODS, lines):
                seen.append(one.type)  # noqa: PERF401  (what comes before an error counts)
        except ApiError as error:
            failed = error

    assert seen == ["ADDED"], "what came before it is told"
    assert failed is None if raised is None else type(failed) is raised
