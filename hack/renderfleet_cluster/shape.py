"""Decide what one local cluster looks like: its addresses, files, programs and their settings. Pure: touches nothing.

Every cluster owns one address on the loopback device (10.254.0.N) for what pods and clients reach, and one in
127.0.254.0/24 for what only this machine may reach (etcd, health pages). So all clusters use the usual ports and never
meet, and nothing listens on an address that another machine could route to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from renderfleet_cluster import programs

POOLS = ("image-gen", "video-gen", "postprocess")
POOL_LABEL_PREFIX = "renderfleet.dev/pool-"
POOL_TAINT_KEY = "renderfleet.dev/pool"
CLUSTER_DOMAIN = "cluster.local"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_API_ADDRESS = "10.96.0.1"
SERVICE_DNS_ADDRESS = "10.96.0.10"
POD_CIDR = "10.244.0.0/16"
PAUSE_IMAGE = "docker.io/renderfleet/pause:1"
SOCKET_PATH_LIMIT = 107
"""Longest path of a Unix socket on Linux (sockaddr_un.sun_path, less its final zero)."""


class ControllerFlags(StrEnum):
    """How hard the controllers may drive the API server."""

    TUNED = "tuned"
    """Client limits out of the way: 35 one-pod Jobs a second instead of 3.4."""
    DEFAULT = "default"
    """As Kubernetes ships: 20 requests a second for all of the controller manager."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the person starting the cluster may choose."""

    control_plane_only: bool = False
    """No kubelet: objects and controllers work, pods stay Pending. Starts in seconds, beside a full cluster."""
    controller_flags: ControllerFlags = ControllerFlags.TUNED
    taint_pools: bool = False
    """Taint the node for every pool, as real pools often are: then nothing without tolerations is scheduled."""
    audit_log: str | None = None
    """File for one line per API request (who, verb, object), without bodies."""


class HealthKind(StrEnum):
    """How a process shows that it works."""

    URL = "url"
    SOCKET = "socket"


@dataclass(frozen=True, kw_only=True)
class Process:
    """One program of the cluster, as the supervisor runs it."""

    name: str
    command: list[str]
    after: list[str]
    """Processes that must be healthy before this one starts."""
    health_kind: HealthKind
    health_target: str
    """URL or path of a Unix socket."""
    path_first: str = ""
    """Folder put in front of PATH: containerd finds its shim there."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One local cluster: who it is and where its files are."""

    name: str
    ordinal: int
    """Decides the addresses; unique among the clusters running on this machine."""
    state: Path
    options: Options

    @property
    def node_name(self) -> str:
        return f"{self.name}-node"

    @property
    def address(self) -> str:
        """Where API server, kubelet and DNS listen; reachable from pods and from this machine."""
        return f"10.254.0.{self.ordinal}"

    @property
    def private_address(self) -> str:
        """Where etcd and the health pages listen; reachable from this machine only."""
        return f"127.0.254.{self.ordinal}"

    @property
    def api_url(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def context_name(self) -> str:
        return f"local-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def shape_file(self) -> Path:
        return self.state / "cluster.json"

    @property
    def processes_file(self) -> Path:
        """What the supervisor knows about its processes."""
        return self.state / "processes.json"

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "state": str(self.state)}, indent=2)

    @staticmethod
    def from_json(text: str) -> Shape:
        raw = json.loads(text)
        options = Options(**{**raw["options"], "controller_flags": ControllerFlags(raw["options"]["controller_flags"])})
        return Shape(name=raw["name"], ordinal=raw["ordinal"], state=Path(raw["state"]), options=options)

    def with_options(self, options: Options) -> Shape:
        return replace(self, options=options)


def pool_taints() -> list[dict[str, str]]:
    """The taint of a node that is for runners only. One key and effect can stand on a node once, so it names no pool."""
    return [{"key": POOL_TAINT_KEY, "value": "runners-only", "effect": "NoSchedule"}]


def pool_labels() -> dict[str, str]:
    """Labels of the one node: it plays the part of every pool."""
    return {f"{POOL_LABEL_PREFIX}{pool}": "true" for pool in POOLS}


def kubeconfig_content(shape: Shape, ca: str, certificate: str, key: str) -> dict[str, Any]:
    """A kubeconfig with everything inside; the three arguments are base64 of PEM files."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": shape.context_name, "cluster": {"server": shape.api_url, "certificate-authority-data": ca}}
        ],
        "users": [
            {"name": shape.context_name, "user": {"client-certificate-data": certificate, "client-key-data": key}}
        ],
        "contexts": [
            {"name": shape.context_name, "context": {"cluster": shape.context_name, "user": shape.context_name}}
        ],
        "current-context": shape.context_name,
    }


def config_files(shape: Shape, *, has_upstream_dns: bool) -> dict[str, str]:
    """Name -> content of every settings file in the cluster's `config` folder."""
    files = {"audit-policy.json": _as_json(_audit_policy())}
    if shape.options.control_plane_only:
        return files
    return files | {
        "containerd.toml": _containerd_config(shape),
        "cni/10-pods.conflist": _as_json(_cni_config(shape)),
        "kubelet.json": _as_json(_kubelet_config(shape)),
        "kube-proxy.json": _as_json(_kube_proxy_config(shape)),
        "Corefile": _corefile(shape, has_upstream_dns=has_upstream_dns),
    }


def processes(shape: Shape) -> list[Process]:
    """The cluster's programs, in starting order."""
    control_plane = [_etcd(shape), _api_server(shape), _controller_manager(shape), _scheduler(shape)]
    if shape.options.control_plane_only:
        return control_plane
    return [_containerd(shape), *control_plane, _kubelet(shape), _kube_proxy(shape), _coredns(shape)]


def bootstrap_objects(shape: Shape) -> list[tuple[str, dict[str, Any]]]:
    """(collection path, object) of what a cluster needs before anything of ours: DNS and its right to look."""
    if shape.options.control_plane_only:
        return []
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    read = ["list", "watch"]
    return [
        (
            f"{rbac}/clusterroles",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "system:coredns"},
                "rules": [
                    {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
                    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
                ],
            },
        ),
        (
            f"{rbac}/clusterrolebindings",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "system:coredns"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
            },
        ),
        (
            "/api/v1/namespaces/kube-system/services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "clusterIP": SERVICE_DNS_ADDRESS,
                    "ports": [
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    ],
                },
            },
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": "kube-dns-host", "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [shape.address], "conditions": {"ready": True}}],
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
            },
        ),
    ]


def free_ordinal(taken: Sequence[int]) -> int:
    """The smallest unused ordinal; 254 clusters fit the two address ranges."""
    return next(number for number in range(1, 255) if number not in taken)


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


# --- programs ---------------------------------------------------------------------------------------------------------


def _etcd(shape: Shape) -> Process:
    url = f"http://{shape.private_address}:2379"
    peer = f"http://{shape.private_address}:2380"
    return Process(
        name="etcd",
        command=[
            str(programs.ETCD.path("etcd")),
            f"--name={shape.name}",
            f"--data-dir={shape.state / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={shape.name}={peer}",
            # Losing a test cluster in a power cut is fine; waiting for the disk on every write is not.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        after=[],
        health_kind=HealthKind.URL,
        health_target=f"{url}/health",
    )


def _api_server(shape: Shape) -> Process:
    pki = shape.pki
    command = [
        str(programs.KUBERNETES.path("kube-apiserver")),
        f"--bind-address={shape.address}",
        f"--advertise-address={shape.address}",
        "--secure-port=6443",
        f"--etcd-servers=http://{shape.private_address}:2379",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-to-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-to-kubelet.key'}",
        # The node's name resolves nowhere; its address does not need to.
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    if shape.options.audit_log:
        command += [
            f"--audit-policy-file={shape.config / 'audit-policy.json'}",
            f"--audit-log-path={shape.options.audit_log}",
        ]
    return Process(
        name="kube-apiserver",
        command=command,
        after=["etcd"],
        health_kind=HealthKind.URL,
        health_target=f"{shape.api_url}/readyz",
    )


def _controller_manager(shape: Shape) -> Process:
    pki = shape.pki
    command = [
        str(programs.KUBERNETES.path("kube-controller-manager")),
        f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
        f"--bind-address={shape.private_address}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--flex-volume-plugin-dir={shape.state / 'volume-plugins'}",
        "--profiling=false",
    ]
    if shape.options.controller_flags is ControllerFlags.TUNED:
        command += ["--kube-api-qps=1000", "--kube-api-burst=1000", "--concurrent-job-syncs=20"]
    return Process(
        name="kube-controller-manager",
        command=command,
        after=["kube-apiserver"],
        health_kind=HealthKind.URL,
        health_target=f"https://{shape.private_address}:10257/healthz",
    )


def _scheduler(shape: Shape) -> Process:
    command = [
        str(programs.KUBERNETES.path("kube-scheduler")),
        f"--kubeconfig={shape.pki / 'kube-scheduler.kubeconfig'}",
        f"--bind-address={shape.private_address}",
        "--leader-elect=false",
        "--profiling=false",
    ]
    if shape.options.controller_flags is ControllerFlags.TUNED:
        command += ["--kube-api-qps=1000", "--kube-api-burst=1000"]
    return Process(
        name="kube-scheduler",
        command=command,
        after=["kube-apiserver"],
        health_kind=HealthKind.URL,
        health_target=f"https://{shape.private_address}:10259/healthz",
    )


def _containerd(shape: Shape) -> Process:
    return Process(
        name="containerd",
        command=[str(programs.CONTAINERD.path("containerd")), "--config", str(shape.config / "containerd.toml")],
        after=[],
        health_kind=HealthKind.SOCKET,
        health_target=str(shape.containerd_socket),
        path_first=str(programs.CONTAINERD.folder),
    )


def _kubelet(shape: Shape) -> Process:
    labels = ",".join(f"{key}={value}" for key, value in pool_labels().items())
    command = [
        str(programs.KUBERNETES.path("kubelet")),
        f"--config={shape.config / 'kubelet.json'}",
        f"--kubeconfig={shape.pki / 'kubelet.kubeconfig'}",
        f"--root-dir={shape.state / 'kubelet'}",
        f"--hostname-override={shape.node_name}",
        f"--node-ip={shape.address}",
        f"--node-labels={labels}",
    ]
    return Process(
        name="kubelet",
        command=command,
        after=["containerd", "kube-apiserver"],
        health_kind=HealthKind.URL,
        health_target=f"http://{shape.private_address}:10248/healthz",
    )


def _kube_proxy(shape: Shape) -> Process:
    return Process(
        name="kube-proxy",
        command=[
            str(programs.KUBERNETES.path("kube-proxy")),
            f"--config={shape.config / 'kube-proxy.json'}",
        ],
        after=["kube-apiserver"],
        health_kind=HealthKind.URL,
        health_target=f"http://{shape.private_address}:10256/livez",
    )


def _coredns(shape: Shape) -> Process:
    return Process(
        name="coredns",
        command=[str(programs.COREDNS.path("coredns")), "-conf", str(shape.config / "Corefile")],
        after=["kube-apiserver"],
        health_kind=HealthKind.URL,
        health_target=f"http://{shape.private_address}:8080/health",
    )


# --- their settings ---------------------------------------------------------------------------------------------------


def _audit_policy() -> dict[str, Any]:
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }


def _containerd_config(shape: Shape) -> str:
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    images = "plugins.'io.containerd.cri.v1.images'"
    return f"""version = 3
root = '{shape.state / "containerd"}'
state = '{shape.state / "containerd-run"}'
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.zfs',
]

[grpc]
address = '{shape.containerd_socket}'

[{images}]
snapshotter = 'overlayfs'

[{images}.pinned_images]
sandbox = '{PAUSE_IMAGE}'

[{runtime}]
enable_cdi = false
# Root without CAP_SYS_RESOURCE may not lower a process's OOM score; without this line every sandbox fails there.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[{runtime}.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[{runtime}.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = '{shape.state / "runc"}'

[plugins.'io.containerd.internal.v1.opt']
path = '{shape.state / "containerd-opt"}'

[{runtime}.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{shape.config / "cni"}'
"""


def _cni_config(shape: Shape) -> dict[str, Any]:
    """One veth pair per pod, routed. A bridge would let answers between its pods go past the service translation."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1500,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(shape.state / "pod-addresses"),
                },
            }
        ],
    }


def _kubelet_config(shape: Shape) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": shape.address,
        "healthzBindAddress": shape.private_address,
        "containerRuntimeEndpoint": f"unix://{shape.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [SERVICE_DNS_ADDRESS],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(shape.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(shape.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(shape.pki / "kubelet-server.key"),
        "podLogsDir": str(shape.state / "pod-logs"),
        "volumePluginDir": str(shape.state / "volume-plugins"),
        # kube-proxy here speaks nftables; nothing needs the kubelet's canary chains in iptables.
        "makeIPTablesUtilChains": False,
        "registerWithTaints": pool_taints() if shape.options.taint_pools else [],
        "maxPods": 250,
        # Images come from an import, not from a registry: one that is collected cannot be fetched again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    }


def _kube_proxy_config(shape: Shape) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": shape.node_name,
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": str(shape.pki / "kube-proxy.kubeconfig")},
        "healthzBindAddress": f"{shape.private_address}:10256",
        "metricsBindAddress": f"{shape.private_address}:10249",
        "nodePortAddresses": [f"{shape.address}/32"],
        # The table's size belongs to the machine, not to a test cluster.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def _corefile(shape: Shape, *, has_upstream_dns: bool) -> str:
    """No cache for the cluster's own names: a test that makes a Service looks it up in the same second."""
    ours = [
        f"bind {shape.address}",
        "errors",
        f"health {shape.private_address}:8080",
        f"kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{",
        f"  kubeconfig {shape.pki / 'coredns.kubeconfig'}",
        "  fallthrough in-addr.arpa ip6.arpa",
        "}",
    ]
    others = [f"bind {shape.address}", "errors"]
    if has_upstream_dns:
        ours.append("forward . /etc/resolv.conf")
        others += ["forward . /etc/resolv.conf", "cache 30"]
    blocks = {f"{CLUSTER_DOMAIN} in-addr.arpa ip6.arpa": ours, ".": others}
    return "".join(
        "\n".join([f"{zones} {{", *(f"  {directive}" for directive in block), "}", ""])
        for zones, block in blocks.items()
    )
