"""Text to speech with espeak-ng, brought to the asked format by ffmpeg. The same input gives the same bytes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from renderfleet_standin.media.tools import FFMPEG, run


@dataclass(frozen=True)
class Speaker:
    """How espeak-ng sounds for one vendor voice."""

    variant: str
    """espeak-ng voice variant: f1..f5, m1..m8, …"""
    pitch: int
    """0-99."""
    words_per_minute: int
    accent: str = "en-us"


def wav_of(text: str, speaker: Speaker, *, language: str | None = None, speed: float = 1.0) -> bytes:
    """A mono WAV at 22 050 Hz with `text` spoken; `speed` 1.0 is the speaker's own."""
    accent = speaker.accent if language in (None, "en") else language
    rate = max(80, min(450, round(speaker.words_per_minute * speed)))
    base = ["espeak-ng", "-b", "1", "-p", str(speaker.pitch), "-s", str(rate), "--stdin", "--stdout"]
    # A leading minus or an SSML-like text cannot become an option: the words go in by stdin.
    spoken = text.encode()
    return run([*base, "-v", f"{accent}+{speaker.variant}"], stdin=spoken)


def known_language(code: str) -> bool:
    """Whether espeak-ng can speak a language code."""
    listed = run(["espeak-ng", f"--voices={code}"]).decode(errors="replace").strip().splitlines()
    return len(listed) > 1


_MP3_RATES = {"22050": ["32"], "24000": ["48"], "44100": ["32", "64", "96", "128", "192"]}
_LINEAR_RATES = ["8000", "16000", "22050", "24000", "32000", "44100", "48000"]

OUTPUT_FORMATS: dict[str, tuple[str, list[str], str]] = {
    **{
        f"mp3_{rate}_{kbit}": ("audio/mpeg", ["-c:a", "libmp3lame", "-ar", rate, "-b:a", f"{kbit}k"], "mp3")
        for rate, kbits in _MP3_RATES.items()
        for kbit in kbits
    },
    **{
        f"opus_48000_{kbit}": ("audio/ogg", ["-c:a", "libopus", "-ar", "48000", "-b:a", f"{kbit}k"], "ogg")
        for kbit in ["32", "64", "96", "128", "192"]
    },
    **{f"pcm_{rate}": ("audio/pcm", ["-c:a", "pcm_s16le", "-ar", rate], "s16le") for rate in _LINEAR_RATES},
    **{f"wav_{rate}": ("audio/wav", ["-c:a", "pcm_s16le", "-ar", rate], "wav") for rate in _LINEAR_RATES},
    "ulaw_8000": ("audio/basic", ["-c:a", "pcm_mulaw", "-ar", "8000"], "mulaw"),
    "alaw_8000": ("audio/basic", ["-c:a", "pcm_alaw", "-ar", "8000"], "alaw"),
}
"""output_format -> (content type, ffmpeg arguments, ffmpeg's name of the container)."""

SHORTEST_SECONDS = 0.3
"""A text without a sound in it (only dots, say) still gives a file that decodes."""


def encode_speech(wav: bytes, output_format: str) -> bytes:
    """The WAV in one of OUTPUT_FORMATS, mono."""
    _, arguments, container = OUTPUT_FORMATS[output_format]
    # Through files, not pipes: the mp3 header with the length is written last, at the front.
    with tempfile.TemporaryDirectory(prefix="speech-") as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out"
        source.write_bytes(wav)
        run(
            [
                *FFMPEG,
                "-f",
                "wav",
                "-i",
                str(source),
                "-af",
                f"apad=whole_dur={SHORTEST_SECONDS}",
                "-ac",
                "1",
                "-bitexact",
                *arguments,
                "-f",
                container,
                str(target),
            ]
        )
        return target.read_bytes()


def silence(seconds: float, output_format: str) -> bytes:
    """Nothing to hear, in a valid file: a fault the caller must notice."""
    _, arguments, container = OUTPUT_FORMATS[output_format]
    with tempfile.TemporaryDirectory(prefix="speech-") as folder:
        target = Path(folder) / "out"
        run(
            [
                *FFMPEG,
                "-f",
                "lavfi",
                "-i",
                "anullsrc=r=44100:cl=mono",
                "-t",
                f"{seconds:.3f}",
                "-ac",
                "1",
                *arguments,
                "-f",
                container,
                str(target),
            ]
        )
        return target.read_bytes()


def wav_seconds(wav: bytes) -> float:
    """Length of espeak-ng's WAV, in seconds.

    Its header claims an endless file (it writes to a pipe), so the length is counted from the bytes: 16-bit mono at 22 050 Hz.
    """
    return max(0, len(wav) - 44) / 2 / 22_050
