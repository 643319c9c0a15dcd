"""Reach services of the cluster on loopback, whatever the cluster is made of: `kubectl port-forward`, kept alive."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from renderfleet_cluster.say import Trouble

from .deploy import Tools

PATIENCE_SECONDS = 30.0


@contextlib.contextmanager
def forwarded(tools: Tools, namespace: str, service: str, service_port: int, local_port: int) -> Iterator[str]:
    """The `http://127.0.0.1:<local_port>` under which the service answers while the context lasts.

    A forward ends with the pod it leads to, so it is started again until the context is left. Raises Trouble when the
    port is taken or nothing answers within half a minute.
    """
    with contextlib.closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", local_port)) == 0:
            raise Trouble(
                f"port {local_port} of this machine is taken",
                f"end what listens there: ss -ltnp 'sport = :{local_port}'",
            )
    left = threading.Event()
    current: list[subprocess.Popen[bytes]] = []

    def keep_forwarding() -> None:
        while not left.is_set():
            child = subprocess.Popen(
                [
                    # It ends with us, however we end: a forward left behind would hold the port against the next run.
                    *("setpriv", "--pdeathsig", "TERM", "--"),
                    tools.path("kubectl"),
                    "-n",
                    namespace,
                    "port-forward",
                    f"service/{service}",
                    f"{local_port}:{service_port}",
                ],
                env=tools.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            current[:] = [child]
            child.wait()
            left.wait(0.3)

    keeper = threading.Thread(target=keep_forwarding, daemon=True)
    keeper.start()
    try:
        _wait_until_it_listens(local_port, service)
        yield f"http://127.0.0.1:{local_port}"
    finally:
        left.set()
        for child in current:
            child.terminate()
        keeper.join(timeout=5)


def _wait_until_it_listens(port: int, service: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with contextlib.closing(socket.socket()) as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise Trouble(
        f"nothing answers behind service {service} on port {port}", f"see: kubectl get pods -A | grep {service}"
    )
