"""A real stand-in on a loopback port, clean at the start of each test, and a place that serves files to it."""

import contextlib
import datetime
import ipaddress
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from renderfleet_cluster import debian
from renderfleet_standin.app import create_app
from renderfleet_standin.media import portrait, speech
from renderfleet_standin.settings import StandinSettings
from renderfleet_standin.transport import Protocol

TRUST_STORE = ssl.create_default_context()
"""One for all clients: reading the machine's certificates takes longer than most calls here."""


@dataclass
class Server:
    """One running stand-in and the ways to talk to it."""

    url: str
    verify: ssl.SSLContext = TRUST_STORE

    def http(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=30, verify=self.verify, trust_env=False, **options)

    def fetch(self, url: str, **options: Any) -> httpx2.Response:
        """What is behind a link that the stand-in handed out."""
        return httpx2.get(url, verify=self.verify, trust_env=False, **options)

    def did(self) -> httpx2.Client:
        return self.http(headers={"authorization": "Basic did-user:did-pass"})

    def control(self, path: str, body: object = None) -> Any:
        """POST to the control door with a body, GET without."""
        with self.http() as client:
            answer = client.get(f"/_standin/{path}") if body is None else client.post(f"/_standin/{path}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def fault(self, vendor: str, fault: str, **more: Any) -> None:
        self.control("faults", {"vendor": vendor, "fault": fault, **more})

    def bills(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.control("ledger")["entries"]
        return entries

    def ended_talk(self, talk_id: str) -> dict[str, Any]:
        """The talk when nothing more will happen to it."""
        deadline = time.monotonic() + 30
        with self.did() as client:
            while time.monotonic() < deadline:
                talk: dict[str, Any] = client.get(f"/did/talks/{talk_id}").json()
                if talk["status"] in ("done", "error", "rejected"):
                    return talk
                time.sleep(0.05)
        raise AssertionError(f"talk {talk_id} did not end")


@contextlib.contextmanager
def serve(settings: StandinSettings, verify: ssl.SSLContext = TRUST_STORE) -> Iterator[Server]:
    """Run a stand-in in a thread, on a free port."""
    config = uvicorn.Config(
        create_app(settings),
        host="127.0.0.1",
        port=0,
        http=Protocol,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the stand-in did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"{'https' if settings.tls_cert else 'http'}://127.0.0.1:{port}", verify)
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    debian.install(debian.MEDIA_PACKAGES)


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    with serve(StandinSettings(strict=False, talk_seconds=0.2, fetch_timeout_seconds=3)) as server:
        yield server


@pytest.fixture(scope="session")
def pro() -> Iterator[Server]:
    """A stand-in whose ElevenLabs account may use every format."""
    with serve(StandinSettings(elevenlabs_tier="pro")) as server:
        yield server


@pytest.fixture
def standin(running: Server) -> Server:
    """A stand-in without a past."""
    running.control("reset", {})
    return running


@pytest.fixture
def standin_with() -> Iterator[Callable[..., Server]]:
    """A stand-in with settings of one's own."""
    with contextlib.ExitStack() as stack:

        def start(verify: ssl.SSLContext = TRUST_STORE, **settings: Any) -> Server:
            chosen = {"strict": False, "talk_seconds": 0.2, "fetch_timeout_seconds": 3.0, **settings}
            return stack.enter_context(serve(StandinSettings(**chosen), verify))

        yield start


@dataclass
class Files:
    """What the file place serves, and what was POSTed to it."""

    url: str = ""
    hook_statuses: list[int] = field(default_factory=list)
    """What the next webhooks are answered with; 204 when there is nothing left."""
    content: dict[str, bytes] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def file_place(context: ssl.SSLContext | None = None) -> Iterator[Files]:
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.content.get(self.path.partition("?")[0])
            self.send_response(200 if content is not None else 404)
            self.send_header("content-length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def do_POST(self) -> None:
            files.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(files.hook_statuses.pop(0) if files.hook_statuses else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    files.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def files(face: bytes, voice: bytes) -> Iterator[Files]:
    """A place on the loopback that serves /face.png and /voice.mp3 and takes webhooks."""
    with file_place() as place:
        place.content |= {"/face.png": face, "/voice.mp3": voice}
        yield place


@pytest.fixture(scope="session")
def face() -> bytes:
    return portrait.encode(portrait.draw_portrait(7, 512, 512), "png")


@pytest.fixture(scope="session")
def voice() -> bytes:
    wav = speech.wav_of("Welcome aboard.", speech.Speaker("f3", 56, 162))
    return speech.encode_speech(wav, "mp3_44100_128")


@dataclass
class Certificate:
    cert: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    made.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def probe(content: bytes, folder: Path) -> dict[str, Any]:
    """What ffprobe says of a file: streams and container."""
    file = folder / "probed"
    file.write_bytes(content)
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(file)],
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


Probe = Callable[[bytes], dict[str, Any]]


@pytest.fixture
def probed(tmp_path: Path) -> Probe:
    return lambda content: probe(content, tmp_path)
