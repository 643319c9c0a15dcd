"""What a render costs: the vendor's counts times the administrator's price list, and a guess before the call.

Counts (`usage`) are whole numbers under the vendor's units. Counts that belong to the script's provider carry the
prefix `script`, because its price list is another one.
"""

import math
from collections.abc import Iterable, Mapping

from renderfleet_crds.avatar_render import AvatarRenderSpec
from renderfleet_crds.render import RenderSpec
from renderfleet_crds.render_provider import Price
from renderfleet_crds.video_render import VideoRenderSpec
from renderfleet_crds.voice_job import VoiceJobSpec

SCRIPT_PREFIX = "script"
DEFAULT_SCRIPT_CHARACTERS = 2000
LETTERS_PER_TOKEN = 4
INSTRUCTION_TOKENS = 60
"""What we tell the model before the user's prompt."""
LETTERS_PER_SECOND = 15
"""English read aloud, about 150 words a minute."""
UNKNOWN_AUDIO_SECONDS = 60
SECONDS_PER_CREDIT = 15
OUTPUT_TOKENS_OF_SQUARE = {"low": 272, "medium": 1056, "high": 4160, "auto": 4160}
"""Older GPT image models, one 1024 x 1024 picture (third-party figures); dearer than today's, so a safe reserve."""


def cost_micros(usage: Mapping[str, int], prices: Iterable[Price]) -> int:
    """Millionths of the price list's currency. Units without a price cost nothing: the list says what is billed."""
    return sum(usage.get(price.unit, 0) * price.micros for price in prices)


def split_usage(usage: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """(counts of the render's own provider, counts of the script's provider under that vendor's own units)."""
    own: dict[str, int] = {}
    script: dict[str, int] = {}
    for unit, count in usage.items():
        tail = unit.removeprefix(SCRIPT_PREFIX)
        if tail != unit and tail[:1].isupper():
            script[tail[0].lower() + tail[1:]] = count
        else:
            own[unit] = count
    return own, script


def as_script_usage(usage: Mapping[str, int]) -> dict[str, int]:
    """Counts marked as the script provider's: `outputTokens` becomes `scriptOutputTokens`."""
    return {f"{SCRIPT_PREFIX}{unit[0].upper()}{unit[1:]}": count for unit, count in usage.items()}


def estimate_usage(spec: RenderSpec, audio_seconds: float | None = None) -> dict[str, int]:
    """What a render will probably be counted as, rather too much than too little; empty for kinds that cost nothing.

    `audio_seconds` is the length of a video's recording where it is known already.
    """
    match spec:
        case AvatarRenderSpec():
            width, height = (int(side) for side in spec.size.split("x"))
            tokens = OUTPUT_TOKENS_OF_SQUARE[spec.quality] * width * height // (1024 * 1024)
            prompt_tokens = math.ceil(len(spec.prompt) / LETTERS_PER_TOKEN)
            return {"images": spec.count, "inputTokens": prompt_tokens, "outputTokens": tokens * spec.count}
        case VoiceJobSpec(text=str() as text):
            return {"characters": len(text)}
        case VoiceJobSpec():
            script = {
                "inputTokens": math.ceil(len(spec.prompt or "") / LETTERS_PER_TOKEN) + INSTRUCTION_TOKENS,
                "outputTokens": DEFAULT_SCRIPT_CHARACTERS // LETTERS_PER_TOKEN,
            }
            return {"characters": DEFAULT_SCRIPT_CHARACTERS, **as_script_usage(script)}
        case VideoRenderSpec():
            seconds = audio_seconds or (len(spec.script) / LETTERS_PER_SECOND if spec.script else UNKNOWN_AUDIO_SECONDS)
            whole = max(1, math.ceil(seconds))
            return {"seconds": whole, "credits": math.ceil(whole / SECONDS_PER_CREDIT)}
        case _:
            return {}
