"""What OpenAPI says of an answer besides its body: where it leads, and which headers it carries.

Links let tools go on from one request to the next: from a job that was accepted to its state, its cancellation and what
can be made of it.
"""

from typing import Any, Final

Declared = dict[str, Any]

ID: Final = "$response.body#/id"


def link(operation: str, body: dict[str, Any] | None = None, **parameters: str) -> Declared:
    """A link to an operation, with parameters (and a request body) taken from the answer."""
    made: Declared = {"operationId": operation}
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = body
    return made


def leads_to(description: str, links: dict[str, Declared], *headers: str) -> Declared:
    """A response's declaration with links and headers, for `responses` of a route."""
    told = {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {"description": description, "links": links} | ({"headers": told} if told else {})


_HEADERS: Final = {
    "Location": "Where it can be read from now on",
    "Idempotent-Replayed": "`true` when an earlier request with this Idempotency-Key had made it",
    "Preference-Applied": "What was heeded of `Prefer`",
}


def of_job(pointer: str = ID) -> dict[str, Declared]:
    """What can be done with the job whose id is at `pointer`."""
    return {name: link(name, job_id=pointer) for name in ("get_job", "cancel_job", "retry_job", "follow_job")}


MADE_OF_JOB: Final[dict[str, dict[str, Declared]]] = {
    "preview_avatar": {
        "save_avatar": link("save_avatar", {"jobId": ID}),
        "create_video": link("create_video", {"avatarJobId": ID, "script": "Hello", "voiceId": "anna"}),
    },
    "create_voice": {"create_video": link("create_video", {"voiceJobId": ID})},
    "create_video": {},
}
"""By the operation that made the job: what else it can be used for."""

OF_AVATAR: Final = {
    **{name: link(name, avatar_id=ID) for name in ("get_avatar", "change_avatar", "delete_avatar")},
    "create_video": link("create_video", {"avatarId": ID, "script": "Hello", "voiceId": "anna"}),
}
OF_UPLOAD: Final = {
    "preview_avatar": link(
        "preview_avatar", {"prompt": "the same face, smiling", "baseImageKey": "$response.body#/key"}
    )
}
OF_ENDPOINT: Final = {
    name: link(name, endpoint_id=ID)
    for name in (
        "get_endpoint",
        "change_endpoint",
        "delete_endpoint",
        "rotate_secret",
        "send_test",
        "list_deliveries",
        "replay_events",
    )
}
OF_TENANT: Final = {
    name: link(name, name="$response.body#/name")
    for name in ("get_tenant", "change_tenant", "delete_tenant", "create_key", "list_keys")
}
OF_KEY: Final = {name: link(name, name="$request.path.name", key_id=ID) for name in ("rotate_key", "revoke_key")}


def of_page(operation: str, **first: Declared) -> Declared:
    """A list's answer: its next part, and what its first item leads to."""
    return {"links": {"next": link(operation, cursor="$response.body#/nextCursor"), **first}}


OF_FIRST_JOB: Final = of_job("$response.body#/items/0/id")
