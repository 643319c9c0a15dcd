"""SYNTHESIZE: a script if one is to be written, then speech, heard to its end before it counts."""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from renderfleet_crds.contract import AcceptedRecord, ClaimRecord, StageResult, VoiceParams
from renderfleet_providers.costs import as_script_usage
from renderfleet_providers.ports import Adapter, ScriptWriter, Speaker, Speech, SpeechOrder

from . import mp3
from .attempt import Attempt, PaidStage, cannot
from .errors import BadInput, BrokenMedia, OwnFault
from .media import Heard, Kind, NotMedia, join_audio, kind_of, listen, probe
from .provenance import REMOVED, is_signed, provenance_of
from .record import accepted_now
from .vendors import adapter_for

FASTEST_LETTERS_PER_SECOND = 40.0
"""Twice as fast as a person speaks at speed 1.2; a recording that is shorter than that has lost its end."""
SHORTEST_TEXT_TO_JUDGE = 40
CUT_OFF_SECONDS = 0.3
"""A recording that ends so much before its own header says was cut off."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """The paid answer."""

    text: str
    speech: Speech


class VoiceStage(PaidStage[Spoken]):
    """One script call if asked for, and one speech call per part of the text."""

    def __init__(self, attempt: Attempt, params: VoiceParams) -> None:
        super().__init__(attempt)
        self._params = params
        task = attempt.task
        seconds = attempt.call_seconds(task.provider.call_timeout_seconds if task.provider else 0)
        self._adapter = adapter_for(task.provider, seconds)
        if not isinstance(self._adapter, Speaker):
            raise cannot("speak")
        self._speaker: Speaker = self._adapter
        self._script_adapter: Adapter | None = None
        self._writer: ScriptWriter | None = None
        if not params.text:
            seconds = attempt.call_seconds(task.script_provider.call_timeout_seconds if task.script_provider else 0)
            self._script_adapter = adapter_for(task.script_provider, seconds)
            if not isinstance(self._script_adapter, ScriptWriter):
                raise cannot("write scripts")
            self._writer = self._script_adapter

    async def prepare(self) -> None:
        """See that there is something to say."""
        if not (self._params.text or "").strip() and not (self._params.prompt or "").strip():
            raise BadInput("nothing_to_say", "there is neither a text nor a prompt")
        _mp3_settings(self._params.output_format)
        for adapter in (self._adapter, self._script_adapter):
            if adapter is not None:
                await adapter.warm_up()

    async def call(self) -> Spoken:
        """Paid: script, then speech."""
        text = self._params.text or await self._write_script()

        async def answered(request_id: str | None) -> None:
            await self.answered(accepted_now(request_id=request_id))

        speech = await self._speaker.speak(self._order(text), answered)
        return Spoken(text, speech)

    async def _write_script(self) -> str:
        assert self._writer is not None and self.attempt.task.script_provider is not None
        params = self._params
        # Whatever happens in this call is no news about who speaks.
        self.attempt.partial = {"failed_provider": self.attempt.task.script_provider.name}
        script = await self._writer.write_script(
            params.prompt or "", params.max_script_characters, params.language_code
        )
        # From here on money is spent, and the words are worth keeping even if nobody speaks them.
        self.attempt.partial = {"script": script.text, "usage": as_script_usage(script.usage)}
        await self.answered(accepted_now(request_id=script.request_id, script=script.text))
        return script.text

    def _order(self, text: str) -> SpeechOrder:
        params = self._params
        return SpeechOrder(
            text=text,
            voice_id=params.voice_id,
            model_id=params.model_id,
            output_format=params.output_format,
            language_code=params.language_code,
            stability=params.stability,
            similarity_boost=params.similarity_boost,
            style=params.style,
            speed=params.speed,
            seed=params.seed if params.seed is not None else _seed_of(self.attempt.task.uid),
            patient=self._writer is not None,
            is_usable=self._is_usable if self.attempt.is_another else None,
        )

    async def _is_usable(self, content: bytes, text: str) -> bool:
        try:
            await self._hear(await self._file("made-before", content), text)
        except NotMedia:
            return False
        return True

    async def find(self, claim: ClaimRecord | None, accepted: AcceptedRecord | None) -> Spoken | None:
        """The speech from the vendor's history, if the words are known."""
        text = self._params.text or (accepted.script if accepted else None)
        if claim is None or text is None:
            return None
        speech = await self._speaker.find_speech(self._order(text), datetime.fromisoformat(claim.claimed_at))
        return Spoken(text, speech) if speech is not None else None

    async def deliver(self, answer: Spoken) -> StageResult:
        """Join, hear and store the speech."""
        attempt = self.attempt
        usage = {**attempt.partial.get("usage", {}), **answer.speech.usage}
        attempt.partial = {
            **attempt.partial,
            "usage": usage,
            "request_id": answer.speech.request_id,
            "learned": answer.speech.learned,
        }
        slot = attempt.slot("speech")
        if slot is None:
            raise OwnFault("slot_not_given", "the task has no place for the speech")
        try:
            parts = await self._files(answer.speech)
            if len(parts) == 1:
                file, heard = parts[0], await self._hear(parts[0], answer.text)
            else:
                for part, text in zip(parts, answer.speech.texts, strict=True):
                    await self._hear(part, text)
                file = await self._joined(parts)
                heard = await self._hear(file, answer.text)
        except NotMedia as broken:
            raise BrokenMedia(f"speech_{broken.code}", f"the vendor's recording: {broken.message}") from broken
        output = await attempt.store(
            slot,
            file,
            duration_seconds=round(heard.seconds, 3),
            loudness_lufs=heard.loudness_lufs,
            provenance=await self._provenance(parts),
        )
        return StageResult(outcome="done", charged=attempt.charged, outputs=[output], **attempt.partial)

    async def _files(self, speech: Speech) -> list[Path]:
        return [await self._file(f"part-{number}", content) for number, content in enumerate(speech.parts, start=1)]

    async def _file(self, name: str, content: bytes) -> Path:
        file = self.attempt.work / f"{name}.mp3"
        await asyncio.to_thread(file.write_bytes, content)
        if kind_of(file) is not Kind.MP3:
            raise NotMedia("wrong_format", "it is no mp3")
        if await asyncio.to_thread(mp3.is_cut_off, file):
            raise NotMedia("cut_off", "it ends in the middle of a frame")
        return file

    async def _joined(self, parts: list[Path]) -> Path:
        joined = self.attempt.work / "speech.mp3"
        sample_rate_hz, bit_rate_kbit = _mp3_settings(self._params.output_format)
        await join_audio(
            parts,
            Kind.MP3,
            joined,
            self.attempt.deadline,
            bit_rate_kbit=bit_rate_kbit,
            sample_rate_hz=sample_rate_hz,
        )
        return joined

    async def _provenance(self, parts: list[Path]) -> str | None:
        if len(parts) == 1:
            return await provenance_of(parts[0], Kind.MP3, self.attempt.deadline)
        return REMOVED if any(is_signed(part, Kind.MP3) for part in parts) else None

    async def _hear(self, file: Path, text: str) -> Heard:
        declared = await probe(file, Kind.MP3, self.attempt.deadline)
        heard = await listen(file, Kind.MP3, self.attempt.deadline)
        if heard.is_silent:
            raise NotMedia("silent", "nothing can be heard in it")
        too_short = len(text) >= SHORTEST_TEXT_TO_JUDGE and heard.seconds < len(text) / FASTEST_LETTERS_PER_SECOND
        if too_short or heard.seconds < declared.seconds - CUT_OFF_SECONDS or heard.seconds <= 0:
            raise NotMedia("cut_off", "it ends before the text does")
        return heard

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._adapter.aclose()
        if self._script_adapter is not None:
            await self._script_adapter.aclose()


def _seed_of(uid: str) -> int:
    """The same for each attempt of a render: what is sent again shall come out as it was lost."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big")


def _mp3_settings(output_format: str) -> tuple[int, int]:
    """(sample rate in Hz, bit rate in kbit/s) of the vendor's name for an MP3 format. Raises BadInput for others."""
    found = re.fullmatch(r"mp3_(\d+)_(\d+)", output_format)
    if found is None:
        raise BadInput("format_not_supported", f"outputFormat {output_format} is no mp3 format")
    return int(found.group(1)), int(found.group(2))
