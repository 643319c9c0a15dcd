"""The whole fleet in a cluster with real pods, reached as a client reaches it."""

import contextlib
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pytest_kind import KindCluster

from renderfleet_cluster import debian, providers
from renderfleet_demo import deploy, forward, story
from renderfleet_demo.__main__ import STORAGE_PORT


@dataclass
class Fleet:
    """What a test needs of the running fleet."""

    tools: deploy.Tools
    admin: story.Client
    api_url: str
    standin: httpx2.Client

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.tools.kubectl(*arguments, stdin=stdin)

    def tenant(self, concurrency: int = 4) -> "Tenant":
        """A new tenant with a key of its own."""
        name = f"t-{uuid.uuid4().hex[:10]}"
        self.admin.call("POST", "/admin/tenants", {"name": name, "concurrency": concurrency})
        key = self.admin.call("POST", f"/admin/tenants/{name}/keys", {"name": "test"})["key"]
        return Tenant(name, f"rf-{name}", story.Client(self.api_url, key))

    def billed(self, **wanted: Any) -> list[dict[str, Any]]:
        """Entries of the stand-in's ledger that have these values: each is a call that a vendor would charge."""
        entries = self.standin.get("/_standin/ledger").json()["entries"]
        return [one for one in entries if all(one.get(key) == value for key, value in wanted.items())]


@dataclass
class Tenant:
    name: str
    namespace: str
    client: story.Client


@pytest.fixture(scope="session")
def fleet(kind_cluster: KindCluster) -> Iterator[Fleet]:
    """The fleet, installed or upgraded to this checkout; it stays for the next run."""
    debian.install({"ffprobe": "ffmpeg"})
    provider = providers.choose(providers.default_name(), kind_cluster.name)
    tools = deploy.Tools(Path(kind_cluster.kubeconfig_path))
    deploy.deploy(tools, provider)
    with contextlib.ExitStack() as forwards:
        api = forwards.enter_context(
            forward.forwarded(tools, deploy.SYSTEM_NAMESPACE, f"{deploy.RELEASE}-api", 80, free_port())
        )
        # The port that signed links name: demo values say so.
        forwards.enter_context(forward.forwarded(tools, deploy.DEMO_NAMESPACE, "s3", 9000, STORAGE_PORT))
        standin = forwards.enter_context(forward.forwarded(tools, deploy.DEMO_NAMESPACE, "standin", 8080, free_port()))
        yield Fleet(tools, story.Client(api, deploy.admin_key(tools)), api, httpx2.Client(base_url=standin, timeout=30))


@pytest.fixture
def tenant(fleet: Fleet) -> Tenant:
    return fleet.tenant()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
