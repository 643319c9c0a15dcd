"""What a cluster changes in this machine's network, and its undoing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from renderfleet_cluster.say import Trouble
from renderfleet_cluster.shape import POD_CIDR, SERVICE_CIDR, Shape

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
OUR_TABLE = "renderfleet"
PROXY_TABLE = "kube-proxy"
IPTABLES_TABLES = frozenset({"filter", "mangle", "nat"})
"""kube-proxy asks iptables for rules of its older modes, and asking makes these tables where there were none."""


def prepare(shape: Shape) -> None:
    """Give the cluster its address; with pods also forwarding, a route to services and a way out for pods."""
    if f" {shape.address}/32 " not in _run("ip", "-4", "addr", "show", "dev", "lo"):
        _run("ip", "addr", "add", f"{shape.address}/32", "dev", "lo")
    if shape.options.control_plane_only:
        return
    remembered = _remembered_forwarding(shape)
    if not remembered.exists():
        remembered.write_text(IP_FORWARD.read_text())
    IP_FORWARD.write_text("1")
    if not _remembered_tables(shape).exists():
        _remembered_tables(shape).write_text(json.dumps(sorted(_tables())))
    # Programs on this machine reach services even where there is no default route; kube-proxy rewrites the target.
    _run("ip", "route", "replace", SERVICE_CIDR, "dev", "lo", "src", shape.address)
    _run("nft", "-f", "-", stdin=_masquerade_rules())


def undo(shape: Shape) -> None:
    """Take back all that `prepare` and kube-proxy did; parts that are gone already are fine."""
    _try("ip", "addr", "del", f"{shape.address}/32", "dev", "lo")
    if shape.options.control_plane_only:
        return
    _try("ip", "route", "del", SERVICE_CIDR, "dev", "lo")
    for family, table in (("ip", OUR_TABLE), ("ip", PROXY_TABLE), ("ip6", PROXY_TABLE)):
        _try("nft", "delete", "table", family, table)
    if _remembered_tables(shape).exists():
        there_before = {(family, name) for family, name in json.loads(_remembered_tables(shape).read_text())}
        for family, name in _tables() - there_before:
            if name in IPTABLES_TABLES and not _has_rules(family, name):
                _try("nft", "delete", "table", family, name)
    remembered = _remembered_forwarding(shape)
    if remembered.exists():
        IP_FORWARD.write_text(remembered.read_text())


def _remembered_forwarding(shape: Shape) -> Path:
    return shape.state / "ip_forward.before"


def _remembered_tables(shape: Shape) -> Path:
    return shape.state / "nft_tables.before"


def _tables() -> set[tuple[str, str]]:
    """(family, name) of every table of nftables."""
    listed = json.loads(_run("nft", "--json", "list", "tables"))["nftables"]
    return {(one["table"]["family"], one["table"]["name"]) for one in listed if "table" in one}


def _has_rules(family: str, name: str) -> bool:
    listed = json.loads(_run("nft", "--json", "list", "table", family, name))["nftables"]
    return any("rule" in one for one in listed)


def _masquerade_rules() -> str:
    """Pods leave this machine under its address; among themselves and towards it they keep their own."""
    return f"""table ip {OUR_TABLE}
delete table ip {OUR_TABLE}
table ip {OUR_TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {POD_CIDR} ip daddr != {POD_CIDR} fib daddr type != local masquerade
  }}
}}
"""


def _run(*command: str, stdin: str | None = None) -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Trouble(
            f"{' '.join(command)} failed: {result.stderr.strip()}", "this needs root and a kernel with nf_tables"
        )
    return result.stdout


def _try(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)
