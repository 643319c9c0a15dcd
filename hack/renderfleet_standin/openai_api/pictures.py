"""From a valid order to the answer with its pictures, whole or streamed."""

import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from PIL import Image
from starlette.responses import JSONResponse, Response, StreamingResponse

from renderfleet_standin.core import Call
from renderfleet_standin.media import portrait
from renderfleet_standin.openai_api import errors
from renderfleet_standin.openai_api.checks import ImageOrder
from renderfleet_standin.openai_api.edits import bad_picture
from renderfleet_standin.openai_api.streams import event

WRONG_SIZE = (64, 64)


@dataclass(frozen=True)
class Work:
    """What is to be drawn, for whom."""

    call: Call
    order: ImageOrder
    base: Image.Image | None
    """The picture to edit; None draws a new one."""
    image_tokens: int
    """Input tokens of the pictures handed in."""

    def usage(self) -> dict[str, Any]:
        """Tokens, as billed."""
        order = self.order
        return {
            "total_tokens": order.input_tokens + self.image_tokens + order.output_tokens,
            "input_tokens": order.input_tokens + self.image_tokens,
            "output_tokens": order.output_tokens,
            "input_tokens_details": {"text_tokens": order.input_tokens, "image_tokens": self.image_tokens},
            "output_tokens_details": {"image_tokens": order.output_tokens, "text_tokens": 0},
        }

    def about(self) -> dict[str, str]:
        """What the answer says of all its pictures."""
        return {
            "background": "transparent" if self.order.transparent else "opaque",
            "output_format": self.order.output_format,
            "size": self.order.size,
            "quality": self.order.quality,
        }

    def draw(self, index: int) -> tuple[Image.Image, bytes]:
        """One picture and its file; CPU work."""
        order = self.order
        width, height = WRONG_SIZE if self.call.is_struck_by("200_wrong_size") else (order.width, order.height)
        seed = portrait.seed_of(order.prompt, index)
        if self.base is None:
            image = portrait.draw_portrait(seed, width, height, transparent=order.transparent)
        else:
            try:
                image = portrait.restyle(self.base, seed, width, height)
            except (OSError, SyntaxError):
                raise bad_picture() from None
        return image, portrait.encode(image, order.output_format, compression=order.compression)


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def answer(work: Work) -> Response:
    """The vendor's 200, or a stream of events."""
    call = work.call
    if work.order.stream:
        return call.finish(StreamingResponse(_events(work), media_type="text/event-stream"))
    data: list[dict[str, str]] = []
    for index in range(work.order.count):
        _, encoded = await call.standin.make(work.draw, index)
        data.append({"b64_json": _b64(encoded)})
    match call.strike.name if call.strike else "":
        case "200_no_b64_json":
            data = [{} for _ in data]
        case "200_empty_data":
            data = []
        case "200_bad_base64":
            data = [{"b64_json": "***not base64***"} for _ in data]
        case "200_not_a_picture":
            data = [{"b64_json": _b64(b"this is not a picture")} for _ in data]
    body = {"created": int(time.time()), **work.about(), "data": data, "usage": work.usage()}
    return call.finish(JSONResponse(body))


async def _events(work: Work) -> AsyncIterator[bytes]:
    order, standin = work.order, work.call.standin
    prefix = "image_generation" if work.base is None else "image_edit"
    for index in range(order.count):
        image, encoded = await standin.make(work.draw, index)
        common = {"created_at": int(time.time()), **work.about()}
        for step in range(order.partial_images):
            blurred = await standin.make(portrait.draft, image, (step + 1) / (order.partial_images + 1))
            part = await standin.make(portrait.encode, blurred, order.output_format, compression=order.compression)
            yield event(f"{prefix}.partial_image", {"b64_json": _b64(part), "partial_image_index": step, **common})
        if work.call.is_struck_by("200_stream_error"):
            code = ("image_generation_server_error", "image_generation_failed")
            yield event("error", errors.body("The image could not be generated.", *code))
            return
        yield event(f"{prefix}.completed", {"b64_json": _b64(encoded), "usage": work.usage(), **common})
