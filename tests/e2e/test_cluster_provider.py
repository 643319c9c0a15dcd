"""What the fleet takes for granted of any cluster it is tested on: real kind or our own."""

import json
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_kind import KindCluster

from renderfleet_cluster import images, providers
from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import POOLS, Options

IMAGE = "renderfleet/s3:dev"
"""The smallest of our images with a Python in it."""

ASK_THE_API = """
import ssl, urllib.request
trust = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
url = "https://kubernetes.default.svc.cluster.local/version"
answer = urllib.request.urlopen(url, context=trust, timeout=10).read()
open("/dev/termination-log", "wb").write(answer)
print("asked")
"""


@pytest.fixture(scope="module")
def namespace(kind_cluster: KindCluster) -> Iterator[str]:
    """A namespace under the restricted profile, with our image at hand."""
    kind_cluster.load_docker_image(IMAGE)
    name = f"provider-{uuid.uuid4().hex[:8]}"
    kind_cluster.kubectl("create", "namespace", name)
    kind_cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kind_cluster.kubectl("delete", "namespace", name, "--wait=false")


def pod_spec(command: list[str], **spec: Any) -> dict[str, Any]:
    return {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "command": command,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        **spec,
    }


def apply(cluster: KindCluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(manifest))


def test_one_node_plays_every_pool(kind_cluster: KindCluster) -> None:
    for pool in POOLS:
        nodes = kind_cluster.kubectl("get", "nodes", "-o", "name", "-l", f"renderfleet.dev/pool-{pool}=true")
        assert nodes.startswith("node/"), pool


def test_a_restricted_job_asks_the_api_by_name_and_hands_back_the_answer(
    kind_cluster: KindCluster, namespace: str
) -> None:
    template = {"spec": pod_spec(["python3", "-c", ASK_THE_API], restartPolicy="Never")}
    apply(
        kind_cluster,
        namespace,
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "ask"},
            "spec": {"backoffLimit": 0, "template": template},
        },
    )

    kind_cluster.kubectl("wait", "-n", namespace, "job/ask", "--for=condition=Complete", "--timeout=60s")

    (pod,) = json.loads(kind_cluster.kubectl("get", "pods", "-n", namespace, "-l", "job-name=ask", "-o", "json"))[
        "items"
    ]
    message = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
    assert int(message["minor"]) >= 30
    assert kind_cluster.kubectl("logs", "-n", namespace, "job/ask") == "asked\n"


def test_a_service_leads_to_its_pod(kind_cluster: KindCluster, namespace: str) -> None:
    serve = "import http.server as s; s.test(s.SimpleHTTPRequestHandler, port=8000)"
    apply(
        kind_cluster,
        namespace,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": pod_spec(["python3", "-c", serve], hostname="web-pod"),
        },
    )
    apply(
        kind_cluster,
        namespace,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    )
    kind_cluster.kubectl("wait", "-n", namespace, "pod/web", "--for=condition=Ready", "--timeout=60s")
    ask = (
        f"import urllib.request as u; print(u.urlopen('http://web.{namespace}.svc.cluster.local/etc/hostname').read())"
    )

    deadline = time.monotonic() + 30
    while (answer := _answer(kind_cluster, namespace, ask)) is None:
        assert time.monotonic() < deadline, "the service did not lead anywhere"
        time.sleep(0.5)

    assert answer == "b'web-pod\\n'\n"
    with kind_cluster.port_forward("service/web", 80, "--namespace", namespace) as port:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/hostname", timeout=10).read() == b"web-pod\n"


def _answer(cluster: KindCluster, namespace: str, program: str) -> str | None:
    """What a program printed inside the pod; None while endpoints are still on their way."""
    try:
        return str(cluster.kubectl("exec", "-n", namespace, "web", "--", "python3", "-c", program))
    except subprocess.CalledProcessError:
        return None


def test_quota_refuses_the_second_pod(kind_cluster: KindCluster, namespace: str) -> None:
    quota = f"{namespace}-full"
    kind_cluster.kubectl("create", "namespace", quota)
    kind_cluster.kubectl("create", "quota", "pods", "--hard=pods=1", "-n", quota)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod_spec(["sleep", "60"])}
    apply(kind_cluster, quota, pod)

    with pytest.raises(subprocess.CalledProcessError) as refusal:
        apply_quietly(kind_cluster, quota, {**pod, "metadata": {"name": "two"}})

    assert "exceeded quota" in refusal.value.stderr
    kind_cluster.kubectl("delete", "namespace", quota, "--wait=false")


def test_an_existing_cluster_is_used_as_it_is_and_says_which_images_it_lacks(
    kind_cluster: KindCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERFLEET_CLUSTER_PROVIDER", "existing")
    monkeypatch.setenv("KUBECONFIG", str(kind_cluster.kubeconfig_path))
    provider = providers.choose(providers.default_name(), "whatever")
    loaded = images.Built(name="s3", tag=images.tag_of("s3"), engine=None)

    provider.up(Options())
    _until_the_kubelet_reports(lambda: provider.load([loaded]))
    with pytest.raises(Trouble, match="no node of this cluster has renderfleet/s3:never-built"):
        provider.load([loaded, images.Built(name="s3", tag="never-built", engine=None)])
    provider.down()

    assert kind_cluster.kubectl("get", "nodes", "-o", "name").startswith("node/"), "it was not ours to take down"


def _until_the_kubelet_reports(check: Callable[[], None]) -> None:
    """A kubelet tells of new images within ten seconds, as a rule."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return check()
        except Trouble:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def apply_quietly(cluster: KindCluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(manifest), stderr=subprocess.PIPE)
