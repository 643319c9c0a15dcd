"""`retry`, `cancel`, `priority`, `hold`, `release` and `redrive`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from renderfleet_cli.door import Door, Target, Wanted, find_each, judge, opened
from renderfleet_cli.errors import CliError, Failed, Misused
from renderfleet_cli.tables import renders_table
from renderfleet_cli.views import Render
from renderfleet_cli.words import money, plural, utc_now
from renderfleet_crds.phases import Phase

from .show import kind_of
from .watch import follow

if TYPE_CHECKING:
    from renderfleet_cli.cluster import ClusterDoor
    from renderfleet_cli.rest import RestDoor

_STOPPED = frozenset({Phase.CANCELLED, Phase.ABORTED})


def retry(target: Target, names: Sequence[str], *, wait: bool, timeout_seconds: float | None) -> None:
    """Begin these anew. Raises Failed for one that cannot be."""
    with opened(target) as door:
        changed = []
        for render in find_each(door, names):
            changed.append(door.retry(render))
            print(f"{render.ref} is tried again")
        if wait:
            judge(follow(door, changed, timeout_seconds, sys.stdout))


def cancel(target: Target, names: Sequence[str], *, wait: bool, timeout_seconds: float | None) -> None:
    """Stop these. Raises Failed for one that is over, and with `wait` for one that succeeded all the same."""
    with opened(target) as door:
        changed = []
        for render in find_each(door, names):
            changed.append(door.cancel(render))
            print(
                f"{render.ref} is being stopped" if not changed[-1].is_over else f"{render.ref} is {changed[-1].phase}"
            )
        if wait:
            judge(follow(door, changed, timeout_seconds, sys.stdout), wanted=_STOPPED)


def prioritize(target: Target, names: Sequence[str], priority: int) -> None:
    """Move these within the line. Raises Misused over REST, which has no such route, and Failed for one that is over."""
    with opened(target) as door:
        if door.via == "rest":
            raise Misused("priorities are changed in the cluster", "--via cluster, or submit with --priority")
        cluster = cast("ClusterDoor", door)
        for render in find_each(door, names):
            if render.is_over:
                raise Failed(f"{render.short_ref} is over: {render.phase}", "only what waits has a place in the line")
            cluster.prioritize(render, priority)
            print(f"{render.ref} has priority {priority}")


def hold(target: Target, providers: Sequence[str], *, held: bool) -> None:
    """Let nothing more start at these vendor accounts, or again. Raises NotThere, and NotAllowed."""
    with opened(target) as door:
        for name in providers:
            door.hold(name, held=held)
            print(f"renderprovider.renderfleet.dev/{name} {'held' if held else 'released'}")


def redrive(
    target: Target,
    *,
    selector: str | None,
    all_dead: bool,
    kind: str | None,
    provider: str | None,
    tenant: str | None,
    everywhere: bool,
    limit: int,
    dry_run: bool,
    yes: bool,
) -> None:
    """Try dead-lettered renders again, oldest first. Raises Failed when some cannot be."""
    if not selector and not all_dead:
        raise Misused("which ones?", "--selector LABELS, or --all-dead for every dead-lettered render")
    wanted = Wanted(
        kind=kind_of(kind),
        phases=(Phase.DEAD_LETTERED,),
        provider=provider,
        selector=selector,
        everywhere=everywhere,
    )
    with opened(target) as door:
        as_administrator = tenant is not None
        found = _dead_letters(door, wanted, tenant)
        # Newest first is for reading; what waited longest is tried first.
        chosen = [one for one in reversed(found) if not one.redrive_asked and not one.deleted][:limit]
        if not chosen:
            print("No dead-lettered render fits.", file=sys.stderr)
            return
        print(renders_table(chosen, utc_now(), namespaces=everywhere or as_administrator))
        if dry_run:
            return
        _ask(chosen, yes)
        if as_administrator and door.via == "rest":
            _redrive_at_once(door, chosen, tenant)
            return
        _redrive_each(door, chosen)


def _dead_letters(door: Door, wanted: Wanted, tenant: str | None) -> list[Render]:
    if tenant is None:
        return door.renders(wanted)
    if door.via == "cluster":
        known = {one.name: one.namespace for one in door.tenants() or ()}
        if tenant not in known:
            raise Misused(f"there is no tenant {tenant} that these credentials may see", f"-n rf-{tenant}, or -A")
        every = door.renders(replace(wanted, everywhere=True))
        return [one for one in every if one.namespace == known[tenant]]
    if wanted.selector:
        raise Misused(
            "an administrator's redrive over REST knows no labels", "leave out --tenant and use the tenant's key"
        )
    found = _rest(door).dead_letters(tenant)
    return [one for one in found if wanted.kind in {None, one.kind} and wanted.provider in {None, one.provider}]


def _rest(door: Door) -> "RestDoor":
    from renderfleet_cli.rest import RestDoor

    assert isinstance(door, RestDoor)
    return door


def _ask(chosen: Sequence[Render], yes: bool) -> None:
    """Raises Misused when nobody can be asked, Failed when the answer is no."""
    paid = sum(one.actual_micros or one.estimated_micros or 0 for one in chosen)
    question = f"Try {plural(len(chosen), 'render')} again"
    if paid:
        question += f", which may cost about {money(paid, chosen[0].currency)}"
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misused(f"{question}?", "--yes says so, where nobody can be asked")
    if input(f"{question}? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise Failed("nothing was done")


def _redrive_each(door: Door, chosen: Sequence[Render]) -> None:
    trouble: list[str] = []
    for render in chosen:
        try:
            door.retry(render)
        except CliError as refused:
            trouble.append(f"{render.short_ref}: {refused.what}")
        else:
            print(f"{render.ref} is tried again")
    _judge(len(chosen), trouble)


def _redrive_at_once(door: Door, chosen: Sequence[Render], tenant: str | None) -> None:
    done, refused = _rest(door).redrive_dead_letters([one.id for one in chosen], tenant)
    names = {one.id: one.ref for one in chosen}
    for one in done:
        print(f"{names.get(one, one)} is tried again")
    _judge(len(done) + len(refused), [f"{names.get(one, one)}: {why}" for one, why in refused.items()])


def _judge(tried: int, trouble: Sequence[str]) -> None:
    if trouble:
        raise Failed(f"{len(trouble)} of {plural(tried, 'render')} could not be tried again: {'; '.join(trouble[:5])}")
