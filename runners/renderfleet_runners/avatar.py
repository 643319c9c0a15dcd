"""GENERATE: pictures from a prompt, each checked before it counts, stored as the vendor made it, plus a thumbnail."""

import asyncio
import hashlib
from pathlib import Path

from renderfleet_crds.contract import AcceptedRecord, AvatarParams, ClaimRecord, Output, StageResult
from renderfleet_providers.ports import PictureMaker, PictureOrder, Pictures

from .attempt import Attempt, PaidStage, cannot
from .errors import BadInput, BrokenMedia
from .media import Kind, NotMedia
from .pictures import check_picture, make_thumbnail
from .provenance import provenance_of, provenance_of_copy
from .record import accepted_now
from .vendors import adapter_for


class AvatarStage(PaidStage[Pictures]):
    """One Images call."""

    def __init__(self, attempt: Attempt, params: AvatarParams) -> None:
        super().__init__(attempt)
        self._params = params
        access = attempt.task.provider
        self._adapter = adapter_for(access, attempt.call_seconds(access.call_timeout_seconds if access else 0))
        if not isinstance(self._adapter, PictureMaker):
            raise cannot("make pictures")
        self._maker: PictureMaker = self._adapter
        self._base: Path | None = None

    async def prepare(self) -> None:
        """Fetch and check the picture to be edited, if there is one."""
        await self._adapter.warm_up()
        if not self.attempt.has_input("base"):
            return
        given = self.attempt.input("base")
        base = self.attempt.work / "base"
        await self.attempt.storage.get_file(given.url, base, given.max_bytes, self.attempt.deadline)
        try:
            await asyncio.to_thread(check_picture, base)
        except NotMedia as bad:
            raise BadInput(f"base_{bad.code}", f"the picture to edit: {bad.message}") from bad
        self._base = base

    async def call(self) -> Pictures:
        """Paid."""
        params = self._params
        order = PictureOrder(
            prompt=params.prompt,
            count=params.count,
            width_px=params.width_px,
            height_px=params.height_px,
            quality=params.quality,
            background=params.background,
            format=params.format,
            base=self._base,
            end_user=hashlib.sha256(self.attempt.task.namespace.encode()).hexdigest(),
        )

        async def answered(request_id: str | None) -> None:
            await self.answered(accepted_now(request_id=request_id))

        return await self._maker.make_pictures(order, answered)

    async def find(self, claim: ClaimRecord | None, accepted: AcceptedRecord | None) -> Pictures | None:
        """Never: the vendor keeps nothing that could be asked for."""
        return None

    async def deliver(self, answer: Pictures) -> StageResult:
        """Check and store each picture. A picture that is not what was asked for makes the answer broken."""
        attempt = self.attempt
        attempt.partial = {"usage": answer.usage, "request_id": answer.request_id, "learned": answer.learned}
        files = []
        for number, content in enumerate(answer.files, start=1):
            file = attempt.work / f"image-{number}"
            await asyncio.to_thread(file.write_bytes, content)
            files.append(file)
        stored = await asyncio.gather(*(self._deliver_one(number, file) for number, file in enumerate(files, start=1)))
        outputs = [output for pair in stored for output in pair]
        return StageResult(outcome="done", charged=attempt.charged, outputs=outputs, **attempt.partial)

    async def _deliver_one(self, number: int, file: Path) -> list[Output]:
        params = self._params
        slot = self.attempt.slot(f"image-{number}")
        try:
            picture = await asyncio.to_thread(check_picture, file)
        except NotMedia as broken:
            raise BrokenMedia(f"picture_{broken.code}", f"picture {number} of the vendor: {broken.message}") from broken
        if (picture.width_px, picture.height_px) != (params.width_px, params.height_px):
            raise BrokenMedia(
                "picture_wrong_size",
                f"picture {number} has {picture.width_px}x{picture.height_px} pixels, not the size asked for",
            )
        if slot is None:
            return []
        if picture.content_type != slot.content_type:
            raise BrokenMedia(
                "picture_wrong_format", f"picture {number} is {picture.content_type}, not {slot.content_type}"
            )
        provenance = await provenance_of(file, Kind(picture.content_type), self.attempt.deadline)
        outputs = [
            await self.attempt.store(
                slot, file, width_px=picture.width_px, height_px=picture.height_px, provenance=provenance
            )
        ]
        small_slot = self.attempt.slot(f"thumbnail-{number}")
        if small_slot is not None:
            target = file.with_name(f"thumbnail-{number}")
            small = await asyncio.to_thread(make_thumbnail, file, target, params.thumbnail_px, small_slot.content_type)
            outputs.append(
                await self.attempt.store(
                    small_slot,
                    target,
                    width_px=small.width_px,
                    height_px=small.height_px,
                    provenance=provenance_of_copy(provenance),
                )
            )
        return outputs

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._adapter.aclose()
