"""Answers as server-sent events: the vendor's events for texts, made from the whole answer."""

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

_WORD = re.compile(r"\S+\s*|\s+")


def event(name: str, payload: dict[str, Any]) -> bytes:
    """One named event."""
    return f"event: {name}\n{_data({'type': name, **payload})}".encode()


def _data(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload, separators=(',', ':'))}\n\n"


def response_events(response: dict[str, Any]) -> Iterator[bytes]:
    """A streamed /responses answer: it begins, each item and its text comes word by word, it ends as `response` is."""
    numbers = count()

    def told(name: str, **payload: Any) -> bytes:
        return event(name, {"sequence_number": next(numbers), **payload})

    begun = {
        **response,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
    }
    yield told("response.created", response=begun)
    yield told("response.in_progress", response=begun)
    for place, item in enumerate(response["output"]):
        empty = {**item, "status": "in_progress", "content": []} if item["type"] == "message" else item
        yield told("response.output_item.added", output_index=place, item=empty)
        for inner, part in enumerate(item.get("content", [])):
            where = {"item_id": item["id"], "output_index": place, "content_index": inner}
            field = "text" if part["type"] == "output_text" else "refusal"
            logprobs: dict[str, Any] = {"logprobs": []} if field == "text" else {}
            yield told("response.content_part.added", part={**part, field: ""}, **where)
            for word in _WORD.findall(part[field]):
                yield told(f"response.{part['type']}.delta", delta=word, **where, **logprobs)
            yield told(f"response.{part['type']}.done", **{field: part[field]}, **where, **logprobs)
            yield told("response.content_part.done", part=part, **where)
        yield told("response.output_item.done", output_index=place, item=item)
    yield told(f"response.{response['status']}", response=response)


def chat_chunks(chat: dict[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    """A streamed /chat/completions answer; the older manner, whose events have no names and which says when it is over."""
    common = {"id": chat["id"], "object": "chat.completion.chunk", "created": chat["created"], "model": chat["model"]}
    [choice] = chat["choices"]
    said = choice["message"]
    field = "content" if said["refusal"] is None else "refusal"

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        one = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data({**common, "choices": [one]}).encode()

    yield chunk({"role": "assistant", field: ""})
    for word in _WORD.findall(said[field] or ""):
        yield chunk({field: word})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield _data({**common, "choices": [], "usage": chat["usage"]}).encode()
    yield b"data: [DONE]\n\n"
