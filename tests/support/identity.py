"""An OpenID Connect issuer on loopback: real keys, a real HTTP server, tokens signed as a test wants them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "renderfleet"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key for RS256."""
    return rsa.generate_private_key(65537, bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    """A key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Issuer:
    """Publishes the public halves of its keys, and counts who asks."""

    keys: dict[str, PrivateKey] = field(default_factory=dict)
    port: int = 0
    asked: list[str] = field(default_factory=list)
    status: int = 200
    named: str | None = None
    """What the discovery document calls itself, when not by its name."""

    @property
    def url(self) -> str:
        """Its name."""
        return f"http://127.0.0.1:{self.port}"

    def sign(self, key_id: str, key: PrivateKey | None = None, **claims: Any) -> str:
        """A token that is good for five minutes, changed by the claims that a test is about; None leaves one out."""
        signer = key or self.keys[key_id]
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300}
        said = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        algorithm = "RS256" if isinstance(signer, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(said, signer, algorithm, headers={"kid": key_id})

    def jwks(self) -> dict[str, Any]:
        """The published keys."""
        return {"keys": [{**_public(key), "kid": key_id, "use": "sig"} for key_id, key in self.keys.items()]}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
        self.asked.append(path)
        documents = {
            "/.well-known/openid-configuration": {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": self.jwks(),
        }
        body = json.dumps(documents.get(path, {})).encode()
        status = self.status if path in documents else 404
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


def _public(key: PrivateKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


@asynccontextmanager
async def issuer(**keys: PrivateKey) -> AsyncIterator[Issuer]:
    """An issuer that listens."""
    made = Issuer(dict(keys))
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
