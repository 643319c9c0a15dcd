"""The two ways to the fleet, and which one is taken.

asked for                                         taken
--via, or called as `kubectl renders`             that one
-n, --context or --kubeconfig                     the cluster
--profile, RENDERFLEET_URL or a saved profile     REST
a kubeconfig ($KUBECONFIG or ~/.kube/config)      the cluster
none of these                                     an error that names both
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from renderfleet_crds.phases import Phase

from . import profiles
from .errors import Failed, Misused, NotThere
from .views import Estimate, Named, Provider, Render, Surroundings, Tenant, parse_names

Via = Literal["rest", "cluster"]


@dataclass(frozen=True, slots=True)
class Target:
    """Which fleet, as the command line says it."""

    via: Via | None = None
    profile: str | None = None
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    program: str = "renderfleet"
    """How this program was called."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which renders."""

    kind: str | None = None
    phases: tuple[str, ...] = ()
    provider: str | None = None
    selector: str | None = None
    everywhere: bool = False
    """In all namespaces."""
    limit: int | None = None
    since_seconds: float | None = None
    """Created no longer ago than this."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A render to be made."""

    kind: str
    spec: Mapping[str, Any]
    name: str | None = None
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class Door(Protocol):
    """What both ways can do. All calls raise CliError."""

    via: Via
    where: str
    """For messages: the address, and the namespace when there is one."""

    def renders(self, wanted: Wanted) -> list[Render]:
        """Newest first."""

    def find(self, name: Named, *, everywhere: bool = False) -> list[Render]:
        """All that the name may mean; the newest of each kind."""

    def submit(self, wish: Wish) -> Render:
        """The render as it was accepted."""

    def estimate(self, wish: Wish) -> Estimate:
        """What it would be and cost, after all checks that a submit meets. Makes nothing."""

    def hold(self, provider: str, *, held: bool) -> None:
        """Let nothing more start at a vendor account, or again. For administrators. Raises NotThere."""

    def cancel(self, render: Render) -> Render:
        """The render after it was told to stop."""

    def retry(self, render: Render) -> Render:
        """The render after it was told to begin anew."""

    def follow(self, renders: Sequence[Render], timeout_seconds: float | None = None) -> Iterator[Render]:
        """Each of them as it is now and after each change, until all are over. Raises Failed at the timeout."""

    def surroundings(self, render: Render) -> Surroundings:
        """What else these credentials may see of the things a render waits for."""

    def providers(self) -> list[Provider] | None:
        """All vendor accounts, or None when these credentials may not see them."""

    def tenants(self) -> list[Tenant] | None:
        """All tenants, or None when these credentials may not see them."""

    def close(self) -> None:
        """Close all connections."""


def choose(target: Target) -> Via:
    """The way to take. Raises Misused when nothing is configured."""
    if target.via:
        return target.via
    if target.namespace or target.context or target.kubeconfig:
        return "cluster"
    if profiles.find(target.profile):
        return "rest"
    if has_kubeconfig():
        return "cluster"
    raise Misused(
        "no fleet is configured",
        "`renderfleet login URL` for the REST API, or set KUBECONFIG to go by the cluster",
    )


def has_kubeconfig() -> bool:
    """Whether there is something to reach a cluster by, the pod's own service account included."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return True
    return Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser().exists()


@contextmanager
def opened(target: Target) -> Iterator[Door]:
    """The door of this target, closed afterwards."""
    door: Door
    if choose(target) == "rest":
        from .rest import RestDoor

        profile = profiles.find(target.profile)
        if profile is None:
            raise Misused(
                "no REST API is configured", "`renderfleet login URL`, or set RENDERFLEET_URL and RENDERFLEET_KEY"
            )
        door = RestDoor(profile, program=target.program)
    else:
        from .cluster import ClusterDoor

        door = ClusterDoor(target)
    try:
        yield door
    finally:
        door.close()


def find_all(door: Door, words: Sequence[str], *, everywhere: bool = False) -> list[Render]:
    """Every render that the words may mean, in their order. Raises NotThere for a word that means none."""
    out: dict[str, Render] = {}
    for named in _parsed(words):
        found = door.find(named, everywhere=everywhere)
        if not found:
            kind = f"{named.kind} " if named.kind else "render "
            raise NotThere(f"there is no {kind}{named.name} at {door.where}", "`list` shows what there is")
        out |= {one.id: one for one in found}
    return list(out.values())


def find_each(door: Door, words: Sequence[str]) -> list[Render]:
    """One render for each word, fit to be changed. Raises Misused for a word that may mean several."""
    out = []
    for word in words:
        found = find_all(door, [word])
        if len(found) > 1:
            choices = " or ".join(one.short_ref for one in found)
            raise Misused(f"{word} may mean {choices}", "say which, in that form")
        out += found
    return out


def judge(renders: Iterable[Render], *, wanted: frozenset[Phase] = frozenset({Phase.SUCCEEDED})) -> None:
    """Raises Failed, telling of each render that did not end as it should."""
    ended = list(renders)
    bad = [one for one in ended if one.phase not in wanted]
    if not bad:
        return
    said = "; ".join(f"{one.short_ref} ended as {one.phase}: {one.message or one.reason or 'deleted'}" for one in bad)
    more = f" ({len(bad)} of {len(ended)})" if len(ended) > 1 else ""
    raise Failed(said + more, f"`renderfleet why {bad[0].short_ref}` says what would help")


def _parsed(words: Sequence[str]) -> list[Named]:
    try:
        return parse_names(words)
    except ValueError as wrong:
        raise Misused(str(wrong)) from None
