"""Which scripted fault hits which call. Rules are tried oldest first; the first that fits is used up by one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from renderfleet_standin.rows import Facts, Row

Vendor = Literal["openai", "elevenlabs", "did"]


class Match(BaseModel):
    """Which calls a rule is about; what is left out matches everything."""

    model_config = ConfigDict(extra="forbid")

    prompt_contains: str | None = None
    """Part of the prompt, the text to speak or the script."""
    model: str | None = None
    user_data: str | None = None
    voice_id: str | None = None
    resource: str | None = None
    """Vendor's id in the path: a talk, a history item."""

    def fits(self, facts: Facts) -> bool:
        """Whether a call with these facts is meant."""
        if self.prompt_contains is not None and self.prompt_contains not in facts.get("prompt", ""):
            return False
        exact = self.model_dump(exclude={"prompt_contains"}, exclude_none=True)
        return all(facts.get(name) == wanted for name, wanted in exact.items())


class Rule(BaseModel):
    """One scripted fault, as POSTed to /_standin/faults."""

    model_config = ConfigDict(extra="forbid")

    vendor: Vendor
    operation: str = "*"
    """Operation as the ledger and the list of operations name it, or * for all of the vendor's."""
    fault: str
    """Name of a row of the vendor's error table or of a transport behaviour."""
    times: Annotated[int, Field(ge=1)] | None = 1
    """Calls to hit; null means every call until deleted."""
    skip: Annotated[int, Field(ge=0)] = 0
    """Matching calls to let pass first."""
    match: Match = Match()
    after_bill: bool | None = None
    """Bill first, then show the fault; unset means what the fault itself says."""
    latency_ms: Annotated[int, Field(ge=0)] = 0
    """Wait this long before the fault shows."""
    seconds: Annotated[float, Field(gt=0)] = 3600.0
    """For `hang`: how long at most."""
    retry_after_seconds: Annotated[float, Field(gt=0)] = 1.0
    """For rows that carry Retry-After or a text like it."""
    bytes: Annotated[int, Field(ge=0)] | None = None
    """For `truncate` and `huge_body`."""
    chunk_bytes: Annotated[int, Field(ge=1)] = 64
    """For `slow_drip`."""
    interval_ms: Annotated[int, Field(ge=0)] = 100
    """For `slow_drip`."""


class ActiveRule(BaseModel):
    """A rule with its number and what happened to it so far."""

    id: int
    rule: Rule
    passed: int = 0
    hit: int = 0


class Strike:
    """A fault that hits one call."""

    def __init__(self, rule: Rule, row: Row) -> None:
        self.rule = rule
        self.row = row

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def after_bill(self) -> bool:
        return self.row.after_bill if self.rule.after_bill is None else self.rule.after_bill


class UnknownFault(ValueError):
    """The vendor has no row of that name, or no such operation; the message lists those it has."""


class FaultBook:
    """The rules in force."""

    def __init__(self, rows: dict[str, dict[str, Row]], operations: dict[str, tuple[str, ...]]) -> None:
        self._rows = rows
        self._operations = operations
        self._active: list[ActiveRule] = []
        self._next = 1

    def check(self, rule: Rule) -> None:
        """Raise UnknownFault for a rule that names nothing: a misspelt rule would silently test nothing."""
        known_rows, known_operations = self._rows[rule.vendor], self._operations[rule.vendor]
        if rule.fault not in known_rows:
            raise UnknownFault(f"{rule.vendor} has no fault {rule.fault!r}; it has: {', '.join(sorted(known_rows))}")
        if rule.operation != "*" and rule.operation not in known_operations:
            raise UnknownFault(
                f"{rule.vendor} has no operation {rule.operation!r}; it has: {', '.join(known_operations)}"
            )

    def add(self, rule: Rule) -> ActiveRule:
        """Put a rule in force. Raises UnknownFault."""
        self.check(rule)
        active = ActiveRule(id=self._next, rule=rule)
        self._next += 1
        self._active.append(active)
        return active

    def take(self, vendor: Vendor, operation: str, facts: Facts) -> Strike | None:
        """Use up one hit of the first rule that fits this call, if any does."""
        for active in self._active:
            rule = active.rule
            if rule.vendor != vendor or rule.operation not in ("*", operation) or not rule.match.fits(facts):
                continue
            if rule.times is not None and active.hit >= rule.times:
                continue
            if active.passed < rule.skip:
                active.passed += 1
                continue
            active.hit += 1
            return Strike(rule, self._rows[vendor][rule.fault])
        return None

    def all(self) -> list[ActiveRule]:
        """Every rule, used up ones included."""
        return list(self._active)

    def remove(self, rule_id: int | None) -> int:
        """Remove one rule, or all with None; the number removed comes back."""
        before = len(self._active)
        self._active = [active for active in self._active if rule_id is not None and active.id != rule_id]
        return before - len(self._active)
