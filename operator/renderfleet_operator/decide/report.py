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
Archived is none of these: only an end has it that the archive has kept for long, and nobody judges a render by it.

Succeeded, and whichever of Queued, Reconciling and Stalled is True, tell the present: they take the reason of each report.
All others keep the reason they moved with, so that `kubectl describe` shows when and why each step was taken.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from renderfleet_crds.conditions import ConditionType, Reason, set_condition
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
    conditions: Mapping[ConditionType, Word | None] | None = None,
    **fields: Any,
) -> Body:
    """The whole next status. `fields` are status fields by their JSON names; None takes a field away.

    `conditions` are set besides those that follow from the phase; None takes one away.
    """
    status = dict(render.status)
    status.update(fields)
    status["observedGeneration"] = render.generation
    status["phase"] = phase.value
    status["reason"] = reason.value
    status["message"] = message[:1024]
    status["run"] = fields.get("run", render.run)
    words: dict[ConditionType, Word | None] = {
        kind: word for kind, word in zip(_ORDER, _WORDS[phase], strict=True) if word
    }
    if conditions:
        words.update(conditions)
    status["conditions"] = _conditions(render, words, reason, status["message"], now)
    return {key: value for key, value in status.items() if value is not None}


def archive_report(render: Render, now: float, *, archived: bool, message: str = "") -> Body:
    """The whole next status of a finished render, which says whether its end is in the archive and is else as it was."""
    conditions = set_condition(
        list(render.status.get("conditions") or ()),
        type_.ARCHIVED,
        archived,
        Reason.ARCHIVED if archived else Reason.NOT_ARCHIVED_YET,
        message=message,
        generation=render.generation,
        now=whole_seconds(now),
    )
    return {**render.status, "conditions": conditions}


_NEVER_YET: Final[Mapping[ConditionType, Reason]] = {
    type_.FINISHED: Reason.NOT_FINISHED,
    type_.STALLED: Reason.NOT_STALLED,
}
"""Why these are False: not for the reason that the render has just now."""
_PRESENT: Final = frozenset({type_.QUEUED, type_.RECONCILING, type_.STALLED})
_SPOKEN: Final = frozenset({type_.SUCCEEDED, type_.RECONCILING, type_.STALLED})
"""Which carry the message besides: what people read, and what kstatus reads. Every byte here is written with each report."""


def _conditions(
    render: Render, words: Mapping[ConditionType, Word | None], reason: Reason, message: str, now: float
) -> list[Body]:
    """All conditions in one go; a transition time moves only when the condition's word does."""
    old = {one["type"]: one for one in render.status.get("conditions") or ()}
    stamp = whole_seconds(now)
    for kind, word in words.items():
        if word is None:
            old.pop(kind.value, None)
            continue
        before = old.get(kind.value)
        has_moved = before is None or before["status"] != word
        is_present = kind is type_.SUCCEEDED or (word == "True" and kind in _PRESENT) or _is_wait(kind, words)
        made: Body = {"type": kind.value, "status": word}
        if before is not None and not has_moved and not is_present:
            made |= {"reason": before["reason"], "message": before.get("message") or ""}
        else:
            why = _NEVER_YET.get(kind, reason) if word == "False" else reason
            made |= {"reason": why.value, "message": message if is_present and kind in _SPOKEN else ""}
        made |= {
            "lastTransitionTime": stamp if before is None or has_moved else before["lastTransitionTime"],
            "observedGeneration": render.generation,
        }
        old[kind.value] = made
    return list(old.values())


def _is_wait(kind: ConditionType, words: Mapping[ConditionType, Word | None]) -> bool:
    """What is not admitted while it stands in the queue is so for the reason that it waits for."""
    return kind is type_.ADMITTED and words.get(type_.QUEUED) == "True"


def readiness(
    status: Body, generation: int, now: float, *, ready: bool, stalled: bool, reason: Reason, message: str
) -> list[Body]:
    """All conditions of a tenant or a provider, of which only those that tell the present carry its reason."""
    conditions = list(status.get("conditions") or ())
    stamp = whole_seconds(now)
    for kind, word, why, words in (
        (type_.READY, ready, reason, message),
        (type_.RECONCILING, False, Reason.ACCEPTED, ""),
        (type_.STALLED, stalled, reason if stalled else Reason.NOT_STALLED, message if stalled else ""),
    ):
        conditions = set_condition(conditions, kind, word, why, message=words, generation=generation, now=stamp)
    return conditions
