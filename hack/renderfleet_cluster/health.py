"""Is one of the cluster's processes well? One question, one short timeout, no exceptions."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from typing import Protocol

from renderfleet_cluster.shape import HealthKind


class HasHealth(Protocol):
    """What is needed to ask a process for its health."""

    @property
    def health_kind(self) -> HealthKind: ...
    @property
    def health_target(self) -> str: ...


def is_healthy(process: HasHealth, timeout_seconds: float = 1.0) -> bool:
    """True when the process answers its health page with 200, or accepts a connection on its socket."""
    if process.health_kind is HealthKind.SOCKET:
        return accepts(process.health_target, timeout_seconds)
    return _answers_ok(process.health_target, timeout_seconds)


def accepts(path: str, timeout_seconds: float) -> bool:
    """True when something listens on the Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_seconds)
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def _answers_ok(url: str, timeout_seconds: float) -> bool:
    # The health pages on this machine carry certificates that nobody signed; nothing secret is asked or told.
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusting), urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_seconds) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
