"""From a request for text to the answer object of /responses and /chat/completions."""

import time
from typing import Any

from renderfleet_standin.core import Call, new_id
from renderfleet_standin.openai_api.checks import token_count
from renderfleet_standin.openai_api.script import write_script


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


def response_object(call: Call, model: str, text: str, instructions: str, most_tokens: int | None) -> dict[str, Any]:
    """The body of a /responses answer, as the scripted fault wants it if there is one."""
    script = write_script(text)
    status, incomplete, failure = "completed", None, None
    part: dict[str, Any] = {"type": "output_text", "text": script, "annotations": []}
    match call.strike.name if call.strike else "":
        case "200_refusal":
            part = {"type": "refusal", "refusal": "I'm sorry, but I can't help with that."}
        case "200_incomplete_content_filter":
            status, incomplete, part["text"] = "incomplete", {"reason": "content_filter"}, ""
        case "200_incomplete_max_output_tokens":
            most_tokens = max(1, token_count(script) // 2)
        case "200_empty_text":
            part["text"] = ""
        case name if name.startswith("200_failed_"):
            status, code = "failed", name.removeprefix("200_failed_")
            failure = {"code": code, "message": f"The response failed: {code}."}
    if most_tokens is not None and part.get("text") and status == "completed" and token_count(script) > most_tokens:
        status, incomplete = "incomplete", {"reason": "max_output_tokens"}
        part["text"] = script[: most_tokens * 4]
    message = {
        "type": "message",
        "id": new_id("msg_", 24),
        "role": "assistant",
        "status": "incomplete" if status == "incomplete" else "completed",
        "content": [part],
    }
    reasoning = {"type": "reasoning", "id": new_id("rs_", 24), "summary": []}
    input_tokens = token_count(text + instructions)
    output_tokens = token_count(part.get("text") or part.get("refusal") or "")
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
        "output": [] if status == "failed" else [reasoning, message],
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


def chat_object(response: dict[str, Any]) -> dict[str, Any]:
    """The same answer in the older shape of /chat/completions."""
    part = response["output"][-1]["content"][0]
    reason = (response["incomplete_details"] or {}).get("reason", "")
    finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(reason, "stop")
    said = {"role": "assistant", "content": part.get("text"), "refusal": part.get("refusal"), "annotations": []}
    usage = response["usage"]
    return {
        "id": new_id("chatcmpl-", 29),
        "object": "chat.completion",
        "created": response["created_at"],
        "model": response["model"],
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }
