"""What can go wrong at a vendor. Each leaf says who must act; `category` is what the operator decides by.

VendorError
├── InputRefused      user             our request can never work
├── ContentRefused    moderation       a verdict on the content
│   └── OutputRefused moderation       it was asked for properly; what came out is what they will not give
├── TryAgain          transient        a pause may cure it
├── Throttled         throttled        the vendor asks us to slow down
├── KeyRefused        credential       key, account or plan: a person must act
├── OutOfCredit       money            a person must pay
├── VendorDown        outage           the vendor's fault; counts for its circuit breaker
│   └── BrokenAnswer  outage           it answered, and charged, but the answer is useless
└── OutcomeUnknown    unknown_outcome  the paid call may or may not have happened

No message here holds what the vendor wrote in prose: vendors quote prompts and masked keys back. Codes are safe, and
kept only when they look like codes.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

from renderfleet_crds.contract import Charged, ErrorCategory

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-\[\]]{0,99}")


class VendorError(Exception):
    """A call to a vendor failed; the subclass says who must act."""

    category: ClassVar[ErrorCategory] = ErrorCategory.INTERNAL
    usual_charge: ClassVar[Charged] = Charged.NO
    usual_retry_limit: ClassVar[int | None] = None

    def __init__(
        self,
        code: str,
        message: str,
        *,
        charged: Charged | None = None,
        retry_after_seconds: float | None = None,
        retry_limit: int | None = None,
        request_id: str | None = None,
        http_status: int | None = None,
        learned: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.charged = charged or self.usual_charge
        self.retry_after_seconds = retry_after_seconds
        self.retry_limit = self.usual_retry_limit if retry_limit is None else retry_limit
        """How many more attempts the table grants this failure; None when only the render's policy counts."""
        self.request_id = request_id
        self.http_status = http_status
        self.learned = dict(learned or {})


class InputRefused(VendorError):
    """The request can never work as it is."""

    category = ErrorCategory.USER


class ContentRefused(VendorError):
    """The vendor will not make this."""

    category = ErrorCategory.MODERATION


class OutputRefused(ContentRefused):
    """The vendor will not hand out what it made; the same request may come out otherwise."""


class TryAgain(VendorError):
    """Nothing is wrong with the vendor as such; later it may work."""

    category = ErrorCategory.TRANSIENT


class Throttled(VendorError):
    """We are too fast for this account."""

    category = ErrorCategory.THROTTLED


class KeyRefused(VendorError):
    """The credential or the account is not accepted."""

    category = ErrorCategory.CREDENTIAL


class OutOfCredit(VendorError):
    """The account has no money left, or may not spend it."""

    category = ErrorCategory.MONEY


class VendorDown(VendorError):
    """The vendor cannot be reached or answers with its own fault; nothing was made."""

    category = ErrorCategory.OUTAGE


class BrokenAnswer(VendorDown):
    """A success that holds nothing usable. It is charged all the same, so one more try is all it is worth."""

    usual_charge = Charged.YES
    usual_retry_limit = 1


class OutcomeUnknown(VendorError):
    """The request left and no answer came: it may be done and billed, so where it is sent again at all, it is once."""

    category = ErrorCategory.UNKNOWN_OUTCOME
    usual_charge = Charged.UNKNOWN
    usual_retry_limit = 1


def as_code(value: object, default: str) -> str:
    """A vendor's code if it looks like one, else `default`: free text could hold a prompt or a key."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else default


def is_an_edges_refusal(status: int, body: object, headers: Mapping[str, str]) -> bool:
    """Whether something before the vendor answered in its place: a 4xx that is a page says nothing of key, plan or input.

    Too fast (429) and too large (413) are true whoever says so.
    """
    is_page = body is None and headers.get("content-type", "").startswith("text/html")
    return is_page and 400 <= status < 500 and status not in (413, 429)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after-ms` or `retry-after` ask for; None when absent, negative or a date.

    A date would need the vendor's clock; none of the three is known to send one.
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        if 0 <= seconds <= 86_400:
            return seconds
    return None
