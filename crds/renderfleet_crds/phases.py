"""The phases of a render and which may follow which.

Queued -> Running -> Waiting -> Finalizing -> Succeeded     the straight way (Waiting: the vendor works, no pod lives)
Running -> Retrying -> Running                              a pause between attempts
any live phase -> Held                                      a person or a policy must decide
ends: Succeeded, Failed (the input can never work), DeadLettered (attempts used up),
      Cancelled (was running), Aborted (never started, nothing charged). An end leads only to Queued, by a redrive.
"""

from enum import StrEnum


class Phase(StrEnum):
    """One word for a person; machines read conditions."""

    QUEUED = "Queued"
    RUNNING = "Running"
    WAITING = "Waiting"
    FINALIZING = "Finalizing"
    RETRYING = "Retrying"
    HELD = "Held"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DEAD_LETTERED = "DeadLettered"
    CANCELLED = "Cancelled"
    ABORTED = "Aborted"

    @property
    def is_final(self) -> bool:
        """True at every end: nothing is started for such a render any more."""
        return self in FINAL


FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.DEAD_LETTERED, Phase.CANCELLED, Phase.ABORTED})

_ENDS_OF_A_STARTED_RENDER = FINAL - {Phase.ABORTED}

MAY_FOLLOW: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset(
        # Cancelled: it ran before, and was sent back into the queue because its vendor was busy.
        {Phase.RUNNING, Phase.WAITING, Phase.HELD, Phase.FAILED, Phase.DEAD_LETTERED, Phase.ABORTED, Phase.CANCELLED}
    ),
    Phase.RUNNING: frozenset({Phase.WAITING, Phase.FINALIZING, Phase.RETRYING, Phase.HELD, Phase.QUEUED})
    | _ENDS_OF_A_STARTED_RENDER,
    Phase.WAITING: frozenset({Phase.FINALIZING, Phase.RETRYING, Phase.HELD, Phase.QUEUED}) | _ENDS_OF_A_STARTED_RENDER,
    Phase.FINALIZING: frozenset({Phase.RETRYING, Phase.HELD}) | _ENDS_OF_A_STARTED_RENDER,
    Phase.RETRYING: frozenset({Phase.RUNNING, Phase.FINALIZING, Phase.QUEUED, Phase.HELD}) | _ENDS_OF_A_STARTED_RENDER,
    Phase.HELD: frozenset({Phase.QUEUED, Phase.RUNNING, Phase.WAITING, Phase.FINALIZING, Phase.RETRYING}) | FINAL,
    **{end: frozenset({Phase.QUEUED}) for end in FINAL},
}
"""What a status write may change the phase to, besides leaving it."""
