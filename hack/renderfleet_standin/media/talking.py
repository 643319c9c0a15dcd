"""Makes a still face speak: the mouth opens with the loudness of the audio, 25 pictures a second.

Only a few different pictures exist (mouth openings x eyes open or shut); each is drawn once and sent to ffmpeg by index,
so ten seconds of speech take far less than ten seconds.
"""

import math
import subprocess
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from renderfleet_standin.media import face
from renderfleet_standin.media.portrait import is_drawn_here
from renderfleet_standin.media.tools import FFMPEG, PCM_RATE_HZ, MediaError, decode_to_pcm, last_line

Paint = Callable[[ImageDraw.ImageDraw, int, int], None]
"""Paints a patch of the given width and height."""

FPS = 25
SQUARE_PIXELS = 512
STITCHED_LONGEST_PIXELS = 1280
OPENINGS = 7
BLINK_EVERY_FRAMES = 85
BLINK_FRAMES = 4


@dataclass(frozen=True)
class Video:
    """What was made."""

    seconds: float
    frames: int
    width: int
    height: int
    bytes: int


def openings_of(pcm: bytes) -> list[int]:
    """How far the mouth is open in each frame, 0 to OPENINGS - 1, relative to the loud parts of this recording."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    per_frame = PCM_RATE_HZ // FPS
    levels: list[float] = []
    for start in range(0, len(samples), per_frame):
        part = samples[start : start + per_frame : 2]  # every second sample is plenty for a loudness
        levels.append(math.sqrt(sum(map(mul, part, part)) / len(part)))
    if not levels:
        return []
    loud = max(200.0, sorted(levels)[int(len(levels) * 0.9)])
    openings: list[int] = []
    smooth = 0.0
    for level in levels:
        smooth = 0.35 * smooth + 0.65 * min(1.0, level / loud)
        openings.append(min(OPENINGS - 1, round(smooth * (OPENINGS - 1))))
    return openings


def canvas_of(picture: Image.Image, *, stitch: bool) -> Image.Image:
    """The picture as the video shows it: a 512 x 512 square cut from the middle, or whole with even sides."""
    picture = picture.convert("RGB")
    if not stitch:
        return ImageOps.fit(picture, (SQUARE_PIXELS, SQUARE_PIXELS), Image.Resampling.LANCZOS)
    shrink = min(1.0, STITCHED_LONGEST_PIXELS / max(picture.size))
    width, height = (max(2, round(side * shrink) // 2 * 2) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


class Puppet:
    """A face whose mouth and eyes can be set."""

    def __init__(self, canvas: Image.Image, *, eyes_known: bool) -> None:
        self._canvas = canvas
        self._eyes_known = eyes_known
        self._unit = min(canvas.size)
        self._frames: dict[tuple[int, bool], bytes] = {}

    def frame(self, opening: int, *, blink: bool) -> bytes:
        """One picture as raw RGB bytes."""
        key = (opening, blink and self._eyes_known)
        if key not in self._frames:
            self._frames[key] = self._draw(*key).tobytes()
        return self._frames[key]

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._canvas.width / 2 + x * self._unit, self._canvas.height / 2 + y * self._unit

    def _skin_near(self, x: float, y: float) -> tuple[int, int, int]:
        centre_x, centre_y = self._at(x, y)
        spot = self._canvas.crop((int(centre_x) - 2, int(centre_y) - 2, int(centre_x) + 3, int(centre_y) + 3))
        red, green, blue = spot.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
        return int(red), int(green), int(blue)

    def _draw(self, opening: int, blink: bool) -> Image.Image:
        image = self._canvas.copy()
        self._paste_mouth(image, opening / (OPENINGS - 1))
        if blink:
            for side in (-1, 1):
                self._paste_lid(image, side * face.EYE_X)
        return image

    def _paste(
        self, image: Image.Image, x: float, y: float, *, half_width: float, half_height: float, paint: Paint
    ) -> None:
        """Paint a patch four times as large and paste it reduced: smooth edges on a small picture."""
        width, height = (max(4, round(2 * half * self._unit)) for half in (half_width, half_height))
        patch = Image.new("RGBA", (width * 4, height * 4), (0, 0, 0, 0))
        paint(ImageDraw.Draw(patch), width * 4, height * 4)
        patch = patch.resize((width, height), Image.Resampling.BOX)
        left, top = self._at(x - half_width, y - half_height)
        image.paste(patch, (round(left), round(top)), patch)

    def _paste_mouth(self, image: Image.Image, openness: float) -> None:
        skin = self._skin_near(0, face.MOUTH_Y + 0.085)
        half_width, half_height = face.MOUTH_HALF_WIDTH + 0.022, 0.072

        def paint(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
            draw.ellipse((0, 0, width - 1, height - 1), fill=(*skin, 255))
            across = width * (0.40 - 0.10 * openness)
            down = height * (0.045 + 0.34 * openness)
            box = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
            draw.ellipse(box, fill=(168, 62, 66, 255))
            if openness > 0.1:
                rim = height * 0.05
                inner = (box[0] + rim, box[1] + rim, box[2] - rim, box[3] - rim)
                draw.ellipse(inner, fill=(72, 18, 26, 255))
                if openness > 0.35:
                    draw.chord(inner, 200, 340, fill=(246, 244, 238, 255))

        self._paste(image, 0, face.MOUTH_Y, half_width=half_width, half_height=half_height, paint=paint)

    def _paste_lid(self, image: Image.Image, x: float) -> None:
        skin = self._skin_near(x, face.EYE_Y + 0.048)

        def paint(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
            draw.ellipse((0, 0, width - 1, height - 1), fill=(*skin, 255))
            draw.arc(
                (width * 0.08, 0, width * 0.92, height * 0.8),
                20,
                160,
                fill=(50, 34, 30, 255),
                width=max(2, height // 9),
            )

        self._paste(
            image,
            x,
            face.EYE_Y,
            half_width=face.EYE_HALF_WIDTH + 0.003,
            half_height=face.EYE_HALF_HEIGHT + 0.003,
            paint=paint,
        )


def render_talk(
    picture_file: Path,
    audio_file: Path,
    target: Path,
    *,
    stitch: bool,
    pad_seconds: float = 0.0,
    with_audio: bool = True,
    share: float = 1.0,
) -> Video:
    """Write an H.264 + AAC file as long as the audio plus the padding.

    `with_audio=False` and a `share` under 1.0 make the faulty videos that scripted faults ask for.
    Raises MediaError when the audio does not decode or ffmpeg fails. The container follows the target's suffix (.mp4, .mov).
    """
    pcm = decode_to_pcm(audio_file)
    seconds = len(pcm) / 2 / PCM_RATE_HZ + pad_seconds
    seconds *= share
    frame_count = max(1, round(seconds * FPS))
    openings = openings_of(pcm)
    with Image.open(picture_file) as picture:
        picture.load()
        canvas = canvas_of(ImageOps.exif_transpose(picture), stitch=stitch)
        puppet = Puppet(canvas, eyes_known=is_drawn_here(picture))
    command = [
        *FFMPEG, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{canvas.width}x{canvas.height}", "-r", str(FPS), "-i", "pipe:0",
        "-i", str(audio_file), "-map", "0:v:0", *(["-map", "1:a:0"] if with_audio else []),
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p", "-threads", "1",
        "-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-ac", "1", "-af", f"apad=pad_dur={pad_seconds:.3f}",
        "-t", f"{seconds:.3f}", "-movflags", "+faststart", str(target),
    ]  # fmt: skip
    if not with_audio:
        command = [part for part in command if part != "-af" and not part.startswith("apad=")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None and ffmpeg.stderr is not None
        try:
            for index in range(frame_count):
                opening = openings[index] if index < len(openings) else 0
                blink = index % BLINK_EVERY_FRAMES >= BLINK_EVERY_FRAMES - BLINK_FRAMES
                ffmpeg.stdin.write(puppet.frame(opening, blink=blink))
            ffmpeg.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg has ended early; its own words say why
        complaint = ffmpeg.stderr.read()
    if ffmpeg.returncode != 0:
        raise MediaError(last_line(complaint) or "ffmpeg failed")
    return Video(seconds, frame_count, canvas.width, canvas.height, target.stat().st_size)
