"""Find out how to reach the cluster: the pod's service account, else a kubeconfig. Nothing else is tried.

A service account's token is rotated by the kubelet, so it is read from its file again every minute.
"""

import base64
import os
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0


class LoginError(Exception):
    """There is no usable way to the cluster; the message says what to set."""


@dataclass
class Login:
    """Address and credentials of one API server."""

    server: str
    ca_data: str | None = None
    """PEM."""
    insecure: bool = False
    client_cert: str | None = field(default=None, repr=False)
    """PEM."""
    client_key: str | None = field(default=None, repr=False)
    """PEM."""
    static_token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    default_namespace: str | None = None
    _cached: tuple[float, str] | None = field(default=None, repr=False)

    def token(self) -> str | None:
        """The bearer token to send now, if any."""
        if self.token_file is None:
            return self.static_token
        now = time.monotonic()
        if self._cached is None or now - self._cached[0] > _TOKEN_SECONDS:
            self._cached = (now, self.token_file.read_text().strip())
        return self._cached[1]

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS settings, or None for a plain http server (a proxy on loopback)."""
        if not self.server.startswith("https:"):
            return None
        context = ssl.create_default_context(cadata=self.ca_data)
        # Go's certificates for clusters often lack the key-usage extensions that newer OpenSSL insists on.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert and self.client_key:
            # The ssl module loads client certificates from files only.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
                pem.write(self.client_cert + "\n" + self.client_key)
                pem.flush()
                context.load_cert_chain(pem.name)
        return context


def load_login(kubeconfig: str | None = None, context: str | None = None) -> Login:
    """Credentials from `kubeconfig`, else from the pod's service account, else from $KUBECONFIG or ~/.kube/config.

    Raises LoginError when there are none.
    """
    if kubeconfig is None and (_SERVICE_ACCOUNT / "token").exists() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster()
    path = Path(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    if not path.exists():
        raise LoginError(f"no service account here and no kubeconfig at {path}: set KUBECONFIG")
    return _from_kubeconfig(path, context)


def _in_cluster() -> Login:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if ":" in host:
        host = f"[{host}]"
    namespace = _SERVICE_ACCOUNT / "namespace"
    return Login(
        server=f"https://{host}:{port}",
        ca_data=(_SERVICE_ACCOUNT / "ca.crt").read_text(),
        token_file=_SERVICE_ACCOUNT / "token",
        default_namespace=namespace.read_text().strip() if namespace.exists() else None,
    )


def _from_kubeconfig(path: Path, context: str | None) -> Login:
    config = yaml.safe_load(path.read_text()) or {}
    wanted = context or config.get("current-context")
    chosen = _named(config, "contexts", "context", wanted, path)
    cluster = _named(config, "clusters", "cluster", chosen["cluster"], path)
    user = _named(config, "users", "user", chosen["user"], path)
    if "exec" in user or "auth-provider" in user:
        raise LoginError(f"{path}: user {chosen['user']} logs in by a plugin; use a token or a client certificate")
    token_file = user.get("tokenFile")
    return Login(
        server=cluster["server"].rstrip("/"),
        ca_data=_pem(cluster, "certificate-authority", path),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        client_cert=_pem(user, "client-certificate", path),
        client_key=_pem(user, "client-key", path),
        static_token=user.get("token"),
        token_file=path.parent / token_file if token_file else None,
        default_namespace=chosen.get("namespace"),
    )


def _named(config: dict[str, Any], section: str, inner: str, name: str | None, path: Path) -> dict[str, Any]:
    for entry in config.get(section) or []:
        if entry.get("name") == name:
            return dict(entry.get(inner) or {})
    raise LoginError(f"{path}: {section} has no entry named {name!r}")


def _pem(section: dict[str, Any], key: str, path: Path) -> str | None:
    if data := section.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    if file := section.get(key):
        return (path.parent / str(file)).read_text()
    return None
