"""Draws a friendly stylised head-and-shoulders portrait. The same seed gives the same picture."""

import colorsys
import hashlib
import io
import random
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter, ImageOps, PngImagePlugin

from renderfleet_standin.media import face

Format = Literal["png", "jpeg", "webp"]
Colour = tuple[int, int, int]

SKINS: list[Colour] = [(255, 224, 196), (241, 194, 157), (224, 172, 125), (198, 134, 90), (141, 85, 54), (98, 60, 40)]
HAIRS: list[Colour] = [
    (38, 28, 24),
    (84, 52, 32),
    (140, 82, 40),
    (206, 150, 70),
    (170, 60, 36),
    (150, 150, 158),
    (60, 62, 90),
]
EYES: list[Colour] = [(70, 110, 160), (86, 130, 80), (104, 70, 44), (60, 60, 70), (90, 120, 120)]


def seed_of(prompt: str, index: int) -> int:
    """Number that decides a picture: same prompt and position, same picture; another position, another person."""
    return int.from_bytes(hashlib.sha256(f"{index}\n{prompt}".encode()).digest()[:8])


def _hue(random_: random.Random, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(random_.random(), saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return (
        int(one[0] + (other[0] - one[0]) * share),
        int(one[1] + (other[1] - one[1]) * share),
        int(one[2] + (other[2] - one[2]) * share),
    )


class _Pen:
    """Draws in face coordinates (fractions of the shorter side from the centre)."""

    def __init__(self, image: Image.Image) -> None:
        self.draw = ImageDraw.Draw(image)
        self.unit = min(image.size)
        self.centre_x = image.width / 2
        self.centre_y = image.height / 2

    def x(self, value: float) -> float:
        return self.centre_x + value * self.unit

    def y(self, value: float) -> float:
        return self.centre_y + value * self.unit

    def box(self, x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
        return self.x(x - half_width), self.y(y - half_height), self.x(x + half_width), self.y(y + half_height)

    def ellipse(self, x: float, y: float, half_width: float, half_height: float, fill: Colour) -> None:
        self.draw.ellipse(self.box(x, y, half_width, half_height), fill=fill)

    def line(self, points: list[tuple[float, float]], fill: Colour, width: float) -> None:
        self.draw.line(
            [(self.x(x), self.y(y)) for x, y in points],
            fill=fill,
            width=max(1, round(width * self.unit)),
            joint="curve",
        )


def draw_portrait(seed: int, width: int, height: int, *, transparent: bool = False) -> Image.Image:
    """A portrait of exactly width x height pixels, RGB, or RGBA with an empty background."""
    scale = 2 if width * height <= 1_600_000 else 1  # drawn twice as large and reduced: smooth edges
    random_ = random.Random(seed)
    size = (width * scale, height * scale)
    background = _hue(random_, random_.uniform(0.25, 0.55), random_.uniform(0.75, 0.95))
    skin, hair, iris = random_.choice(SKINS), random_.choice(HAIRS), random_.choice(EYES)
    shirt = _hue(random_, random_.uniform(0.4, 0.8), random_.uniform(0.4, 0.85))
    long_hair, fringe, glasses = random_.random() < 0.5, random_.random() < 0.6, random_.random() < 0.35

    top, bottom = _mix(background, (255, 255, 255), 0.35), _mix(background, (20, 20, 40), 0.25)
    image = Image.composite(
        Image.new("RGB", size, bottom), Image.new("RGB", size, top), Image.linear_gradient("L").resize(size)
    )
    pen = _Pen(image)
    _draw_body(pen, skin=skin, hair=hair, shirt=shirt, long_hair=long_hair)
    _draw_head(pen, skin=skin, hair=hair, fringe=fringe)
    _draw_features(pen, skin=skin, hair=hair, iris=iris, glasses=glasses)

    if transparent:
        mask = Image.new("L", size, 0)
        cover = _Pen(mask)
        cover.draw.ellipse(
            cover.box(0, face.HEAD_CENTRE_Y - 0.03, face.HEAD_HALF_WIDTH + 0.06, face.HEAD_HALF_HEIGHT + 0.05), fill=255
        )
        cover.draw.ellipse(cover.box(0, 0.62, 0.44, 0.30), fill=255)
        cover.draw.rectangle((cover.x(-0.08), cover.y(0.2), cover.x(0.08), cover.y(0.5)), fill=255)
        image.putalpha(mask)
    return image.resize((width, height), Image.Resampling.BOX) if scale > 1 else image


def _draw_body(pen: _Pen, *, skin: Colour, hair: Colour, shirt: Colour, long_hair: bool) -> None:
    head_y = face.HEAD_CENTRE_Y
    if long_hair:
        pen.ellipse(
            0, head_y + 0.12, face.HEAD_HALF_WIDTH + 0.07, face.HEAD_HALF_HEIGHT + 0.10, _mix(hair, (0, 0, 0), 0.2)
        )
    pen.ellipse(0, 0.66, 0.42, 0.30, shirt)
    pen.draw.rectangle((pen.x(-0.42), pen.y(0.66), pen.x(0.42), pen.y(6.0)), fill=shirt)
    neck = _mix(skin, (0, 0, 0), 0.14)
    pen.draw.rectangle((pen.x(-0.075), pen.y(0.18), pen.x(0.075), pen.y(0.40)), fill=neck)
    pen.ellipse(0, 0.40, 0.105, 0.05, neck)


def _draw_head(pen: _Pen, *, skin: Colour, hair: Colour, fringe: bool) -> None:
    head_y, half_width, half_height = face.HEAD_CENTRE_Y, face.HEAD_HALF_WIDTH, face.HEAD_HALF_HEIGHT
    pen.ellipse(0, head_y - 0.06, half_width + 0.03, half_height + 0.005, hair)
    for side in (-1, 1):
        pen.ellipse(side * half_width, head_y + 0.02, 0.032, 0.055, _mix(skin, (0, 0, 0), 0.08))
    pen.ellipse(0, head_y, half_width, half_height, skin)
    if fringe:
        pen.draw.chord(pen.box(0, head_y - 0.09, half_width + 0.01, half_height - 0.06), 185, 355, fill=hair)
    else:
        pen.draw.chord(pen.box(0, head_y - 0.06, half_width + 0.012, half_height - 0.02), 205, 335, fill=hair)
    for side in (-1, 1):
        pen.ellipse(side * 0.125, 0.075, 0.042, 0.028, _mix(skin, (235, 90, 90), 0.22))


def _draw_features(pen: _Pen, *, skin: Colour, hair: Colour, iris: Colour, glasses: bool) -> None:
    brow = _mix(hair, (0, 0, 0), 0.25)
    for side in (-1, 1):
        x = side * face.EYE_X
        pen.ellipse(x, face.EYE_Y, face.EYE_HALF_WIDTH, face.EYE_HALF_HEIGHT, (252, 252, 250))
        pen.ellipse(x, face.EYE_Y, 0.0195, 0.0215, iris)
        pen.ellipse(x, face.EYE_Y, 0.0095, 0.0105, (18, 16, 18))
        pen.ellipse(x + 0.006, face.EYE_Y - 0.008, 0.004, 0.004, (255, 255, 255))
        pen.line(
            [(x - 0.045, face.EYE_Y - 0.048), (x, face.EYE_Y - 0.06), (x + 0.045, face.EYE_Y - 0.048)], brow, 0.013
        )
        if glasses:
            pen.draw.ellipse(
                pen.box(x, face.EYE_Y, 0.066, 0.056), outline=(40, 40, 48), width=max(1, round(0.009 * pen.unit))
            )
    if glasses:
        pen.line([(-0.022, face.EYE_Y - 0.01), (0.022, face.EYE_Y - 0.01)], (40, 40, 48), 0.009)
    shade = _mix(skin, (60, 20, 10), 0.3)
    pen.line([(0.004, -0.02), (0.02, 0.055), (-0.012, 0.062)], shade, 0.011)
    pen.draw.arc(
        pen.box(0, face.MOUTH_Y - 0.035, face.MOUTH_HALF_WIDTH, 0.05),
        25,
        155,
        fill=(168, 62, 66),
        width=max(2, round(0.014 * pen.unit)),
    )


def restyle(picture: Image.Image, seed: int, width: int, height: int) -> Image.Image:
    """The given picture in the asked size, in other colours: what an edit of an avatar gives back."""
    fitted = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    hue, saturation, value = fitted.convert("HSV").split()
    turn = 20 + seed % 216
    hue = hue.point([(tone + turn) % 256 for tone in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def draft(image: Image.Image, share_done: float) -> Image.Image:
    """A blurred forerunner of a picture, for streamed partial images."""
    return image.filter(ImageFilter.GaussianBlur(radius=max(1.0, min(image.size) / 40 * (1 - share_done))))


def encode(image: Image.Image, output_format: Format, *, compression: int = 100) -> bytes:
    """The picture as a file, marked as drawn here. `compression` is the vendor's 0-100 for jpeg and webp."""
    out = io.BytesIO()
    match output_format:
        case "png":
            marks = PngImagePlugin.PngInfo()
            marks.add_text("Software", face.MARK)
            image.save(out, "PNG", pnginfo=marks, compress_level=4)
        case "jpeg":
            image.convert("RGB").save(out, "JPEG", quality=max(5, min(95, compression)), comment=face.MARK)
        case "webp":
            image.save(out, "WEBP", quality=max(5, min(95, compression)), method=2)
    return out.getvalue()


def is_drawn_here(image: Image.Image) -> bool:
    """Whether a picture carries our mark, so that its eyes are where face.py says."""
    comment = image.info.get("comment", b"")
    return image.info.get("Software") == face.MARK or comment in (face.MARK, face.MARK.encode())
