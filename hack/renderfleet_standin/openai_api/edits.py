"""Reading what an edit is made from: a multipart form, or JSON with pictures as data: URLs."""

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from renderfleet_standin.openai_api import checks
from renderfleet_standin.openai_api.errors import refuse

MOST_IMAGES = 16
LARGEST_IMAGE_BYTES = 50_000_000
LARGEST_MASK_BYTES = 4_000_000
IMAGE_TOKENS = 520
"""Input tokens counted for each picture handed in; made up, the vendor's depend on its size."""


@dataclass(frozen=True)
class EditInput:
    """An edit request before its fields are checked."""

    body: dict[str, Any]
    files: list[bytes]
    mask: bytes | None


async def read_form(request: Request) -> EditInput:
    """Fields, pictures and mask of a multipart edit. Numbers and flags arrive as text there."""
    form = await request.form(max_files=MOST_IMAGES + 8, max_part_size=LARGEST_IMAGE_BYTES)
    body: dict[str, Any] = {}
    files: list[bytes] = []
    mask: bytes | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            content = await value.read()
            if name in ("image", "image[]"):
                files.append(content)
            elif name == "mask":
                mask = content
            else:
                raise refuse(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        elif name in checks.RANGES and value.lstrip("-").isdigit():
            body[name] = int(value)
        elif name == "stream":
            body[name] = value.lower() == "true"
        else:
            body[name] = value
    return EditInput(body, files, mask)


def read_references(body: dict[str, Any]) -> EditInput:
    """Pictures of a JSON edit. Only data: URLs can be read here: no file store, and no fetching for OpenAI."""
    references = body.get("images")
    if not isinstance(references, list):
        raise checks.wrong_type("images", "an array", references)
    files: list[bytes] = []
    for index, reference in enumerate(references):
        url = reference.get("image_url") if isinstance(reference, dict) else None
        if not isinstance(url, str):
            raise refuse("File not found.", code="file_not_found", param=f"images[{index}].file_id", status=404)
        head, _, payload = url.partition(",")
        try:
            if not head.startswith("data:image/") or not head.endswith(";base64"):
                raise ValueError
            files.append(base64.b64decode(payload, validate=True))
        except (ValueError, binascii.Error):
            place = f"images[{index}].image_url"
            raise refuse(f"Error while downloading {place}.", code="invalid_image_url", param=place) from None
    return EditInput(body, files, None)


def _open(content: bytes, formats: list[str]) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        return None


def bad_picture(number: int = 1) -> Exception:
    """The refusal of a file that is no usable picture."""
    return refuse(
        f"Invalid image file or mode for image {number}, please check your image file.",
        code="invalid_image_file",
        param="image",
    )


def first_picture(given: EditInput) -> Image.Image:
    """The picture to edit, after all pictures and the mask are checked. Raises Answer with the vendor's refusal."""
    if not given.files:
        raise refuse("Missing required parameter: 'image'.", code="missing_required_parameter", param="image")
    if len(given.files) > MOST_IMAGES:
        raise refuse(
            f"Invalid 'image': array too long. Expected an array with maximum length {MOST_IMAGES}, "
            f"but got an array with length {len(given.files)} instead.",
            code="array_above_max_length",
            param="image",
        )
    opened: list[Image.Image] = []
    for number, content in enumerate(given.files, start=1):
        if len(content) >= LARGEST_IMAGE_BYTES:
            raise refuse("Invalid image: must be less than 50MB.", code="image_too_large", param="image", status=413)
        picture = _open(content, ["PNG", "JPEG", "WEBP"])
        if picture is None:
            raise bad_picture(number)
        opened.append(picture)
    if given.mask is not None:
        mask = _open(given.mask, ["PNG"])
        if mask is None:
            raise refuse("Invalid mask image format - mask must be a PNG.", code="invalid_mask", param="mask")
        if len(given.mask) >= LARGEST_MASK_BYTES:
            raise refuse("Invalid mask: must be less than 4MB.", code="invalid_mask", param="mask")
        if mask.size != opened[0].size:
            message = "Invalid mask image size - mask size does not match image size."
            raise refuse(message, code="invalid_mask", param="mask")
    return opened[0]
