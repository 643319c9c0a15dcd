"""Still pictures through Pillow: only png and jpeg, never more pixels than a video vendor would take.

The header's size is believed before any pixel is unpacked: a picture that claims more is refused in no time.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

from .media import NotMedia

MAX_PIXELS = 10_485_760
"""What D-ID takes; also above anything our picture sizes come to."""
MIN_SIDE_PX = 160
"""What D-ID needs."""
_ENCODERS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that decodes."""

    content_type: str
    width_px: int
    height_px: int


def check_picture(file: Path) -> Picture:
    """Decode the whole picture. Raises NotMedia: not png or jpeg, too many pixels, damaged or cut off."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise NotMedia("too_many_pixels", f"the picture has more than {MAX_PIXELS} pixels")
                image.load()
                return Picture(f"image/{(image.format or '').lower()}", width, height)
        except UnidentifiedImageError as unknown:
            raise NotMedia("unknown_format", "the picture is neither png nor jpeg") from unknown
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
            raise NotMedia("too_many_pixels", f"the picture has more than {MAX_PIXELS} pixels") from bomb
        except (OSError, ValueError, SyntaxError, EOFError) as broken:
            raise NotMedia("unreadable", "the picture cannot be decoded") from broken


def make_thumbnail(file: Path, target: Path, longest_side_px: int, content_type: str) -> Picture:
    """A small copy that fits a square of that side. Raises NotMedia as `check_picture`."""
    from PIL import Image

    check_picture(file)
    with Image.open(file, formats=("PNG", "JPEG")) as image:
        small = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if "A" in image.mode else "RGB")
        small.thumbnail((longest_side_px, longest_side_px), Image.Resampling.LANCZOS)
        if small.mode == "RGBA" and content_type == "image/jpeg":
            flat = Image.new("RGB", small.size, "white")
            flat.paste(small, mask=small.getchannel("A"))
            small = flat
        small.save(target, _ENCODERS[content_type], quality=85)
        return Picture(content_type, *small.size)
