"""Still pictures through Pillow, for the stages that read or make them."""

from pathlib import Path

from renderfleet_providers import pictures
from renderfleet_providers.pictures import NotAPicture, Picture

from .media import NotMedia

_ENCODERS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


def check_picture(file: Path) -> Picture:
    """Decode the whole picture. Raises NotMedia: not png or jpeg, too many pixels, damaged or cut off."""
    try:
        return pictures.check_picture(file)
    except NotAPicture as found:
        raise NotMedia(found.code, found.message) from found


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
