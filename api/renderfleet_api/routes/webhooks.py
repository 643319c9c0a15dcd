"""Webhook endpoints: where a tenant wants to be told, and how that went. Signed as Standard Webhooks says."""

import secrets as random
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy import RowMapping

from renderfleet_api.auth import Reader, TenantCaller, Writer
from renderfleet_api.conditional import UNCHANGED, Known
from renderfleet_api.links import OF_ENDPOINT
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotFound, Refused, invalid_field, responses
from renderfleet_api.schemas import EndpointChange, EndpointRequest, Replay
from renderfleet_api.views import Page, View
from renderfleet_api.webhooks.secrets import Safe, new_secret
from renderfleet_providers.guarded import AddressRefused, GuardedClient
from renderfleet_store import webhooks
from renderfleet_store.engine import transaction

from .common import Limit

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
EndpointId = Annotated[str, Path(min_length=1, max_length=64)]
MOST_ENDPOINTS = 20


class Endpoint(View):
    """Where events are sent."""

    id: str
    url: str
    description: str | None = None
    types: list[str]
    enabled: bool
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    created_at: datetime


class NewEndpoint(Endpoint):
    """An endpoint with its secret."""

    secret: str
    """Signs the events; shown this once."""


class Try(View):
    """One try of a delivery."""

    at: datetime
    status: int | None = None
    error: str | None = None
    millis: int


class Delivery(View):
    """One event on its way."""

    id: int
    event_id: str
    """Sent as `webhook-id`."""
    type: str
    job_id: str | None = None
    state: str
    """`pending`, `delivered` or `failed`."""
    tries: int
    next_at: datetime | None = None
    created_at: datetime
    log: list[Try]


class Replayed(View):
    """How many events are sent again."""

    events: int


@router.post("", status_code=201, responses={201: {"links": OF_ENDPOINT}, **responses(Refused)})
async def create_endpoint(body: EndpointRequest, caller: Writer, parts: Use) -> NewEndpoint:
    """Ask to be told of the tenant's jobs."""
    _check_url(parts, body.url)
    secret = new_secret()
    async with transaction(parts.primary) as connection:
        if len(await webhooks.endpoints_of(connection, caller.namespace)) >= MOST_ENDPOINTS:
            raise Refused(f"A tenant may have {MOST_ENDPOINTS} endpoints.", code="too_many_endpoints")
        row = await webhooks.add_endpoint(
            connection,
            {
                "id": "we_" + random.token_hex(8),
                "namespace": caller.namespace,
                "url": body.url,
                "description": body.description,
                "types": list(body.types),
                "secrets": [_safe(parts).seal(secret)],
            },
        )
    return NewEndpoint(**_endpoint(row).model_dump(), secret=secret)


@router.get("", responses=responses() | UNCHANGED)
async def list_endpoints(caller: Reader, parts: Use, known: Known) -> Page[Endpoint]:
    """All endpoints of the tenant."""
    async with transaction(parts.primary) as connection:
        rows = await webhooks.endpoints_of(connection, caller.namespace)
    shown = [_endpoint(row) for row in rows]
    known.check([one.model_dump() for one in shown])
    return Page[Endpoint](items=shown)


@router.get("/{endpoint_id}", responses=responses(NotFound) | UNCHANGED)
async def get_endpoint(endpoint_id: EndpointId, caller: Reader, parts: Use, known: Known) -> Endpoint:
    """One endpoint."""
    shown = _endpoint(await _find(parts, caller, endpoint_id))
    known.check(shown.model_dump())
    return shown


@router.patch("/{endpoint_id}", responses=responses(NotFound))
async def change_endpoint(endpoint_id: EndpointId, body: EndpointChange, caller: Writer, parts: Use) -> Endpoint:
    """Change an endpoint, or enable it again."""
    given = body.model_dump(exclude_unset=True)
    change = {name: value for name, value in given.items() if value is not None or name == "description"}
    if "url" in change:
        _check_url(parts, change["url"])
    if change.get("enabled"):
        change |= {"disabled_reason": None, "failing_since": None}
    if not change:
        return _endpoint(await _find(parts, caller, endpoint_id))
    async with transaction(parts.primary) as connection:
        row = await webhooks.change_endpoint(connection, caller.namespace, endpoint_id, change)
    return _endpoint(_there(row))


@router.delete("/{endpoint_id}", status_code=204, responses=responses(NotFound))
async def delete_endpoint(endpoint_id: EndpointId, caller: Writer, parts: Use) -> None:
    """Send nothing more there, and forget what was sent."""
    async with transaction(parts.primary) as connection:
        if not await webhooks.remove_endpoint(connection, caller.namespace, endpoint_id):
            raise NotFound("There is no endpoint of that id.")


@router.post("/{endpoint_id}/rotate", responses=responses(NotFound))
async def rotate_secret(endpoint_id: EndpointId, caller: Writer, parts: Use) -> NewEndpoint:
    """A new secret. For a day both sign, so that the receiver can change over without a gap."""
    secret = new_secret()
    async with transaction(parts.primary) as connection:
        row = _there(await webhooks.get_endpoint(connection, caller.namespace, endpoint_id))
        change = {"secrets": [_safe(parts).seal(secret), row["secrets"][0]], "secret_rotated_at": datetime.now(UTC)}
        row = _there(await webhooks.change_endpoint(connection, caller.namespace, endpoint_id, change))
    return NewEndpoint(**_endpoint(row).model_dump(), secret=secret)


@router.post("/{endpoint_id}/test", status_code=202, responses=responses(NotFound))
async def send_test(endpoint_id: EndpointId, caller: Writer, parts: Use) -> Endpoint:
    """Send a `webhook.test` event there, and see in the deliveries how it went."""
    async with transaction(parts.primary) as connection:
        row = _there(await webhooks.get_endpoint(connection, caller.namespace, endpoint_id))
        await webhooks.announce(
            connection,
            namespace=caller.namespace,
            endpoint=endpoint_id,
            event=f"evt_{uuid.uuid4().hex}",
            kind="webhook.test",
            data={"endpoint": endpoint_id},
        )
    return _endpoint(row)


@router.get("/{endpoint_id}/deliveries", responses=responses(NotFound) | UNCHANGED)
async def list_deliveries(
    *,
    endpoint_id: EndpointId,
    caller: Reader,
    parts: Use,
    known: Known,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
) -> Page[Delivery]:
    """What was sent there and how it went, newest first."""
    await _find(parts, caller, endpoint_id)
    async with transaction(parts.primary) as connection:
        rows = await webhooks.deliveries_of(
            connection, endpoint_id, limit=limit + 1, before=int(cursor) if cursor else None
        )
    known.check(rows)
    shown = [_delivery(row) for row in rows[:limit]]
    return Page[Delivery](items=shown, next_cursor=str(shown[-1].id) if len(rows) > limit else None)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/resend", status_code=202, responses=responses(NotFound))
async def resend_delivery(
    endpoint_id: EndpointId, delivery_id: Annotated[int, Path(ge=1, lt=2**63)], caller: Writer, parts: Use
) -> Replayed:
    """Send one event again, with the same id."""
    await _find(parts, caller, endpoint_id)
    async with transaction(parts.primary) as connection:
        if not await webhooks.resend(connection, endpoint_id, delivery_id):
            raise NotFound("There is no such delivery.")
    return Replayed(events=1)


@router.post("/{endpoint_id}/replay", status_code=202, responses=responses(NotFound))
async def replay_events(endpoint_id: EndpointId, body: Replay, caller: Writer, parts: Use) -> Replayed:
    """Send all events of a time again, as after the receiver lost some."""
    row = await _find(parts, caller, endpoint_id)
    async with transaction(parts.primary) as connection:
        count = await webhooks.replay(connection, row, body.since, body.until or datetime.now(UTC))
    return Replayed(events=count)


def _check_url(parts: Parts, url: str) -> None:
    try:
        GuardedClient.trusting(parts.settings.webhook_trusted_origins).check(url)
    except AddressRefused as refused:
        raise invalid_field("url", refused.message) from refused


async def _find(parts: Parts, caller: TenantCaller, endpoint_id: str) -> RowMapping:
    async with transaction(parts.primary) as connection:
        return _there(await webhooks.get_endpoint(connection, caller.namespace, endpoint_id))


def _there(row: RowMapping | None) -> RowMapping:
    if row is None:
        raise NotFound("There is no endpoint of that id.")
    return row


def _safe(parts: Parts) -> Safe:
    return Safe(parts.settings.key_secret.get_secret_value())


def _endpoint(row: RowMapping) -> Endpoint:
    return Endpoint(**{name: row[name] for name in Endpoint.model_fields})


def _delivery(row: RowMapping) -> Delivery:
    known: dict[str, Any] = {name: row[name] for name in ("id", "event_id", "type", "state", "tries", "created_at")}
    due = row["next_at"] if row["state"] == "pending" else None
    return Delivery(**known, job_id=row["uid"], next_at=due, log=[Try.model_validate(one) for one in row["log"]])
