"""Running ffmpeg and espeak-ng: bounded in time, no shell, no network protocols."""

import subprocess
from pathlib import Path


class MediaError(Exception):
    """A tool refused its input; the message is the tool's last line."""


FFMPEG = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-protocol_whitelist", "file,pipe", "-y"]
"""Only files and pipes: an input that names a URL inside (a playlist, say) reads nothing."""


def run(command: list[str], *, stdin: bytes | None = None, seconds: float = 120.0) -> bytes:
    """Run a tool and return what it printed.

    Raises MediaError when it fails or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise MediaError(f"{command[0]} took longer than {seconds:g} s") from None
    if done.returncode != 0:
        raise MediaError(last_line(done.stderr) or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def last_line(text: bytes) -> str:
    """Last non-empty line of a tool's complaint."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


PCM_RATE_HZ = 16_000


def decode_to_pcm(audio: Path, *, seconds: float = 120.0) -> bytes:
    """Mono signed 16-bit samples at 16 kHz. Raises MediaError for what is no audio."""
    return run(
        [*FFMPEG, "-i", str(audio), "-map", "0:a:0", "-ac", "1", "-ar", str(PCM_RATE_HZ), "-f", "s16le", "pipe:1"],
        seconds=seconds,
    )
