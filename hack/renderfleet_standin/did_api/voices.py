"""Voices for talks made from text, and how espeak-ng imitates them."""

import hashlib
from dataclasses import dataclass
from typing import Any

from renderfleet_standin.media.speech import Speaker


@dataclass(frozen=True)
class TalkVoice:
    """One voice of GET /tts/voices."""

    id: str
    name: str
    gender: str
    locale: str
    speaker: Speaker

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "gender": self.gender,
            "access": "public",
            "provider": "microsoft",
            "languages": [{"language": "English", "locale": self.locale}],
        }


VOICES = [
    TalkVoice("en-US-JennyNeural", "Jenny", "female", "en-US", Speaker("f3", 58, 165)),
    TalkVoice("en-US-GuyNeural", "Guy", "male", "en-US", Speaker("m3", 36, 158)),
    TalkVoice("en-GB-SoniaNeural", "Sonia", "female", "en-GB", Speaker("f2", 52, 160, "en-gb")),
    TalkVoice("en-GB-RyanNeural", "Ryan", "male", "en-GB", Speaker("m1", 40, 155, "en-gb")),
]


def speaker_of(voice_id: str | None) -> Speaker:
    """How a voice sounds; ids not in the list (another provider's) get one of ours, always the same."""
    for voice in VOICES:
        if voice.id == voice_id:
            return voice.speaker
    if voice_id is None:
        return VOICES[0].speaker
    return VOICES[hashlib.sha256(voice_id.encode()).digest()[0] % len(VOICES)].speaker
