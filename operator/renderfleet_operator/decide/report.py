"""Make the next status from the last one: phase, conditions and all that kstatus, Argo CD and kubectl wait judge by.

phase        Succeeded  Finished  Queued  Admitted  Reconciling  Stalled
Queued       Unknown    False     True    False     True         False
Running      Unknown    False     False   True      True         False     as Waiting, Finalizing
Retrying     Unknown    False     True    False     True         False
Held         Unknown    False     False   False     False        True      a person must act
Succeeded    True       True      False   True      False        False
Failed       False      True      False   -         False        True      as DeadLettered
Cancelled    False      True      False   -         False        False     as Aborted: it is as somebody wanted it
("-": as it was.)
"""

from typing import Any, Final, Literal

from renderfleet_crds.conditions import ConditionType, Reason
from renderfleet_crds.phases import Phase
from renderfleet_operator.times import whole_seconds

from .view import Body, Render

type_ = ConditionType
Word = Literal["True", "False", "Unknown"]

_ORDER: Final = (
    type_.SUCCEEDED,
    type_.FINISHED,
    type_.QUEUED,
    type_.ADMITTED,
    type_.RECONCILING,
    type_.STALLED,
)
_AT_WORK: Final = ("Unknown", "False", "False", "True", "True", "False")
_WORDS: Final[dict[Phase, tuple[Word | None, ...]]] = {
    Phase.QUEUED: ("Unknown", "False", "True", "False", "True", "False"),
    Phase.RUNNING: _AT_WORK,
    Phase.WAITING: _AT_WORK,
    Phase.FINALIZING: _AT_WORK,
    Phase.RETRYING: ("Unknown", "False", "True", "False", "True", "False"),
    Phase.HELD: ("Unknown", "False", "False", "False", "False", "True"),
    Phase.SUCCEEDED: ("True", "True", "False", "True", "False", "False"),
    Phase.FAILED: ("False", "True", "False", None, "False", "True"),
    Phase.DEAD_LETTERED: ("False", "True", "False", None, "False", "True"),
    Phase.CANCELLED: ("False", "True", "False", None, "False", "False"),
    Phase.ABORTED: ("False", "True", "False", None, "False", "False"),
}


def report(
    render: Render,
    now: float,
    phase: Phase,
    reason: Reason,
    message: str,
    *,
    conditions: dict[ConditionType, Word] | None = None,
    **fields: Any,
) -> Body:
    """The whole next status. `fields` are status fields by their JSON names; None takes a field away.

    `conditions` are set besides those that follow from the phase.
    """
    status = dict(render.status)
    status.update(fields)
    status["observedGeneration"] = render.generation
    status["phase"] = phase.value
    status["reason"] = reason.value
    status["message"] = message[:1024]
    status["run"] = fields.get("run", render.run)
    words = {kind: word for kind, word in zip(_ORDER, _WORDS[phase], strict=True) if word}
    if conditions:
        words.update(conditions)
    status["conditions"] = _conditions(render, words, reason, status["message"], now)
    return {key: value for key, value in status.items() if value is not None}


def _conditions(
    render: Render, words: dict[ConditionType, Word], reason: Reason, message: str, now: float
) -> list[Body]:
    """All conditions in one go; a transition time moves only when the condition's word does."""
    old = {one["type"]: one for one in render.status.get("conditions") or ()}
    stamp = whole_seconds(now)
    generation = render.generation
    for kind, word in words.items():
        before = old.get(kind.value)
        old[kind.value] = {
            "type": kind.value,
            "status": word,
            "reason": reason.value,
            # Once is enough: the words are in status.message too, and every byte here is written four times per render.
            "message": message if kind is type_.SUCCEEDED else "",
            "lastTransitionTime": before["lastTransitionTime"] if before and before["status"] == word else stamp,
            "observedGeneration": generation,
        }
    return list(old.values())
