"""The program against a real API server, started as a user starts it; nobody reconciles, tests write the status."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from tests.support.command_line import CommandLine

from renderfleet_client import Cluster, Resource, resources
from renderfleet_crds import kinds, meta

T = TypeVar("T")
Body = dict[str, Any]


@pytest.fixture
def run(
    crds_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Runs command lines, by the cluster."""
    for name in ("RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RENDERFLEET_CONFIG", str(tmp_path / "profiles.json"))
    monkeypatch.setenv("KUBECONFIG", str(crds_installed))

    return CommandLine(monkeypatch, capsys)


class World:
    """An administrator's hands, and one namespace to work in."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self._runner = asyncio.Runner()
        self._cluster = self._runner.run(Cluster.connect(str(kubeconfig)))

    def close(self) -> None:
        self._runner.run(self._cluster.close())
        self._runner.close()

    def do(self, work: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
        return self._runner.run(work(self._cluster))

    def make(self, resource: Resource, body: Body) -> Body:
        namespace = (body["metadata"].get("namespace") or self.namespace) if resource.namespaced else None
        return self.do(lambda cluster: cluster.create(resource, body, namespace))

    def get(self, kind: str, name: str) -> Body:
        return self.do(lambda cluster: cluster.get(Resource.of(kinds.BY_KIND[kind]), name, self.namespace))

    def status(self, kind: str, name: str, status: Body) -> Body:
        """Write a status, as the operator would."""
        known = kinds.BY_KIND[kind]
        namespace = self.namespace if known.scope == "Namespaced" else None
        return self.do(
            lambda cluster: cluster.patch(Resource.of(known), name, {"status": status}, namespace, subresource="status")
        )

    def voice(self, name: str, status: Body | None = None, **about: Any) -> Body:
        """A VoiceJob that is as this status says."""
        spec = about.pop("spec", {})
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": "VoiceJob",
            "metadata": {"name": name, "namespace": self.namespace, **about},
            "spec": {"text": "Welcome aboard.", "voiceId": "v1", **spec},
        }
        made = self.make(Resource.of(kinds.VOICE_JOB), body)
        return self.status("VoiceJob", name, status) if status else made

    def cluster_object(self, kind: str, name: str, spec: Body, status: Body | None = None) -> Body:
        """A RenderTenant or RenderProvider."""
        body = {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        made = self.make(Resource.of(kinds.BY_KIND[kind]), body)
        return self.status(kind, name, status) if status else made

    def delete(self, resource: Resource, name: str) -> None:
        self.do(lambda cluster: cluster.delete(resource, name, self.namespace if resource.namespaced else None))

    def login_of(self, account: str, rules: list[Body], file: Path) -> Path:
        """Kubeconfig of a service account that may do this much in the namespace, and nothing else anywhere."""
        about = {"name": account, "namespace": self.namespace}
        self.make(Resource("", "v1", "serviceaccounts"), {"metadata": about})
        rbac = "rbac.authorization.k8s.io"
        self.make(resources.ROLES, {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": about, "rules": rules})
        self.make(
            resources.ROLE_BINDINGS,
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": about,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": account},
                "subjects": [{"kind": "ServiceAccount", **about}],
            },
        )
        answer = self.make(
            Resource("", "v1", f"serviceaccounts/{account}/token"),
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {}},
        )
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"] = [
            {"name": one["name"], "user": {"token": answer["status"]["token"]}} for one in config["users"]
        ]
        file.write_text(yaml.safe_dump(config))
        return file


@pytest.fixture
def world(crds_installed: Path) -> Iterator[World]:
    """A namespace of a tenant that is not there before, and what it takes to set the scene in it."""
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    made = World(crds_installed, f"rf-{tenant}")
    made.make(
        resources.NAMESPACES,
        {"metadata": {"name": made.namespace, "labels": {meta.TENANT_LABEL: tenant}}},
    )
    try:
        yield made
    finally:
        made.close()
