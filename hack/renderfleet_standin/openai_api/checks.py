"""What the Images calls take. Order: unknown field, missing field, type, value, model, what this model can do."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, cast

from starlette.responses import JSONResponse

from renderfleet_standin.core import Answer
from renderfleet_standin.media.portrait import Format
from renderfleet_standin.openai_api.errors import model_missing, refuse
from renderfleet_standin.openai_api.models import IMAGE_MODELS, TEXT_MODELS, ImageModel, TextModel, is_gone

LONGEST_PROMPT = 32_000
STANDARD_SIZES = ("1024x1024", "1024x1536", "1536x1024")
LONGEST_EDGE = 3840
MOST_PIXELS = 3840 * 2160

COMMON_FIELDS = {
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "moderation",
    "stream", "partial_images", "complexity", "safety_identifier", "user",
}  # fmt: skip
EDIT_FIELDS = COMMON_FIELDS | {"images", "mask", "input_fidelity"}

CHOICES: dict[str, tuple[str, ...]] = {
    "quality": ("auto", "low", "medium", "high", "xhigh", "max"),
    "background": ("auto", "opaque", "transparent"),
    "output_format": ("png", "jpeg", "webp"),
    "moderation": ("auto", "low"),
    "complexity": ("low", "medium", "high"),
    "input_fidelity": ("high", "low"),
}
RANGES: dict[str, tuple[int, int]] = {"n": (1, 10), "output_compression": (0, 100), "partial_images": (0, 3)}
OUTPUT_TOKENS = {"low": 272, "medium": 1056, "high": 4160, "xhigh": 8320, "max": 12_480}
"""Tokens of a square picture. low, medium, high as reported for older GPT image models; the finer two are made up."""


@dataclass(frozen=True)
class ImageOrder:
    """A valid request for pictures."""

    prompt: str
    model: ImageModel
    count: int
    width: int
    height: int
    quality: Literal["low", "medium", "high", "xhigh", "max"]
    output_format: Format
    compression: int
    transparent: bool
    stream: bool
    partial_images: int

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def input_tokens(self) -> int:
        return token_count(self.prompt)

    @property
    def output_tokens(self) -> int:
        """Tokens of all pictures and partial pictures."""
        each = max(1, round(OUTPUT_TOKENS[self.quality] * self.width * self.height / (1024 * 1024)))
        return each * self.count + (100 * self.partial_images if self.stream else 0)


def token_count(text: str) -> int:
    """About as many tokens as a tokenizer finds in English: one for four characters."""
    return max(1, (len(text) + 3) // 4)


def _named_type(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return "null"


def _quoted(choices: tuple[str, ...]) -> str:
    return ", ".join(f"'{choice}'" for choice in choices[:-1]) + f", and '{choices[-1]}'"


def wrong_type(name: str, wanted: str, value: object) -> Answer:
    """A field of the wrong JSON type."""
    return refuse(
        f"Invalid type for '{name}': expected {wanted}, but got {_named_type(value)} instead.",
        code="invalid_type",
        param=name,
    )


def check_fields(body: dict[str, Any], allowed: set[str], required: tuple[str, ...]) -> None:
    """Unknown and missing fields."""
    for name in body:
        if name not in allowed:
            raise refuse(f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    for name in required:
        if body.get(name) is None:
            raise refuse(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def check_string(body: dict[str, Any], name: str, longest: int | None = None) -> str | None:
    """A string field, if present."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    if longest is not None and len(value) > longest:
        raise refuse(
            f"Invalid '{name}': string too long. Expected a string with maximum length {longest}, but got a string with length {len(value)} instead.",
            code="string_above_max_length",
            param=name,
        )
    return value


def check_integer(body: dict[str, Any], name: str, lowest: int, highest: int | None) -> int | None:
    """An integer field within its range, if present."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "an integer", value)
    if value < lowest:
        raise refuse(
            f"Invalid '{name}': integer below minimum value. Expected a value >= {lowest}, but got {value} instead.",
            code="integer_below_min_value",
            param=name,
        )
    if highest is not None and value > highest:
        raise refuse(
            f"Invalid '{name}': integer above maximum value. Expected a value <= {highest}, but got {value} instead.",
            code="integer_above_max_value",
            param=name,
        )
    return value


def _check_choice(body: dict[str, Any], name: str) -> str | None:
    value = check_string(body, name)
    if value is not None and value not in CHOICES[name]:
        raise refuse(
            f"Invalid value: '{value}'. Supported values are: {_quoted(CHOICES[name])}.",
            code="invalid_value",
            param=name,
        )
    return value


def check_flag(body: dict[str, Any], name: str) -> bool:
    """A boolean field; absent and null are false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return bool(value)


def image_model(name: str, today: date, gone_status: int) -> ImageModel:
    """The model of that name. Raises the vendor's answer for one that is unknown or shut down."""
    model = IMAGE_MODELS.get(name)
    if model is None or is_gone(model, today):
        raise Answer(JSONResponse(model_missing(name), gone_status))
    return model


def text_model(name: str, today: date, gone_status: int) -> TextModel:
    """The model of that name. Raises the vendor's answer for one that is unknown or shut down."""
    model = TEXT_MODELS.get(name)
    if model is None or is_gone(model, today):
        raise Answer(JSONResponse(model_missing(name), gone_status))
    return model


def size_of(model: ImageModel, size: str) -> tuple[int, int]:
    """Width and height in pixels; "auto" is a square."""
    if size == "auto":
        return 1024, 1024
    if size in STANDARD_SIZES:
        width, height = size.split("x")
        return int(width), int(height)
    if not model.free_sizes:
        raise refuse(
            f"Invalid value: '{size}'. Supported values are: {_quoted((*STANDARD_SIZES, 'auto'))}.",
            code="invalid_value",
            param="size",
        )
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if found is None:
        raise refuse(f"Invalid size '{size}'. Expected WIDTHxHEIGHT or 'auto'.", code="invalid_value", param="size")
    width_px, height_px = int(found[1]), int(found[2])
    if width_px % 16 or height_px % 16:
        raise refuse(
            f"Invalid size '{size}'. Width and height must both be divisible by 16.", code="invalid_value", param="size"
        )
    if max(width_px, height_px) > 3 * min(width_px, height_px):
        raise refuse(
            f"Invalid size '{size}'. The aspect ratio must be between 1:3 and 3:1.", code="invalid_value", param="size"
        )
    if max(width_px, height_px) > LONGEST_EDGE or width_px * height_px > MOST_PIXELS:
        raise refuse(
            f"Invalid size '{size}'. The maximum supported resolution is 3840x2160.", code="invalid_value", param="size"
        )
    return width_px, height_px


def image_order(body: dict[str, Any], *, edit: bool, today: date, gone_status: int) -> ImageOrder:
    """The order in a request body. Raises Answer with the vendor's refusal."""
    check_fields(body, EDIT_FIELDS if edit else COMMON_FIELDS, ("prompt",))
    prompt = check_string(body, "prompt", LONGEST_PROMPT) or ""
    if not prompt.strip():
        raise refuse(
            "Invalid 'prompt': empty string. Expected a string with minimum length 1.",
            code="empty_string",
            param="prompt",
        )
    model_name = check_string(body, "model") or "dall-e-2"
    numbers = {name: check_integer(body, name, *bounds) for name, bounds in RANGES.items()}
    choices = {name: _check_choice(body, name) for name in CHOICES if name in body}
    size = check_string(body, "size") or "auto"
    check_string(body, "safety_identifier")
    check_string(body, "user")
    stream = check_flag(body, "stream")

    model = image_model(model_name, today, gone_status)
    width, height = size_of(model, size)
    quality = choices.get("quality") or "auto"
    if quality in ("xhigh", "max") and not model.fine_quality:
        raise refuse(
            f"Invalid value: '{quality}'. Supported values are: 'auto', 'low', 'medium', and 'high'.",
            code="invalid_value",
            param="quality",
        )
    output_format = choices.get("output_format") or "png"
    transparent = choices.get("background") == "transparent"
    if transparent and output_format == "jpeg":
        raise refuse(
            "Transparent background is not supported for jpeg output format.", code="invalid_value", param="background"
        )
    compression = numbers["output_compression"]
    if compression is not None and compression != 100 and output_format == "png":
        raise refuse(
            "Compression less than 100 is not supported for PNG output format.",
            code="invalid_value",
            param="output_compression",
        )
    if choices.get("input_fidelity") is not None and not model.input_fidelity:
        raise refuse(
            f"The model '{model.name}' does not support the 'input_fidelity' parameter.",
            code="unsupported_parameter",
            param="input_fidelity",
        )
    if numbers["partial_images"] and not stream:
        raise refuse("Partial images are only supported when streaming.", code="invalid_value", param="partial_images")
    return ImageOrder(
        prompt=prompt,
        model=model,
        count=numbers["n"] or 1,
        width=width,
        height=height,
        quality=cast('Literal["low", "medium", "high", "xhigh", "max"]', "medium" if quality == "auto" else quality),
        output_format=cast("Format", output_format),
        compression=100 if compression is None else compression,
        transparent=transparent,
        stream=stream,
        partial_images=numbers["partial_images"] or 0,
    )
