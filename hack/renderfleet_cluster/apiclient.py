"""The few API calls that starting a cluster takes, as its administrator. Everything else is kubectl's work."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from renderfleet_cluster.shape import Shape


class AdministratorApi:
    """One cluster's API server, spoken to with the administrator's certificate."""

    def __init__(self, shape: Shape) -> None:
        self._url = shape.api_url
        context = ssl.create_default_context(cafile=str(shape.pki / "ca.crt"))
        context.load_cert_chain(shape.pki / "admin.crt", shape.pki / "admin.key")
        # An empty proxy map: the cluster is on this machine, whatever the environment says about proxies.
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
        )

    def get(self, path: str) -> dict[str, Any]:
        """One object or list; urllib.error.HTTPError when the server refuses, URLError when it is not there."""
        return self._send("GET", path, None)

    def create(self, collection: str, content: dict[str, Any]) -> None:
        """Create an object, or leave it as it is when it exists."""
        try:
            self._send("POST", collection, content)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 409:
                raise

    def _send(self, method: str, path: str, content: dict[str, Any] | None) -> dict[str, Any]:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if content is None else json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=10) as answer:
            body: dict[str, Any] = json.load(answer)
        return body
