"""The issuer's keys: which are taken, and how often they are asked for. The issuer is a real HTTP server."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm
from pydantic import ValidationError
from tests.support.identity import Issuer, ec_key, issuer, rsa_key

from renderfleet_api.oidc import IssuerAway, IssuerKeys, looks_like_token, usable_keys
from renderfleet_api.settings import ApiSettings


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def keys_of(made: Issuer, clock: Clock, jwks_url: str | None = None) -> IssuerKeys:
    return IssuerKeys(made.url, jwks_url, 300, clock)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    maker: Any = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**maker.to_jwk(key.public_key(), as_dict=True), "kid": "k", **more}


@pytest.mark.parametrize(
    ("given", "usable"),
    [
        pytest.param(jwk(rsa_key()), True, id="rsa"),
        pytest.param(jwk(ec_key()), True, id="p-256"),
        pytest.param(jwk(rsa_key(), use="enc"), False, id="for encryption"),
        pytest.param(jwk(rsa_key(), alg="RS512"), False, id="for another algorithm"),
        pytest.param(jwk(rsa_key(1024)), False, id="short rsa"),
        pytest.param(jwk(ec.generate_private_key(ec.SECP384R1())), False, id="p-384"),
        pytest.param({**HMACAlgorithm.to_jwk(b"x" * 64, as_dict=True), "kid": "k"}, False, id="shared secret"),
        pytest.param({"kty": "RSA", "n": "!", "e": "AQAB", "kid": "k"}, False, id="damaged"),
        pytest.param("text", False, id="no object"),
    ],
)
def test_only_strong_signing_keys_are_taken(given: Any, usable: bool) -> None:
    assert (set(usable_keys({"keys": [given]})) == {"k"}) is usable


async def test_keys_are_asked_for_once_and_again_when_they_are_old() -> None:
    clock = Clock()
    async with issuer(a=rsa_key()) as made:
        keys = keys_of(made, clock)
        assert await keys.find("a")
        assert await keys.find("a")
        assert made.asked == ["/.well-known/openid-configuration", "/keys"]
        made.keys = {"b": ec_key()}
        clock.now += 301
        assert await keys.find("a") is None
        assert await keys.find(None) is await keys.find("b")


async def test_a_new_key_works_at_once_but_made_up_ids_do_not_make_us_ask_for_ever() -> None:
    clock = Clock()
    async with issuer(a=rsa_key()) as made:
        keys = keys_of(made, clock, f"{made.url}/keys")
        await keys.find("a")
        clock.now += 11
        made.keys["b"] = ec_key()
        assert await keys.find("b")
        for number in range(50):
            assert await keys.find(f"made-up-{number}") is None
        assert made.asked == ["/keys", "/keys"]
        assert await keys.find(None) is None


async def test_who_comes_while_the_keys_are_fetched_gets_the_new_ones() -> None:
    clock = Clock()
    async with issuer(a=rsa_key()) as made:
        keys = keys_of(made, clock)
        assert all(await asyncio.gather(*(keys.find("a") for _ in range(5))))
        clock.now += 11
        made.keys["b"] = ec_key()
        assert all(await asyncio.gather(*(keys.find("b") for _ in range(5))))
        assert made.asked == ["/.well-known/openid-configuration", "/keys"] * 2


async def test_an_issuer_that_is_away_leaves_its_keys_good_for_a_day() -> None:
    clock = Clock()
    async with issuer(a=rsa_key()) as made:
        keys = keys_of(made, clock)
        await keys.find("a")
        made.status = 503
        clock.now += 3600
        assert await keys.find("a")
        clock.now += 24 * 3600
        with pytest.raises(IssuerAway):
            await keys.find("a")


async def test_a_discovery_document_of_another_issuer_is_refused() -> None:
    async with issuer(a=rsa_key()) as made:
        made.named = "https://somebody.example"
        with pytest.raises(IssuerAway):
            await keys_of(made, Clock()).find("a")
        assert made.asked == ["/.well-known/openid-configuration"]


def test_an_api_key_is_not_mistaken_for_a_token() -> None:
    assert looks_like_token("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln")
    for other in ("rf_" + "a" * 49, "admin-key-of-the-tests", "eyJ.eyJ", ""):
        assert not looks_like_token(other)


def test_an_issuer_without_an_audience_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="oidc_audience is needed"):
        ApiSettings(
            database_url="postgresql+psycopg://nobody@127.0.0.1:9/none",
            key_secret="of the tests only",
            oidc_issuer="https://issuer.example",
        )
