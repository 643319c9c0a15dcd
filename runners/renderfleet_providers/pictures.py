"""Which still pictures we take: png and jpeg by their content, never more pixels than a video vendor would.

The header's size is believed before any pixel is unpacked: a picture that claims more is refused in no time.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_PIXELS: Final = 10_485_760
"""What D-ID takes; also above anything our picture sizes come to."""
MIN_SIDE_PX: Final = 160
"""What D-ID needs."""


class NotAPicture(Exception):
    """What was given is no picture that we take; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that decodes."""

    content_type: str
    width_px: int
    height_px: int


def check_picture(source: Path | bytes) -> Picture:
    """Decode the whole picture. Raises NotAPicture: not png or jpeg, too many pixels, damaged or cut off."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise NotAPicture("too_many_pixels", f"the picture has more than {MAX_PIXELS} pixels")
                image.load()
                # MPO is Pillow's name for a jpeg that further pictures follow, as many cameras make them.
                return Picture("image/png" if image.format == "PNG" else "image/jpeg", width, height)
        except UnidentifiedImageError as unknown:
            raise NotAPicture("unknown_format", "the picture is neither png nor jpeg") from unknown
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
            raise NotAPicture("too_many_pixels", f"the picture has more than {MAX_PIXELS} pixels") from bomb
        except (OSError, ValueError, SyntaxError, EOFError) as broken:
            raise NotAPicture("unreadable", "the picture cannot be decoded") from broken
