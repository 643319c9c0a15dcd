"""`login` and `logout`: the key is tried before it is kept."""

import getpass
import sys

from renderfleet_cli import profiles
from renderfleet_cli.errors import Misused, NotAllowed, NotThere
from renderfleet_cli.rest import RestDoor


def login(url: str, profile: str | None) -> None:
    """Ask for a key, try it, save it. Raises Misused for one that opens nothing."""
    if "://" not in url:
        url = f"https://{url}"
    key = (getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        raise Misused(
            "no key was given", "paste it at the prompt, or send it by stdin: renderfleet login URL < key.txt"
        )
    made = profiles.Profile(url.rstrip("/"), key)
    door = RestDoor(made)
    try:
        whose = _whose(door)
    finally:
        door.close()
    name = profiles.chosen_name(profile)
    file = profiles.save(name, made)
    print(f"{whose} at {made.url}, saved as profile {name!r} in {file}")


def _whose(door: RestDoor) -> str:
    try:
        found = door.call("GET", "/jobs", params=[("limit", "1")])
    except NotAllowed:
        door.call("GET", "/admin/tenants")
        return "administrator's key"
    except NotThere:
        raise Misused(f"{door.where} is not the RenderFleet API", "give its address without a path") from None
    first = next(iter(found["items"]), None)
    return f"key of namespace {first['namespace']}" if first else "key of a tenant without renders yet"


def logout(profile: str | None) -> None:
    """Forget a profile. Raises NotThere when there is none of that name."""
    name = profiles.chosen_name(profile)
    if not profiles.forget(name):
        raise NotThere(f"there is no profile {name!r} in {profiles.path()}")
    print(f"profile {name!r} is forgotten; the key itself stays valid until an administrator revokes it")
