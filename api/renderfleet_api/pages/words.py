"""What a reason means, in a sentence for the page. Pure."""

from datetime import UTC, datetime
from typing import Final

from renderfleet_crds.conditions import Reason
from renderfleet_crds.phases import Phase

WAITS: Final[dict[str, str]] = {
    Reason.ACCEPTED: "It was accepted and waits for its turn.",
    Reason.BEHIND_OTHERS: "Others are before it in the queue of the same provider.",
    Reason.QUOTA_EXHAUSTED: "As many of your renders run as your quota allows; it starts when one of them ends.",
    Reason.PROVIDER_THROTTLED: "The provider allows only so many starts per minute; it starts when the next is free.",
    Reason.CIRCUIT_OPEN: "The provider keeps failing, so nothing is sent there for a while. It goes on by itself.",
    Reason.PROVIDER_HELD: "The provider is held: an administrator must release it.",
    Reason.PROVIDER_UNKNOWN: "The provider it names does not exist. Ask an administrator.",
    Reason.CREDENTIALS_MISSING: "The provider's key is missing. Ask an administrator.",
    Reason.DEPENDENCY_PENDING: "It needs the result of another render that is not finished yet.",
    Reason.SUSPENDED: "It is suspended: set suspend to false to let it go on.",
    Reason.BUDGET_EXHAUSTED: "The month's budget is used up.",
    Reason.NAMESPACE_NOT_A_TENANT: "Its namespace belongs to no tenant.",
    Reason.BACKING_OFF: "The last attempt failed; it is tried again after a pause.",
    Reason.OUTCOME_UNKNOWN: "Nobody can say whether a paid call happened. Retry it to pay perhaps twice, or cancel it.",
    Reason.JOB_REFUSED: "The cluster refuses to run it: an administrator must see to that. It is tried again by itself.",
    Reason.VENDOR_WORKING: "The provider is at work.",
    Reason.CANCELLING: "It is being stopped.",
}

TONES: Final[dict[Phase, str]] = {
    Phase.SUCCEEDED: "good",
    Phase.FAILED: "bad",
    Phase.DEAD_LETTERED: "bad",
    Phase.HELD: "warn",
    Phase.RETRYING: "warn",
    Phase.CANCELLED: "quiet",
    Phase.ABORTED: "quiet",
    Phase.QUEUED: "wait",
}
"""How a phase is coloured; the word is always there too, as colour alone tells not everybody something."""


_CHARGED: Final[dict[str, str]] = {
    "true": "It was charged.",
    "false": "Nothing was charged.",
    "unknown": "Whether it was charged is not known.",
}


def charged(word: str) -> str:
    """What `true`, `false` or `unknown` means to whoever pays."""
    return _CHARGED[word]


def explanation(reason: str | None, message: str | None) -> str | None:
    """Why a job stands where it stands."""
    said = [WAITS.get(reason or ""), message]
    return " ".join(dict.fromkeys(one for one in said if one)) or None


def tone(phase: str) -> str:
    """The colour of a phase."""
    return TONES.get(Phase(phase), "work")


def money(micros: int | None, currency: str = "USD") -> str:
    """`0.04 USD`; small sums keep the digits that tell them from nothing."""
    if micros is None:
        return "—"
    amount = micros / 1_000_000
    return f"{amount:.2f} {currency}" if amount >= 0.01 or not micros else f"{amount:.6f} {currency}"


def spell(seconds: float) -> str:
    """`40 s`, `5 min`, `3 h`: a length of time, roughly."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds)} s"


def clock(moment: str | datetime) -> str:
    """`25 Nov, 18:11:00` in UTC, of a moment as the cluster writes it."""
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return when.astimezone(UTC).strftime("%d %b, %H:%M:%S")


def in_words(value: object) -> str:
    """A value of a spec for people: `yes`; `name guide, index 2`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(in_words(one) for one in value)
    return str(value)


def length(seconds: float | None) -> str:
    """`1:05`, of a recording."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
