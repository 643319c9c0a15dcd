"""Runners and adapters against the stand-in and a real S3 server, over real HTTP. No Kubernetes."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.support.wire import KEYS, VOICE_ID, Bench, ObjectStore, Standin, object_store_process, standin_process

from renderfleet_crds.contract import Vendor


@pytest.fixture(scope="session")
def shared_standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    """One stand-in for the run; tests get it reset."""
    with standin_process(tmp_path_factory.mktemp("standin"), talk_seconds="0.5", elevenlabs_tier="business") as standin:
        yield standin


@pytest.fixture
def standin(shared_standin: Standin) -> Standin:
    """The vendors, with an empty ledger and no faults."""
    shared_standin.reset()
    return shared_standin


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One S3 server for the run; tests use keys of their own."""
    with object_store_process(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def bench(tmp_path: Path, standin: Standin, store: ObjectStore) -> Iterator[Bench]:
    """Makes tasks and runs them."""
    bench = Bench(tmp_path, standin, store)
    yield bench
    bench.kill_all()


@pytest.fixture(scope="session")
def talk_files(tmp_path_factory: pytest.TempPathFactory, shared_standin: Standin) -> tuple[Path, Path]:
    """A portrait and a short recording, as the vendors make them."""
    folder = tmp_path_factory.mktemp("talk")
    url = f"{shared_standin.base_url}/openai/v1/images/generations"
    headers = {"authorization": f"Bearer {KEYS[Vendor.OPENAI]}"}
    asked = {"model": "gpt-image-2.6-flare", "prompt": "a guide", "quality": "low", "size": "1024x1024"}
    drawn = httpx2.post(url, headers=headers, json=asked, timeout=60).json()
    (folder / "face.png").write_bytes(base64.b64decode(drawn["data"][0]["b64_json"]))
    url = f"{shared_standin.base_url}/elevenlabs/v1/text-to-speech/{VOICE_ID}?output_format=mp3_22050_32"
    headers = {"xi-api-key": KEYS[Vendor.ELEVENLABS]}
    spoken = httpx2.post(url, headers=headers, json={"text": "Hello there, dear guests."}, timeout=60)
    (folder / "hello.mp3").write_bytes(spoken.content)
    return folder / "face.png", folder / "hello.mp3"


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of 127.0.0.1 in one PEM file."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    key, certificate = file.with_suffix(".key"), file.with_suffix(".crt")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=standin", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    file.write_text(key.read_text() + certificate.read_text())
    return file
