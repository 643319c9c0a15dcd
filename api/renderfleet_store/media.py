"""The media bucket: signed addresses for those who carry bytes, and the few calls that the servers make themselves.

Signing needs no network. An address is signed for the host that its reader will use: a client from outside, a vendor, or
a pod inside (`audience`); signed for the wrong host it is refused.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from .sigv4 import Signer

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

Audience = Literal["client", "internal", "vendor"]
T = TypeVar("T")


class MediaUnavailable(Exception):
    """Object storage is away or refuses us; try again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in the bucket."""

    key: str
    modified_at: datetime


class StorageSettings(BaseSettings):
    """Where media live. Read from RENDERFLEET_S3_* and RENDERFLEET_CDN_*."""

    model_config = SettingsConfigDict(
        env_prefix="RENDERFLEET_", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )

    s3_endpoint: str | None = None
    """As the servers and runners reach it. Unset: AWS, by region."""
    s3_public_endpoint: str | None = None
    """As clients reach it. Unset: as the servers do."""
    s3_vendor_endpoint: str | None = None
    """As the vendors reach it. Unset: as clients do."""
    s3_bucket: str
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    """Unset: whatever the AWS default chain finds, a pod's web identity included."""
    s3_secret_access_key: SecretStr | None = None
    s3_path_style: bool | None = None
    """Unset: path style when an endpoint is given, else the bucket's own host name."""
    cdn_url: str | None = None
    """CloudFront distribution in front of the bucket; clients' links then lead there."""
    cdn_key_id: str | None = None
    cdn_private_key_file: Path | None = None
    s3_timeout_seconds: Annotated[float, Field(gt=0)] = 10


class MediaStore:
    """One bucket. Safe to share between tasks; network calls run in threads."""

    def __init__(self, settings: StorageSettings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._clock = clock
        self._session = boto3.session.Session(region_name=settings.s3_region)
        self._credentials: Any = None
        self._bases: dict[Audience, str] = {
            "internal": self._base(settings.s3_endpoint),
            "client": self._base(settings.s3_public_endpoint or settings.s3_endpoint),
            "vendor": self._base(settings.s3_vendor_endpoint or settings.s3_public_endpoint or settings.s3_endpoint),
        }

    def presign_get(
        self, key: str, ttl_seconds: int, audience: Audience = "client", download_name: str | None = None
    ) -> str:
        """An address from which `key` can be read for `ttl_seconds`; with `download_name`, browsers save it as that."""
        if audience == "client" and self._settings.cdn_url:
            return self._cdn_url(key, ttl_seconds)
        query = {}
        if download_name:
            query["response-content-disposition"] = f'attachment; filename="{download_name}"'
        return self._signer().presign(
            "GET", self._bases[audience] + key, ttl_seconds=ttl_seconds, now=self._clock(), query=query
        )

    def presign_put(
        self, key: str, ttl_seconds: int, content_type: str | None = None, if_none_match: bool = False
    ) -> str:
        """An internal address to which `key` can be written for `ttl_seconds`.

        What is named here must be sent: `Content-Type`, and `If-None-Match: *`, with which only the first writer wins.
        """
        headers = {}
        if content_type:
            headers["Content-Type"] = content_type
        if if_none_match:
            headers["If-None-Match"] = "*"
        return self._signer().presign(
            "PUT", self._bases["internal"] + key, ttl_seconds=ttl_seconds, now=self._clock(), headers=headers
        )

    def presign_post(self, key: str, ttl_seconds: int, content_type: str, max_bytes: int) -> dict[str, Any]:
        """`{url, fields}` of a form with which a client may upload one file of at most `max_bytes` as `key`."""
        made = self._public_client.generate_presigned_post(
            self._settings.s3_bucket,
            key,
            Fields={"Content-Type": content_type},
            Conditions=[["content-length-range", 1, max_bytes], {"Content-Type": content_type}],
            ExpiresIn=ttl_seconds,
        )
        return dict(made)

    async def read_json(self, key: str) -> dict[str, Any] | None:
        """A small JSON object, or None when there is none. Raises MediaUnavailable, and ValueError for other JSON."""

        def fetch() -> bytes | None:
            try:
                return self._client.get_object(Bucket=self._settings.s3_bucket, Key=key)["Body"].read()
            except ClientError as refused:
                if _status(refused) == 404:
                    return None
                raise

        raw = await _in_thread(fetch)
        if raw is None:
            return None
        value = json.loads(raw)
        if not isinstance(value, dict):
            raise ValueError(f"{key} holds no JSON object")
        return value

    async def head(self, key: str) -> dict[str, Any] | None:
        """`{bytes, content_type, etag}` of an object, or None when there is none. Raises MediaUnavailable."""

        def ask() -> dict[str, Any] | None:
            try:
                found = self._client.head_object(Bucket=self._settings.s3_bucket, Key=key)
            except ClientError as refused:
                if _status(refused) == 404:
                    return None
                raise
            return {
                "bytes": found["ContentLength"],
                "content_type": found.get("ContentType", "application/octet-stream"),
                "etag": found["ETag"].strip('"'),
            }

        return await _in_thread(ask)

    async def pages(self, prefix: str) -> AsyncIterator[list[Stored]]:
        """All files whose key begins so, up to a thousand at a time. Raises MediaUnavailable."""

        def ask() -> "ListObjectsV2OutputTypeDef":
            return self._client.list_objects_v2(Bucket=self._settings.s3_bucket, Prefix=prefix, StartAfter=last)

        last = ""
        while True:
            found = await _in_thread(ask)
            page = [Stored(one["Key"], one["LastModified"]) for one in found.get("Contents", [])]
            if page:
                yield page
                last = page[-1].key
            if not (page and found.get("IsTruncated")):
                return

    async def read_start(self, key: str, count: int) -> bytes:
        """The first `count` bytes of an object, to see what it is. Raises MediaUnavailable."""

        def fetch() -> bytes:
            found = self._client.get_object(Bucket=self._settings.s3_bucket, Key=key, Range=f"bytes=0-{count - 1}")
            return found["Body"].read(count)

        return await _in_thread(fetch)

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store `data`, which is small. Raises MediaUnavailable."""
        await _in_thread(
            lambda: self._client.put_object(
                Bucket=self._settings.s3_bucket, Key=key, Body=data, ContentType=content_type
            )
        )

    async def copy(self, source: str, target: str) -> None:
        """Copy within the bucket, by the storage server. Raises MediaUnavailable; FileNotFoundError without a source."""

        def ask() -> None:
            bucket = self._settings.s3_bucket
            try:
                self._client.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": source})
            except ClientError as refused:
                if _status(refused) == 404:
                    raise FileNotFoundError(source) from refused
                raise

        await _in_thread(ask)

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is as good as removed. Raises MediaUnavailable."""
        await _in_thread(lambda: self._client.delete_object(Bucket=self._settings.s3_bucket, Key=key))

    async def ping(self) -> None:
        """Raises MediaUnavailable unless the bucket answers."""
        await _in_thread(lambda: self._client.head_bucket(Bucket=self._settings.s3_bucket))

    def _base(self, endpoint: str | None) -> str:
        """What stands before a key in an address."""
        bucket = self._settings.s3_bucket
        path_style = self._settings.s3_path_style
        if endpoint is None:
            host = f"s3.{self._settings.s3_region}.amazonaws.com"
            return f"https://{host}/{bucket}/" if path_style else f"https://{bucket}.{host}/"
        if path_style is False:
            scheme, _, host = endpoint.rstrip("/").partition("://")
            return f"{scheme}://{bucket}.{host}/"
        return f"{endpoint.rstrip('/')}/{bucket}/"

    def _signer(self) -> Signer:
        given = self._settings
        if given.s3_access_key_id and given.s3_secret_access_key:
            return Signer(given.s3_access_key_id, given.s3_secret_access_key.get_secret_value(), given.s3_region)
        if self._credentials is None:
            self._credentials = self._session.get_credentials()
        if self._credentials is None:
            raise MediaUnavailable(
                "no credentials for object storage: set RENDERFLEET_S3_ACCESS_KEY_ID or a web identity"
            )
        # Renews itself when it is about to expire.
        now = self._credentials.get_frozen_credentials()
        return Signer(now.access_key, now.secret_key, given.s3_region, now.token)

    def _connect(self, endpoint: str | None) -> "S3Client":
        given = self._settings
        secret = given.s3_secret_access_key
        path_style = given.s3_path_style if given.s3_path_style is not None else endpoint is not None
        return cast(
            "S3Client",
            self._session.client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=given.s3_access_key_id,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path" if path_style else "virtual"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    connect_timeout=given.s3_timeout_seconds,
                    read_timeout=given.s3_timeout_seconds,
                    retries={"mode": "standard", "total_max_attempts": 3},
                    max_pool_connections=32,
                ),
            ),
        )

    @cached_property
    def _client(self) -> "S3Client":
        return self._connect(self._settings.s3_endpoint)

    @cached_property
    def _public_client(self) -> "S3Client":
        return self._connect(self._settings.s3_public_endpoint or self._settings.s3_endpoint)

    @cached_property
    def _cdn_signer(self) -> Any:
        from botocore.signers import CloudFrontSigner
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if not (self._settings.cdn_key_id and self._settings.cdn_private_key_file):
            raise MediaUnavailable("a CDN needs RENDERFLEET_CDN_KEY_ID and RENDERFLEET_CDN_PRIVATE_KEY_FILE")
        key = load_pem_private_key(self._settings.cdn_private_key_file.read_bytes(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise MediaUnavailable("CloudFront signs with an RSA key")
        # CloudFront's signed URLs are defined with SHA-1.
        return CloudFrontSigner(
            self._settings.cdn_key_id,
            lambda message: key.sign(message, PKCS1v15(), hashes.SHA1()),  # noqa: S303
        )

    def _cdn_url(self, key: str, ttl_seconds: int) -> str:
        base = (self._settings.cdn_url or "").rstrip("/")
        until = self._clock() + timedelta(seconds=ttl_seconds)
        return str(self._cdn_signer.generate_presigned_url(f"{base}/{key}", date_less_than=until))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


async def _in_thread(call: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(call)
    except (BotoCoreError, ClientError) as failed:
        raise MediaUnavailable(f"object storage: {type(failed).__name__}") from failed
