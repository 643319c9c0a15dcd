"""Tokens of an OpenID Connect issuer, accepted beside API keys.

A token opens a door when it is signed with RS256 or ES256 by a key that the issuer publishes now, names this issuer and
our audience, and is within its time. One claim names the tenant, one the scopes; which ones is a setting.
The issuer's keys are fetched through the guarded client, kept for a while, and fetched anew for a key id that is not
known, but not more often than every ten seconds: whoever makes key ids up must not make us call the issuer.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sqlalchemy.ext.asyncio import AsyncEngine

from renderfleet_providers.guarded import GuardedClient, GuardedError

from .keys import Caller
from .problems import NotAllowed, NotNow, Unauthenticated
from .settings import ApiSettings
from .tenancy import Tenancy, namespace_of, register

log = structlog.get_logger(__name__)

ALGORITHMS: Final = ("RS256", "ES256")
_LONGEST_TOKEN: Final = 8192
_LEEWAY_SECONDS: Final = 30
"""Clocks differ."""
_DOCUMENT_BYTES: Final = 1 << 18
_FETCH_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 10.0
_STALE_SECONDS: Final = 24 * 3600.0
"""Keys that were good a day ago are not trusted on when the issuer cannot be asked."""
_SMALLEST_RSA_BITS: Final = 2048
_TENANT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_TOKEN: Final = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", re.ASCII)


def looks_like_token(credentials: str) -> bool:
    """Whether this is meant to be a signed JWT, and no API key."""
    return _TOKEN.fullmatch(credentials) is not None


class IssuerAway(Exception):
    """The issuer's keys cannot be had, and none are kept that are fresh enough."""


class IssuerKeys:
    """The public keys of one issuer, by their ids."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        refresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._client = GuardedClient.trusting([issuer, *([jwks_url] if jwks_url else [])])
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = -_STALE_SECONDS
        self._tried_at = -_STALE_SECONDS
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of that id; without an id, the issuer's only key. None when there is none. Raises IssuerAway."""
        if self._is_lacking(key_id):
            # Whoever comes while the keys are being fetched waits, and finds what the first one fetched.
            async with self._fetching:
                if self._is_lacking(key_id) and self._clock() - self._tried_at > _AGAIN_SECONDS:
                    await self._fetch()
        if self._clock() - self._fetched_at > max(_STALE_SECONDS, self._refresh_seconds):
            raise IssuerAway
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _is_lacking(self, key_id: str | None) -> bool:
        is_old = self._clock() - self._fetched_at > self._refresh_seconds
        return is_old or (key_id is not None and key_id not in self._keys)

    async def _fetch(self) -> None:
        try:
            document = await self._get(self._jwks_url or await self._discover())
        except (GuardedError, ValueError) as failed:
            log.warning("issuer's keys could not be fetched", issuer=self._issuer, error=str(failed))
            return
        finally:
            # At the end: a try may take as long as the pause, and those who waited for it would each begin another.
            self._tried_at = self._clock()
        self._keys = usable_keys(document)
        self._fetched_at = self._clock()

    async def _discover(self) -> str:
        document = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer or not isinstance(document.get("jwks_uri"), str):
            raise ValueError("the discovery document is another issuer's, or names no keys")
        return str(document["jwks_uri"])

    async def _get(self, url: str) -> dict[str, Any]:
        answer = await self._client.request("GET", url, max_bytes=_DOCUMENT_BYTES, total_seconds=_FETCH_SECONDS)
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        document = orjson.loads(answer.body)
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        return document


def usable_keys(document: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """The keys of a JWKS that may sign tokens for us: RSA of 2048 bits or more, and P-256."""
    usable: dict[str | None, jwt.PyJWK] = {}
    given = document.get("keys")
    for one in given if isinstance(given, list) else []:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(one.get("kty")))
        if algorithm is None or one.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(one, algorithm)
        except (jwt.PyJWTError, ValueError):
            continue
        match key.key:
            case RSAPublicKey() as rsa if rsa.key_size >= _SMALLEST_RSA_BITS:
                usable[one.get("kid")] = key
            case EllipticCurvePublicKey() as elliptic if isinstance(elliptic.curve, SECP256R1):
                usable[one.get("kid")] = key
            case _:
                continue
    return usable


class TokenDoor:
    """Finds the caller that a token stands for."""

    def __init__(self, settings: ApiSettings, keys: IssuerKeys, tenancy: Tenancy, engine: AsyncEngine) -> None:
        self._settings = settings
        self._keys = keys
        self._tenancy = tenancy
        self._engine = engine
        self._registered: set[tuple[str, str]] = set()

    async def caller(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthenticated, NotAllowed for a tenant that there is not, and NotNow."""
        claims = await self._verified(token)
        scopes = self._scopes(claims)
        identity = f"oidc:{claims['sub']}"
        tenant = claims.get(self._settings.oidc_tenant_claim)
        if tenant is None:
            return Caller(identity, scopes)
        found = None
        if isinstance(tenant, str) and _TENANT_NAME.fullmatch(tenant):
            found = await self._tenancy.find(tenant)
        if found is None:
            raise NotAllowed("The token's tenant is not known here.", code="tenant_unknown")
        namespace = namespace_of(found)
        if (tenant, namespace) not in self._registered:
            await register(self._engine, found)
            self._registered.add((tenant, namespace))
        return Caller(identity, scopes, tenant, namespace)

    async def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST_TOKEN:
            raise _refused("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refused("it is not a JWT") from None
        if header.get("alg") not in ALGORITHMS:
            raise _refused(f"it is not signed with {' or '.join(ALGORITHMS)}")
        try:
            key = await self._keys.find(header.get("kid"))
        except IssuerAway:
            raise NotNow(
                "The issuer of tokens cannot be asked for its keys.", code="issuer_unavailable", retry_after_seconds=10
            ) from None
        if key is None or key.algorithm_name != header["alg"]:
            raise _refused("it is signed with a key that is not the issuer's")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it has expired") from None
        except jwt.InvalidAudienceError:
            raise _refused("it is meant for somebody else") from None
        except jwt.InvalidIssuerError:
            raise _refused("it is another issuer's") from None
        except jwt.PyJWTError as broken:
            raise _refused(f"it does not hold ({type(broken).__name__})") from None
        return claims

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """What the token allows, by our names; values that we have no name for allow nothing."""
        given = claims.get(self._settings.oidc_scope_claim, ())
        values = given.split() if isinstance(given, str) else given if isinstance(given, list) else ()
        known = self._settings.oidc_scopes
        return frozenset(scope for value in values if isinstance(value, str) for scope in known.get(value, ()))


def token_door(settings: ApiSettings, tenancy: Tenancy, engine: AsyncEngine) -> TokenDoor | None:
    """The door for tokens, when an issuer is configured."""
    if settings.oidc_issuer is None:
        return None
    keys = IssuerKeys(settings.oidc_issuer, settings.oidc_jwks_url, settings.oidc_refresh_seconds)
    return TokenDoor(settings, keys, tenancy, engine)


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"The token is not valid: {why}.", code="token_invalid")
