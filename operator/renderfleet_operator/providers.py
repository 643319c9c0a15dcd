"""Look after RenderProviders: is the key there, does a held account work again, and what does its status say.

The status is written when circuit, hold, key or what was learned about limits change, and otherwise at most every few
seconds: it moves with every start.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import structlog

from renderfleet_client.cluster import Cluster
from renderfleet_client.errors import NotFound
from renderfleet_client.resources import Resource
from renderfleet_crds.conditions import Reason
from renderfleet_crds.contract import ErrorCategory
from renderfleet_crds.kinds import RENDER_PROVIDER
from renderfleet_providers.errors import VendorError
from renderfleet_providers.ports import Health

from .accounts import Account
from .cache import Cache
from .clock import Clock
from .decide.report import readiness
from .errors import CredentialsMissing, NotYet
from .execute import merge_patch
from .fleet import Fleet
from .secrets import VendorKeys
from .vendors import VendorDesk

log = structlog.get_logger(__name__)

Body = dict[str, Any]
PROVIDERS = Resource.of(RENDER_PROVIDER)
FAST_SECONDS = 1.0
SLOW_SECONDS = 15.0
KEY_CHECK_SECONDS = 30.0
MISSING_KEY_CHECK_SECONDS = 5.0
FIRST_PROBE_SECONDS = 60.0
LONGEST_PROBE_SECONDS = 900.0
HEALTH_SECONDS = 1800.0
"""Between two questions to an account that works: what is left in it, and whether its models are about to go."""
HEALTH_ANSWER_SECONDS = 5.0
"""This is asked for information only, so nothing waits long for it."""
_MATTERS = (
    "observedGeneration",
    "circuit",
    "circuitUntil",
    "circuitOpened",
    "windowFailures",
    "held",
    "heldReason",
    "learnedInFlight",
    "learnedPerMinute",
    "slowedPerMinute",
    "pausedUntil",
    "warning",
    "checkedAt",
    "conditions",
)
"""What a new operator must find as it is: written at once."""


@dataclass(slots=True)
class Providers:
    """Looks after all RenderProviders."""

    cluster: Cluster
    cache: Cache
    fleet: Fleet
    keys: VendorKeys
    desk: VendorDesk
    clock: Clock
    _written_at: dict[str, float] = field(default_factory=dict)
    _key_checked_at: dict[str, float] = field(default_factory=dict)
    _probes: dict[str, int] = field(default_factory=dict)

    async def reconcile(self, name: str) -> float | None:
        """Look at one provider; comes back with the seconds after which to look again, None when it is gone."""
        body = self.cache.providers.get(name)
        account = self.fleet.accounts.get(name)
        if body is None or account is None:
            return None
        await self._check_key(name, account)
        await self._probe(name, account)
        again = await self._report(body, account)
        return min(again, FAST_SECONDS) if await self._check_health(name, account) else again

    async def _check_key(self, name: str, account: Account) -> None:
        """Know whether the key is there, and whether it is another one than the one that was refused."""
        now = self.clock.monotonic()
        every = KEY_CHECK_SECONDS if account.no_key is None else MISSING_KEY_CHECK_SECONDS
        if now - self._key_checked_at.get(name, -1e9) < every:
            return
        self._key_checked_at[name] = now
        try:
            key = await self.keys.read(name, fresh=True)
        except CredentialsMissing as missing:
            account.no_key = str(missing)
            return
        if account.no_key is not None:
            account.no_key = None
            self.fleet.wake()
        if account.held is not None and account.held_secret is not None and account.held_secret != key.version:
            log.info("provider released: its key was replaced", provider=name)
            account.release()
            self.fleet.wake()

    async def _probe(self, name: str, account: Account) -> None:
        """Ask a held account something free now and then: when it answers, the hold is over."""
        now = self.clock.now()
        if account.held is None:
            self._probes.pop(name, None)
            return
        if account.spec.get("hold") or now < account.probe_after or account.no_key:
            return
        count = self._probes[name] = self._probes.get(name, 0) + 1
        account.probe_after = now + min(LONGEST_PROBE_SECONDS, FIRST_PROBE_SECONDS * 2 ** min(count - 1, 10))
        try:
            health = await self.desk.probe(name)
        except VendorError as failed:
            if failed.category in (ErrorCategory.CREDENTIAL, ErrorCategory.MONEY):
                account.held = f"{failed.code}: {failed.message}"
            return
        except NotYet:
            return
        self._take_in(account, health)
        if health.credits_remaining is not None and health.credits_remaining <= 0:
            return
        log.info("provider released: it answers again", provider=name)
        account.release()
        self.fleet.wake()

    async def _check_health(self, name: str, account: Account) -> bool:
        """Ask an account that works how it is; True when it was asked. A failure tells nothing that a paid call would not."""
        now = self.clock.now()
        ready, _, _ = _verdict(account)
        if not ready or now - account.checked_at < HEALTH_SECONDS:
            return False
        account.checked_at = now
        try:
            async with asyncio.timeout(HEALTH_ANSWER_SECONDS):
                self._take_in(account, await self.desk.probe(name))
        except (VendorError, CredentialsMissing, NotYet, TimeoutError) as failed:
            if isinstance(failed, VendorError) and failed.category is ErrorCategory.MONEY:
                account.credits_remaining = 0
            log.info("a provider's account was not seen", provider=name, error=str(failed)[:200])
        return True

    def _take_in(self, account: Account, health: Health) -> None:
        account.learn(health.learned)
        account.credits_remaining = health.credits_remaining
        if health.warning and health.warning != account.warning:
            log.warning("a provider needs care", provider=account.name, warning=health.warning)
        account.warning = health.warning
        account.checked_at = self.clock.now()

    async def _report(self, body: Body, account: Account) -> float:
        name = account.name
        old = body.get("status") or {}
        new = self._status(old, account)
        if new == old:
            return self._next(account)
        hurry = any(old.get(key) != new.get(key) for key in _MATTERS)
        left = self._written_at.get(name, -1e9) + (FAST_SECONDS if hurry else SLOW_SECONDS) - self.clock.monotonic()
        if left > 0:
            return left
        self._written_at[name] = self.clock.monotonic()
        patch = {"metadata": {"uid": body["metadata"]["uid"]}, "status": merge_patch(old, new)}
        try:
            self.cache.put_provider(await self.cluster.patch(PROVIDERS, name, patch, subresource="status"))
        except NotFound:
            return SLOW_SECONDS
        return self._next(account)

    def _next(self, account: Account) -> float:
        """When something may change by time alone."""
        now = self.clock.now()
        if account.circuit.state == "Open":
            return max(0.1, min(KEY_CHECK_SECONDS, account.circuit.until - now))
        if account.no_key is not None:
            return MISSING_KEY_CHECK_SECONDS
        if account.tokens < float(account.limits.get("burst", 5)):
            return SLOW_SECONDS
        return KEY_CHECK_SECONDS

    def _status(self, old: Body, account: Account) -> Body:
        now = self.clock.now()
        new = account.status(now, self.fleet.waiting_for(account.name))
        ready, reason, message = _verdict(account)
        stalled = not ready and reason is not Reason.CIRCUIT_OPEN
        new["conditions"] = readiness(
            old, account.generation, now, ready=ready, stalled=stalled, reason=reason, message=message
        )
        return new


def _verdict(account: Account) -> tuple[bool, Reason, str]:
    """(usable, why, in words)."""
    if account.no_key is not None:
        return False, Reason.CREDENTIALS_MISSING, account.no_key
    if account.spec.get("hold"):
        return False, Reason.PROVIDER_HELD, "spec.hold is true"
    if account.held is not None:
        return False, Reason.PROVIDER_HELD, account.held
    if account.circuit.state == "Open":
        return False, Reason.CIRCUIT_OPEN, account.last_error or "it keeps failing"
    return True, Reason.READY, ""
