"""Media files for the tests, made by ffmpeg and Pillow once."""

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from renderfleet_cluster import debian


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", "-y", *arguments], check=True)


TONE = ("-f", "lavfi", "-i", "sine=frequency=440:duration=2")
SILENCE = ("-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono:d=2")
PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tone.mp3/.wav/.flac/.m4a, silence.mp3, talk.mp4 (index in front), late.mp4 (at the end), face.png/.jpg."""
    debian.install(debian.MEDIA_PACKAGES)
    folder = tmp_path_factory.mktemp("media")
    for suffix in ("mp3", "wav", "flac", "m4a"):
        ffmpeg(*TONE, str(folder / f"tone.{suffix}"))
    ffmpeg(*SILENCE, str(folder / "silence.mp3"))
    both = (*PICTURE, *TONE, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest")
    ffmpeg(*both, "-movflags", "+faststart", str(folder / "talk.mp4"))
    ffmpeg(*both, str(folder / "late.mp4"))
    ffmpeg(*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(folder / "mute.mp4"))
    picture = Image.effect_noise((320, 240), 90).convert("RGB")
    picture.save(folder / "face.png")
    picture.save(folder / "face.jpg")
    return folder
