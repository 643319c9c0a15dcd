"""The cluster's own certificates and kubeconfigs: made afresh at each start, gone with the cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import CLUSTER_DOMAIN, SERVICE_API_ADDRESS, Shape, kubeconfig_content

VALID_DAYS = 365


def write(shape: Shape) -> None:
    """Fill the cluster's `pki` folder and write the administrator's kubeconfig."""
    folder = shape.pki
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    _openssl(
        "req", "-x509", *_new_key(folder / "ca.key"), "-out", str(folder / "ca.crt"), "-days", str(VALID_DAYS),
        "-subj", f"/CN={shape.name}-ca",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    )  # fmt: skip
    _openssl(
        "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(folder / "service-account.key")
    )
    _openssl("pkey", "-in", str(folder / "service-account.key"), "-pubout", "-out", str(folder / "service-account.pub"))

    api_names = [
        "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
        f"DNS:kubernetes.default.svc.{CLUSTER_DOMAIN}", "DNS:localhost",
        f"IP:{SERVICE_API_ADDRESS}", f"IP:{shape.address}", "IP:127.0.0.1",
    ]  # fmt: skip
    servers = {
        "apiserver": ("/CN=kube-apiserver", api_names),
        "kubelet-server": (f"/CN={shape.node_name}", [f"DNS:{shape.node_name}", f"IP:{shape.address}"]),
    }
    clients = {
        "apiserver-to-kubelet": "/O=system:masters/CN=kube-apiserver",
        "admin": "/O=system:masters/CN=administrator",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kubelet": f"/O=system:nodes/CN=system:node:{shape.node_name}",
        "kube-proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=system:coredns",
    }
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = [pool.submit(_certificate, folder, name, subject, names) for name, (subject, names) in servers.items()]
        made += [pool.submit(_certificate, folder, name, subject, []) for name, subject in clients.items()]
        for one in made:
            one.result()
    for name in clients:
        _write_kubeconfig(shape, name, shape.pki / f"{name}.kubeconfig")
    _write_kubeconfig(shape, "admin", shape.kubeconfig)


def _certificate(folder: Path, name: str, subject: str, alternative_names: Sequence[str]) -> None:
    """A server certificate when there are alternative names, else one for a client."""
    usage = "serverAuth" if alternative_names else "clientAuth"
    extensions = ["-addext", f"extendedKeyUsage={usage}", "-addext", "keyUsage=critical,digitalSignature"]
    extensions += ["-addext", "basicConstraints=critical,CA:FALSE"]
    if alternative_names:
        extensions += ["-addext", f"subjectAltName={','.join(alternative_names)}"]
    _openssl(
        "req", "-x509", "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"),
        *_new_key(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"), "-days", str(VALID_DAYS),
        "-subj", subject, *extensions,
    )  # fmt: skip


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", str(path)]


def _write_kubeconfig(shape: Shape, user: str, target: Path) -> None:
    def encoded(name: str) -> str:
        return base64.b64encode((shape.pki / name).read_bytes()).decode()

    content = kubeconfig_content(shape, encoded("ca.crt"), encoded(f"{user}.crt"), encoded(f"{user}.key"))
    target.touch(mode=0o600)
    target.write_text(json.dumps(content, indent=2))


def _openssl(*arguments: str) -> None:
    result = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise Trouble(
            f"openssl {arguments[0]} failed: {result.stderr.strip()[-500:]}", "OpenSSL 3.0 or newer is needed"
        )
