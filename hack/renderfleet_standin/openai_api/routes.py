"""The OpenAI side's calls. Order in each: key, body, limits, fields, scripted fault, bill, work."""

import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from renderfleet_standin.core import Answer, Call, CallNote, Standin
from renderfleet_standin.openai_api import checks, edits, errors, pictures, streams, words
from renderfleet_standin.openai_api.errors import refuse
from renderfleet_standin.openai_api.models import IMAGE_MODELS, TEXT_MODELS, ImageModel, TextModel, is_gone

FEWEST_RESPONSE_TOKENS = 16


def headers_for(standin: Standin) -> Callable[[CallNote, int, float], Mapping[str, str]]:
    """The headers on every OpenAI answer; rate-limit headers where a limit is set."""

    def build(note: CallNote, _status: int, seconds: float) -> Mapping[str, str]:
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


class OpenAISide:
    """The application below /openai/v1."""

    def __init__(self, standin: Standin) -> None:
        self._standin = standin
        self._settings = standin.settings

    def app(self) -> FastAPI:
        """All routes, with the vendor's error bodies for unknown ones."""
        app = FastAPI(openapi_url=None)
        app.add_exception_handler(Answer, _early_answer)
        app.add_exception_handler(HTTPException, _no_such_route)
        app.add_api_route("/images/generations", self.images_generations, methods=["POST"])
        app.add_api_route("/images/edits", self.images_edits, methods=["POST"])
        app.add_api_route("/responses", self.responses, methods=["POST"])
        app.add_api_route("/chat/completions", self.chat_completions, methods=["POST"])
        app.add_api_route("/models", self.models, methods=["GET"])
        app.add_api_route("/models/{name}", self.one_model, methods=["GET"])
        return app

    # what every call begins with

    def _call(self, request: Request, operation: str) -> Call:
        """Open a call and check its key."""
        call = Call(self._standin, request, "openai", operation)
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise refuse(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
                status=401,
            )
        call.know(key=key)
        if not any(secrets.compare_digest(key.encode(), good.encode()) for good in self._settings.openai_keys):
            raise Answer(JSONResponse(errors.wrong_key(key), 401))
        return call

    async def _json(self, call: Call) -> dict[str, Any]:
        """The JSON object in the body; prompt and model become known to the call."""
        content_type = call.request.headers.get("content-type", "")
        if not content_type.startswith("application/json"):
            raise refuse(
                f"Unsupported content type: '{content_type}'. This API method only accepts 'application/json' requests.",
                status=415,
                code="unsupported_content_type",
            )
        try:
            body = json.loads(await call.request.body())
        except ValueError:
            raise refuse("We could not parse the JSON body of your request. (HINT: is it valid JSON?)") from None
        if not isinstance(body, dict):
            raise refuse("We expected a JSON object as the body of your request.")
        said = body["prompt"] if "prompt" in body else words.said_by_caller(body.get("input", body.get("messages")))
        call.know(
            prompt=said if isinstance(said, str) else None,
            model=body["model"] if isinstance(body.get("model"), str) else None,
        )
        return body

    def _count(self, call: Call, *, images: int = 0) -> None:
        """Count a call against the account's limits. Failed calls count too, so this comes before the fields.

        Raises Answer: 429 with the seconds to wait in its text and in Retry-After.
        """
        asked = [
            ("openai.requests_per_minute", "requests per min (RPM)", "requests", 1),
            (
                "openai.tokens_per_minute",
                "tokens per min (TPM)",
                "tokens",
                checks.token_count(call.facts.get("prompt", "")),
            ),
            ("openai.images_per_minute", "input-images per min", "input-images", images),
        ]
        for window, what, kind, units in asked:
            limit = self._standin.limits[window]
            wait = limit.wait_for(units) if units else 0.0
            if wait:
                model = call.facts.get("model", "gpt-image-2")
                text = errors.rate_limit_text(
                    model, what, limit=limit.limit, used=limit.used, requested=units, seconds=wait
                )
                headers = {"retry-after": str(max(1, math.ceil(wait)))}
                raise Answer(JSONResponse(errors.body(text, kind, "rate_limit_exceeded"), 429, headers=headers))
        for window, _, _, units in asked:
            if units:
                self._standin.limits[window].take(units)

    # pictures

    async def images_generations(self, request: Request) -> Response:
        """POST /images/generations."""
        call = self._call(request, "images.generations")
        body = await self._json(call)
        self._count(call, images=_wanted_count(body))
        order = self._image_order(body, edit=False)
        await call.enter()
        await call.bill(unit="images", units=order.count)
        await call.after_bill()
        return await pictures.answer(pictures.Work(call, order, base=None, image_tokens=0))

    async def images_edits(self, request: Request) -> Response:
        """POST /images/edits, multipart or JSON."""
        call = self._call(request, "images.edits")
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            given = await edits.read_form(request)
            call.know(prompt=given.body.get("prompt"), model=given.body.get("model"))
        else:
            given = edits.read_references(await self._json(call))
        self._count(call, images=_wanted_count(given.body))
        order = self._image_order(given.body, edit=True)
        base = edits.first_picture(given)
        await call.enter()
        await call.bill(unit="images", units=order.count)
        await call.after_bill()
        tokens = edits.IMAGE_TOKENS * len(given.files)
        return await pictures.answer(pictures.Work(call, order, base=base, image_tokens=tokens))

    def _image_order(self, body: dict[str, Any], *, edit: bool) -> checks.ImageOrder:
        gone_status = self._settings.openai_retired_model_status
        return checks.image_order(body, edit=edit, today=self._standin.today(), gone_status=gone_status)

    # words

    async def responses(self, request: Request) -> Response:
        """POST /responses."""
        call = self._call(request, "responses")
        body = await self._json(call)
        self._count(call)
        for name in ("model", "input"):
            if body.get(name) is None:
                raise refuse(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
        instructions = checks.check_string(body, "instructions") or ""
        most_tokens = checks.check_integer(body, "max_output_tokens", FEWEST_RESPONSE_TOKENS, None)
        streamed = checks.check_flag(body, "stream")
        response = await self._write(call, body, instructions, most_tokens)
        if streamed:
            return call.finish(_event_stream(streams.response_events(response)))
        return call.finish(JSONResponse(response))

    async def chat_completions(self, request: Request) -> Response:
        """POST /chat/completions."""
        call = self._call(request, "chat.completions")
        body = await self._json(call)
        self._count(call)
        if body.get("model") is None:
            raise refuse("you must provide a model parameter")
        if not isinstance(body.get("messages"), list):
            message = "Missing required parameter: 'messages'."
            raise refuse(message, code="missing_required_parameter", param="messages")
        most_tokens = checks.check_integer(body, "max_completion_tokens", 1, None)
        streamed = checks.check_flag(body, "stream")
        response = await self._write(call, body, "", most_tokens)
        if response["status"] == "failed":
            message = "The server had an error while processing your request."
            raise refuse(message, status=500, kind="server_error", code="server_error")
        chat = words.chat_object(response)
        if streamed:
            options = body.get("stream_options")
            with_usage = isinstance(options, dict) and options.get("include_usage") is True
            return call.finish(_event_stream(streams.chat_chunks(chat, with_usage=with_usage)))
        return call.finish(JSONResponse(chat))

    async def _write(
        self, call: Call, body: dict[str, Any], instructions: str, most_tokens: int | None
    ) -> dict[str, Any]:
        """Check what both text calls share, bill, and write."""
        model = checks.check_string(body, "model") or ""
        checks.text_model(model, self._standin.today(), self._settings.openai_retired_model_status)
        await call.enter()
        response = words.response_object(call, model, call.facts.get("prompt", ""), instructions, most_tokens)
        await call.bill(unit="output_tokens", units=response["usage"]["output_tokens"], resource=response["id"])
        await call.after_bill()
        return response

    # models

    async def models(self, request: Request) -> Response:
        """GET /models."""
        call = self._call(request, "models")
        await call.enter()
        await call.show_late_fault()
        known: list[ImageModel | TextModel] = [*IMAGE_MODELS.values(), *TEXT_MODELS.values()]
        data = [_model_json(model) for model in known if not is_gone(model, self._standin.today())]
        return call.finish(JSONResponse({"object": "list", "data": data}))

    async def one_model(self, request: Request, name: str) -> Response:
        """GET /models/{name}."""
        call = self._call(request, "models")
        call.know(model=name)
        await call.enter()
        await call.show_late_fault()
        model = IMAGE_MODELS.get(name) or TEXT_MODELS.get(name)
        if model is None or is_gone(model, self._standin.today()):
            raise Answer(JSONResponse(errors.model_missing(name), 404))
        return call.finish(JSONResponse(_model_json(model)))


def _event_stream(events: Iterator[bytes]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream")


def _wanted_count(body: dict[str, Any]) -> int:
    """Pictures a request asks for, before its fields are checked."""
    count = body.get("n")
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count <= 10 else 1


def _model_json(model: ImageModel | TextModel) -> dict[str, Any]:
    item: dict[str, Any] = {"id": model.name, "object": "model", "created": 1_770_000_000, "owned_by": "openai"}
    if model.shutdown is not None:
        item["shutdown_date"] = model.shutdown.isoformat()
    return item


async def _early_answer(_request: Request, ended: Exception) -> Response:
    return cast("Answer", ended).response


async def _no_such_route(request: Request, problem: Exception) -> Response:
    status = cast("HTTPException", problem).status_code
    message = f"Invalid URL ({request.method} {request.url.path})"
    if status == 405:
        message = f"Not allowed to {request.method} on {request.url.path}."
    return JSONResponse(errors.body(message, "invalid_request_error"), status)
