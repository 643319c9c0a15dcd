"""The fleet from Python: submit, follow, wait. The command line's own way over REST, for programs.

All calls raise CliError: Failed for a render that ended badly, Misused for a wrong request, Unreachable without an answer.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, Self

from pydantic.alias_generators import to_camel

from . import profiles
from .door import Wanted, Wish, find_each, judge
from .errors import Misused
from .profiles import Profile
from .rest import RestDoor
from .views import Render

Word = Literal["avatar", "voice", "video"]
_KINDS: Final[dict[Word, str]] = {"avatar": "AvatarRender", "voice": "VoiceJob", "video": "VideoRender"}


class Fleet:
    """One tenant's renders over REST. Close it, or use it in a `with` block; not for several threads at once."""

    def __init__(self, url: str | None = None, key: str | None = None, *, timeout_seconds: float = 30) -> None:
        """Without `url` and `key`: those of RENDERFLEET_URL and RENDERFLEET_KEY, or of `renderfleet login`."""
        if (url is None) != (key is None):
            raise Misused("an address needs a key, and a key an address", "give both, or neither")
        profile = profiles.find() if url is None or key is None else Profile(url.rstrip("/"), key)
        if profile is None:
            raise Misused("no REST API is configured", "give url and key, or set RENDERFLEET_URL and RENDERFLEET_KEY")
        self._door = RestDoor(profile, timeout_seconds=timeout_seconds)

    def submit(
        self, kind: Word, *, name: str | None = None, labels: dict[str, str] | None = None, **fields: Any
    ) -> Render:
        """The render as it was accepted. Fields are those of its spec: `voice_id=…` or `voiceId=…`.

        A lost answer is asked for again with the same idempotency key, so that one call makes one render.
        """
        spec = {to_camel(field): _camel(value) for field, value in fields.items()}
        return self._door.submit(Wish(kind=_KINDS[kind], spec=spec, name=name, labels=labels or {}))

    def get(self, name: str) -> Render:
        """A render by id, name or `video/name`, with fresh links. Raises NotThere."""
        return find_each(self._door, [name])[0]

    def renders(
        self, *, kind: Word | None = None, selector: str | None = None, limit: int | None = None
    ) -> list[Render]:
        """Renders, newest first; `selector` as `team=blue,shot=4`."""
        return self._door.renders(Wanted(kind=_KINDS[kind] if kind else None, selector=selector, limit=limit))

    def follow(self, *renders: Render, timeout_seconds: float | None = None) -> Iterator[Render]:
        """Each of them as it is now and after each change, until all are over. Raises Failed at the timeout.

        Streamed; a broken stream goes on from the last event that arrived.
        """
        return self._door.follow(renders, timeout_seconds)

    def wait(self, render: Render, *, timeout_seconds: float | None = None) -> Render:
        """The render at its end, with links to its results. Raises Failed unless it succeeded, and at the timeout."""
        *_, end = self.follow(render, timeout_seconds=timeout_seconds)
        judge([end])
        return end

    def cancel(self, render: Render) -> Render:
        """The render after it was told to stop."""
        return self._door.cancel(render)

    def retry(self, render: Render) -> Render:
        """The render after it was told to begin anew, which may be paid again."""
        return self._door.retry(render)

    def close(self) -> None:
        """Close all connections."""
        self._door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _camel(value: Any) -> Any:
    """Names within a value are fields, too: `avatar_ref={"name": "guide"}`."""
    if isinstance(value, dict):
        return {to_camel(name): _camel(one) for name, one in value.items()}
    return value
