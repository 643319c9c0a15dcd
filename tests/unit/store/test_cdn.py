"""Links through CloudFront: the signature is what a distribution with the public key would accept."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from renderfleet_store.media import MediaStore, MediaUnavailable, StorageSettings

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def store(folder: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> MediaStore:
    file = folder / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings = StorageSettings(
        s3_bucket="media",
        s3_access_key_id="id",
        s3_secret_access_key="secret",
        cdn_url="https://d111.cloudfront.example/",
        cdn_key_id="K2JCJMDEHXQW5F",
        cdn_private_key_file=file,
    )
    return MediaStore(settings, clock=lambda: NOW)


def test_a_clients_link_is_signed_for_its_address_and_time(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)

    link = urlsplit(store(tmp_path, key).presign_get("media/rf-acme/a.png", 600, download_name="a.png"))
    query = {name: value[0] for name, value in parse_qs(link.query).items()}

    until = int(NOW.timestamp()) + 600
    address = f"https://{link.netloc}{link.path}"
    assert address == "https://d111.cloudfront.example/media/rf-acme/a.png"
    assert (query["Expires"], query["Key-Pair-Id"]) == (str(until), "K2JCJMDEHXQW5F")
    # The canned policy, and the alphabet that stands for base64 in such links.
    policy = {"Statement": [{"Resource": address, "Condition": {"DateLessThan": {"AWS:EpochTime": until}}}]}
    signed = base64.b64decode(query["Signature"].translate(str.maketrans("-_~", "+=/")))
    said = json.dumps(policy, separators=(",", ":")).encode()
    key.public_key().verify(signed, said, padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signed, said.replace(b"a.png", b"b.png"), padding.PKCS1v15(), hashes.SHA1())


def test_vendors_and_runners_are_led_past_the_cdn(tmp_path: Path) -> None:
    media = store(tmp_path, rsa.generate_private_key(65537, 2048))

    for audience in ("vendor", "internal"):
        assert "X-Amz-Signature" in media.presign_get("media/a.png", 600, audience)


def test_another_kind_of_key_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(MediaUnavailable, match="RSA key"):
        store(tmp_path, ec.generate_private_key(ec.SECP256R1())).presign_get("media/a.png", 600)
