"""Send what is due. Any number of these may run: each takes deliveries that no other has.

At least once: a worker that dies after the answer and before its row repeats the delivery, with the same `webhook-id`.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from cryptography.fernet import InvalidToken
from prometheus_client import Counter, Histogram
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_providers.guarded import GuardedClient, GuardedError
from renderfleet_store import webhooks
from renderfleet_store.documents import to_json
from renderfleet_store.engine import StoreUnavailable, transaction

from .schedule import judge, retry_after
from .secrets import Safe, signature, valid_secrets

log = structlog.get_logger(__name__)

TRIES: Final = Counter("renderfleet_webhook_tries", "Webhook deliveries tried", ["outcome"])
SECONDS: Final = Histogram("renderfleet_webhook_seconds", "Time to a receiver's answer", buckets=(0.05, 0.2, 1, 5, 20))
ANSWER_SECONDS: Final = 20.0
"""The standard asks for 15 to 30."""
ANSWER_BYTES: Final = 1 << 16
LEASE_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 5.0


class Courier:
    """Delivers until it is told to stop."""

    def __init__(
        self,
        engine: AsyncEngine,
        safe: Safe,
        client: GuardedClient,
        *,
        at_once: int = 32,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._safe = safe
        self._client = client
        self._at_once = at_once
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver for ever; returns when `stop` is set and what was begun is done."""
        while not stop.is_set():
            try:
                sent = await self.deliver_due()
                pause = 0.0 if sent else IDLE_SECONDS
            except StoreUnavailable as away:
                log.warning("deliveries wait for the database", error=str(away))
                pause = AWAY_SECONDS
            except Exception:
                # One odd row may not end the process for all endpoints.
                log.exception("deliveries could not be claimed")
                pause = AWAY_SECONDS
            if pause:
                try:
                    async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311  (jitter)
                        await stop.wait()
                except TimeoutError:
                    continue

    async def deliver_due(self) -> int:
        """Send one batch of what is due; how many. Raises StoreUnavailable."""
        async with transaction(self._engine) as connection:
            mine = await webhooks.claim_due(connection, limit=self._at_once, lease_seconds=LEASE_SECONDS)
        # One that goes wrong must not take the others' answers with it; what is not written down is sent again.
        for went_wrong in await asyncio.gather(*(self._deliver(one) for one in mine), return_exceptions=True):
            if isinstance(went_wrong, StoreUnavailable):
                raise went_wrong
            if went_wrong is not None:
                log.error("delivery broke", exc_info=went_wrong)
        return len(mine)

    async def _deliver(self, due: RowMapping) -> None:
        began = time.monotonic()
        now = self._clock()
        status, error, asked = await self._send(due, now)
        verdict = judge(
            status=status,
            tries_before=due["tries"],
            now=self._clock(),
            chance=random.random(),  # noqa: S311  (jitter)
            retry_after_seconds=asked,
            failing_since=due["failing_since"],
        )
        millis = round((time.monotonic() - began) * 1000)
        SECONDS.observe(millis / 1000)
        TRIES.labels(verdict.state if verdict.state != "pending" else "retried").inc()
        tried = webhooks.Tried(now, status, error, millis, verdict.state, verdict.next_at)
        async with transaction(self._engine) as connection:
            await webhooks.settle(connection, due["id"], tried)
            if verdict.state == "delivered":
                await webhooks.note_success(connection, due["endpoint_id"])
            else:
                await webhooks.note_failure(connection, due["endpoint_id"])
            if verdict.disable:
                await webhooks.disable(connection, due["endpoint_id"], verdict.disable)
        log.info("webhook tried", delivery=due["id"], type=due["type"], status=status, state=verdict.state)

    async def _send(self, due: RowMapping, now: datetime) -> tuple[int | None, str | None, float | None]:
        """`(status, error, seconds to wait as the receiver asks)` of one try."""
        try:
            secrets = valid_secrets(due["secrets"], due["secret_rotated_at"], now, self._safe)
        except InvalidToken:
            return None, "secret_unreadable", None
        body = payload(due["type"], due["created_at"], due["data"])
        headers = {
            "content-type": "application/json",
            "user-agent": "RenderFleet-Webhooks/1",
            "webhook-id": due["event_id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature(secrets, due["event_id"], now, body),
        }
        try:
            answer = await self._client.request(
                "POST",
                due["url"],
                headers=headers,
                content=body.encode(),
                max_bytes=ANSWER_BYTES,
                total_seconds=ANSWER_SECONDS,
            )
        except GuardedError as failed:
            return None, failed.code, None
        ok = 200 <= answer.status < 300
        return (
            answer.status,
            None if ok else f"http_{answer.status}",
            retry_after(answer.headers.get("retry-after"), now),
        )


def payload(kind: str, at: datetime, data: dict[str, Any]) -> str:
    """The body that is sent and signed."""
    return to_json({"type": kind, "timestamp": at, "data": data})
