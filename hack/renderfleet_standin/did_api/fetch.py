"""Fetching what a caller points at, and looking at it before a talk is accepted."""

import io
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx2
from PIL import Image, UnidentifiedImageError

from renderfleet_standin.did_api.errors import refuse
from renderfleet_standin.media.tools import PCM_RATE_HZ, MediaError, decode_to_pcm
from renderfleet_standin.settings import StandinSettings

MOST_PICTURE_BYTES = 10_000_000
MOST_AUDIO_BYTES = 15_000_000
MOST_PIXELS = 10_485_760
FEWEST_PIXELS_A_SIDE = 160
LONGEST_TALK_SECONDS = 600.0
FACELESS_CONTRAST = 12
"""Brightness range (of 255) under which a picture is one plain area in which no face can be."""


class SourceUnreadable(Exception):
    """What was pointed at could not be fetched: the talk will end with a SourceError."""


class TooLarge(Exception):
    """More bytes than the vendor takes."""


def outgoing_client(settings: StandinSettings) -> httpx2.AsyncClient:
    """A client that trusts the system's certificates and, if named, those of the settings; it follows no redirects."""
    context = ssl.create_default_context()
    if settings.fetch_ca_file is not None:
        context.load_verify_locations(cafile=str(settings.fetch_ca_file))
    return httpx2.AsyncClient(
        verify=context, timeout=settings.fetch_timeout_seconds, follow_redirects=False, trust_env=False
    )


async def fetch(client: httpx2.AsyncClient, url: str, most_bytes: int) -> bytes:
    """The bytes behind an http(s) URL. Raises SourceUnreadable, or TooLarge past `most_bytes`."""
    content = bytearray()
    try:
        async with client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise SourceUnreadable(f"status {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > most_bytes:
                    raise TooLarge
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as problem:
        raise SourceUnreadable(type(problem).__name__) from problem
    return bytes(content)


@dataclass(frozen=True)
class Picture:
    """What the vendor needs to know of a picture."""

    width: int
    height: int
    suffix: str
    has_face: bool


def look_at_picture(content: bytes, *, for_upload: bool = False) -> Picture:
    """Check a picture. Raises Answer: 415 for an upload that is no jpeg or png, 400 for a size out of bounds."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            width, height, suffix = image.width, image.height, "png" if image.format == "PNG" else "jpg"
            if for_upload:  # the upload takes any size: the talk refuses it later
                return Picture(width, height, suffix, has_face=True)
            if width * height > MOST_PIXELS or len(content) > MOST_PICTURE_BYTES:
                raise refuse(
                    400,
                    "InvalidFileSizeError",
                    "image size is too large",
                    {"pixels": width * height, "max": MOST_PIXELS},
                )
            if min(width, height) < FEWEST_PIXELS_A_SIDE:
                raise refuse(
                    400, "InvalidImageResolutionError", "image resolution is too small", {"min": FEWEST_PIXELS_A_SIDE}
                )
            darkest, brightest = image.convert("L").resize((32, 32)).getextrema()
            assert isinstance(darkest, int | float) and isinstance(brightest, int | float)
            return Picture(width, height, suffix, has_face=brightest - darkest >= FACELESS_CONTRAST)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        if for_upload:
            raise refuse(
                415, "UnsupportedMimeTypeError", "unsupported mime type, use image/jpeg or image/png"
            ) from None
        raise refuse(400, "BadRequestError", "the source is no jpeg or png picture") from None


def look_at_audio(file: Path) -> float:
    """Length of an audio in seconds. Raises Answer: 400 for what does not decode or is too long."""
    try:
        seconds = len(decode_to_pcm(file)) / 2 / PCM_RATE_HZ
    except MediaError:
        raise refuse(400, "BadRequestError", "the audio could not be decoded") from None
    if seconds <= 0:
        raise refuse(400, "InvalidAudioDurationError", "audio is empty")
    if seconds > LONGEST_TALK_SECONDS:
        raise refuse(
            400,
            "InvalidAudioDurationError",
            "audio is too long",
            {"seconds": round(seconds, 1), "max": LONGEST_TALK_SECONDS},
        )
    return seconds
