"""`top`: the queues, once or live."""

import sys
import time

from renderfleet_cli.door import Door, Target, Wanted, opened
from renderfleet_cli.errors import Unreachable
from renderfleet_cli.queues import Fleet, screen
from renderfleet_cli.words import clock, utc_now

from .watch import LIVE


def top(target: Target, *, live: bool, interval_seconds: float, everywhere: bool) -> None:
    """Print the three tables; with `live` again and again, until interrupted."""
    with opened(target) as door:
        if not live:
            print(screen(_look(door, everywhere), utc_now()))
            return
        if not sys.stdout.isatty():
            while True:
                now = utc_now()
                print(f"{clock(now)}\n{screen(_look(door, everywhere), now)}\n", flush=True)
                time.sleep(interval_seconds)
        _live(door, interval_seconds, everywhere)


def _live(door: Door, interval_seconds: float, everywhere: bool) -> None:
    from rich.live import Live
    from rich.text import Text

    text = screen(_look(door, everywhere), utc_now())
    with Live(Text(text), auto_refresh=False, screen=True) as shown:
        while True:
            head = f"{door.where}   {clock(utc_now())}   every {interval_seconds:g} s, Ctrl-C ends"
            shown.update(Text(f"{head}\n\n{text}", no_wrap=True), refresh=True)
            time.sleep(interval_seconds)
            try:
                text = screen(_look(door, everywhere), utc_now())
            except Unreachable as away:
                # Whoever watches wants to see it come back.
                text = f"{away.what}\n\nTrying again."


def _look(door: Door, everywhere: bool) -> Fleet:
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
