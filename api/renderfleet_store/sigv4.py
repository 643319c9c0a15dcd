"""Presigned S3 addresses, signed by hand: botocore takes many times as long, and the operator makes 15 per runner.

Same bytes as botocore's own signer, which a test holds. Source: AWS Signature Version 4, "Authenticating Requests:
Using Query Parameters", as S3 wants it (UNSIGNED-PAYLOAD, path encoded once).
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

MAX_TTL_SECONDS = 7 * 86_400
"""S3 refuses an address that is meant to live longer."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose signature, and for which region."""

    access_key_id: str
    secret_access_key: str
    region: str
    session_token: str | None = None

    def presign(
        self,
        method: str,
        url: str,
        *,
        ttl_seconds: int,
        now: datetime,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """`url` with a signature that allows `method` until `now` plus `ttl_seconds`.

        The caller must send `headers` exactly as they are signed here. `url` is scheme, host and unescaped path.
        """
        if not 1 <= ttl_seconds <= MAX_TTL_SECONDS:
            raise ValueError(f"an address may live for 1 to {MAX_TTL_SECONDS} seconds, not {ttl_seconds}")
        parts = urlsplit(url)
        path = quote(parts.path, safe="/~")
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        signed = {"host": _host(parts.scheme, parts.netloc)}
        signed.update({name.lower(): " ".join(value.split()) for name, value in (headers or {}).items()})
        names = ";".join(sorted(signed))
        asked = {
            **(query or {}),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key_id}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(ttl_seconds),
            "X-Amz-SignedHeaders": names,
        }
        if self.session_token:
            asked["X-Amz-Security-Token"] = self.session_token
        text = "&".join(
            f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in sorted(asked.items())
        )
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"{method}\n{path}\n{text}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = _signing_key(self.secret_access_key, stamp[:8], self.region)
        signature = hmac.new(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
        return f"{parts.scheme}://{parts.netloc}{path}?{text}&X-Amz-Signature={signature}"


def _host(scheme: str, netloc: str) -> str:
    """The Host header that a client will send: without the port when it is the scheme's own."""
    default = ":443" if scheme == "https" else ":80"
    return netloc.removesuffix(default)


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
