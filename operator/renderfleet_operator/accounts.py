"""What each provider can take: circuit, tokens, pauses, holds, and what its limits turned out to be.

All of it lives in memory and can be found again after a restart: circuit, hold, pause and what was learned about limits from
RenderProvider.status, tokens from the starts of the last minute, calls in flight from the renders themselves. So a restart
neither frees a slot that is taken nor lets a crowd through to a vendor that is down or has just asked for less.

limits.inFlight     and less while the vendor's headers say less
limits.perMinute    and less while the vendor's headers say less; each refusal (429) halves it, a tenth a minute brings it back
Retry-After         nothing is started for so long, whether the vendor is asked too often or is itself overloaded
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import chance_of
from .decide import admission, breaker
from .decide.actions import News, TellProvider
from .times import rfc3339, seconds_of

Body = dict[str, Any]

DEFAULT_PAUSE_SECONDS = 5.0
"""After a 429 that does not say how long."""
LONGEST_PAUSE_SECONDS = 3600.0
RECOVERY_PER_MINUTE = 0.1
"""A rate that was slowed grows back by a tenth of itself each minute without a 429."""
LEARNED: Mapping[str, str] = {"maxConcurrent": "learned_in_flight", "maxPerMinute": "learned_per_minute"}
"""Where the limits in StageResult.learned and Health.learned are kept."""
_REMEMBERED = 4096
_SMOOTHING = 0.2


@dataclass(slots=True)
class Account:
    """One RenderProvider, live."""

    name: str
    spec: Mapping[str, Any]
    generation: int = 0
    circuit: breaker.Breaker = field(default_factory=breaker.Breaker)
    tokens: float = 0.0
    tokens_at: float = 0.0
    paused_until: float = 0.0
    held: str | None = None
    """Why it is held by us; spec.hold is another matter."""
    no_key: str | None = None
    """What is missing of its key, if anything."""
    held_secret: str | None = None
    """Version of the Secret that was refused."""
    held_since: float = 0.0
    probe_after: float = 0.0
    learned_in_flight: int | None = None
    """What the vendor's headers say may run at a time."""
    learned_per_minute: int | None = None
    """What the vendor's headers say may be started per minute."""
    slowed_per_minute: float | None = None
    """To what refusals slowed it, at `slowed_at`; None when it has grown back."""
    slowed_at: float = 0.0
    credits_remaining: int | None = None
    warning: str | None = None
    checked_at: float = 0.0
    """When the vendor was last asked for these two."""
    last_error: str | None = None
    last_error_at: float | None = None
    last_success_at: float | None = None
    service_seconds: float | None = None
    in_flight: int = 0
    tickets: int = 0
    told: OrderedDict[str, News] = field(default_factory=OrderedDict)
    """The latest that each attempt told."""

    @property
    def limits(self) -> Mapping[str, Any]:
        """As the administrator set them."""
        return self.spec.get("limits") or {}

    @property
    def breaker_settings(self) -> Mapping[str, Any]:
        """As the administrator set them."""
        return self.spec.get("breaker") or {}

    def places(self) -> int:
        """Calls or vendor jobs at a time: what was set, or what the vendor says if that is less."""
        most = int(self.limits.get("inFlight", 5))
        return most if self.learned_in_flight is None else max(1, min(most, self.learned_in_flight))

    def _most_per_minute(self) -> float:
        """Starts per minute: what was set, or what the vendor says if that is less."""
        most = float(self.limits.get("perMinute", 60))
        return most if self.learned_per_minute is None else max(1.0, min(most, float(self.learned_per_minute)))

    def per_minute(self, now: float) -> float:
        """Starts per minute that are allowed just now: fewer than that for a while after the vendor refused some."""
        most = self._most_per_minute()
        if self.slowed_per_minute is None:
            return most
        grown = self.slowed_per_minute * (1 + RECOVERY_PER_MINUTE * max(0.0, now - self.slowed_at) / 60)
        if grown >= most:
            self.slowed_per_minute = None
            return most
        return grown

    def refill(self, now: float) -> None:
        """Bring the tokens up to date."""
        burst = float(self.limits.get("burst", 5))
        if self.tokens_at:
            self.tokens = min(burst, self.tokens + max(0.0, now - self.tokens_at) * self.per_minute(now) / 60)
        else:
            self.tokens = burst
        self.tokens_at = max(now, self.tokens_at)

    def snapshot(self, now: float) -> admission.Provider:
        """What admission needs to know."""
        self.refill(now)
        self.circuit = breaker.at(self.circuit, now)
        room = breaker.room(self.circuit, self.breaker_settings)
        held = "held by spec.hold" if self.spec.get("hold") else self.held
        return admission.Provider(
            name=self.name,
            free=self.places() - self.in_flight - self.tickets,
            places=self.places(),
            tokens=self.tokens,
            per_second=self.per_minute(now) / 60,
            open_to=None if room is None else room - self.tickets,
            reopens_in=max(0.0, self.circuit.until - now) if self.circuit.state == "Open" else 0.0,
            held=held,
            no_key=self.no_key,
            paused_for=max(0.0, self.paused_until - now),
            service_seconds=self.service_seconds or 20.0,
        )

    def grant(self) -> None:
        """A ticket was given out."""
        self.tickets += 1
        self.tokens -= 1

    def started(self, token: str) -> None:
        """An attempt was fenced."""
        self.circuit = breaker.started(self.circuit, token)

    def tell(self, news: TellProvider, now: float, secret_version: str | None) -> bool:
        """Take in what an attempt tells; False when it told before. A job that was accepted may still tell that it failed."""
        before = self.told.get(news.token)
        if before is not None and (before is not News.ANSWERED or news.news is News.ANSWERED):
            return False
        self.told[news.token] = news.news
        while len(self.told) > _REMEMBERED:
            self.told.popitem(last=False)
        settings = self.breaker_settings
        match news.news:
            case News.ANSWERED:
                self.circuit = breaker.answered(self.circuit, settings, now, news.token)
                self.last_success_at = now
            case News.BROKEN:
                chance = chance_of(self.name, self.circuit.opened, news.token)
                is_counted = before is News.ANSWERED
                self.circuit = breaker.failed(
                    self.circuit, settings, now, news.token, chance=chance, is_counted=is_counted
                )
                self._pause(news.retry_after_seconds or 0.0, now)
                self._error(news.message, now)
            case News.THROTTLED:
                self._pause(news.retry_after_seconds or DEFAULT_PAUSE_SECONDS, now)
                if now - self.slowed_at > 1:  # a burst of refusals is one lesson
                    self.slowed_per_minute = max(1.0, self.per_minute(now) / 2)
                    self.slowed_at = now
                self.circuit = breaker.gone(self.circuit, news.token)
                self._error(news.message, now)
            case News.HELD:
                self.held = news.message
                self.held_secret = secret_version
                self.held_since = now
                self.probe_after = now + 60
                self.circuit = breaker.gone(self.circuit, news.token)
                self._error(news.message, now)
        self.learn(news.learned)
        return True

    def forget_probe(self, token: str) -> None:
        """An attempt ended that says nothing about the vendor."""
        self.circuit = breaker.gone(self.circuit, token)

    def release(self) -> None:
        """End our own hold."""
        self.held = self.held_secret = None

    def served(self, seconds: float) -> None:
        """A render kept its place for that long."""
        if self.service_seconds is None:
            self.service_seconds = seconds
        else:
            self.service_seconds += _SMOOTHING * (seconds - self.service_seconds)

    def learn(self, learned: Mapping[str, int] | None) -> None:
        """Take in limits that the vendor's headers tell."""
        for name, field_name in LEARNED.items():
            if most := (learned or {}).get(name):
                setattr(self, field_name, int(most))

    def _pause(self, seconds: float, now: float) -> None:
        """Start nothing for as long as the vendor asks."""
        if seconds:
            self.paused_until = max(self.paused_until, now + min(seconds, LONGEST_PAUSE_SECONDS))

    def _error(self, message: str, now: float) -> None:
        self.last_error, self.last_error_at = message[:512], now

    def status(self, now: float, waiting: int) -> Body:
        """What RenderProvider.status shall say, without conditions."""
        self.refill(now)
        self.circuit = breaker.at(self.circuit, now)
        circuit = self.circuit
        is_slowed = self.per_minute(now) < self._most_per_minute()
        calls, failures = breaker.counts(circuit)
        made: Body = {
            "observedGeneration": self.generation,
            "circuit": circuit.state,
            "circuitUntil": rfc3339(circuit.until) if circuit.state == "Open" else None,
            "circuitOpened": circuit.opened,
            "windowCalls": calls if failures else None,
            "windowFailures": failures or None,
            "held": bool(self.spec.get("hold")) or self.held is not None,
            "heldReason": ("spec.hold" if self.spec.get("hold") else self.held or "")[:256] or None,
            "inFlight": self.in_flight + self.tickets,
            "waiting": waiting,
            "tokens": max(0, int(self.tokens)),
            "learnedInFlight": _if_less(self.learned_in_flight, self.limits.get("inFlight", 5)),
            "learnedPerMinute": _if_less(self.learned_per_minute, self.limits.get("perMinute", 60)),
            "slowedPerMinute": int(self.slowed_per_minute or 0) if is_slowed else None,
            "slowedAt": rfc3339(self.slowed_at) if is_slowed else None,
            "pausedUntil": rfc3339(self.paused_until) if self.paused_until > now else None,
            "creditsRemaining": self.credits_remaining,
            "warning": self.warning[:512] if self.warning else None,
            "checkedAt": rfc3339(self.checked_at) if self.checked_at else None,
            "lastError": self.last_error,
            "lastErrorAt": rfc3339(self.last_error_at) if self.last_error_at else None,
            "lastSuccessAt": rfc3339(self.last_success_at) if self.last_success_at else None,
        }
        return {key: value for key, value in made.items() if value is not None}


def _if_less(learned: int | None, limit: Any) -> int | None:
    """What was learned, when it matters."""
    return learned if learned is not None and learned < int(limit) else None


def account_of(body: Body, now: float) -> Account:
    """An account as its RenderProvider's status left it."""
    name, spec, status = body["metadata"]["name"], body["spec"], body.get("status") or {}
    generation = int(body["metadata"].get("generation") or 0)
    made = Account(name=name, spec=spec, generation=generation)
    opened = int(status.get("circuitOpened") or 0)
    match status.get("circuit"):
        case "Open":
            until = seconds_of(status["circuitUntil"]) if status.get("circuitUntil") else now
            made.circuit = breaker.at(breaker.Breaker("Open", until, opened), now)
        case "HalfOpen":
            made.circuit = breaker.Breaker("HalfOpen", 0.0, opened)
        case _ if failures := int(status.get("windowFailures") or 0):
            told = (seconds_of(status[key]) for key in ("lastErrorAt", "lastSuccessAt") if status.get(key))
            latest = max(told, default=now)
            calls = int(status.get("windowCalls") or failures)
            made.circuit = breaker.counted(made.breaker_settings, latest, calls, failures)
        case _:
            pass
    same_spec = status.get("observedGeneration") == generation
    reason = status.get("heldReason")
    if status.get("held") and reason and reason != "spec.hold" and same_spec:
        made.held, made.held_since, made.probe_after = reason, now, now
    made.learned_in_flight = status.get("learnedInFlight")
    made.learned_per_minute = status.get("learnedPerMinute")
    if status.get("slowedPerMinute") and status.get("slowedAt"):
        made.slowed_per_minute = float(status["slowedPerMinute"])
    made.credits_remaining, made.warning = status.get("creditsRemaining"), status.get("warning")
    made.last_error = status.get("lastError")
    for field_name, key in _TIMES.items():
        if status.get(key):
            setattr(made, field_name, seconds_of(status[key]))
    return made


_TIMES: Mapping[str, str] = {
    "slowed_at": "slowedAt",
    "paused_until": "pausedUntil",
    "checked_at": "checkedAt",
    "last_error_at": "lastErrorAt",
    "last_success_at": "lastSuccessAt",
}
"""Times of an Account, and what they are called in the status."""


def spec_changed(account: Account, body: Body) -> bool:
    """Take over an edited spec; True when it was edited. An edit ends our own hold: somebody has acted."""
    generation = int(body["metadata"].get("generation") or 0)
    account.spec = body["spec"]
    if generation == account.generation:
        return False
    account.generation = generation
    account.release()
    return True
