"""The OpenAI side's calls. Order in each: key, body, limits, fields, scripted fault, bill, work."""

import base64
import binascii
import io
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from renderfleet_standin.core import Answer, Call, CallNote, Standin, new_id
from renderfleet_standin.media import portrait
from renderfleet_standin.openai_api import checks, errors
from renderfleet_standin.openai_api.errors import refuse
from renderfleet_standin.openai_api.models import IMAGE_MODELS, TEXT_MODELS, is_gone
from renderfleet_standin.openai_api.script import write_script

MOST_EDIT_IMAGES = 16
LARGEST_EDIT_IMAGE_BYTES = 50_000_000
LARGEST_MASK_BYTES = 4_000_000
LARGEST_BODY_BYTES = 850_000_000


def headers_for(standin: Standin) -> Any:
    """The headers on every OpenAI answer."""

    def build(note: CallNote, status: int, seconds: float) -> Mapping[str, str]:
        headers = {
            "x-request-id": note.request_id,
            "openai-processing-ms": str(round(seconds * 1000)),
            "openai-version": "2020-10-01",
            "openai-organization": "org-standin",
        }
        for window, name in [("openai.requests_per_minute", "requests"), ("openai.tokens_per_minute", "tokens")]:
            limit = standin.limits[window]
            if limit.limit:
                headers[f"x-ratelimit-limit-{name}"] = str(limit.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit.limit - limit.used))
                headers[f"x-ratelimit-reset-{name}"] = duration(limit.reset_seconds)
        return headers

    return build


def duration(seconds: float) -> str:
    """Seconds in the vendor's style: 450ms, 1s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"


def openai_app(standin: Standin) -> FastAPI:
    """The application below /openai/v1."""
    app = FastAPI(openapi_url=None)
    settings = standin.settings

    @app.exception_handler(Answer)
    async def early_answer(_request: Request, ended: Exception) -> Response:
        return cast("Answer", ended).response

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, problem: Exception) -> Response:
        status = cast("HTTPException", problem).status_code
        message = (
            f"Not allowed to {request.method} on {request.url.path}."
            if status == 405
            else f"Invalid URL ({request.method} {request.url.path})"
        )
        return JSONResponse(errors.body(message, "invalid_request_error"), status)

    def authenticate(call: Call) -> None:
        scheme, _, key = call.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise refuse(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
                "(i.e. Authorization: Bearer YOUR_KEY).",
                status=401,
            )
        call.know(key=key)
        if not any(secrets.compare_digest(key.encode(), good.encode()) for good in settings.openai_keys):
            raise Answer(JSONResponse(errors.wrong_key(key), 401))

    async def json_body(call: Call) -> dict[str, Any]:
        if not call.request.headers.get("content-type", "").startswith("application/json"):
            raise refuse(
                f"Unsupported content type: '{call.request.headers.get('content-type', '')}'. This API method only accepts "
                "'application/json' requests, but you specified the header 'Content-Type'.",
                status=415,
                code="unsupported_content_type",
            )
        try:
            body = json.loads(await call.request.body())
        except ValueError:
            raise refuse("We could not parse the JSON body of your request. (HINT: is it valid JSON?)") from None
        if not isinstance(body, dict):
            raise refuse("We expected a JSON object as the body of your request.")
        prompt = body.get("prompt", body.get("input"))
        call.know(
            prompt=prompt if isinstance(prompt, str) else json.dumps(prompt or body.get("messages"), sort_keys=True),
            model=body["model"] if isinstance(body.get("model"), str) else None,
        )
        return body

    def count_against_limits(call: Call, images: int = 0, tokens: int = 0) -> None:
        """Failed calls count too, so this comes before any look at the fields."""
        asked = [
            ("openai.requests_per_minute", "requests per min (RPM)", "requests", 1),
            ("openai.tokens_per_minute", "tokens per min (TPM)", "tokens", tokens),
            ("openai.images_per_minute", "input-images per min", "input-images", images),
        ]
        for window, what, kind, units in asked:
            limit = standin.limits[window]
            wait = limit.wait_for(units) if units else 0.0
            if wait:
                text = errors.rate_limit_text(
                    call.facts.get("model", "gpt-image-2"), what, limit.limit, limit.used, units, wait
                )
                raise Answer(
                    JSONResponse(
                        errors.body(text, kind, "rate_limit_exceeded"),
                        429,
                        headers={"retry-after": str(max(1, math.ceil(wait)))},
                    )
                )
        for window, _, _, units in asked:
            if units:
                standin.limits[window].take(units)

    def wanted_count(body: dict[str, Any]) -> int:
        count = body.get("n")
        return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= 10 else 1

    @app.post("/images/generations")
    async def images_generations(request: Request) -> Response:
        call = Call(standin, request, "openai", "images.generations")
        authenticate(call)
        body = await json_body(call)
        count_against_limits(call, images=wanted_count(body), tokens=checks.token_count(str(body.get("prompt", ""))))
        order = checks.image_order(
            body, edit=False, today=standin.today(), gone_status=settings.openai_retired_model_status
        )
        await call.enter()
        await call.bill(unit="images", units=order.count)
        await call.after_bill()
        return await pictures(call, order, base=None, image_tokens=0)

    @app.post("/images/edits")
    async def images_edits(request: Request) -> Response:
        call = Call(standin, request, "openai", "images.edits")
        authenticate(call)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            body, files, mask = await edit_form(call)
        else:
            body = await json_body(call)
            files, mask = edit_references(body), None
        count_against_limits(call, images=wanted_count(body), tokens=checks.token_count(str(body.get("prompt", ""))))
        order = checks.image_order(
            body, edit=True, today=standin.today(), gone_status=settings.openai_retired_model_status
        )
        base = check_edit_images(files, mask)
        await call.enter()
        await call.bill(unit="images", units=order.count)
        await call.after_bill()
        return await pictures(call, order, base=base, image_tokens=520 * len(files))

    async def edit_form(call: Call) -> tuple[dict[str, Any], list[bytes], bytes | None]:
        """Fields, pictures and mask of a multipart edit. Numbers arrive as text here."""
        form = await call.request.form(max_files=MOST_EDIT_IMAGES + 2)
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
        call.know(prompt=body.get("prompt"), model=body.get("model"))
        return body, files, mask

    def edit_references(body: dict[str, Any]) -> list[bytes]:
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
                raise refuse(
                    f"Error while downloading images[{index}].image_url.",
                    code="invalid_image_url",
                    param=f"images[{index}].image_url",
                ) from None
        return files

    def check_edit_images(files: list[bytes], mask: bytes | None) -> Image.Image:
        if not files:
            raise refuse("Missing required parameter: 'image'.", code="missing_required_parameter", param="image")
        if len(files) > MOST_EDIT_IMAGES:
            raise refuse(
                f"Invalid 'image': array too long. Expected an array with maximum length {MOST_EDIT_IMAGES}, but got an array with length {len(files)} instead.",
                code="array_above_max_length",
                param="image",
            )
        opened: list[Image.Image] = []
        for content in files:
            if len(content) >= LARGEST_EDIT_IMAGE_BYTES:
                raise refuse(
                    "Invalid image: must be less than 50MB.", code="image_too_large", param="image", status=413
                )
            try:
                opened.append(Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "WEBP"]))
            except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
                raise refuse(
                    "Invalid image file or mode for image 1, please check your image file.",
                    code="invalid_image_file",
                    param="image",
                ) from None
        if mask is not None:
            try:
                mask_image = Image.open(io.BytesIO(mask), formats=["PNG"])
            except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
                raise refuse(
                    "Invalid mask image format - mask must be a PNG.", code="invalid_mask", param="mask"
                ) from None
            if len(mask) >= LARGEST_MASK_BYTES:
                raise refuse("Invalid mask: must be less than 4MB.", code="invalid_mask", param="mask")
            if mask_image.size != opened[0].size:
                raise refuse(
                    "Invalid mask image size - mask size does not match image size.", code="invalid_mask", param="mask"
                )
        return opened[0]

    def draw(
        order: checks.ImageOrder, base: Image.Image | None, index: int, *, wrong_size: bool
    ) -> tuple[Image.Image, bytes]:
        width, height = (64, 64) if wrong_size else (order.width, order.height)
        seed = portrait.seed_of(order.prompt, index)
        if base is None:
            image = portrait.draw_portrait(seed, width, height, transparent=order.transparent)
        else:
            try:
                image = portrait.restyle(base, seed, width, height)
            except (OSError, SyntaxError):
                raise refuse(
                    "Invalid image file or mode for image 1, please check your image file.",
                    code="invalid_image_file",
                    param="image",
                ) from None
        return image, portrait.encode(image, order.output_format, compression=order.compression)

    async def pictures(
        call: Call, order: checks.ImageOrder, *, base: Image.Image | None, image_tokens: int
    ) -> Response:
        usage = {
            "total_tokens": order.input_tokens + image_tokens + order.output_tokens,
            "input_tokens": order.input_tokens + image_tokens,
            "output_tokens": order.output_tokens,
            "input_tokens_details": {"text_tokens": order.input_tokens, "image_tokens": image_tokens},
            "output_tokens_details": {"image_tokens": order.output_tokens, "text_tokens": 0},
        }
        about = {
            "background": "transparent" if order.transparent else "opaque",
            "output_format": order.output_format,
            "size": order.size,
            "quality": order.quality,
        }
        wrong_size = call.is_struck_by("200_wrong_size")
        if order.stream:
            prefix = "image_generation" if base is None else "image_edit"
            events = stream_events(call, order, base, prefix=prefix, about=about, usage=usage)
            return call.finish(StreamingResponse(events, media_type="text/event-stream"))
        data: list[dict[str, str]] = []
        for index in range(order.count):
            _, encoded = await standin.make(draw, order, base, index, wrong_size=wrong_size)
            data.append({"b64_json": base64.b64encode(encoded).decode()})
        if call.is_struck_by("200_no_b64_json"):
            data = [{} for _ in data]
        elif call.is_struck_by("200_empty_data"):
            data = []
        elif call.is_struck_by("200_bad_base64"):
            data = [{"b64_json": "***not base64***"} for _ in data]
        elif call.is_struck_by("200_not_a_picture"):
            data = [{"b64_json": base64.b64encode(b"this is not a picture").decode()} for _ in data]
        return call.finish(JSONResponse({"created": int(time.time()), **about, "data": data, "usage": usage}))

    async def stream_events(
        call: Call,
        order: checks.ImageOrder,
        base: Image.Image | None,
        *,
        prefix: str,
        about: dict[str, str],
        usage: dict[str, Any],
    ) -> AsyncIterator[bytes]:
        def event(name: str, payload: dict[str, Any]) -> bytes:
            return f"event: {name}\ndata: {json.dumps({'type': name, **payload}, separators=(',', ':'))}\n\n".encode()

        wrong_size = call.is_struck_by("200_wrong_size")
        for index in range(order.count):
            image, encoded = await standin.make(draw, order, base, index, wrong_size=wrong_size)
            common = {"created_at": int(time.time()), **about}
            for step in range(order.partial_images):
                blurred = portrait.draft(image, (step + 1) / (order.partial_images + 1))
                partial = await standin.make(
                    portrait.encode, blurred, order.output_format, compression=order.compression
                )
                b64 = base64.b64encode(partial).decode()
                yield event(f"{prefix}.partial_image", {"b64_json": b64, "partial_image_index": step, **common})
            if call.is_struck_by("200_stream_error"):
                error = errors.body(
                    "The image could not be generated.", "image_generation_server_error", "image_generation_failed"
                )
                yield event("error", error)
                return
            b64 = base64.b64encode(encoded).decode()
            yield event(f"{prefix}.completed", {"b64_json": b64, "usage": usage, **common})

    @app.post("/responses")
    async def responses(request: Request) -> Response:
        call = Call(standin, request, "openai", "responses")
        authenticate(call)
        body = await json_body(call)
        text = said_by_caller(body.get("input"))
        count_against_limits(call, tokens=checks.token_count(text))
        if body.get("model") is None:
            raise refuse("Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
        if body.get("input") is None:
            raise refuse("Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
        model = checks.check_string(body, "model") or ""
        instructions = checks.check_string(body, "instructions") or ""
        most_tokens = checks.check_integer(body, "max_output_tokens", 16, None)
        if checks.check_flag(body, "stream"):
            raise refuse("This stand-in does not stream text.", code="unsupported_value", param="stream")
        checks.text_model(model, standin.today(), settings.openai_retired_model_status)
        await call.enter()
        answer = response_object(call, model, text, instructions, most_tokens)
        await call.bill(
            unit="output_tokens",
            units=answer["usage"]["output_tokens"] if answer["usage"] else 0,
            resource=answer["id"],
        )
        await call.after_bill()
        return call.finish(JSONResponse(answer))

    def said_by_caller(value: object) -> str:
        """The user's words in `input` or `messages`: a string, or messages whose content is a string or text parts."""
        if isinstance(value, str):
            return value
        words: list[str] = []
        for message in value if isinstance(value, list) else []:
            if not isinstance(message, dict) or message.get("role", "user") != "user":
                continue
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            words += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "\n".join(words)

    def response_object(
        call: Call, model: str, text: str, instructions: str, most_tokens: int | None
    ) -> dict[str, Any]:
        script = write_script(text)
        status, incomplete, failure = "completed", None, None
        part: dict[str, Any] = {"type": "output_text", "text": script, "annotations": []}
        if call.is_struck_by("200_refusal"):
            part = {"type": "refusal", "refusal": "I'm sorry, but I can't help with that."}
        elif call.is_struck_by("200_incomplete_content_filter"):
            status, incomplete, part["text"] = "incomplete", {"reason": "content_filter"}, ""
        elif call.is_struck_by("200_empty_text"):
            part["text"] = ""
        elif call.strike is not None and call.strike.name.startswith("200_failed_"):
            status = "failed"
            code = call.strike.name.removeprefix("200_failed_")
            failure = {"code": code, "message": f"The response failed: {code}."}
        if call.is_struck_by("200_incomplete_max_output_tokens"):
            most_tokens = max(1, checks.token_count(script) // 2)
        if most_tokens is not None and status == "completed" and checks.token_count(script) > most_tokens:
            status, incomplete = "incomplete", {"reason": "max_output_tokens"}
            part["text"] = script[: most_tokens * 4]
        output_tokens = checks.token_count(part.get("text") or part.get("refusal") or "")
        message = {
            "type": "message",
            "id": new_id("msg_", 24),
            "role": "assistant",
            "status": "incomplete" if status == "incomplete" else "completed",
            "content": [part],
        }
        input_tokens = checks.token_count(text + instructions)
        return {
            "id": new_id("resp_", 24),
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "model": model,
            "error": failure,
            "incomplete_details": incomplete,
            "instructions": instructions or None,
            "max_output_tokens": most_tokens,
            "output": []
            if status == "failed"
            else [{"type": "reasoning", "id": new_id("rs_", 24), "summary": []}, message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": input_tokens,
                "output_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }

    @app.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        call = Call(standin, request, "openai", "chat.completions")
        authenticate(call)
        body = await json_body(call)
        text = said_by_caller(body.get("messages"))
        call.know(prompt=text)
        count_against_limits(call, tokens=checks.token_count(text))
        if body.get("model") is None:
            raise refuse("you must provide a model parameter")
        if not isinstance(body.get("messages"), list):
            raise refuse("Missing required parameter: 'messages'.", code="missing_required_parameter", param="messages")
        model = checks.check_string(body, "model") or ""
        most_tokens = checks.check_integer(body, "max_completion_tokens", 1, None)
        if checks.check_flag(body, "stream"):
            raise refuse("This stand-in does not stream text.", code="unsupported_value", param="stream")
        checks.text_model(model, standin.today(), settings.openai_retired_model_status)
        await call.enter()
        response = response_object(call, model, text, "", most_tokens)
        usage = response["usage"]
        await call.bill(unit="output_tokens", units=usage["output_tokens"], resource=response["id"])
        await call.after_bill()
        if response["status"] == "failed":
            raise refuse("The server had an error while processing your request.", status=500, kind="server_error")
        part = response["output"][-1]["content"][0]
        reason = (response["incomplete_details"] or {}).get("reason")
        finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(reason or "", "stop")
        return call.finish(
            JSONResponse(
                {
                    "id": new_id("chatcmpl-", 29),
                    "object": "chat.completion",
                    "created": int(time.time()),
                    "model": model,
                    "choices": [
                        {
                            "index": 0,
                            "message": {
                                "role": "assistant",
                                "content": part.get("text"),
                                "refusal": part.get("refusal"),
                                "annotations": [],
                            },
                            "logprobs": None,
                            "finish_reason": finish,
                        }
                    ],
                    "usage": {
                        "prompt_tokens": usage["input_tokens"],
                        "completion_tokens": usage["output_tokens"],
                        "total_tokens": usage["total_tokens"],
                    },
                }
            )
        )

    def model_object(name: str) -> dict[str, Any]:
        model = IMAGE_MODELS.get(name) or TEXT_MODELS[name]
        item: dict[str, Any] = {"id": name, "object": "model", "created": 1_770_000_000, "owned_by": "openai"}
        if model.shutdown is not None:
            item["shutdown_date"] = model.shutdown.isoformat()
        return item

    @app.get("/models")
    async def models(request: Request) -> Response:
        call = Call(standin, request, "openai", "models")
        authenticate(call)
        await call.enter()
        call.show_late_fault()
        known = [*IMAGE_MODELS.values(), *TEXT_MODELS.values()]
        data = [model_object(model.name) for model in known if not is_gone(model, standin.today())]
        return call.finish(JSONResponse({"object": "list", "data": data}))

    @app.get("/models/{name}")
    async def one_model(request: Request, name: str) -> Response:
        call = Call(standin, request, "openai", "models")
        authenticate(call)
        call.know(model=name)
        await call.enter()
        call.show_late_fault()
        model = IMAGE_MODELS.get(name) or TEXT_MODELS.get(name)
        if model is None or is_gone(model, standin.today()):
            raise Answer(JSONResponse(errors.model_missing(name), 404))
        return call.finish(JSONResponse(model_object(name)))

    return app
