"""Our presigner says byte for byte what botocore's says."""

import timeit
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import boto3
import pytest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfleet_store.sigv4 import Signer

NOW = datetime(2026, 11, 24, 12, 0, 1, tzinfo=UTC)
KEYS = st.text("abcXYZ019._/- ~+=äß%", min_size=1, max_size=40).filter(
    lambda key: not key.startswith("/") and "//" not in key and not any(p in {".", ".."} for p in key.split("/"))
)


def botocore_says(operation: str, endpoint: str, token: str | None, ttl: int, **params: Any) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-west-3",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG",
        aws_session_token=token,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        url: str = client.generate_presigned_url(operation, Params={"Bucket": "media", **params}, ExpiresIn=ttl)
        return url


def sorted_query(url: str) -> tuple[str, list[str]]:
    place, _, query = url.partition("?")
    return place, sorted(query.split("&"))


@pytest.mark.parametrize("token", [None, "session/token+with=signs"])
@pytest.mark.parametrize("endpoint", ["http://s3.example:7070", "https://s3.eu-west-3.amazonaws.com"])
@pytest.mark.parametrize(
    ("operation", "method", "params", "headers", "query"),
    [
        ("get_object", "GET", {}, {}, {}),
        ("put_object", "PUT", {"IfNoneMatch": "*"}, {"If-None-Match": "*"}, {}),
        (
            "put_object",
            "PUT",
            {"ContentType": "image/png", "IfNoneMatch": "*"},
            {"Content-Type": "image/png", "If-None-Match": "*"},
            {},
        ),
        (
            "get_object",
            "GET",
            {"ResponseContentDisposition": 'attachment; filename="a b.mp4"'},
            {},
            {"response-content-disposition": 'attachment; filename="a b.mp4"'},
        ),
    ],
    ids=["get", "put once", "put once with type", "get as download"],
)
def test_same_address_as_botocore(
    operation: str, method: str, params: Any, headers: Any, query: Any, endpoint: str, token: str | None
) -> None:
    signer = Signer("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "eu-west-3", token)

    ours = signer.presign(method, f"{endpoint}/media/a/b-1.png", ttl_seconds=900, now=NOW, headers=headers, query=query)

    assert sorted_query(ours) == sorted_query(botocore_says(operation, endpoint, token, 900, Key="a/b-1.png", **params))


@settings(max_examples=40, deadline=None)
@given(key=KEYS)
def test_same_address_for_any_key(key: str) -> None:
    signer = Signer("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "eu-west-3")

    ours = signer.presign("GET", f"http://s3.example:7070/media/{key}", ttl_seconds=60, now=NOW)

    assert sorted_query(ours) == sorted_query(botocore_says("get_object", "http://s3.example:7070", None, 60, Key=key))


@pytest.mark.parametrize("seconds", [0, 604_801])
def test_a_life_that_s3_would_refuse_is_refused_here(seconds: int) -> None:
    with pytest.raises(ValueError, match="may live for"):
        Signer("a", "b", "c").presign("GET", "http://s3/media/k", ttl_seconds=seconds, now=NOW)


def test_it_is_worth_having_our_own() -> None:
    """The figures are printed with `pytest -s`; the operator makes about fifteen addresses for each runner."""
    client = boto3.client(
        "s3",
        endpoint_url="https://s3.example",
        region_name="eu-west-3",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG",
        config=Config(signature_version="s3v4"),
    )
    signer = Signer("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "eu-west-3")
    asked = {"Bucket": "media", "Key": "a/b.png", "IfNoneMatch": "*"}

    def theirs() -> None:
        client.generate_presigned_url("put_object", Params=asked, ExpiresIn=900)

    def ours() -> None:
        signer.presign(
            "PUT", "https://s3.example/media/a/b.png", ttl_seconds=900, now=NOW, headers={"If-None-Match": "*"}
        )

    theirs_ms, ours_ms = (min(timeit.repeat(one, number=100, repeat=5)) * 10 for one in (theirs, ours))
    print(f"botocore {theirs_ms:.3f} ms, ours {ours_ms:.3f} ms for each address")
    assert ours_ms < theirs_ms / 3
