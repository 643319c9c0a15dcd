"""Tokens of an OpenID Connect issuer, as a client with a real issuer meets them."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.api import Api, Tenant, api_process
from tests.support.identity import AUDIENCE, Issuer, ec_key, issuer, rsa_key

SCOPES = {"fleet.read": ["read"], "fleet.write": ["write"], "fleet.admins": ["admin"]}


@pytest.fixture
async def identity() -> AsyncIterator[Issuer]:
    async with issuer(rsa=rsa_key(), ec=ec_key()) as made:
        yield made


@pytest.fixture
async def door(api: Api, identity: Issuer, tmp_path: Path) -> AsyncIterator[Api]:
    """An API that trusts the issuer."""
    environment = {
        **api.environment,
        "RENDERFLEET_OIDC_ISSUER": identity.url,
        "RENDERFLEET_OIDC_AUDIENCE": AUDIENCE,
        "RENDERFLEET_OIDC_TENANT_CLAIM": "fleet_tenant",
        "RENDERFLEET_OIDC_SCOPE_CLAIM": "groups",
        "RENDERFLEET_OIDC_SCOPES": json.dumps(SCOPES),
    }
    with api_process(tmp_path, environment) as running:
        yield running


async def ask(door: Api, token: str, path: str = "/jobs", method: str = "GET", **more: Any) -> httpx2.Response:
    async with door.client(token) as client:
        return await client.request(method, path, **more)


async def test_a_token_is_as_good_as_a_key(door: Api, identity: Issuer, tenant: Tenant, other: Tenant) -> None:
    mine = {"fleet_tenant": tenant.name, "groups": ["staff", "fleet.read", "fleet.write"]}
    voice = {"text": "Hello", "voiceId": "anna"}
    for key_id in ("rsa", "ec"):
        made = await ask(door, identity.sign(key_id, **mine), "/voice", "POST", json=voice)
        assert (made.status_code, made.json()["namespace"]) == (202, tenant.namespace)
        assert "RateLimit" in made.headers

    theirs = identity.sign("ec", **{**mine, "fleet_tenant": other.name})
    assert (await ask(door, theirs)).json()["items"] == []
    assert (await ask(door, theirs, f"/jobs/{made.json()['id']}")).status_code == 404
    assert (await ask(door, tenant.key)).status_code == 200
    assert identity.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_token_may_do_what_its_claims_say(door: Api, identity: Issuer, tenant: Tenant) -> None:
    reads = identity.sign("ec", fleet_tenant=tenant.name, groups="staff fleet.read")
    assert (await ask(door, reads)).status_code == 200
    refused = await ask(door, reads, "/voice", "POST", json={"text": "Hello", "voiceId": "anna"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert (await ask(door, reads, "/admin/tenants")).json()["code"] == "admin_key_needed"

    admin = identity.sign("ec", groups=["fleet.admins"])
    assert (await ask(door, admin, "/admin/tenants")).status_code == 200
    assert (await ask(door, admin)).json()["code"] == "tenant_key_needed"
    for groups in (None, 7, ["read"], {"read": True}):
        nothing = identity.sign("ec", fleet_tenant=tenant.name, groups=groups)
        assert (await ask(door, nothing)).json()["code"] == "scope_missing"
    for name in ("nobody", "../rendertenants", "", 7):
        lost = await ask(door, identity.sign("ec", fleet_tenant=name, groups=["fleet.read"]))
        assert (lost.status_code, lost.json()["code"]) == (403, "tenant_unknown")


async def test_a_tenant_that_is_removed_is_locked_out_at_once(door: Api, identity: Issuer, tenant: Tenant) -> None:
    token = identity.sign("rsa", fleet_tenant=tenant.name, groups=["fleet.read"])
    assert (await ask(door, token)).status_code == 200
    async with door.client() as admin:
        assert (await admin.delete(f"/admin/tenants/{tenant.name}")).status_code == 202

    assert (await ask(door, token)).json()["code"] == "tenant_unknown"


async def test_every_other_token_is_refused(door: Api, identity: Issuer, tenant: Tenant) -> None:
    now = int(time.time())
    good: dict[str, Any] = {"fleet_tenant": tenant.name, "groups": ["fleet.read"]}
    claims = {"iss": identity.url, "aud": AUDIENCE, "sub": "ann", "exp": now + 300, **good}
    published = identity.keys["rsa"]
    assert isinstance(published, rsa.RSAPrivateKey)
    public = published.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # PyJWT does not sign with what looks like somebody's public key; an attacker's program does.
    unsigned = jwt.encode(claims, b"x" * 32, "HS256", headers={"kid": "rsa"}).rpartition(".")[0]
    forged = base64.urlsafe_b64encode(hmac.digest(public, unsigned.encode(), "sha256")).rstrip(b"=").decode()
    whole = identity.sign("rsa", **good)
    head, body, signature = whole.split(".")
    bad = {
        "expired": identity.sign("rsa", **good, exp=now - 60),
        "not yet": identity.sign("rsa", **good, nbf=now + 600),
        "without end": identity.sign("rsa", **good, exp=None),
        "nobody's": identity.sign("rsa", **good, sub=None),
        "for others": identity.sign("rsa", **good, aud="billing"),
        "of others": identity.sign("rsa", **good, iss="https://somebody.example"),
        "stranger's key": identity.sign("rsa", rsa_key(), **good),
        "unknown key": identity.sign("new", rsa_key(), **good),
        "other kind of key": identity.sign("ec", rsa_key(), **good),
        "unsigned": jwt.encode(claims, None, "none", headers={"kid": "rsa"}) + "c2ln",
        "shared secret": f"{unsigned}.{forged}",
        "other algorithm": jwt.encode(claims, published, "RS512", headers={"kid": "rsa"}),
        "changed": f"{head}.{body[:-4]}AAAA.{signature}",
        "long": identity.sign("rsa", **good, more="x" * 9000),
    }
    assert (await ask(door, whole)).status_code == 200
    for name, token in bad.items():
        answer = await ask(door, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), name
        assert answer.headers["content-type"] == "application/problem+json"
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_without_the_issuers_keys_a_token_must_wait(
    api: Api, tenant: Tenant, identity: Issuer, tmp_path: Path
) -> None:
    identity.status = 503
    environment = {**api.environment, "RENDERFLEET_OIDC_ISSUER": identity.url, "RENDERFLEET_OIDC_AUDIENCE": AUDIENCE}
    with api_process(tmp_path, environment) as door:
        answer = await ask(door, identity.sign("rsa", tenant=tenant.name, scope="renderfleet:read"))
        assert (answer.status_code, answer.json()["code"]) == (503, "issuer_unavailable")
        assert answer.json()["retryable"] is True
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await ask(door, tenant.key)).status_code == 200
