"""Who may call what: dependencies that the routes name in their signatures."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .keys import Caller, Scope
from .oidc import looks_like_token
from .parts import parts_of
from .problems import NotAllowed, Unauthenticated

bearer: Final = HTTPBearer(
    auto_error=False, description="An API key (`rf_…`), or a token of the configured OpenID Connect issuer"
)


@dataclass(frozen=True, slots=True)
class TenantCaller:
    """A caller that acts for one tenant; every query is bound to its namespace."""

    key_id: str
    tenant: str
    namespace: str


Given = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def _caller(request: Request, given: HTTPAuthorizationCredentials | None) -> Caller:
    """The caller of this request. Raises Unauthenticated.

    No dependency of its own: FastAPI takes as long to resolve one as this takes altogether.
    """
    parts = await parts_of(request)
    key = given.credentials if given else None
    if not key:
        raise Unauthenticated("Send an API key: Authorization: Bearer rf_…", presented=False)
    if parts.tokens is not None and looks_like_token(key):
        caller: Caller | None = await parts.tokens.caller(key)
    else:
        caller = await parts.keys.caller(key)
    if caller is None:
        raise Unauthenticated("The API key is not valid: mistyped, expired or revoked.")
    parts.limits.spend(request, caller.key_id)
    return caller


def _tenant(caller: Caller, scope: Scope) -> TenantCaller:
    if caller.tenant is None or caller.namespace is None:
        raise NotAllowed("This is a tenant's route; use a key of the tenant.", code="tenant_key_needed")
    if scope not in caller.scopes:
        raise NotAllowed(f"The key lacks the scope {scope!r}.", code="scope_missing")
    return TenantCaller(caller.key_id, caller.tenant, caller.namespace)


async def reader(request: Request, given: Given) -> TenantCaller:
    """A tenant's key that may read."""
    return _tenant(await _caller(request, given), "read")


async def writer(request: Request, given: Given) -> TenantCaller:
    """A tenant's key that may submit and change."""
    return _tenant(await _caller(request, given), "write")


async def admin(request: Request, given: Given) -> Caller:
    """An administrator's key."""
    caller = await _caller(request, given)
    if "admin" not in caller.scopes:
        raise NotAllowed("This needs an administrator's key.", code="admin_key_needed")
    return caller


Reader = Annotated[TenantCaller, Depends(reader)]
Writer = Annotated[TenantCaller, Depends(writer)]
Admin = Annotated[Caller, Depends(admin)]
