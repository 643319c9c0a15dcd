"""The run record of one attempt: who may pay, what the vendor said, how it ended. Three objects, each written once.

claim.json      before the paid call; whoever writes it may call, nobody else ever
accepted.json   right after the vendor's answer, before anything can fail
result.json     the end; written by the claim's holder, or by one who found the vendor's answer again

So result.json never tells of a process that did not pay, and its absence never means "nothing was paid": the claim's
absence does.
"""

import uuid
from datetime import UTC, datetime

from renderfleet_crds.contract import AcceptedRecord, ClaimRecord, RecordUrls, StageResult
from renderfleet_crds.parts import Part

from .clock import Deadline
from .storage import Storage


class RunRecord:
    """Reads and writes of one attempt's record."""

    def __init__(self, urls: RecordUrls, storage: Storage, deadline: Deadline) -> None:
        self._urls = urls
        self._storage = storage
        self._deadline = deadline
        self.holder = uuid.uuid4().hex

    async def claim(self, deadline: Deadline) -> bool:
        """Whether this process may make the paid call. Raises OwnFault when storage cannot say."""
        body = _json(ClaimRecord(holder=self.holder, claimed_at=_now()))
        if await self._storage.put_once(self._urls.claim_put, body, deadline):
            return True
        # An earlier try of ours may have been written although its answer was lost.
        claim = await self.read_claim()
        return claim is not None and claim.holder == self.holder

    async def accept(self, accepted: AcceptedRecord, deadline: Deadline) -> None:
        """Note the vendor's answer; an earlier note stays. Raises OwnFault."""
        await self._storage.put_once(self._urls.accepted_put, _json(accepted), deadline)

    async def finish(self, result: StageResult) -> StageResult:
        """Write the end; what comes back is the end that counts: an earlier writer's, if there was one. Raises OwnFault."""
        body = result.model_dump_json(by_alias=True, exclude_none=True).encode()
        if await self._storage.put_once(self._urls.result_put, body, self._deadline):
            return result
        return await self.read_result() or result

    async def read_claim(self) -> ClaimRecord | None:
        """Who holds the claim. Raises OwnFault."""
        body = await self._storage.get(self._urls.claim_get, self._deadline)
        return ClaimRecord.model_validate_json(body) if body is not None else None

    async def read_accepted(self) -> AcceptedRecord | None:
        """What the vendor answered. Raises OwnFault."""
        body = await self._storage.get(self._urls.accepted_get, self._deadline)
        return AcceptedRecord.model_validate_json(body) if body is not None else None

    async def read_result(self) -> StageResult | None:
        """How the attempt ended. Raises OwnFault."""
        body = await self._storage.get(self._urls.result_get, self._deadline)
        return StageResult.model_validate_json(body) if body is not None else None


def accepted_now(
    *, vendor_job_id: str | None = None, request_id: str | None = None, script: str | None = None
) -> AcceptedRecord:
    """A note that the vendor has just answered."""
    return AcceptedRecord(vendor_job_id=vendor_job_id, request_id=request_id, script=script, accepted_at=_now())


def _json(part: Part) -> bytes:
    return part.model_dump_json(by_alias=True, exclude_none=True).encode()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
