"""Voices, models and plans of the ElevenLabs side."""

from dataclasses import dataclass

from renderfleet_standin.media.speech import Speaker


@dataclass(frozen=True)
class Voice:
    """One voice, and how espeak-ng imitates it."""

    voice_id: str
    name: str
    speaker: Speaker
    gender: str
    accent: str
    age: str
    description: str
    paid_plan_only: bool = False


VOICES: dict[str, Voice] = {
    voice.voice_id: voice
    for voice in [
        Voice("21m00Tcm4TlvDq8ikWAM", "Rachel", Speaker("f3", 56, 162), "female", "american", "young", "calm"),
        Voice(
            "JBFqnCBsd6RMkjVDRZzb", "George", Speaker("m3", 34, 150, "en-gb"), "male", "british", "middle-aged", "warm"
        ),
        Voice("StAndInAdaVoice00001", "Ada", Speaker("f2", 62, 175, "en-gb"), "female", "british", "young", "lively"),
        Voice("StAndInBrunoVoice002", "Bruno", Speaker("m7", 22, 145), "male", "american", "old", "deep"),
        Voice("StAndInChloeVoice003", "Chloe", Speaker("f4", 70, 168), "female", "american", "young", "bright"),
        Voice(
            "StAndInDougalVoice04",
            "Dougal",
            Speaker("m1", 44, 158, "en-gb-scotland"),
            "male",
            "scottish",
            "middle-aged",
            "crisp",
        ),
        Voice("StAndInElenaVoice005", "Elena", Speaker("f5", 48, 140), "female", "american", "middle-aged", "soothing"),
        Voice(
            "StAndInLibraryVoice6",
            "Milo",
            Speaker("m5", 52, 182),
            "male",
            "american",
            "young",
            "energetic",
            paid_plan_only=True,
        ),
    ]
}


@dataclass(frozen=True)
class SpeechModel:
    """One speech model."""

    model_id: str
    name: str
    most_characters: int
    multiplier: float
    group: str
    """Calls of one group share the plan's number of calls at once: "standard" or "flash"."""
    takes_language_code: bool = True
    coarse_stability: bool = False
    """Takes stability 0, 0.5 and 1 only."""


MODELS: dict[str, SpeechModel] = {
    model.model_id: model
    for model in [
        SpeechModel(
            "eleven_multilingual_v2", "Eleven Multilingual v2", 10_000, 1.0, "standard", takes_language_code=False
        ),
        SpeechModel("eleven_v3", "Eleven v3", 5_000, 1.0, "standard", coarse_stability=True),
        SpeechModel("eleven_v4", "Eleven v4", 10_000, 1.0, "standard"),
        SpeechModel("eleven_v4_turbo", "Eleven v4 Turbo", 10_000, 1.0, "flash"),
        SpeechModel("eleven_flash_v2_5", "Eleven Flash v2.5", 40_000, 0.5, "flash"),
        SpeechModel("eleven_flash_v2", "Eleven Flash v2", 30_000, 0.5, "flash"),
    ]
}

LANGUAGES = {
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "pl": "Polish",
    "nl": "Dutch",
}

TIERS = ["free", "starter", "creator", "pro", "scale", "business"]
AT_ONCE: dict[str, dict[str, int]] = {
    "free": {"standard": 2, "flash": 4},
    "starter": {"standard": 3, "flash": 6},
    "creator": {"standard": 5, "flash": 10},
    "pro": {"standard": 10, "flash": 20},
    "scale": {"standard": 15, "flash": 30},
    "business": {"standard": 15, "flash": 30},
}
"""Calls that may run at once, by plan and group."""


def plan_for_format(output_format: str) -> str:
    """Lowest plan that may use an output format."""
    if output_format == "mp3_44100_192":
        return "creator"
    if output_format in ("pcm_44100", "wav_44100"):
        return "pro"
    return "free"
