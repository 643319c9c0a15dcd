"""Which pictures are taken, and as what."""

import io

import pytest
from PIL import Image

from renderfleet_providers.pictures import Picture, check_picture


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("MPO", "image/jpeg")]
)
def test_a_picture_is_told_by_its_content(kind: str, content_type: str) -> None:
    frames = [Image.new("RGB", (320, 240), colour) for colour in ("teal", "navy")]
    made = io.BytesIO()
    if kind == "MPO":
        frames[0].save(made, kind, save_all=True, append_images=frames[1:])
    else:
        frames[0].save(made, kind)
    assert check_picture(made.getvalue()) == Picture(content_type, 320, 240)
