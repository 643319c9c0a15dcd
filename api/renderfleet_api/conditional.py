"""ETags: what has not changed since the caller's last look is not sent again.

Signed links do not count as a change, or nothing would ever be unchanged; but a caller must not be left with links that
have expired. So each half of a link's life has tags of its own: whoever gets a 304 holds links that are good for as long
again.
"""

import hashlib
import time
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Header, Request, Response
from sqlalchemy import RowMapping

from .parts import parts_of

UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "Unchanged since that ETag"}}
"""What a route that takes Known declares in OpenAPI."""


class Unchanged(Exception):
    """The caller has what there is."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.headers = headers


async def answer_unchanged(_: Request, found: Exception) -> Response:
    """304, as the handler of Unchanged."""
    return Response(status_code=304, headers=found.headers if isinstance(found, Unchanged) else None)


def tag_of(facts: Any, window: int) -> str:
    """A weak ETag of anything that JSON can say, and of rows of the database."""
    raw = orjson.dumps([facts, window], default=_values_of)
    return f'W/"{hashlib.blake2b(raw, digest_size=12).hexdigest()}"'


def _values_of(row: RowMapping) -> list[Any]:
    """A row's values; orjson does not take SQLAlchemy's names for names."""
    return list(row.values())


class Conditions:
    """What the caller has already, by its own word."""

    def __init__(self, response: Response, link_ttl_seconds: int, if_none_match: str | None) -> None:
        self._response = response
        self._half_life = link_ttl_seconds / 2
        self._has = {one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")} - {""}

    def check(self, facts: Any, *, has_links: bool = False) -> None:
        """Tag the answer by the facts that it is made of. Raises Unchanged when that is what the caller has."""
        tag = tag_of(facts, int(time.time() / self._half_life) if has_links else 0)
        headers = {"Cache-Control": "private, no-cache", "ETag": tag}
        if tag.removeprefix("W/") in self._has or "*" in self._has:
            raise Unchanged(headers)
        self._response.headers.update(headers)


async def conditions(
    request: Request,
    response: Response,
    if_none_match: Annotated[
        str | None, Header(description="ETag of an earlier answer: 304 when it still holds")
    ] = None,
) -> Conditions:
    """The conditions of this request."""
    parts = await parts_of(request)
    return Conditions(response, parts.settings.link_ttl_seconds, if_none_match)


Known = Annotated[Conditions, Depends(conditions)]
