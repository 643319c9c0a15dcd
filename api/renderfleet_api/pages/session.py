"""Signing in: the key is kept, sealed, in a cookie that scripts cannot read; the server keeps nothing.

A revoked key signs out at once, since each request looks the key up. A form from another site is refused.
"""

import base64
import hashlib
from typing import Annotated, Final

from cryptography.fernet import Fernet, InvalidToken
from fastapi import Depends, Request, Response
from starlette.responses import RedirectResponse

from renderfleet_api.auth import TenantCaller
from renderfleet_api.keys import Caller
from renderfleet_api.parts import Parts, Use
from renderfleet_api.problems import NotAllowed

COOKIE: Final = "renderfleet"
SIGN_IN: Final = "/ui/sign-in"
SESSION_SECONDS: Final = 12 * 3600


class SignInNeeded(Exception):
    """There is no session, or its key is no longer valid."""


def _box(parts: Parts) -> Fernet:
    secret = parts.settings.key_secret.get_secret_value()
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"renderfleet sessions\n" + secret.encode()).digest()))


def begin(parts: Parts, request: Request, response: Response, key: str) -> None:
    """Remember the key in the browser."""
    secure = request.url.scheme == "https" or parts.settings.public_url.startswith("https:")
    sealed = _box(parts).encrypt(key.encode()).decode()
    response.set_cookie(
        COOKIE, sealed, max_age=SESSION_SECONDS, path="/ui", httponly=True, samesite="strict", secure=secure
    )


def end(response: Response) -> None:
    """Forget it."""
    response.delete_cookie(COOKIE, path="/ui")


async def visitor(request: Request, parts: Use) -> Caller:
    """Whose session this is. Raises SignInNeeded."""
    try:
        key = _box(parts).decrypt(request.cookies.get(COOKIE, "").encode(), ttl=SESSION_SECONDS).decode()
    except InvalidToken:
        raise SignInNeeded from None
    caller = await parts.keys.caller(key)
    if caller is None:
        raise SignInNeeded
    return caller


Visitor = Annotated[Caller, Depends(visitor)]


async def tenant_visitor(caller: Visitor) -> TenantCaller:
    """A visitor who looks after a tenant's jobs. Raises NotAllowed for administrators, who have none."""
    if caller.tenant is None or caller.namespace is None:
        raise NotAllowed("Sign in with a tenant's key to see its jobs.", code="tenant_key_needed")
    return TenantCaller(caller.key_id, caller.tenant, caller.namespace)


TenantVisitor = Annotated[TenantCaller, Depends(tenant_visitor)]


async def same_site(request: Request) -> None:
    """Raises NotAllowed for a form that another site sent."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    if site in {"same-origin", "none"}:
        return
    if site is None and origin.partition("://")[2] == request.headers.get("host"):
        return
    raise NotAllowed("This form came from another site.", code="cross_site")


async def to_sign_in(request: Request, _: Exception) -> Response:
    """Lead to the sign-in page; htmx needs a header for that, as it follows redirects unseen."""
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": SIGN_IN})
    answer = RedirectResponse(SIGN_IN, status_code=303)
    end(answer)
    return answer
