"""`top`: the queues, once or live."""

import sys
import time
from datetime import datetime

from renderfleet_cli.door import Door, Target, Wanted, opened
from renderfleet_cli.errors import Unreachable
from renderfleet_cli.output import Form, print_document
from renderfleet_cli.queues import Fleet, Look, document, refs, screen
from renderfleet_cli.words import clock, utc_now

from .watch import LIVE


def top(
    target: Target, *, live: bool, interval_seconds: float, everywhere: bool, form: Form | None, headers: bool
) -> None:
    """Print the queues; with `live` again and again, until interrupted."""
    look = Look(wide=form == "wide", headers=headers)
    with opened(target) as door:
        if not live:
            _print(_seen(door, everywhere), utc_now(), form, look)
            return
        if form in {None, "wide"} and sys.stdout.isatty():
            _live(door, interval_seconds, everywhere, look)
        while True:
            now = utc_now()
            if form in {None, "wide"}:
                print(clock(now))
            elif form == "yaml":
                print("---")
            _print(_seen(door, everywhere), now, form, look)
            print(flush=True)
            time.sleep(interval_seconds)


def _print(fleet: Fleet, now: datetime, form: Form | None, look: Look) -> None:
    match form:
        case "json" | "yaml":
            print_document(document(fleet, now), form)
        case "name":
            print("\n".join(refs(fleet)))
        case _:
            print(screen(fleet, now, look))


def _live(door: Door, interval_seconds: float, everywhere: bool, look: Look) -> None:
    from rich.live import Live
    from rich.text import Text

    text = screen(_seen(door, everywhere), utc_now(), look)
    with Live(Text(text), auto_refresh=False, screen=True) as shown:
        while True:
            head = f"{door.where}   {clock(utc_now())}   every {interval_seconds:g} s, Ctrl-C ends"
            shown.update(Text(f"{head}\n\n{text}", no_wrap=True), refresh=True)
            time.sleep(interval_seconds)
            try:
                text = screen(_seen(door, everywhere), utc_now(), look)
            except Unreachable as away:
                # Whoever watches wants to see it come back.
                text = f"{away.what}\n\nTrying again."


def _seen(door: Door, everywhere: bool) -> Fleet:
    renders = door.renders(Wanted(phases=LIVE, everywhere=everywhere))
    if door.via == "rest":
        return Fleet(renders, door.providers(), door.tenants())
    from renderfleet_cli.cluster import ClusterDoor

    assert isinstance(door, ClusterDoor)
    only = None if everywhere else door.namespace
    tenants, quotas = door.tenants(), door.quotas()
    if only is not None:
        tenants = [one for one in tenants or () if one.namespace == only]
    return Fleet(renders, door.providers(), tenants, quotas, door.jobs(only))
