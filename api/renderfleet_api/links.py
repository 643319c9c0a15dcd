"""What OpenAPI says of an answer besides its body: where it leads, and which headers it carries.

Links let tools go on from one request to the next: from a job that was accepted to its state and its cancellation.
Lists have none: a link must hold for each answer, and a list may be empty.
"""

from typing import Any, Final

Declared = dict[str, Any]

ID: Final = "$response.body#/id"


def link(operation: str, **parameters: str) -> Declared:
    """A link to an operation, with parameters taken from the answer."""
    return {"operationId": operation, "parameters": parameters}


def leads_to(description: str, links: dict[str, Declared], *headers: str) -> Declared:
    """A response's declaration with links and headers, for `responses` of a route."""
    told = {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {"description": description, "links": links} | ({"headers": told} if told else {})


_HEADERS: Final = {
    "Location": "Where it can be read from now on",
    "Idempotent-Replayed": "`true` when an earlier request with this Idempotency-Key had made it",
    "Preference-Applied": "What was heeded of `Prefer`",
}


OF_JOB: Final = {name: link(name, job_id=ID) for name in ("get_job", "cancel_job", "retry_job", "follow_job")}
OF_AVATAR: Final = {name: link(name, avatar_id=ID) for name in ("get_avatar", "change_avatar", "delete_avatar")}
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
