"""What became of the money, case by case."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from renderfleet_faults.accounts import Account, Evidence, Outcome, settle, summary
from renderfleet_faults.traps import Fault, Point, Starts

CALL = "openai/images.generations"
PAID = {CALL: 1}


def evidence(phase: str | None, reason: str = "", *, billed: int = 1, **more: Any) -> Evidence:
    return Evidence(
        status={"phase": phase, "reason": reason, "attempts": [{"charged": more.pop("charged", "unknown")}]},
        billed={CALL: billed} if billed else {},
        spoiled_outputs=more.pop("spoiled", ()),
        has_result=more.pop("has_result", False),
    )


@pytest.mark.parametrize(
    ("seen", "outcome", "trouble"),
    [
        pytest.param(evidence("Succeeded", "MediaReady"), Outcome.ONCE, None, id="as if nothing had been"),
        pytest.param(
            evidence("Succeeded", billed=2), Outcome.TWICE, "billed 2 times", id="paid twice, though it worked"
        ),
        pytest.param(
            evidence("Held", "OutcomeUnknown", billed=2), Outcome.TWICE, "billed 2 times", id="paid twice, held"
        ),
        pytest.param(evidence("Succeeded", billed=0), Outcome.ONCE, "never billed", id="media out of nothing"),
        pytest.param(
            evidence("Succeeded", spoiled=["image-1 is not in storage"]),
            Outcome.LOST,
            "not in storage",
            id="success without its media",
        ),
        pytest.param(evidence("Held", "OutcomeUnknown"), Outcome.HELD, None, id="a person is asked"),
        pytest.param(
            evidence("Held", "OutcomeUnknown", billed=0), Outcome.HELD, None, id="asked, though nothing was paid"
        ),
        pytest.param(
            evidence("Held", "NameConflict"), Outcome.HELD, "held for NameConflict", id="held for another reason"
        ),
        pytest.param(
            evidence("Held", "OutcomeUnknown", has_result=True),
            Outcome.HELD,
            "run record",
            id="held with the result at hand",
        ),
        pytest.param(
            evidence("Held", "OutcomeUnknown", charged="false"),
            Outcome.HELD,
            "nothing was charged",
            id="held, and the charge denied",
        ),
        pytest.param(evidence("DeadLettered"), Outcome.LOST, "paid, and then", id="paid and given up"),
        pytest.param(evidence(None), Outcome.LOST, "paid, and then", id="paid and never over"),
        pytest.param(evidence("Failed", billed=0), Outcome.STUCK, "Failed", id="not paid, but not done either"),
    ],
)
def test_outcome(seen: Evidence, outcome: Outcome, trouble: str | None) -> None:
    actual, problems = settle(seen, PAID, may_be_held=True)

    assert actual is outcome
    assert problems == [] if trouble is None else any(trouble in one for one in problems)


def test_a_hold_is_no_answer_where_the_vendor_can_be_asked() -> None:
    outcome, problems = settle(evidence("Held", "OutcomeUnknown"), PAID, may_be_held=False)

    assert outcome is Outcome.HELD
    assert problems == ["held, although this vendor can be asked what happened"]


def test_a_call_that_the_story_does_not_have_is_one_too_many() -> None:
    seen = Evidence({"phase": "Succeeded"}, {CALL: 1, "did/talks.create": 1}, (), has_result=False)

    assert settle(seen, PAID, may_be_held=True) == (Outcome.TWICE, ["did/talks.create: billed 1 times"])


def test_the_last_line_counts_every_outcome() -> None:
    point = Point("steps of generate", 1, Fault.DIE_AFTER)
    made = [
        Account("AvatarRender", point, Starts.ONCE, "PUT claim.json", outcome, [])
        for outcome in (Outcome.ONCE, Outcome.ONCE, Outcome.HELD, Outcome.TWICE)
    ]

    assert summary(made) == ("money: 4 points tried, 1 billed twice (must be 0), 1 held, 0 lost (must be 0), 0 stuck")


@pytest.mark.parametrize("point", [None, Point("steps of start", 3, Fault.REMOVE_POD)])
def test_an_account_survives_its_file(point: Point | None) -> None:
    made = Account("VideoRender", point, Starts.TWINS_FIRST, "two at once", Outcome.LOST, ["paid, and then"], "m0001")

    assert Account.read(json.loads(json.dumps(asdict(made)))) == made
