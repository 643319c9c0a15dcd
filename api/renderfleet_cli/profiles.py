"""Where the REST API is and which key opens it: environment first, then what `login` saved.

The file holds keys, so it is made readable for its owner only, before the first byte is in it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from .errors import Misused

DEFAULT: Final = "default"
_URL, _KEY, _PROFILE, _CONFIG = "RENDERFLEET_URL", "RENDERFLEET_KEY", "RENDERFLEET_PROFILE", "RENDERFLEET_CONFIG"


@dataclass(frozen=True, slots=True)
class Profile:
    """One REST API and a key for it."""

    url: str
    key: str


def path() -> Path:
    """The file that `login` writes."""
    if given := os.environ.get(_CONFIG):
        return Path(given).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "renderfleet" / "profiles.json"


def chosen_name(given: str | None) -> str:
    """Name of the profile to use."""
    return given or os.environ.get(_PROFILE) or DEFAULT


def find(given: str | None = None) -> Profile | None:
    """The profile to use, None when nothing is configured. Raises Misused when something is, and is of no use."""
    url, key = os.environ.get(_URL), os.environ.get(_KEY)
    asked_for = given or os.environ.get(_PROFILE)
    if url and not given:
        if not key:
            raise Misused(f"{_URL} is set and {_KEY} is not", f"export {_KEY}=rf_…, or unset {_URL} and use `login`")
        return Profile(url.rstrip("/"), key)
    saved = load()
    if asked_for and asked_for not in saved:
        have = ", ".join(sorted(saved)) or "none"
        raise Misused(
            f"there is no profile {asked_for!r} (saved: {have})", f"renderfleet login URL --profile {asked_for}"
        )
    return saved.get(asked_for or DEFAULT)


def load() -> dict[str, Profile]:
    """All saved profiles by name. Raises Misused for a file that is none of ours."""
    file = path()
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    except OSError as unreadable:
        raise Misused(f"{file} cannot be read: {unreadable.strerror}", "mend its permissions, or remove it") from None
    try:
        return {name: Profile(one["url"], one["key"]) for name, one in json.loads(text)["profiles"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Misused(f"{file} is damaged", "remove it and log in again") from None


def save(name: str, profile: Profile) -> Path:
    """Keep a profile, replacing one of that name; the file it is in."""
    return _write({**load(), name: profile})


def forget(name: str) -> bool:
    """Drop a profile; False when there was none of that name."""
    saved = load()
    if saved.pop(name, None) is None:
        return False
    _write(saved)
    return True


def _write(profiles: dict[str, Profile]) -> Path:
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({"profiles": {name: asdict(one) for name, one in profiles.items()}}, out, indent=2)
    fresh.replace(file)
    return file
